"""Compute Engine load balancing other than the global load balancer of test_compute: variants and their responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

Doc = dict[str, Any]
REGION = "regions/us-central1"


class Client:
    """The API of one project: paths are relative to it."""

    def __init__(self, api: Callable[..., requests.Response], done: Callable[..., Doc], project: str) -> None:
        self.api, self.done, self.project = api, done, project

    def link(self, path: str) -> str:
        return f"https://www.googleapis.com/compute/v1/projects/{self.project}/{path}"

    def call(self, method: str, path: str, body: Doc | None = None) -> requests.Response:
        return self.api(method, self.link(path).replace("www.", "compute.").rstrip("/"), json=body)

    def do(self, method: str, path: str, body: Doc | None = None) -> Doc:
        operation = self.done(self.call(method, path, body))
        assert "error" not in operation, operation
        return operation

    def get(self, path: str) -> Doc:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def make(self, path: str, **body: Any) -> Doc:
        """Create a resource in a collection, wait, and read it."""
        self.do("POST", path, body)
        return self.get(f"{path}/{body['name']}")

    def refused(self, method: str, path: str, body: Doc | None = None) -> str:
        """The message of a 400."""
        answer = self.call(method, path, body)
        assert answer.status_code == 400, answer.text
        return answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def client(api: Any, done: Any, enable: Any, project: str) -> Client:
    enable(project, "compute.googleapis.com")
    return Client(api, done, project)


# -- backend services ------------------------------------------------------


def test_backend_services_of_every_scheme_are_filled_in(client: Client) -> None:
    classic = client.make("global/backendServices", name="classic", timeoutSec=10)
    assert {"enableCDN": False, "timeoutSec": 10, "protocol": "HTTP", "port": 80}.items() <= classic.items()
    passthrough = client.make(
        f"{REGION}/backendServices", name="passthrough", loadBalancingScheme="EXTERNAL", protocol="TCP"
    )
    assert {"enableCDN": False, "port": 80, "portName": "http"}.items() <= passthrough.items()
    internal = client.make(f"{REGION}/backendServices", name="internal", loadBalancingScheme="INTERNAL")
    assert {"protocol": "TCP", "timeoutSec": 30}.items() <= internal.items()
    assert not {"enableCDN", "port", "portName"} & internal.keys()


def test_a_tls_policy_is_kept_by_the_projects_number(client: Client) -> None:
    number = client.get("")["defaultServiceAccount"].split("-")[0]
    policy = "//networksecurity.googleapis.com/projects/{}/locations/global/clientTlsPolicies/x"
    settings = {"clientTlsPolicy": policy.format(client.project), "subjectAltNames": ["spiffe://a/ns/b/sa/c"]}
    made = client.make(
        "global/backendServices", name="mesh", loadBalancingScheme="INTERNAL_SELF_MANAGED", securitySettings=settings
    )
    assert made["securitySettings"]["clientTlsPolicy"] == policy.format(number)


def test_a_bucket_behind_a_cdn_caches_as_google_would(client: Client) -> None:
    plain = client.make("global/backendBuckets", name="assets", bucketName="assets")
    assert plain["enableCdn"] is False and "cdnPolicy" not in plain
    client.do("PUT", "global/backendBuckets/assets", {"name": "assets", "bucketName": "assets", "enableCdn": True})
    policy = client.get("global/backendBuckets/assets")["cdnPolicy"]
    assert {"cacheMode": "CACHE_ALL_STATIC", "clientTtl": 3600, "maxTtl": 86400}.items() <= policy.items()
    assert "cacheKeyPolicy" not in policy, "that is of backend services"
    usable = client.get("global/backendBuckets/listUsable")
    assert usable["kind"] == "compute#usableBackendBucketList"
    assert [item["name"] for item in usable["items"]] == ["assets"]


@pytest.mark.parametrize("scope", ["global", REGION])
def test_rules_of_a_security_policy_are_filled_in(client: Client, scope: str) -> None:
    match = {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ["10.0.0.0/8"]}}
    rule = {"action": "deny(403)", "priority": 1000, "match": match}
    policy = client.make(f"{scope}/securityPolicies", name="armor", rules=[rule])
    assert [r["priority"] for r in policy["rules"]] == [1000, 2147483647]
    assert {"description": "", "preview": False, "kind": "compute#securityPolicyRule"}.items() <= policy["rules"][
        0
    ].items()
    done = client.do("POST", f"{scope}/securityPolicies/armor/addRule", rule | {"priority": 500, "preview": True})
    assert done["operationType"] == "AddRule"
    done = client.do("POST", f"{scope}/securityPolicies/armor/removeRule?priority=1000")
    assert done["operationType"] == "RemoveRule"
    assert [r["priority"] for r in client.get(f"{scope}/securityPolicies/armor")["rules"]] == [500, 2147483647]
    assert client.get(f"{scope}/securityPolicies/armor/getRule?priority=500")["preview"] is True


def test_a_url_map_of_an_external_managed_backend_shows_its_quota(client: Client) -> None:
    """As recorded for a map of this shape; Google does not publish how it counts."""
    backend = client.make("global/backendServices", name="counted", loadBalancingScheme="EXTERNAL_MANAGED")
    bucket = client.make("global/backendBuckets", name="errors", bucketName="errors")

    def errors(code: str) -> Doc:
        return {
            "errorService": bucket["selfLink"],
            "errorResponseRules": [{"matchResponseCodes": [code], "path": "/error.html", "overrideResponseCode": 404}],
        }

    made = client.make(
        "global/urlMaps",
        name="counted",
        defaultService=backend["selfLink"],
        defaultCustomErrorResponsePolicy=errors("5xx"),
        hostRules=[{"hosts": ["counted.example.com"], "pathMatcher": "all"}],
        pathMatchers=[
            {
                "name": "all",
                "defaultService": backend["selfLink"],
                "defaultCustomErrorResponsePolicy": errors("4xx"),
            }
        ],
    )
    assert made["status"] == {"quotaUsage": {"forwardingRules": 0, "units": "61"}}
    assert "status" not in client.make("global/urlMaps", name="plain", defaultService=bucket["selfLink"])


def test_certificates_of_certificate_manager_on_a_proxy(client: Client) -> None:
    own = f"projects/{client.project}/locations/global"
    url_map = {"name": "managed", "defaultUrlRedirect": {"httpsRedirect": True, "stripQuery": False}}
    client.make("global/urlMaps", **url_map)
    proxy = {"name": "managed", "urlMap": client.link("global/urlMaps/managed")}
    for version in ("v1", "v1alpha1"):
        given = f"https://certificatemanager.googleapis.com/{version}/{own}/certificates/one"
        made = client.make("global/targetHttpsProxies", **proxy, sslCertificates=[given])
        # As recorded: without the version of the API.
        stored = f"//certificatemanager.googleapis.com/{own}/certificates/one"
        assert made["sslCertificates"] == [stored]
        if version == "v1":
            client.do("DELETE", "global/targetHttpsProxies/managed")
    rule = {"name": "managed", "target": made["selfLink"], "portRange": "443"}
    answer = client.call("POST", "global/forwardingRules", rule | {"loadBalancingScheme": "EXTERNAL_MANAGED"})
    assert answer.status_code == 400 and "use certificate_map instead" in answer.text
    managed = {"type": "MANAGED", "managed": {"domains": ["managed.example.com"]}}
    classic = client.make("global/sslCertificates", name="classic", **managed)["selfLink"]
    for wrong, text in (
        ([stored, classic], "Mixing Classic Certificates and Certificate Manager Certificates is not allowed"),
        ([stored.replace("/certificates/", "/nothing/")], "The URL is malformed"),
        ([f"{stored}{number}" for number in range(101)], "At most 100"),
    ):
        answer = client.call("POST", "global/targetHttpsProxies", proxy | {"name": "wrong", "sslCertificates": wrong})
        assert answer.status_code == 400 and text in answer.text, answer.text
    answer = client.call("POST", "global/targetHttpsProxies/managed/setCertificateMap", {"certificateMap": "mine"})
    assert answer.status_code == 400 and "certificateMap" in answer.text
    map_ = f"//certificatemanager.googleapis.com/{own}/certificateMaps/mine"
    done = client.do("POST", "global/targetHttpsProxies/managed/setCertificateMap", {"certificateMap": map_})
    assert done["operationType"] == "compute.targetHttpsProxies.setCertificateMap"
    assert client.get("global/targetHttpsProxies/managed")["certificateMap"] == map_
    client.do("POST", "global/forwardingRules", rule | {"name": "by-map", "loadBalancingScheme": "EXTERNAL_MANAGED"})


def expression(text: str) -> dict[str, Any]:
    return {"expr": {"expression": text}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"priority": None}, "'resource.rules[0].priority' not specified"),
        ({"priority": -1}, "must be between 0 and 2147483647"),
        ({"action": None}, "'resource.rules[0].action' not specified"),
        ({"action": "nonsense"}, "resource.rules[0].action"),
        ({"action": "deny(418)"}, "resource.rules[0].action"),
        ({"action": "throttle"}, "rateLimitOptions"),
        ({"match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ["not-an-ip"]}}}, "'not-an-ip'"),
        ({"match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": []}}}, "srcIpRanges"),
        ({"match": expression("(((")}, "'((('"),
        ({"match": expression("nonsense")}, "no such attribute: nonsense"),
        ({"match": expression("origin.nonsense == 'a'")}, "no such attribute: origin.nonsense"),
        ({"match": expression("request.path.nonsense('a')")}, "no such function: nonsense"),
        ({"match": {}}, "'resource.rules[0].match' not specified"),
    ],
)
def test_rules_of_a_security_policy_are_checked(client: Client, change: dict[str, Any], said: str) -> None:
    match = {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ["10.0.0.0/8"]}}
    rule = {"action": "deny(403)", "priority": 1000, "match": match} | change
    rule = {key: value for key, value in rule.items() if value is not None}
    answer = client.api("POST", client.link("global/securityPolicies"), json={"name": "wrong", "rules": [rule]})
    assert answer.status_code == 400 and said in answer.json()["error"]["message"], answer.text


# -- proxies ---------------------------------------------------------------


def test_proxies_take_certificates_of_certificate_manager(client: Client) -> None:
    backend = client.make(f"{REGION}/backendServices", name="regional", loadBalancingScheme="EXTERNAL_MANAGED")
    url_map = client.make(f"{REGION}/urlMaps", name="regional", defaultService=backend["selfLink"])
    certificate = f"//certificatemanager.googleapis.com/projects/{client.project}/locations/us-central1/certificates/c"
    proxy = client.make(
        f"{REGION}/targetHttpsProxies", name="regional", urlMap=url_map["selfLink"], sslCertificates=[certificate]
    )
    assert proxy["sslCertificates"] == [certificate] and proxy["tlsEarlyData"] == "DISABLED"
    assert "quicOverride" not in proxy, "only global proxies speak QUIC"


# -- Private Service Connect -----------------------------------------------


def test_an_endpoint_for_googles_apis(client: Client) -> None:
    body = {"name": "apis", "IPAddress": "10.3.0.5", "loadBalancingScheme": "", "target": "all-apis"}
    assert client.do("POST", "global/forwardingRules", body)["operationType"] == "createPSCServiceEndpoint"
    rule, network = client.get("global/forwardingRules/apis"), client.get("global/networks/default")
    assert "loadBalancingScheme" not in rule and "portRange" not in rule and rule["network"] == network["selfLink"]
    assert rule["serviceDirectoryRegistrations"] == [
        {"namespace": f"goog-psc-default-{network['id']}", "serviceDirectoryRegion": "us-central1"}
    ]
    assert client.do("DELETE", "global/forwardingRules/apis")["operationType"] == "deletePscForwardingRule"


# -- internal load balancers -----------------------------------------------


def test_an_internal_rule_listens_in_the_default_subnet(client: Client) -> None:
    backend = client.make(f"{REGION}/backendServices", name="inner", loadBalancingScheme="INTERNAL")
    rule = client.make(
        f"{REGION}/forwardingRules",
        name="inner",
        loadBalancingScheme="INTERNAL",
        allPorts=True,
        backendService=backend["selfLink"],
    )
    assert rule["subnetwork"] == client.link(f"{REGION}/subnetworks/default") and rule["IPAddress"].startswith("10.")


# -- other hosts of the API ------------------------------------------------


def test_the_api_answers_clients_with_device_certificates(client: Client) -> None:
    url = client.link("global/networks/default").replace("www.", "compute.mtls.")
    assert client.api("GET", url).json()["selfLink"] == client.link("global/networks/default")
