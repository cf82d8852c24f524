# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others set on a load balancer stays when the modules change something; see tests/unit/keep.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gcp_sandbox.testing import Sandbox

from tests.unit.keep import Doc, Kept, others_patch

PROJECT = "keep-balancer"
COMPUTE = f"compute.googleapis.com/compute/v1/projects/{PROJECT}"
LINKS = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}"
GLOBAL = f"{LINKS}/global"
REGION = f"{LINKS}/regions/europe-west2"
NETWORKSECURITY = f"//networksecurity.googleapis.com/projects/{PROJECT}/locations/global"
HSTS = {"headerName": "Strict-Transport-Security", "headerValue": "max-age=31536000", "replace": True}
OTHER_BALANCER = "Google accepts it only for another type of load balancer, backend or forwarding rule"


def neg(name: str) -> str:
    return f"{REGION}/networkEndpointGroups/{name}"


def with_security_policies(cloud: Sandbox, url: str, body: Doc) -> None:
    """A security policy has a method of its own; a backend is changed together with its group."""
    groups = cloud.call("GET", url)["backends"]
    body = {**body, "backends": [{**group, **more} for group, more in zip(groups, body["backends"], strict=True)]}
    policies = {field: body[field] for field in ("securityPolicy", "edgeSecurityPolicy")}
    others_patch(cloud, url, {name: value for name, value in body.items() if name not in policies})
    for field, link in policies.items():
        cloud.call("POST", f"{url}/set{field[0].upper()}{field[1:]}", {"securityPolicy": link})


def created_by_others(cloud: Sandbox, url: str, body: Doc) -> None:
    """Another tool has created the resource, with more fields; Google cannot change them afterwards."""
    live = cloud.call("GET", url)
    cloud.call("DELETE", url)
    ours = {
        name: value
        for name, value in live.items()
        if name in ("name", "target", "IPAddress", "portRange", "addressType")
    }
    scheme = {name: live[name] for name in ("loadBalancingScheme", "IPProtocol") if name in live}
    cloud.call("POST", url.rpartition("/")[0], {**ours, **scheme, **{k: v for k, v in body.items() if k != "labels"}})
    fingerprint = cloud.call("GET", url)["labelFingerprint"]
    cloud.call("POST", f"{url}/setLabels", {"labels": body["labels"], "labelFingerprint": fingerprint})


