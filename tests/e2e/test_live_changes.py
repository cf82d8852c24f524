"""Changes of a deployment while eight clients log to it: what they notice, and that nothing that was acknowledged is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from .conftest import LOGGER, PROJECT, URL, Cloud, Play
from .test_access import read, sign_in, web
from .traffic import Traffic, ask

COMPUTE = f"compute.googleapis.com/compute/v1/projects/{PROJECT}"
SQL = f"sqladmin.googleapis.com/v1/projects/{PROJECT}"
RUN = f"run.googleapis.com/v2/projects/{PROJECT}/locations/europe-west2/services/mlflow"
DNS = f"dns.googleapis.com/dns/v1/projects/{PROJECT}/managedZones"
JANE, JOE = "user:jane@example.com", "user:joe@example.com"
OTHER = "models.example.com"
Report = Callable[[str, Traffic], None]


@pytest.fixture(scope="module")
def cloud(own_cloud: Cloud, deployed: Play) -> Cloud:
    """A deployment that only the tests of this file change."""
    return own_cloud


@pytest.fixture
def report(record_testsuite_property: Callable[[str, object], None]) -> Report:
    """Prints what the clients noticed, for docs/changes.md."""

    def show(change: str, traffic: Traffic) -> None:
        print(f"{change}: {traffic}")
        record_testsuite_property(change, str(traffic))

    return show


def site(cloud: Cloud, *words: str, book: str = "site.yml", **variables: Any) -> Play:
    return cloud.playbook(book, "--extra-vars", json.dumps(variables), *words)


def change(cloud: Cloud, *words: str, url: str = URL, **variables: Any) -> tuple[Traffic, Play]:
    """Run site while clients work: it succeeds, and nothing that they were told is lost."""
    traffic = Traffic(cloud, url)
    with traffic.running():
        play = site(cloud, *words, **variables)
    assert play.status == 0, play.output
    assert traffic.lost() == [] and len(traffic.runs) > len(traffic.clients), str(traffic)
    return traffic, play


def unharmed(report: Report, name: str, cloud: Cloud, *words: str, url: str = URL, **variables: Any) -> Play:
    """A change that no client notices."""
    traffic, play = change(cloud, *words, url=url, **variables)
    report(name, traffic)
    assert traffic.failed == [], f"{traffic}: {traffic.failed[:3]}"
    return play


def instance(cloud: Cloud) -> dict[str, Any]:
    return cloud.call("GET", f"{SQL}/instances/mlflow")["settings"]


def snapshot(cloud: Cloud) -> dict[str, Any]:
    """All resources and policies, without what the clients write."""
    status = json.loads(cloud.command("status", "--json"))
    kept = {key: value for key, value in status["resources"].items() if "objects" not in key}
    return {"resources": kept, "policies": status["policies"]}


def test_users_come_and_go(cloud: Cloud, report: Report) -> None:
    assert [sign_in(cloud, user) for user in (JANE, JOE)] == [200, 403]
    words = ("--tags", "users")
    unharmed(report, "users", cloud, *words, mlflow_webapp_users=["group:ml-team@example.com", JOE])
    assert [sign_in(cloud, user) for user in (JANE, JOE)] == [403, 200]


@pytest.mark.long
def test_memory_and_instances(cloud: Cloud, report: Report) -> None:
    before = cloud.call("GET", RUN)["latestReadyRevision"]
    sizes = {"cloudrun_memory": "3Gi", "cloudrun_min_instances": 2, "cloudrun_concurrency": 40}
    unharmed(report, "memory and instances", cloud, "--tags", "image", **sizes)
    service = cloud.call("GET", RUN)
    assert service["latestReadyRevision"] != before
    assert service["template"]["containers"][0]["resources"]["limits"]["memory"] == "3Gi"


@pytest.mark.long
def test_the_disk_grows(cloud: Cloud, report: Report) -> None:
    unharmed(report, "disk", cloud, cloudsql_disk_size_gb=20)
    assert int(instance(cloud)["dataDiskSizeGb"]) == 20


@pytest.mark.long
def test_a_network_is_adopted(cloud: Cloud, report: Report) -> None:
    """The one that the deployment is in becomes one that others manage; another one is refused."""
    names = {"mlflow_network_name": "mlflow", "mlflow_subnetwork_name": "mlflow-europe-west2"}
    kinds = ("global/networks", "global/addresses", "regions/europe-west2/subnetworks")
    networks = [cloud.call("GET", f"{COMPUTE}/{kind}") for kind in kinds]
    unharmed(report, "network adoption", cloud, **names)
    assert [cloud.call("GET", f"{COMPUTE}/{kind}") for kind in kinds] == networks
    cloud.call("POST", f"{COMPUTE}/global/networks", {"name": "other", "autoCreateSubnetworks": True})
    before = snapshot(cloud)
    play = site(cloud, mlflow_network_name="other", mlflow_subnetwork_name="other")
    assert play.status != 0 and play.recap("changed") == 0, play.output
    assert "mlflow_network_name" in play.error and "cannot be changed" in " ".join(play.error.split()), play.output
    assert snapshot(cloud) == before


@pytest.mark.long
def test_another_region_is_refused(cloud: Cloud, report: Report) -> None:
    before, traffic = snapshot(cloud), Traffic(cloud)
    with traffic.running():
        play = site(cloud, mlflow_region="europe-west3")
    report("region (refused)", traffic)
    told = " ".join(play.error.split())
    assert play.status != 0 and play.recap("changed") == 0, play.output
    assert "mlflow_region is 'europe-west3'" in told and "cannot be changed" in told and "docs/changes.md" in told, told
    assert snapshot(cloud) == before
    assert (traffic.failed, traffic.lost()) == ([], [])


@pytest.fixture
def zone(cloud: Cloud) -> Iterator[str]:
    """A zone of the domains, with the record that leads to the load balancer."""
    apis = {"serviceIds": ["dns.googleapis.com"]}
    cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", apis)
    address = cloud.call("GET", f"{COMPUTE}/global/addresses/mlflow-lb-ip")["address"]
    cloud.call("POST", DNS, {"name": "example", "dnsName": "example.com.", "description": "all"})
    record = {"name": "mlflow.example.com.", "type": "A", "ttl": 300, "rrdatas": [address]}
    cloud.call("POST", f"{DNS}/example/rrsets", record)
    yield "example"
    for entry in cloud.call("GET", f"{DNS}/example/rrsets")["rrsets"]:
        if entry["type"] == "A":
            cloud.call("DELETE", f"{DNS}/example/rrsets/{entry['name']}/A")
    cloud.call("DELETE", f"{DNS}/example")


@pytest.mark.long
def test_another_domain_takes_the_place(cloud: Cloud, report: Report, zone: str) -> None:
    first, both = URL.removeprefix("https://"), {"mlflow_dns_zone": zone, "iap_lb_wait_for_certificate": True}
    unharmed(report, "domain: added", cloud, mlflow_domain=OTHER, mlflow_extra_domains=[first], **both)
    unharmed(report, "domain: swapped", cloud, url=f"https://{OTHER}", mlflow_domain=OTHER, **both)
    back = {"mlflow_domain": first, "mlflow_extra_domains": [OTHER]}
    unharmed(report, "domain: back", cloud, url=f"https://{OTHER}", **back, **both)
    unharmed(report, "domain: removed", cloud, **both)


def balancers(cloud: Cloud) -> list[str]:
    """The names of all resources of load balancers."""
    found: list[str] = []
    for kind in (
        "addresses",
        "forwardingRules",
        "targetHttpsProxies",
        "targetHttpProxies",
        "urlMaps",
        "backendServices",
    ):
        found += [entry["name"] for entry in cloud.call("GET", f"{COMPUTE}/global/{kind}").get("items", ())]
    found += [entry["name"] for entry in cloud.call("GET", f"{COMPUTE}/global/sslCertificates").get("items", ())]
    groups = cloud.call("GET", f"{COMPUTE}/aggregated/networkEndpointGroups")["items"].values()
    return found + [entry["name"] for scope in groups for entry in scope.get("networkEndpointGroups", ())]


@pytest.mark.long
def test_a_load_balancer_gets_another_name(cloud: Cloud, report: Report, zone: str) -> None:
    """The new one is made beside the old one, the record is changed, and then the old one goes."""
    refused = site(cloud, mlflow_dns_zone=zone, mlflow_lb_name="front")
    assert refused.status != 0 and refused.recap("changed") == 0, refused.output
    assert "set iap_lb_previous_name to mlflow-lb" in " ".join(refused.error.split())

    names = {"mlflow_dns_zone": zone, "mlflow_lb_name": "front", "iap_lb_previous_name": "mlflow-lb"}
    who = {"mlflow_webapp_users": [JOE], "iap_lb_allowed_ranges": [HERE]}
    unharmed(report, "lb_name: beside and swap", cloud, **names, **who)
    # The old one serves clients that know its address, and only those who may use the new one.
    for backend in ("mlflow-lb-backend", "front-backend"):
        (binding,) = read(cloud, f"{web(cloud)}/compute/services/{backend}")["bindings"]
        assert set(binding["members"]) == {JOE, f"serviceAccount:{LOGGER}"}
        assert cloud.call("GET", f"{COMPUTE}/global/backendServices/{backend}")["securityPolicy"].endswith(
            "/front-allowed"
        )
    unharmed(
        report,
        "lb_name: the old one goes",
        cloud,
        **names,
        iap_lb_delete_previous=True,
        iap_lb_wait_for_certificate=True,
    )
    assert [name for name in balancers(cloud) if name.startswith("mlflow-lb")] == []
    assert sign_in(cloud, "user:new@example.com") == 403
    again = site(cloud, mlflow_dns_zone=zone, mlflow_lb_name="front")
    assert (again.status, again.recap("changed")) == (0, 0), again.output
    # And back, for the other tests.
    names = {"mlflow_dns_zone": zone, "iap_lb_previous_name": "front"}
    for last in (False, True):
        play = site(cloud, book=ROLE, **names, iap_lb_delete_previous=last, iap_lb_wait_for_certificate=True)
        assert play.status == 0, play.output


OFFICE, HOME, HERE = "127.0.0.2", "127.0.0.9", "127.0.0.1/32"
ROLE = "../tests/e2e/front_door.yml"


def answers(traffic: Traffic) -> set[int]:
    """The statuses of all answers."""
    return {failure.status for failure in traffic.failed} | ({200} if traffic.sent > len(traffic.failed) else set())


def status(cloud: Cloud, address: str) -> set[int]:
    """The status of MLflow's page for a program at an address."""
    traffic = Traffic(cloud, work=ask, clients=1, address=address)
    with traffic.running():
        pass
    return answers(traffic)


