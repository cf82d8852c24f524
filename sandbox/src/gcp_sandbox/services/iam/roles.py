"""Roles: the supported predefined ones, and the custom ones of projects and the organization.

https://cloud.google.com/iam/docs/reference/rest/v1/projects.roles
"""

from __future__ import annotations

import base64
import re
import secrets
from typing import Any

from gcp_sandbox.core import permissions, roles
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import ORGANIZATION, ROLES_KIND
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
_FIELDS = ("title", "description", "includedPermissions", "stage")


def register(service: Service) -> None:
    """Register the methods of roles and permissions."""
    service.method("iam.roles.get")(get_predefined)
    service.method("iam.roles.list")(list_predefined)
    service.method("iam.roles.queryGrantableRoles")(grantable)
    service.method("iam.permissions.queryTestablePermissions")(testable)
    for parent in ("projects", "organizations"):
        for verb, handler in (
            ("create", create),
            ("get", get),
            ("list", list_custom),
            ("patch", patch),
            ("delete", delete),
            ("undelete", undelete),
        ):
            service.method(f"iam.{parent}.roles.{verb}")(handler)


# -- predefined ------------------------------------------------------------------


def _predefined(name: str, *, full: bool) -> Doc:
    title = roles.ROLES[name][0]
    doc: Doc = {"name": name, "title": title, "description": title, "stage": "GA", "etag": "AA=="}
    return doc | ({"includedPermissions": roles.included(name)} if full else {})


def get_predefined(call: Call) -> Doc:
    name = call.params["name"]
    if name not in roles.ROLES:
        raise ApiError(404, f"The role named {name} was not found.")
    return _predefined(name, full=True)


def list_predefined(call: Call) -> Doc:
    full = call.params.get("view") == "FULL"
    if call.params.get("parent"):
        return list_custom(call)
    return page(call, "roles", [_predefined(n, full=full) for n in sorted(roles.ROLES)], default=300, most=1000)


def grantable(call: Call) -> Doc:
    service = (
        call.body.get("fullResourceName", "").removeprefix("//").partition(".")[0].replace("cloudresourcemanager", "")
    )
    full = call.body.get("view") == "FULL"
    found = [
        _predefined(n, full=full)
        for n in sorted(roles.ROLES)
        if not service or n.startswith(f"roles/{service}.") or n in roles.BASIC
    ]
    return page(call, "roles", found, default=300, most=2000)


def testable(call: Call) -> Doc:
    service = (
        call.body.get("fullResourceName", "").removeprefix("//").partition(".")[0].replace("cloudresourcemanager", "")
    )
    found = [
        {"name": p, "stage": "GA"} for p in sorted(permissions.known()) if not service or p.startswith(service + ".")
    ]
    return page(call, "permissions", found, default=100, most=1000)


# -- custom ----------------------------------------------------------------------


def _require(call: Call, verb: str) -> None:
    if call.project is None:
        if not call.cloud.iam.allows(call.principal, f"iam.roles.{verb}", ORGANIZATION):
            raise call.denied(f"iam.roles.{verb}")
        return
    call.require(f"iam.roles.{verb}")


def _key(call: Call, name: str) -> str:
    return re.sub(r"^projects/[^/]+", f"projects/{call.project_id}", name) if call.project else name


def _found(call: Call) -> Doc:
    name = _key(call, call.params["name"])
    doc = call.cloud.store.get(ROLES_KIND, name)
    if doc is None:
        raise ApiError(404, f"The role named {name} was not found.")
    return doc


def _checked(doc: Doc) -> Doc:
    unknown = [p for p in doc.get("includedPermissions", ()) if not permissions.exists(p)]
    if unknown:
        raise ApiError(400, f"Permission {unknown[0]} is not valid.", reason="badRequest")
    if len(doc.get("title", "")) > 100 or len(doc.get("description", "")) > 300:
        raise ApiError(400, "A title has at most 100 characters, a description at most 300.", reason="badRequest")
    return doc | {"etag": base64.b64encode(b"\x07" + secrets.token_bytes(7)).decode()}


def _same_etag(doc: Doc, etag: str | None) -> None:
    if etag and etag != doc["etag"]:
        raise ApiError(
            409,
            "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
            status="ABORTED",
            reason="aborted",
        )


def create(call: Call) -> Doc:
    _require(call, "create")
    ident = call.body.get("roleId", "")
    if not re.fullmatch(r"[a-zA-Z0-9_.]{3,64}", ident):
        text = f"The role_id {ident} must be 3 to 64 letters, digits, underscores and periods."
        raise ApiError(400, text, reason="badRequest")
    name = f"{_key(call, call.params['parent'])}/roles/{ident}"
    known = call.cloud.store.peek(ROLES_KIND, name)
    if known is not None:
        if known.get("deleted"):
            text = (
                f"You can't create a role with role_id ({ident}) where there is an existing role with that role_id in a "
                "deleted state."
            )
            raise ApiError(400, text, status="FAILED_PRECONDITION", reason="failedPrecondition")
        raise ApiError(409, f"A role named {ident} in {_key(call, call.params['parent'])} already exists.")
    doc = {k: v for k, v in call.body.get("role", {}).items() if k in _FIELDS}
    return call.cloud.store.put(ROLES_KIND, name, _checked({"name": name, "stage": "ALPHA"} | doc))


def get(call: Call) -> Doc:
    _require(call, "get")
    return _found(call)


def list_custom(call: Call) -> Doc:
    _require(call, "list")
    prefix = _key(call, call.params["parent"]) + "/roles/"
    full = call.params.get("view") == "FULL"
    docs = [
        d
        for _, d in call.cloud.store.list(ROLES_KIND, prefix)
        if call.params.get("showDeleted") or not d.get("deleted")
    ]
    found = [{k: v for k, v in d.items() if full or k != "includedPermissions"} for d in docs]
    return page(call, "roles", found, default=300, most=1000)


def patch(call: Call) -> Doc:
    _require(call, "update")
    doc = _found(call)
    _same_etag(doc, call.body.get("etag"))
    paths = [f.strip() for f in call.params.get("updateMask", "").split(",") if f.strip()]
    mask = [re.sub(r"_(.)", lambda m: m.group(1).upper(), f) for f in paths if f != "etag"]
    for field in mask or [f for f in _FIELDS if f in call.body]:
        if field not in _FIELDS:
            raise ApiError(400, f"Invalid update mask: {field}.", reason="badRequest")
        doc.pop(field, None)
        if field in call.body:
            doc[field] = call.body[field]
    return call.cloud.store.put(ROLES_KIND, doc["name"], _checked(doc))


def delete(call: Call) -> Doc:
    _require(call, "delete")
    doc = _found(call)
    _same_etag(doc, call.params.get("etag"))
    return call.cloud.store.put(ROLES_KIND, doc["name"], _checked(doc | {"deleted": True}))


def undelete(call: Call) -> Doc:
    _require(call, "undelete")
    doc = _found(call)
    _same_etag(doc, call.body.get("etag"))
    if not doc.pop("deleted", False):
        raise ApiError(
            400, f"The role {doc['name']} is not deleted.", status="FAILED_PRECONDITION", reason="failedPrecondition"
        )
    return call.cloud.store.put(ROLES_KIND, doc["name"], _checked(doc))