CASES = {
    "URL map": Kept(
        "compute.v1",
        "UrlMap",
        module="compute_url_map",
        url=f"{COMPUTE}/global/urlMaps/keep",
        options={"name": "keep", "default_service": "one"},
        changes=({"default_service": "two"},),
        owned=("name", "defaultService"),
        foreign={
            "description": "of the platform team",
            "defaultCustomErrorResponsePolicy": {
                "errorService": f"{GLOBAL}/backendBuckets/pages",
                "errorResponseRules": [
                    {"matchResponseCodes": ["5xx"], "path": "/sorry.html", "overrideResponseCode": 503}
                ],
            },
            "defaultRouteAction": {
                "timeout": {"seconds": "120"},
                "corsPolicy": {"allowOrigins": ["https://example.com"], "allowMethods": ["GET"]},
            },
            "headerAction": {"responseHeadersToAdd": [HSTS]},
            "hostRules": [{"hosts": ["docs.example.com"], "pathMatcher": "docs"}],
            "pathMatchers": [{"name": "docs", "defaultService": f"{GLOBAL}/backendBuckets/pages"}],
            "tests": [{"host": "docs.example.com", "path": "/", "service": f"{GLOBAL}/backendBuckets/pages"}],
        },
        reasons={"defaultUrlRedirect": "the module owns the kind of the default route; see the case of the redirect"},
    ),
    "URL map that redirects": Kept(
        "compute.v1",
        "UrlMap",
        module="compute_url_map",
        url=f"{COMPUTE}/global/urlMaps/keep-redirect",
        options={"name": "keep-redirect", "default_url_redirect": {"https_redirect": True}},
        changes=(
            {"default_url_redirect": {"https_redirect": True, "redirect_response_code": "FOUND"}},
            {"default_url_redirect": {"https_redirect": True, "strip_query": True}},
        ),
        owned=(
            "name",
            "defaultUrlRedirect.httpsRedirect",
            "defaultUrlRedirect.redirectResponseCode",
            "defaultUrlRedirect.stripQuery",
        ),
        foreign={
            "description": "of the platform team",
            "defaultUrlRedirect": {"hostRedirect": "mlflow.example.com", "pathRedirect": "/ui"},
            "headerAction": {"responseHeadersToAdd": [HSTS]},
            "hostRules": [{"hosts": ["docs.example.com"], "pathMatcher": "docs"}],
            "pathMatchers": [{"name": "docs", "defaultService": f"{GLOBAL}/backendBuckets/pages"}],
            "tests": [{"host": "docs.example.com", "path": "/", "service": f"{GLOBAL}/backendBuckets/pages"}],
        },
        reasons={
            "defaultService": "the module owns the kind of the default route",
            "defaultUrlRedirect.prefixRedirect": "Google accepts only one of pathRedirect and prefixRedirect",
            "defaultRouteAction": "Google does not accept it beside a redirect",
            "defaultCustomErrorResponsePolicy": "it needs a default service",
        },
    ),
    "HTTPS proxy": Kept(
        "compute.v1",
        "TargetHttpsProxy",
        module="compute_target_https_proxy",
        url=f"{COMPUTE}/global/targetHttpsProxies/keep",
        options={"name": "keep", "url_map": "first", "ssl_certificates": ["first"], "detach": ["second"]},
        changes=({"url_map": "second"}, {"ssl_certificates": ["second"], "detach": ["first"]}),
        owned=("name", "urlMap", "sslCertificates"),
        foreign={
            "description": "of the platform team",
            "authorizationPolicy": f"{NETWORKSECURITY}/authorizationPolicies/keep",
            "certificateMap": f"//certificatemanager.googleapis.com/projects/{PROJECT}/locations/global/certificateMaps/keep",
            "httpKeepAliveTimeoutSec": 610,
            "quicOverride": "ENABLE",
            "serverTlsPolicy": f"{NETWORKSECURITY}/serverTlsPolicies/keep",
            "sslPolicy": f"{GLOBAL}/sslPolicies/modern",
            "tlsEarlyData": "STRICT",
        },
        reasons={"proxyBind": OTHER_BALANCER},
    ),
    "HTTP proxy": Kept(
        "compute.v1",
        "TargetHttpProxy",
        module="compute_target_http_proxy",
        url=f"{COMPUTE}/global/targetHttpProxies/keep",
        options={"name": "keep", "url_map": "first"},
        changes=({"url_map": "second"},),
        owned=("name", "urlMap"),
        foreign={"description": "of the platform team", "httpKeepAliveTimeoutSec": 610},
        reasons={"proxyBind": OTHER_BALANCER},
    ),
    "forwarding rule": Kept(
        "compute.v1",
        "ForwardingRule",
        module="compute_global_forwarding_rule",
        url=f"{COMPUTE}/global/forwardingRules/keep",
        options={"name": "keep", "port": 443, "target": f"{GLOBAL}/targetHttpsProxies/first"},
        changes=({"target": f"{GLOBAL}/targetHttpsProxies/second"},),
        owned=("name", "IPProtocol", "loadBalancingScheme", "portRange", "target"),
        foreign={
            "IPAddress": "34.149.10.20",
            "description": "of the platform team",
            "ipVersion": "IPV4",
            "labels": {"team": "platform"},
            "networkTier": "PREMIUM",
            "externalManagedBackendBucketMigrationState": "PREPARE",
            "externalManagedBackendBucketMigrationTestingPercentage": 10.0,
        },
        reasons=dict.fromkeys(
            (
                "IPAddresses",
                "allPorts",
                "allowGlobalAccess",
                "allowPscGlobalAccess",
                "backendService",
                "ipCollection",
                "isMirroringCollector",
                "metadataFilters",
                "network",
                "noAutomateDnsZone",
                "ports",
                "serviceDirectoryRegistrations",
                "serviceLabel",
                "sourceIpRanges",
                "subnetwork",
            ),
            OTHER_BALANCER,
        ),
        others=created_by_others,
    ),
    "backend service": Kept(
        "compute.v1",
        "BackendService",
        module="compute_backend_service",
        url=f"{COMPUTE}/global/backendServices/keep",
        options={
            "name": "keep",
            "groups": [neg("first")],
            "iap": {"enabled": True},
            "log_enabled": True,
            "log_sample_rate": 1.0,
        },
        changes=(
            {"groups": [neg("second")]},
            {
                "iap": {
                    "enabled": True,
                    "oauth2_client_id": "1-a.apps.googleusercontent.com",
                    "oauth2_client_secret": "not-to-be-seen",
                }
            },
            {"log_sample_rate": 0.5},
            {"log_enabled": False},
        ),
        owned=(
            "name",
            "loadBalancingScheme",
            "protocol",
            "backends.group",
            "iap",
            "logConfig.enable",
            "logConfig.sampleRate",
        ),
        foreign={
            "affinityCookieTtlSec": 600,
            "backends": [
                {"capacityScaler": 0.5, "description": "half", "preference": "PREFERRED", "trafficDuration": "LONG"}
            ],
            "compressionMode": "AUTOMATIC",
            "connectionDraining": {"drainingTimeoutSec": 60},
            "customRequestHeaders": ["X-Client-Region:{client_region}"],
            "customResponseHeaders": ["X-Frame-Options:DENY"],
            "description": "of the platform team",
            "edgeSecurityPolicy": f"{GLOBAL}/securityPolicies/edge",
            "enableCDN": False,
            "externalManagedMigrationState": "PREPARE",
            "externalManagedMigrationTestingPercentage": 10.0,
            "ipAddressSelectionPolicy": "IPV4_ONLY",
            "localityLbPolicy": "ROUND_ROBIN",
            "logConfig": {
                "loggingHttpRequestHeaders": [{"headerName": "user-agent"}],
                "loggingHttpResponseHeaders": [{"headerName": "x-cache"}],
                "optionalFields": ["tls.protocol"],
                "optionalMode": "CUSTOM",
            },
            "maxStreamDuration": {"seconds": "600"},
            "metadatas": {"team": "platform"},
            "outlierDetection": {"consecutiveErrors": 5},
            "securityPolicy": f"{GLOBAL}/securityPolicies/armor",
            "serviceLbPolicy": f"//networkservices.googleapis.com/projects/{PROJECT}/locations/global/serviceLbPolicies/keep",
            "sessionAffinity": "GENERATED_COOKIE",
            "timeoutSec": 30,
        },
        reasons=dict.fromkeys(
            (
                "backends.balancingMode",
                "backends.customMetrics",
                "backends.failover",
                "backends.maxConnections",
                "backends.maxConnectionsPerEndpoint",
                "backends.maxConnectionsPerInstance",
                "backends.maxInFlightRequests",
                "backends.maxInFlightRequestsPerEndpoint",
                "backends.maxInFlightRequestsPerInstance",
                "backends.maxRate",
                "backends.maxRatePerEndpoint",
                "backends.maxRatePerInstance",
                "backends.maxUtilization",
                "backends.orchestrationInfo",
                "circuitBreakers",
                "connectionTrackingPolicy",
                "consistentHash",
                "customMetrics",
                "dynamicForwarding",
                "failoverPolicy",
                "haPolicy",
                "healthChecks",
                "localityLbPolicies",
                "network",
                "networkPassThroughLbTrafficPolicy",
                "orchestrationInfo",
                "port",
                "portName",
                "securitySettings",
                "serviceBindings",
                "strongSessionAffinityCookie",
                "subsetting",
                "tlsSettings",
            ),
            OTHER_BALANCER,
        )
        | {
            "cdnPolicy": "Google accepts it only with Cloud CDN, which excludes IAP",
            "params": "Google accepts it only in the request that creates the resource, and never returns it",
        },
        others=with_security_policies,
    ),
}

