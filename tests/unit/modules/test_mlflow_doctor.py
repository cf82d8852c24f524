# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mlflow_doctor."""

from __future__ import annotations

import ast
import re
import threading

import pytest

GLOBAL = "https://compute.googleapis.com/compute/v1/projects/demo/global"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo"
NEG = "regions/europe-west2/networkEndpointGroups/mlflow-lb-neg"
NEG_URL = f"https://compute.googleapis.com/compute/v1/projects/demo/{NEG}"
RUN = "https://run.googleapis.com/v2/projects/demo/locations/europe-west2/services/mlflow"
SECRET = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/mlflow-db-password"
KEY = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/mlflow-session-key"
ARTIFACTS = "https://storage.googleapis.com/storage/v1/b/artifacts"
BUCKET = f"{ARTIFACTS}/iam"
PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/demo"
SQL = "https://sqladmin.googleapis.com/v1/projects/demo/instances/mlflow"
IAP = "https://iap.googleapis.com/v1/projects/123456789012/iap_web/compute/services/mlflow-lb-backend:getIamPolicy"
NETWORK = f"{GLOBAL}/networks/mlflow"
FIREWALL = f"{NETWORK}/getEffectiveFirewalls"
CERTIFICATE = f"{GLOBAL}/sslCertificates/mlflow-lb-b7f56a26"
BACKEND = f"{GLOBAL}/backendServices/mlflow-lb-backend"
SERVER = "mlflow-server@demo.iam.gserviceaccount.com"
LOGGER = "mlflow-logger@demo.iam.gserviceaccount.com"
ACCOUNTS = "https://iam.googleapis.com/v1/projects"
SIGNER = f"{ACCOUNTS}/demo/serviceAccounts/{SERVER}:getIamPolicy"
MAY_SIGN = f"{ACCOUNTS}/-/serviceAccounts/{LOGGER}:testIamPermissions"
USERINFO = "https://openidconnect.googleapis.com/v1/userinfo"
IMAGE = "europe-west2-docker.pkg.dev/demo/mlflow/server:3.17.2"
OPERATIONS = "https://sqladmin.googleapis.com/v1/projects/demo/operations"
AGENT = "service-123456789012@gcp-sa-iap.iam.gserviceaccount.com"
MEMBERS = ["group:ds@example.com", "serviceAccount:mlflow-logger@demo.iam.gserviceaccount.com"]
OPTIONS = {
    "region": "europe-west2",
    "domain": "mlflow.example.com",
    "image": IMAGE,
    "logger_service_account": LOGGER,
    "sql_instance": "mlflow",
    "sql_user": "mlflow",
    "ssl_mode": "ENCRYPTED_ONLY",
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
                "scaling": {"maxInstanceCount": 4},
                "containers": [
                    {"image": "sidecar"},
                    {
                        "image": IMAGE,
                        "ports": [{"name": "h2c", "containerPort": 8080}],
                        "env": [
                            {"name": "MLFLOW_DB_HOST", "value": "10.0.0.3"},
                            {"name": "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "value": "3"},
                            {"name": "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", "value": "1"},
                            {
                                "name": "MLFLOW_FLASK_SERVER_SECRET_KEY",
                                "valueSource": {"secretKeyRef": {"secret": "mlflow-session-key", "version": "latest"}},
                            },
                            {
                                "name": "MLFLOW_DB_PASSWORD",
                                "valueSource": {
                                    "secretKeyRef": {
                                        "secret": "projects/123456789012/secrets/mlflow-db-password",
                                        "version": "1",
                                    }
                                },
                            },
                        ],
                    },
                ],
            },
            "latestCreatedRevision": "projects/demo/locations/europe-west2/services/mlflow/revisions/mlflow-00002",
            "traffic": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}],
        },
        f"{RUN}:getIamPolicy": policy("roles/run.invoker", f"serviceAccount:{AGENT}"),
        f"{SECRET}/versions/1": {"name": "1", "state": "ENABLED"},
        f"{SECRET}:getIamPolicy": policy("roles/secretmanager.secretAccessor", f"serviceAccount:{SERVER}"),
        SECRET: {"name": "projects/123456789012/secrets/mlflow-db-password"},
        f"{KEY}/versions/latest": {"name": "4", "state": "ENABLED"},
        f"{KEY}:getIamPolicy": policy("roles/secretmanager.secretAccessor", f"serviceAccount:{SERVER}"),
        ARTIFACTS: {
            "name": "artifacts",
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
            "versioning": {"enabled": True},
            "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 30}}]},
        },
        BUCKET: policy("roles/storage.objectUser", f"serviceAccount:{SERVER}"),
        SIGNER: policy("roles/iam.serviceAccountTokenCreator", f"serviceAccount:{SERVER}"),
        f"{ACCOUNTS}/-/serviceAccounts/{SERVER}": {"email": SERVER},
        f"{ACCOUNTS}/-/serviceAccounts/{LOGGER}": {"email": LOGGER},
        MAY_SIGN: {"permissions": ["iam.serviceAccounts.signJwt"]},
        PROJECT: {"projectId": "demo", "projectNumber": "123456789012"},
        f"{PROJECT}:getIamPolicy": policy("roles/cloudsql.client", f"serviceAccount:{SERVER}"),
        SQL: {
            "name": "mlflow",
            "state": "RUNNABLE",
            "ipAddresses": [{"type": "PRIVATE", "ipAddress": "10.0.0.3"}],
            "settings": {
                "activationPolicy": "ALWAYS",
                "tier": "db-g1-small",
                "ipConfiguration": {
                    "ipv4Enabled": False,
                    "sslMode": "ENCRYPTED_ONLY",
                    "privateNetwork": "projects/123456789012/global/networks/mlflow",
                },
            },
        },
        FIREWALL: {"firewalls": []},
        NETWORK: {"name": "mlflow", "peerings": [{"name": "servicenetworking-googleapis-com", "state": "ACTIVE"}]},
        IAP: policy("roles/iap.httpsResourceAccessor", *MEMBERS),
    }


