# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mlflow_doctor."""

from __future__ import annotations

import re

import pytest

GLOBAL = "https://compute.googleapis.com/compute/v1/projects/demo/global"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo"
NEG = "regions/europe-west2/networkEndpointGroups/mlflow-lb-neg"
NEG_URL = f"https://compute.googleapis.com/compute/v1/projects/demo/{NEG}"
RUN = "https://run.googleapis.com/v2/projects/demo/locations/europe-west2/services/mlflow"
SECRET = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/mlflow-db-password"
BUCKET = "https://storage.googleapis.com/storage/v1/b/artifacts/iam"
PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/demo"
SQL = "https://sqladmin.googleapis.com/v1/projects/demo/instances/mlflow"
IAP = "https://iap.googleapis.com/v1/projects/123456789012/iap_web/compute/services/mlflow-lb-backend:getIamPolicy"
NETWORK = f"{GLOBAL}/networks/mlflow"
CERTIFICATE = f"{GLOBAL}/sslCertificates/mlflow-lb-b7f56a26"
BACKEND = f"{GLOBAL}/backendServices/mlflow-lb-backend"
SERVER = "mlflow-server@demo.iam.gserviceaccount.com"
SIGNER = f"https://iam.googleapis.com/v1/projects/demo/serviceAccounts/{SERVER}:getIamPolicy"
AGENT = "service-123456789012@gcp-sa-iap.iam.gserviceaccount.com"
MEMBERS = ["group:ds@example.com", "serviceAccount:mlflow-logger@demo.iam.gserviceaccount.com"]
OPTIONS = {
    "region": "europe-west2",
    "domain": "mlflow.example.com",
    "sql_instance": "mlflow",
    "secret": "mlflow-db-password",
    "bucket": "gs://artifacts",
    "network": "mlflow",
    "members": MEMBERS,
}


def policy(role, *members):
    return {"etag": "BwY=", "version": 3, "bindings": [{"role": role, "members": list(members)}]}


def healthy():
    """Every resource of a working deployment, by its URL."""
    return {
        f"{GLOBAL}/forwardingRules": {
            "items": [
                {"name": "other-https", "portRange": "443-443", "target": f"{LINKS}/global/targetHttpsProxies/other"},
                {
                    "name": "mlflow-lb-http",
                    "portRange": "80-80",
                    "target": f"{LINKS}/global/targetHttpProxies/mlflow-lb-http",
                },
                {
                    "name": "mlflow-lb-https",
                    "IPAddress": "203.0.113.7",
                    "portRange": "443-443",
                    "loadBalancingScheme": "EXTERNAL_MANAGED",
                    "target": f"{LINKS}/global/targetHttpsProxies/mlflow-lb-https",
                },
            ]
        },
        f"{GLOBAL}/targetHttpsProxies/mlflow-lb-https": {
            "name": "mlflow-lb-https",
            "sslCertificates": [f"{LINKS}/global/sslCertificates/mlflow-lb-b7f56a26"],
            "urlMap": f"{LINKS}/global/urlMaps/mlflow-lb",
        },
        CERTIFICATE: {
            "name": "mlflow-lb-b7f56a26",
            "type": "MANAGED",
            "managed": {
                "domains": ["mlflow.example.com"],
                "status": "ACTIVE",
                "domainStatus": {"mlflow.example.com": "ACTIVE"},
            },
        },
        f"{GLOBAL}/urlMaps/mlflow-lb": {
            "name": "mlflow-lb",
            "defaultService": f"{LINKS}/global/backendServices/mlflow-lb-backend",
        },
        BACKEND: {
            "name": "mlflow-lb-backend",
            "loadBalancingScheme": "EXTERNAL_MANAGED",
            "iap": {"enabled": True, "oauth2ClientId": " "},
            "logConfig": {"enable": True, "sampleRate": 1},
            "backends": [{"group": f"{LINKS}/{NEG}"}],
        },
        NEG_URL: {
            "name": "mlflow-lb-neg",
            "networkEndpointType": "SERVERLESS",
            "region": f"{LINKS}/regions/europe-west2",
            "cloudRun": {"service": "mlflow"},
        },
        RUN: {
            "name": "projects/demo/locations/europe-west2/services/mlflow",
            "ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
            "terminalCondition": {"type": "Ready", "state": "CONDITION_SUCCEEDED"},
            "template": {
                "serviceAccount": SERVER,
                "vpcAccess": {"networkInterfaces": [{"network": "mlflow", "subnetwork": "mlflow"}]},
                "containers": [
                    {
                        "env": [
                            {"name": "MLFLOW_DB_HOST", "value": "10.0.0.3"},
                            {
                                "name": "MLFLOW_DB_PASSWORD",
                                "valueSource": {
                                    "secretKeyRef": {
                                        "secret": "projects/123456789012/secrets/mlflow-db-password",
                                        "version": "1",
                                    }
                                },
                            },
                        ]
                    }
                ],
            },
        },
        f"{RUN}:getIamPolicy": policy("roles/run.invoker", f"serviceAccount:{AGENT}"),
        f"{SECRET}/versions/1": {"name": "1", "state": "ENABLED"},
        f"{SECRET}:getIamPolicy": policy("roles/secretmanager.secretAccessor", f"serviceAccount:{SERVER}"),
        BUCKET: policy("roles/storage.objectUser", f"serviceAccount:{SERVER}"),
        SIGNER: policy("roles/iam.serviceAccountTokenCreator", f"serviceAccount:{SERVER}"),
        PROJECT: {"projectId": "demo", "projectNumber": "123456789012"},
        f"{PROJECT}:getIamPolicy": policy("roles/cloudsql.client", f"serviceAccount:{SERVER}"),
        SQL: {
            "name": "mlflow",
            "state": "RUNNABLE",
            "ipAddresses": [{"type": "PRIVATE", "ipAddress": "10.0.0.3"}],
            "settings": {
                "activationPolicy": "ALWAYS",
                "ipConfiguration": {"privateNetwork": "projects/123456789012/global/networks/mlflow"},
            },
        },
        NETWORK: {"name": "mlflow", "peerings": [{"name": "servicenetworking-googleapis-com", "state": "ACTIVE"}]},
        IAP: policy("roles/iap.httpsResourceAccessor", *MEMBERS),
    }