# Resources that cannot be changed: another one takes their place, or nothing.
FIXED = {
    "serverless NEG": Kept(
        "compute.v1",
        "NetworkEndpointGroup",
        module="compute_serverless_neg",
        url=f"{COMPUTE}/regions/europe-west2/networkEndpointGroups",
        options={"name": "keep", "region": "europe-west2", "cloud_run_service": "one"},
        changes=({"cloud_run_service": "two"}, {"region": "europe-west1"}),
        owned=("name", "networkEndpointType", "cloudRun"),
        foreign={"description": "of the platform team", "annotations": {"team": "platform"}},
        reasons=dict.fromkeys(
            (
                "appEngine",
                "cloudFunction",
                "defaultPort",
                "network",
                "pscData",
                "pscTargetService",
                "subnetwork",
            ),
            OTHER_BALANCER,
        ),
    ),
    "certificate": Kept(
        "compute.v1",
        "SslCertificate",
        module="compute_managed_ssl_certificate",
        url=f"{COMPUTE}/global/sslCertificates",
        options={"name": "keep", "domains": ["mlflow.example.com"]},
        changes=({"domains": ["tracking.example.com"]},),
        owned=("name", "type", "managed.domains"),
        foreign={"description": "of the platform team"},
        reasons=dict.fromkeys(("certificate", "privateKey", "selfManaged"), "only a self-managed certificate has it"),
    ),
    "address": Kept(
        "compute.v1",
        "Address",
        module="compute_global_address",
        url=f"{COMPUTE}/global/addresses",
        options={"name": "keep", "address_type": "EXTERNAL"},
        changes=(),
        owned=("name", "addressType"),
        foreign={
            "address": "34.149.10.21",
            "description": "of the platform team",
            "ipVersion": "IPV4",
            "labels": {"team": "platform"},
            "networkTier": "PREMIUM",
        },
        reasons=dict.fromkeys(
            (
                "ipCollection",
                "ipv6EndpointType",
                "network",
                "networkAttachment",
                "prefixLength",
                "purpose",
                "serviceClassId",
                "subnetwork",
            ),
            "Google accepts it only for an internal, regional or IPv6 address",
        ),
    ),
}


