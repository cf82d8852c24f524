"""Folders and their policies.

https://cloud.google.com/resource-manager/reference/rest/v3/folders
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Any

from gcp_sandbox.core import policies, projects
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import FOLDERS_KIND, ORGANIZATION, folder_resource
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
_DENIED = "The caller does not have permission"


def register(service: Service) -> None:
    """Register the methods of folders."""
    ids = "cloudresourcemanager.folders"
    service.method(f"{ids}.create")(create)
    service.method(f"{ids}.get")(get)
    service.method(f"{ids}.list")(list_)
    policies.serve(service, ids, _resource, "resourcemanager.folders", exists=_existing)


def _name(call: Call) -> str:
    return str(call.params.get("name") or call.params["resource"])


def _resource(call: Call) -> str:
    return folder_resource(_name(call).removeprefix("folders/"))


def _existing(call: Call) -> Doc:
    """The folder of a call; for one that is not managed, as for all that do not exist, 403."""
    doc = call.cloud.store.peek(FOLDERS_KIND, _name(call))
    if doc is None:
        raise ApiError(403, _DENIED)
    return doc


def _require(call: Call, permission: str, parent: str) -> None:
    """Refuse a caller without a permission on a parent, organizations/ID or folders/ID."""
    if parent == f"organizations/{projects.organization(call.cloud)}":
        resource = ORGANIZATION
    elif re.fullmatch(r"folders/\d+", parent):
        resource = folder_resource(parent.removeprefix("folders/"))
    else:
        raise ApiError(400, "Request contains an invalid argument.")
    if not call.cloud.iam.allows(call.principal, f"resourcemanager.folders.{permission}", resource):
        raise ApiError(403, _DENIED)


def _shown(doc: Doc) -> Doc:
    digest = hashlib.sha256(json.dumps(doc, sort_keys=True).encode()).hexdigest()[:16]
    return doc | {"etag": f'W/"{digest}"'}


def create(call: Call) -> Operation:
    name, parent = str(call.body.get("displayName", "")), str(call.body.get("parent", ""))
    _require(call, "create", parent)
    if not re.fullmatch(r"\w(?:[\w -]{1,28}\w)", name):
        raise ApiError(400, "field [display_name] has issue [display_name must be 3 to 30 characters]")
    if any(doc["displayName"] == name and doc["parent"] == parent for _, doc in call.cloud.store.list(FOLDERS_KIND)):
        raise ApiError(400, "The folder operation violates display name uniqueness within the parent.")
    stamp = now()
    doc = {
        "name": f"folders/{secrets.randbelow(9 * 10**11) + 10**11}",
        "parent": parent,
        "displayName": name,
        "state": "ACTIVE",
        "createTime": stamp,
        "updateTime": stamp,
    }
    call.cloud.store.put(FOLDERS_KIND, doc["name"], doc)
    call.cloud.iam.grant(_named(doc), "roles/resourcemanager.folderAdmin", call.principal.member, first=True)
    kind = "type.googleapis.com/google.cloud.resourcemanager.v3"
    metadata = {"@type": f"{kind}.CreateFolderMetadata", "displayName": name, "parent": parent}
    response = {"@type": f"{kind}.Folder"} | _shown(doc)
    return call.operation("create", doc["name"], metadata=metadata, response=response, extra={"prefix": "cf."})


def _named(doc: Doc) -> str:
    return folder_resource(doc["name"].removeprefix("folders/"))


def get(call: Call) -> Doc:
    doc = _existing(call)
    if not call.cloud.iam.allows(call.principal, "resourcemanager.folders.get", _named(doc)):
        raise ApiError(403, _DENIED)
    return _shown(doc)


def list_(call: Call) -> Doc:
    parent = call.params.get("parent", "")
    _require(call, "list", parent)
    return page(call, "folders", [_shown(d) for _, d in call.cloud.store.list(FOLDERS_KIND) if d["parent"] == parent])
