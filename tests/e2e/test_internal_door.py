"""The front door internal, and changing between all three of a live deployment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from .conftest import IMAGE_PYTHON, PROJECT, ROOT, URL, Cloud, Play
from .test_destroy import destroy
from .test_front_doors import CLOUD_RUN, JANE, LOG, MALLORY, RUN, balanced, sign_in, watched

REGION = "europe-west2"
RESOURCES = "addresses backendServices forwardingRules networkEndpointGroups sslCertificates subnetworks targetHttpProxies urlMaps"
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


def user(cloud: Cloud, inside: dict[str, str], email: str) -> int:
    """The status of MLflow's page for a user within the network who signs in with a browser."""
    browser = cloud.session(anonymous=True, network="mlflow", region=REGION)
    browser.verify = inside["REQUESTS_CA_BUNDLE"]
    page = browser.get(URL, timeout=60)
    return browser.post(page.url, data={"other": email}, timeout=90).status_code


def is_closed(cloud: Cloud) -> bool:
    """Whether the address of the server does not exist for who is outside of the network."""
    try:
        return cloud.http("GET", URL, allow_redirects=False).status_code == 0
    except requests.exceptions.ConnectionError:
        return True


def of_internal(cloud: Cloud) -> list[str]:
    """What exists of an internal load balancer."""
    found = (cloud.call("GET", f"{REGIONAL}/{kind}").get("items", ()) for kind in (*RESOURCES.split(), "targetHttpsProxies"))
    return sorted(entry["name"] for entries in found for entry in entries if entry["name"].startswith("mlflow-internal"))


def unchanged(play: Callable[..., Play], variables: dict[str, Any]) -> None:
    """A second run changes nothing."""
    again = play("site.yml", variables)
    assert (again.status, again.recap("changed")) == (0, 0), again.output


def test_a_live_deployment_gets_it(cloud, play, log, internal, inside, run_url):
    before = log(URL)
    with watched(cloud, run_url):
        done = play("site.yml", internal)
    assert done.status == 0 and f"url: {URL}" in done.output, done.output
    assert balanced(cloud) == [] or len(of_internal(cloud)) > 8
    assert [user(cloud, inside, email) for email in (JANE, MALLORY)] == [200, 403]
    assert is_closed(cloud)
    assert log(URL, before)
    unchanged(play, internal)
