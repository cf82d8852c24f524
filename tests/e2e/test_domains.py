"""Changes of the domains and the certificate of a load balancer with a zone of Cloud DNS, with traffic that must not notice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import LOGGER, PROJECT, Cloud, Play
from .test_mlflow_client import token
from .traffic import Traffic, ask

pytestmark = pytest.mark.long

COMPUTE = f"compute.googleapis.com/compute/v1/projects/{PROJECT}/global"
MANAGER = f"certificatemanager.googleapis.com/v1/projects/{PROJECT}/locations/global"
ZONE = "projects/dns-of-all/managedZones/example"
DNS = f"dns.googleapis.com/dns/v1/{ZONE}"
APIS = ("certificatemanager", "cloudresourcemanager", "compute", "dns", "iam", "iamcredentials", "iap", "run")
OLD, NEW = "mlflow.example.com", "models.example.com"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A service that answers, and the zone of the domains in another project."""
    service = {
        "template": {"containers": [{"image": "us-docker.pkg.dev/cloudrun/container/hello"}]},
        "ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
    }
    with Cloud.running("--project", PROJECT) as running:
        running.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": "dns-of-all"})
        for project in (PROJECT, "dns-of-all"):
            body = {"serviceIds": [f"{api}.googleapis.com" for api in APIS]}
            running.call("POST", f"serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable", body)
        zone = {"name": "example", "dnsName": "example.com.", "description": "all"}
        running.call("POST", "dns.googleapis.com/dns/v1/projects/dns-of-all/managedZones", zone)
        region = f"run.googleapis.com/v2/projects/{PROJECT}/locations/europe-west2"
        running.call("POST", f"{region}/services?serviceId=mlflow", service)
        yield running


def change(cloud: Cloud, *domains: str, **more: Any) -> Play:
    """Run the role with these domains, the first one in its variable."""
    variables = {"mlflow_domain": domains[0], "mlflow_extra_domains": domains[1:], "mlflow_dns_zone": ZONE} | more
    return cloud.playbook("../tests/e2e/front_door.yml", "--extra-vars", json.dumps(variables))


def unharmed(cloud: Cloud, domain: str, *domains: str, **more: Any) -> Play:
    """Change the domains while requests are sent to one of them, none of which fails; a second run changes nothing."""
    traffic = Traffic(cloud, f"https://{domain}", work=ask, clients=2)
    with traffic.running():
        play = change(cloud, *domains, **more)
    assert play.status == 0, play.output
    assert traffic.failed == [] and traffic.sent > 50, f"{traffic}: {traffic.failed[:3]}"
    again = change(cloud, *domains, **more)
    assert (again.status, again.recap("changed")) == (0, 0), again.output
    return play


def names(cloud: Cloud) -> dict[str, list[str]]:
    """The certificates of both kinds, and the records of the zone besides its own."""
    sets = cloud.call("GET", f"{DNS}/rrsets")["rrsets"]
    compute = cloud.call("GET", f"{COMPUTE}/sslCertificates").get("items", [])
    manager = cloud.call("GET", f"{MANAGER}/certificates").get("certificates", [])
    return {
        "compute": [",".join(entry["managed"]["domains"]) for entry in compute],
        "manager": [",".join(entry["managed"]["domains"]) for entry in manager],
        "records": sorted(f"{entry['type']} {entry['name']}" for entry in sets if entry["type"] not in ("NS", "SOA")),
    }


def status(cloud: Cloud, domain: str) -> int:
    headers = {"Authorization": f"Bearer {token(cloud, LOGGER, f'https://{domain}')}"}
    return cloud.http("GET", f"https://{domain}/", headers=headers).status_code


def test_a_domain_takes_the_place_of_another_without_a_failed_request(cloud: Cloud) -> None:
    first = change(cloud, OLD, iap_lb_wait_for_certificate=True)
    assert first.status == 0 and status(cloud, OLD) == 200, first.output
    unharmed(cloud, OLD, NEW, OLD, iap_lb_wait_for_certificate=True)
    assert status(cloud, NEW) == 200 and names(cloud)["compute"] == [f"{NEW},{OLD}"]
    unharmed(cloud, NEW, NEW, iap_lb_wait_for_certificate=True)
    # The record of the previous domain is left.
    assert names(cloud) == {"compute": [NEW], "manager": [], "records": [f"A {OLD}.", f"A {NEW}."]}


def test_a_certificate_of_another_kind_takes_the_place_without_a_failed_request(cloud: Cloud) -> None:
    assert change(cloud, NEW, iap_lb_wait_for_certificate=True).status == 0
    unharmed(cloud, NEW, NEW, iap_lb_certificate="certificate_manager")
    found = names(cloud)
    assert (found["compute"], found["manager"]) == ([], [NEW])
    assert [record[:22] for record in found["records"] if record.startswith("CNAME")] == ["CNAME _acme-challenge_"]
    unharmed(cloud, NEW, OLD, NEW, iap_lb_certificate="certificate_manager")
    assert names(cloud)["manager"] == [f"{OLD},{NEW}"] and status(cloud, OLD) == 200
    unharmed(cloud, OLD, OLD, iap_lb_certificate="certificate_manager")
    assert names(cloud)["manager"] == [OLD] and len(names(cloud)["records"]) == 3
    unharmed(cloud, OLD, OLD, iap_lb_wait_for_certificate=True)
    assert names(cloud) == {"compute": [OLD], "manager": [], "records": [f"A {OLD}.", f"A {NEW}."]}
    assert "error" in cloud.http("GET", f"https://{MANAGER}/certificateMaps/mlflow-lb").text
