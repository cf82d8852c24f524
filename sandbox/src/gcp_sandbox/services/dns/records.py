"""Record sets, one by one or by changes.

https://cloud.google.com/dns/docs/reference/rest/v1/resourceRecordSets, https://cloud.google.com/dns/docs/reference/rest/v1/changes
"""

from __future__ import annotations

import ipaddress

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.masks import patched
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.resources import Collection, serve
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.dns import common
from gcp_sandbox.services.dns.common import CHANGES, SERVICE, SETS, Doc, invalid, missing, with_kinds, zone_key, zone_of

_TYPES = {
    "A",
    "AAAA",
    "ALIAS",
    "CAA",
    "CNAME",
    "DNSKEY",
    "DS",
    "HTTPS",
    "IPSECKEY",
    "MX",
    "NAPTR",
    "NS",
    "PTR",
    "SOA",
    "SPF",
    "SRV",
    "SSHFP",
    "SVCB",
    "TLSA",
    "TXT",
}
_ADDRESSES = {"A": ipaddress.IPv4Address, "AAAA": ipaddress.IPv6Address}
_POLICIES = ("wrr", "geo", "primaryBackup")


def _key(call: Call, zone: Doc, name: str, kind: str) -> str:
    return f"{zone_key(call, zone['name'])}/rrsets/{name.lower()}/{kind}"


# -- shape -----------------------------------------------------------------


def _filled(call: Call, given: Doc) -> Doc:
    """A record set with all that the API answers: kinds, and its lists even where they are empty."""
    doc: Doc = {"ttl": 0, "rrdatas": [], "signatureRrdatas": []} | given
    policy = dict(doc.get("routingPolicy", {}))
    if "geo" in policy:
        policy["geo"] = _geo(policy["geo"])
    if "wrr" in policy:
        policy["wrr"] = policy["wrr"] | {"items": [_item(item) for item in policy["wrr"].get("items", [])]}
    if "primaryBackup" in policy:
        backup = dict(policy["primaryBackup"])
        if "primaryTargets" in backup:
            backup["primaryTargets"] = _endpoints(backup["primaryTargets"])
        if "backupGeoTargets" in backup:
            backup["backupGeoTargets"] = _geo(backup["backupGeoTargets"])
        policy["primaryBackup"] = backup
    if policy:
        doc["routingPolicy"] = policy
    return with_kinds(call, "ResourceRecordSet", doc)


def _geo(policy: Doc) -> Doc:
    return {"enableFencing": False} | policy | {"items": [_item(item) for item in policy.get("items", [])]}


def _item(item: Doc) -> Doc:
    out: Doc = {"rrdatas": [], "signatureRrdatas": []} | item
    if "healthCheckedTargets" in out:
        out["healthCheckedTargets"] = _endpoints(out["healthCheckedTargets"])
    return out


def _endpoints(targets: Doc) -> Doc:
    return {"externalEndpoints": [], "internalLoadBalancers": []} | targets


# -- checks ----------------------------------------------------------------


def _checked(zone: Doc, given: Doc, where: str) -> Doc:
    name, kind = given.get("name", ""), given.get("type", "")
    if kind not in _TYPES:
        raise invalid(f"{where}.type", kind)
    if not name.lower().endswith("." + zone["dnsName"].lower().lstrip(".")) and name.lower() != zone["dnsName"].lower():
        raise invalid(f"{where}.name", name)
    data, policy = given.get("rrdatas"), given.get("routingPolicy")
    if not data and not policy:
        raise invalid(f"{where}.rrdata", "")
    if data and policy:
        raise ApiError(400, f"'{where}' can have either rrdatas or a routing policy.", reason="invalid")
    if policy and sum(key in policy for key in _POLICIES) != 1:
        raise invalid(f"{where}.routingPolicy", "one of wrr, geo and primaryBackup is needed")
    if kind == "CNAME" and len(data or ()) > 1:
        raise invalid(f"{where}.rrdata", data[1] if data else "")
    for number, text in enumerate(data or ()):
        if kind in _ADDRESSES:
            try:
                _ADDRESSES[kind](text)
            except ValueError:
                raise invalid(f"{where}.rrdata[{number}]", text) from None
    return given


def _free(call: Call, zone: Doc, given: Doc, where: str) -> None:
    """Refuse a set that is there, or that cannot be beside those of its name.  Raises ApiError."""
    name, kind = given["name"], given["type"]
    if call.cloud.store.peek(SETS, _key(call, zone, name, kind)) is not None:
        raise common.exists(where, f"{name} ({kind})")
    beside = [d["type"] for _, d in call.cloud.store.list(SETS, _key(call, zone, name, ""))]
    if beside and "CNAME" in (kind, *beside):
        text = (
            f"The resource record set '{where}' is invalid because the DNS name '{name}' may have either one CNAME resource "
            "record set or resource record sets of other types, but not both."
        )
        raise ApiError(400, text, reason="cnameResourceRecordSetConflict")


