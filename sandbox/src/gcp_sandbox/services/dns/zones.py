"""Managed zones.

https://cloud.google.com/dns/docs/reference/rest/v1/managedZones
"""

from __future__ import annotations

import re
import secrets

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.masks import patched
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.resources import Collection, serve
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.dns import common, records
from gcp_sandbox.services.dns.common import (
    CHANGES,
    OPERATIONS,
    SERVICE,
    SETS,
    Doc,
    invalid,
    missing,
    required,
    with_kinds,
    zone_at,
    zone_key,
    zone_of,
)

# What only a private zone can have, and which permission on a network it needs.
_PRIVATE = ("forwardingConfig", "peeringConfig", "reverseLookupConfig", "serviceDirectoryConfig")


@SERVICE.method("dns.projects.get", permission="dns.projects.get")
def project(call: Call) -> Doc:
    quota = {
        "kind": "dns#quota",
        "managedZones": 10000,
        "resourceRecordSetsPerManagedZone": 10000,
        "policies": 100,
        "rrsetAdditionsPerChange": 1000,
        "rrsetDeletionsPerChange": 1000,
        "resourceRecordsPerRrset": 100,
    }
    return {"kind": "dns#project", "number": call.project_number, "id": call.project_id, "quota": quota}


def _filled(call: Call, doc: Doc) -> Doc:
    """A zone, checked and completed."""
    where = "entity.managedZone"
    if doc["visibility"] not in ("public", "private"):
        raise invalid(f"{where}.visibility", doc["visibility"])
    private = doc["visibility"] == "private"
    seen = doc.get("privateVisibilityConfig", {})
    if not any(seen.get(field) for field in ("networks", "gkeClusters")):
        doc.pop("privateVisibilityConfig", None)
    elif not private:
        raise invalid(f"{where}.privateVisibilityConfig", "a public zone has no networks")
    for field in _PRIVATE:
        if field in doc and not private:
            raise invalid(f"{where}.{field}", "only a private zone can have it")
    if sum(field in doc for field in ("forwardingConfig", "peeringConfig", "serviceDirectoryConfig")) > 1:
        raise ApiError(400, "A zone can either forward, or peer, or be of Service Directory.", reason="invalid")
    if "forwardingConfig" in doc and not any(doc["forwardingConfig"].values()):
        raise required(f"{where}.forwardingConfig.targetNameServers")
    common.check_networks(call, seen.get("networks", []) if private else [], "dns.networks.bindPrivateDNSZone")
    if "peeringConfig" in doc:
        target = doc["peeringConfig"].get("targetNetwork", {})
        common.check_networks(call, [target], "dns.networks.targetWithPeeringZone")
    secured = doc.get("dnssecConfig", {})
    if secured.get("state", "off") not in ("off", "on", "transfer"):
        raise invalid(f"{where}.dnssecConfig.state", secured["state"])
    if secured.get("state", "off") != "off":
        if private:
            raise invalid(f"{where}.dnssecConfig.state", secured["state"])
        doc["dnssecConfig"] = {
            "nonExistence": "nsec3",
            "defaultKeySpecs": [
                {"keyType": "keySigning", "algorithm": "rsasha256", "keyLength": 2048},
                {"keyType": "zoneSigning", "algorithm": "rsasha256", "keyLength": 1024},
            ],
        } | secured
    return with_kinds(call, "ManagedZone", {"cloudLoggingConfig": {}} | doc)


def _ident(call: Call) -> str:
    body = call.body
    for field in ("name", "dnsName"):
        if not body.get(field):
            raise required(f"entity.managedZone.{field}")
    if "description" not in body:
        raise required("entity.managedZone.description")
    if not common.NAME.fullmatch(body["name"]):
        raise invalid("entity.managedZone.name", body["name"])
    if not re.fullmatch(r"([a-zA-Z0-9_-]+\.)+|\.", body["dnsName"]):
        raise invalid("entity.managedZone.dnsName", body["dnsName"])
    return str(body["name"])


