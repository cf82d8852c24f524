"""The v1 API, in the style of Knative: services, revisions, configurations, routes, locations and operations.

https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services.  Policies are the same as in v2.
"""

from __future__ import annotations

import re
from typing import Any

from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.run import names, revisions, v1_fields, v1_views
from gcp_sandbox.services.run import resources as common
from gcp_sandbox.services.run import v1_calls as v1
from gcp_sandbox.services.run.resources import SERVICE

Doc = dict[str, Any]
_OPERATIONS = "run.projects.locations.operations"


@v1.method("services.create", "run.services.create")
def create(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services/create"""
    short = v1.named(call, call.body, "Service")
    body, kept = v1_fields.service(call.body)
    parent = f"projects/{call.project_id}/locations/{v1.location(call)}"
    v2 = v1.as_v2(call, "services.create", {"parent": parent, "serviceId": short}, body)
    with call.cloud.store.atomic():
        op = v1.translated(False, lambda: revisions.begin(v2, f"{parent}/services/{short}"))
        return v1.remembered(call, "Service", op, kept)


@v1.method("services.replaceService", "run.services.update")
def replace(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services/replaceService"""
    old = v1.existing(call)
    v1.named(call, call.body, "Service")
    v1.check_version(old, call.body)
    body, kept = v1_fields.service(call.body)
    before, _ = v1_fields.service(v1.shown(call, "Service", old))
    v2 = v1.as_v2(call, "services.patch", {"name": old["name"]}, v1_fields.untouched(body, old, before))
    with call.cloud.store.atomic():
        op = v1.translated(False, lambda: revisions.update(v2, retry=False))
        return v1.remembered(call, "Service", op, kept)


@v1.method("services.get", "run.services.get")
def get(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services/get"""
    return v1.shown(call, "Service", v1.existing(call))


@v1.method("services.list", "run.services.list")
def list_(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services/list"""
    return v1.listing(call, "Service")


@v1.method("services.delete", "run.services.delete")
async def delete(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services/delete"""
    doc = v1.existing(call)
    await revisions.delete(v1.as_v2(call, "services.delete", {"name": doc["name"]}))
    return v1.deleted("Service", doc)


@v1.method("revisions.get", "run.revisions.get")
def get_revision(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.revisions/get"""
    return v1.shown(call, "Revision", v1.existing(call))


@v1.method("revisions.list", "run.revisions.list")
def list_revisions(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.revisions/list"""
    return v1.listing(call, "Revision")


@v1.method("revisions.delete", "run.revisions.delete")
def delete_revision(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.revisions/delete"""
    doc = v1.existing(call)
    revisions.delete_revision(v1.as_v2(call, "services.revisions.delete", {"name": doc["name"]}))
    return v1.deleted("Revision", doc)


@v1.method("configurations.get", "run.configurations.get")
def get_configuration(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.configurations/get"""
    return v1.shown(call, "Configuration", v1.existing(call))


@v1.method("configurations.list", "run.configurations.list")
def list_configurations(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.configurations/list"""
    return v1.listing(call, "Configuration")


@v1.method("routes.get", "run.routes.get")
def get_route(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.routes/get"""
    return v1.shown(call, "Route", v1.existing(call))


@v1.method("routes.list", "run.routes.list")
def list_routes(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.routes/list"""
    return v1.listing(call, "Route")


# -- locations and operations --------------------------------------------------------


@SERVICE.method("run.projects.locations.list", version="v1", permission="run.locations.list")
def list_locations(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/projects.locations/list"""
    base = f"projects/{call.project_id}/locations"
    found = [
        {"name": f"{base}/{region}", "locationId": region, "labels": {"cloud.googleapis.com/region": region}}
        for region in names.REGIONS
    ]
    return page(call, "locations", found)


def _shown(call: Call, op: Operation) -> Doc:
    """An operation with its resource as v1 shows it, where v1 has that kind of resource."""
    out = call.cloud.operations.render(op, SERVICE.host)
    for field in ("metadata", "response"):
        body = out.get(field) or {}
        kind = str(body.get("@type", "")).rpartition(".")[2]
        if kind in v1_views.KINDS:
            stored = call.cloud.store.peek(f"run.{v1_views.KINDS[kind][0]}", body["name"]) or {}
            doc = body | {k: v for k, v in stored.items() if k.startswith("_")}
            mark = re.sub("v2", "v1", str(body["@type"]))
            out[field] = {"@type": mark} | v1.shown(call, kind, doc)
    return out


@SERVICE.method(f"{_OPERATIONS}.get", version="v1", permission="run.operations.get")
def get_operation(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/projects.locations.operations/get"""
    return _shown(call, common.get_operation(call))


@SERVICE.method(f"{_OPERATIONS}.wait", version="v1", permission="run.operations.get")
async def wait_operation(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/projects.locations.operations/wait"""
    return _shown(call, await common.wait_operation(call))


@SERVICE.method(f"{_OPERATIONS}.list", version="v1", permission="run.operations.list")
def list_operations(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/projects.locations.operations/list"""
    found = call.cloud.operations.all(service="run", scope=common.key(call))
    return page(call, "operations", [_shown(call, op) for op in found])
