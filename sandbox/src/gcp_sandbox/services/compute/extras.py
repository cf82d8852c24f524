"""Methods that do not fit the engine: operations, peerings, subnet expansion, validation, and so on."""

from __future__ import annotations

import asyncio
import copy
import time
from typing import Any

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.compute import balancing, places, vpc
from gcp_sandbox.services.compute.base import SERVICE, Doc, invalid, link, missing, not_found, parse
from gcp_sandbox.services.compute.dialect import compute_time
from gcp_sandbox.services.compute.engine import change, collection, existing, operate, show
from gcp_sandbox.services.compute.engine import render as versioned
from gcp_sandbox.services.compute.kinds import KINDS, Kind

_NETWORKS = KINDS["compute.networks"]
_SUBNETS = KINDS["compute.subnetworks"]
_POLICIES = KINDS["compute.securityPolicies"]


# -- operations ------------------------------------------------------------


def _operation(call: Call) -> Operation:
    path = f"projects/{call.project_id}/{places.scope(call)}"
    op = call.cloud.operations.get(call.params["operation"])
    if op is None:
        op = next(
            (o for o in call.cloud.operations.all(service="compute") if o["number"] == call.params["operation"]), None
        )
    if op is None or op["service"] != "compute" or op["scope"] != path:
        raise not_found(f"{path}/operations/{call.params['operation']}")
    return op


def _answer(call: Call, op: Operation) -> Doc:
    return versioned(call, call.cloud.operations.render(op, SERVICE.host))


for _scope in ("global", "region", "zone"):

    @SERVICE.method(f"compute.{_scope}Operations.get", permission=f"compute.{_scope}Operations.get")
    def _get(call: Call) -> Doc:
        return _answer(call, _operation(call))

    @SERVICE.method(f"compute.{_scope}Operations.wait", permission=f"compute.{_scope}Operations.get")
    async def _wait(call: Call) -> Doc:
        """Respond when the operation is done, or after two minutes."""
        until = time.monotonic() + 120
        while (op := _operation(call))["status"] != "DONE" and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return _answer(call, op)

    @SERVICE.method(f"compute.{_scope}Operations.list", permission=f"compute.{_scope}Operations.list")
    def _list(call: Call) -> Doc:
        path = f"projects/{call.project_id}/{places.scope(call)}"
        found = call.cloud.operations.all(service="compute", scope=path)
        return collection(
            call, "operation", f"{path}/operations", [call.cloud.operations.render(op, SERVICE.host) for op in found]
        )

    @SERVICE.method(f"compute.{_scope}Operations.delete", permission=f"compute.{_scope}Operations.delete")
    def _delete(call: Call) -> None:
        call.cloud.store.delete("operations", _operation(call)["id"])


# -- networks --------------------------------------------------------------


def _peering_name(call: Call) -> str:
    name = call.body.get("name") or call.body.get("networkPeering", {}).get("name")
    if not name:
        raise missing("name")
    return name


def _store_network(call: Call, key: str, doc: Doc) -> None:
    call.cloud.store.put(_NETWORKS.store, key, doc)


@SERVICE.method("compute.networks.addPeering", permission="compute.networks.addPeering")
def _add_peering(call: Call) -> Operation:
    key, doc = existing(_NETWORKS, call)
    name = _peering_name(call)
    wanted = dict(call.body.get("networkPeering", {}))
    peer_url = wanted.get("network") or call.body.get("peerNetwork")
    peer = parse(call.cloud, peer_url or "", call.project_id)
    if peer is None:
        raise invalid("networkPeering.network", peer_url or "", "The URL is malformed.")
    peerings = doc.setdefault("peerings", [])
    if any(p["name"] == name for p in peerings):
        raise ApiError(409, f"There is already a peering '{name}' in network '{key}'.", reason="alreadyExists")
    other = call.cloud.store.get(_NETWORKS.store, peer)
    back = [p for p in (other or {}).get("peerings", ()) if p["network"] == link(key)]
    defaults = {
        "name": name,
        "network": link(peer),
        "autoCreateRoutes": True,
        "exchangeSubnetRoutes": True,
        "exportCustomRoutes": False,
        "importCustomRoutes": False,
        "exportSubnetRoutesWithPublicIp": True,
        "importSubnetRoutesWithPublicIp": False,
        "stackType": "IPV4_ONLY",
        "updateStrategy": "INDEPENDENT",
    }
    peerings.append(defaults | _writable(wanted) | _state(bool(back)))
    _store_network(call, key, doc)
    for peering in back:
        peering |= _state(True)
    if other and back:
        _store_network(call, peer, other)
    return operate(call, _NETWORKS, key, "addPeering", doc)