@pytest.fixture
def estate(google, monkeypatch):
    """Responses by URL, in any order, 404 for others."""
    estate, play, turn = healthy(), google.send, threading.Lock()

    def send(adapter, prepared, **more):
        url = prepared.url.partition("?")[0]
        missing = google.old_error(404, "notFound", f"The resource '{url}' was not found")
        with turn:
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
    assert len(google.sent) <= 34 and all(
        request.method == "GET" or request.url.endswith((":getIamPolicy", ":testIamPermissions", ":getAncestry"))
        for request in google.sent
    )


def test_only_given_resources_are_checked(google, estate, run_module):
    for url in (SQL, BUCKET, ARTIFACTS, SIGNER, IAP, NETWORK, MAY_SIGN, f"{SECRET}:getIamPolicy"):
        del estate[url]
    assert run_module("mlflow_doctor", region="europe-west2", domain="mlflow.example.com")["findings"] == []


def with_container(**change):
    sidecar, container = healthy()[RUN]["template"]["containers"]
    return [sidecar, {**container, **change}]


def with_address(**change):
    settings = healthy()[SQL]["settings"]
    return {"settings": {**settings, "ipConfiguration": {**settings["ipConfiguration"], **change}}}


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
    "bucket gone": (ARTIFACTS, None, "bucket artifacts: does not exist"),
    "bucket public": (
        BUCKET,
        {"bindings": [*healthy()[BUCKET]["bindings"], {"role": "roles/storage.objectViewer", "members": ["allUsers"]}]},
        "bucket artifacts: is open to everybody on the internet: allUsers has roles/storage.objectViewer",
    ),
    "bucket may be made public": (
        ARTIFACTS,
        {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "inherited"}},
        "bucket artifacts: may be made public: its public access prevention is inherited, not enforced",
    ),
    "object ACLs": (
        ARTIFACTS,
        {"iamConfiguration": {"publicAccessPrevention": "enforced"}},
        "bucket artifacts: uniform bucket-level access is off",
    ),
    "versioning off": (ARTIFACTS, {"versioning": {"enabled": False}}, "bucket artifacts: versioning is off"),
    "lifecycle by age": (
        ARTIFACTS,
        {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 90}}]}},
        r"a lifecycle rule deletes artifacts that are in use \(condition {'age': 90}\)",
    ),
    "retention policy": (
        ARTIFACTS,
        {"retentionPolicy": {"retentionPeriod": "86400"}},
        "bucket artifacts: has a retention policy of 86400 seconds, during which MLflow can neither delete nor",
    ),
    "holds": (ARTIFACTS, {"defaultEventBasedHold": True}, "bucket artifacts: puts every new object on hold"),
    "service public": (
        f"{RUN}:getIamPolicy",
        {
            "bindings": [
                *healthy()[f"{RUN}:getIamPolicy"]["bindings"],
                {"role": "roles/run.invoker", "members": ["allAuthenticatedUsers"]},
            ]
        },
        "Cloud Run service mlflow: is open to everybody with a Google account: allAuthenticatedUsers has roles/run.invoker",
    ),
    "wrong image": (
        RUN,
        {"template": {**healthy()[RUN]["template"], "containers": with_container(image="docker.io/evil:latest")}},
        f"Cloud Run service mlflow: runs image docker.io/evil:latest instead of {IMAGE}",
    ),
    "other bucket": (
        RUN,
        {
            "template": {
                **healthy()[RUN]["template"],
                "containers": with_container(
                    env=[
                        *healthy()[RUN]["template"]["containers"][1]["env"],
                        {"name": "MLFLOW_ARTIFACTS_BUCKET", "value": "elsewhere"},
                    ]
                ),
            }
        },
        "Cloud Run service mlflow: stores artifacts in bucket elsewhere instead of artifacts",
    ),
    "old revision": (
        RUN,
        {"traffic": [{"revision": "mlflow-00001", "percent": 100, "type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"}]},
        "sends 100% of the requests to revision mlflow-00001 instead of the newest, mlflow-00002",
    ),
    "server's account disabled": (
        f"{ACCOUNTS}/-/serviceAccounts/{SERVER}",
        {"disabled": True},
        rf"service account {SERVER}: \(the server's account\) is disabled",
    ),
    "logger's account disabled": (
        f"{ACCOUNTS}/-/serviceAccounts/{LOGGER}",
        {"disabled": True},
        rf"service account {LOGGER}: \(the logger's account\) is disabled",
    ),
    "another secret": (f"{KEY}/versions/latest", {"state": "DISABLED"}, "secret mlflow-session-key: version latest"),
    "another secret's role": (
        f"{KEY}:getIamPolicy",
        {"bindings": []},
        rf"secret mlflow-session-key: {SERVER} \(the server\) {LACKS}secretmanager.secretAccessor",
    ),
    "URL map to another backend": (
        f"{GLOBAL}/urlMaps/mlflow-lb",
        {"defaultService": f"{LINKS}/global/backendServices/other"},
        "URL map mlflow-lb: directs mlflow.example.com to backend service other instead of mlflow-lb-backend",
    ),
    "public database": (
        SQL,
        {"ipAddresses": [*healthy()[SQL]["ipAddresses"], {"type": "PRIMARY", "ipAddress": "203.0.113.9"}]},
        "Cloud SQL instance mlflow: has a public IP address 203.0.113.9",
    ),
    "authorized networks": (
        SQL,
        with_address(authorizedNetworks=[{"value": "0.0.0.0/0"}]),
        r"accepts connections from authorized networks: 0.0.0.0/0 \(the whole internet\)",
    ),
    "weak SSL mode": (
        SQL,
        with_address(sslMode="ALLOW_UNENCRYPTED_AND_ENCRYPTED"),
        "has sslMode ALLOW_UNENCRYPTED_AND_ENCRYPTED, which is weaker than ENCRYPTED_ONLY",
    ),
    "too few connections": (
        SQL,
        {
            "settings": {
                **healthy()[SQL]["settings"],
                "databaseFlags": [{"name": "max_connections", "value": "25"}],
            }
        },
        r"accepts only 25 connections \(max_connections\): a rollout takes .* = 42 connections",
    ),
    "firewall": (
        FIREWALL,
        {
            "firewalls": [
                {
                    "name": "deny-all-egress",
                    "direction": "EGRESS",
                    "priority": 900,
                    "denied": [{"IPProtocol": "all"}],
                    "destinationRanges": ["10.0.0.0/8"],
                }
            ]
        },
        "network mlflow: firewall rule deny-all-egress denies the server's connections to the database at 10.0.0.3",
    ),
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
        with_address(privateNetwork=None),
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
    assert findings(run_module) == [
        "URL map mlflow-lb: directs mlflow.example.com to backend service other instead of mlflow-lb-backend"
    ]


