"""Service Networking: private connections of a VPC to the network in which Google runs managed services.

https://cloud.google.com/service-infrastructure/docs/service-networking/reference/rest
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from gcp_sandbox.core import orgpolicy, projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.resources import Collection, serve, serve_operations
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.compute.dialect import compute_time

Doc = dict[str, Any]
SERVICE = Service("servicenetworking", "v1")
KIND = "servicenetworking.connections"
# Networks whose last instance was deleted -> until when the connection counts as in use.
_HELD = "servicenetworking.held"
_DELETE = "servicenetworking.services.connections.deleteConnection"
PEERING = "servicenetworking-googleapis-com"
_PRODUCER = "servicenetworking.googleapis.com"
_TYPE = "type.googleapis.com/google.cloud.servicenetworking.v1"
_BASE = "https://www.googleapis.com/compute/v1/"


def connected(cloud: Cloud, network_key: str) -> bool:
    """Whether a network (key of compute.networks) has a private connection whose peering is ACTIVE."""
    doc = cloud.store.peek(KIND, f"{network_key}/{_PRODUCER}")
    return doc is not None and _peering(cloud, network_key) is not None


def ranges(cloud: Cloud, network_key: str) -> list[str]:
    """The ranges from which managed services of a network get their addresses."""
    doc = cloud.store.peek(KIND, f"{network_key}/{_PRODUCER}") or {}
    place = network_key.rsplit("/", 2)[0]
    keys = [f"{place}/addresses/{name}" for name in doc.get("reservedPeeringRanges", ())]
    found = [cloud.store.peek("compute.addresses", key) for key in keys]
    return [f"{address['address']}/{address['prefixLength']}" for address in found if address]


def _peering(cloud: Cloud, network_key: str) -> Doc | None:
    network = cloud.store.peek("compute.networks", network_key) or {}
    for peering in network.get("peerings", ()):
        if peering["name"] == PEERING and peering["state"] == "ACTIVE":
            return peering
    return None


# -- which project and network a call is about -----------------------------


def _network_name(call: Call) -> str:
    return call.params.get("network") or call.body.get("network") or call.body.get("consumerNetwork") or ""


def _project_of(call: Call) -> str | None:
    for text in (_network_name(call), call.params.get("parent", ""), call.params.get("name", "")):
        found = re.search(r"(?:^|/)projects/([^/]+)/global/networks/", f"{text}/")
        if found:
            return found.group(1)
    found = re.match(r"operations/pssn\.p\d+-(\d+)-", call.params.get("name", ""))
    return found.group(1) if found else None


SERVICE.project_of = _project_of


def _network(call: Call) -> str:
    """The key of the network that a call names.  Raises ApiError."""
    text = _network_name(call)
    found = re.fullmatch(r"projects/([^/]+)/global/networks/([^/]+)", text)
    if found is None:
        raise ApiError(
            400, f"Invalid network name '{text}': it must be projects/{{project number}}/global/networks/{{name}}."
        )
    key = f"projects/{call.project_id}/global/networks/{found.group(2)}"
    if call.cloud.store.peek("compute.networks", key) is None:
        # Google cannot tell a network that is not there from one that the caller may not see.
        raise ApiError(403, f"Permission denied to get network '{text}', or it does not exist.", reason="forbidden")
    return key


def _parent(call: Call) -> None:
    parent = call.params.get("parent") or call.params.get("name", "")
    name = parent.split("/")[1] if "/" in parent else parent
    if name not in (_PRODUCER, "-"):
        raise ApiError(404, f"Service '{name}' is not found or does not support private connections.")


def _shown(call: Call, key: str, doc: Doc) -> Doc:
    number = (projects.find(call.cloud, key.split("/")[1]) or {}).get("projectNumber", "")
    return {
        "network": f"projects/{number}/global/networks/{key.split('/')[4]}",
        "peering": PEERING,
        "reservedPeeringRanges": doc["reservedPeeringRanges"],
        "service": f"services/{_PRODUCER}",
    }


def _start(call: Call, verb: str, key: str, **kwargs: Any) -> Operation:
    return call.operation(
        verb,
        key,
        action=f"servicenetworking.{verb}",
        latency="servicenetworking.connections",
        extra=_extra(call),
        args={"key": key, **kwargs},
    )


def _extra(call: Call) -> Doc:
    return {"prefix": f"pssn.p{10 + secrets.randbelow(89)}-{call.project_number}-"}


# -- connections -----------------------------------------------------------


@SERVICE.method("servicenetworking.services.connections.list", permission="servicenetworking.services.get")
def _list(call: Call) -> Doc:
    _parent(call)
    key = _network(call)
    doc = call.cloud.store.peek(KIND, f"{key}/{_PRODUCER}")
    if doc is None or not connected(call.cloud, key):
        return {}
    return {"connections": [_shown(call, key, doc)]}


def _ranges(call: Call, key: str) -> list[str]:
    """The allocated ranges that a request names.  Raises ApiError where one is not there for this network."""
    names: list[str] = call.body.get("reservedPeeringRanges", [])
    for name in names:
        address = call.cloud.store.peek("compute.addresses", f"projects/{call.project_id}/global/addresses/{name}")
        if address is None or address.get("purpose") != "VPC_PEERING" or address.get("network") != _BASE + key:
            raise ApiError(400, f"Allocated IP range '{name}' not found in network.", status="FAILED_PRECONDITION")
    return names


@SERVICE.method("servicenetworking.services.connections.create", permission="servicenetworking.services.addPeering")
def _create(call: Call) -> Operation:
    _parent(call)
    key = _network(call)
    names = _ranges(call, key)
    if not names:
        raise ApiError(400, "At least one allocated IP range must be given in reserved_peering_ranges.")
    return _start(call, "create", key, ranges=names, response=_shown(call, key, {"reservedPeeringRanges": names}))


@SERVICE.action("create")
async def _do_create(cloud: Cloud, op: Doc) -> Doc:
    key, names = op["args"]["key"], op["args"]["ranges"]
    doc = cloud.store.peek(KIND, f"{key}/{_PRODUCER}")
    # The producer's side holds its ranges even after the consumer has removed the peering.
    if doc is not None and set(doc["reservedPeeringRanges"]) != set(names):
        held = ", ".join(doc["reservedPeeringRanges"])
        text = (
            "Cannot modify allocated ranges in CreateConnection. Please use UpdateConnection.\n"
            f"Existing allocated IP ranges: [{held}]."
        )
        raise ApiError(400, text, status="FAILED_PRECONDITION")
    return _connect(cloud, op)


@SERVICE.method("servicenetworking.services.connections.patch", permission="servicenetworking.services.addPeering")
def _patch(call: Call) -> Operation:
    _parent(call)
    key = _network(call)
    names = _ranges(call, key)
    doc = call.cloud.store.peek(KIND, f"{key}/{_PRODUCER}")
    if doc is not None and not set(doc["reservedPeeringRanges"]) <= set(names) and not call.params.get("force"):
        raise ApiError(
            400,
            "Allocated ranges cannot be removed from a connection unless force is set.",
            status="FAILED_PRECONDITION",
        )
    return _start(call, "patch", key, ranges=names, response=_shown(call, key, {"reservedPeeringRanges": names}))


@SERVICE.action("patch")
async def _do_patch(cloud: Cloud, op: Doc) -> Doc:
    return _connect(cloud, op)


def _connect(cloud: Cloud, op: Doc) -> Doc:
    """Peer the network with the producer's, and note the connection."""
    key, names = op["args"]["key"], op["args"]["ranges"]
    network = cloud.store.get("compute.networks", key)
    if network is None:
        raise ApiError(404, f"The resource '{key}' was not found")
    if _peering(cloud, key) is None:
        tenant = f"projects/{secrets.token_hex(8)}p-tp/global/networks/servicenetworking"
        if not orgpolicy.permits(cloud, key.split("/")[1], "compute.restrictVpcPeering", tenant):
            number = (projects.find(cloud, key.split("/")[1]) or {}).get("projectNumber", "")
            text = (
                f"Constraint constraints/compute.restrictVpcPeering violated for project {number}. Peering the network "
                f"{tenant} is not allowed."
            )
            raise ApiError(400, text, status="FAILED_PRECONDITION")
        others = [p for p in network.get("peerings", ()) if p["name"] != PEERING]
        network["peerings"] = [
            *others,
            {
                "name": PEERING,
                "network": _BASE + tenant,
                "state": "ACTIVE",
                "stateDetails": f"[{compute_time()}]: Connected.",
                "updateStrategy": "INDEPENDENT",
                "autoCreateRoutes": True,
                "exchangeSubnetRoutes": True,
                "exportCustomRoutes": False,
                "importCustomRoutes": False,
                "exportSubnetRoutesWithPublicIp": False,
                "importSubnetRoutesWithPublicIp": False,
                "stackType": "IPV4_ONLY",
            },
        ]
        cloud.store.put("compute.networks", key, network)
    cloud.store.put(KIND, f"{key}/{_PRODUCER}", {"network": key, "reservedPeeringRanges": names})
    return {"@type": f"{_TYPE}.Connection", **op["args"]["response"]}


