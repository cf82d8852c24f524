"""The front door internal, and changing between all three of a live deployment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from .conftest import PROJECT, ROOT, URL, Cloud, Play
from .test_destroy import destroy
from .test_front_doors import CLOUD_RUN, JANE, LOG, MALLORY, RUN, balanced, watched

REGION = "europe-west2"
RESOURCES = (
    "addresses backendServices forwardingRules networkEndpointGroups sslCertificates subnetworks targetHttpProxies "
    "targetHttpsProxies urlMaps"
)
REGIONAL = f"compute.googleapis.com/compute/v1/projects/{PROJECT}/regions/{REGION}"


@pytest.fixture(scope="module")
def cloud(own_cloud: Cloud) -> Cloud:
    """A deployment with a load balancer, whose front door this file changes."""
    return own_cloud


@pytest.fixture(scope="module")
def run_url(cloud: Cloud) -> str:
    """The address that Cloud Run gives the server."""
    number = cloud.call("GET", f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}")["projectNumber"]
    return f"https://mlflow-{number}.{REGION}.run.app"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The company's own certificate authority."""
    return trustme.CA()


@pytest.fixture(scope="module")
def inside(cloud: Cloud, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the environment of a client in the network has besides, which trusts the company's authority too."""
    exports = cloud.exports_in("mlflow", REGION)
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    bundle.write_text(Path(exports["REQUESTS_CA_BUNDLE"]).read_text() + authority.cert_pem.bytes().decode())
    return exports | {name: str(bundle) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")}


@pytest.fixture(scope="module")
def internal(authority: trustme.CA) -> dict[str, str]:
    """The variables of the front door."""
    leaf = authority.issue_cert(URL.removeprefix("https://"))
    return {
        "mlflow_front_door": "internal",
        "iap_internal_lb_certificate_chain": "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems),
        "iap_internal_lb_private_key": leaf.private_key_pem.bytes().decode(),
    }


@pytest.fixture
def play(cloud: Cloud, tmp_path: Path) -> Callable[..., Play]:
    """``play("site.yml", variables)``: a playbook with these variables, in a file, as a vault would be."""

    def run(name: str, variables: dict[str, Any], *arguments: str, **env: str) -> Play:
        file = tmp_path / "vars.json"
        file.write_text(json.dumps(variables))
        done = cloud.playbook(name, "--extra-vars", f"@{file}", *arguments, **env)
        assert "PRIVATE KEY" not in done.output
        return done

    return run


@pytest.fixture
def log(client: Callable[..., subprocess.CompletedProcess[str]], inside: dict[str, str]) -> Callable[..., str]:
    """Logs a run with an artifact, from within the network, after reading others back, and returns its ID."""

    def run(url: str, *others: str) -> str:
        done = client("-c", LOG, url, *others, **inside, MLFLOW_TRACKING_URI=url)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.split()[-1]

    return run


def browser(cloud: Cloud, inside: dict[str, str]) -> requests.Session:
    """A browser within the network, in which nobody has signed in."""
    session = cloud.session(anonymous=True, network="mlflow", region=REGION)
    session.verify = inside["REQUESTS_CA_BUNDLE"]
    return session


def user(cloud: Cloud, inside: dict[str, str], email: str) -> int:
    """The status of MLflow's page for a user within the network who signs in with a browser."""
    session = browser(cloud, inside)
    page = session.get(URL, timeout=60)
    return session.post(page.url, data={"other": email}, timeout=90).status_code


def is_closed(cloud: Cloud) -> bool:
    """Whether the address of the server does not exist for who is outside of the network."""
    try:
        return cloud.http("GET", URL, allow_redirects=False).status_code == 0
    except requests.exceptions.ConnectionError:
        return True


def of_internal(cloud: Cloud) -> list[str]:
    """What exists of an internal load balancer."""
    found = (cloud.call("GET", f"{REGIONAL}/{kind}").get("items", ()) for kind in RESOURCES.split())
    return sorted(
        entry["name"] for entries in found for entry in entries if entry["name"].startswith("mlflow-internal")
    )


def of_balancer(cloud: Cloud) -> list[str]:
    """What exists of the other one."""
    return [entry for entry in balanced(cloud) if "mlflow-lb" in entry]


def unchanged(play: Callable[..., Play], variables: dict[str, Any]) -> None:
    """A second run changes nothing."""
    again = play("site.yml", variables)
    assert (again.status, again.recap("changed")) == (0, 0), again.output


@pytest.mark.long
def test_a_live_deployment_gets_it(cloud, play, log, internal, inside, run_url):
    before = log(URL)
    with watched(cloud, run_url, browser(cloud, inside)):
        done = play("site.yml", internal)
    assert done.status == 0 and f"url: {URL}" in done.output, done.output
    assert of_balancer(cloud) == [] and len(of_internal(cloud)) > 9
    assert [user(cloud, inside, email) for email in (JANE, MALLORY)] == [200, 403]
    assert is_closed(cloud)
    assert log(URL, before)
    unchanged(play, internal)


@pytest.mark.long
def test_all_three_follow_each_other_and_a_run_survives(cloud, play, log, internal, inside, run_url):
    balancer: dict[str, str] = {}
    urls = {"cloud_run": run_url}
    runs = []
    for variables in (CLOUD_RUN, internal, balancer, internal, CLOUD_RUN, balancer):
        with watched(cloud, run_url, browser(cloud, inside)):
            done = play("site.yml", variables)
        assert done.status == 0, done.output
        door = variables.get("mlflow_front_door", "load_balancer")
        assert bool(of_internal(cloud)) is (door == "internal"), of_internal(cloud)
        assert bool(of_balancer(cloud)) is (door == "load_balancer"), of_balancer(cloud)
        assert bool(cloud.call("GET", RUN).get("iapEnabled")) is (door == "cloud_run")
        assert is_closed(cloud) is (door != "load_balancer")
        runs.append(log(urls.get(door, URL), *runs))
        unchanged(play, variables)


@pytest.mark.long
def test_a_change_that_was_interrupted_is_completed(cloud, play, log, internal, inside, run_url, tmp_path):
    assert play("site.yml", internal).status == 0
    before = log(URL)
    for variables, left in (({}, of_internal), (internal, of_balancer)):
        with watched(cloud, run_url, browser(cloud, inside)):
            for limit in (2, 9, 16, 20):
                counter = tmp_path / "writes"
                counter.unlink(missing_ok=True)
                env = {
                    "PYTHONPATH": str(Path(__file__).parent / "killed"),
                    "KILLED_AFTER": str(counter),
                    "KILLED_LIMIT": str(limit),
                }
                assert play("site.yml", variables, **env).status != 0 or limit > 2
            done = play("site.yml", variables)
        assert done.status == 0 and not left(cloud), done.output
        assert log(URL, before)
        unchanged(play, variables)


@pytest.mark.long
def test_verify_within_the_network(cloud, play, internal, inside):
    assert play("site.yml", internal).status == 0
    done = play("verify.yml", internal, **inside)
    assert done.status == 0 and "2d" in done.output, done.output
    outside = play("verify.yml", internal, REQUESTS_CA_BUNDLE=inside["REQUESTS_CA_BUNDLE"])
    assert outside.status != 0 and "connect" in outside.error.lower(), outside.error


@pytest.mark.long
def test_verify_says_what_is_wrong_with_it(cloud, play, internal, inside):
    assert play("site.yml", internal).status == 0
    number = cloud.call("GET", f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}")["projectNumber"]
    web = f"iap.googleapis.com/v1/projects/{number}/iap_web/compute-{REGION}"
    eve = {"role": "roles/iap.httpsResourceAccessor", "members": ["user:eve@example.com"]}
    cloud.call("POST", f"{web}:setIamPolicy", {"policy": {"bindings": [eve]}})
    policy = cloud.call("POST", f"{web}/services/mlflow-internal-backend:getIamPolicy", {})["bindings"]
    others = [*policy, {**eve, "members": ["user:ops@example.com"]}]
    cloud.call("POST", f"{web}/services/mlflow-internal-backend:setIamPolicy", {"policy": {"bindings": others}})
    try:
        done = play("verify.yml", internal, **inside)
        told = " ".join(done.error.split())
        for part in (
            "IAP of backend service mlflow-internal-backend: user:ops@example.com has",
            f"IAP of all backend services in {REGION}: user:eve@example.com has",
            "role iap_internal_lb",
        ):
            assert part in told, done.output
    finally:
        cloud.call("POST", f"{web}:setIamPolicy", {"policy": {"bindings": []}})
        assert play("site.yml", internal, "--tags", "users").status == 0
    assert play("verify.yml", internal, **inside).status == 0


@pytest.mark.long
def test_it_is_taken_down_without_a_trace_and_comes_back(cloud, play, log, internal, inside):
    assert play("site.yml", internal).status == 0
    variables = {**internal, "mlflow_destroy_data": True, "mlflow_final_backup": False}
    done = destroy(cloud, **variables)
    assert done.status == 0, done.output
    listing = [sys.executable, ROOT / "tools/resources.py", "--billable-only", "--fail-if-billable"]
    billable = subprocess.run(listing, env=cloud.env, capture_output=True, text=True)
    assert billable.returncode == 0, billable.stdout
    again = destroy(cloud, **variables)
    assert (again.status, again.recap("changed")) == (0, 0), again.output
    done = play("site.yml", internal)
    assert done.status == 0 and f"MLFLOW_TRACKING_URI={URL}" in done.output, done.output
    assert [user(cloud, inside, email) for email in (JANE, MALLORY)] == [200, 403] and is_closed(cloud)
    assert log(URL)
    unchanged(play, internal)