@pytest.fixture
def estate(google, monkeypatch):
    """Responses by URL, in any order, 404 for others."""
    estate, play = healthy(), google.send

    def send(adapter, prepared, **more):
        url = prepared.url.partition("?")[0]
        missing = google.old_error(404, "notFound", f"The resource '{url}' was not found")
        google.expect(prepared.method, url, estate.get(url, missing))
        return play(adapter, prepared, **more)

    monkeypatch.setattr(google, "send", send)
    return estate


def findings(run_module, **options):
    with pytest.raises(Exception, match="^[1-9][0-9]* findings?: 1\\) ") as failed:
        run_module("mlflow_doctor", **{**OPTIONS, **options})
    found = failed.value.result["findings"]
    assert all(entry["where"] and entry["problem"] and entry["fix"] for entry in found)
    return [f"{entry['where']}: {entry['problem']}" for entry in found]


def test_no_problems(google, estate, run_module):
    result = run_module("mlflow_doctor", check=True, **OPTIONS)
    assert (result["changed"], result["findings"]) == (False, [])
    assert len(google.sent) <= 20 and all(
        request.method == "GET" or request.url.endswith((":getIamPolicy", ":getAncestry")) for request in google.sent
    )


def test_only_given_resources_are_checked(google, estate, run_module):
    for url in (SQL, BUCKET, SIGNER, IAP, NETWORK, f"{SECRET}:getIamPolicy"):
        del estate[url]
    assert run_module("mlflow_doctor", region="europe-west2", domain="mlflow.example.com")["findings"] == []