@SERVICE.method(_DELETE, permission="servicenetworking.services.deleteConnection")
def _delete(call: Call) -> Operation:
    _parent(call)
    key = _network(call)
    known = call.cloud.store.peek(KIND, f"{key}/{_PRODUCER}") is not None
    if call.params["name"].rsplit("/", 1)[1] not in (PEERING, "-") or not known:
        raise ApiError(404, f"Connection '{call.params['name']}' was not found for network '{_network_name(call)}'.")
    return _start(call, "delete", key)


@SERVICE.action("delete")
async def _do_delete(cloud: Cloud, op: Doc) -> Doc:
    key = op["args"]["key"]
    if users(cloud, key) or _held(cloud, key):
        text = (
            "Failed to delete connection; Producer services (e.g. CloudSQL, Cloud Memstore, etc.) are still using this "
            "connection."
        )
        raise ApiError(400, text, status="FAILED_PRECONDITION")
    network = cloud.store.get("compute.networks", key)
    if network:
        network["peerings"] = [p for p in network.get("peerings", ()) if p["name"] != PEERING]
        if not network["peerings"]:
            del network["peerings"]
        cloud.store.put("compute.networks", key, network)
    cloud.store.delete(KIND, f"{key}/{_PRODUCER}")
    return {"@type": "type.googleapis.com/google.protobuf.Empty"}


