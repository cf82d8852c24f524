"""Compute Engine: networks and load balancing, as seen by a client."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

Doc = dict[str, Any]
BASE = "https://www.googleapis.com/compute/v1/"


class Compute:
    """The API of one project: paths are relative to it."""

    def __init__(self, api: Callable[..., requests.Response], done: Callable[..., Doc], project: str) -> None:
        self.api, self.done, self.project = api, done, project

    def link(self, path: str) -> str:
        return f"{BASE}projects/{self.project}/{path}"

    def call(self, method: str, path: str, body: Doc | None = None, **kwargs: Any) -> requests.Response:
        return self.api(method, self.link(path).rstrip("/").replace("www.", "compute."), json=body, **kwargs)

    def get(self, path: str) -> Doc:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def make(self, path: str, **body: Any) -> Doc:
        """Create a resource in a collection, wait, and read it."""
        operation = self.done(self.call("POST", path, body))
        assert "error" not in operation, operation
        return self.get(f"{path}/{body['name']}")

    def do(self, method: str, path: str, body: Doc | None = None) -> Doc:
        operation = self.done(self.call(method, path, body))
        assert "error" not in operation, operation
        return operation

    def refused(self, method: str, path: str, body: Doc | None = None, **kwargs: Any) -> tuple[int, str, str]:
        """Status, reason and message of an error."""
        answer = self.call(method, path, body, **kwargs)
        assert answer.status_code >= 400, answer.text
        error = answer.json()["error"]
        return error["code"], error["errors"][0]["reason"], error["message"]


@pytest.fixture(scope="module")
def compute(api: Any, done: Any, enable: Any, project: str) -> Compute:
    enable(project, "compute.googleapis.com")
    return Compute(api, done, project)


@pytest.fixture(scope="module")
def network(compute: Compute) -> Doc:
    return compute.make("global/networks", name="net", autoCreateSubnetworks=False)


@pytest.fixture(scope="module")
def balancer(compute: Compute) -> Doc:
    """A whole load balancer in front of a Cloud Run service."""
    out = {"address": compute.make("global/addresses", name="ip")}
    out["neg"] = compute.make(
        "regions/europe-west2/networkEndpointGroups",
        name="neg",
        networkEndpointType="SERVERLESS",
        cloudRun={"service": "s"},
    )
    out["backend"] = compute.make(
        "global/backendServices",
        name="backend",
        protocol="HTTPS",
        loadBalancingScheme="EXTERNAL_MANAGED",
        backends=[{"group": out["neg"]["selfLink"]}],
        iap={"enabled": True},
        logConfig={"enable": True},
    )
    out["map"] = compute.make("global/urlMaps", name="map", defaultService=out["backend"]["selfLink"])
    managed = {"domains": ["a.example.com"]}
    out["certificate"] = compute.make("global/sslCertificates", name="cert", type="MANAGED", managed=managed)
    out["proxy"] = compute.make(
        "global/targetHttpsProxies",
        name="https",
        urlMap=out["map"]["selfLink"],
        sslCertificates=[out["certificate"]["selfLink"]],
    )
    out["rule"] = compute.make(
        "global/forwardingRules",
        name="rule",
        IPAddress=out["address"]["address"],
        portRange="443",
        target=out["proxy"]["selfLink"],
        loadBalancingScheme="EXTERNAL_MANAGED",
    )
    return out


# -- initial resources of a project------------------------------------------


def test_a_project_starts_with_a_default_network(compute: Compute) -> None:
    default = compute.get("global/networks/default")
    assert default["autoCreateSubnetworks"] is True
    assert default["description"] == "Default network for the project"
    subnet = compute.get("regions/us-central1/subnetworks/default")
    assert subnet["ipCidrRange"] == "10.128.0.0/20" and subnet["selfLink"] in default["subnetworks"]
    names = {rule["name"] for rule in compute.get("global/firewalls")["items"]}
    assert {"default-allow-ssh", "default-allow-internal"} <= names
    assert compute.get("")["defaultServiceAccount"].endswith("-compute@developer.gserviceaccount.com")


def test_the_api_is_refused_until_enabled(api: Any, done: Any) -> None:
    url = "https://cloudresourcemanager.googleapis.com/v1/projects"
    done(api("POST", url, json={"projectId": "compute-not-enabled"}))
    code, reason, message = Compute(api, done, "compute-not-enabled").refused("GET", "global/networks")
    assert (code, reason) == (403, "accessNotConfigured") and "Enable it by visiting" in message


# -- the engine ------------------------------------------------------------


def test_an_operation_runs_and_ends(compute: Compute) -> None:
    first = compute.call("POST", "global/networks", {"name": "ops", "autoCreateSubnetworks": False}).json()
    assert (first["kind"], first["operationType"]) == ("compute#operation", "insert")
    assert (first["status"], first["progress"]) == ("RUNNING", 0)
    assert first["targetLink"] == compute.link("global/networks/ops")
    last = compute.call("POST", f"global/operations/{first['name']}/wait").json()
    assert (last["status"], last["progress"]) == ("DONE", 100) and last["endTime"]
    assert last["targetId"] == first["targetId"] == compute.get("global/networks/ops")["id"]
    assert first["name"] in {op["name"] for op in compute.get("global/operations")["items"]}
    assert compute.do("DELETE", "global/networks/ops")["operationType"] == "delete"
    assert compute.refused("GET", "global/networks/ops")[:2] == (404, "notFound")


def test_both_hosts_and_the_beta_api_answer(compute: Compute, network: Doc, api: Any) -> None:
    assert api("GET", network["selfLink"]).json()["id"] == network["id"]
    beta = api("GET", compute.link("global/networks/net").replace("/v1/", "/beta/")).json()
    assert beta["selfLink"] == network["selfLink"].replace("/v1/", "/beta/")


def test_names_are_validated_and_unique(compute: Compute, network: Doc) -> None:
    body = {"name": "Bad_Name", "autoCreateSubnetworks": False}
    assert compute.refused("POST", "global/networks", body)[:2] == (400, "invalid")
    code, reason, message = compute.refused("POST", "global/networks", {"name": "net", "autoCreateSubnetworks": False})
    assert (code, reason) == (409, "alreadyExists")
    assert message == f"The resource 'projects/{compute.project}/global/networks/net' already exists"


def test_unknown_places_are_refused(compute: Compute) -> None:
    code, reason, message = compute.refused("GET", "regions/europe-west99/subnetworks")
    assert (code, reason, message) == (
        400,
        "invalid",
        "Invalid value for field 'region': 'europe-west99'. Unknown region.",
    )
    assert compute.refused("GET", "zones/nowhere/networkEndpointGroups")[2].endswith("Unknown zone.")
    assert compute.refused("GET", "regions/europe-west99")[0] == 404


def test_references_must_be_there_and_of_their_kind(compute: Compute) -> None:
    missing = compute.link("global/networks/none")
    body = {"name": "f", "network": missing, "allowed": [{"IPProtocol": "tcp"}]}
    assert compute.refused("POST", "global/firewalls", body)[:2] == (404, "notFound")
    assert "The URL is malformed" in compute.refused("POST", "global/firewalls", body | {"network": "net"})[2]
    wrong = compute.link("regions/us-central1/subnetworks/default")
    assert compute.refused("POST", "global/firewalls", body | {"network": wrong})[:2] == (400, "invalid")


def test_partial_links_and_project_numbers_become_full_links(compute: Compute, network: Doc) -> None:
    number = compute.get("")["id"]
    body = {"allowed": [{"IPProtocol": "icmp"}], "network": f"projects/{number}/global/networks/net"}
    assert compute.make("global/firewalls", name="partial", **body)["network"] == network["selfLink"]
    compute.do("DELETE", "global/firewalls/partial")


def test_lists_page_and_filter(compute: Compute) -> None:
    first = compute.get("regions?maxResults=5")
    assert len(first["items"]) == 5
    second = compute.get(f"regions?maxResults=5&pageToken={first['nextPageToken']}")
    assert not {r["name"] for r in first["items"]} & {r["name"] for r in second["items"]}
    found = compute.get("regions?filter=name%3Deurope-west2")["items"]
    assert [r["name"] for r in found] == ["europe-west2"]
    found = compute.get('regions?filter=(name eq "europe-west[12]") OR name=us-east1')["items"]
    assert [r["name"] for r in found] == ["europe-west1", "europe-west2", "us-east1"]
    assert compute.refused("GET", "regions?filter=((")[:2] == (400, "invalid")


def test_aggregated_lists_have_every_scope(compute: Compute) -> None:
    items = compute.get("aggregated/subnetworks?includeAllScopes=True&returnPartialSuccess=True")["items"]
    assert items["regions/us-central1"]["subnetworks"][0]["name"] == "default"
    assert items["global"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"
    assert "zones/us-central1-a" in items


def test_permissions_are_asked_for(compute: Compute) -> None:
    code, reason, message = compute.refused("GET", "global/networks/default", as_="stranger@example.com")
    assert (code, reason) == (403, "forbidden")
    assert (
        message
        == f"Required 'compute.networks.get' permission for 'projects/{compute.project}/global/networks/default'"
    )


# -- networks --------------------------------------------------------------


def test_subnets_must_not_overlap(compute: Compute, network: Doc) -> None:
    subnet = compute.make(
        "regions/europe-west2/subnetworks",
        name="sub",
        network=network["selfLink"],
        ipCidrRange="10.1.0.0/24",
        privateIpGoogleAccess=True,
    )
    assert (subnet["gatewayAddress"], subnet["purpose"], subnet["stackType"]) == ("10.1.0.1", "PRIVATE", "IPV4_ONLY")
    assert compute.get("global/networks/net")["subnetworks"] == [subnet["selfLink"]]
    body = {"name": "two", "network": network["selfLink"]}
    path = "regions/us-central1/subnetworks"
    message = compute.refused("POST", path, body | {"ipCidrRange": "10.1.0.0/20"})[2]
    assert message.endswith("10.1.0.0/20 conflicts with existing subnetwork 'sub' in region 'europe-west2'.")
    for cidr in ("10.1.0.1/24", "10.0.0.0/30", "127.0.0.0/24", "x"):
        assert compute.refused("POST", path, body | {"ipCidrRange": cidr})[:2] == (400, "invalid"), cidr
    body = {"name": "auto", "network": compute.link("global/networks/default"), "ipCidrRange": "10.129.0.0/20"}
    assert "cannot overlap with 10.128.0.0/9" in compute.refused("POST", path, body)[2]


def test_a_subnet_grows_and_changes_by_fingerprint(compute: Compute, network: Doc) -> None:
    path = "regions/us-east1/subnetworks"
    subnet = compute.make(path, name="grow", network=network["selfLink"], ipCidrRange="10.3.0.0/24")
    compute.do("POST", f"{path}/grow/expandIpCidrRange", {"ipCidrRange": "10.3.0.0/20"})
    assert compute.refused("POST", f"{path}/grow/expandIpCidrRange", {"ipCidrRange": "10.3.0.0/24"})[0] == 400
    stale = {"fingerprint": subnet["fingerprint"], "privateIpGoogleAccess": True}
    assert compute.refused("PATCH", f"{path}/grow", stale)[:2] == (412, "conditionNotMet")
    fresh = compute.get(f"{path}/grow")["fingerprint"]
    compute.do("PATCH", f"{path}/grow", stale | {"fingerprint": fresh})
    assert compute.get(f"{path}/grow")["privateIpGoogleAccess"] is True
    immutable = {
        "fingerprint": compute.get(f"{path}/grow")["fingerprint"],
        "network": compute.link("global/networks/default"),
    }
    assert compute.refused("PATCH", f"{path}/grow", immutable)[:2] == (400, "invalid")
    compute.do("DELETE", f"{path}/grow")


def test_a_subnet_has_secondary_ranges_and_a_route_for_each(compute: Compute, network: Doc) -> None:
    path = "regions/us-west2/subnetworks"
    second = [{"rangeName": "pods", "ipCidrRange": "10.5.16.0/24"}]
    body = {"name": "two", "network": network["selfLink"], "ipCidrRange": "10.5.0.0/24", "logConfig": {"enable": False}}
    subnet = compute.make(path, **body, secondaryIpRanges=second)
    assert subnet["secondaryIpRanges"] == second
    assert (subnet["enableFlowLogs"], subnet["allowSubnetCidrRoutesOverlap"]) == (False, False)
    routes = {r["destRange"] for r in compute.get("global/routes")["items"] if r["network"] == network["selfLink"]}
    assert {"10.5.0.0/24", "10.5.16.0/24"} <= routes
    change = {"fingerprint": subnet["fingerprint"], "secondaryIpRanges": [], "logConfig": {"enable": True}}
    assert compute.do("PATCH", f"{path}/two", change)["operationType"] == "compute.subnetworks.patch"
    subnet = compute.get(f"{path}/two")
    assert "secondaryIpRanges" not in subnet and subnet["enableFlowLogs"] is True
    assert "10.5.16.0/24" not in {route["destRange"] for route in compute.get("global/routes")["items"]}
    twice = body | {"name": "x", "ipCidrRange": "10.6.0.0/24", "secondaryIpRanges": second + second}
    assert compute.refused("POST", path, twice)[:2] == (400, "invalid")
    assert compute.refused("POST", path, {"name": "x", "network": network["selfLink"]})[:2] == (400, "required")
    compute.do("DELETE", f"{path}/two")


def test_subnets_of_ipv6(compute: Compute) -> None:
    network = compute.make("global/networks", name="six", autoCreateSubnetworks=False)
    assert "mtu" not in network
    path, body = (
        "regions/us-west2/subnetworks",
        {"name": "only", "network": network["selfLink"], "stackType": "IPV6_ONLY"},
    )
    assert compute.refused("POST", path, body)[:2] == (400, "invalid")  # no separate range
    subnet = compute.make(path, **body, ipv6AccessType="EXTERNAL")
    assert (
        subnet["ipv6CidrRange"] == subnet["externalIpv6Prefix"]
        and not {"ipCidrRange", "gatewayAddress"} & subnet.keys()
    )
    fixed = {"fingerprint": subnet["fingerprint"], "ipv6AccessType": "INTERNAL"}
    assert compute.refused("PATCH", f"{path}/only", fixed)[:2] == (400, "invalid")
    compute.do("PATCH", "global/networks/six", {"enableUlaInternalIpv6": True})
    ula = compute.get("global/networks/six")["internalIpv6Range"]
    dual = {"name": "dual", "network": network["selfLink"], "ipCidrRange": "10.0.0.0/24", "stackType": "IPV4_IPV6"}
    subnet = compute.make(path, **dual)
    assert subnet["internalIpv6Prefix"].split(":")[:3] == ula.split(":")[:3] and subnet["ipv6AccessType"] == "INTERNAL"
    compute.do("PATCH", f"{path}/dual", {"fingerprint": subnet["fingerprint"], "stackType": "IPV4_ONLY"})
    assert not {"internalIpv6Prefix", "ipv6CidrRange"} & compute.get(f"{path}/dual").keys()
    six = {"name": "six", "ipVersion": "IPV6"}
    assert compute.refused("POST", "regions/us-west2/addresses", six)[:2] == (400, "required")
    address = compute.make("regions/us-west2/addresses", **six, subnetwork="regions/us-west2/subnetworks/only")
    assert (address["addressType"], address["prefixLength"], address["ipv6EndpointType"]) == ("EXTERNAL", 96, "NETLB")


def test_a_router_translates_addresses(compute: Compute, network: Doc) -> None:
    region = "regions/us-west3"
    subnet = compute.make(f"{region}/subnetworks", name="nat", network=network["selfLink"], ipCidrRange="10.7.0.0/24")
    address = compute.make(f"{region}/addresses", name="nat")
    router = compute.make(f"{region}/routers", name="r", network="global/networks/net", bgp={"asn": 64514})
    assert router["bgp"] == {"asn": 64514, "advertiseMode": "DEFAULT", "keepaliveInterval": 20}
    assert (router["network"], router["encryptedInterconnectRouter"]) == (network["selfLink"], False)
    nat = {
        "name": "n",
        "natIpAllocateOption": "MANUAL_ONLY",
        "natIps": [f"{region}/addresses/nat"],
        "sourceSubnetworkIpRangesToNat": "LIST_OF_SUBNETWORKS",
        "subnetworks": [{"name": f"{region}/subnetworks/nat", "sourceIpRangesToNat": ["ALL_IP_RANGES"]}],
    }
    for wrong in (
        {"natIps": []},
        {"natIpAllocateOption": "AUTO_ONLY"},
        {"subnetworks": []},
        {"name": "N"},
        {"type": "PRIVATE"},
        {"subnetworks": [{"name": "regions/us-west2/subnetworks/nat"}]},
    ):
        assert compute.refused("PATCH", f"{region}/routers/r", {"nats": [nat | wrong]})[0] in (400, 404), wrong
    private = {
        "name": "n",
        "type": "PRIVATE",
        "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES",
        "rules": [{"ruleNumber": 100, "match": "true", "action": {}}],
    }
    assert "At least one source active range" in compute.refused("PATCH", f"{region}/routers/r", {"nats": [private]})[2]
    assert compute.do("PATCH", f"{region}/routers/r", {"nats": [nat]})["operationType"] == "patch"
    shown = compute.get(f"{region}/routers/r")["nats"][0]
    assert (shown["type"], shown["autoNetworkTier"], shown["endpointTypes"]) == (
        "PUBLIC",
        "PREMIUM",
        ["ENDPOINT_TYPE_VM"],
    )
    assert (shown["effectiveTcpTimeWaitTimeoutSec"], shown["enableEndpointIndependentMapping"]) == (120, False)
    assert shown["natIps"] == [address["selfLink"]] and shown["subnetworks"][0]["name"] == subnet["selfLink"]
    used = compute.get(f"{region}/addresses/nat")
    assert (used["status"], used["users"]) == ("IN_USE", [router["selfLink"]])
    for held in ("addresses/nat", "subnetworks/nat"):
        assert compute.refused("DELETE", f"{region}/{held}")[:2] == (400, "resourceInUseByAnotherResource")
    compute.do("PATCH", f"{region}/routers/r", {"nats": []})
    assert "nats" not in compute.get(f"{region}/routers/r")
    for path in ("routers/r", "addresses/nat", "subnetworks/nat"):
        compute.do("DELETE", f"{region}/{path}")


def test_a_network_in_use_stays(compute: Compute) -> None:
    network = compute.make("global/networks", name="used", autoCreateSubnetworks=False)
    compute.make("regions/us-east1/subnetworks", name="user", network=network["selfLink"], ipCidrRange="10.0.0.0/24")
    code, reason, message = compute.refused("DELETE", "global/networks/used")
    assert (code, reason) == (400, "resourceInUseByAnotherResource")
    key = f"projects/{compute.project}"
    assert message == (
        f"The network resource '{key}/global/networks/used' is already being used by "
        f"'{key}/regions/us-east1/subnetworks/user'"
    )
    compute.do("DELETE", "regions/us-east1/subnetworks/user")
    compute.do("DELETE", "global/networks/used")
    routes = compute.get("global/routes")["items"]
    assert network["selfLink"] not in {route["network"] for route in routes}


def test_an_auto_mode_network_creates_and_deletes_its_subnets(compute: Compute) -> None:
    network = compute.make("global/networks", name="auto", autoCreateSubnetworks=True)
    assert len(network["subnetworks"]) > 40
    assert compute.refused("DELETE", "regions/us-west1/subnetworks/auto")[0] == 400
    compute.do("DELETE", "global/networks/auto")
    assert compute.refused("GET", "regions/us-west1/subnetworks/auto")[0] == 404


def test_networks_peer_when_both_sides_say_so(compute: Compute) -> None:
    one, two = (compute.make("global/networks", name=n, autoCreateSubnetworks=False) for n in ("peer-a", "peer-b"))
    for name, other in (("peer-a", two), ("peer-b", one)):
        body = {"networkPeering": {"name": "to", "network": other["selfLink"], "exchangeSubnetRoutes": True}}
        assert compute.do("POST", f"global/networks/{name}/addPeering", body)["operationType"] == "addPeering"
        states = [
            compute.get(f"global/networks/{n}").get("peerings", [{}])[0].get("state") for n in ("peer-a", "peer-b")
        ]
        assert states == (["INACTIVE", None] if name == "peer-a" else ["ACTIVE", "ACTIVE"])
    peering = compute.get("global/networks/peer-a")["peerings"][0]
    assert peering["updateStrategy"] == "INDEPENDENT" and re.fullmatch(
        r"\[20\S+\]: Connected\.", peering["stateDetails"]
    )
    assert (
        compute.do("POST", "global/networks/peer-a/removePeering", {"name": "to"})["operationType"] == "removePeering"
    )
    assert compute.get("global/networks/peer-b")["peerings"][0]["state"] == "INACTIVE"
    assert compute.refused("POST", "global/networks/peer-a/removePeering", {"name": "to"})[0] == 400


def test_routes_lead_somewhere(compute: Compute, network: Doc) -> None:
    body = {"name": "route", "network": "global/networks/net", "destRange": "192.168.7.0/24", "nextHopIp": "10.1.0.9"}
    route = compute.make("global/routes", **body, priority=100)
    assert (route["network"], route["priority"]) == (network["selfLink"], 100)
    gateway = {"nextHopGateway": "global/gateways/default-internet-gateway"}
    for wrong in ({"destRange": "x"}, {"nextHopIp": "x"}, {"priority": 70000}, gateway):
        assert compute.refused("POST", "global/routes", body | {"name": "x"} | wrong)[:2] == (400, "invalid"), wrong
    compute.do("DELETE", "global/routes/route")


def test_firewalls_get_their_defaults(compute: Compute, network: Doc) -> None:
    body = {
        "name": "fw",
        "network": network["selfLink"],
        "allowed": [{"IPProtocol": "tcp", "ports": ["80", "1000-2000"]}],
    }
    firewall = compute.make("global/firewalls", **body)
    assert (firewall["direction"], firewall["priority"], firewall["sourceRanges"]) == ("INGRESS", 1000, ["0.0.0.0/0"])
    assert firewall["description"] == "" and "enableLogging" not in firewall
    beta = compute.api("GET", firewall["selfLink"].replace("/v1/", "/beta/")).json()
    assert beta["enableLogging"] is False
    assert compute.do("PATCH", "global/firewalls/fw", {"disabled": True})["operationType"] == "patch"
    assert compute.get("global/firewalls/fw")["disabled"] is True
    assert (
        compute.refused("POST", "global/firewalls", body | {"name": "x", "denied": [{"IPProtocol": "all"}]})[0] == 400
    )
    bad = body | {"name": "x", "allowed": [{"IPProtocol": "tcp", "ports": ["99999"]}]}
    assert compute.refused("POST", "global/firewalls", bad)[0] == 400
    compute.do("DELETE", "global/firewalls/fw")


def test_addresses_are_documentation_ranges_and_know_their_users(compute: Compute, balancer: Doc) -> None:
    address = compute.get("global/addresses/ip")
    assert address["address"].startswith(("203.0.113.", "198.51.100.", "192.0.2."))
    assert (address["status"], address["users"]) == ("IN_USE", [balancer["rule"]["selfLink"]])
    assert compute.refused("DELETE", "global/addresses/ip")[:2] == (400, "resourceInUseByAnotherResource")
    other = compute.make("global/addresses", name="other", labels={"a": "b"})
    assert other["address"] != address["address"] and other["status"] == "RESERVED" and other["labels"] == {"a": "b"}
    labels = {"labels": {"a": "c"}, "labelFingerprint": other["labelFingerprint"]}
    assert compute.call("POST", "global/addresses/other/setLabels", labels).json()["status"] == "DONE"
    assert compute.refused("POST", "global/addresses/other/setLabels", labels)[:2] == (412, "conditionNotMet")
    compute.do("DELETE", "global/addresses/other")


def test_allocated_ranges_are_free_ones(compute: Compute, network: Doc) -> None:
    body = {"purpose": "VPC_PEERING", "addressType": "INTERNAL", "network": network["selfLink"]}
    chosen = compute.make("global/addresses", name="range", prefixLength=16, **body)
    assert (
        chosen["address"].startswith("10.")
        and chosen["address"].endswith(".0.0")
        and chosen["network"] == network["selfLink"]
    )
    within = compute.make("global/addresses", name="within", prefixLength=16, address="172.20.1.1", **body)
    assert within["address"] == "172.20.1.1"
    taken = body | {"name": "again", "prefixLength": 24, "address": "172.20.9.0"}
    assert (
        "conflicts with existing allocated IP range 'within'" in compute.refused("POST", "global/addresses", taken)[2]
    )
    compute.do("DELETE", "global/addresses/within")
    taken = body | {"name": "again", "prefixLength": 16, "address": chosen["address"]}
    assert "conflicts with existing allocated IP range 'range'" in compute.refused("POST", "global/addresses", taken)[2]
    subnet = {"name": "s", "network": network["selfLink"], "ipCidrRange": f"{chosen['address']}/24"}
    assert "conflicts" in compute.refused("POST", "regions/us-west1/subnetworks", subnet)[2]
    assert compute.refused("POST", "global/addresses", body | {"name": "no-length"})[0] == 400
    compute.do("DELETE", "global/addresses/range")


# -- load balancing --------------------------------------------------------


def test_a_load_balancer_is_filled_in_as_google_does(compute: Compute, balancer: Doc) -> None:
    assert balancer["neg"]["size"] == 0 and balancer["neg"]["region"].endswith("/regions/europe-west2")
    backend = compute.get("global/backendServices/backend")
    expected = {"port": 80, "portName": "http", "timeoutSec": 30, "sessionAffinity": "NONE", "enableCDN": False}
    assert expected.items() <= backend.items()
    assert backend["backends"] == [
        {"group": balancer["neg"]["selfLink"], "balancingMode": "UTILIZATION", "capacityScaler": 1.0}
    ]
    assert repr(backend["logConfig"]["sampleRate"]) == "1"  # not 1.0: clients compare values as strings
    assert backend["usedBy"] == [{"reference": balancer["map"]["selfLink"]}]
    assert balancer["proxy"]["quicOverride"] == "NONE" and balancer["proxy"]["tlsEarlyData"] == "DISABLED"
    assert balancer["rule"]["portRange"] == "443-443" and balancer["rule"]["networkTier"] == "PREMIUM"


def test_a_deleted_user_is_shown_for_a_moment(compute: Compute, balancer: Doc) -> None:
    compute.make("global/urlMaps", name="passing", defaultService=balancer["backend"]["selfLink"])
    compute.do("DELETE", "global/urlMaps/passing")
    assert len(compute.get("global/backendServices/backend")["usedBy"]) == 2
    time.sleep(1)
    assert len(compute.get("global/backendServices/backend")["usedBy"]) == 1


def test_everything_of_it_is_held_by_what_refers_to_it(compute: Compute, balancer: Doc) -> None:
    for path, user in (
        ("regions/europe-west2/networkEndpointGroups/neg", "backendServices/backend"),
        ("global/backendServices/backend", "urlMaps/map"),
        ("global/urlMaps/map", "targetHttpsProxies/https"),
        ("global/targetHttpsProxies/https", "forwardingRules/rule"),
        ("global/sslCertificates/cert", "targetHttpsProxies/https"),
    ):
        code, reason, message = compute.refused("DELETE", path)
        assert (code, reason) == (400, "resourceInUseByAnotherResource") and message.endswith(f"global/{user}'"), (
            message
        )


def test_a_managed_certificate_waits_for_a_rule(compute: Compute, balancer: Doc) -> None:
    waiting = compute.make(
        "global/sslCertificates", name="waiting", type="MANAGED", managed={"domains": ["b.example.com"]}
    )
    assert waiting["managed"] == {
        "domains": ["b.example.com"],
        "status": "PROVISIONING",
        "domainStatus": {"b.example.com": "PROVISIONING"},
    }
    assert compute.get("global/sslCertificates/cert")["managed"]["status"] == "ACTIVE"
    links = [balancer["certificate"]["selfLink"], waiting["selfLink"]]
    operation = compute.do("POST", "targetHttpsProxies/https/setSslCertificates", {"sslCertificates": links})
    assert operation["operationType"] == "SetSslCertificates"
    ready = compute.get("global/sslCertificates/waiting")
    assert ready["managed"]["domainStatus"] == {"b.example.com": "ACTIVE"} and ready["expireTime"]
    compute.do("POST", "targetHttpsProxies/https/setSslCertificates", {"sslCertificates": links[:1]})
    code, reason, text = compute.refused("POST", "targetHttpsProxies/https/setSslCertificates", {"sslCertificates": []})
    assert (code, reason) == (412, "conditionNotMet") and text.startswith(
        "Certificate Map or at least 1 SSL certificate"
    )
    compute.do("DELETE", "global/sslCertificates/waiting")


def test_certificates_have_limits(compute: Compute) -> None:
    for domains in (["*.example.com"], [f"d{i}.example.com" for i in range(101)], [], ["nodots"], ["a.b", "a.b"]):
        body = {"name": "bad", "type": "MANAGED", "managed": {"domains": domains}}
        assert compute.refused("POST", "global/sslCertificates", body)[:2] == (400, "invalid"), domains
    body = {"name": "bad", "certificate": "x", "privateKey": "y"}
    assert compute.refused("POST", "global/sslCertificates", body)[1] == "sslCertificateCouldNotParseCert"


def test_secrets_of_iap_are_hashed(compute: Compute) -> None:
    iap = {"enabled": True, "oauth2ClientId": "id", "oauth2ClientSecret": "secret"}
    backend = compute.make("global/backendServices", name="iap", loadBalancingScheme="EXTERNAL_MANAGED", iap=iap)
    digest = hashlib.sha256(b"secret").hexdigest()
    assert backend["iap"] == {"enabled": True, "oauth2ClientId": "id", "oauth2ClientSecretSha256": digest}
    assert "secret" not in str(backend).replace("Secret", "")
    compute.do("PATCH", "global/backendServices/iap", {"description": "x", "fingerprint": backend["fingerprint"]})
    assert compute.get("global/backendServices/iap")["iap"] == backend["iap"]
    half = {"name": "half", "iap": {"enabled": True, "oauth2ClientId": "id"}}
    assert compute.refused("POST", "global/backendServices", half)[:2] == (400, "invalid")
    compute.do(
        "PATCH",
        "global/backendServices/iap",
        {"iap": {"enabled": True, "oauth2ClientId": "", "oauth2ClientSecret": ""}},
    )
    assert (
        compute.get("global/backendServices/iap")["iap"]["oauth2ClientSecretSha256"] == hashlib.sha256(b"").hexdigest()
    )
    compute.do("DELETE", "global/backendServices/iap")


def test_serverless_backends_take_less(compute: Compute, balancer: Doc) -> None:
    body = {
        "name": "bad",
        "loadBalancingScheme": "EXTERNAL_MANAGED",
        "backends": [{"group": balancer["neg"]["selfLink"]}],
    }
    message = compute.refused("POST", "global/backendServices", body | {"timeoutSec": 120})[2]
    assert message == (
        "Invalid value for field 'resource.timeoutSec': '120'. Timeout sec is not supported for a backend service "
        "with Serverless network endpoint groups."
    )
    assert "Port name" in compute.refused("POST", "global/backendServices", body | {"portName": "x"})[2]
    check = compute.make("global/healthChecks", name="hc", type="HTTP")
    assert check["httpHealthCheck"] == {"port": 80, "proxyHeader": "NONE", "requestPath": "/"}
    assert (
        "healthcheck"
        in compute.refused("POST", "global/backendServices", body | {"healthChecks": [check["selfLink"]]})[2]
    )
    compute.do("DELETE", "global/healthChecks/hc")


def test_updates_need_a_fresh_fingerprint_and_immutable_fields_stay(compute: Compute, balancer: Doc) -> None:
    path = "global/backendServices/backend"
    backend = compute.get(path)
    assert compute.refused("PUT", path, {"name": "backend"})[:2] == (412, "conditionNotMet")
    assert compute.refused("PATCH", path, {"fingerprint": "AAAAAAAAAAA="})[:2] == (412, "conditionNotMet")
    assert compute.refused("PATCH", path, {"loadBalancingScheme": "EXTERNAL"})[:2] == (400, "invalid")
    assert compute.refused("PATCH", path, {"name": "other"})[:2] == (400, "invalid")
    compute.do("PUT", path, backend | {"description": "new"})
    assert compute.get(path)["description"] == "new" and compute.get(path)["iap"] == backend["iap"]


def test_url_maps_are_checked(compute: Compute, balancer: Doc) -> None:
    backend = balancer["backend"]["selfLink"]
    redirect = compute.make("global/urlMaps", name="redirect", defaultUrlRedirect={"httpsRedirect": True})
    assert redirect["defaultUrlRedirect"]["redirectResponseCode"] == "MOVED_PERMANENTLY_DEFAULT"
    for body in (
        {},
        {"defaultService": backend, "defaultUrlRedirect": {"httpsRedirect": True}},
        {"defaultService": backend, "hostRules": [{"hosts": ["*"], "pathMatcher": "none"}]},
        {"defaultService": backend, "pathMatchers": [{"name": "unused", "defaultService": backend}]},
    ):
        assert compute.refused("POST", "global/urlMaps", {"name": "bad"} | body)[:2] == (400, "invalid"), body
    bad = {"name": "bad", "defaultService": compute.link("global/backendServices/none")}
    assert compute.refused("POST", "global/urlMaps", bad)[:2] == (404, "notFound")
    compute.do("DELETE", "global/urlMaps/redirect")


def test_rules_move_between_proxies_and_share_no_address(compute: Compute, balancer: Doc) -> None:
    other = compute.make(
        "global/targetHttpsProxies",
        name="https2",
        urlMap=balancer["map"]["selfLink"],
        sslCertificates=[balancer["certificate"]["selfLink"]],
    )
    operation = compute.do("POST", "global/forwardingRules/rule/setTarget", {"target": other["selfLink"]})
    assert operation["operationType"] == "SetTarget"
    assert compute.get("global/forwardingRules/rule")["target"] == other["selfLink"]
    compute.do("POST", "global/forwardingRules/rule/setTarget", {"target": balancer["proxy"]["selfLink"]})
    body = {
        "name": "clash",
        "IPAddress": balancer["address"]["address"],
        "portRange": "443",
        "target": other["selfLink"],
        "loadBalancingScheme": "EXTERNAL_MANAGED",
    }
    assert "in-use and would result in a conflict" in compute.refused("POST", "global/forwardingRules", body)[2]
    classic = body | {"portRange": "444", "loadBalancingScheme": "EXTERNAL"}
    assert compute.refused("POST", "global/forwardingRules", classic) == (
        400,
        "invalid",
        "Invalid value for field 'resource.backendService': ''. Load balancing scheme EXTERNAL does not match "
        "the backend service load balancing scheme EXTERNAL_MANAGED.",
    )
    compute.do("DELETE", "global/targetHttpsProxies/https2")


def test_a_rule_names_its_address_by_a_link_or_a_part_of_one(compute: Compute, balancer: Doc) -> None:
    compute.make("global/addresses", name="of-link")
    compute.make("regions/europe-west2/addresses", name="elsewhere")
    address = compute.get("global/addresses/of-link")["address"]
    body = {
        "name": "by-link",
        "portRange": "443",
        "target": balancer["proxy"]["selfLink"],
        "loadBalancingScheme": "EXTERNAL_MANAGED",
    }
    for given in ("global/addresses/of-link", "of-link", compute.link("global/addresses/of-link"), address):
        rule = compute.make("global/forwardingRules", **body, IPAddress=given)
        assert rule["IPAddress"] == address
        compute.do("DELETE", "global/forwardingRules/by-link")
    bad = body | {"IPAddress": "global/addresses/none"}
    assert compute.refused("POST", "global/forwardingRules", bad)[:2] == (404, "notFound")
    for given in (
        "regions/europe-west2/addresses/elsewhere",
        compute.get("regions/europe-west2/addresses/elsewhere")["address"],
    ):
        status, reason, text = compute.refused("POST", "global/forwardingRules", body | {"IPAddress": given})
        assert (status, reason) == (400, "invalid") and text.endswith("Invalid IP address specified.")
    compute.do("DELETE", "global/addresses/of-link")
    compute.do("DELETE", "regions/europe-west2/addresses/elsewhere")


def test_labels_have_their_letters(compute: Compute) -> None:
    for labels, words in (
        ({"Team": "a"}, "Label key 'Team' violates format constraints. The key must start with a lowercase character"),
        ({"team": "A"}, "Label value 'A' violates format constraints. The value can only contain lowercase letters"),
        ({"team": "x" * 64}, "The value can be at most 63 characters long."),
        ({"1st": "a"}, "Label key '1st'"),
    ):
        status, reason, text = compute.refused("POST", "global/addresses", {"name": "labelled", "labels": labels})
        assert (status, reason) == (400, "invalid") and words in text
        assert text.startswith("Invalid value for field 'resource.labels': ''. ")
    compute.make("global/addresses", name="labelled", labels={"équipe": "a_b-1", "empty": ""})
    assert "'labels'" in compute.refused("POST", "global/addresses/labelled/setLabels", {"labels": {"a": "b.c"}})[2]
    compute.do("DELETE", "global/addresses/labelled")


def test_labels_of_a_rule_come_later(compute: Compute, balancer: Doc) -> None:
    path = "global/forwardingRules/rule"
    rule = compute.get(path)
    done = compute.call(
        "POST", f"{path}/setLabels", {"labels": {"a": "b"}, "labelFingerprint": rule["labelFingerprint"]}
    ).json()
    assert (done["operationType"], done["status"], done["progress"]) == ("setLabels", "DONE", 100)
    assert compute.get(path)["labels"] == {"a": "b"}


def test_ssl_policies_expand_their_profile(compute: Compute) -> None:
    policy = compute.make("global/sslPolicies", name="tls", profile="RESTRICTED", minTlsVersion="TLS_1_2")
    assert len(policy["enabledFeatures"]) == 6
    patch = {"profile": "MODERN", "customFeatures": None, "fingerprint": policy["fingerprint"]}
    assert compute.do("PATCH", "global/sslPolicies/tls", patch)["operationType"] == "compute.sslPolicies.patch"
    assert len(compute.get("global/sslPolicies/tls")["enabledFeatures"]) == 10
    assert compute.refused("POST", "global/sslPolicies", {"name": "x", "profile": "CUSTOM"})[0] == 400
    compute.do("DELETE", "global/sslPolicies/tls")


def test_null_takes_a_field_away(compute: Compute) -> None:
    compute.make(
        "global/backendServices", name="null", customRequestHeaders=["X-A: b"], loadBalancingScheme="EXTERNAL_MANAGED"
    )
    compute.do("PATCH", "global/backendServices/null", {"customRequestHeaders": None})
    assert "customRequestHeaders" not in compute.get("global/backendServices/null")
    compute.do("DELETE", "global/backendServices/null")


def test_security_policies_have_a_default_rule(compute: Compute, balancer: Doc) -> None:
    policy = compute.make("global/securityPolicies", name="armor")
    assert [rule["priority"] for rule in policy["rules"]] == [2147483647]
    compute.do("POST", "global/backendServices/backend/setSecurityPolicy", {"securityPolicy": policy["selfLink"]})
    assert compute.get("global/backendServices/backend")["securityPolicy"] == policy["selfLink"]
    assert compute.refused("DELETE", "global/securityPolicies/armor")[1] == "resourceInUseByAnotherResource"
    compute.do("POST", "global/backendServices/backend/setSecurityPolicy", {})
    compute.do("DELETE", "global/securityPolicies/armor")


def test_quotas_are_shown_and_kept(compute: Compute) -> None:
    quotas = {q["metric"]: q for q in compute.get("")["quotas"]}
    used = len(compute.get("global/networks")["items"])
    assert quotas["NETWORKS"]["usage"] == used
    made = []
    for i in range(int(quotas["NETWORKS"]["limit"]) - used):
        made.append(f"q{i}")
        compute.call("POST", "global/networks", {"name": made[-1], "autoCreateSubnetworks": False})
    code, reason, message = compute.refused("POST", "global/networks", {"name": "over", "autoCreateSubnetworks": False})
    assert (code, reason) == (403, "quotaExceeded") and message.startswith("Quota 'NETWORKS' exceeded.")
    for name in made:
        compute.do("DELETE", f"global/networks/{name}")


def test_resources_with_a_running_operation_are_not_ready(own: Any) -> None:
    """With realistic latency, a resource can neither be referenced before it exists, nor changed while it is being deleted."""
    own.command("up", "--detach", "--latency", "realistic:0.05", "--project", "slow", "--recorded-links")
    session = own.session()
    base = "https://compute.googleapis.com/compute/v1/projects/slow"

    def wait(answer: requests.Response) -> Doc:
        return session.post(f"{base}/global/operations/{answer.json()['name']}/wait").json()

    session.post("https://serviceusage.googleapis.com/v1/projects/slow/services/compute.googleapis.com:enable")
    for _ in range(200):
        first = session.post(f"{base}/global/networks", json={"name": "n", "autoCreateSubnetworks": False})
        if first.status_code == 200:
            break
        time.sleep(0.05)
    rule = {"name": "f", "network": "global/networks/n", "allowed": [{"IPProtocol": "all"}]}
    early = session.post(f"{base}/global/firewalls", json=rule).json()["error"]
    assert early["errors"][0]["reason"] == "resourceNotReady"
    assert wait(first)["status"] == "DONE"
    going = session.delete(f"{base}/global/networks/n")
    assert session.delete(f"{base}/global/networks/n").json()["error"]["errors"][0]["reason"] == "resourceNotReady"
    late = session.post(f"{base}/global/firewalls", json=rule).json()["error"]
    assert late["errors"][0]["reason"] == "resourceNotReady"
    assert "error" not in wait(going) and session.get(f"{base}/global/networks/n").status_code == 404
    routes = f"{base}/global/routes?filter=destRange=10.128.0.0/20"
    route = session.get(f"{routes}&alt=json").json()["items"][0]
    assert "/compute/beta/" in route["nextHopNetwork"] and "/compute/v1/" in route["network"], "--recorded-links"
    assert "/compute/v1/" in session.get(routes).json()["items"][0]["nextHopNetwork"], "the client is one of v1"


def test_acknowledged_writes_survive_a_kill(own: Any) -> None:
    own.command("up", "--detach", "--latency", "realistic:0.05", "--project", "killed")
    session = own.session()
    base = "https://compute.googleapis.com/compute/v1/projects/killed/global"
    session.post("https://serviceusage.googleapis.com/v1/projects/killed/services/compute.googleapis.com:enable")
    for _ in range(200):
        answer = session.post(f"{base}/networks", json={"name": "n", "autoCreateSubnetworks": False})
        if answer.status_code == 200:
            break
        time.sleep(0.05)
    operation = answer.json()
    assert session.get(f"{base}/networks/n").status_code == 404, "it is there only when its operation is done"
    assert session.post(f"{base}/networks", json={"name": "n", "autoCreateSubnetworks": False}).status_code == 409
    pid = json.loads((own.state / "run.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    own.command("up", "--detach")
    session = own.session()
    done = session.post(f"{base}/operations/{operation['name']}/wait").json()
    assert done["status"] == "DONE" and session.get(f"{base}/networks/n").json()["name"] == "n"


def test_policy_of_a_subnet(compute: Compute) -> None:
    subnet = "regions/us-central1/subnetworks/default"
    user, condition = (
        "jane@example.com",
        {"title": "t", "expression": "request.time < timestamp('2100-01-01T00:00:00Z')"},
    )
    binding = {"role": "roles/compute.networkUser", "members": [f"user:{user}"]}
    policy = {"version": 3, "bindings": [binding | {"condition": condition}]}
    given = compute.call("POST", f"{subnet}/setIamPolicy", {"policy": policy}).json()
    assert (given["version"], given["bindings"]) == (3, policy["bindings"])
    assert compute.get(f"{subnet}/getIamPolicy")["bindings"][0]["role"].startswith(
        "roles/compute.networkUser_withcond_"
    )
    assert compute.get(f"{subnet}/getIamPolicy?optionsRequestedPolicyVersion=3") == given
    asked = {"permissions": ["compute.subnetworks.use", "compute.subnetworks.delete"]}
    held = compute.call("POST", f"{subnet}/testIamPermissions", asked, as_=user).json()
    assert held == {"permissions": ["compute.subnetworks.use"]}
    for verb in ("getIamPolicy", "setIamPolicy"):
        method, body = ("GET", None) if verb == "getIamPolicy" else ("POST", {"policy": {}})
        code, reason, message = compute.refused(method, f"{subnet}/{verb}", body, as_=user)
        assert (code, reason) == (403, "forbidden") and f"'compute.subnetworks.{verb}'" in message
    stale = {"policy": {"etag": "BwXJ8MrdKXo=", "bindings": []}}
    assert compute.refused("POST", f"{subnet}/setIamPolicy", stale)[0] == 412
    for wrong in ({"role": "roles/viewer", "members": ["jane"]}, {"role": "viewer", "members": [f"user:{user}"]}):
        assert compute.refused("POST", f"{subnet}/setIamPolicy", {"policy": {"bindings": [wrong]}})[0] == 400
    assert "bindings" not in compute.call("POST", f"{subnet}/setIamPolicy", {"bindings": []}).json()
