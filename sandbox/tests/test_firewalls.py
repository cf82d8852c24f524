"""Egress firewall rules, as the connections of Cloud Run to Cloud SQL meet them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.network import Source
from gcp_sandbox.core.settings import Settings
from gcp_sandbox.services.compute import firewalls
from gcp_sandbox.services.compute.base import link

Doc = dict[str, Any]
NETWORK = "projects/p/global/networks/n"
IMAGE = "europe-west2-docker.pkg.dev/test/images/connect:1"
REGION = "europe-west2"
# Answers with what the server says to a request for TLS: S, or nothing for as long as a client waits.
APP = """
import http.server, os, socket

class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            with socket.create_connection((self.path[1:], 5432), 1) as database:
                database.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47]))
                answer = database.recv(1) or b"closed"
        except TimeoutError:
            answer = b"timeout"
        except ConnectionRefusedError:
            answer = b"refused"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), App).serve_forever()
"""


def rule(action: str, ranges: str = "0.0.0.0/0", priority: int = 1000, protocol: Doc | None = None, **more: Any) -> Doc:
    """An egress rule for everything in these ranges."""
    return {
        "network": link(NETWORK),
        "direction": "EGRESS",
        "priority": priority,
        "destinationRanges": [ranges],
        action: [protocol or {"IPProtocol": "all"}],
        **more,
    }


DENY = rule("denied")
TCP = {"IPProtocol": "tcp"}
CASES = {
    "no rule": ([], True),
    "denied": ([DENY], False),
    "another network": ([DENY | {"network": link(f"{NETWORK}2")}], True),
    "ingress": ([DENY | {"direction": "INGRESS"}], True),
    "disabled": ([DENY | {"disabled": True}], True),
    "a higher priority allows": ([DENY, rule("allowed", priority=999)], True),
    "a lower priority allows": ([DENY, rule("allowed", priority=1001)], False),
    "of the same priority, deny wins": ([rule("allowed"), DENY], False),
    "the address itself": ([DENY, rule("allowed", "127.65.192.1/32", 1)], True),
    "the range that it stands for": ([DENY, rule("allowed", "10.20.0.0/16", 1)], True),
    "a larger range": ([DENY, rule("allowed", "10.0.0.0/8", 1)], True),
    "a part of the range": ([DENY, rule("allowed", "10.20.1.0/24", 1)], False),
    "another range": ([rule("denied", "192.168.0.0/16")], True),
    "IPv6": ([rule("denied", "::/0")], True),
    "the protocol": ([rule("denied", protocol=TCP)], False),
    "another protocol": ([rule("denied", protocol={"IPProtocol": "udp"})], True),
    "the port": ([rule("denied", protocol=TCP | {"ports": ["80", "5000-6000"]})], False),
    "other ports": ([rule("denied", protocol=TCP | {"ports": ["80", "443"]})], True),
    "a tag": ([DENY | {"targetTags": ["other", "mine"]}], False),
    "another tag": ([DENY | {"targetTags": ["other"]}], True),
    "the service account": ([DENY | {"targetServiceAccounts": ["server@p.iam.gserviceaccount.com"]}], False),
    "another service account": ([DENY | {"targetServiceAccounts": ["other@p.iam.gserviceaccount.com"]}], True),
}


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(Settings(tmp_path))


@pytest.mark.parametrize("name", CASES)
def test_which_rule_decides(cloud: Cloud, name: str) -> None:
    rules, expected = CASES[name]
    for number, doc in enumerate(rules):
        cloud.store.put("compute.firewalls", f"projects/p/global/firewalls/{number}", doc)
    source = Source(frozenset({NETWORK}), frozenset({"mine"}), "server@p.iam.gserviceaccount.com")
    assert firewalls.lets_out(cloud, NETWORK, source, ["127.65.192.1", "10.20.0.0/16"], 5432) is expected


@pytest.fixture(scope="module")
def deployed(api: Any, done: Any, enable: Any, project: str, sandbox: Any, tmp_path_factory: Any) -> SimpleNamespace:
    """A service with direct VPC egress, and one with a connector, on the network of a Cloud SQL instance."""
    names = ("compute", "run", "sqladmin", "servicenetworking", "vpcaccess", "iam", "cloudresourcemanager")
    enable(project, *(f"{name}.googleapis.com" for name in names))
    folder = tmp_path_factory.mktemp("connect")
    (folder / "app.py").write_text(APP)
    (folder / "Containerfile").write_text('FROM python:3\nCOPY app.py /app/\nENTRYPOINT ["python", "/app/app.py"]\n')
    sandbox.command("image", "add", IMAGE, str(folder), "--python", sys.executable)
    compute = f"https://compute.googleapis.com/compute/v1/projects/{project}"
    network = f"projects/{project}/global/networks/vpc"

    def make(url: str, body: Doc, **query: str) -> None:
        operation = done(api("POST", url, json=body, params=query))
        assert "error" not in operation, operation

    make(f"{compute}/global/networks", {"name": "vpc", "autoCreateSubnetworks": False})
    subnet = {"name": "sub", "network": network, "ipCidrRange": "10.9.0.0/24"}
    make(f"{compute}/regions/{REGION}/subnetworks", subnet)
    reserved = {"name": "range", "purpose": "VPC_PEERING", "address": "10.20.0.0", "prefixLength": 16}
    make(f"{compute}/global/addresses", reserved | {"addressType": "INTERNAL", "network": network})
    number = api("GET", f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}").json()["projectNumber"]
    peering = {"network": f"projects/{number}/global/networks/vpc", "reservedPeeringRanges": ["range"]}
    services = "https://servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
    make(services, peering)
    instances = f"https://sqladmin.googleapis.com/v1/projects/{project}/instances"
    settings = {"tier": "db-g1-small", "edition": "ENTERPRISE"}
    settings |= {"ipConfiguration": {"ipv4Enabled": False, "privateNetwork": network}}
    make(instances, {"name": "db", "region": REGION, "databaseVersion": "POSTGRES_17", "settings": settings})
    connectors = f"https://vpcaccess.googleapis.com/v1/projects/{project}/locations/{REGION}/connectors"
    make(connectors, {"network": "vpc", "ipCidrRange": "10.8.0.0/28"}, connectorId="con")
    account = f"server@{project}.iam.gserviceaccount.com"
    accounts = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"
    api("POST", accounts, json={"accountId": "server"})
    mine = {
        "role": "roles/iam.serviceAccountUser",
        "members": ["serviceAccount:deployer@sandbox-project.iam.gserviceaccount.com"],
    }
    api("POST", f"{accounts}/{account}:setIamPolicy", json={"policy": {"bindings": [mine]}})
    base = f"https://run.googleapis.com/v2/projects/{project}/locations/{REGION}/services"
    interface = {"network": network, "subnetwork": "sub", "tags": ["mine"]}
    ways = {"direct": {"networkInterfaces": [interface]}, "connected": {"connector": "con"}}
    for name, access in ways.items():
        template = {"containers": [{"image": IMAGE}], "vpcAccess": access, "serviceAccount": account}
        make(base, {"template": template, "invokerIamDisabled": True}, serviceId=name)
    psc = {"pscConfig": {"pscEnabled": True, "allowedConsumerProjects": [project]}}
    done(api("PATCH", f"{instances}/db", json={"settings": {"ipConfiguration": psc}}))
    database = api("GET", f"{instances}/db").json()
    region = f"{compute}/regions/{REGION}"
    subnetwork = f"projects/{project}/regions/{REGION}/subnetworks/sub"
    make(f"{region}/addresses", {"name": "psc", "addressType": "INTERNAL", "subnetwork": subnetwork})
    endpoint = {"name": "psc", "network": network, "target": database["pscServiceAttachmentLink"]}
    address = f"projects/{project}/regions/{REGION}/addresses/psc"
    make(f"{region}/forwardingRules", endpoint | {"IPAddress": address})
    private = next(entry["ipAddress"] for entry in database["ipAddresses"] if entry["type"] == "PRIVATE")
    hosts = {"private": private, "endpoint": api("GET", f"{region}/forwardingRules/psc").json()["IPAddress"]}
    urls = {name: api("GET", f"{base}/{name}").json()["urls"][0] for name in ways}
    client = sandbox.session(anonymous=True)

    def said(name: str, host: str = "private") -> str:
        """What a service gets from the database."""
        return str(client.get(f"{urls[name]}/{hosts[host]}", timeout=20).text)

    return SimpleNamespace(said=said, url=f"{compute}/global/firewalls", network=network, account=account)


@pytest.fixture
def firewall(api: Any, done: Any, deployed: SimpleNamespace) -> Any:
    """``firewall(action, …)``: create a rule, as rule(); all are deleted at the end."""
    made: list[str] = []

    def create(action: str, **more: Any) -> None:
        body = rule(action, **more) | {"name": f"rule-{len(made)}", "network": deployed.network}
        assert "error" not in done(api("POST", deployed.url, json=body))
        made.append(body["name"])

    yield create
    for name in made:
        done(api("DELETE", f"{deployed.url}/{name}"))


def test_packets_to_the_database_are_dropped(deployed: SimpleNamespace, firewall: Callable[..., None]) -> None:
    assert [deployed.said(name) for name in ("direct", "connected")] == ["S", "S"]
    firewall("denied", ranges="10.0.0.0/8")
    assert [deployed.said(name) for name in ("direct", "connected")] == ["timeout", "timeout"]
    firewall("allowed", ranges="10.20.0.0/16", priority=900, targetTags=["mine"])
    assert [deployed.said(name) for name in ("direct", "connected")] == ["S", "timeout"]
    firewall("allowed", ranges="10.20.0.0/16", priority=900, targetTags=[f"vpc-connector-{REGION}-con"])
    assert deployed.said("connected") == "S"


def test_a_rule_for_the_service_account(deployed: SimpleNamespace, firewall: Callable[..., None]) -> None:
    firewall("denied", targetServiceAccounts=[deployed.account])
    # The machines of a connector have another one.
    assert [deployed.said(name) for name in ("direct", "connected")] == ["timeout", "S"]


def test_an_endpoint_is_an_address_of_its_subnet(deployed: SimpleNamespace, firewall: Callable[..., None]) -> None:
    end = time.monotonic() + 10
    while (said := deployed.said("direct", "endpoint")) == "refused" and time.monotonic() < end:
        time.sleep(0.05)
    assert said == "S"
    firewall("denied", ranges="10.9.0.0/24")
    assert [deployed.said("direct", host) for host in ("endpoint", "private")] == ["timeout", "S"]