def released(cloud: Cloud, instance: Doc) -> None:
    """Note that an instance has been deleted: for a while, the producer's side still uses its network's connection."""
    network_key = _network_of(cloud, instance)
    seconds = cloud.faults.held(_DELETE) or cloud.latency("servicenetworking.release")
    if network_key and seconds:
        cloud.store.put(_HELD, network_key, {"until": time.time() + seconds})


def _held(cloud: Cloud, network_key: str) -> bool:
    doc = cloud.store.peek(_HELD, network_key)
    return doc is not None and doc["until"] > time.time()


def users(cloud: Cloud, network_key: str) -> list[str]:
    """Keys of the SQL instances whose private address is in a network."""
    return [key for key, doc in cloud.store.list("sqladmin.instances") if _network_of(cloud, doc) == network_key]


def _network_of(cloud: Cloud, instance: Doc) -> str:
    """The key of the network in which an instance has its private address, or ""."""
    private = instance.get("settings", {}).get("ipConfiguration", {}).get("privateNetwork", "")
    found = re.search(r"projects/([^/]+)/global/networks/([^/]+)$", private)
    if found is None:
        return ""
    project = (projects.find(cloud, found.group(1)) or {}).get("projectId", found.group(1))
    return f"projects/{project}/global/networks/{found.group(2)}"