@pytest.fixture(scope="module")
def gcp_sandbox() -> Iterator[Sandbox]:
    """A sandbox with the API for brands and OAuth clients, which Google is shutting down."""
    with Sandbox.running("--iap-oauth-admin-api") as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def project(gcp_sandbox: Sandbox) -> str:
    """A project with everything that the cases refer to."""
    call = gcp_sandbox.call
    call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": PROJECT})
    call(
        "POST",
        f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable",
        {"serviceIds": ["cloudresourcemanager.googleapis.com", "compute.googleapis.com", "iap.googleapis.com"]},
    )

    def make(collection: str, *names: str, **body: Any) -> None:
        for name in names:
            call("POST", f"{COMPUTE}/{collection}", {"name": name, **body})

    make("global/backendBuckets", "pages", bucketName="pages")
    make("global/backendServices", "one", "two", loadBalancingScheme="EXTERNAL_MANAGED", protocol="HTTPS")
    make("global/urlMaps", "first", "second", defaultService=f"{GLOBAL}/backendServices/one")
    for name in ("first", "second"):
        make("global/sslCertificates", name, type="MANAGED", managed={"domains": [f"{name}.example.com"]})
        certificates = [f"{GLOBAL}/sslCertificates/{name}"]
        make("global/targetHttpsProxies", name, urlMap=f"{GLOBAL}/urlMaps/first", sslCertificates=certificates)
        make(
            "regions/europe-west2/networkEndpointGroups",
            name,
            networkEndpointType="SERVERLESS",
            cloudRun={"service": name},
        )
    make("global/sslPolicies", "modern", profile="MODERN", minTlsVersion="TLS_1_2")
    make("global/securityPolicies", "armor")
    make("global/securityPolicies", "edge", type="CLOUD_ARMOR_EDGE")
    return PROJECT


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_others_set_stays(
    case: Kept, project: str, sandbox_module: Callable[..., Doc], gcp_sandbox: Sandbox
) -> None:
    assert case.unaccounted() == []
    case.check(sandbox_module, gcp_sandbox, project)


