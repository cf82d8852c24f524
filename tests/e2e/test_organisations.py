"""A deployment under all policies of docs/organisations.md at once: with a key, without a peering, in one region."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import PROJECT, local_cloud

REGION = "europe-west2"
APIS = ("storage", "secretmanager", "sqladmin", "run")
KEY_ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
POLICIES = (
    ("gcp.resourceLocations", f"in:{REGION}-locations"),
    ("gcp.restrictNonCmekServices", *(f"deny:{name}.googleapis.com" for name in APIS)),
    ("compute.restrictVpcPeering", "deny-all"),
    ("compute.restrictLoadBalancerCreationForTypes", "GLOBAL_EXTERNAL_MANAGED_HTTP_HTTPS"),
    ("compute.skipDefaultNetworkCreation",),
    ("iam.automaticIamGrantsForDefaultServiceAccounts",),
    ("iam.disableServiceAccountKeyCreation",),
    ("iam.disableServiceAccountKeyUpload",),
    ("run.allowedIngress", "internal-and-cloud-load-balancing"),
    ("run.allowedVPCEgress", "all-traffic"),
    ("sql.restrictPublicIp",),
    ("storage.publicAccessPrevention",),
    ("storage.uniformBucketLevelAccess",),
)
VARIABLES = {
    "network_private_access": "psc",
    "cloudrun_vpc_egress": "ALL_TRAFFIC",
    "iap_lb_ssl_policy": "strict",
    "mlflow_labels": {"team": "ml"},
}


@pytest.mark.long
def test_a_deployment_under_all_constraints():
    """It deploys, verifies, changes nothing the second time, and keeps the key if a run does not name it."""
    with local_cloud() as cloud:
        cloud.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": "security"})
        key = cloud.kms_key("security", REGION)
        others = {"role": KEY_ROLE, "members": ["group:other-team@example.com"]}
        policy = f"cloudkms.googleapis.com/v1/{key}"
        cloud.call("POST", f"{policy}:setIamPolicy", {"policy": {"bindings": [others]}})
        usage = f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable"
        cloud.call("POST", usage, {"serviceIds": ["compute.googleapis.com"]})
        compute = f"compute.googleapis.com/compute/v1/projects/{PROJECT}/global"
        cloud.call("POST", f"{compute}/sslPolicies", {"name": "strict", "profile": "RESTRICTED"})
        root = cloud.call("GET", "cloudresourcemanager.googleapis.com/v3/organizations:search")["organizations"][0]
        members = ("iam.allowedPolicyMemberDomains", root["directoryCustomerId"])
        for words in (*POLICIES, members):
            cloud.command("policy", "set", *words, f"on=projects/{PROJECT}")
        # As at Google, where a new grant is not in force at once.
        cloud.command("fault", "add", f"//cloudkms.googleapis.com/{key}", "iam-delay", "seconds=8")

        def site(*words: str, **more: str):
            return cloud.playbook("site.yml", *words, "--extra-vars", json.dumps(VARIABLES | more))

        first = site(mlflow_kms_key=key)
        assert first.status == 0, first.output
        again = site(mlflow_kms_key=key)
        assert (again.status, again.recap("changed")) == (0, 0), again.output
        without = site("--check")
        assert (without.status, without.recap("changed")) == (0, 0), without.output
        verified = cloud.playbook("verify.yml", "--extra-vars", json.dumps(VARIABLES | {"mlflow_kms_key": key}))
        assert verified.status == 0, verified.output

        (binding,) = cloud.call("GET", f"{policy}:getIamPolicy")["bindings"]
        agents = {f"serviceAccount:{cloud.service_agent(PROJECT, name)}" for name in APIS}
        assert set(binding["members"]) == agents | set(others["members"])
        place = f"projects/{PROJECT}/locations/{REGION}"
        encrypted = (
            f"storage.googleapis.com/storage/v1/b/{PROJECT}-mlflow-artifacts",
            f"sqladmin.googleapis.com/v1/projects/{PROJECT}/instances/mlflow",
            f"run.googleapis.com/v2/{place}/services/mlflow",
            f"run.googleapis.com/v2/{place}/jobs/mlflow-admin",
            *(
                f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/mlflow-{name}"
                for name in ("db-password", "session-key", "webhook-key", "kek-passphrase")
            ),
        )
        for url in encrypted:
            found = json.dumps(cloud.call("GET", url))
            assert re.search(rf'"(?:defaultKmsKeyName|kmsKeyName|encryptionKey)": "{key}"', found), found
            assert '"team": "ml"' in found, found
        for name in ("addresses/mlflow-lb-ip", "forwardingRules/mlflow-lb-https", "forwardingRules/mlflow-lb-http"):
            assert cloud.call("GET", f"{compute}/{name}")["labels"]["team"] == "ml"
        proxy = cloud.call("GET", f"{compute}/targetHttpsProxies/mlflow-lb-https")
        assert proxy["sslPolicy"].endswith("/global/sslPolicies/strict")
