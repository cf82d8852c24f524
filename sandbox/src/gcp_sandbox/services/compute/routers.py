"""Cloud Router, including Cloud NAT.

https://cloud.google.com/compute/docs/reference/rest/v1/routers, https://cloud.google.com/nat/docs
"""

from __future__ import annotations

from collections.abc import Iterator

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.compute.base import NAME, Doc, find, invalid, key_of, link, missing, not_found, parse
from gcp_sandbox.services.compute.kinds import Draft

# Google applies 30 or 120 seconds if tcpTimeWaitTimeoutSec is not set.
_TIME_WAIT = 120
_SUBNETS = ("subnetworks", "nat64Subnetworks")


def prepare(draft: Draft) -> None:
    bgp = draft.doc.get("bgp")
    if bgp:
        if "asn" not in bgp:
            raise missing("resource.bgp.asn")
        bgp.setdefault("advertiseMode", "DEFAULT")
        bgp.setdefault("keepaliveInterval", 20)
    names: set[str] = set()
    for i, nat in enumerate(draft.doc.get("nats", ())):
        name = nat.get("name", "")
        if not NAME.fullmatch(name):
            raise invalid(f"nats[{i}].name", name, f"Must be a match of regex '{NAME.pattern}'")
        if name in names:
            raise invalid(f"nats[{i}].name", name, "NAT names must be unique in a router.")
        names.add(name)
        _nat(draft, f"nats[{i}]", nat)


def _nat(draft: Draft, where: str, nat: Doc) -> None:
    nat.setdefault("type", "PUBLIC")
    nat.setdefault("endpointTypes", ["ENDPOINT_TYPE_VM"])
    nat.setdefault("autoNetworkTier", "PREMIUM")
    nat.setdefault("enableEndpointIndependentMapping", False)
    nat["effectiveTcpTimeWaitTimeoutSec"] = nat.get("tcpTimeWaitTimeoutSec", _TIME_WAIT)
    if not nat.get("sourceSubnetworkIpRangesToNat") and not nat.get("sourceSubnetworkIpRangesToNat64"):
        raise missing(f"resource.{where}.sourceSubnetworkIpRangesToNat")
    if nat["type"] == "PUBLIC":
        option = nat.get("natIpAllocateOption")
        if not option:
            raise missing(f"resource.{where}.natIpAllocateOption")
        if option == "AUTO_ONLY" and nat.get("natIps"):
            raise invalid(f"{where}.natIps", nat["natIps"][0], "NAT IPs cannot be specified with AUTO_ONLY.")
        if option == "MANUAL_ONLY" and not nat.get("natIps"):
            raise invalid(f"{where}.natIps", "", "At least one NAT IP must be specified with MANUAL_ONLY.")
    else:
        if nat.get("natIpAllocateOption") or nat.get("natIps"):
            raise invalid(f"{where}.type", nat["type"], "NAT IPs belong to a public NAT.")
        for j, rule in enumerate(nat.get("rules", ())):
            if not rule.get("action", {}).get("sourceNatActiveRanges"):
                raise invalid(
                    f"{where}.rules[{j}].action.sourceNatActiveRanges",
                    "",
                    "At least one source active range needs to be defined for private NAT",
                )
    if nat["enableEndpointIndependentMapping"] and nat.get("enableDynamicPortAllocation"):
        raise invalid(
            f"{where}.enableEndpointIndependentMapping",
            True,
            "Dynamic Port Allocation and Endpoint Independent Mapping exclude each other.",
        )
    if (nat.get("sourceSubnetworkIpRangesToNat") == "LIST_OF_SUBNETWORKS") != bool(nat.get("subnetworks")):
        raise invalid(
            f"{where}.subnetworks", "", "Subnetworks must be specified with LIST_OF_SUBNETWORKS, and only with it."
        )
    for field in _SUBNETS:
        for j, part in enumerate(nat.get(field, ())):
            part["name"] = _subnet(draft, f"{where}.{field}[{j}].name", part.get("name", ""))


def _subnet(draft: Draft, where: str, text: str) -> str:
    """The link of a subnet of a NAT.  Raises ApiError."""
    key = parse(draft.cloud, text, draft.project)
    if key is None or key.rsplit("/", 2)[1] != "subnetworks":
        raise invalid(where, text, "The URL is malformed.")
    subnet = find(draft.cloud, key)
    if subnet is None:
        raise not_found(key)
    if subnet["network"] != draft.doc["network"] or subnet["region"] != draft.doc["region"]:
        raise invalid(where, text, "The subnetwork must be in the network and the region of the router.")
    return link(key)


def users_of_subnet(cloud: Cloud, key: str) -> Iterator[str]:
    """Keys of the routers with a NAT for a subnet."""
    for user, router in cloud.store.list("compute.routers", f"{key.rsplit('/', 2)[0]}/"):
        named = [part["name"] for nat in router.get("nats", ()) for field in _SUBNETS for part in nat.get(field, ())]
        if key in map(key_of, named):
            yield user


def users_of_address(cloud: Cloud, key: str) -> Iterator[str]:
    """Keys of the routers with a NAT that uses an address."""
    for user, router in cloud.store.list("compute.routers", f"{key.rsplit('/', 2)[0]}/"):
        if any(
            key in map(key_of, [*nat.get("natIps", ()), *nat.get("drainNatIps", ())]) for nat in router.get("nats", ())
        ):
            yield user
