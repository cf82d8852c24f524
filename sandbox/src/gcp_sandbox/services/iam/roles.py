"""Roles: the supported predefined ones, and the custom ones of projects and the organization.

https://cloud.google.com/iam/docs/reference/rest/v1/projects.roles
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Awaitable
from functools import partial
from typing import Any

from gcp_sandbox.core import permissions, roles
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import ORGANIZATION, ROLES_KIND
from gcp_sandbox.core.masks import camel
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.resources import Collection, name_of, serve
from gcp_sandbox.core.service import Answer, Call, Service

Doc = dict[str, Any]
_FIELDS = ("title", "description", "includedPermissions", "stage")


def register(service: Service) -> None:
    """Register the methods of roles and permissions."""
    service.method("iam.roles.get")(get_predefined)
    service.method("iam.roles.queryGrantableRoles")(grantable)
    service.method("iam.permissions.queryTestablePermissions")(testable)
    custom = Collection(
        service,
        "iam.projects.roles iam.organizations.roles",
        ROLES_KIND,
        mutable=(*_FIELDS, "etag"),
        permit=_require,
        ident=_ident,
        prepare=_prepared,
        listing=_listing,
        erase=lambda call, key, doc: call.cloud.store.put(ROLES_KIND, key, _checked(doc | {"deleted": True})),
        missing=lambda name: ApiError(404, f"The role named {name} was not found."),
        wrong=lambda path: ApiError(400, f"Invalid update mask: {camel(path)}.", reason="badRequest"),
        stale=lambda given, etag: ApiError(
            409,
            "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
            status="ABORTED",
            reason="aborted",
        ),
    )
    serve(custom, "create get list patch delete")
    service.method("iam.roles.list")(partial(list_predefined, custom))
    service.method("iam.projects.roles.undelete", "iam.organizations.roles.undelete")(partial(undelete, custom))


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


def list_predefined(custom: Collection, call: Call) -> Answer | Awaitable[Answer]:
    full = call.params.get("view") == "FULL"
    if call.params.get("parent"):
        return custom.play("list", call)
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


def _require(call: Call, permission: str) -> None:
    if call.project is not None:
        call.require(permission)
    elif not call.cloud.iam.allows(call.principal, permission, ORGANIZATION):
        raise call.denied(permission)


def _checked(doc: Doc) -> Doc:
    unknown = [p for p in doc.get("includedPermissions", ()) if not permissions.exists(p)]
    if unknown:
        raise ApiError(400, f"Permission {unknown[0]} is not valid.", reason="badRequest")
    if len(doc.get("title", "")) > 100 or len(doc.get("description", "")) > 300:
        raise ApiError(400, "A title has at most 100 characters, a description at most 300.", reason="badRequest")
    return doc | {"etag": base64.b64encode(b"\x07" + secrets.token_bytes(7)).decode()}


def _ident(call: Call) -> str:
    ident: str = call.body.get("roleId", "")
    if not re.fullmatch(r"[a-zA-Z0-9_.]{3,64}", ident):
        text = f"The role_id {ident} must be 3 to 64 letters, digits, underscores and periods."
        raise ApiError(400, text, reason="badRequest")
    parent = name_of(call)
    known = call.cloud.store.peek(ROLES_KIND, f"{parent}/roles/{ident}")
    if known is not None and known.get("deleted"):
        text = (
            f"You can't create a role with role_id ({ident}) where there is an existing role with that role_id in a "
            "deleted state."
        )
        raise ApiError(400, text, status="FAILED_PRECONDITION", reason="failedPrecondition")
    if known is not None:
        raise ApiError(409, f"A role named {ident} in {parent} already exists.")
    return ident


def _prepared(call: Call, key: str, new: Doc, old: Doc | None) -> Doc:
    if old is not None:
        return _checked(new)
    given = {k: v for k, v in call.body.get("role", {}).items() if k in _FIELDS}
    return _checked({"name": key, "stage": "ALPHA"} | given)


def _listing(call: Call, found: list[Doc]) -> Doc:
    full = call.params.get("view") == "FULL"
    docs = [doc for doc in found if call.params.get("showDeleted") or not doc.get("deleted")]
    shown = [{k: v for k, v in doc.items() if full or k != "includedPermissions"} for doc in docs]
    return page(call, "roles", shown, default=300, most=1000)


def undelete(custom: Collection, call: Call) -> Doc:
    custom.allow(call, "undelete")
    doc = dict(custom.existing(call))
    custom.check_etag(doc, call.body.get("etag", ""))
    if not doc.pop("deleted", False):
        raise ApiError(
            400, f"The role {doc['name']} is not deleted.", status="FAILED_PRECONDITION", reason="failedPrecondition"
        )
    return call.cloud.store.put(ROLES_KIND, doc["name"], _checked(doc))
