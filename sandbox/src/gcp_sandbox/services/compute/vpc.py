"""VPC: specifics of networks, subnetworks, routes, firewalls and addresses.

https://cloud.google.com/vpc/docs/vpc
"""

from __future__ import annotations

import ipaddress
import itertools
import secrets
import time
from collections.abc import Iterator
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services.compute import balancer_proxies, routers, shared_vpc
from gcp_sandbox.services.compute.base import PENDING, Doc, find, in_use, invalid, key_of, link, missing
from gcp_sandbox.services.compute.dialect import compute_time
from gcp_sandbox.services.compute.kinds import Draft
from gcp_sandbox.services.compute.places import REGIONS

Net = ipaddress.IPv4Network
AUTO_RANGE = Net("10.128.0.0/9")
# Documentation addresses (RFC 5737): the sandbox's addresses can never reach a real host.
_EXTERNAL = [ipaddress.ip_network(n) for n in ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24")]
_FORBIDDEN = [
    ipaddress.ip_network(n)
    for n in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "199.36.153.4/30",
        "199.36.153.8/30",
        "255.255.255.255/32",
    )
]


def new_resource(cloud: Cloud, key: str, singular: str, doc: Doc) -> None:
    """Store a resource that the server itself creates."""
    number = str(secrets.randbelow(8 * 10**18) + 10**18)
    base = {
        "kind": f"compute#{singular}",
        "id": number,
        "creationTimestamp": compute_time(),
        "name": key.rsplit("/", 1)[1],
        "selfLink": link(key),
    }
    if "/regions/" in key:
        base["region"] = link(key.rsplit("/", 2)[0])
    cloud.store.put(f"compute.{key.rsplit('/', 2)[1]}", key, base | doc)


# -- networks --------------------------------------------------------------


def prepare_network(draft: Draft) -> None:
    doc = draft.doc
    if draft.old is None and "autoCreateSubnetworks" not in doc:
        raise invalid(
            "autoCreateSubnetworks", "", "Legacy networks can no longer be created: it must be true or false."
        )
    routing = doc.setdefault("routingConfig", {})
    routing.setdefault("routingMode", "REGIONAL")
    routing.setdefault("bgpBestPathSelectionMode", "LEGACY")
    if not 1300 <= doc.get("mtu", 1460) <= 8896:
        raise invalid("mtu", doc["mtu"], "MTU must be between 1300 and 8896.")
    if doc.get("enableUlaInternalIpv6") and "internalIpv6Range" not in doc:
        doc["internalIpv6Range"] = f"fd20:{secrets.randbelow(0x1000):x}:{secrets.randbelow(0x1000):x}:0:0:0:0:0/48"
    if profile := doc.get("networkProfile"):
        doc["networkProfile"] = link(f"projects/{draft.project}/global/networkProfiles/{profile.rsplit('/', 1)[1]}")


def default_network(cloud: Cloud, project: str) -> None:
    """Create the default network of a project."""
    key = f"projects/{project}/global/networks/default"
    new_resource(
        cloud,
        key,
        "network",
        {
            "description": "Default network for the project",
            "autoCreateSubnetworks": True,
            "mtu": 1460,
            "routingConfig": {"routingMode": "REGIONAL", "bgpBestPathSelectionMode": "LEGACY"},
            "networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL",
        },
    )
    doc = cloud.store.get("compute.networks", key) or {}
    cloud.store.put("compute.networks", key, doc | {"selfLinkWithId": link(f"{key.rsplit('/', 1)[0]}/{doc['id']}")})
    after_network(cloud, key, "insert")


def after_network(cloud: Cloud, key: str, event: str) -> None:
    """Create or delete the network's default route and, in auto mode, a subnet in each region."""
    project = key.split("/")[1]
    if event == "insert":
        new_resource(
            cloud,
            f"projects/{project}/global/routes/default-route-{secrets.token_hex(8)}",
            "route",
            {
                "description": "Default route to the Internet.",
                "network": link(key),
                "destRange": "0.0.0.0/0",
                "priority": 1000,
                "nextHopGateway": link(f"projects/{project}/global/gateways/default-internet-gateway"),
                "_implied": True,
            },
        )
        doc = find(cloud, key) or {}
        if doc.get("autoCreateSubnetworks"):
            for region, octet in REGIONS.items():
                if octet is not None:
                    auto_subnet(cloud, key, region, f"10.{octet}.0.0/20")
    elif event == "delete":
        for kind in ("compute.subnetworks", "compute.routes"):
            for other, doc in cloud.store.list(kind, f"projects/{project}/"):
                if doc["network"] == link(key):
                    cloud.store.delete(kind, other)
        cloud.store.delete("servicenetworking.connections", f"{key}/servicenetworking.googleapis.com")