@pytest.mark.long
def test_only_some_addresses_are_let_in(cloud: Cloud, report: Report) -> None:
    """Not for a moment is a client refused that stays allowed, or one let in that is not."""
    unharmed(report, "ranges: set", cloud, book=ROLE, iap_lb_allowed_ranges=[HERE, OFFICE])
    assert (status(cloud, OFFICE), status(cloud, HOME)) == ({200}, {403})
    never = Traffic(cloud, work=ask, clients=2, address=HOME)
    with never.running():
        unharmed(report, "ranges: changed", cloud, book=ROLE, iap_lb_allowed_ranges=["192.0.2.0/24", HERE])
    assert answers(never) == {403}
    assert status(cloud, OFFICE) == {403}
    unharmed(report, "ranges: emptied", cloud, book=ROLE)
    assert status(cloud, HOME) == {200}
    assert "items" not in cloud.call("GET", f"{COMPUTE}/global/securityPolicies")


@pytest.mark.long
def test_a_policy_of_others_is_never_replaced(cloud: Cloud) -> None:
    backend = f"{COMPUTE}/global/backendServices/mlflow-lb-backend"
    cloud.call("POST", f"{COMPUTE}/global/securityPolicies", {"name": "theirs"})
    theirs = {"securityPolicy": f"projects/{PROJECT}/global/securityPolicies/theirs"}
    cloud.call("POST", f"{backend}/setSecurityPolicy", theirs)
    before = snapshot(cloud)
    for book in ("site.yml", ROLE):
        play = site(cloud, book=book, mlflow_allowed_ranges=[HERE])
        assert play.status != 0 and play.recap("changed") == 0, play.output
        told = " ".join(play.error.split())
        assert "mlflow-lb-backend has the Cloud Armor policy theirs of others" in told, play.output
    assert snapshot(cloud) == before
    play = site(cloud, book=ROLE)
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    assert cloud.call("GET", backend)["securityPolicy"].endswith("/theirs")
    cloud.call("POST", f"{backend}/setSecurityPolicy", {})
    cloud.call("DELETE", f"{COMPUTE}/global/securityPolicies/theirs")