LACKS = "does not have roles/"
BREAKAGES = {
    "rule gone": (f"{GLOBAL}/forwardingRules", {}, "load balancer mlflow-lb: no forwarding rule"),
    "proxy gone": (f"{GLOBAL}/targetHttpsProxies/mlflow-lb-https", None, "HTTPS proxy mlflow-lb-https: does not exist"),
    "certificate of another domain": (
        CERTIFICATE,
        {"managed": {"domains": ["other.example.com"]}},
        "has no certificate for mlflow.example.com",
    ),
    "certificate not ready": (
        CERTIFICATE,
        {
            "managed": {
                "domains": ["mlflow.example.com"],
                "status": "PROVISIONING",
                "domainStatus": {"mlflow.example.com": "FAILED_NOT_VISIBLE"},
            }
        },
        r"certificate mlflow-lb-b7f56a26: is PROVISIONING, not ACTIVE \(mlflow.example.com FAILED_NOT_VISIBLE\)",
    ),
    "URL map elsewhere": (
        f"{GLOBAL}/urlMaps/mlflow-lb",
        {"defaultService": None},
        "URL map mlflow-lb: does not direct mlflow.example.com to a backend service",
    ),
    "IAP off": (
        BACKEND,
        {"iap": {"enabled": False}},
        r"backend service mlflow-lb-backend: Identity-Aware Proxy \(IAP\) is disabled",
    ),
    "logs off": (BACKEND, {"logConfig": {}}, "requests are not logged"),
    "other scheme": (
        BACKEND,
        {"loadBalancingScheme": "EXTERNAL"},
        "has scheme EXTERNAL, its forwarding rule EXTERNAL_MANAGED",
    ),
    "no backend": (
        BACKEND,
        {"backends": []},
        "backend service mlflow-lb-backend: has no serverless network endpoint group",
    ),
    "NEG gone": (NEG_URL, None, "serverless NEG mlflow-lb-neg: does not exist"),
    "NEG elsewhere": (
        NEG_URL,
        {"cloudRun": {"service": "no-such-service"}},
        "directs requests to Cloud Run service 'no-such-service' in europe-west2 instead of 'mlflow'",
    ),
    "NEG of a tag": (
        NEG_URL,
        {"cloudRun": {"service": "mlflow", "tag": "canary"}},
        "directs requests only to a part of the Cloud Run service",
    ),
    "service gone": (RUN, None, "Cloud Run service mlflow: does not exist"),
    "service not ready": (
        RUN,
        {"terminalCondition": {"state": "CONDITION_FAILED", "message": "Revision is not ready"}},
        "is not ready: Revision is not ready",
    ),
    "service open": (RUN, {"ingress": "INGRESS_TRAFFIC_ALL"}, "reached without the load balancer and IAP"),
    "service closed": (RUN, {"ingress": "INGRESS_TRAFFIC_INTERNAL_ONLY"}, "cannot be reached by the load balancer"),
    "invoker not asked for": (
        RUN,
        {"invokerIamDisabled": True},
        "accepts requests from callers without roles/run.invoker",
    ),
    "invoker": (
        f"{RUN}:getIamPolicy",
        {"bindings": []},
        rf"Cloud Run service mlflow: {AGENT} \(the IAP service agent\) {LACKS}run.invoker",
    ),
    "secret role": (
        f"{SECRET}:getIamPolicy",
        {"bindings": []},
        rf"secret mlflow-db-password: {SERVER} \(the server\) {LACKS}secretmanager.secretAccessor",
    ),
    "secret version": (f"{SECRET}/versions/1", {"state": "DESTROYED"}, "version 1, which Cloud Run uses, is DESTROYED"),
    "bucket role": (
        BUCKET,
        {"bindings": []},
        rf"bucket artifacts: {SERVER} \(the server\) {LACKS}storage.objectUser",
    ),
    "signing role": (
        SIGNER,
        {"bindings": []},
        rf"service account {SERVER}: {SERVER} \(the server, which signs as itself\) {LACKS}iam.serviceAccountTokenCreator",
    ),
    "bucket gone": (BUCKET, None, "IAM policy of bucket artifacts: does not exist"),
    "cloudsql.client": (
        f"{PROJECT}:getIamPolicy",
        {"bindings": []},
        rf"project demo: {SERVER} \(the server\) {LACKS}cloudsql.client",
    ),
    "instance stopped": (
        SQL,
        {"settings": {**healthy()[SQL]["settings"], "activationPolicy": "NEVER"}},
        "Cloud SQL instance mlflow: is stopped",
    ),
    "instance not ready": (SQL, {"state": "MAINTENANCE"}, "is MAINTENANCE, not RUNNABLE"),
    "instance elsewhere": (
        SQL,
        {"settings": {"ipConfiguration": {}}},
        "in network none instead of projects/demo/global/networks/mlflow",
    ),
    "address moved": (
        SQL,
        {"ipAddresses": [{"type": "PRIVATE", "ipAddress": "10.0.0.9"}]},
        "MLFLOW_DB_HOST is 10.0.0.3, but the private IP address .* is 10.0.0.9",
    ),
    "peering gone": (
        NETWORK,
        {"peerings": []},
        "network mlflow: the peering servicenetworking-googleapis-com .* does not exist",
    ),
    "peering inactive": (
        NETWORK,
        {"peerings": [{"name": "servicenetworking-googleapis-com", "state": "INACTIVE"}]},
        "is INACTIVE",
    ),
    "member missing": (
        IAP,
        policy("roles/iap.httpsResourceAccessor", MEMBERS[1]),
        f"group:ds@example.com {LACKS}iap.httpsResourceAccessor",
    ),
    "member too many": (
        IAP,
        policy("roles/iap.httpsResourceAccessor", *MEMBERS, "allAuthenticatedUsers"),
        "allAuthenticatedUsers has roles/iap.httpsResourceAccessor, but is not one of the given members",
    ),
}