def _apex(call: Call, zone: Doc, where: str) -> None:
    """Refuse a zone that has lost its NS or SOA.  Raises ApiError 400."""
    for kind in ("SOA", "NS"):
        if call.cloud.store.peek(SETS, _key(call, zone, zone["dnsName"], kind)) is None:
            text = (
                f"The resource record set '{where}' is invalid because a zone must contain exactly one resource record set "
                f"of type '{kind}' at the apex."
            )
            raise ApiError(400, text, reason="invalidZoneApex")


def put(call: Call, zone: Doc, given: Doc) -> Doc:
    """Write a set, which is checked."""
    doc = _filled(call, given)
    return call.cloud.store.put(SETS, _key(call, zone, doc["name"], doc["type"]), doc)


# -- record sets -----------------------------------------------------------


def _ident(call: Call) -> str:
    zone = zone_of(call)
    given = _checked(zone, call.body, "entity.rrset")
    _free(call, zone, given, "entity.rrset")
    return f"{given['name'].lower()}/{given['type']}"


def _list(call: Call, found: list[Doc]) -> Doc:
    wanted, kind = call.params.get("name"), call.params.get("type")
    if kind and not wanted:
        raise common.required("parameters.name")
    chosen = [d for d in found if (not wanted or d["name"] == wanted) and (not kind or d["type"] == kind)]
    return common.listed(call, "dns#resourceRecordSetsListResponse", "rrsets", chosen)


def _at(call: Call) -> str:
    """Key of the set that a call names.  Raises ApiError 404."""
    key = _key(call, zone_of(call), call.params["name"], call.params["type"])
    if call.cloud.store.peek(SETS, key) is None:
        raise missing("parameters.name", f"{call.params['name']} ({call.params['type']})")
    return key


def _erase(call: Call, key: str, old: Doc) -> Doc:
    with call.cloud.store.atomic():
        call.cloud.store.delete(SETS, key)
        _apex(call, zone_of(call), "entity.rrset")
    return {}


RECORDS = Collection(
    SERVICE,
    "dns.resourceRecordSets",
    SETS,
    segment="rrsets",
    output=(),
    key=_at,
    parent=common.in_zone,
    ident=_ident,
    prepare=lambda call, key, new, old: _filled(call, new),
    listing=_list,
    erase=_erase,
)
serve(RECORDS, "create get list delete")


@SERVICE.method("dns.resourceRecordSets.patch", permission="dns.resourceRecordSets.update")
async def patch(call: Call) -> Doc:
    zone, old = zone_of(call), RECORDS.existing(call)
    # Values and a policy take each other's place.
    either = {"rrdatas", "routingPolicy"}
    known = {k: v for k, v in old.items() if k not in either} if either & call.body.keys() else old
    given = _checked(zone, await patched(call, known), "entity.rrset")
    with call.cloud.store.atomic():
        call.cloud.store.delete(SETS, _key(call, zone, old["name"], old["type"]))
        _free(call, zone, given, "entity.rrset")
        return put(call, zone, given)


# -- changes ---------------------------------------------------------------


def note(call: Call, zone: Doc, additions: list[Doc], deletions: list[Doc]) -> Doc:
    """Record a change; the first one, 0, is the making of the zone."""
    prefix = zone_key(call, zone["name"]) + "/changes/"
    ident = str(len(call.cloud.store.list(CHANGES, prefix)))
    doc = {
        "kind": "dns#change",
        "additions": additions,
        "deletions": deletions,
        "startTime": now(digits=3),
        "id": ident,
        "status": "done",
    }
    return call.cloud.store.put(CHANGES, prefix + ident, doc)


@SERVICE.method("dns.changes.create", permission="dns.changes.create")
def create_change(call: Call) -> Doc:
    zone, store = zone_of(call), call.cloud.store
    additions, deletions = call.body.get("additions", []), call.body.get("deletions", [])
    if not additions and not deletions:
        raise common.required("entity.change")
    added, deleted = [], []
    with store.atomic():
        for index, given in enumerate(deletions):
            key = _key(call, zone, given.get("name", ""), given.get("type", ""))
            old = store.peek(SETS, key)
            where = f"entity.change.deletions[{index}]"
            if old is None:
                raise missing(where, f"{given.get('name')} ({given.get('type')})")
            as_given = _filled(call, old | given)
            if any(as_given.get(field) != old.get(field) for field in ("ttl", "rrdatas", "routingPolicy")):
                raise ApiError(412, f"Precondition not met for '{where}'", reason="conditionNotMet")
            store.delete(SETS, key)
            deleted.append(as_given)
        for index, given in enumerate(additions):
            where = f"entity.change.additions[{index}]"
            _free(call, zone, _checked(zone, given, where), where)
            added.append(put(call, zone, given))
        _apex(call, zone, f"entity.change.{'additions' if additions else 'deletions'}[0]")
        doc = note(call, zone, added, deleted)
    return doc | {"status": "pending"}


def _list_changes(call: Call, found: list[Doc]) -> Doc:
    found.sort(key=lambda change: int(change["id"]), reverse=call.params.get("sortOrder") != "ascending")
    return common.listed(call, "dns#changesListResponse", "changes", found)


common.serve_in_zone(CHANGES, "changes", "changeId", _list_changes)