# -- the consumer's view of one network ------------------------------------

_NETWORK = "servicenetworking.services.projects.global.networks"


def _consumer(call: Call) -> str:
    """The key of services/S/projects/P/global/networks/N(/…)."""
    name = call.params.get("parent") or call.params["name"]
    network = re.match(r"services/[^/]+/projects/[^/]+/global/networks/([^/]+)", name)
    key = f"projects/{call.project_id}/global/networks/{network.group(1) if network else ''}"
    if call.cloud.store.peek("compute.networks", key) is None:
        raise ApiError(404, f"Network '{name}' was not found.")
    if not connected(call.cloud, key):
        raise ApiError(404, f"No private connection of network '{key}' with {_PRODUCER} was found.")
    return key


@SERVICE.method(f"{_NETWORK}.get", permission="servicenetworking.services.get")
def _config(call: Call) -> Doc:
    key = _consumer(call)
    peering = _peering(call.cloud, key) or {}
    out: Doc = {
        "consumerExportCustomRoutes": peering.get("exportCustomRoutes", False),
        "consumerImportCustomRoutes": peering.get("importCustomRoutes", False),
        "consumerExportSubnetRoutesWithPublicIp": peering.get("exportSubnetRoutesWithPublicIp", False),
        "consumerImportSubnetRoutesWithPublicIp": peering.get("importSubnetRoutesWithPublicIp", False),
        "producerNetwork": peering.get("network", "").removeprefix(_BASE),
        "reservedRanges": [],
    }
    for name in (call.cloud.store.peek(KIND, f"{key}/{_PRODUCER}") or {})["reservedPeeringRanges"]:
        address = call.cloud.store.peek("compute.addresses", f"projects/{call.project_id}/global/addresses/{name}")
        if address:
            out["reservedRanges"].append(
                {"name": name, "address": address["address"], "ipPrefixLength": address["prefixLength"]}
            )
    return {k: v for k, v in out.items() if v not in (False, [])}


def _dns_parent(call: Call) -> str:
    key = _consumer(call)
    return f"services/{_PRODUCER}/projects/{call.project_number}/global/networks/{key.split('/')[4]}"


def _dns_name(call: Call) -> str:
    _consumer(call)
    name, suffix = call.body.get("name", ""), call.body.get("dnsSuffix", "")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise ApiError(400, f"Invalid peered DNS domain name '{name}'.")
    if not re.fullmatch(r"([A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?\.)+", suffix):
        raise ApiError(400, f"Invalid DNS suffix '{suffix}': it must end with a dot.")
    return str(name)


def _about(call: Call, method: str, key: str) -> Doc:
    return {"scope": "", "metadata": {}, "latency": "servicenetworking.connections", "extra": _extra(call)}


DOMAINS = Collection(
    SERVICE,
    f"{_NETWORK}.peeredDnsDomains",
    "servicenetworking.peeredDnsDomains",
    permission="servicenetworking.services",
    verbs={"list": "listPeeredDnsDomains", "create": "createPeeredDnsDomain", "delete": "deletePeeredDnsDomain"},
    output=(),
    operates="create delete",
    type="google.cloud.servicenetworking.v1.PeeredDnsDomain",
    key=lambda call: f"{_dns_parent(call)}/peeredDnsDomains/{call.params['name'].rsplit('/', 1)[1]}",
    parent=_dns_parent,
    ident=_dns_name,
    operation=_about,
    missing=lambda name: ApiError(404, f"Peered DNS domain '{name.rsplit('/', 1)[1]}' was not found."),
    taken=lambda name: ApiError(409, f"Peered DNS domain '{name.rsplit('/', 1)[1]}' already exists."),
)
serve(DOMAINS, "create list delete")
serve_operations(
    SERVICE,
    "servicenetworking.operations",
    "get",
    permission="servicenetworking.operations",
    missing=lambda name: ApiError(404, f"Operation '{name}' was not found."),
)