def _born(call: Call, key: str, body: Doc, old: Doc | None) -> Doc:
    body.setdefault("visibility", "public")
    # Zones of one name get different name servers.
    letter = "abcde"[sum(d["dnsName"] == body["dnsName"] for _, d in call.cloud.store.list(ZONES.kind)) % 5]
    servers = [f"ns-cloud-{letter}{n}.googledomains.com." for n in range(1, 5)]
    if body["visibility"] == "private":
        servers = ["ns-gcp-private.googledomains.com."]
    return _filled(call, body | {"id": common.number(), "creationTime": now(digits=3), "nameServers": servers})


def _first_records(call: Call, key: str, zone: Doc) -> None:
    soa = f"{zone['nameServers'][0]} cloud-dns-hostmaster.google.com. 1 21600 3600 259200 300"
    first = [
        records.put(call, zone, {"name": zone["dnsName"], "type": kind, "ttl": 21600, "rrdatas": data})
        for kind, data in (("NS", zone["nameServers"]), ("SOA", [soa]))
    ]
    records.note(call, zone, first, [])


def _list(call: Call, found: list[Doc]) -> Doc:
    wanted = call.params.get("dnsName")
    found = [zone for zone in found if not wanted or zone["dnsName"] == wanted]
    return common.listed(call, "dns#managedZonesListResponse", "managedZones", found)


def _erase(call: Call, key: str, zone: Doc) -> Doc:
    sets = call.cloud.store.list(SETS, key + "/rrsets/")
    if any(not (d["name"] == zone["dnsName"] and d["type"] in ("NS", "SOA")) for _, d in sets):
        text = (
            f"The resource named '{zone['name']}' cannot be deleted because it contains one or more 'resource records'."
        )
        raise ApiError(400, text, reason="containerNotEmpty")
    ZONES.remove(call.cloud, key)
    return {}


ZONES = Collection(
    SERVICE,
    "dns.managedZones",
    common.ZONES,
    output=("id", "creationTime", "nameServers"),
    children=(SETS, CHANGES, OPERATIONS),
    key=zone_at,
    parent=lambda call: f"projects/{call.project_id}",
    ident=_ident,
    prepare=_born,
    after=_first_records,
    listing=_list,
    erase=_erase,
    missing=lambda key: missing("parameters.managedZone", key.rpartition("/")[2]),
    taken=lambda key: common.exists("entity.managedZone", key.rpartition("/")[2]),
)
serve(ZONES, "create get list delete policy")
common.serve_in_zone(
    OPERATIONS,
    "operations",
    "operation",
    lambda call, found: common.listed(call, "dns#managedZoneOperationsListResponse", "operations", found),
)


def _change(call: Call, new: Doc) -> Doc:
    old = zone_of(call)
    for field in ("name", "dnsName", "visibility"):
        if new.get(field, old[field]) != old[field]:
            raise ApiError(400, f"The 'entity.managedZone.{field}' parameter cannot be changed.", reason="invalid")
    kept = {k: old[k] for k in ("id", "creationTime", "nameServers", "name", "dnsName", "visibility")}
    doc = call.cloud.store.put(ZONES.kind, zone_key(call, old["name"]), _filled(call, new | kept))
    op = {
        "kind": "dns#operation",
        "id": secrets.token_hex(16),
        "startTime": now(digits=3),
        "status": "done",
        "type": "UPDATE",
        "user": call.principal.email,
        "zoneContext": {"oldValue": old, "newValue": doc},
    }
    return call.cloud.store.put(OPERATIONS, f"{zone_key(call, old['name'])}/operations/{op['id']}", op)


@SERVICE.method("dns.managedZones.patch", permission="dns.managedZones.update")
async def patch(call: Call) -> Doc:
    return _change(call, await patched(call, zone_of(call)))


@SERVICE.method("dns.managedZones.update", permission="dns.managedZones.update")
def update(call: Call) -> Doc:
    return _change(call, call.body)