@pytest.mark.parametrize(("url", "change", "message"), BREAKAGES.values(), ids=BREAKAGES)
def test_finds(estate, run_module, url, change, message):
    if change is None:
        del estate[url]
    else:
        estate[url] = {**estate[url], **change} if change else {}
    found = findings(run_module)
    assert len(found) == 1, found
    assert re.search(message, found[0]), found


def test_finds_everything_at_once(estate, run_module):
    for url, change, _message in (
        BREAKAGES[key] for key in ("IAP off", "NEG elsewhere", "invoker", "secret role", "bucket role", "peering gone")
    ):
        estate[url] = {**estate[url], **change}
    assert len(findings(run_module)) == 6


def test_service_without_vpc_or_password(estate, run_module):
    estate[RUN]["template"] = {"serviceAccount": SERVER, "containers": [{}]}
    found = findings(run_module)
    assert any("attached to no VPC network instead of projects/demo/global/networks/mlflow" in entry for entry in found)
    assert any("has no environment variable from secret mlflow-db-password" in entry for entry in found)


def test_recognises_a_role_on_the_project_but_not_with_a_condition(estate, run_module):
    estate[BUCKET] = {}
    estate[f"{PROJECT}:getIamPolicy"]["bindings"].append(
        {"role": "roles/storage.admin", "members": [f"serviceAccount:{SERVER}"]}
    )
    assert run_module("mlflow_doctor", **OPTIONS)["findings"] == []
    estate[f"{PROJECT}:getIamPolicy"]["bindings"][-1]["condition"] = {"expression": "false"}
    assert len(findings(run_module)) == 1


def test_host_rules_are_followed(estate, run_module):
    estate[f"{GLOBAL}/urlMaps/mlflow-lb"] |= {
        "hostRules": [{"hosts": ["*.example.com"], "pathMatcher": "m"}],
        "pathMatchers": [{"name": "m", "defaultService": f"{LINKS}/global/backendServices/other"}],
    }
    assert findings(run_module) == ["backend service other: does not exist"]


def test_an_unreadable_resource_is_a_problem(google, estate, run_module):
    estate[BUCKET] = google.old_error(403, "forbidden", "x does not have storage.buckets.getIamPolicy access.")
    assert findings(run_module) == [
        "IAM policy of bucket artifacts: cannot be read: x does not have storage.buckets.getIamPolicy access. (403 forbidden)"
    ]


def test_every_domain_requires_a_certificate(estate, run_module):
    estate[CERTIFICATE]["managed"]["domains"].append("models.example.com")
    assert run_module("mlflow_doctor", **OPTIONS, extra_domains=["models.example.com"])["findings"] == []
    (found,) = findings(run_module, extra_domains=["models.example.com", "other.example.com"])
    assert found.endswith("has no certificate for other.example.com")


def test_domain(google, run_module):
    with pytest.raises(Exception, match="^option domain: 'https://mlflow.example.com' is not allowed"):
        run_module("mlflow_doctor", region="europe-west2", domain="https://mlflow.example.com")
    with pytest.raises(Exception, match="^option extra_domains: 'mlflow' is not allowed"):
        run_module("mlflow_doctor", region="europe-west2", domain="mlflow.example.com", extra_domains=["mlflow"])
