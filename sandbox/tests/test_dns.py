"""Cloud DNS: zones, record sets, changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import requests

Api = Callable[..., requests.Response]
HOST = "https://dns.googleapis.com/dns/v1"


@pytest.fixture(scope="module")
def base(project: str, enable: Callable[..., None]) -> str:
    enable(project, "dns.googleapis.com", "compute.googleapis.com")
    return f"{HOST}/projects/{project}"


@pytest.fixture(scope="module")
def network(project: str, base: str) -> dict[str, Any]:
    """The network that every project has."""
    return {"networkUrl": f"https://www.googleapis.com/compute/v1/projects/{project}/global/networks/default"}


def reason(answer: requests.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    return error["code"], error["errors"][0]["reason"]


def test_zone_records_and_changes(api: Api, base: str) -> None:
    url = f"{base}/managedZones"
    body = {"name": "zone", "dnsName": "example.com.", "description": "d"}
    zone = api("POST", url, json=body | {"privateVisibilityConfig": {"networks": []}}).json()
    assert zone["visibility"] == "public" and len(zone["nameServers"]) == 4 and "privateVisibilityConfig" not in zone
    assert api("GET", f"{url}/zone".replace("/v1/", "/v1beta2/")).json() == zone
    assert reason(api("POST", url, json=body)) == (409, "alreadyExists")
    assert reason(api("POST", url, json={"name": "other", "dnsName": "example.org."})) == (400, "required")
    assert api("POST", url, json=body | {"name": "other", "dnsName": "no-dot"}).status_code == 400
    assert api("GET", f"{url}/zone/rrsets?name=www.example.com.&type=A").json()["rrsets"] == []
    record = {"name": "www.example.com.", "type": "A", "ttl": 300, "rrdatas": ["10.0.0.1"]}
    change = api("POST", f"{url}/zone/changes", json={"additions": [record]}).json()
    filled = record | {"kind": "dns#resourceRecordSet", "signatureRrdatas": []}
    assert (change["id"], change["status"], change["additions"], change["deletions"]) == ("1", "pending", [filled], [])
    assert api("GET", f"{url}/zone/changes/{change['id']}").json()["status"] == "done"
    assert [c["id"] for c in api("GET", f"{url}/zone/changes").json()["changes"]] == ["1", "0"]
    assert api("POST", f"{url}/zone/changes", json={"additions": [record]}).status_code == 409
    assert reason(api("POST", f"{url}/zone/changes", json={"deletions": [record | {"ttl": 1}]})) == (
        412,
        "conditionNotMet",
    )
    assert sorted(r["type"] for r in api("GET", f"{url}/zone/rrsets").json()["rrsets"]) == ["A", "NS", "SOA"]
    assert reason(api("DELETE", f"{url}/zone")) == (400, "containerNotEmpty")
    assert (
        api("PATCH", f"{url}/zone", json={"description": "new"}).json()["zoneContext"]["newValue"]["description"]
        == "new"
    )
    assert api("DELETE", f"{url}/zone/rrsets/www.example.com./A").status_code == 200
    assert api("DELETE", f"{url}/zone").status_code == 200
    assert reason(api("GET", f"{url}/zone")) == (404, "notFound")


def test_what_records_may_be(api: Api, base: str) -> None:
    url = f"{base}/managedZones"
    assert api("POST", url, json={"name": "rules", "dnsName": "rules.test.", "description": ""}).status_code == 200
    record = {"name": "www.rules.test.", "type": "A", "ttl": 300, "rrdatas": ["10.0.0.1"]}
    sets = f"{url}/rules/rrsets"
    assert api("POST", sets, json=record).status_code == 200
    alias = record | {"type": "CNAME", "rrdatas": ["other.test."]}
    assert reason(api("POST", sets, json=alias)) == (400, "cnameResourceRecordSetConflict")
    for wrong in (
        {"rrdatas": ["10.0.0"]},
        {"type": "AAAA"},
        {"name": "www.other.test."},
        {"type": "X"},
        {"rrdatas": []},
    ):
        assert reason(api("POST", sets, json=record | {"name": "a.rules.test."} | wrong)) == (400, "invalid"), wrong
    assert reason(api("DELETE", f"{sets}/rules.test./SOA")) == (400, "invalidZoneApex")
    assert "SOA" in [r["type"] for r in api("GET", sets).json()["rrsets"]]
    assert api("PATCH", f"{sets}/www.rules.test./A", json={"ttl": 60}).json()["rrdatas"] == ["10.0.0.1"]


def test_routing_policies(api: Api, base: str) -> None:
    url = f"{base}/managedZones"
    api("POST", url, json={"name": "routes", "dnsName": "routes.test.", "description": ""})
    weights = {"wrr": {"items": [{"weight": 1, "healthCheckedTargets": {"externalEndpoints": ["10.0.0.1"]}}]}}
    record = {"name": "routes.test.", "type": "A", "ttl": 5, "routingPolicy": weights}
    made = api("POST", f"{url}/routes/rrsets", json=record).json()
    item = made["routingPolicy"]["wrr"]["items"][0]
    assert made["rrdatas"] == [] and item["kind"] == "dns#rRSetRoutingPolicyWrrPolicyWrrPolicyItem"
    assert item["healthCheckedTargets"] == {"externalEndpoints": ["10.0.0.1"], "internalLoadBalancers": []}
    places = {"geo": {"items": [{"location": "us-east1", "rrdatas": ["10.0.0.2"]}]}}
    change = {"deletions": [record], "additions": [record | {"routingPolicy": places}]}
    added = api("POST", f"{url}/routes/changes", json=change).json()["additions"][0]
    assert added["routingPolicy"]["geo"]["enableFencing"] is False
    one = f"{url}/routes/rrsets/routes.test./A"
    assert "routingPolicy" not in api("PATCH", one, json={"rrdatas": ["10.0.0.3"]}).json()
    assert reason(api("PATCH", one, json={"routingPolicy": weights | places})) == (400, "invalid")


def test_private_zones_belong_to_networks_that_are_there(api: Api, base: str, network: dict[str, Any]) -> None:
    url = f"{base}/managedZones"
    body = {"name": "inside", "dnsName": "inside.test.", "description": "", "visibility": "private"}
    zone = api("POST", url, json=body | {"privateVisibilityConfig": {"networks": [network]}}).json()
    assert zone["nameServers"] == ["ns-gcp-private.googledomains.com."]
    assert zone["privateVisibilityConfig"]["networks"][0]["kind"] == "dns#managedZonePrivateVisibilityConfigNetwork"
    absent = {"networks": [{"networkUrl": network["networkUrl"] + "-not"}]}
    assert reason(api("POST", url, json=body | {"name": "not", "privateVisibilityConfig": absent})) == (
        403,
        "forbidden",
    )
    forward = {"forwardingConfig": {"targetNameServers": [{"ipv4Address": "10.0.0.53"}]}}
    assert api("PATCH", f"{url}/inside", json=forward).json()["zoneContext"]["newValue"]["forwardingConfig"]["kind"]
    assert reason(api("POST", url, json=body | {"name": "pub", "visibility": "public"} | forward)) == (400, "invalid")
    peer = {"peeringConfig": {"targetNetwork": network}}
    assert api("PATCH", f"{url}/inside", json=peer | {"forwardingConfig": None}).status_code == 200
    assert api("GET", f"{url}/inside").json().keys() & {"peeringConfig", "forwardingConfig"} == {"peeringConfig"}


def test_a_zone_is_signed(api: Api, base: str, sandbox: Any) -> None:
    url = f"{base}/managedZones"
    body = {"name": "signed", "dnsName": "signed.test.", "description": "", "dnssecConfig": {"state": "on"}}
    assert api("POST", url, json=body).json()["dnssecConfig"]["nonExistence"] == "nsec3"
    assert re.search(r"zone +signed +signed\.test\. +public +2 record sets", sandbox.command("status"))


def test_policy_of_a_zone(api: Api, base: str) -> None:
    api("POST", f"{base}/managedZones", json={"name": "shared", "dnsName": "shared.test.", "description": ""})
    bindings = [{"role": "roles/dns.reader", "members": ["user:jane@example.com"]}]
    answer = api("POST", f"{base}/managedZones/shared:setIamPolicy", json={"policy": {"bindings": bindings}})
    assert answer.json()["bindings"] == bindings
    assert api("POST", f"{base}/managedZones/none:getIamPolicy", json={}).status_code == 404
