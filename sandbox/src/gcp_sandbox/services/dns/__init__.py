"""Cloud DNS: managed zones, their record sets and changes, and server policies.  Nothing resolves by them.

https://cloud.google.com/dns/docs/reference/rest/v1
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from gcp_sandbox.errors import ApiError
from gcp_sandbox.operations import now
from gcp_sandbox.service import Call, Service

Doc = dict[str, Any]
SERVICE = Service("dns", "v1", family="legacy")
ZONES, SETS, CHANGES, OPERATIONS = "dns.managedZones", "dns.resourceRecordSets", "dns.changes", "dns.managedZoneOperations"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_RR_TYPES = {"A", "AAAA", "ALIAS", "CAA", "CNAME", "DNSKEY", "DS", "HTTPS", "IPSECKEY", "MX", "NAPTR", "NS", "PTR", "SOA", "SPF",
             "SRV", "SSHFP", "SVCB", "TLSA", "TXT"}  # fmt: skip


# -- machinery --------------------------------------------------------------------


def _with_kinds(call: Call, schema: str, value: Doc) -> Doc:
    """A message whose objects all have their ``kind``, as this API answers them."""
    properties = call.method.api.schemas[schema].get("properties", {})
    out = {"kind": properties["kind"]["default"]} if "kind" in properties else {}
    for key, item in value.items():
        field = properties.get(key, {})
        if isinstance(item, dict) and "$ref" in field:
            item = _with_kinds(call, field["$ref"], item)
        elif isinstance(item, list) and "$ref" in field.get("items", {}):
            item = [_with_kinds(call, field["items"]["$ref"], i) for i in item]
        out[key] = item
    return out


def _listed(call: Call, kind: str, field: str, found: list[Doc]) -> Doc:
    """One page of a list; the token is the number of what was already shown."""
    start = int(call.params.get("pageToken") or 0)
    end = start + min(call.params.get("maxResults") or 100, 1000)
    out: Doc = {"kind": kind} | ({field: found[start:end]} if found[start:end] else {})
    return out | ({"nextPageToken": str(end)} if end < len(found) else {})


def _missing(parameter: str, name: str) -> ApiError:
    return ApiError(404, f"The '{parameter}' resource named '{name}' does not exist.")


def _invalid(parameter: str, value: Any) -> ApiError:
    return ApiError(400, f"Invalid value for '{parameter}': '{value}'")


def _merge(old: Doc, new: Doc) -> Doc:
    """JSON merge patch."""
    out = dict(old)
    for key, value in new.items():
        out[key] = _merge(old[key], value) if isinstance(value, dict) and isinstance(old.get(key), dict) else value
    return out


@SERVICE.method("dns.projects.get", permission="dns.projects.get")
def project(call: Call) -> Doc:
    quota = {"kind": "dns#quota", "managedZones": 10000, "resourceRecordSetsPerManagedZone": 10000, "policies": 100,
             "rrsetAdditionsPerChange": 1000, "rrsetDeletionsPerChange": 1000, "resourceRecordsPerRrset": 100}  # fmt: skip
    return {"kind": "dns#project", "number": call.project_number, "id": call.project_id, "quota": quota}


# -- managed zones -------------------------------------------------------------------


def _zone_key(call: Call, name: str) -> str:
    return f"projects/{call.project_id}/managedZones/{name}"


def _zone(call: Call) -> Doc:
    """The zone a call names, by name or id (for reading)."""
    name = call.params["managedZone"]
    prefix = _zone_key(call, "")
    for key, doc in call.app.store.list(ZONES, prefix):
        if name in (key.removeprefix(prefix), doc["id"]):
            return doc
    raise _missing("parameters.managedZone", name)


def _zone_filled(call: Call, doc: Doc) -> Doc:
    if doc.get("dnssecConfig", {}).get("state") in ("on", "transfer"):
        doc["dnssecConfig"] = {"nonExistence": "nsec3", "defaultKeySpecs": [
            {"keyType": "keySigning", "algorithm": "rsasha256", "keyLength": 2048},
            {"keyType": "zoneSigning", "algorithm": "rsasha256", "keyLength": 1024},
        ]} | doc["dnssecConfig"]  # fmt: skip
    return _with_kinds(call, "ManagedZone", {"cloudLoggingConfig": {}} | doc)


@SERVICE.method("dns.managedZones.create", permission="dns.managedZones.create")
def create_zone(call: Call) -> Doc:
    body = {k: v for k, v in call.body.items() if k not in ("id", "creationTime", "nameServers", "kind")}
    for field in ("name", "dnsName"):
        if not body.get(field):
            raise ApiError(400, f"The 'entity.managedZone.{field}' parameter is required but was missing.", reason="required")
    if not _NAME.fullmatch(body["name"]):
        raise _invalid("entity.managedZone.name", body["name"])
    if not re.fullmatch(r"([a-zA-Z0-9_-]+\.)+|\.", body["dnsName"]):
        raise _invalid("entity.managedZone.dnsName", body["dnsName"])
    if call.app.store.peek(ZONES, _zone_key(call, body["name"])) is not None:
        raise ApiError(409, f"The resource 'entity.managedZone' named '{body['name']}' already exists")
    body.setdefault("visibility", "public")
    # Zones of one name get different name servers.
    letter = "abcde"[sum(d["dnsName"] == body["dnsName"] for _, d in call.app.store.list(ZONES)) % 5]
    servers = [f"ns-cloud-{letter}{n}.googledomains.com." for n in range(1, 5)]
    if body["visibility"] == "private":
        servers = ["ns-gcp-private.googledomains.com."]
    body |= {"id": str(secrets.randbelow(9 * 10**18) + 10**18), "creationTime": now(digits=3), "nameServers": servers}
    doc = call.app.store.put(ZONES, _zone_key(call, body["name"]), _zone_filled(call, body))
    soa = f"{servers[0]} cloud-dns-hostmaster.google.com. 1 21600 3600 259200 300"
    for kind, ttl, data in (("NS", 21600, servers), ("SOA", 21600, [soa])):
        _put_set(call, doc, {"name": doc["dnsName"], "type": kind, "ttl": ttl, "rrdatas": data})
    return doc


@SERVICE.method("dns.managedZones.get", permission="dns.managedZones.get")
def get_zone(call: Call) -> Doc:
    return _zone(call)


@SERVICE.method("dns.managedZones.list", permission="dns.managedZones.list")
def list_zones(call: Call) -> Doc:
    wanted = call.params.get("dnsName")
    found = [d for _, d in call.app.store.list(ZONES, _zone_key(call, "")) if not wanted or d["dnsName"] == wanted]
    return _listed(call, "dns#managedZonesListResponse", "managedZones", found)


def _change_zone(call: Call, new: Doc) -> Doc:
    old = _zone(call)
    for field in ("name", "dnsName", "visibility"):
        if new.get(field, old[field]) != old[field]:
            raise ApiError(400, f"The 'entity.managedZone.{field}' parameter cannot be changed.", reason="invalid")
    kept = {k: old[k] for k in ("id", "creationTime", "nameServers", "name", "dnsName", "visibility")}
    doc = call.app.store.put(ZONES, _zone_key(call, old["name"]), _zone_filled(call, new | kept))
    op = {"kind": "dns#operation", "id": secrets.token_hex(16), "startTime": now(digits=3), "status": "done", "type": "UPDATE",
          "user": call.principal.email, "zoneContext": {"oldValue": old, "newValue": doc}}  # fmt: skip
    return call.app.store.put(OPERATIONS, f"{_zone_key(call, old['name'])}/operations/{op['id']}", op)


@SERVICE.method("dns.managedZones.patch", permission="dns.managedZones.update")
def patch_zone(call: Call) -> Doc:
    return _change_zone(call, _merge(_zone(call), call.body))


@SERVICE.method("dns.managedZones.update", permission="dns.managedZones.update")
def update_zone(call: Call) -> Doc:
    return _change_zone(call, call.body)


@SERVICE.method("dns.managedZones.delete", permission="dns.managedZones.delete")
def delete_zone(call: Call) -> Doc:
    zone = _zone(call)
    key = _zone_key(call, zone["name"])
    sets = call.app.store.list(SETS, key + "/rrsets/")
    if any(not (d["name"] == zone["dnsName"] and d["type"] in ("NS", "SOA")) for _, d in sets):
        text = f"The resource named '{zone['name']}' cannot be deleted because it contains one or more 'resource records'."
        raise ApiError(400, text, reason="containerNotEmpty")
    with call.app.store.atomic():
        for kind in (SETS, CHANGES, OPERATIONS):
            for inner, _ in call.app.store.list(kind, key + "/"):
                call.app.store.delete(kind, inner)
        call.app.store.delete(ZONES, key)
    return {}


@SERVICE.method("dns.managedZoneOperations.get", permission="dns.managedZoneOperations.get")
def get_operation(call: Call) -> Doc:
    doc = call.app.store.peek(OPERATIONS, f"{_zone_key(call, _zone(call)['name'])}/operations/{call.params['operation']}")
    if doc is None:
        raise _missing("parameters.operation", call.params["operation"])
    return doc


@SERVICE.method("dns.managedZoneOperations.list", permission="dns.managedZoneOperations.list")
def list_operations(call: Call) -> Doc:
    found = [d for _, d in call.app.store.list(OPERATIONS, _zone_key(call, _zone(call)["name"]) + "/")]
    return _listed(call, "dns#managedZoneOperationsListResponse", "operations", found)


# -- record sets and changes -----------------------------------------------------------


def _set_key(call: Call, zone: Doc, name: str, kind: str) -> str:
    return f"{_zone_key(call, zone['name'])}/rrsets/{name}/{kind}"


def _checked_set(zone: Doc, given: Doc, where: str) -> Doc:
    name, kind = given.get("name", ""), given.get("type", "")
    if kind not in _RR_TYPES:
        raise _invalid(f"{where}.type", kind)
    if not name.endswith("." + zone["dnsName"]) and name != zone["dnsName"]:
        raise _invalid(f"{where}.name", name)
    if not given.get("rrdatas") and not given.get("routingPolicy"):
        raise _invalid(f"{where}.rrdata", "")
    return given


def _put_set(call: Call, zone: Doc, given: Doc) -> Doc:
    doc = _with_kinds(call, "ResourceRecordSet", {"ttl": 0} | given)
    return call.app.store.put(SETS, _set_key(call, zone, doc["name"], doc["type"]), doc)


def _sets(call: Call) -> list[Doc]:
    wanted, kind = call.params.get("name"), call.params.get("type")
    found = [d for _, d in call.app.store.list(SETS, _zone_key(call, _zone(call)["name"]) + "/rrsets/")]
    return [d for d in found if (not wanted or d["name"] == wanted) and (not kind or d["type"] == kind)]


@SERVICE.method("dns.resourceRecordSets.list", permission="dns.resourceRecordSets.list")
def list_sets(call: Call) -> Doc:
    return _listed(call, "dns#resourceRecordSetsListResponse", "rrsets", _sets(call))


def _set(call: Call) -> Doc:
    found = call.app.store.peek(SETS, _set_key(call, _zone(call), call.params["name"], call.params["type"]))
    if found is None:
        raise _missing("parameters.name", f"{call.params['name']} ({call.params['type']})")
    return found


@SERVICE.method("dns.resourceRecordSets.get", permission="dns.resourceRecordSets.get")
def get_set(call: Call) -> Doc:
    return _set(call)


@SERVICE.method("dns.resourceRecordSets.create", permission="dns.resourceRecordSets.create")
def create_set(call: Call) -> Doc:
    zone = _zone(call)
    given = _checked_set(zone, call.body, "entity.rrset")
    _absent(call, zone, given, "entity.rrset")
    return _put_set(call, zone, given)


def _absent(call: Call, zone: Doc, given: Doc, where: str) -> None:
    if call.app.store.peek(SETS, _set_key(call, zone, given["name"], given["type"])) is not None:
        raise ApiError(409, f"The resource '{where}' named '{given['name']} ({given['type']})' already exists")


@SERVICE.method("dns.resourceRecordSets.patch", permission="dns.resourceRecordSets.update")
def patch_set(call: Call) -> Doc:
    zone, old = _zone(call), _set(call)
    call.app.store.delete(SETS, _set_key(call, zone, old["name"], old["type"]))
    return _put_set(call, zone, _checked_set(zone, _merge(old, call.body), "entity.rrset"))


@SERVICE.method("dns.resourceRecordSets.delete", permission="dns.resourceRecordSets.delete")
def delete_set(call: Call) -> Doc:
    zone, old = _zone(call), _set(call)
    if old["name"] == zone["dnsName"] and old["type"] in ("NS", "SOA"):
        raise ApiError(400, f"The resource record set '{old['name']} ({old['type']})' is required and cannot be deleted.")
    call.app.store.delete(SETS, _set_key(call, zone, old["name"], old["type"]))
    return {}


@SERVICE.method("dns.changes.create", permission="dns.changes.create")
def create_change(call: Call) -> Doc:
    zone, app = _zone(call), call.app
    additions, deletions = call.body.get("additions", []), call.body.get("deletions", [])
    if not additions and not deletions:
        raise ApiError(400, "The 'entity.change' parameter is required but was missing.", reason="required")
    with app.store.atomic():
        for number, given in enumerate(deletions):
            key = _set_key(call, zone, given.get("name", ""), given.get("type", ""))
            old = app.store.peek(SETS, key)
            where = f"entity.change.deletions[{number}]"
            if old is None:
                raise _missing(where, f"{given.get('name')} ({given.get('type')})")
            if any(given.get(f, old.get(f)) != old.get(f) for f in ("ttl", "rrdatas")):
                raise ApiError(412, f"Precondition not met for '{where}'", reason="conditionNotMet")
            app.store.delete(SETS, key)
        for number, given in enumerate(additions):
            where = f"entity.change.additions[{number}]"
            _absent(call, zone, _checked_set(zone, given, where), where)
            _put_set(call, zone, given)
        prefix = _zone_key(call, zone["name"]) + "/changes/"
        ident = str(len(app.store.list(CHANGES, prefix)) + 1)
        doc = _with_kinds(call, "Change", call.body | {"startTime": now(digits=3), "id": ident, "status": "done"})
        app.store.put(CHANGES, prefix + ident, doc)
    return doc | {"status": "pending"}


@SERVICE.method("dns.changes.get", permission="dns.changes.get")
def get_change(call: Call) -> Doc:
    doc = call.app.store.peek(CHANGES, f"{_zone_key(call, _zone(call)['name'])}/changes/{call.params['changeId']}")
    if doc is None:
        raise _missing("parameters.changeId", call.params["changeId"])
    return doc


@SERVICE.method("dns.changes.list", permission="dns.changes.list")
def list_changes(call: Call) -> Doc:
    found = [d for _, d in call.app.store.list(CHANGES, _zone_key(call, _zone(call)["name"]) + "/changes/")]
    return _listed(call, "dns#changesListResponse", "changes", sorted(found, key=lambda d: -int(d["id"])))


# -- server policies ---------------------------------------------------------------------


def _policy(call: Call) -> tuple[str, Doc]:
    key = f"projects/{call.project_id}/policies/{call.params['policy']}"
    doc = call.app.store.peek("dns.policies", key)
    if doc is None:
        raise _missing("parameters.policy", call.params["policy"])
    return key, doc


@SERVICE.method("dns.policies.create", permission="dns.policies.create")
def create_policy(call: Call) -> Doc:
    name = call.body.get("name", "")
    if not _NAME.fullmatch(name):
        raise _invalid("entity.policy.name", name)
    key = f"projects/{call.project_id}/policies/{name}"
    if call.app.store.peek("dns.policies", key) is not None:
        raise ApiError(409, f"The resource 'entity.policy' named '{name}' already exists")
    filled = {"enableInboundForwarding": False, "enableLogging": False} | call.body | {"id": str(secrets.randbelow(10**18))}
    return call.app.store.put("dns.policies", key, _with_kinds(call, "Policy", filled))


@SERVICE.method("dns.policies.get", permission="dns.policies.get")
def get_policy(call: Call) -> Doc:
    return _policy(call)[1]


@SERVICE.method("dns.policies.list", permission="dns.policies.list")
def list_policies(call: Call) -> Doc:
    found = [d for _, d in call.app.store.list("dns.policies", f"projects/{call.project_id}/")]
    return _listed(call, "dns#policiesListResponse", "policies", found)


@SERVICE.method("dns.policies.patch", "dns.policies.update", permission="dns.policies.update")
def change_policy(call: Call) -> Doc:
    key, old = _policy(call)
    new = _merge(old, call.body) if call.method.http == "PATCH" else {"name": old["name"], "id": old["id"]} | call.body
    doc = call.app.store.put("dns.policies", key, _with_kinds(call, "Policy", new))
    return {"header": {"operationId": secrets.token_hex(16)}, "policy": doc}


@SERVICE.method("dns.policies.delete", permission="dns.policies.delete")
def delete_policy(call: Call) -> Doc:
    key, doc = _policy(call)
    if doc.get("networks"):
        raise ApiError(400, f"The resource named '{doc['name']}' cannot be deleted because it is used by one or more networks.",
                       reason="resourceInUse")  # fmt: skip
    call.app.store.delete("dns.policies", key)
    return {}
