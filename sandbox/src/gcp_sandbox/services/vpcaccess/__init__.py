"""Serverless VPC Access: connectors by which Cloud Run reaches a VPC network.

https://cloud.google.com/vpc/docs/reference/vpcaccess/rest
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError, bad_request
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.run.names import REGIONS

SERVICE = Service("vpcaccess", "v1", "v1beta1")
KIND = "vpcaccess.connectors"
Doc = dict[str, Any]
_BASE = "vpcaccess.projects.locations"
_TYPE = "type.googleapis.com/google.cloud.vpcaccess.v1"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}[a-z0-9]")
_UPDATABLE = {"min_instances": "minInstances", "max_instances": "maxInstances", "machine_type": "machineType"}
_PREFIX = 28


def _key(call: Call, param: str = "name") -> str:
    text = re.sub(r"^projects/[^/]+", f"projects/{call.project_id}", call.params[param])
    location = text.split("/")[3] if text.count("/") >= 3 else "-"
    if location not in REGIONS and location != "-":
        raise ApiError(403, f"Location {location} is not found or access is unauthorized.")
    return text


def _existing(call: Call) -> Doc:
    doc = call.cloud.store.get(KIND, _key(call))
    if doc is None:
        raise ApiError(404, "The connector is not found.")
    return doc


def _invalid(field: str, text: str) -> ApiError:
    return ApiError(400, text, details=[bad_request(field, text)])


def _operation(call: Call, verb: str, doc: Doc) -> Operation:
    version = call.method.api.version
    return call.operation(
        verb,
        doc["name"],
        action=f"vpcaccess.{verb}",
        args={"name": doc["name"]},
        scope=doc["name"].partition("/connectors/")[0],
        latency="vpcaccess.connectors",
        metadata={
            "@type": f"{_TYPE}.OperationMetadata",
            "createTime": now(),
            "target": doc["name"],
            "method": f"google.cloud.vpcaccess.{version}.VpcAccessService.{verb.capitalize()}Connector",
        },
    )


@SERVICE.method(f"{_BASE}.connectors.create", permission="vpcaccess.connectors.create")
def create(call: Call) -> Operation:
    """https://cloud.google.com/vpc/docs/reference/vpcaccess/rest/v1/projects.locations.connectors/create"""
    short = call.params.get("connectorId", "")
    if not _NAME.fullmatch(short):
        raise _invalid("connector_id", f"Connector ID must follow the pattern ^{_NAME.pattern}$.")
    name = f"{_key(call, 'parent')}/connectors/{short}"
    if call.cloud.store.peek(KIND, name) is not None:
        raise ApiError(409, f"Requested entity already exists: {name}")
    body = {k: v for k, v in call.body.items() if k not in ("name", "state", "connectedProjects", "createTime")}
    _place(call, name, body)
    doc = {"name": name, **_sized(body), "state": "CREATING"}
    call.cloud.store.put(KIND, name, doc)
    return _operation(call, "create", doc)


def _place(call: Call, name: str, body: Doc) -> None:
    """Check that what the connector attaches to is there."""
    subnet = body.get("subnet", {}).get("name")
    if bool(subnet) == bool(body.get("ipCidrRange")):
        raise _invalid("ip_cidr_range", "Exactly one of ip_cidr_range and subnet must be specified.")
    if subnet:
        project = body["subnet"].setdefault("projectId", call.project_id)
        region = name.split("/")[3]
        found = call.cloud.store.peek(
            "compute.subnetworks", f"projects/{project}/regions/{region}/subnetworks/{subnet}"
        )
        if found is None:
            raise _invalid(
                "subnet.name", f"Subnet projects/{project}/regions/{region}/subnetworks/{subnet} is not found."
            )
        cidr = found.get("ipCidrRange", "")
    else:
        body.setdefault("network", "default")
        network = body["network"].rsplit("/", 1)[-1]
        if call.cloud.store.peek("compute.networks", f"projects/{call.project_id}/global/networks/{network}") is None:
            raise _invalid("network", f"VPC network {network} does not exist.")
        cidr = body["ipCidrRange"]
    try:
        size = ipaddress.ip_network(cidr).prefixlen
    except ValueError:
        raise _invalid("ip_cidr_range", f"Invalid IP CIDR range: {cidr}.") from None
    if size != _PREFIX:
        raise _invalid("ip_cidr_range", f"The range of a connector must be a /{_PREFIX}, and {cidr} is a /{size}.")


def _sized(body: Doc) -> Doc:
    """Fill in machines and throughput, each from the other: an e2-micro is counted as 100 Mbps."""
    doc = {"machineType": "e2-micro", **body}
    for bound, default in (("min", 2), ("max", 10)):
        instances, throughput = f"{bound}Instances", f"{bound}Throughput"
        if instances not in doc:
            if doc.get(throughput, 0) % 100:
                raise _invalid(throughput, "Throughput must be a multiple of 100 Mbps.")
            doc[instances] = doc[throughput] // 100 if throughput in doc else default
        doc.setdefault(throughput, doc[instances] * 100)
    if doc["minInstances"] < 2 or doc["maxInstances"] > 10 or doc["minInstances"] >= doc["maxInstances"]:
        raise _invalid("min_instances", "A connector has from 2 to 10 instances, and more at most than at least.")
    return doc


