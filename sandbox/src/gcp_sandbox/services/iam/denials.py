"""Deny policies: permissions that nobody has, or only those who are excepted, whatever roles they are granted.

https://cloud.google.com/iam/docs/reference/rest/v2/policies
"""

from __future__ import annotations

import base64
import re
import secrets
from typing import Any
from urllib.parse import quote, unquote

from gcp_sandbox.core import conditions, projects
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import DENIALS, ORGANIZATION, folder_resource, project_resource
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
_TYPE = "type.googleapis.com/google.iam.v2."
_POINT = re.compile(r"cloudresourcemanager\.googleapis\.com/(projects|folders|organizations)/([^/]+)")
_PERMISSION = re.compile(r"[a-z0-9.-]+\.googleapis\.com/[\w.*]+")
_PRINCIPAL = re.compile(r"principal(Set)?://\S+")


def register(service: Service) -> None:
    """Register the methods of deny policies."""
    for verb, handler in (
        ("createPolicy", create),
        ("get", get),
        ("listPolicies", list_),
        ("update", update),
        ("delete", delete),
        ("operations.get", operation),
    ):
        service.method(f"iam.policies.{verb}")(handler)


def project_of(name: str) -> str | None:
    """Id or number of the project that a policy's name has as its attachment point."""
    found = _POINT.fullmatch(unquote(name.split("/")[1]))
    return found.group(2) if found and found.group(1) == "projects" else None


def _where(call: Call, permission: str) -> tuple[str, str]:
    """Prefix of store keys, and of names as they are shown, of the policies of a call's attachment point."""
    name = call.params.get("name") or call.params["parent"]
    _, point, kind = name.split("/")[:3]
    found = _POINT.fullmatch(unquote(point))
    if not found or kind != "denypolicies":
        raise ApiError(400, f"Invalid attachment point or kind of policy: {name}.", reason="badRequest")
    collection, ident = found.groups()
    if call.project:
        resource, shown = project_resource(call.project_id), f"projects/{call.project_number}"
    elif collection == "folders":
        resource, shown = folder_resource(ident), f"folders/{ident}"
    else:
        ours = ident == projects.organization(call.app)
        resource, shown = ORGANIZATION if ours else "//elsewhere", f"organizations/{ident}"
    if not call.app.iam.allows(call.principal, f"iam.denypolicies.{permission}", resource):
        raise call.denied(f"iam.denypolicies.{permission}", shown)
    escaped = quote(f"cloudresourcemanager.googleapis.com/{shown}", safe="")
    return f"{resource}/denypolicies/", f"policies/{escaped}/denypolicies/"


def _found(call: Call, permission: str) -> tuple[str, Doc]:
    key = _where(call, permission)[0] + call.params["name"].split("/")[3]
    doc = call.app.store.get(DENIALS, key)
    if doc is None:
        raise ApiError(404, "Requested entity was not found.")
    return key, doc


def _checked(body: Doc) -> Doc:
    """What a client may set of a policy.  Raises ApiError 400."""
    for rule in (r.get("denyRule", {}) for r in body.get("rules", ())):
        for permission in (*rule.get("deniedPermissions", ()), *rule.get("exceptionPermissions", ())):
            if not _PERMISSION.fullmatch(permission):
                raise ApiError(400, f"Invalid permission: {permission}.", reason="badRequest")
        for principal in (*rule.get("deniedPrincipals", ()), *rule.get("exceptionPrincipals", ())):
            if not _PRINCIPAL.fullmatch(principal):
                raise ApiError(400, f"Invalid principal: {principal}.", reason="badRequest")
        if expression := rule.get("denialCondition", {}).get("expression"):
            try:
                conditions.check(expression)
            except conditions.ConditionError as error:
                raise ApiError(400, f"Invalid condition: {error}.", reason="badRequest") from None
    return {k: body[k] for k in ("displayName", "annotations", "rules") if k in body}


def _done(call: Call, verb: str, doc: Doc) -> Operation:
    return call.app.operations.finished(
        service="iam",
        dialect="longrunning",
        verb=verb,
        target=doc["name"],
        user=call.principal.email,
        project=call.project_id,
        scope=doc["name"],
        metadata={"@type": f"{_TYPE}PolicyOperationMetadata", "createTime": now()},
        response={"@type": f"{_TYPE}Policy"} | doc,
    )


def _stamped(doc: Doc) -> Doc:
    return doc | {"updateTime": now(), "etag": base64.b64encode(secrets.token_bytes(12)).decode()}


def _same_etag(doc: Doc, etag: str | None) -> None:
    if etag and etag != doc["etag"]:
        raise ApiError(
            409,
            "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
            status="ABORTED",
            reason="aborted",
        )


def create(call: Call) -> Operation:
    prefix, shown = _where(call, "create")
    ident = call.params.get("policyId") or f"policy-{secrets.token_hex(6)}"
    if not re.fullmatch(r"[a-z][a-z0-9.-]{2,62}", ident):
        raise ApiError(400, f"Invalid policy id: {ident}.", reason="badRequest")
    if call.app.store.peek(DENIALS, prefix + ident) is not None:
        raise ApiError(409, "Requested entity already exists")
    doc = {"name": shown + ident, "uid": secrets.token_hex(16), "kind": "DenyPolicy", "createTime": now()}
    return _done(call, "create", call.app.store.put(DENIALS, prefix + ident, _stamped(doc | _checked(call.body))))


def get(call: Call) -> Doc:
    return _found(call, "get")[1]


def list_(call: Call) -> Doc:
    found = call.app.store.list(DENIALS, _where(call, "list")[0])
    return page(call, "policies", [{k: v for k, v in doc.items() if k != "rules"} for _, doc in found])


def update(call: Call) -> Operation:
    key, doc = _found(call, "update")
    _same_etag(doc, call.body.get("etag"))
    kept = {k: doc[k] for k in ("name", "uid", "kind", "createTime")}
    return _done(call, "update", call.app.store.put(DENIALS, key, _stamped(kept | _checked(call.body))))


def delete(call: Call) -> Operation:
    key, doc = _found(call, "delete")
    _same_etag(doc, call.params.get("etag"))
    call.app.store.delete(DENIALS, key)
    return _done(call, "delete", doc | {"deleteTime": now()})


def operation(call: Call) -> Doc:
    op = call.app.operations.get(call.params["name"].rpartition("/")[2])
    if op is None or op["service"] != "iam":
        raise ApiError(404, "Requested entity was not found.")
    return call.app.operations.render(op, "iam.googleapis.com")
