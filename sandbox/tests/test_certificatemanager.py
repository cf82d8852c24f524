"""Certificate Manager: authorizations by DNS records, certificates, and maps; and what the load balancer serves by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

Doc = dict[str, Any]
Api = Callable[..., requests.Response]
DOMAIN = "app.certs.test"


@pytest.fixture(scope="module")
def base(enable: Any, project: str) -> str:
    enable(project, "certificatemanager.googleapis.com", "compute.googleapis.com", "dns.googleapis.com")
    return f"https://certificatemanager.googleapis.com/v1/projects/{project}/locations/global"


@pytest.fixture(scope="module")
def zone(api: Api, base: str, project: str) -> str:
    url = f"https://dns.googleapis.com/dns/v1/projects/{project}/managedZones"
    body = {"name": "certs", "dnsName": "certs.test.", "description": "zone"}
    assert api("POST", url, json=body).status_code == 200
    return f"{url}/certs"


@pytest.fixture(scope="module")
def record(api: Api, zone: str) -> Callable[..., None]:
    def put(name: str, kind: str, data: str) -> None:
        body = {"name": name, "type": kind, "ttl": 300, "rrdatas": [data]}
        assert api("POST", f"{zone}/rrsets", json=body).status_code == 200

    return put


def make(api: Api, done: Any, url: str, param: str, name: str, body: Doc) -> Doc:
    operation = done(api("POST", f"{url}?{param}={name}", json=body))
    assert "error" not in operation, operation
    return operation["response"]


def authorize(api: Api, done: Any, base: str, name: str, domain: str, **more: Any) -> Doc:
    return make(api, done, f"{base}/dnsAuthorizations", "dnsAuthorizationId", name, {"domain": domain} | more)


def certify(api: Api, done: Any, base: str, name: str, domains: list[str], authorizations: list[str]) -> Doc:
    managed = {"domains": domains, "dnsAuthorizations": authorizations}
    return make(api, done, f"{base}/certificates", "certificateId", name, {"managed": managed})


def test_a_certificate_is_active_by_the_record_of_its_authorization(
    api: Api, done: Any, base: str, record: Any, project: str
) -> None:
    made = authorize(api, done, base, "auth", DOMAIN, type="PER_PROJECT_RECORD")
    dns = made["dnsResourceRecord"]
    assert made["name"] == f"projects/{project}/locations/global/dnsAuthorizations/auth"
    assert dns["name"].startswith("_acme-challenge_") and dns["name"].endswith(f".{DOMAIN}.")
    assert dns["data"].endswith(".authorize.certificatemanager.goog.") and dns["type"] == "CNAME"
    certify(api, done, base, "cert", [DOMAIN], [made["name"]])
    managed = api("GET", f"{base}/certificates/cert").json()["managed"]
    (attempt,) = managed["authorizationAttemptInfo"]
    assert (managed["state"], attempt["state"], attempt["failureReason"]) == ("PROVISIONING", "FAILED", "CONFIG")
    assert attempt["troubleshooting"]["cname"] == {
        "name": dns["name"],
        "expectedData": dns["data"],
        "resolvedData": [],
    }
    assert managed["provisioningIssue"]["reason"] == "AUTHORIZATION_ISSUE"
    assert managed["dnsAuthorizations"][0].split("/")[1].isdigit()
    record(dns["name"], "CNAME", dns["data"])
    certificate = api("GET", f"{base}/certificates/cert").json()
    assert certificate["managed"]["state"] == "ACTIVE" and certificate["sanDnsnames"] == [DOMAIN]
    assert "provisioningIssue" not in certificate["managed"] and certificate["expireTime"]
    answer = api("DELETE", f"{base}/dnsAuthorizations/auth").json()["error"]
    assert answer["status"] == "FAILED_PRECONDITION" and answer["details"][0]["violations"][0]["subject"].endswith(
        "/auth"
    )


def test_what_an_authorization_and_a_certificate_cannot_be(api: Api, done: Any, base: str) -> None:
    first = authorize(api, done, base, "once", "once.certs.test")
    assert first["dnsResourceRecord"]["name"] == "_acme-challenge.once.certs.test."
    again = api("POST", f"{base}/dnsAuthorizations?dnsAuthorizationId=twice", json={"domain": "once.certs.test"})
    assert again.status_code == 400 and "tuple (project, domain" in again.json()["error"]["message"]
    taken = api("POST", f"{base}/dnsAuthorizations?dnsAuthorizationId=once", json={"domain": "x.certs.test"})
    assert taken.status_code == 409
    for managed in (
        {"domains": []},
        {"domains": ["other.certs.test"], "dnsAuthorizations": [first["name"]]},
        {"domains": ["*.certs.test"]},
        {"domains": ["once.certs.test"], "dnsAuthorizations": ["once"]},
    ):
        answer = api("POST", f"{base}/certificates?certificateId=bad", json={"managed": managed})
        assert answer.status_code == 400, managed
    absent = {"managed": {"domains": ["a.b"], "dnsAuthorizations": [first["name"] + "-not"]}}
    assert api("POST", f"{base}/certificates?certificateId=bad", json=absent).status_code == 404


@pytest.mark.parametrize(
    ("state", "reason", "result"),
    [("FAILED_CAA_FORBIDDEN", "CAA", "FAILED"), ("FAILED_RATE_LIMITED", "RATE_LIMITED", "PROVISIONING")],
)
def test_the_policy_of_the_sandbox_makes_a_domain_fail(
    api: Api, done: Any, base: str, sandbox: Any, state: str, reason: str, result: str
) -> None:
    name = reason.lower().replace("_", "-")
    domain = f"{name}.certs.test"
    made = authorize(api, done, base, name, domain)
    sandbox.command("policy", "set", "certificate", domain, state)
    certify(api, done, base, name, [domain], [made["name"]])
    managed = api("GET", f"{base}/certificates/{name}").json()["managed"]
    assert managed["authorizationAttemptInfo"][0]["failureReason"] == reason and managed["state"] == result


def test_a_map_serves_the_certificate_of_each_host_at_the_address_of_its_record(
    api: Api, done: Any, base: str, zone: str, record: Any, project: str, sandbox: Any
) -> None:
    hosts = ["one.certs.test", "two.certs.test"]
    make(api, done, f"{base}/certificateMaps", "certificateMapId", "map", {})
    for host in hosts:
        name = host.split(".")[0]
        made = authorize(api, done, base, name, host)
        record(made["dnsResourceRecord"]["name"], "CNAME", made["dnsResourceRecord"]["data"])
        certificate = certify(api, done, base, name, [host], [made["name"]])
        entry = {"hostname": host, "certificates": [certificate["name"]]}
        made = make(
            api, done, f"{base}/certificateMaps/map/certificateMapEntries", "certificateMapEntryId", name, entry
        )
        assert made["certificates"][0].split("/")[1].isdigit()
    compute = f"https://compute.googleapis.com/compute/v1/projects/{project}/global"

    def insert(collection: str, body: Doc) -> None:
        operation = done(api("POST", f"{compute}/{collection}", json=body))
        assert "error" not in operation, operation

    insert(
        "urlMaps", {"name": "certs", "defaultUrlRedirect": {"httpsRedirect": True, "hostRedirect": "elsewhere.test"}}
    )
    link = f"//certificatemanager.googleapis.com/projects/{project}/locations/global/certificateMaps/map"
    insert("targetHttpsProxies", {"name": "certs", "urlMap": f"{compute}/urlMaps/certs", "certificateMap": link})
    insert("addresses", {"name": "certs"})
    ip = api("GET", f"{compute}/addresses/certs").json()["address"]
    rule = {"name": "certs", "IPAddress": ip, "portRange": "443", "loadBalancingScheme": "EXTERNAL_MANAGED"}
    insert("forwardingRules", rule | {"target": f"{compute}/targetHttpsProxies/certs"})
    client = sandbox.session(anonymous=True)
    with pytest.raises(requests.exceptions.ProxyError):  # its zone has no record for it
        client.get(f"https://{hosts[0]}/", allow_redirects=False)
    record(f"{hosts[0]}.", "A", ip)
    record(f"{hosts[1]}.", "CNAME", f"{hosts[0]}.")
    for host in hosts:
        assert client.get(f"https://{host}/", allow_redirects=False).status_code == 301
    (target,) = api("GET", f"{base}/certificateMaps/map").json()["gclbTargets"]
    assert target["ipConfigs"] == [{"ipAddress": ip, "ports": [443]}]
    # The entry of one host with the certificate of another.
    entry = f"{base}/certificateMaps/map/certificateMapEntries/two?updateMask=certificates"
    wrong = {"certificates": [f"projects/{project}/locations/global/certificates/one"]}
    assert "error" not in done(api("PATCH", entry, json=wrong))
    with pytest.raises(requests.exceptions.SSLError):
        sandbox.session(anonymous=True).get(f"https://{hosts[1]}/")
    for path in ("certificates/one", "certificateMaps/map"):
        assert api("DELETE", f"{base}/{path}").json()["error"]["status"] == "FAILED_PRECONDITION"


def test_a_managed_certificate_of_compute_needs_the_record_where_the_zone_is_here(
    api: Api, done: Any, base: str, zone: str, project: str
) -> None:
    compute = f"https://compute.googleapis.com/compute/v1/projects/{project}/global"

    def insert(collection: str, body: Doc) -> None:
        operation = done(api("POST", f"{compute}/{collection}", json=body))
        assert "error" not in operation, operation

    insert("sslCertificates", {"name": "old", "type": "MANAGED", "managed": {"domains": ["old.certs.test"]}})
    insert("urlMaps", {"name": "old", "defaultUrlRedirect": {"httpsRedirect": True}})
    certificates = [f"{compute}/sslCertificates/old"]
    insert("targetHttpsProxies", {"name": "old", "urlMap": f"{compute}/urlMaps/old", "sslCertificates": certificates})
    rule = {"name": "old", "portRange": "443", "loadBalancingScheme": "EXTERNAL_MANAGED"}
    insert("forwardingRules", rule | {"target": f"{compute}/targetHttpsProxies/old"})
    managed = api("GET", f"{compute}/sslCertificates/old").json()["managed"]
    assert managed == {
        "domains": ["old.certs.test"],
        "status": "PROVISIONING",
        "domainStatus": {"old.certs.test": "FAILED_NOT_VISIBLE"},
    }