# -- the last ones, since the next run of site changes the database back --------

TIER = "db-custom-2-7680"


def seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def restarted(cloud: Cloud, report: Report, name: str, **variables: Any) -> None:
    """
    A change for which Google restarts the instance: requests fail while that lasts, and only with the server's own error, and
    nothing else than that.
    """
    traffic, _ = change(cloud, **variables)
    report(name, traffic)
    operations = cloud.call("GET", f"{SQL}/operations", params={"instance": "mlflow", "maxResults": 1})["items"]
    begin, end = (seconds(operations[0][key]) for key in ("startTime", "endTime"))
    failed = traffic.failed
    assert {failure.status for failure in failed} <= {500, 503}, failed[:3]
    assert all(begin - 1 <= failure.answered and failure.sent <= end + 5 for failure in failed), (begin, end, failed)


@pytest.mark.long
def test_another_tier_restarts_the_database(cloud: Cloud, report: Report) -> None:
    restarted(cloud, report, "tier", cloudsql_tier=TIER)
    assert instance(cloud)["tier"] == TIER


@pytest.mark.long
def test_a_flag_that_restarts_the_database(cloud: Cloud, report: Report) -> None:
    restarted(
        cloud, report, "flag that restarts", cloudsql_tier=TIER, cloudsql_database_flags={"max_connections": "300"}
    )
    assert instance(cloud)["databaseFlags"] == [{"name": "max_connections", "value": "300"}]