def auto_subnet(cloud: Cloud, network: str, region: str, cidr: str) -> None:
    """The subnet of an auto mode network in a region."""
    project, name = network.split("/")[1], network.rsplit("/", 1)[1]
    key = f"projects/{project}/regions/{region}/subnetworks/{name}"
    from gcp_sandbox.services.compute.engine import fingerprint

    new_resource(
        cloud,
        key,
        "subnetwork",
        {
            "network": link(network),
            "ipCidrRange": cidr,
            "gatewayAddress": str(ipaddress.ip_network(cidr)[1]),
            "privateIpGoogleAccess": False,
            "privateIpv6GoogleAccess": "DISABLE_GOOGLE_ACCESS",
            "purpose": "PRIVATE",
            "stackType": "IPV4_ONLY",
            "state": "READY",
            "allowSubnetCidrRoutesOverlap": False,
            "fingerprint": fingerprint(cidr),
            "_implied": True,
        },
    )
    after_subnet(cloud, key, "insert")


def network_fields(cloud: Cloud, key: str, doc: Doc) -> Doc:
    """Subnetworks of a network, as links."""
    subnets = cloud.store.list("compute.subnetworks", f"projects/{key.split('/')[1]}/")
    found = [subnet["selfLink"] for _, subnet in subnets if subnet["network"] == doc["selfLink"]]
    return {"subnetworks": found} if found else {}


def guard_network(cloud: Cloud, key: str, doc: Doc) -> None:
    """A network with a peering is in use by that peering."""
    for peering in doc.get("peerings", ()):
        user = key_of(peering["network"])
        raise in_use("network", key, user, "")


# -- subnetworks -----------------------------------------------------------


def parse_range(field: str, text: Any) -> Net:
    """A primary or secondary range.  Raises ApiError 400."""
    try:
        net = ipaddress.IPv4Network(text)
    except ValueError as error:
        why = (
            f"Invalid IPCidrRange: {text} is not a canonical CIDR range."
            if "host bits" in str(error)
            else (
                "Must be a CIDR address range that is contained in a private (RFC 1918 or other valid) address space."
            )
        )
        raise invalid(field, text, why) from None
    if not 8 <= net.prefixlen <= 29:
        raise invalid(field, text, f"IP range prefix length must be between 8 and 29, was {net.prefixlen}.")
    if any(net.overlaps(other) for other in _FORBIDDEN):
        raise invalid(field, text, f"Invalid IPCidrRange: {text} overlaps with a reserved range.")
    return net


def ipv4_ranges(subnet: Doc) -> list[str]:
    """The primary range of a subnet, if it has one, and its secondary ones."""
    primary = [subnet["ipCidrRange"]] if subnet.get("ipCidrRange") else []
    return primary + [secondary["ipCidrRange"] for secondary in subnet.get("secondaryIpRanges", ())]


def ranges(cloud: Cloud, network: str, *, besides: str = "") -> Iterator[tuple[Net, str]]:
    """Used ranges of a network (a link), each with its owner in Google's wording; except those of besides."""
    pending = cloud.store.list(PENDING)
    mine = f"{key_of(network).rsplit('/global/', 1)[0]}/"
    for key, doc in [*cloud.store.list("compute.subnetworks", mine), *[p for p in pending if "/subnetworks/" in p[0]]]:
        if doc["network"] == network and key != besides:
            owner = f"existing subnetwork '{doc['name']}' in region '{key.split('/')[3]}'"
            for text in ipv4_ranges(doc):
                yield ipaddress.IPv4Network(text), owner
    for key, doc in [*cloud.store.list("compute.addresses", mine), *[p for p in pending if "/addresses/" in p[0]]]:
        if doc.get("network") == network and doc.get("prefixLength") and key != besides:
            net = ipaddress.IPv4Network(f"{doc['address']}/{doc['prefixLength']}", strict=False)
            yield net, f"existing allocated IP range '{doc['name']}'"


