"""Proxy-only subnets, from which Envoy-based regional load balancers take the addresses of their proxies.

https://cloud.google.com/load-balancing/docs/proxy-only-subnets
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.compute.base import PENDING, Doc, invalid, key_of
from gcp_sandbox.services.compute.kinds import Draft

PURPOSES = ("REGIONAL_MANAGED_PROXY", "GLOBAL_MANAGED_PROXY")
# Envoy-based schemes, whose regional rules have their proxies in such a subnet.
_SCHEMES = ("INTERNAL_MANAGED", "EXTERNAL_MANAGED")
_SMALLEST = 26
_NOT_THERE = ("logConfig", "enableFlowLogs", "privateIpGoogleAccess", "secondaryIpRanges")


def prepare(draft: Draft) -> None:
    """Check a proxy-only subnet: its size, what it cannot have, and that no other one is active."""
    doc = draft.doc
    role = doc.setdefault("role", "ACTIVE")
    for field in _NOT_THERE:
        if draft.given.get(field) not in (None, False, [], ""):
            text = f"Invalid field set in subnetwork with purpose {doc['purpose']}."
            raise invalid(field, draft.given[field], text)
    if doc.get("ipCidrRange") and ipaddress.IPv4Network(doc["ipCidrRange"], strict=False).prefixlen > _SMALLEST:
        text = f"A subnetwork with purpose {doc['purpose']} has a prefix length of at most {_SMALLEST}."
        raise invalid("ipCidrRange", doc["ipCidrRange"], text)
    if role != "ACTIVE":
        return
    for key, other in (
        *draft.cloud.store.list("compute.subnetworks"),
        *draft.cloud.store.list(PENDING),
    ):
        if key != draft.key and _is_active(other, doc["purpose"], doc["network"], draft.region):
            text = (
                f"There is already an active subnetwork with purpose {doc['purpose']}, '{other['name']}', in this region of the "
                "network."
            )
            raise invalid("role", role, text)


def _is_active(subnet: Doc, purpose: str, network: str, region: str) -> bool:
    place = (subnet.get("purpose"), subnet.get("role"), subnet.get("network"))
    return place == (purpose, "ACTIVE", network) and subnet["region"].endswith(f"/{region}")


def require_ordinary(subnet: Doc) -> None:
    """Raise ApiError 400 for a subnet that no address of a load balancer or machine is taken from."""
    if subnet.get("purpose", "PRIVATE") != "PRIVATE":
        raise invalid("subnetwork", subnet["selfLink"], "The subnetwork must have purpose=PRIVATE.")


def require(cloud: Cloud, network: str, region: str, target: str) -> None:
    """Raise ApiError 400 where a region of a network has no active proxy-only subnet."""
    subnets = cloud.store.list("compute.subnetworks")
    if not any(_is_active(doc, "REGIONAL_MANAGED_PROXY", network, region) for _, doc in subnets):
        text = "An active proxy-only subnetwork is required in the same region and VPC as the forwarding rule."
        raise invalid("target", target, text)


def users(cloud: Cloud, subnet: Doc) -> Iterator[str]:
    """Keys of the forwarding rules whose proxies have addresses of a subnet."""
    if subnet.get("purpose") != "REGIONAL_MANAGED_PROXY" or subnet.get("role") != "ACTIVE":
        return
    region = key_of(subnet["region"]).rpartition("/")[2]
    for key, rule in (*cloud.store.list("compute.forwardingRules"), *cloud.store.list(PENDING)):
        here = f"/regions/{region}/" in key and rule.get("network") == subnet["network"]
        if here and rule.get("loadBalancingScheme") in _SCHEMES:
            yield key
