"""Service Usage: which APIs a project has enabled, and the service agents of APIs.

https://cloud.google.com/service-usage/docs/reference/rest
"""

from __future__ import annotations

import re
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError, error_info
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.resources import find_operation, serve_operations
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.serviceusage import catalog

Doc = dict[str, Any]
SERVICE = Service("serviceusage", "v1", "v1beta1", always_enabled=True)
BATCH_ENABLE, BATCH_GET = 20, 30
_TYPE = "type.googleapis.com/google.api.serviceusage.v1."
# What an operation on one API tells of itself; only batches tell which APIs they are about.
_NOTHING = {"@type": "type.googleapis.com/google.protobuf.Empty"}


def _permit(call: Call, permission: str, what: str) -> None:
    try:
        call.require(permission)
    except ApiError:
        raise ApiError(
            403,
            f"Permission denied to {what}",
            details=[
                _failure(f"?error_code=110002&permission={permission}"),
                error_info("AUTH_PERMISSION_DENIED", "serviceusage.googleapis.com", permission=permission),
            ],
        ) from None


def _failure(subject: str) -> Doc:
    return {
        "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
        "violations": [{"type": "googleapis.com", "subject": subject}],
    }


def _known(*services: str) -> None:
    unknown = ", ".join(s for s in services if s not in catalog.titles())
    if unknown:
        raise ApiError(
            403,
            f"Not found or permission denied for service(s): {unknown}.",
            details=[
                _failure(f"?error_code=220002&services={unknown.replace(', ', '&services=')}"),
                error_info(
                    "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED", "serviceusage.googleapis.com", services=unknown
                ),
            ],
        )


def _shown(cloud: Cloud, project: Doc, service: str) -> Doc:
    on = projects.enabled(cloud, project["projectId"], service)
    return {
        "name": f"projects/{project['projectNumber']}/services/{service}",
        "config": {
            "name": service,
            "title": catalog.titles()[service],
            "documentation": {},
            "quota": {},
            "authentication": {},
            "usage": {"requirements": ["serviceusage.googleapis.com/tos/cloud"]},
        },
        "state": "ENABLED" if on else "DISABLED",
        "parent": f"projects/{project['projectNumber']}",
    }


def _service(call: Call) -> str:
    return call.params.get("name", call.params.get("parent", "")).rpartition("/")[2]


def _project(call: Call) -> Doc:
    if call.project is None:
        raise ApiError(400, "Only projects are supported as consumers here.")
    return call.project


# -- reading -------------------------------------------------------------------


@SERVICE.method("serviceusage.services.get")
def get(call: Call) -> Doc:
    service = _service(call)
    _permit(call, "serviceusage.services.get", f"get service [{service}]")
    _known(service)
    return _shown(call.cloud, _project(call), service)


@SERVICE.method("serviceusage.services.list")
def list_(call: Call) -> Doc:
    project = _project(call)
    _permit(
        call,
        "serviceusage.services.list",
        f"list services for consumer container [projects/{project['projectNumber']}]",
    )
    text = call.params.get("filter", "")
    found = re.fullmatch(r"\s*(?:state\s*[:=]\s*\"?(ENABLED|DISABLED)\"?)?\s*", text)
    if not found:
        raise ApiError(400, f"Invalid filter: {text}. Only state:ENABLED and state:DISABLED are allowed.")
    docs = [_shown(call.cloud, project, s) for s in sorted(catalog.titles())]
    docs = [d for d in docs if not found.group(1) or d["state"] == found.group(1)]
    return page(call, "services", docs, default=50, most=200)


@SERVICE.method("serviceusage.services.batchGet")
def batch_get(call: Call) -> Doc:
    project, names = _project(call), call.params.get("names", [])
    _permit(
        call, "serviceusage.services.get", f"get services for consumer container [projects/{project['projectNumber']}]"
    )
    if not names or len(names) > BATCH_GET:
        raise ApiError(400, f"Between 1 and {BATCH_GET} service names are needed, {len(names)} were given.")
    services = []
    for name in names:
        matched = re.fullmatch(r"projects/([^/]+)/services/([^/]+)", name)
        if not matched or matched.group(1) not in (project["projectId"], project["projectNumber"]):
            raise ApiError(400, f"Invalid service name '{name}': it must be under {call.params['parent']}.")
        services.append(matched.group(2))
    _known(*services)
    return {"services": [_shown(call.cloud, project, s) for s in services]}


# -- enabling --------------------------------------------------------------------


def _start(call: Call, action: str, services: list[str]) -> Operation:
    number = _project(call)["projectNumber"]
    names = [f"services/{s}/projectSettings/{number}" for s in services]
    batch = {"@type": _TYPE + "OperationMetadata", "resourceNames": names}
    metadata = batch if action == "enableServices" else _NOTHING
    extra = {"prefix": f"acf.p2-{number}-"}
    return call.operation(
        action,
        ",".join(services),
        action=f"serviceusage.{action}",
        metadata=metadata,
        extra=extra,
        args={"services": services},
        latency="serviceusage.disable" if action == "disableService" else "serviceusage.enable",
    )


