"""Resource Manager: projects, folders and their policies, and their only organization.

https://cloud.google.com/resource-manager/reference/rest
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from gcp_sandbox.core import policies, projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError, bad_request
from gcp_sandbox.core.iam import ORGANIZATION, project_resource
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.resources import serve_operations
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.cloudresourcemanager import folders

Doc = dict[str, Any]


def _name(call: Call) -> str:
    """ID or number of a call's project, without a prefix in v1, after projects/ in v3."""
    params = call.params
    return (params.get("projectId") or params.get("resource") or params.get("name") or "").removeprefix("projects/")


SERVICE = Service(
    "cloudresourcemanager",
    "v1",
    "v3",
    client_based=True,
    resource_type="cloudresourcemanager.googleapis.com/Project",
    denied=lambda call, permission, shown: ApiError(403, "The caller does not have permission"),
    keeps_projects=True,
)
SERVICE.project_of = lambda call: _name(call) if call.method.id.startswith("cloudresourcemanager.projects.") else None


def _project(call: Call, permission: str) -> Doc:
    """The project of a call; nonexistent for a caller without access."""
    if call.project is None or not call.cloud.iam.allows(call.principal, permission, project_resource(call.project_id)):
        raise ApiError(403, "The caller does not have permission")
    return call.project


def _v3(doc: Doc) -> Doc:
    """A project in v3's format."""
    out: Doc = {
        "name": f"projects/{doc['projectNumber']}",
        "projectId": doc["projectId"],
        "state": doc["lifecycleState"],
        "displayName": doc["name"],
        "createTime": doc["createTime"],
        "updateTime": doc.get("_updated", doc["createTime"]),
        "etag": 'W/"' + hashlib.sha256(json.dumps(doc, sort_keys=True).encode()).hexdigest()[:16] + '"',
    }
    if "parent" in doc:
        out["parent"] = f"{doc['parent']['type']}s/{doc['parent']['id']}"
    if doc.get("labels"):
        out["labels"] = doc["labels"]
    if "_deleted" in doc:
        out["deleteTime"] = doc["_deleted"]
    return out


def _shown(call: Call, doc: Doc) -> Doc:
    return _v3(doc) if call.method.api.version == "v3" else {k: v for k, v in doc.items() if not k.startswith("_")}


# -- creating ------------------------------------------------------------------


def _invalid(field: str, text: str) -> ApiError:
    return ApiError(400, f"field [{field}] has issue [{text}]", details=[bad_request(field, text)])


def _check(ident: str, name: str, labels: dict[str, str]) -> None:
    if len(ident) < 6:
        raise _invalid("project_id", "project_id must be at least 6 characters long")
    if len(ident) > 30:
        raise _invalid("project_id", "project_id must be at most 30 characters long")
    if not re.fullmatch(r"[a-z][-a-z0-9]*[a-z0-9]", ident):
        raise _invalid("project_id", "project_id contains invalid characters")
    if not re.fullmatch(r"[\w\-'\"! ]{4,30}", name):
        raise _invalid(
            "display_name",
            "display_name must be 4 to 30 characters of letters, numbers, single quotes, "
            "hyphens, spaces or exclamation points",
        )
    for key, value in labels.items():
        if not re.fullmatch(r"[a-z][-a-z0-9_]{0,62}", key) or not re.fullmatch(r"[-a-z0-9_]{0,63}", value):
            raise _invalid("labels", f"label {key}={value} is not valid")


def _check_parent(call: Call, parent: Doc | None, permission: str) -> None:
    """Reject a caller who may not create a project under {type, id} (None: the organization).

    A folder is assumed to be in the organization.
    """
    if parent and parent.get("type") == "folder" and not re.fullmatch(r"\d+", str(parent.get("id"))):
        raise _invalid("parent", "parent must be a folder or an organization")
    if not call.cloud.iam.allows(call.principal, f"resourcemanager.{permission}", ORGANIZATION):
        raise ApiError(403, "The caller does not have permission")


@SERVICE.method("cloudresourcemanager.projects.create")
def create(call: Call) -> Operation:
    body = call.body
    ident = body.get("projectId", "")
    name = body.get("displayName") or body.get("name") or ident
    _check(ident, name, body.get("labels", {}))
    parent = body.get("parent")
    if isinstance(parent, str):
        kind, _, number = parent.partition("/")
        parent = {"type": kind.removesuffix("s"), "id": number}
    _check_parent(call, parent, "projects.create")
    if projects.find(call.cloud, ident) is not None:
        raise ApiError(409, "Requested entity already exists")
    args = {
        "id": ident,
        "name": name,
        "parent": parent,
        "labels": body.get("labels"),
        "owner": call.principal.member,
        "version": call.method.api.version,
    }
    # The ID is reserved from now on, even while the operation is running.
    return call.operation("create", ident, action="cloudresourcemanager.create", args=args, extra={"prefix": "cp."})