@SERVICE.action("create")
async def finish_create(cloud: Cloud, op: Doc) -> Doc | None:
    """The connector is up."""
    return _ready(cloud, op)


@SERVICE.action("update")
async def finish_update(cloud: Cloud, op: Doc) -> Doc | None:
    """The connector has its new size."""
    return _ready(cloud, op)


def _ready(cloud: Cloud, op: Doc) -> Doc:
    op["metadata"] |= {"endTime": now()}
    doc = cloud.store.get(KIND, op["args"]["name"])
    if doc is None:
        raise ApiError(404, "The connector is not found.")
    cloud.store.put(KIND, doc["name"], doc | {"state": "READY"})
    return {"@type": f"{_TYPE}.Connector", **doc, "state": "READY"}


@SERVICE.method(f"{_BASE}.connectors.patch", permission="vpcaccess.connectors.update")
def patch(call: Call) -> Operation:
    """https://cloud.google.com/vpc/docs/reference/vpcaccess/rest/v1/projects.locations.connectors/patch"""
    doc = _existing(call)
    mask = call.params.get("updateMask", "") or ",".join(k for k, v in _UPDATABLE.items() if v in call.body)
    for path in filter(None, mask.split(",")):
        field = _UPDATABLE.get(re.sub(r"([A-Z])", lambda m: "_" + m.group(1).lower(), path.strip()))
        if field is None:
            raise _invalid("update_mask", f"Field {path} of a connector cannot be updated.")
        if field in call.body:
            doc[field] = call.body[field]
            doc.pop(field.replace("Instances", "Throughput") if field.endswith("Instances") else "", None)
    doc = _sized(doc) | {"state": "UPDATING"}
    call.cloud.store.put(KIND, doc["name"], doc)
    return _operation(call, "update", doc)


@SERVICE.method(f"{_BASE}.connectors.get", permission="vpcaccess.connectors.get")
def get(call: Call) -> Doc:
    """https://cloud.google.com/vpc/docs/reference/vpcaccess/rest/v1/projects.locations.connectors/get"""
    return _existing(call)


@SERVICE.method(f"{_BASE}.connectors.list", permission="vpcaccess.connectors.list")
def list_(call: Call) -> Doc:
    """https://cloud.google.com/vpc/docs/reference/vpcaccess/rest/v1/projects.locations.connectors/list"""
    parent = _key(call, "parent")
    stem = parent.removesuffix("-") if parent.endswith("/-") else f"{parent}/connectors/"
    return page(call, "connectors", [doc for _, doc in call.cloud.store.list(KIND, stem)])


@SERVICE.method(f"{_BASE}.connectors.delete", permission="vpcaccess.connectors.delete")
def delete(call: Call) -> Operation:
    """https://cloud.google.com/vpc/docs/reference/vpcaccess/rest/v1/projects.locations.connectors/delete"""
    doc = _existing(call)
    call.cloud.store.put(KIND, doc["name"], doc | {"state": "DELETING"})
    return _operation(call, "delete", doc)


@SERVICE.action("delete")
async def finish_delete(cloud: Cloud, op: Doc) -> Doc | None:
    """The connector is gone."""
    op["metadata"] |= {"endTime": now()}
    cloud.store.delete(KIND, op["args"]["name"])
    return {"@type": "type.googleapis.com/google.protobuf.Empty"}


@SERVICE.method(f"{_BASE}.operations.get", permission="vpcaccess.operations.get")
def get_operation(call: Call) -> Operation:
    """https://cloud.google.com/vpc/docs/reference/vpcaccess/rest/v1/projects.locations.operations/get"""
    name = _key(call)
    op = call.cloud.operations.get(name.rsplit("/", 1)[-1])
    if op is None or op["service"] != "vpcaccess" or f"{op['scope']}/operations/{op['id']}" != name:
        raise ApiError(404, f"Operation {name} is not found.")
    return op


@SERVICE.method(f"{_BASE}.operations.list", permission="vpcaccess.operations.list")
def list_operations(call: Call) -> Doc:
    """https://cloud.google.com/vpc/docs/reference/vpcaccess/rest/v1/projects.locations.operations/list"""
    found = call.cloud.operations.all(service="vpcaccess", scope=_key(call))
    return page(call, "operations", [call.cloud.operations.render(op, SERVICE.host) for op in found])


@SERVICE.method(f"{_BASE}.list", permission="vpcaccess.locations.list")
def list_locations(call: Call) -> Doc:
    """https://cloud.google.com/vpc/docs/reference/vpcaccess/rest/v1/projects.locations/list"""
    found = [{"name": f"projects/{call.project_id}/locations/{r}", "locationId": r} for r in REGIONS]
    return page(call, "locations", found)
