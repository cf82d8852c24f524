"""What the public zones of this cloud answer, for the services that look names up.

A name that is in no public zone here is delegated to somebody else's servers, of which nothing is known.
"""

from __future__ import annotations

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.dns.common import SETS, ZONES

_CHAIN = 8  # CNAME records that are followed


def zone_of(cloud: Cloud, name: str) -> str | None:
    """Store key of the public zone that is authoritative for a name: the one with the longest DNS name, or None."""
    dotted = f".{_absolute(name)}"
    zones = [
        (len(doc["dnsName"]), key)
        for key, doc in cloud.store.list(ZONES)
        if doc["visibility"] == "public" and dotted.endswith(f".{doc['dnsName'].lower()}")
    ]
    # Of several zones of one name, the first stands for the one that the domain is delegated to.
    longest = max((length for length, _ in zones), default=0)
    return next((key for length, key in zones if length == longest), None)


def lookup(cloud: Cloud, name: str, kind: str) -> list[str] | None:
    """The records of a name, through CNAME records to its last; [] where there are none, None where no zone is here."""
    name = _absolute(name)
    for _ in range(_CHAIN):
        zone = zone_of(cloud, name)
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
