"""Shared VPC: host projects, and the service projects that use their subnets.

https://cloud.google.com/vpc/docs/shared-vpc
"""

from __future__ import annotations

from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.compute.base import SERVICE, Doc, link

KIND = "compute.sharedVpcHosts"  # by ID of the host project: {"projects": [IDs of its service projects]}


def host_of(cloud: Cloud, project: str) -> str:
    """ID of the host project that a service project is attached to, or ""."""
    return next((host for host, doc in cloud.store.list(KIND) if project in doc["projects"]), "")


def usable(cloud: Cloud, project: str, subnet: str, principal: Principal) -> str:
    """Why a principal may not put resources of a project into a subnet (store key) of another project; "" if it may."""
    host = subnet.split("/")[1]
    if host == project:
        return ""
    if host_of(cloud, project) != host:
        return f"Project '{project}' is not attached to the Shared VPC host project '{host}'."
    resources = (project_resource(host), f"//compute.googleapis.com/{subnet}")
    if not cloud.iam.allows(principal, "compute.subnetworks.use", *resources):
        return f"Required 'compute.subnetworks.use' permission for '{subnet}'"
    return ""


def require_use(call: Call, subnet: str) -> None:
    """Raise ApiError unless the caller may use a subnet (store key), which may be one of the host project."""
    if why := usable(call.cloud, call.project_id, subnet, call.principal):
        denied = why.startswith("Required")
        raise ApiError(403 if denied else 400, why, reason="forbidden" if denied else "invalid")


def _operation(call: Call, verb: str) -> Operation:
    scope = f"projects/{call.project_id}/global"
    extra = {"targetId": call.project_number}
    target = link(f"projects/{call.project_id}")
    return call.operation(verb, target, scope=scope, extra=extra, latency="compute.projects")


def _host(call: Call) -> Doc:
    """The record of the host project that a call names.  Raises ApiError 400."""
    doc = call.cloud.store.get(KIND, call.project_id)
    if doc is None:
        text = f"Invalid resource usage: 'Project {call.project_id} is not a shared VPC host project.'."
        raise ApiError(400, text, reason="invalidResourceUsage")
    return doc


@SERVICE.method("compute.projects.enableXpnHost", permission="compute.organizations.enableXpnHost")
def _enable_host(call: Call) -> Operation:
    if host := host_of(call.cloud, call.project_id):
        text = f"Invalid resource usage: 'Project {call.project_id} is a service project of {host}.'."
        raise ApiError(400, text, reason="invalidResourceUsage")
    if call.cloud.store.peek(KIND, call.project_id) is None:
        call.cloud.store.put(KIND, call.project_id, {"projects": []})
    return _operation(call, "enableXpnHost")


@SERVICE.method("compute.projects.disableXpnHost", permission="compute.organizations.disableXpnHost")
def _disable_host(call: Call) -> Operation:
    if _host(call)["projects"]:
        text = "Cannot disable project as a shared VPC host because it has active service projects."
        raise ApiError(400, text, reason="badRequest")
    call.cloud.store.delete(KIND, call.project_id)
    return _operation(call, "disableXpnHost")


def _named(call: Call) -> str:
    """ID of the service project that a call names.  Raises ApiError."""
    given = call.body.get("xpnResource", {})
    if given.get("type", "PROJECT") != "PROJECT" or not given.get("id"):
        raise ApiError(400, "Required field 'xpnResource.id' not specified", reason="required")
    found = projects.find(call.cloud, str(given["id"]))
    if found is None:
        raise ApiError(404, f"The resource 'projects/{given['id']}' was not found", reason="notFound")
    return str(found["projectId"])


@SERVICE.method("compute.projects.enableXpnResource", permission="compute.organizations.enableXpnResource")
def _attach(call: Call) -> Operation:
    doc, project = _host(call), _named(call)
    other = host_of(call.cloud, project)
    if project == call.project_id or call.cloud.store.peek(KIND, project) or other not in ("", call.project_id):
        why = f"is already attached to {other}" if other else "is a shared VPC host project"
        text = f"Invalid resource usage: 'Project {project} {why}.'."
        raise ApiError(400, text, reason="invalidResourceUsage")
    if not other:
        call.cloud.store.put(KIND, call.project_id, {"projects": sorted([*doc["projects"], project])})
    return _operation(call, "enableXpnResource")


@SERVICE.method("compute.projects.disableXpnResource", permission="compute.organizations.disableXpnResource")
def _detach(call: Call) -> Operation:
    doc, project = _host(call), _named(call)
    if project not in doc["projects"]:
        text = f"Invalid resource usage: 'Project {project} is not attached to {call.project_id}.'."
        raise ApiError(400, text, reason="invalidResourceUsage")
    call.cloud.store.put(KIND, call.project_id, {"projects": [p for p in doc["projects"] if p != project]})
    return _operation(call, "disableXpnResource")


@SERVICE.method("compute.projects.getXpnHost", permission="compute.projects.get")
def _get_host(call: Call) -> Doc:
    host = projects.find(call.cloud, host_of(call.cloud, call.project_id))
    if host is None:
        return {}
    return {
        "kind": "compute#project",
        "id": host["projectNumber"],
        "name": host["projectId"],
        "selfLink": link(f"projects/{host['projectId']}"),
        "xpnProjectStatus": "HOST",
    }


@SERVICE.method("compute.projects.getXpnResources", permission="compute.projects.get")
def _get_resources(call: Call) -> Doc:
    found = [{"id": project, "type": "PROJECT"} for project in _host(call)["projects"]]
    return {"kind": "compute#projectsGetXpnResources"} | ({"resources": found} if found else {})


@SERVICE.method("compute.projects.listXpnHosts", permission="compute.projects.get")
def _list_hosts(call: Call) -> Doc:
    hosts = [projects.find(call.cloud, host) for host, _ in call.cloud.store.list(KIND)]
    items = [
        {
            "kind": "compute#project",
            "id": host["projectNumber"],
            "name": host["projectId"],
            "selfLink": link(f"projects/{host['projectId']}"),
            "xpnProjectStatus": "HOST",
        }
        for host in hosts
        if host
    ]
    out: Doc = {"kind": "compute#xpnHostList", "id": f"projects/{call.project_id}"}
    return out | ({"items": items} if items else {})