def _writable(peering: Doc) -> Doc:
    return {k: v for k, v in peering.items() if k not in ("name", "network", "state", "stateDetails")}


def _state(connected: bool) -> Doc:
    if connected:
        return {"state": "ACTIVE", "stateDetails": _dated("Connected.")}
    return {"state": "INACTIVE", "stateDetails": _dated("Waiting for peer network to connect.")}


def _dated(text: str) -> str:
    return f"[{compute_time()}]: {text}"


@SERVICE.method("compute.networks.updatePeering", permission="compute.networks.updatePeering")
def _update_peering(call: Call) -> Operation:
    key, doc = existing(_NETWORKS, call)
    name = _peering_name(call)
    for peering in doc.get("peerings", ()):
        if peering["name"] == name:
            wanted = call.body.get("networkPeering", {})
            peering |= _writable(wanted)
            _store_network(call, key, doc)
            return operate(call, _NETWORKS, key, "compute.networks.updatePeering", doc)
    raise _no_peering(name, key)


@SERVICE.method("compute.networks.removePeering", permission="compute.networks.removePeering")
def _remove_peering(call: Call) -> Operation:
    key, doc = existing(_NETWORKS, call)
    name = _peering_name(call)
    gone = [p for p in doc.get("peerings", ()) if p["name"] == name]
    if not gone:
        raise _no_peering(name, key)
    doc["peerings"] = [p for p in doc["peerings"] if p["name"] != name]
    if not doc["peerings"]:
        del doc["peerings"]
    _store_network(call, key, doc)
    peer = parse(call.cloud, gone[0]["network"], call.project_id) or ""
    other = call.cloud.store.get(_NETWORKS.store, peer)
    if other:
        for peering in other.get("peerings", ()):
            if peering["network"] == link(key):
                gone_away = _dated("Peer network's connection has been removed.")
                peering |= {"state": "INACTIVE", "stateDetails": gone_away}
        _store_network(call, peer, other)
    return operate(call, _NETWORKS, key, "removePeering", doc)


def _no_peering(name: str, key: str) -> ApiError:
    text = f"Invalid value for field 'name': '{name}'. There is no peering '{name}' in network '{key}'."
    return ApiError(400, text, reason="invalid")


@SERVICE.method("compute.networks.listPeeringRoutes", permission="compute.networks.listPeeringRoutes")
def _peering_routes(call: Call) -> Doc:
    key, doc = existing(_NETWORKS, call)
    region, name, direction = (call.params.get(k) for k in ("region", "peeringName", "direction"))
    items = []
    for peering in doc.get("peerings", ()):
        if name in (None, peering["name"]):
            source = link(key) if direction == "OUTGOING" else peering["network"]
            for _, subnet in call.cloud.store.list("compute.subnetworks"):
                if subnet["network"] == source:
                    items += [
                        {
                            "destRange": text,
                            "type": "SUBNET_PEERING_ROUTE",
                            "priority": 0,
                            "nextHopRegion": subnet["region"].rsplit("/", 1)[1],
                            "imported": region is not None,
                        }
                        for text in vpc.ipv4_ranges(subnet)
                    ]
    return {k: v for k, v in collection(call, "exchangedPeeringRoutes", key, items).items() if k != "id"}


