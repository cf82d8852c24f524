"""Folders: what an organization's projects are sorted into, with policies that hold for all below.

Version 2 of the API has them too, with a lifecycleState, and changes names without an operation.
https://cloud.google.com/resource-manager/reference/rest/v3/folders
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Any

from gcp_sandbox.core import policies, projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError, bad_request
from gcp_sandbox.core.iam import FOLDERS, ORGANIZATION, folder_resource
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
DEPTH = 10
_TYPE = "type.googleapis.com/google.cloud.resourcemanager."
_NAME = re.compile(r"[^\W_]([\w -]{0,28}[^\W_])?")


def register(service: Service) -> None:
    """Register the methods of folders."""
    for verb, handler in (
        ("create", create),
        ("get", get),
        ("list", list_),
        ("search", search),
        ("patch", patch),
        ("move", move),
        ("delete", delete),
        ("undelete", undelete),
    ):
        service.method(f"cloudresourcemanager.folders.{verb}")(handler)
    for verb, action in (("Create", _create), ("Update", _update), ("Move", _update), ("Undelete", _update)):
        service.action(f"{verb}Folder")(action)
    policies.serve(
        service,
        "cloudresourcemanager.folders",
        lambda call: folder_resource(_ident(call.params["resource"])),
        "resourcemanager.folders",
        exists=_named,
    )


# -- the tree ------------------------------------------------------------------


def _ident(name: str) -> str:
    return name.removeprefix("folders/")


def _refused() -> ApiError:
    return ApiError(403, "The caller does not have permission")


def _invalid(field: str, text: str) -> ApiError:
    return ApiError(400, f"field [{field}] has issue [{text}]", details=[bad_request(field, text)])


def _permit(call: Call, permission: str, name: str) -> None:
    """Refuse a caller without a permission on "folders/…" or "organizations/…"."""
    resource = folder_resource(_ident(name)) if name.startswith("folders/") else ORGANIZATION
    if not call.app.iam.allows(call.principal, f"resourcemanager.{permission}", resource):
        raise _refused()


def check_parent(call: Call, name: str, permission: str) -> None:
    """Refuse what cannot be a parent; a folder that is not in this sandbox is taken to be elsewhere in the organization.

    Raises ApiError 403 (not the caller's) or 400.
    """
    if not re.fullmatch(r"(folders|organizations)/\d+", name):
        raise _invalid("parent", "parent must be a folder or an organization")
    if name.startswith("organizations/") and name != f"organizations/{projects.organization(call.app)}":
        raise _refused()
    _permit(call, permission, name)
    folder = call.app.store.peek(FOLDERS, _ident(name))
    if folder is not None and folder["state"] != "ACTIVE":
        raise ApiError(400, "Precondition check failed.", status="FAILED_PRECONDITION")


def above(app: Cloud, name: str) -> list[str]:
    """What "folders/…" is in, nearest first, down to the organization."""
    out: list[str] = []
    folder = app.store.peek(FOLDERS, _ident(name))
    while folder is not None and len(out) <= DEPTH:
        out.append(folder["parent"])
        folder = app.store.peek(FOLDERS, _ident(folder["parent"]))
    return out


def _within(app: Cloud, name: str) -> list[Doc]:
    return [doc for _, doc in app.store.list(FOLDERS) if doc["parent"] == name]


def _height(app: Cloud, name: str) -> int:
    """How many levels there are from a folder down."""
    return 1 + max((_height(app, doc["name"]) for doc in _within(app, name)), default=0)


def _fit(app: Cloud, doc: Doc) -> None:
    """Refuse a folder where its parent cannot take it.  Raises ApiError, which ends an operation."""
    text = f"Folder reservation failed for parent [{doc['parent']}], folder_display_name [{doc['displayName']}] due to "
    text += "constraint: "
    if any(
        d["displayName"] == doc["displayName"] and d["name"] != doc["name"] and d["state"] == "ACTIVE"
        for d in _within(app, doc["parent"])
    ):
        text += "The folder operation violates display name uniqueness within the parent."
    elif doc["name"] in (doc["parent"], *above(app, doc["parent"])):
        text += "The folder operation would introduce a cycle."
    elif len(above(app, doc["parent"])) + _height(app, doc["name"]) > DEPTH:
        text += "The folder operation violates height constraints."
    else:
        return
    raise ApiError(400, text, status="FAILED_PRECONDITION")


def _named(call: Call) -> Doc:
    """A copy of the folder that a call names.  Raises ApiError 403 where there is none."""
    name = call.params.get("name") or call.params["resource"]
    doc = call.app.store.get(FOLDERS, _ident(name))
    if doc is None:
        raise _refused()
    return doc


def _save(app: Cloud, doc: Doc) -> Doc:
    doc = {k: v for k, v in doc.items() if k != "etag"} | {"updateTime": now()}
    doc["etag"] = 'W/"' + hashlib.sha256(json.dumps(doc, sort_keys=True).encode()).hexdigest()[:16] + '"'
    return app.store.put(FOLDERS, _ident(doc["name"]), doc)


# -- methods -------------------------------------------------------------------


def _shown(version: str, doc: Doc) -> Doc:
    """A folder as a version of the API shows it."""
    if version == "v3":
        return doc
    known = ("name", "parent", "displayName", "createTime")
    return {k: doc[k] for k in known if k in doc} | {"lifecycleState": doc["state"]}


def _start(call: Call, verb: str, doc: Doc, **metadata: str) -> Operation:
    version = call.method.api.version
    kind = {"@type": f"{_TYPE}v3.{verb}FolderMetadata"}
    if version == "v2":
        kind = {"@type": f"{_TYPE}v2.FolderOperation", "operationType": verb.upper()}
    return call.operation(
        verb,
        doc["name"],
        action=f"cloudresourcemanager.{verb}Folder",
        args={"folder": doc, "version": version},
        metadata=kind | metadata,
        extra={"prefix": f"f{verb[0].lower()}."},
    )


def _response(op: Doc, doc: Doc) -> Doc:
    version = op["args"]["version"]
    return {"@type": f"{_TYPE}{version}.Folder"} | _shown(version, doc)


def create(call: Call) -> Operation:
    name, parent = call.body.get("displayName", ""), call.params.get("parent") or call.body.get("parent", "")
    if not _NAME.fullmatch(name):
        raise _invalid("display_name", "display_name must be 1 to 30 letters, digits, spaces, hyphens and underscores")
    check_parent(call, parent, "folders.create")
    ident = str(secrets.randbelow(9 * 10**11) + 10**11)
    doc = {
        "name": f"folders/{ident}",
        "parent": parent,
        "displayName": name,
        "state": "ACTIVE",
        "_by": call.principal.member,
    }
    return _start(call, "Create", doc, displayName=name, parent=parent)


async def _create(app: Cloud, op: Doc) -> Doc:
    doc = dict(op["args"]["folder"])
    creator = doc.pop("_by")
    if app.store.peek(FOLDERS, _ident(doc["name"])) is None:
        _fit(app, doc)
        doc = _save(app, doc | {"createTime": now()})
        for role in ("folderAdmin", "folderEditor"):
            app.iam.grant(folder_resource(_ident(doc["name"])), f"roles/resourcemanager.{role}", creator)
    return _response(op, app.store.get(FOLDERS, _ident(doc["name"])) or doc)


async def _update(app: Cloud, op: Doc) -> Doc:
    doc = op["args"]["folder"]
    _fit(app, doc)
    return _response(op, _save(app, doc))


def get(call: Call) -> Doc:
    _permit(call, "folders.get", call.params["name"])
    return _shown(call.method.api.version, _named(call))


def list_(call: Call) -> Doc:
    parent = call.params.get("parent", "")
    check_parent(call, parent, "folders.list")
    found = [d for d in _within(call.app, parent) if call.params.get("showDeleted") or d["state"] == "ACTIVE"]
    return page(call, "folders", [_shown(call.method.api.version, d) for d in found])


def _matches(doc: Doc, text: str) -> bool:
    """Whether a folder meets a query: terms field=value and field:value that AND or a space joins, * as a wildcard."""
    for field, value in re.findall(r'([\w.]+)\s*[:=]\s*("[^"]*"|\S+)', text):
        has = doc.get({"lifecycleState": "state"}.get(field, field), "")
        if not re.fullmatch(re.escape(value.strip('"')).replace(r"\*", ".*"), has, re.IGNORECASE):
            return False
    return True


def search(call: Call) -> Doc:
    def may(doc: Doc) -> bool:
        resource = folder_resource(_ident(doc["name"]))
        return call.app.iam.allows(call.principal, "resourcemanager.folders.get", resource)

    query = call.params.get("query", call.body.get("query", ""))
    found = [d for _, d in call.app.store.list(FOLDERS) if _matches(d, query) and may(d)]
    return page(call, "folders", [_shown(call.method.api.version, d) for d in found])


def _active(call: Call, permission: str) -> Doc:
    _permit(call, permission, call.params["name"])
    doc = _named(call)
    if doc["state"] != "ACTIVE":
        raise ApiError(400, "Precondition check failed.", status="FAILED_PRECONDITION")
    return doc


def _changed(call: Call, verb: str, doc: Doc) -> Doc | Operation:
    """A folder's change as an operation, in version 2 at once."""
    if call.method.api.version == "v3":
        return _start(call, verb, doc)
    _fit(call.app, doc)
    return _shown("v2", _save(call.app, doc))


def patch(call: Call) -> Doc | Operation:
    doc = _active(call, "folders.update")
    mask = {re.sub("display_name", "displayName", f) for f in call.params.get("updateMask", "displayName").split(",")}
    if mask != {"displayName"}:
        raise ApiError(400, f"Invalid update mask: {', '.join(sorted(mask - {'displayName'}))}.")
    name = call.body.get("displayName", "")
    if not _NAME.fullmatch(name):
        raise _invalid("display_name", "display_name must be 1 to 30 letters, digits, spaces, hyphens and underscores")
    return _changed(call, "Update", doc | {"displayName": name})


def move(call: Call) -> Operation:
    doc, target = _active(call, "folders.move"), call.body.get("destinationParent", "")
    check_parent(call, target, "folders.move")
    return _start(
        call,
        "Move",
        doc | {"parent": target},
        displayName=doc["displayName"],
        sourceParent=doc["parent"],
        destinationParent=target,
    )


def delete(call: Call) -> Doc | Operation:
    doc = _active(call, "folders.delete")
    parent = {"type": "folder", "id": _ident(doc["name"])}
    held = [d for d in _within(call.app, doc["name"]) if d["state"] == "ACTIVE"]
    held += [
        d
        for _, d in call.app.store.list(projects.KIND)
        if d.get("parent") == parent and d["lifecycleState"] == "ACTIVE"
    ]
    if held:
        raise ApiError(400, "Precondition check failed.", status="FAILED_PRECONDITION")
    gone = _save(call.app, doc | {"state": "DELETE_REQUESTED", "deleteTime": now()})
    if call.method.api.version == "v2":
        return _shown("v2", gone)
    return call.app.operations.finished(
        service="cloudresourcemanager",
        dialect="longrunning",
        verb="Delete",
        target=doc["name"],
        user=call.principal.email,
        metadata={"@type": f"{_TYPE}v3.DeleteFolderMetadata"},
        response={"@type": f"{_TYPE}v3.Folder"} | gone,
        extra={"prefix": "fd."},
    )


def undelete(call: Call) -> Doc | Operation:
    _permit(call, "folders.undelete", call.params["name"])
    doc = _named(call)
    if doc["state"] != "DELETE_REQUESTED":
        raise ApiError(400, "Precondition check failed.", status="FAILED_PRECONDITION")
    del doc["deleteTime"]
    return _changed(call, "Undelete", doc | {"state": "ACTIVE"})