@SERVICE.method("serviceusage.services.enable")
def enable(call: Call) -> Doc | Operation:
    service, project = _service(call), _project(call)
    _permit(call, "serviceusage.services.enable", f"enable service [{service}]")
    _known(service)
    if projects.enabled(call.cloud, project["projectId"], service):
        response = {"@type": _TYPE + "EnableServiceResponse", "service": _shown(call.cloud, project, service)}
        return {"name": "operations/noop.DONE_OPERATION", "done": True, "response": response}
    return _start(call, "enableService", [service])


@SERVICE.method("serviceusage.services.batchEnable")
def batch_enable(call: Call) -> Operation:
    services = call.body.get("serviceIds", [])
    _permit(call, "serviceusage.services.enable", f"enable services [{', '.join(services)}]")
    if not services or len(services) > BATCH_ENABLE:
        raise ApiError(
            400, f"Between 1 and {BATCH_ENABLE} services can be enabled in one batch, {len(services)} were given."
        )
    _known(*services)
    return _start(call, "enableServices", services)


def _owner(cloud: Cloud, op: dict[str, Any]) -> Doc:
    project = projects.find(cloud, op["project"])
    if project is None:
        raise ApiError(404, f"Project {op['project']} was not found.")
    return project


@SERVICE.action("enableService")
async def _enable(cloud: Cloud, op: dict[str, Any]) -> Doc:
    project, service = _owner(cloud, op), op["args"]["services"][0]
    catalog.enable(cloud, project, service)
    return {"@type": _TYPE + "EnableServiceResponse", "service": _shown(cloud, project, service)}


@SERVICE.action("enableServices")
async def _enable_all(cloud: Cloud, op: dict[str, Any]) -> Doc:
    project = _owner(cloud, op)
    for service in op["args"]["services"]:
        catalog.enable(cloud, project, service)
    return {
        "@type": _TYPE + "BatchEnableServicesResponse",
        "services": [_shown(cloud, project, s) for s in op["args"]["services"]],
    }


@SERVICE.method("serviceusage.services.disable")
def disable(call: Call) -> Operation:
    service, project = _service(call), _project(call)
    _permit(call, "serviceusage.services.disable", f"disable service [{service}]")
    _known(service)
    active = _active_dependents(call.cloud, project, service)
    if active and not call.body.get("disableDependentServices"):
        text = (
            f"The service {service} is depended on by the following active service(s): {', '.join(active)}; Please "
            "specify disable_dependent_services=true if you want to proceed with disabling all services."
        )
        raise ApiError(
            400,
            text,
            status="FAILED_PRECONDITION",
            details=[
                _failure(f"?error_code=100001&service_name={service}&services={','.join(active)}"),
                error_info(
                    "COMMON_SU_SERVICE_HAS_DEPENDENT_SERVICES",
                    "serviceusage.googleapis.com",
                    service_name=service,
                    services=",".join(active),
                ),
            ],
        )
    if not projects.enabled(call.cloud, project["projectId"], service):
        raise ApiError(
            400,
            f"The service {service} is not enabled for consumer projects/{project['projectNumber']}.",
            status="FAILED_PRECONDITION",
        )
    return _start(call, "disableService", [service, *active])


def _active_dependents(cloud: Cloud, project: Doc, service: str) -> list[str]:
    out: list[str] = []
    for other in catalog.dependents(service):
        if other not in out and projects.enabled(cloud, project["projectId"], other):
            out += [other, *(s for s in _active_dependents(cloud, project, other) if s not in out)]
    return out


@SERVICE.action("disableService")
async def _disable(cloud: Cloud, op: dict[str, Any]) -> Doc:
    project = _owner(cloud, op)
    for service in op["args"]["services"]:
        cloud.store.delete("serviceusage.enabled", f"{project['projectId']}/{service}")
    return {"@type": _TYPE + "DisableServiceResponse", "service": _shown(cloud, project, op["args"]["services"][0])}


@SERVICE.method("serviceusage.services.generateServiceIdentity")
def generate(call: Call) -> Doc:
    service, project = _service(call), _project(call)
    _permit(call, "serviceusage.services.enable", f"generate service identity of [{service}]")
    _known(service)
    kind = "type.googleapis.com/google.api.serviceusage.v1beta1.ServiceIdentity"
    agent = catalog.identity(call.cloud, project, service)
    response = {"@type": kind} | ({} if service in catalog.WITHOUT_PRIMARY else agent)
    return {"name": "operations/finished.DONE_OPERATION", "done": True, "response": response}


# -- operations --------------------------------------------------------------------


@SERVICE.method("serviceusage.operations.get")
def operation(call: Call) -> Doc | Operation:
    name = call.params["name"]
    if name in ("operations/finished.DONE_OPERATION", "operations/noop.DONE_OPERATION"):
        return {"name": name, "done": True}
    text = "Permission denied to get operation, or the operation does not exist."
    return find_operation(call, name, lambda name: ApiError(403, text))


serve_operations(SERVICE, "serviceusage.operations", "list")