def test_an_unreadable_resource_is_a_problem(google, estate, run_module):
    estate[BUCKET] = google.old_error(403, "forbidden", "x does not have storage.buckets.getIamPolicy access.")
    assert findings(run_module) == [
        "IAM policy of bucket artifacts: cannot be read: x does not have storage.buckets.getIamPolicy access. (403 forbidden)"
    ]


def test_a_certificate_map_has_an_active_certificate_for_every_domain(estate, run_module):
    path = "projects/demo/locations/global/certificateMaps/mlflow-lb"
    manager = "https://certificatemanager.googleapis.com/v1"
    estate[f"{GLOBAL}/targetHttpsProxies/mlflow-lb-https"]["certificateMap"] = (
        f"//certificatemanager.googleapis.com/{path}"
    )
    certificate = "projects/demo/locations/global/certificates/mlflow-lb"
    entry = {"hostname": "mlflow.example.com", "certificates": [certificate]}
    estate[f"{manager}/{path}/certificateMapEntries"] = {"certificateMapEntries": [entry]}
    estate[f"{manager}/{certificate}"] = {"managed": {"domains": ["mlflow.example.com"], "state": "ACTIVE"}}
    assert run_module("mlflow_doctor", **OPTIONS)["findings"] == []
    estate[f"{manager}/{certificate}"]["managed"]["state"] = "PROVISIONING"
    where = "certificate map mlflow-lb: has no active certificate for"
    assert findings(run_module, extra_domains=["models.example.com"]) == [
        f"{where} mlflow.example.com (PROVISIONING)",
        f"{where} models.example.com (MISSING)",
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


def egress(name, priority, **rule):
    everything = {"IPProtocol": "tcp", "ports": ["5000-6000"]}
    verdict = {"allowed": [everything]} if rule.pop("allow", False) else {"denied": [everything]}
    return {"name": name, "direction": "EGRESS", "priority": priority, **verdict, **rule}


@pytest.mark.parametrize(
    ("rules", "denies"),
    [
        ([egress("deny", 1000), egress("allow", 999, allow=True)], None),
        ([egress("deny", 1000), egress("allow", 1000, allow=True)], "deny"),
        ([egress("deny", 1000, targetTags=["server"])], "deny"),
        ([egress("deny", 1000, targetTags=["other"])], None),
        ([egress("deny", 1000, targetServiceAccounts=[SERVER])], "deny"),
        ([egress("deny", 1000, destinationRanges=["10.9.0.0/16"])], None),
        ([egress("deny", 1000, disabled=True)], None),
        ([{**egress("deny", 1000), "denied": [{"IPProtocol": "tcp", "ports": ["443"]}]}], None),
        ([{**egress("deny", 1000), "direction": "INGRESS"}], None),
    ],
)
def test_firewall_rules_are_evaluated(estate, run_module, rules, denies):
    estate[RUN]["template"]["vpcAccess"]["networkInterfaces"][0]["tags"] = ["server"]
    estate[FIREWALL] = {"firewalls": rules}
    if denies:
        assert findings(run_module)[0].startswith(f"network mlflow: firewall rule {denies} denies")
    else:
        assert run_module("mlflow_doctor", **OPTIONS)["findings"] == []


def rule(action, priority=100, **match):
    config = {"layer4Configs": [{"ipProtocol": "all"}], "destIpRanges": ["0.0.0.0/0"], **match}
    return {"direction": "EGRESS", "action": action, "priority": priority, "match": config}


@pytest.mark.parametrize(
    ("kind", "rules", "order", "denies"),
    [
        ("HIERARCHY", [rule("deny")], "AFTER_CLASSIC_FIREWALL", True),
        ("HIERARCHY", [rule("goto_next", 1), rule("deny", 2)], "AFTER_CLASSIC_FIREWALL", False),
        ("HIERARCHY", [rule("deny", destIpRanges=["10.9.0.0/16"])], "AFTER_CLASSIC_FIREWALL", False),
        ("NETWORK", [rule("deny")], "AFTER_CLASSIC_FIREWALL", False),
        ("NETWORK", [rule("deny")], "BEFORE_CLASSIC_FIREWALL", True),
        ("NETWORK", [rule("allow", 1), rule("deny", 2)], "BEFORE_CLASSIC_FIREWALL", False),
    ],
)
def test_firewall_policies_are_evaluated(estate, run_module, kind, rules, order, denies):
    estate[NETWORK]["networkFirewallPolicyEnforcementOrder"] = order
    estate[FIREWALL] = {
        "firewalls": [egress("allow", 1000, allow=True)],
        "firewallPolicys": [{"name": "123", "shortName": "baseline", "type": kind, "rules": rules}],
    }
    if denies:
        assert "firewall policy baseline, rule 100 denies the server's connections" in findings(run_module)[0]
    else:
        assert run_module("mlflow_doctor", **OPTIONS)["findings"] == []


def test_a_denied_permission_is_one_finding(google, estate, run_module):
    for url in (f"{SECRET}:getIamPolicy", f"{KEY}:getIamPolicy"):
        estate[url] = google.error(
            403, "PERMISSION_DENIED", "Permission 'secretmanager.secrets.getIamPolicy' denied for resource 'x'."
        )
    (found,) = findings(run_module)
    assert found.startswith("IAM policy of secret mlflow-")
    assert "cannot be read, nor IAM policy of secret mlflow-" in found


def test_without_credentials_there_are_no_findings(google, estate, run_module):
    for url in list(estate):
        estate[url] = google.error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
    with pytest.raises(Exception, match="^Cannot read .*.401 UNAUTHENTICATED.. Check the credentials of the caller"):
        run_module("mlflow_doctor", **OPTIONS)


@pytest.mark.parametrize(
    ("userinfo", "who", "advice"),
    [
        (
            {"email": "jane@example.com"},
            "user:jane@example.com",
            "add user:jane@example.com to mlflow_logger_token_creators",
        ),
        (
            {"email": f"ci@{'demo.iam.gserviceaccount.com'}"},
            "serviceAccount:ci@demo",
            "add serviceAccount:ci@demo.iam.",
        ),
        (None, "the caller", "add the account that runs this to mlflow_logger_token_creators"),
    ],
)
def test_names_the_grant_that_the_caller_misses(estate, run_module, userinfo, who, advice):
    estate[MAY_SIGN] = {}
    estate[f"{ACCOUNTS}/demo/serviceAccounts/{LOGGER}:getIamPolicy"] = policy(
        "roles/iam.serviceAccountTokenCreator", "group:ci@example.com"
    )
    if userinfo:
        estate[USERINFO] = userinfo
    with pytest.raises(Exception) as failed:
        run_module("mlflow_doctor", **OPTIONS)
    (found,) = failed.value.result["findings"]
    assert found["where"] == f"service account {LOGGER}"
    assert re.match(rf"{who}.* may not sign in as {LOGGER} \(iam.serviceAccounts.signJwt is denied\)", found["problem"])
    assert advice in found["fix"] and f"roles/iam.serviceAccountTokenCreator on {LOGGER}" in found["fix"]


def test_waits_for_a_grant_that_still_propagates(estate, run_module):
    estate[MAY_SIGN], estate[USERINFO] = {}, {"email": "Jane@example.com"}
    estate[f"{ACCOUNTS}/demo/serviceAccounts/{LOGGER}:getIamPolicy"] = policy(
        "roles/iam.serviceAccountTokenCreator", "user:jane@example.com"
    )
    assert run_module("mlflow_doctor", **OPTIONS)["findings"] == []


def test_a_changed_password(estate, run_module):
    from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.cloudsql import PasswordRecord

    time = "2026-01-31T12:00:00.000Z"
    annotations = {PasswordRecord.key("demo", "mlflow", "mlflow"): str(PasswordRecord("1", "op-1", time))}
    estate[SECRET] = {**estate[SECRET], "annotations": annotations}
    ours = {"name": "op-1", "operationType": "UPDATE_USER", "insertTime": time}
    estate[OPERATIONS] = {"items": [ours]}
    assert run_module("mlflow_doctor", **OPTIONS)["findings"] == []
    theirs = {
        "name": "op-2",
        "operationType": "UPDATE_USER",
        "insertTime": "2026-02-01T00:00:00Z",
        "user": "eve@example.com",
    }
    estate[OPERATIONS] = {"items": [theirs, ours]}
    (found,) = findings(run_module)
    assert "the password of user mlflow may not be the one in secret" in found and "eve@example.com" in found


# -- the front door cloud_run

DIRECT_IAP = IAP.replace("compute/services/mlflow-lb-backend", "cloud_run-europe-west2/services/mlflow")
DIRECT = {"front_door": "cloud_run", "domain": None}
OTHERS_RULE = {"items": [{"name": "other-https", "portRange": "443-443"}]}


@pytest.fixture
def direct(estate):
    """The same deployment with Identity-Aware Proxy of Cloud Run itself."""
    estate[DIRECT_IAP] = estate.pop(IAP)
    estate[RUN] |= {"ingress": "INGRESS_TRAFFIC_ALL", "iapEnabled": True}
    estate[f"{GLOBAL}/forwardingRules"] = OTHERS_RULE
    return estate


def test_no_problems_of_cloud_run_itself(direct, run_module):
    result = run_module("mlflow_doctor", **OPTIONS | DIRECT)
    assert result["findings"] == [] and result["url"] == "https://mlflow-123456789012.europe-west2.run.app"


def test_a_load_balancer_needs_a_domain(google, run_module):
    with pytest.raises(Exception, match="front_door is load_balancer but all of the following are missing: domain"):
        run_module("mlflow_doctor", region="europe-west2")


@pytest.mark.parametrize(
    ("url", "change", "message"),
    [
        (RUN, {"iapEnabled": False}, r"Proxy \(IAP\) is disabled \(iapEnabled\), so that nobody can sign in"),
        (RUN, {"ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"}, "cannot be reached at its own address"),
        (DIRECT_IAP, policy("roles/iap.httpsResourceAccessor", MEMBERS[0]), f"{LOGGER} does not have roles/iap.https"),
        (f"{RUN}:getIamPolicy", policy("roles/run.invoker"), r"\(the IAP service agent\) does not have roles/run.invoker"),
        (f"{GLOBAL}/forwardingRules", {"items": [{"name": "mlflow-lb-http"}]}, "rule mlflow-lb-http: is left of the load"),
        (DIRECT_IAP.replace("/services/mlflow", ""), policy("roles/iap.httpsResourceAccessor", "user:eve@example.com"),
         "IAP of all Cloud Run services in europe-west2: user:eve@example.com has roles/iap.httpsResourceAccessor"),
    ],
)  # fmt: skip
def test_finds_what_is_wrong_with_cloud_run_itself(direct, run_module, url, change, message):
    direct[url] = {**direct.get(url, {}), **change}
    found = findings(run_module, **DIRECT)
    assert len(found) == 1 and re.search(message, found[0]), found


def test_both_kinds_of_identity_aware_proxy(estate, run_module):
    estate[RUN]["iapEnabled"] = True
    (found,) = findings(run_module)
    assert "has Identity-Aware Proxy (iapEnabled) besides the load balancer, which Google does not allow" in found


# -- the front door internal

REGIONAL = GLOBAL.replace("/global", "/regions/europe-west2")
INTERNAL_IAP = IAP.replace("compute/services/mlflow-lb-backend", "compute-europe-west2/services/mlflow-lb-backend")
INTERNAL = {"front_door": "internal"}
CA_POOL = "https://certificatemanager.googleapis.com/v1/projects/demo/locations/europe-west2/certificates/mlflow-lb-1"


@pytest.fixture
def internal(estate):
    """The same deployment with a regional internal load balancer and a certificate of its own."""
    moved = {url.replace(GLOBAL, REGIONAL): estate.pop(url) for url in list(estate) if "/global/networks" not in url}
    text = repr(moved).replace(f"{LINKS}/global/", f"{LINKS}/regions/europe-west2/").replace("EXTERNAL_M", "INTERNAL_M")
    estate.update(ast.literal_eval(text))
    estate[INTERNAL_IAP] = estate.pop(IAP)
    certificate = CERTIFICATE.replace(GLOBAL, REGIONAL)
    estate[certificate] = {"name": "mlflow-lb-b7f56a26", "subjectAlternativeNames": ["mlflow.example.com"]}
    return estate


def test_no_problems_of_an_internal_load_balancer(internal, run_module):
    internal[RUN]["ingress"] = "INGRESS_TRAFFIC_INTERNAL_ONLY"
    result = run_module("mlflow_doctor", **OPTIONS | INTERNAL)
    assert result["findings"] == [] and result["url"] == "https://mlflow.example.com"


@pytest.mark.parametrize(
    ("url", "change", "message"),
    [
        (INTERNAL_IAP, policy("roles/iap.httpsResourceAccessor", MEMBERS[0]), f"{LOGGER} does not have roles/iap.https"),
        (INTERNAL_IAP.replace("/services/mlflow-lb-backend", ""),
         policy("roles/iap.httpsResourceAccessor", "user:eve@example.com"),
         "IAP of all backend services in europe-west2: user:eve@example.com has roles/iap.httpsResourceAccessor"),
        (BACKEND.replace(GLOBAL, REGIONAL), {"iap": {}}, r"Identity-Aware Proxy \(IAP\) is disabled, so users need not sign in"),
        (CERTIFICATE.replace(GLOBAL, REGIONAL), {"subjectAlternativeNames": ["a.example.com"]}, "has no certificate for"),
        (RUN, {"iapEnabled": True}, "has Identity-Aware Proxy .iapEnabled. besides the load balancer"),
    ],
)  # fmt: skip
def test_finds_what_is_wrong_with_an_internal_load_balancer(internal, run_module, url, change, message):
    internal[url] = {**internal.get(url, {}), **change}
    found = findings(run_module, **INTERNAL)
    assert len(found) == 1 and re.search(message, found[0]), found


@pytest.mark.parametrize(("state", "count"), [("ACTIVE", 0), ("PROVISIONING", 1)])
def test_a_certificate_of_a_ca_pool(internal, run_module, state, count):
    link = CA_POOL.replace("https://certificatemanager.googleapis.com/v1", "//certificatemanager.googleapis.com")
    internal[f"{REGIONAL}/targetHttpsProxies/mlflow-lb-https"]["sslCertificates"] = [link]
    internal[CA_POOL] = {"name": "c", "managed": {"domains": ["mlflow.example.com"], "state": state}}
    if not count:
        assert run_module("mlflow_doctor", **OPTIONS | INTERNAL)["findings"] == []
    else:
        (found,) = findings(run_module, **INTERNAL)
        assert "certificate mlflow-lb-1: is PROVISIONING, not ACTIVE" in found