def prepare_subnet(draft: Draft) -> None:
    doc = draft.doc
    if doc["purpose"] in balancer_proxies.PURPOSES:
        balancer_proxies.prepare(draft)
    _ipv4(draft)
    if doc["stackType"] == "IPV4_ONLY":
        for field in ("ipv6AccessType", "ipv6CidrRange", "externalIpv6Prefix", "internalIpv6Prefix"):
            doc.pop(field, None)
    else:
        _ipv6(draft)
    log = doc.get("logConfig")
    if doc.pop("enableFlowLogs", None) and log is None:
        log = doc["logConfig"] = {"enable": True}
    if log and log.get("enable"):
        doc["logConfig"] = {
            "aggregationInterval": "INTERVAL_5_SEC",
            "flowSampling": 0.5,
            "metadata": "INCLUDE_ALL_METADATA",
            "filterExpr": "true",
        } | log


def _ipv4(draft: Draft) -> None:
    """Check the ranges of a subnet; an IPv6-only one has none."""
    doc = draft.doc
    if doc["stackType"] == "IPV6_ONLY":
        if doc.get("ipCidrRange"):
            raise invalid("ipCidrRange", doc["ipCidrRange"], "It cannot be specified for an IPV6_ONLY subnetwork.")
    elif not doc.get("ipCidrRange"):
        raise missing("resource.ipCidrRange")
    mine: list[tuple[str, str, Net]] = []
    if doc.get("ipCidrRange"):
        primary = parse_range("ipCidrRange", doc["ipCidrRange"])
        before = (draft.old or {}).get("ipCidrRange")
        if before and not ipaddress.IPv4Network(before).subnet_of(primary):
            raise invalid("ipCidrRange", doc["ipCidrRange"], f"New IP CIDR range must contain the old one, {before}.")
        network = draft.target("network") or {}
        if draft.old is None and network.get("autoCreateSubnetworks") and primary.overlaps(AUTO_RANGE):
            raise invalid(
                "ipCidrRange",
                doc["ipCidrRange"],
                "Extended subnetworks in auto subnet mode networks cannot overlap with 10.128.0.0/9.",
            )
        mine.append(("ipCidrRange", doc["ipCidrRange"], primary))
        doc["gatewayAddress"] = str(primary[1])
    names: set[str] = set()
    for i, secondary in enumerate(doc.get("secondaryIpRanges", ())):
        where, name = f"secondaryIpRanges[{i}]", secondary.get("rangeName", "")
        if not name or name in names:
            raise invalid(
                f"{where}.rangeName", name, "Secondary range names must be given and unique within a subnetwork."
            )
        names.add(name)
        text = secondary.get("ipCidrRange", "")
        mine.append((f"{where}.ipCidrRange", text, parse_range(f"{where}.ipCidrRange", text)))
    for at, (field, text, net) in enumerate(mine):
        for other, owner in ranges(draft.cloud, doc["network"], besides=draft.key):
            if net.overlaps(other):
                raise invalid(field, text, f"Invalid IPCidrRange: {text} conflicts with {owner}.")
        for _, _, other in mine[:at]:
            if net.overlaps(other):
                raise invalid(
                    field,
                    text,
                    f"Invalid IPCidrRange: {text} conflicts with existing subnetwork "
                    f"'{doc['name']}' in region '{draft.region}'.",
                )


def _ipv6(draft: Draft) -> None:
    """Assign a subnet's IPv6 prefix; an internal one is taken from the network's own range."""
    doc, number = draft.doc, f"{secrets.randbelow(0x10000):x}"
    access = doc.setdefault("ipv6AccessType", "INTERNAL")
    if (draft.old or {}).get("ipv6AccessType", access) != access:
        raise invalid("ipv6AccessType", access, "The field is immutable and cannot be changed.")
    if access == "EXTERNAL":
        doc.setdefault("externalIpv6Prefix", f"2001:db8:1:{number}:0:0:0:0/64")
    elif "internalIpv6Prefix" not in doc:
        whole = (draft.target("network") or {}).get("internalIpv6Range")
        if not whole:
            raise invalid("ipv6AccessType", access, "The network has no ULA internal IPv6 range: enable it first.")
        doc["internalIpv6Prefix"] = ":".join([*whole.split(":")[:3], number]) + ":0:0:0:0/64"
    doc.setdefault("ipv6CidrRange", doc.get("externalIpv6Prefix") or doc["internalIpv6Prefix"])


def subnet_fields(cloud: Cloud, key: str, doc: Doc) -> Doc:
    enabled = doc.get("logConfig", {}).get("enable")
    return {} if enabled is None else {"enableFlowLogs": enabled}