@SERVICE.action("create")
async def _create(cloud: Cloud, op: Doc) -> Doc:
    args = op["args"]
    doc = projects.find(cloud, args["id"])
    if doc is None:
        doc = projects.create(
            cloud, args["id"], args["owner"], name=args["name"], parent=args["parent"], labels=args["labels"]
        )
    return _finished(op, args["version"], "create", doc)


def _finished(op: Doc, version: str, verb: str, doc: Doc) -> Doc:
    if version == "v1":
        op["metadata"] = {
            "@type": "type.googleapis.com/google.cloudresourcemanager.v1.ProjectCreationStatus",
            "createTime": doc["createTime"],
            "gettable": True,
            "ready": True,
        }
        return {"@type": "type.googleapis.com/google.cloudresourcemanager.v1.Project"} | doc
    op["metadata"] = {
        "@type": f"type.googleapis.com/google.cloud.resourcemanager.v3.{verb.capitalize()}ProjectMetadata"
    }
    return {"@type": "type.googleapis.com/google.cloud.resourcemanager.v3.Project"} | _v3(doc)


serve_operations(
    SERVICE,
    "cloudresourcemanager.operations",
    "get",
    missing=lambda name: ApiError(403, "The caller does not have permission"),
)


# -- reading -------------------------------------------------------------------


@SERVICE.method("cloudresourcemanager.projects.get")
def get(call: Call) -> Doc:
    return _shown(call, _project(call, "resourcemanager.projects.get"))


def _visible(call: Call) -> list[Doc]:
    def may(doc: Doc) -> bool:
        return call.cloud.iam.allows(call.principal, "resourcemanager.projects.get", project_resource(doc["projectId"]))

    return [doc for _, doc in call.cloud.store.list(projects.KIND) if may(doc)]


def _matches(doc: Doc, text: str) -> bool:
    """Whether a project matches a filter: terms field:value and field=value, joined by space or AND, * as a wildcard."""
    values = {
        "id": doc["projectId"],
        "projectid": doc["projectId"],
        "name": doc["name"],
        "displayname": doc["name"],
        "lifecyclestate": doc["lifecycleState"],
        "state": doc["lifecycleState"],
        "projectnumber": doc["projectNumber"],
        "parent.type": doc.get("parent", {}).get("type", ""),
        "parent.id": doc.get("parent", {}).get("id", ""),
        "parent": _v3(doc).get("parent", ""),
    }
    for term in re.findall(r'[^\s:=]+\s*[:=]\s*(?:"[^"]*"|\S+)', text):
        field, value = (part.strip() for part in re.split(r"[:=]", term, maxsplit=1))
        has = doc.get("labels", {}).get(field[7:]) if field.startswith("labels.") else values.get(field.lower())
        pattern = re.escape(value.strip('"')).replace(r"\*", ".*")
        if has is None or not re.fullmatch(pattern, has, re.IGNORECASE):
            return False
    return True


@SERVICE.method("cloudresourcemanager.projects.list")
def list_(call: Call) -> Doc:
    found = _visible(call)
    if call.method.api.version == "v3":
        parent = call.params.get("parent", "")
        if not re.fullmatch(r"(organizations|folders)/[^/]+", parent):
            raise ApiError(400, "Request contains an invalid argument.")
        found = [d for d in found if _v3(d).get("parent") == parent]
        if not call.params.get("showDeleted"):
            found = [d for d in found if d["lifecycleState"] == "ACTIVE"]
    return page(call, "projects", [_shown(call, d) for d in found if _matches(d, call.params.get("filter", ""))])


@SERVICE.method("cloudresourcemanager.projects.search")
def search(call: Call) -> Doc:
    return page(call, "projects", [_v3(d) for d in _visible(call) if _matches(d, call.params.get("query", ""))])


@SERVICE.method("cloudresourcemanager.projects.getAncestry")
def ancestry(call: Call) -> Doc:
    doc = _project(call, "resourcemanager.projects.get")
    chain = [{"type": "project", "id": doc["projectId"]}]
    for resource in call.cloud.iam.above(project_resource(doc["projectId"])):
        kind, ident = resource.split("/")[-2:]
        organization = resource == ORGANIZATION
        chain.append({"type": kind[:-1], "id": projects.organization(call.cloud) if organization else ident})
    return {"ancestor": [{"resourceId": entry} for entry in chain]}


# -- changing ------------------------------------------------------------------


def _save(call: Call, doc: Doc) -> Doc:
    return call.cloud.store.put(projects.KIND, doc["projectId"], doc | {"_updated": now()})


def _active(doc: Doc) -> Doc:
    if doc["lifecycleState"] != "ACTIVE":
        raise ApiError(400, "Precondition check failed.", status="FAILED_PRECONDITION")
    return dict(doc)


def _operation(call: Call, verb: str, prefix: str, doc: Doc) -> Operation:
    metadata = {"@type": f"type.googleapis.com/google.cloud.resourcemanager.v3.{verb.capitalize()}ProjectMetadata"}
    response = {"@type": "type.googleapis.com/google.cloud.resourcemanager.v3.Project"} | _v3(doc)
    return call.operation(verb, doc["projectId"], metadata=metadata, response=response, extra={"prefix": prefix})


