"""Managed zones.

https://cloud.google.com/dns/docs/reference/rest/v1/managedZones
"""

from __future__ import annotations

import re
import secrets

from gcp_sandbox.core import policies
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.dns import common, records
from gcp_sandbox.services.dns.common import (
    CHANGES,
    OPERATIONS,
    SERVICE,
    SETS,
    ZONES,
    Doc,
    invalid,
    missing,
    required,
    with_kinds,
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


@SERVICE.method("dns.managedZones.create", permission="dns.managedZones.create")
def create(call: Call) -> Doc:
    body = {k: v for k, v in call.body.items() if k not in ("id", "creationTime", "nameServers", "kind")}
    for field in ("name", "dnsName"):
        if not body.get(field):
            raise required(f"entity.managedZone.{field}")
    if "description" not in body:
        raise required("entity.managedZone.description")
    if not common.NAME.fullmatch(body["name"]):
        raise invalid("entity.managedZone.name", body["name"])
    if not re.fullmatch(r"([a-zA-Z0-9_-]+\.)+|\.", body["dnsName"]):
        raise invalid("entity.managedZone.dnsName", body["dnsName"])
    if call.cloud.store.peek(ZONES, zone_key(call, body["name"])) is not None:
        raise common.exists("entity.managedZone", body["name"])
    body.setdefault("visibility", "public")
    # Zones of one name get different name servers.
    letter = "abcde"[sum(d["dnsName"] == body["dnsName"] for _, d in call.cloud.store.list(ZONES)) % 5]
    servers = [f"ns-cloud-{letter}{n}.googledomains.com." for n in range(1, 5)]
    if body["visibility"] == "private":
        servers = ["ns-gcp-private.googledomains.com."]
    filled = _filled(call, body | {"id": common.number(), "creationTime": now(digits=3), "nameServers": servers})
    soa = f"{servers[0]} cloud-dns-hostmaster.google.com. 1 21600 3600 259200 300"
    with call.cloud.store.atomic():
        doc = call.cloud.store.put(ZONES, zone_key(call, body["name"]), filled)
        first = [
            records.put(call, doc, {"name": doc["dnsName"], "type": kind, "ttl": 21600, "rrdatas": data})
            for kind, data in (("NS", servers), ("SOA", [soa]))
        ]
        records.note(call, doc, first, [])
    return doc


@SERVICE.method("dns.managedZones.get", permission="dns.managedZones.get")
def get(call: Call) -> Doc:
    return zone_of(call)


@SERVICE.method("dns.managedZones.list", permission="dns.managedZones.list")
def list_(call: Call) -> Doc:
    wanted = call.params.get("dnsName")
    found = [d for _, d in call.cloud.store.list(ZONES, zone_key(call, "")) if not wanted or d["dnsName"] == wanted]
    return common.listed(call, "dns#managedZonesListResponse", "managedZones", found)


def _change(call: Call, new: Doc) -> Doc:
    old = zone_of(call)
    for field in ("name", "dnsName", "visibility"):
        if new.get(field, old[field]) != old[field]:
            raise ApiError(400, f"The 'entity.managedZone.{field}' parameter cannot be changed.", reason="invalid")
    kept = {k: old[k] for k in ("id", "creationTime", "nameServers", "name", "dnsName", "visibility")}
    doc = call.cloud.store.put(ZONES, zone_key(call, old["name"]), _filled(call, new | kept))
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
    return _change(call, await common.patched(call, zone_of(call)))


@SERVICE.method("dns.managedZones.update", permission="dns.managedZones.update")
def update(call: Call) -> Doc:
    return _change(call, call.body)


@SERVICE.method("dns.managedZones.delete", permission="dns.managedZones.delete")
def delete(call: Call) -> Doc:
    zone = zone_of(call)
    key = zone_key(call, zone["name"])
    sets = call.cloud.store.list(SETS, key + "/rrsets/")
    if any(not (d["name"] == zone["dnsName"] and d["type"] in ("NS", "SOA")) for _, d in sets):
        text = (
            f"The resource named '{zone['name']}' cannot be deleted because it contains one or more 'resource records'."
        )
        raise ApiError(400, text, reason="containerNotEmpty")
    with call.cloud.store.atomic():
        for kind in (SETS, CHANGES, OPERATIONS):
            for inner, _ in call.cloud.store.list(kind, key + "/"):
                call.cloud.store.delete(kind, inner)
        call.cloud.store.delete(ZONES, key)
    call.cloud.iam.drop(f"//dns.googleapis.com/{key}")
    return {}


@SERVICE.method("dns.managedZoneOperations.get", permission="dns.managedZoneOperations.get")
def get_operation(call: Call) -> Doc:
    doc = call.cloud.store.peek(
        OPERATIONS, f"{zone_key(call, zone_of(call)['name'])}/operations/{call.params['operation']}"
    )
    if doc is None:
        raise missing("parameters.operation", call.params["operation"])
    return doc


@SERVICE.method("dns.managedZoneOperations.list", permission="dns.managedZoneOperations.list")
def list_operations(call: Call) -> Doc:
    found = [d for _, d in call.cloud.store.list(OPERATIONS, zone_key(call, zone_of(call)["name"]) + "/")]
    return common.listed(call, "dns#managedZoneOperationsListResponse", "operations", found)


def _full_name(call: Call) -> str:
    return f"//dns.googleapis.com/{zone_key(call, call.params['resource'].rpartition('/')[2])}"


def _named(call: Call) -> str:
    return zone_of(call, call.params["resource"].rpartition("/")[2])["name"]


policies.serve(SERVICE, "dns.managedZones", _full_name, "dns.managedZones", exists=_named)