def after_subnet(cloud: Cloud, key: str, event: str) -> None:
    """Create or delete a route for each range of a subnet."""
    project = key.split("/")[1]
    doc = find(cloud, key) or {}
    wanted = (
        [] if event == "delete" else [*ipv4_ranges(doc), *([doc["ipv6CidrRange"]] if "ipv6CidrRange" in doc else [])]
    )
    for other, route in cloud.store.list("compute.routes", f"projects/{project}/"):
        if route.get("_subnet") == key:
            if route["destRange"] in wanted:
                wanted.remove(route["destRange"])
            else:
                cloud.store.delete("compute.routes", other)
    for text in wanted:
        new_resource(
            cloud,
            f"projects/{project}/global/routes/default-route-r-{secrets.token_hex(8)}",
            "route",
            {
                "description": f"Default local route to the subnetwork {text}.",
                "network": doc["network"],
                "destRange": text,
                "priority": 0,
                "nextHopNetwork": doc["network"],
                "_implied": True,
                "_subnet": key,
            },
        )


def guard_subnet(cloud: Cloud, key: str, doc: Doc) -> None:
    """Cloud Run's direct VPC egress reserves addresses of the subnet while a service exists, and for a while after it."""
    project, region = key.split("/")[1], key.split("/")[3]
    if doc.get("_implied"):
        network = find(cloud, key_of(doc["network"])) or {}
        if network.get("autoCreateSubnetworks"):
            text = f"Cannot delete auto subnetwork from an auto subnet mode network '{key_of(doc['network'])}'."
            raise ApiError(400, text, reason="invalid")
    for user in (*routers.users_of_subnet(cloud, key), *balancer_proxies.users(cloud, doc)):
        raise in_use("subnetwork", key, user, "")
    for path in _serverless_users(cloud, key):
        number = sum(map(ord, path)) * 10_000_019
        raise in_use("subnetwork", key, f"projects/{project}/regions/{region}/addresses/serverless-ipv4-{number}", "")


def _serverless_users(cloud: Cloud, key: str) -> Iterator[str]:
    """Names of the services and jobs of Cloud Run that have addresses of a subnet, also of those that are gone."""
    _, project, _, region, _, name = key.split("/")
    for kind in ("run.services", "run.jobs"):
        for path, resource in cloud.store.list(kind, f"projects/{project}/locations/{region}/"):
            template = resource.get("template", {})
            template = template.get("template", template)
            for interface in template.get("vpcAccess", {}).get("networkInterfaces", ()):
                if interface.get("subnetwork", "").rsplit("/", 1)[-1] == name:
                    yield path
    for path, held in cloud.store.list("run.heldAddresses"):
        if held["subnetwork"] == key and held["until"] > time.time():
            yield path


# -- routes and firewalls --------------------------------------------------


def prepare_route(draft: Draft) -> None:
    hops = [f for f in draft.doc if f.startswith("nextHop")]
    if len(hops) != 1:
        raise ApiError(400, "Exactly one next hop must be specified.", reason="invalid")
    for field, check in (("destRange", ipaddress.ip_network), ("nextHopIp", ipaddress.ip_address)):
        try:
            check(draft.doc.get(field, "0.0.0.0"))
        except ValueError:
            what = "a CIDR address range" if field == "destRange" else "an IP address"
            raise invalid(field, draft.doc[field], f"Must be {what}.") from None
    if not 0 <= draft.doc["priority"] <= 65535:
        raise invalid("priority", draft.doc["priority"], "Must be between 0 and 65535.")
    gateway = draft.doc.get("nextHopGateway")
    if gateway:
        draft.doc["nextHopGateway"] = link(f"projects/{draft.project}/global/gateways/{gateway.rsplit('/', 1)[1]}")


def guard_route(cloud: Cloud, key: str, doc: Doc) -> None:
    if doc.get("_subnet"):
        raise ApiError(400, f"The local route {doc['name']} cannot be deleted.", reason="invalid")


