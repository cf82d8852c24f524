"""What the zones of this cloud answer, for the services that look names up: the public ones, and to clients in a VPC
network first the private ones of that network.

A name that is in no zone here is delegated to somebody else's servers, of which nothing is known.
"""

from __future__ import annotations

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.dns.common import SETS, ZONES, Doc

_CHAIN = 8  # CNAME records that are followed


def zone_of(cloud: Cloud, name: str, network: str = "") -> str | None:
    """Store key of the zone that answers for a name, in a network (store key) or on the internet, or None.

    It is the one with the longest DNS name, of the network's private zones before the public ones.
    """
    dotted = f".{_absolute(name)}"
    zones = [
        (doc["visibility"] == "private", len(doc["dnsName"]), key)
        for key, doc in cloud.store.list(ZONES)
        if _is_seen(doc, network) and dotted.endswith(f".{doc['dnsName'].lower()}")
    ]
    # Of several zones of one name, the first stands for the one that the domain is delegated to.
    best = max((zone[:2] for zone in zones), default=None)
    return next((zone[2] for zone in zones if zone[:2] == best), None)


def _is_seen(zone: Doc, network: str) -> bool:
    """Whether a zone answers to clients in a network, or, without one, on the internet."""
    if zone["visibility"] == "public":
        return True
    bound = zone.get("privateVisibilityConfig", {}).get("networks", ())
    return bool(network) and any(entry["networkUrl"].endswith(f"/{network}") for entry in bound)


def lookup(cloud: Cloud, name: str, kind: str, network: str = "") -> list[str] | None:
    """The records of a name, through CNAME records to its last; [] where there are none, None where no zone is here.

    network: store key of the one that the client is in, "" on the internet.
    """
    name = _absolute(name)
    for _ in range(_CHAIN):
        zone = zone_of(cloud, name, network)
        if zone is None:
            return None
        parent = "*." + name.partition(".")[2]
        own = [f"{zone}/rrsets/{name}/", f"{zone}/rrsets/{parent}/"]
        sets = next((found for prefix in own if (found := cloud.store.list(SETS, prefix))), [])
        kinds = {doc["type"]: doc for _, doc in sets}
        if kind in kinds:
            return list(kinds[kind]["rrdatas"])
        if "CNAME" not in kinds:
            return []
        name = _absolute(kinds["CNAME"]["rrdatas"][0])
    return []


def _absolute(name: str) -> str:
    return name.lower().removesuffix(".") + "."
