"""Service Networking: private connections, as a client meets them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

Doc = dict[str, Any]
HOST = "https://servicenetworking.googleapis.com/v1"
SERVICE = f"{HOST}/services/servicenetworking.googleapis.com"


class Net:
    """One network with two allocated ranges."""

    def __init__(
        self, api: Callable[..., requests.Response], done: Callable[..., Doc], project: str, name: str
    ) -> None:
        self.api, self.done, self.name = api, done, name
        self.compute = f"https://compute.googleapis.com/compute/v1/projects/{project}"
        number = api("GET", self.compute).json()["id"]
        self.full = f"projects/{number}/global/networks/{name}"
        self.inner = f"{SERVICE}/projects/{number}/global/networks/{name}"
        done(api("POST", f"{self.compute}/global/networks", json={"name": name, "autoCreateSubnetworks": False}))
        for i in (1, 2):
            body = {
                "name": f"{name}-{i}",
                "purpose": "VPC_PEERING",
                "addressType": "INTERNAL",
                "prefixLength": 20,
                "network": f"projects/{project}/global/networks/{name}",
            }
            done(api("POST", f"{self.compute}/global/addresses", json=body))

    def connect(self, *ranges: str) -> Doc:
        body = {"network": self.full, "reservedPeeringRanges": list(ranges)}
        return self.done(self.api("POST", f"{SERVICE}/connections", json=body))

    def connections(self) -> list[Doc]:
        return self.api("GET", f"{SERVICE}/connections", params={"network": self.full}).json().get("connections", [])

    def peerings(self) -> list[Doc]:
        return self.api("GET", f"{self.compute}/global/networks/{self.name}").json().get("peerings", [])


@pytest.fixture(scope="module")
def make(api: Any, done: Any, enable: Any, project: str) -> Callable[[str], Net]:
    enable(project, "compute.googleapis.com", "servicenetworking.googleapis.com")
    return lambda name: Net(api, done, project, name)


def test_a_connection_is_a_peering_of_the_network(make: Any) -> None:
    net = make("psa")
    assert net.connections() == [] and net.peerings() == []
    operation = net.connect("psa-1")
    assert operation["name"].startswith("operations/pssn.")
    shown = {
        "network": net.full,
        "peering": "servicenetworking-googleapis-com",
        "reservedPeeringRanges": ["psa-1"],
        "service": "services/servicenetworking.googleapis.com",
    }
    assert operation["response"].items() >= shown.items()
    assert net.connections() == [shown]
    assert [(p["name"], p["state"]) for p in net.peerings()] == [("servicenetworking-googleapis-com", "ACTIVE")]
    assert net.peerings()[0]["stateDetails"].endswith("]: Connected.")
    answer = net.api("DELETE", f"{net.compute}/global/networks/psa")
    assert answer.json()["error"]["errors"][0]["reason"] == "resourceInUseByAnotherResource"
    config = net.api("GET", net.inner).json()
    assert config["reservedRanges"][0]["name"] == "psa-1" and config["producerNetwork"].endswith("/servicenetworking")


def test_ranges_change_by_patch_alone(make: Any) -> None:
    net = make("ranges")
    net.connect("ranges-1")
    error = net.connect("ranges-1", "ranges-2")["error"]
    assert error["code"] == 9 and "Cannot modify allocated ranges in CreateConnection" in error["message"]
    body = {"network": net.full, "reservedPeeringRanges": ["ranges-2"]}
    assert net.api("PATCH", f"{SERVICE}/connections/-", json=body).status_code == 400
    net.done(net.api("PATCH", f"{SERVICE}/connections/-?force=true&updateMask=reservedPeeringRanges", json=body))
    assert net.connections()[0]["reservedPeeringRanges"] == ["ranges-2"]
    answer = net.api("POST", f"{SERVICE}/connections", json=body | {"reservedPeeringRanges": ["none"]})
    assert answer.status_code == 400 and answer.json()["error"]["status"] == "FAILED_PRECONDITION"


def test_removing_the_peering_breaks_the_connection(make: Any) -> None:
    net = make("broken")
    net.connect("broken-1")
    body = {"name": "servicenetworking-googleapis-com"}
    net.done(net.api("POST", f"{net.compute}/global/networks/broken/removePeering", json=body))
    assert net.connections() == [] and net.peerings() == []
    assert "error" in net.connect("broken-2"), "the producer still holds its range"
    assert "error" not in net.connect("broken-1")
    assert len(net.connections()) == 1


def test_a_connection_is_deleted(make: Any) -> None:
    net = make("gone")
    net.connect("gone-1")
    url = f"{SERVICE}/connections/servicenetworking-googleapis-com"
    assert "error" not in net.done(net.api("POST", url, json={"consumerNetwork": net.full}))
    assert net.connections() == [] and net.peerings() == []
    assert net.api("POST", url, json={"consumerNetwork": net.full}).status_code == 404


def test_a_connection_that_an_instance_uses_stays(make: Any, enable: Any, project: str, sandbox: Any) -> None:
    net = make("sql")
    net.connect("sql-1")
    enable(project, "sqladmin.googleapis.com")
    url = f"https://sqladmin.googleapis.com/v1/projects/{project}/instances"
    body = {
        "name": "db",
        "region": "europe-west2",
        "databaseVersion": "POSTGRES_17",
        "settings": {
            "edition": "ENTERPRISE",
            "tier": "db-f1-micro",
            "ipConfiguration": {"ipv4Enabled": False, "privateNetwork": f"projects/{project}/global/networks/sql"},
        },
    }
    assert "error" not in net.done(net.api("POST", url, json=body))
    delete = f"{SERVICE}/connections/servicenetworking-googleapis-com"
    error = net.done(net.api("POST", delete, json={"consumerNetwork": net.full}))["error"]
    assert error["code"] == 9 and "Producer services (e.g. CloudSQL" in error["message"]
    # For a while after the instance the producer's side still uses the connection.
    method = "servicenetworking.services.connections.deleteConnection"
    sandbox.command("fault", "add", method, "held", "seconds=1.5")
    try:
        net.done(net.api("DELETE", f"{url}/db"))
    finally:
        sandbox.command("fault", "clear")
    error = net.done(net.api("POST", delete, json={"consumerNetwork": net.full}))["error"]
    assert error["code"] == 9 and "still using this connection" in error["message"]
    time.sleep(1.5)
    assert "error" not in net.done(net.api("POST", delete, json={"consumerNetwork": net.full}))


def test_dns_domains_are_peered(make: Any) -> None:
    net = make("dns")
    assert net.api("GET", f"{net.inner}/peeredDnsDomains").status_code == 404
    net.connect("dns-1")
    body = {"name": "corp", "dnsSuffix": "corp.example.com."}
    operation = net.done(net.api("POST", f"{net.inner}/peeredDnsDomains", json=body))
    assert operation["response"].items() >= body.items()
    assert net.api("GET", f"{net.inner}/peeredDnsDomains").json() == {"peeredDnsDomains": [body]}
    assert net.api("POST", f"{net.inner}/peeredDnsDomains", json=body).status_code == 409
    assert (
        net.api("POST", f"{net.inner}/peeredDnsDomains", json=body | {"name": "x", "dnsSuffix": "nodot"}).status_code
        == 400
    )
    net.done(net.api("DELETE", f"{net.inner}/peeredDnsDomains/corp"))
    assert net.api("GET", f"{net.inner}/peeredDnsDomains").json() == {}


def test_wrong_requests_are_refused(make: Any) -> None:
    net = make("wrong")
    for network, status in (("wrong", 400), (net.full.replace("wrong", "none"), 403)):
        answer = net.api(
            "POST", f"{SERVICE}/connections", json={"network": network, "reservedPeeringRanges": ["wrong-1"]}
        )
        assert answer.status_code in (status, 403), answer.text
    assert net.api("POST", f"{SERVICE}/connections", json={"network": net.full}).status_code == 400
    assert (
        net.api("GET", f"{SERVICE}/connections", params={"network": net.full}, as_="nobody@example.com").status_code
        == 403
    )
    assert net.api("GET", f"{HOST}/operations/none").status_code in (403, 404)