def prepare_firewall(draft: Draft) -> None:
    doc = draft.doc
    doc.setdefault("network", link(f"projects/{draft.project}/global/networks/default"))
    if bool(doc.get("allowed")) == bool(doc.get("denied")):
        raise ApiError(
            400,
            "Invalid value for field 'resource.allowed': ''. Exactly one of allowed or denied must be specified.",
            reason="invalid",
        )
    if not 0 <= doc["priority"] <= 65535:
        raise invalid("priority", doc["priority"], "Must be between 0 and 65535.")
    sources = ("sourceRanges", "sourceTags", "sourceServiceAccounts")
    if doc["direction"] == "INGRESS":
        if not any(doc.get(f) for f in sources):
            doc["sourceRanges"] = ["0.0.0.0/0"]
    else:
        for field in sources[1:]:
            if doc.get(field):
                raise invalid(field, doc[field], "It cannot be specified for an EGRESS firewall.")
        doc.setdefault("destinationRanges", ["0.0.0.0/0"])
    for field in ("sourceRanges", "destinationRanges"):
        for i, text in enumerate(doc.get(field, ())):
            try:
                ipaddress.ip_network(text)
            except ValueError:
                raise invalid(f"{field}[{i}]", text, "Must be a valid CIDR address range.") from None
    for part in ("allowed", "denied"):
        for i, rule in enumerate(doc.get(part, ())):
            if not rule.get("IPProtocol"):
                raise missing(f"resource.{part}[{i}].IPProtocol")
            for j, ports in enumerate(rule.get("ports", ())):
                low, _, high = ports.partition("-")
                if not (low.isdigit() and int(low) <= int(high or low if (high or low).isdigit() else -1) <= 65535):
                    raise invalid(
                        f"{part}[{i}].ports[{j}]",
                        ports,
                        "Ports may only be specified as an integer in the range 0-65535 or a range of them.",
                    )


def firewall_fields(cloud: Cloud, key: str, doc: Doc) -> Doc:
    return {"enableLogging": doc["logConfig"].get("enable", False)}


# -- addresses -------------------------------------------------------------


def _taken(cloud: Cloud) -> set[str]:
    documents = [
        *cloud.store.list("compute.addresses"),
        *cloud.store.list("compute.forwardingRules"),
        *cloud.store.list(PENDING),
    ]
    return {doc.get("address") or doc.get("IPAddress") or "" for _, doc in documents}


def external_address(cloud: Cloud, version: str = "IPV4") -> str:
    """An unused external address."""
    taken = _taken(cloud)
    if version == "IPV6":
        return next(a for i in range(1, 1 << 16) if (a := f"2001:db8:{i:x}::") not in taken)
    for net in _EXTERNAL:
        for address in net.hosts():
            if str(address) not in taken:
                return str(address)
    raise ApiError(403, "Quota 'STATIC_ADDRESSES' exceeded.  Limit: 762.0 globally.", reason="quotaExceeded")


def internal_address(cloud: Cloud, subnet: Doc) -> str:
    """A free address of a subnet; the first two and the last two are not assigned."""
    taken = _taken(cloud)
    for address in itertools.islice(_ipv4_of(subnet).hosts(), 1, 1 << 16):
        if str(address) not in taken:
            return str(address)
    raise ApiError(400, f"IP space of '{key_of(subnet['selfLink'])}' is exhausted.", reason="IP_SPACE_EXHAUSTED")


def _ipv4_of(subnet: Doc) -> Net:
    if "ipCidrRange" not in subnet:
        raise invalid("subnetwork", subnet["selfLink"], "The subnetwork has no IPv4 range.")
    return ipaddress.IPv4Network(subnet["ipCidrRange"])


def _free_range(draft: Draft, length: int) -> Net:
    """A free range of 10.0.0.0/8 for an allocation; chosen arbitrarily, as at Google."""
    used = [net for net, _ in ranges(draft.cloud, draft.doc["network"], besides=draft.key)]
    network = draft.target("network") or {}
    if network.get("autoCreateSubnetworks"):
        used.append(AUTO_RANGE)
    whole = ipaddress.IPv4Network("10.0.0.0/8")
    size = 1 << (32 - length)
    candidates = 1 << max(length - 8, 0)
    start = sum(map(ord, draft.key)) * 7919 % candidates
    for i in range(min(candidates, 1 << 16)):
        at = int(whole[0]) + (start + i) % candidates * size
        net = ipaddress.IPv4Network((at, length))
        if not any(net.overlaps(other) for other in used):
            return net
    raise ApiError(400, f"No free IP range of prefix length {length} could be found.", reason="invalid")


