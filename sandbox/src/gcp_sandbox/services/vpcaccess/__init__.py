"""Serverless VPC Access: connectors by which Cloud Run reaches a VPC network.

https://cloud.google.com/vpc/docs/reference/vpcaccess/rest
"""

from __future__ import annotations

import ipaddress
from typing import Any

from gcp_sandbox.core.errors import ApiError, bad_request
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.resources import Collection, name_of, parameter, serve, serve_locations, serve_operations
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.run.names import REGIONS

SERVICE = Service("vpcaccess", "v1", "v1beta1")
Doc = dict[str, Any]
_BASE = "vpcaccess.projects.locations"
_NAME = "[a-z][a-z0-9-]{0,23}[a-z0-9]"
_MUTABLE = ("minInstances", "maxInstances", "machineType")
_PREFIX = 28


def _named(call: Call) -> str:
    text = name_of(call)
    location = text.split("/")[3] if text.count("/") >= 3 else "-"
    if location not in REGIONS and location != "-":
        raise ApiError(403, f"Location {location} is not found or access is unauthorized.")
    return text


def _invalid(field: str, text: str) -> ApiError:
    return ApiError(400, text, details=[bad_request(field, text)])


def _prepared(call: Call, key: str, doc: Doc, old: Doc | None) -> Doc:
    if old is None:
        _place(call, key, doc)
        return {"name": key} | _sized(doc)
    doc |= {field: old[field] for field in _MUTABLE if field not in doc}  # what a mask names without a value stays
    for bound in ("min", "max"):
        if doc[f"{bound}Instances"] != old[f"{bound}Instances"]:
            del doc[f"{bound}Throughput"]
    return {"name": key} | _sized(doc)


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


def _operation(call: Call, method: str, key: str) -> Doc:
    word = method.replace("patch", "update").capitalize()
    metadata = {
        "@type": "type.googleapis.com/google.cloud.vpcaccess.v1.OperationMetadata",
        "createTime": now(),
        "target": key,
        "method": f"google.cloud.vpcaccess.{call.method.api.version}.VpcAccessService.{word}Connector",
    }
    return {"metadata": metadata}


serve(
    Collection(
        SERVICE,
        f"{_BASE}.connectors",
        "vpcaccess.connectors",
        mutable=_MUTABLE,
        operates="create patch delete",
        states={"create": "CREATING", "patch": "UPDATING", "delete": "DELETING", "done": "READY"},
        type="google.cloud.vpcaccess.v1.Connector",
        named=_named,
        ident=parameter(
            "connectorId",
            _NAME,
            lambda text: _invalid("connector_id", f"Connector ID must follow the pattern ^{_NAME}$."),
        ),
        prepare=_prepared,
        operation=_operation,
        missing=lambda name: ApiError(404, "The connector is not found."),
        taken=lambda name: ApiError(409, f"Requested entity already exists: {name}"),
        wrong=lambda path: _invalid("update_mask", f"Field {path} of a connector cannot be updated."),
    ),
    "create get list patch delete",
)
serve_operations(
    SERVICE,
    f"{_BASE}.operations",
    "get list",
    permission="vpcaccess.operations",
    named=_named,
    missing=lambda name: ApiError(404, f"Operation {name} is not found."),
)
serve_locations(SERVICE, _BASE, "list", {region: {} for region in REGIONS})
