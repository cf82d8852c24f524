"""The role iap_internal_lb alone, in front of a Cloud Run service: who gets in, from where, and its certificates."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import trustme

from .conftest import LOGGER, PROJECT, Cloud, Play

REGION = "europe-west2"
COMPUTE = f"compute.googleapis.com/compute/v1/projects/{PROJECT}"
REGIONAL = f"{COMPUTE}/regions/{REGION}"
RUN = f"run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/services"
DOMAIN = "mlflow.corp.example"
URL = f"https://{DOMAIN}"
NAME = "mlflow-internal"
APIS = (
    "cloudresourcemanager",
    "compute",
    "dns",
    "iam",
    "iamcredentials",
    "iap",
    "run",
    "certificatemanager",
    "privateca",
)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A project with two peered networks and a service, and no load balancer."""
    with Cloud.running("--project", PROJECT) as running:
        body = {"serviceIds": [f"{api}.googleapis.com" for api in APIS]}
        running.call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", body)
        for number, name in enumerate(("corp", "office")):
            running.call("POST", f"{COMPUTE}/global/networks", {"name": name, "autoCreateSubnetworks": False})
            network = f"projects/{PROJECT}/global/networks/{name}"
            subnet = {"name": name, "ipCidrRange": f"10.{number}.0.0/24", "network": network}
            running.call("POST", f"{REGIONAL}/subnetworks", subnet)
        for one, other in (("corp", "office"), ("office", "corp")):
            peering = {
                "name": other,
                "network": f"projects/{PROJECT}/global/networks/{other}",
                "exchangeSubnetRoutes": True,
            }
            running.call("POST", f"{COMPUTE}/global/networks/{one}/addPeering", {"networkPeering": peering})
        zone = {
            "name": "corp",
            "dnsName": "corp.example.",
            "description": "",
            "visibility": "private",
            "privateVisibilityConfig": {
                "networks": [
                    {"networkUrl": f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/networks/corp"}
                ]
            },
        }
        running.call("POST", f"dns.googleapis.com/dns/v1/projects/{PROJECT}/managedZones", zone)
        service = {
            "template": {"containers": [{"image": "us-docker.pkg.dev/cloudrun/container/hello"}]},
            "ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
        }
        running.call("POST", f"{RUN}?serviceId=mlflow", service)
        yield running


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The company's own certificate authority."""
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file with its certificate."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def issued(authority: trustme.CA, *names: str) -> dict[str, str]:
    """The variables with a new certificate for these names."""
    leaf = authority.issue_cert(*names)
    return {
        "iap_internal_lb_certificate_chain": "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems),
        "iap_internal_lb_private_key": leaf.private_key_pem.bytes().decode(),
    }


@pytest.fixture(scope="module")
def run(cloud: Cloud, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Play]:
    """``run(variable=value)``: the playbook with the first certificate, or other variables."""
    first = {"mlflow_domain": DOMAIN, "iap_internal_lb_dns_zone": "corp"} | issued(authority, DOMAIN)
    file = tmp_path_factory.mktemp("vars") / "vars.json"

    def call(**variables: Any) -> Play:
        # In a file, as a vault would be: the command line shows no secret.
        file.write_text(json.dumps(first | variables))
        return cloud.playbook("../tests/e2e/internal.yml", "--extra-vars", f"@{file}", "--diff", "-v")

    return call


@pytest.fixture(scope="module")
def balancer(run: Callable[..., Play]) -> Play:
    """The first run."""
    play = run()
    assert play.status == 0, play.output
    return play


def token(cloud: Cloud) -> str:
    """A JWT of the logger for the load balancer."""
    now = int(time.time())
    claims = {"iss": LOGGER, "sub": LOGGER, "aud": f"{URL}/*", "iat": now, "exp": now + 600}
    url = f"iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{LOGGER}:signJwt"
    return cloud.call("POST", url, {"payload": json.dumps(claims)})["signedJwt"]


def client(
    cloud: Cloud, trusted: str, network: str = "corp", region: str = REGION, sign_in: bool = True
) -> requests.Session:
    """A client in a network ("": outside), which trusts the company's authority."""
    session = cloud.session(anonymous=True, network=network, region=region if network else "")
    session.verify = trusted
    if sign_in:
        session.headers["Authorization"] = f"Bearer {token(cloud)}"
    return session


def test_the_first_run_is_complete_and_the_second_changes_nothing(cloud, run, balancer, authority, trusted):
    assert balancer.recap("changed") > 15
    for text in (balancer.output,):
        assert "PRIVATE KEY" not in text
    address = cloud.call("GET", f"{REGIONAL}/addresses/{NAME}-ip")
    assert address["purpose"] == "SHARED_LOADBALANCER_VIP" and address["address"].startswith("10.0.0.")
    play = run()
    assert (play.status, play.recap("changed")) == (0, 0), play.output


def status(session: requests.Session, url: str = URL) -> int:
    return session.get(url, timeout=20, allow_redirects=False).status_code


def test_the_named_get_in_from_within(cloud, balancer, trusted):
    inside = client(cloud, trusted)
    assert status(inside) == 200
    assert status(client(cloud, trusted, "office")) == 200  # a peered network
    assert status(client(cloud, trusted, sign_in=False)) == 302  # to the sign-in page
    answer = inside.get(f"http://{DOMAIN}/x?y=z", timeout=20, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (301, f"{URL}/x?y=z")
    assert cloud.http("GET", cloud.call("GET", f"{RUN}/mlflow")["uri"]).status_code == 404


def test_who_is_not_named_and_who_is_outside_do_not(cloud, balancer, trusted):
    other = f"stranger@{PROJECT}.iam.gserviceaccount.com"
    cloud.call("POST", f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts", {"accountId": "stranger"})
    signing = {
        "role": "roles/iam.serviceAccountTokenCreator",
        "members": [f"serviceAccount:deployer@{PROJECT}.iam.gserviceaccount.com"],
    }
    account = f"iam.googleapis.com/v1/projects/-/serviceAccounts/{other}"
    cloud.call("POST", f"{account}:setIamPolicy", {"policy": {"bindings": [signing]}})
    now = int(time.time())
    claims = {"iss": other, "sub": other, "aud": f"{URL}/*", "iat": now, "exp": now + 600}
    signed = cloud.call(
        "POST",
        f"iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{other}:signJwt",
        {"payload": json.dumps(claims)},
    )
    session = client(cloud, trusted, sign_in=False)
    session.headers["Authorization"] = f"Bearer {signed['signedJwt']}"
    assert status(session) == 403
    for place in ("", "europe-west1"):
        with pytest.raises(requests.exceptions.ConnectionError):
            status(client(cloud, trusted, "corp" if place else "", place or REGION))


def certificates(cloud: Cloud) -> list[str]:
    return [entry["name"] for entry in cloud.call("GET", f"{REGIONAL}/sslCertificates").get("items", ())]


def test_another_certificate_takes_its_place_without_a_failed_request(cloud, run, balancer, authority, trusted):
    before, done, found = certificates(cloud), threading.Event(), []
    session = client(cloud, trusted)

    def ask() -> None:
        while not done.wait(0.05):
            try:
                found.append(
                    requests.Session.get(session, URL, timeout=20, headers={"Connection": "close"}).status_code
                )
            except requests.exceptions.RequestException as error:
                found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        play = run(**issued(authority, DOMAIN, "other.corp.example"))
    finally:
        done.set()
        thread.join()
    # It is uploaded, attached in place of the other one, and that is deleted.
    assert (play.status, len(play.changed)) == (0, 3), play.output
    assert len(found) > 20 and set(found) == {200}
    after = certificates(cloud)
    assert len(before) == len(after) == 1 and before != after


def left(cloud: Cloud) -> dict[str, list[str]]:
    """What there is of the load balancer, by collection."""
    collections = (
        *(
            f"{REGIONAL}/{kind}"
            for kind in ("addresses", "backendServices", "forwardingRules", "networkEndpointGroups")
        ),
        *(
            f"{REGIONAL}/{kind}"
            for kind in ("sslCertificates", "subnetworks", "targetHttpProxies", "targetHttpsProxies", "urlMaps")
        ),
        f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts",
        f"dns.googleapis.com/dns/v1/projects/{PROJECT}/managedZones/corp/rrsets",
        f"certificatemanager.googleapis.com/v1/projects/{PROJECT}/locations/{REGION}/certificates",
        f"certificatemanager.googleapis.com/v1/projects/{PROJECT}/locations/{REGION}/certificateIssuanceConfigs",
    )
    out = {}
    for url in collections:
        page = cloud.call("GET", url)
        entries = next((value for value in page.values() if isinstance(value, list)), [])
        out[url] = sorted(name for entry in entries if NAME in (name := entry["name"]) or name.startswith(DOMAIN))
    return {url: names for url, names in out.items() if names}


@pytest.mark.long
def test_a_ca_pool_issues_another_certificate_and_back(cloud, run, balancer, authority, trusted, tmp_path):
    place = f"projects/{PROJECT}/locations/{REGION}"
    pools = f"privateca.googleapis.com/v1/{place}/caPools"
    cloud.call("POST", f"{pools}?caPoolId=corp", {"tier": "DEVOPS"})
    ca = {"config": {"subjectConfig": {"subject": {"commonName": "Corp"}}}, "type": "SELF_SIGNED"}
    cloud.call("POST", f"{pools}/corp/certificateAuthorities?certificateAuthorityId=root", ca)
    by_pool = {
        "iap_internal_lb_certificate": "ca_pool",
        "iap_internal_lb_certificate_chain": "",
        "iap_internal_lb_private_key": "",
        "iap_internal_lb_ca_pool": f"{place}/caPools/corp",
    }
    # The old certificate serves until the new one is there.
    play = run(**by_pool, iap_internal_lb_certificate_timeout=1)
    assert play.status != 0 and "no enabled certificate authority" in play.error, play.output
    assert status(client(cloud, trusted)) == 200
    cloud.call("POST", f"{pools}/corp/certificateAuthorities/root:enable", {})
    play = run(**by_pool)
    assert play.status == 0 and certificates(cloud) == [], play.output
    (chain,) = cloud.call("POST", f"{pools}/corp:fetchCaCerts", {})["caCerts"]
    (tmp_path / "ca.pem").write_text("".join(chain["certificates"]))
    assert status(client(cloud, str(tmp_path / "ca.pem"))) == 200
    play = run(**by_pool)
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    play = run()
    assert play.status == 0 and not any("certificatemanager" in url for url in left(cloud)), play.output
    assert status(client(cloud, trusted)) == 200


def test_the_takedown_leaves_nothing(cloud, run, balancer):
    address = cloud.call("GET", f"{REGIONAL}/addresses/{NAME}-ip")["address"]
    assert len(left(cloud)) > 9
    play = run(tasks_from="destroy", address=address)
    assert play.status == 0 and left(cloud) == {}, play.output


@pytest.mark.long
def test_the_proxy_only_subnetwork_of_others_is_used_and_kept(cloud, run, balancer):
    assert run(tasks_from="destroy").status == 0
    theirs = {
        "name": "theirs",
        "network": f"projects/{PROJECT}/global/networks/corp",
        "ipCidrRange": "10.77.0.0/26",
        "purpose": "REGIONAL_MANAGED_PROXY",
        "role": "ACTIVE",
    }
    cloud.call("POST", f"{REGIONAL}/subnetworks", theirs)
    play = run()
    assert play.status == 0 and re.search(r"proxy_only_subnetwork: projects/.*/theirs\n", play.output), play.output
    names = {entry["name"] for entry in cloud.call("GET", f"{REGIONAL}/subnetworks")["items"]}
    assert names == {"corp", "default", "office", "theirs"}
    address = cloud.call("GET", f"{REGIONAL}/addresses/{NAME}-ip")["address"]
    for changed in (True, False):
        play = run(tasks_from="destroy", address=address)
        assert play.status == 0 and bool(play.recap("changed")) is changed, play.output
    assert cloud.call("GET", f"{REGIONAL}/subnetworks/theirs")["role"] == "ACTIVE"