@SERVICE.method("cloudresourcemanager.projects.update")
def update(call: Call) -> Doc:
    doc = _active(_project(call, "resourcemanager.projects.update"))
    name = str(call.body.get("name", doc["name"]))
    _check(doc["projectId"], name, call.body.get("labels", {}))
    doc["name"] = name
    doc.pop("labels", None)
    return _shown(call, _save(call, doc | ({"labels": call.body["labels"]} if call.body.get("labels") else {})))


@SERVICE.method("cloudresourcemanager.projects.patch")
def patch(call: Call) -> Operation:
    doc = _active(_project(call, "resourcemanager.projects.update"))
    mask = {
        f.strip().replace("display_name", "displayName")
        for f in call.params.get("updateMask", "").split(",")
        if f.strip()
    }
    mask = mask or {f for f in ("displayName", "labels") if f in call.body}
    if mask - {"displayName", "labels"}:
        raise ApiError(400, f"Invalid update mask: {', '.join(sorted(mask - {'displayName', 'labels'}))}.")
    _check(doc["projectId"], str(call.body.get("displayName", doc["name"])), call.body.get("labels", {}))
    if "displayName" in mask and call.body.get("displayName"):
        doc["name"] = call.body["displayName"]
    if "labels" in mask:
        doc["labels"] = call.body.get("labels", {})
    return _operation(call, "update", "pp.", _save(call, doc))


@SERVICE.method("cloudresourcemanager.projects.delete")
def delete(call: Call) -> Doc | Operation:
    doc = _active(_project(call, "resourcemanager.projects.delete"))
    doc |= {"lifecycleState": "DELETE_REQUESTED", "_deleted": now()}
    _save(call, doc)
    return _operation(call, "delete", "dp.", doc) if call.method.api.version == "v3" else {}


@SERVICE.method("cloudresourcemanager.projects.undelete")
def undelete(call: Call) -> Doc | Operation:
    doc = dict(_project(call, "resourcemanager.projects.undelete"))
    if doc["lifecycleState"] != "DELETE_REQUESTED":
        raise ApiError(400, "Precondition check failed.", status="FAILED_PRECONDITION")
    doc["lifecycleState"] = "ACTIVE"
    doc.pop("_deleted", None)
    _save(call, doc)
    return _operation(call, "undelete", "up.", doc) if call.method.api.version == "v3" else {}


@SERVICE.method("cloudresourcemanager.projects.move")
def move(call: Call) -> Operation:
    doc = _active(_project(call, "resourcemanager.projects.move"))
    kind, _, number = call.body.get("destinationParent", "").partition("/")
    if kind not in ("organizations", "folders") or not number:
        raise ApiError(400, "Request contains an invalid argument.")
    parent = {"type": kind[:-1], "id": number}
    _check_parent(call, parent, "projects.move")
    return _operation(call, "move", "pp.", _save(call, doc | {"parent": parent}))


# -- policies --------------------------------------------------------------------


def _full(call: Call) -> str:
    return project_resource(call.project_id or _name(call))


def _there(call: Call) -> None:
    if call.project is None:
        raise ApiError(403, "The caller does not have permission")


policies.serve(SERVICE, "cloudresourcemanager.projects", _full, "resourcemanager.projects", exists=_there)
policies.serve(
    SERVICE,
    "cloudresourcemanager.organizations",
    lambda call: ORGANIZATION,
    "resourcemanager.organizations",
    exists=lambda call: _organization(call, call.params["resource"]),
)


# -- the organization ------------------------------------------------------------

folders.register(SERVICE)


def _organization(call: Call, name: str) -> Doc:
    ident = projects.organization(call.cloud)
    if name != f"organizations/{ident}":
        raise ApiError(403, "The caller does not have permission")
    customer = projects.customer(call.cloud)
    common = {"name": name, "displayName": call.cloud.settings.organization}
    if call.method.api.version == "v1":
        return common | {
            "owner": {"directoryCustomerId": customer},
            "lifecycleState": "ACTIVE",
            "creationTime": "2020-01-01T00:00:00.000Z",
        }
    return common | {
        "directoryCustomerId": customer,
        "state": "ACTIVE",
        "createTime": "2020-01-01T00:00:00Z",
        "updateTime": "2020-01-01T00:00:00Z",
        "etag": 'W/"1"',
    }


@SERVICE.method("cloudresourcemanager.organizations.get")
def get_organization(call: Call) -> Doc:
    if not call.cloud.iam.allows(call.principal, "resourcemanager.organizations.get", ORGANIZATION):
        raise ApiError(403, "The caller does not have permission")
    return _organization(call, call.params["name"])


@SERVICE.method("cloudresourcemanager.organizations.search")
def search_organizations(call: Call) -> Doc:
    if not call.cloud.iam.allows(call.principal, "resourcemanager.organizations.get", ORGANIZATION):
        return {}
    return {"organizations": [_organization(call, f"organizations/{projects.organization(call.cloud)}")]}