def prepare_address(draft: Draft) -> None:
    doc = draft.doc
    if draft.old is not None:
        return
    is_global = draft.scope == "global"
    inside = doc.get("subnetwork") and doc.get("ipVersion") != "IPV6" or doc.get("purpose") == "VPC_PEERING"
    kind = doc.setdefault("addressType", "INTERNAL" if inside else "EXTERNAL")
    if doc["networkTier"] == "STANDARD" and (is_global or kind == "INTERNAL"):
        raise invalid("networkTier", "STANDARD", "Global and internal addresses are of the PREMIUM tier.")
    if kind == "EXTERNAL":
        _external(draft, is_global)
    elif doc.get("purpose") == "VPC_PEERING":
        _peering_range(draft)
    elif is_global:
        if doc.get("purpose") != "PRIVATE_SERVICE_CONNECT":
            raise invalid(
                "purpose",
                doc.get("purpose", ""),
                "Global internal addresses must have the purpose VPC_PEERING or PRIVATE_SERVICE_CONNECT.",
            )
        if not doc.get("network"):
            raise missing("resource.network")
        if not doc.get("address"):
            doc["address"] = str(_free_range(draft, 30)[1])
    else:
        _regional_internal(draft)


def _external(draft: Draft, is_global: bool) -> None:
    """An external address; a regional IPv6 one is a range of a subnet."""
    doc = draft.doc
    of_subnet = doc.get("ipVersion") == "IPV6" and not is_global
    for field in ("purpose", "network", "prefixLength", *(() if of_subnet else ("subnetwork",))):
        if doc.get(field) and not (field == "purpose" and doc[field] == "NAT_AUTO"):
            raise invalid(field, doc[field], f"The {field} field can only be specified for INTERNAL addresses.")
    if of_subnet:
        if not doc.get("subnetwork"):
            raise missing("resource.subnetwork")
        if (draft.target("subnetwork") or {}).get("ipv6AccessType") != "EXTERNAL":
            raise invalid("subnetwork", doc["subnetwork"], "The subnetwork has no external IPv6 range.")
        doc.setdefault("ipv6EndpointType", "NETLB")
        doc["prefixLength"] = 96
    doc["address"] = doc.get("address") or external_address(draft.cloud, doc.get("ipVersion", "IPV4"))


def _peering_range(draft: Draft) -> None:
    doc = draft.doc
    if draft.scope != "global":
        raise invalid("purpose", "VPC_PEERING", "It can only be specified for global addresses.")
    if not doc.get("network"):
        raise missing("resource.network")
    length = doc.get("prefixLength")
    if length is None or not 8 <= length <= 29:
        raise invalid("prefixLength", length or 0, "Prefix length must be between 8 and 29.")
    if not doc.get("address"):
        doc["address"] = str(_free_range(draft, length)[0])
        return
    try:
        net = ipaddress.IPv4Network(f"{doc['address']}/{length}", strict=False)
    except ValueError:
        raise invalid("address", doc["address"], "It is not an IPv4 address.") from None
    for other, owner in ranges(draft.cloud, doc["network"], besides=draft.key):
        if net.overlaps(other):
            raise invalid("address", doc["address"], f"Invalid IPCidrRange: {net} conflicts with {owner}.")


def _regional_internal(draft: Draft) -> None:
    doc = draft.doc
    doc.setdefault("purpose", "GCE_ENDPOINT")
    doc.setdefault("subnetwork", link(f"projects/{draft.project}/{draft.scope}/subnetworks/default"))
    doc.pop("network", None)
    subnet = draft.target("subnetwork")
    if subnet is None:
        raise ApiError(404, f"The resource '{key_of(doc['subnetwork'])}' was not found", reason="notFound")
    shared_vpc.require_use(draft.call, key_of(doc["subnetwork"]))
    balancer_proxies.require_ordinary(subnet)
    net = _ipv4_of(subnet)
    if not doc.get("address"):
        doc["address"] = internal_address(draft.cloud, subnet)
    elif ipaddress.ip_address(doc["address"]) not in net:
        raise invalid(
            "address",
            doc["address"],
            f"Requested internal IP address {doc['address']} is not in the subnetwork range {net}.",
        )


def address_fields(cloud: Cloud, key: str, doc: Doc) -> Doc:
    """Status and users of an address: the forwarding rules that listen on it, the routers whose NAT uses it."""
    scope = key.rsplit("/", 2)[0]
    users = [
        d["selfLink"]
        for _, d in cloud.store.list("compute.forwardingRules", f"{scope}/")
        if d.get("IPAddress") == doc["address"]
    ]
    users += map(link, routers.users_of_address(cloud, key))
    return {"status": "IN_USE", "users": users} if users else {"status": "RESERVED"}


def guard_address(cloud: Cloud, key: str, doc: Doc) -> None:
    for user in address_fields(cloud, key, doc).get("users", ()):
        raise in_use("address", key, key_of(user), "")