@pytest.mark.parametrize("case", FIXED.values(), ids=FIXED)
def test_what_takes_the_place_of_another_takes_over_what_others_set(
    case: Kept, project: str, sandbox_module: Callable[..., Doc], gcp_sandbox: Sandbox
) -> None:
    assert case.unaccounted() == []
    options = {**case.options, "project": project}
    link = sandbox_module(case.module, **options)["self_link"]
    url = link.replace("https://www.", "compute.")
    live = gcp_sandbox.call("GET", url)
    gcp_sandbox.call("DELETE", url)
    owned = {name.partition(".")[0]: live[name.partition(".")[0]] for name in case.owned}
    gcp_sandbox.call("POST", case.url, {**owned, **case.foreign})
    before = gcp_sandbox.call("GET", url)
    assert case.foreign.items() <= before.items()
    assert not sandbox_module(case.module, **options)["changed"]
    for change in case.changes:
        result = sandbox_module(case.module, **{**options, **change})
        assert result["changed"] and result["self_link"] != link
        assert link.rpartition("/")[2] in [entry.rpartition("/")[2] for entry in result["obsolete"]]
        after = gcp_sandbox.call("GET", result["self_link"].replace("https://www.", "compute."))
        assert case.foreign.items() <= after.items()
    assert gcp_sandbox.call("GET", url) == before


def test_the_oauth_client_can_change_back_and_forth(
    project: str, sandbox_module: Callable[..., Doc], gcp_sandbox: Sandbox
) -> None:
    def run(module: str, **options: Any) -> Doc:
        return sandbox_module(module, project=project, **options)

    brand = run("iap_brand", application_title="MLflow", support_email="ml@example.com")["name"]
    client = run("iap_client", brand=brand, display_name="keep")
    modes: dict[str, tuple[Doc, str]] = {
        "google_managed": ({}, ""),
        "custom": (
            {"oauth2_client_id": "1-a.apps.googleusercontent.com", "oauth2_client_secret": "not-to-be-seen"},
            "1-a",
        ),
        "brand": ({"oauth2_client": client["name"]}, client["client_id"]),
    }
    options = {"name": "modes", "groups": [neg("first")], "custom_request_headers": ["X-A:1"]}
    order = ("google_managed", "custom", "brand", "google_managed", "brand", "custom", "google_managed")
    for mode in order:
        given, client_id = modes[mode]
        wanted = {**options, "iap": {"enabled": True, **given}}
        assert run("compute_backend_service", **wanted)["changed"], mode
        live = gcp_sandbox.call("GET", f"{COMPUTE}/global/backendServices/modes")
        assert live["iap"]["enabled"] and live["iap"]["oauth2ClientId"].strip().startswith(client_id), mode
        assert bool(live["iap"]["oauth2ClientId"].strip()) == bool(client_id), mode
        assert live["customRequestHeaders"] == ["X-A:1"]
        assert not run("compute_backend_service", **wanted)["changed"], mode