@SERVICE.method("compute.networks.switchToCustomMode", permission="compute.networks.switchToCustomMode")
def _to_custom(call: Call) -> Operation:
    key, doc = existing(_NETWORKS, call)
    if not doc.get("autoCreateSubnetworks"):
        raise ApiError(400, f"Network '{key}' is not an auto subnet mode network.", reason="invalid")
    doc["autoCreateSubnetworks"] = False
    _store_network(call, key, doc)
    for path, subnet in call.cloud.store.list("compute.subnetworks", f"projects/{call.project_id}/"):
        if subnet["network"] == link(key):
            call.cloud.store.put("compute.subnetworks", path, {k: v for k, v in subnet.items() if k != "_implied"})
    return operate(call, _NETWORKS, key, "switchToCustomMode", doc)


@SERVICE.method("compute.networks.getEffectiveFirewalls", permission="compute.networks.getEffectiveFirewalls")
def _effective(call: Call) -> Doc:
    key, _ = existing(_NETWORKS, call)
    rules = [
        d
        for _, d in call.cloud.store.list("compute.firewalls", f"projects/{call.project_id}/")
        if d["network"] == link(key)
    ]
    return {"firewalls": rules} if rules else {}


@SERVICE.method("compute.subnetworks.expandIpCidrRange", permission="compute.subnetworks.expandIpCidrRange")
def _expand(call: Call) -> Operation:
    if not call.body.get("ipCidrRange"):
        raise missing("ipCidrRange")
    key, old = existing(_SUBNETS, call)
    doc = copy.deepcopy(old) | {"ipCidrRange": call.body["ipCidrRange"]}
    return operate(call, _SUBNETS, key, "expandIpCidrRange", change(call, _SUBNETS, key, old, doc, {}))


def _secondary(doc: Doc) -> Doc:
    found = [{"rangeName": s["rangeName"], "ipCidrRange": s["ipCidrRange"]} for s in doc.get("secondaryIpRanges", ())]
    return {"secondaryIpRanges": found} if found else {}


@SERVICE.method("compute.subnetworks.listUsable", permission="compute.subnetworks.list")
def _usable(call: Call) -> Doc:
    items = [
        {k: doc[k] for k in ("network", "ipCidrRange", "purpose", "role", "stackType", "ipv6AccessType") if k in doc}
        | {"subnetwork": doc["selfLink"]}
        | _secondary(doc)
        for _, doc in call.cloud.store.list("compute.subnetworks", f"projects/{call.project_id}/")
    ]
    return collection(call, "usableSubnetworksAggregated", f"projects/{call.project_id}/aggregated/subnetworks", items)


# -- load balancing --------------------------------------------------------


@SERVICE.method("compute.urlMaps.validate", permission="compute.urlMaps.validate")
@SERVICE.method("compute.regionUrlMaps.validate", permission="compute.regionUrlMaps.validate")
def _validate(call: Call) -> Doc:
    matchers = [m.get("name") for m in call.body.get("resource", {}).get("pathMatchers", ())]
    rules = call.body.get("resource", {}).get("hostRules", ())
    errors = [
        f"Path matcher '{r.get('pathMatcher')}' is not defined." for r in rules if r.get("pathMatcher") not in matchers
    ]
    return {
        "result": {"loadSucceeded": not errors, "testPassed": not errors} | ({"loadErrors": errors} if errors else {})
    }


@SERVICE.method("compute.urlMaps.invalidateCache", permission="compute.urlMaps.invalidateCache")
def _invalidate(call: Call) -> Operation:
    kind = KINDS["compute.urlMaps"]
    key, doc = existing(kind, call)
    return operate(call, kind, key, "invalidateCache", doc)


_BACKENDS = (KINDS["compute.backendServices"], KINDS["compute.backendBuckets"])
for _kind, _resource in ((kind, resource) for kind in _BACKENDS for resource in kind.resources):

    @SERVICE.method(f"compute.{_resource}.listUsable", permission=f"compute.{_resource}.list")
    def _usable_backends(call: Call, kind: Kind = _kind) -> Doc:
        path = f"projects/{call.project_id}/{places.scope(call)}/{kind.collection}"
        items = [show(call, kind, key, doc) for key, doc in call.cloud.store.list(kind.store, path + "/")]
        return collection(call, f"usable{kind.singular[0].upper()}{kind.singular[1:]}", path, items)


@SERVICE.method("compute.backendServices.getHealth", permission="compute.backendServices.get")
@SERVICE.method("compute.regionBackendServices.getHealth", permission="compute.regionBackendServices.get")
def _health(call: Call) -> Doc:
    existing(KINDS["compute.backendServices"], call)
    return {"kind": "compute#backendServiceGroupHealth"}


@SERVICE.method("compute.sslPolicies.listAvailableFeatures", permission="compute.sslPolicies.listAvailableFeatures")
@SERVICE.method(
    "compute.regionSslPolicies.listAvailableFeatures", permission="compute.regionSslPolicies.listAvailableFeatures"
)
def _features(call: Call) -> Doc:
    return {"features": balancing.PROFILES["COMPATIBLE"]}


_NEGS = KINDS["compute.networkEndpointGroups"]


def _group(call: Call) -> tuple[str, Doc]:
    key, doc = existing(_NEGS, call)
    if doc["networkEndpointType"] == "SERVERLESS":
        raise ApiError(
            400,
            f"Invalid value for field 'networkEndpointGroup': '{doc['name']}'. Network endpoint groups of type "
            "SERVERLESS have no endpoints.",
            reason="invalid",
        )
    return key, doc


for _resource in _NEGS.resources:

    @SERVICE.method(f"compute.{_resource}.listNetworkEndpoints", permission=f"compute.{_resource}.get")
    def _endpoints(call: Call) -> Doc:
        key, doc = _group(call)
        found = [{"networkEndpoint": e} for e in doc.get("_endpoints", [])]
        return collection(call, "networkEndpointGroupsListNetworkEndpoints", key, found)

    @SERVICE.method(
        f"compute.{_resource}.attachNetworkEndpoints", permission=f"compute.{_resource}.attachNetworkEndpoints"
    )
    @SERVICE.method(
        f"compute.{_resource}.detachNetworkEndpoints", permission=f"compute.{_resource}.detachNetworkEndpoints"
    )
    def _move_endpoints(call: Call) -> Operation:
        key, doc = _group(call)
        verb = call.method.id.rsplit(".", 1)[1]
        named = call.body.get("networkEndpoints", [])
        kept = [e for e in doc.get("_endpoints", []) if e not in named]
        doc["_endpoints"] = kept + named if verb.startswith("attach") else kept
        doc["size"] = len(doc["_endpoints"])
        call.cloud.store.put(_NEGS.store, key, doc)
        return operate(call, _NEGS, key, verb, doc)


# -- security policies' rules ----------------------------------------------


def _rule_change(call: Call, edit: Any) -> Operation:
    key, old = existing(_POLICIES, call)
    doc = copy.deepcopy(old)
    edit(doc["rules"])
    done = change(call, _POLICIES, key, old, doc, {})
    return operate(call, _POLICIES, key, call.method.id.rsplit(".", 1)[1], done)


def _at(call: Call, rules: list[Doc]) -> int:
    priority = call.params.get("priority", 2147483647)
    for i, rule in enumerate(rules):
        if rule["priority"] == priority:
            return i
    raise ApiError(
        400, f"Invalid value for field 'priority': '{priority}'. The rule priority does not exist.", reason="invalid"
    )


for _resource in _POLICIES.resources:

    @SERVICE.method(f"compute.{_resource}.addRule", permission=f"compute.{_resource}.update")
    def _add_rule(call: Call) -> Operation:
        return _rule_change(call, lambda rules: rules.append(dict(call.body)))

    @SERVICE.method(f"compute.{_resource}.removeRule", permission=f"compute.{_resource}.update")
    def _remove_rule(call: Call) -> Operation:
        return _rule_change(call, lambda rules: rules.pop(_at(call, rules)))

    @SERVICE.method(f"compute.{_resource}.patchRule", permission=f"compute.{_resource}.update")
    def _patch_rule(call: Call) -> Operation:
        return _rule_change(call, lambda rules: rules[_at(call, rules)].update(call.body))

    @SERVICE.method(f"compute.{_resource}.getRule", permission=f"compute.{_resource}.get")
    def _get_rule(call: Call) -> Doc:
        _, doc = existing(_POLICIES, call)
        return doc["rules"][_at(call, doc["rules"])]
