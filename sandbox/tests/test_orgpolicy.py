"""Organization policies, perimeters, quotas and certificate states, and how each API refuses what they forbid."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gcp_sandbox.core.orgpolicy import location, written
from gcp_sandbox.core.restrictions import Book, RestrictionError, parse
from gcp_sandbox.testing import CommandError

POLICIES = "https://orgpolicy.googleapis.com/v2"
MANAGER = "https://cloudresourcemanager.googleapis.com"
FAILED = (400, "FAILED_PRECONDITION")


class Rules:
    """Policies of the module's project, and rules; set without a process of the command, which takes longer."""

    def __init__(self, sandbox: Any, api: Any, project: str) -> None:
        self.sandbox, self.api = sandbox, api
        self.base = f"{POLICIES}/projects/{project}/policies"
        self.book = Book(sandbox.state)

    def __call__(self, constraint: str, *words: str) -> None:
        name = f"{self.base.removeprefix(POLICIES + '/')}/{constraint}"
        body = {"name": name, "spec": written(constraint, list(words))}
        if self.api("PATCH", f"{self.base}/{constraint}", json=body).status_code == 404:
            assert self.api("POST", self.base, json=body).status_code == 200

    def rule(self, *words: str) -> None:
        self.book.set(list(words))

    def clear(self) -> None:
        self.book.clear()
        for policy in self.api("GET", self.base).json().get("policies", ()):
            self.api("DELETE", f"{POLICIES}/{policy['name']}")


@pytest.fixture
def rules(sandbox: Any, api: Any, project: str) -> Iterator[Rules]:
    out = Rules(sandbox, api, project)
    yield out
    out.clear()


@pytest.fixture(scope="module", autouse=True)
def enabled(project: str, enable: Callable[..., None]) -> None:
    enable(
        project,
        *(
            f"{name}.googleapis.com"
            for name in ("compute", "sqladmin", "run", "secretmanager", "artifactregistry", "iam", "servicenetworking")
        ),
    )
    enable("sandbox-project", "cloudresourcemanager.googleapis.com", "iam.googleapis.com")


def _error(answer: Any) -> dict[str, Any]:
    assert answer.status_code >= 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


def _violation(error: dict[str, Any]) -> dict[str, str]:
    assert (error["code"], error["status"]) == FAILED
    (detail,) = error["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.PreconditionFailure"
    (violation,) = detail["violations"]
    return violation


def _number(api: Any, project: str) -> str:
    return str(api("GET", f"{MANAGER}/v1/projects/{project}").json()["projectNumber"])


# -- the API -----------------------------------------------------------------


def test_policy_is_created_changed_and_deleted(api, project):
    number = _number(api, project)
    base, name = f"{POLICIES}/projects/{project}/policies", f"projects/{number}/policies/gcp.resourceLocations"
    assert api("GET", f"{base}/gcp.resourceLocations").status_code == 404
    spec = {"rules": [{"values": {"allowedValues": ["in:europe-locations"]}}]}
    made = api("POST", base, json={"name": name, "spec": spec})
    assert made.status_code == 200, made.text
    assert made.json()["name"] == name
    assert made.json()["spec"]["rules"] == spec["rules"] and made.json()["spec"]["updateTime"]
    assert api("POST", base, json={"name": name, "spec": spec}).status_code == 409
    assert [p["name"] for p in api("GET", base).json()["policies"]] == [name]
    stale = api("PATCH", f"{base}/gcp.resourceLocations", json={"name": name, "etag": "old", "spec": spec})
    assert (stale.status_code, stale.json()["error"]["status"]) == (409, "ABORTED")
    wider = {"rules": [{"values": {"allowedValues": ["in:europe-locations", "us-east1"]}}]}
    url = f"{base}/gcp.resourceLocations"
    changed = api("PATCH", f"{url}?updateMask=spec", json={"name": name, "etag": made.json()["etag"], "spec": wider})
    assert changed.json()["spec"]["rules"] == wider["rules"] and changed.json()["etag"] != made.json()["etag"]
    assert api("GET", f"{url}:getEffectivePolicy").json() == {"name": name, "spec": wider}
    assert api("DELETE", url).json() == {}
    assert api("GET", f"{url}:getEffectivePolicy").json()["spec"] == {"rules": [{"allowAll": True}]}


@pytest.mark.parametrize(
    ("constraint", "spec", "code", "text"),
    [
        ("gcp.resourceLocations", {"rules": [{"enforce": True}]}, 400, "is a list constraint"),
        ("sql.restrictPublicIp", {"rules": [{"denyAll": True}]}, 400, "is a boolean constraint"),
        ("sql.restrictPublicIp", {"rules": [{"enforce": True, "allowAll": True}]}, 400, "exactly one"),
        (
            "gcp.resourceLocations",
            {"rules": [{"values": {"allowedValues": ["in:mars-locations"]}}]},
            400,
            "The policy contains invalid list value(s): [in:mars-locations]. Please fix the values",
        ),
        ("gcp.nothing", {}, 501, "does not enforce"),
    ],
)
def test_policy_that_is_refused(api, project, constraint, spec, code, text):
    body = {"name": f"projects/{project}/policies/{constraint}", "spec": spec}
    error = _error(api("POST", f"{POLICIES}/projects/{project}/policies", json=body))
    assert error["code"] == code and text in error["message"]


def test_policies_need_their_own_permission(api, project):
    policy = {"bindings": [{"role": "roles/owner", "members": ["user:owner@example.com"]}]}
    url = f"{MANAGER}/v1/projects/{project}"
    before = api("POST", f"{url}:getIamPolicy", json={}).json()["bindings"]
    policy["bindings"] += before
    assert api("POST", f"{url}:setIamPolicy", json={"policy": policy}).status_code == 200
    base = f"{POLICIES}/projects/{project}/policies"
    body = {"name": f"projects/{project}/policies/sql.restrictPublicIp", "spec": {"rules": [{"enforce": True}]}}
    assert api("GET", base, as_="owner@example.com").status_code == 200
    assert _error(api("POST", base, as_="owner@example.com", json=body))["status"] == "PERMISSION_DENIED"


def test_policies_are_inherited(api, done):
    root = api("GET", f"{MANAGER}/v3/organizations:search").json()["organizations"][0]["name"]
    body = {"displayName": f"f-{secrets.token_hex(4)}", "parent": root}
    grant = {
        "role": "roles/resourcemanager.folderAdmin",
        "members": ["serviceAccount:deployer@sandbox-project.iam.gserviceaccount.com"],
    }
    before = api("POST", f"{MANAGER}/v3/{root}:getIamPolicy", json={}).json()["bindings"]
    policy = f"{MANAGER}/v3/{root}:setIamPolicy"
    assert api("POST", policy, json={"policy": {"bindings": [*before, grant]}}).status_code == 200
    folder = done(api("POST", f"{MANAGER}/v3/folders", json=body))["response"]["name"]
    assert api("POST", policy, json={"policy": {"bindings": before}}).status_code == 200
    name = f"test-{secrets.token_hex(4)}"
    done(api("POST", f"{MANAGER}/v3/projects", json={"projectId": name, "parent": folder}))

    def put(parent: str, constraint: str, **spec: Any) -> None:
        body = {"name": f"{parent}/policies/{constraint}", "spec": spec}
        answer = api("POST", f"{POLICIES}/{parent}/policies", json=body)
        assert answer.status_code == 200, answer.text

    def effective(constraint: str) -> Any:
        url = f"{POLICIES}/projects/{name}/policies/{constraint}:getEffectivePolicy"
        return api("GET", url).json()["spec"]["rules"]

    put(folder, "gcp.resourceLocations", rules=[{"values": {"allowedValues": ["europe-west1"]}}])
    put(folder, "sql.restrictPublicIp", rules=[{"enforce": True}])
    assert effective("gcp.resourceLocations") == [{"values": {"allowedValues": ["europe-west1"]}}]
    assert effective("sql.restrictPublicIp") == [{"enforce": True}]
    more = [{"values": {"allowedValues": ["us-east1"]}}]
    put(f"projects/{name}", "gcp.resourceLocations", inheritFromParent=True, rules=more)
    put(f"projects/{name}", "sql.restrictPublicIp", reset=True)
    assert effective("gcp.resourceLocations") == [{"values": {"allowedValues": ["europe-west1", "us-east1"]}}]
    assert effective("sql.restrictPublicIp") == [{"enforce": False}]


def test_value_groups_of_locations():
    europe = {"in:europe-west4-locations", "in:europe-locations", "in:eu-locations"}
    assert set(location("europe-west4")) == {"europe-west4"} | europe
    assert "in:eu-locations" not in location("europe-west2")
    assert "in:europe-locations" in location("EU") and "in:us-locations" in location("nam4")
    assert location("global") == ("global",)


# -- how the services refuse -------------------------------------------------


def test_locations(api, project, rules):
    rules("gcp.resourceLocations", "in:europe-locations")
    number = _number(api, project)
    secrets_url = f"https://secretmanager.googleapis.com/v1/projects/{project}/secrets?secretId=pass"
    error = _error(api("POST", secrets_url, json={"replication": {"automatic": {}}}))
    text = (
        f"Constraint constraints/gcp.resourceLocations violated for [orgpolicy:projects/{number}] attempting to create a "
        "secret in [global]."
    )
    assert error["message"].startswith(text)
    assert _violation(error)["type"] == "constraints/gcp.resourceLocations"
    here = {"replication": {"userManaged": {"replicas": [{"location": "europe-west1"}]}}}
    assert api("POST", secrets_url, json=here).status_code == 200

    buckets = f"https://storage.googleapis.com/storage/v1/b?project={project}"
    bucket = f"b-{secrets.token_hex(6)}"
    error = _error(api("POST", buckets, json={"name": bucket}))
    assert error == {
        "code": 412,
        "message": "'us' violates constraint 'constraints/gcp.resourceLocations'",
        "errors": [
            {
                "message": "'us' violates constraint 'constraints/gcp.resourceLocations'",
                "domain": "global",
                "reason": "conditionNotMet",
                "location": "If-Match",
                "locationType": "header",
            }
        ],
    }
    assert api("POST", buckets, json={"name": bucket, "location": "EU"}).status_code == 200

    compute = f"https://compute.googleapis.com/compute/v1/projects/{project}"
    error = _error(api("POST", f"{compute}/regions/us-east1/addresses", json={"name": "ip"}))
    assert (error["code"], error["errors"][0]["reason"]) == (412, "conditionNotMet")
    where = f"projects/{project}/regions/us-east1/addresses/ip"
    assert error["message"] == (
        f"Location us-east1 violates constraint constraints/gcp.resourceLocations on the resource {where}."
    )
    assert api("POST", f"{compute}/global/addresses", json={"name": "ip"}).status_code == 200

    sql = f"https://sqladmin.googleapis.com/v1/projects/{project}/instances"
    body = {
        "name": "db",
        "databaseVersion": "POSTGRES_17",
        "settings": {"tier": "db-f1-micro", "edition": "ENTERPRISE"},
    }
    error = _error(api("POST", sql, json=body))
    assert (error["code"], error["errors"][0]["reason"]) == (400, "invalid")
    assert error["message"].startswith("Invalid request: 'us-central1' violates constraint 'constraints/gcp.resource")

    repositories = f"https://artifactregistry.googleapis.com/v1/projects/{project}/locations/us-east1/repositories"
    error = _error(api("POST", f"{repositories}?repositoryId=r", json={"format": "DOCKER"}))
    assert "attempting CreateRepository with location set to us-east1" in _violation(error)["description"]


def _service(**more: Any) -> dict[str, Any]:
    return {"template": {"containers": [{"image": "us-docker.pkg.dev/cloudrun/container/hello"}]}} | more


def test_cloud_run(api, project, done, rules):
    url = f"https://run.googleapis.com/v2/projects/{project}/locations/europe-west1/services"
    rules("run.allowedIngress", "internal", "internal-and-cloud-load-balancing")
    violation = _violation(_error(api("POST", f"{url}?serviceId=s", json=_service())))
    assert violation["type"] == "constraints/run.allowedIngress"
    assert "attempting CreateService with ingress set to all" in violation["description"]
    old = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": project},
        "spec": {"template": {"spec": {"containers": [{"image": "us-docker.pkg.dev/cloudrun/container/hello"}]}}},
    }
    v1 = f"https://europe-west1-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{project}/services"
    assert _violation(_error(api("POST", v1, json=old)))["type"] == "constraints/run.allowedIngress"
    inside = _service(ingress="INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER")
    assert api("POST", f"{url}?serviceId=s&validateOnly=true", json=inside).status_code == 200
    done(api("POST", f"{url}?serviceId=s", json=inside))  # its image is not there, but the service is
    for mask, body in (("ingress", _service(ingress="INGRESS_TRAFFIC_ALL")), ("", _service())):
        error = _error(api("PATCH", f"{url}/s?updateMask={mask}", json=body))
        assert "attempting UpdateService with ingress set to all" in _violation(error)["description"]
    answer = api("PATCH", f"{url}/s?updateMask=labels,template.labels", json=_service(labels={"a": "b"}))
    assert answer.status_code == 200, answer.text
    rules("run.allowedVPCEgress", "all-traffic")
    violation = _violation(_error(api("POST", f"{url}?serviceId=s", json=inside)))
    assert "with VPC egress set to none" in violation["description"]
    inside["template"]["vpcAccess"] = {"networkInterfaces": [{"network": "default"}], "egress": "PRIVATE_RANGES_ONLY"}
    violation = _violation(_error(api("POST", f"{url}?serviceId=s", json=inside)))
    assert "with VPC egress set to private-ranges-only" in violation["description"]


def test_customer_managed_keys(api, project, rules):
    services = ("run", "secretmanager", "artifactregistry", "storage", "sqladmin")
    rules("gcp.restrictNonCmekServices", *(f"deny:{name}.googleapis.com" for name in services))
    text = (
        f"Constraint `constraints/gcp.restrictNonCmekServices` violated for `projects/{project}` attempting to create a "
        "resource without specifying a KMS CryptoKey."
    )
    url = f"https://secretmanager.googleapis.com/v1/projects/{project}/secrets?secretId=key"
    repositories = f"https://artifactregistry.googleapis.com/v1/projects/{project}/locations/us-east1/repositories"
    run = f"https://run.googleapis.com/v2/projects/{project}/locations/us-east1/services?serviceId=s"
    for address, body in (
        (url, {"replication": {"automatic": {}}}),
        (f"{repositories}?repositoryId=r", {"format": "DOCKER"}),
        (run, _service()),
    ):
        error = _error(api("POST", address, json=body))
        assert error["message"] == text
        assert _violation(error)["subject"] == f"orgpolicy:projects/{project}"
    key = f"projects/{project}/locations/us-east1/keyRings/r/cryptoKeys/k"
    buckets = f"https://storage.googleapis.com/storage/v1/b?project={project}"
    bucket: dict[str, Any] = {"name": f"b-{secrets.token_hex(6)}", "location": "us-east1"}
    error = _error(api("POST", buckets, json=bucket))
    assert (error["code"], error["message"]) == (
        412,
        "Request violates constraint 'constraints/gcp.restrictNonCmekServices'",
    )
    answer = api("POST", buckets, json=bucket | {"encryption": {"defaultKmsKeyName": key}})
    assert "constraints/" not in answer.text


def test_buckets(api, project, rules):
    buckets = "https://storage.googleapis.com/storage/v1/b"
    name = f"b-{secrets.token_hex(6)}"
    rules("storage.uniformBucketLevelAccess")
    error = _error(api("POST", f"{buckets}?project={project}", json={"name": name}))
    text = "Request violates constraint 'constraints/storage.uniformBucketLevelAccess'"
    assert (error["code"], error["message"], error["errors"][0]["reason"]) == (412, text, "conditionNotMet")
    uniform = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}
    assert api("POST", f"{buckets}?project={project}", json={"name": name} | uniform).status_code == 200
    off = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": False}}}
    assert _error(api("PATCH", f"{buckets}/{name}", json=off))["message"] == text
    public = {"bindings": [{"role": "roles/storage.objectViewer", "members": ["allUsers"]}]}
    assert api("PUT", f"{buckets}/{name}/iam", json=public).status_code == 200
    stranger = "stranger@elsewhere.org"
    assert api("GET", f"{buckets}/{name}/o", as_=stranger).status_code == 200
    rules("storage.publicAccessPrevention")
    assert api("GET", f"{buckets}/{name}/o", as_=stranger).status_code == 403
    error = _error(api("PUT", f"{buckets}/{name}/iam", json=public))
    assert error["code"] == 412 and "since public access prevention is enforced" in error["message"]


def test_members_of_other_organizations(api, project, rules):
    url = f"{MANAGER}/v1/projects/{project}"
    policy = api("POST", f"{url}:getIamPolicy", json={}).json()
    root = api("GET", f"{MANAGER}/v3/organizations:search").json()["organizations"][0]
    policy["bindings"].append({"role": "roles/viewer", "members": ["user:old@elsewhere.org"]})
    policy = api("POST", f"{url}:setIamPolicy", json={"policy": policy}).json()
    rules("iam.allowedPolicyMemberDomains", root["directoryCustomerId"])
    here = [
        "user:a@example.com",
        "group:g@example.com",
        "serviceAccount:deployer@sandbox-project.iam.gserviceaccount.com",
    ]
    policy["bindings"].append({"role": "roles/browser", "members": here})
    policy = api("POST", f"{url}:setIamPolicy", json={"policy": policy}).json()  # the old stranger may stay
    policy["bindings"].append({"role": "roles/browser", "members": ["user:new@elsewhere.org"]})
    error = _error(api("POST", f"{url}:setIamPolicy", json={"policy": policy}))
    assert error["message"] == "One or more users named in the policy do not belong to a permitted customer."
    assert _violation(error) == {
        "type": "constraints/iam.allowedPolicyMemberDomains",
        "subject": f"orgpolicy:projects/{project}?configvalue=new@elsewhere.org",
        "description": "User new@elsewhere.org is not in permitted organization.",
    }


def test_service_accounts(api, project, rules):
    base = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"
    email = api("POST", base, json={"accountId": "robot-1"}).json()["email"]
    rules("iam.disableServiceAccountKeyCreation")
    error = _error(api("POST", f"{base}/{email}/keys", json={}))
    assert error["message"] == "Key creation is not allowed on this service account."
    where = f"projects/{project}/serviceAccounts/{email}?configvalue={email.replace('@', '%40')}"
    assert _violation(error)["subject"] == where
    rules("iam.disableServiceAccountCreation")
    error = _error(api("POST", base, json={"accountId": "robot-2"}))
    assert error["message"] == "Service account creation is not allowed on this project."
    assert _violation(error)["type"] == "constraints/iam.disableServiceAccountCreation"
    stranger = api("POST", base, as_="nobody@example.com", json={"accountId": "robot-2"})
    assert stranger.status_code == 403  # permissions come first


def test_public_address_of_a_database(api, project, rules):
    rules("sql.restrictPublicIp")
    url = f"https://sqladmin.googleapis.com/v1/projects/{project}/instances"
    settings: dict[str, Any] = {"tier": "db-f1-micro", "edition": "ENTERPRISE"}
    error = _error(api("POST", url, json={"name": "db", "databaseVersion": "POSTGRES_17", "settings": settings}))
    number = _number(api, project)
    assert error["message"] == (
        "Invalid request: Organization Policy check failure: the external IP of this instance violates the "
        f"constraints/sql.restrictPublicIp enforced at the {number} project."
    )


def test_peering_of_networks(api, project, done, rules):
    compute = f"https://compute.googleapis.com/compute/v1/projects/{project}/global"
    done(api("POST", f"{compute}/networks", json={"name": "net", "autoCreateSubnetworks": False}))
    network = f"projects/{project}/global/networks/net"
    body = {
        "name": "range",
        "purpose": "VPC_PEERING",
        "addressType": "INTERNAL",
        "prefixLength": 20,
        "network": network,
    }
    done(api("POST", f"{compute}/addresses", json=body))
    rules("compute.restrictVpcPeering", "deny-all")
    number = _number(api, project)
    url = "https://servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
    body = {"network": f"projects/{number}/global/networks/net", "reservedPeeringRanges": ["range"]}
    error = done(api("POST", url, json=body))["error"]
    assert error["code"] == 9
    text = f"Constraint constraints/compute.restrictVpcPeering violated for project {number}. Peering the network projects/"
    assert error["message"].startswith(text) and error["message"].endswith("/servicenetworking is not allowed.")
    peer = {"name": "p", "network": f"projects/{project}/global/networks/default", "exchangeSubnetRoutes": True}
    answer = api("POST", f"{compute}/networks/net/addPeering", json={"networkPeering": peer})
    assert (answer.status_code, _error(answer)["errors"][0]["reason"]) == (412, "conditionNotMet")
    rules("compute.restrictVpcPeering", f"under:projects/{project}")
    answer = api("POST", f"{compute}/networks/net/addPeering", json={"networkPeering": peer})
    assert answer.status_code == 200, answer.text


def test_types_of_load_balancers(api, project, rules):
    rules("compute.restrictLoadBalancerCreationForTypes", "in:INTERNAL")
    url = f"https://compute.googleapis.com/compute/v1/projects/{project}/global/forwardingRules"
    body = {
        "name": "front",
        "loadBalancingScheme": "EXTERNAL_MANAGED",
        "target": f"projects/{project}/global/targetHttpsProxies/front",
        "portRange": "443",
    }
    error = _error(api("POST", url, json=body))
    assert (error["code"], error["errors"][0]["reason"]) == (412, "conditionNotMet")
    assert error["message"] == (
        f"Constraint constraints/compute.restrictLoadBalancerCreationForTypes violated for projects/{project}. Forwarding "
        f"Rule projects/{project}/global/forwardingRules/front of type GLOBAL_EXTERNAL_MANAGED_HTTP_HTTPS is not allowed."
    )
    rules("compute.restrictLoadBalancerCreationForTypes", "GLOBAL_EXTERNAL_MANAGED_HTTP_HTTPS")
    assert _error(api("POST", url, json=body))["code"] != 412  # only its target is missing


def test_no_default_network(api, done, enable):
    name = f"test-{secrets.token_hex(4)}"
    done(api("POST", f"{MANAGER}/v1/projects", json={"projectId": name}))
    body = {
        "name": f"projects/{name}/policies/compute.skipDefaultNetworkCreation",
        "spec": {"rules": [{"enforce": True}]},
    }
    assert api("POST", f"{POLICIES}/projects/{name}/policies", json=body).status_code == 200
    enable(name, "compute.googleapis.com")
    assert (
        "items" not in api("GET", f"https://compute.googleapis.com/compute/v1/projects/{name}/global/networks").json()
    )


# -- perimeters, quotas, certificates ----------------------------------------


def test_perimeter(api, project, rules):
    rules.rule("perimeter", project, "storage.googleapis.com")
    rules.rule("perimeter", project, "secretmanager*")
    answer = api("GET", f"https://secretmanager.googleapis.com/v1/projects/{project}/secrets")
    error = _error(answer)
    assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")
    prefix = "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: "
    assert error["message"].startswith(prefix)
    uid = error["message"].removeprefix(prefix)
    failure, info = error["details"]
    assert failure["violations"] == [{"type": "VPC_SERVICE_CONTROLS", "description": uid}]
    assert (info["reason"], info["metadata"]["service"]) == ("SECURITY_POLICY_VIOLATED", "secretmanager.googleapis.com")
    answer = api("GET", f"https://storage.googleapis.com/storage/v1/b?project={project}")
    assert _error(answer)["errors"][0]["reason"] == "vpcServiceControls"
    bucket = f"b-{secrets.token_hex(6)}"
    rules.clear()
    assert api("POST", f"https://storage.googleapis.com/storage/v1/b?project={project}", json={"name": bucket}).ok
    rules.rule("perimeter", project, "storage.googleapis.com")
    assert api("GET", f"https://storage.googleapis.com/storage/v1/b/{bucket}").status_code == 403
    answer = api("GET", f"https://storage.googleapis.com/{bucket}")  # the XML API
    assert answer.status_code == 403 and "vpcServiceControlsUniqueIdentifier" in answer.text
    assert (
        api("GET", f"https://run.googleapis.com/v2/projects/{project}/locations/us-east1/services").status_code == 200
    )


def test_quotas(api, project, done, rules):
    compute = f"https://compute.googleapis.com/compute/v1/projects/{project}"
    rules.rule("quota", "BACKEND_BUCKETS", "0", f"project={project}")
    body = {"name": "files", "bucketName": "none"}
    error = _error(api("POST", f"{compute}/global/backendBuckets", json=body))
    text = "Quota 'BACKEND_BUCKETS' exceeded.  Limit: 0.0 globally."
    assert (error["code"], error["message"]) == (403, text)
    assert (error["errors"][0]["reason"], error["errors"][0]["domain"]) == ("quotaExceeded", "usageLimits")
    quotas = {q["metric"]: q["limit"] for q in api("GET", compute).json()["quotas"]}
    assert quotas["BACKEND_BUCKETS"] == 0
    rules.rule("quota", "BACKEND_BUCKETS", "0", f"project={project}", "as=operation")
    operation = done(api("POST", f"{compute}/global/backendBuckets", json=body))
    assert operation["httpErrorStatusCode"] == 403
    assert operation["error"]["errors"] == [{"code": "QUOTA_EXCEEDED", "message": text}]
    assert api("GET", f"{compute}/global/backendBuckets/files").status_code == 404
    rules.rule("quota", "NETWORK_ENDPOINT_GROUPS", "0", f"project={project}", "region=us-east1")
    neg = {"name": "neg", "networkEndpointType": "SERVERLESS", "cloudRun": {"service": "s"}}
    error = _error(api("POST", f"{compute}/regions/us-east1/networkEndpointGroups", json=neg))
    assert error["message"].endswith("Limit: 0.0 in region us-east1.")
    rules.rule("quota", "sql.instances", "0", f"project={project}")
    rules.rule("quota", "run.services", "0", f"project={project}")
    sql = {"name": "db", "databaseVersion": "POSTGRES_17", "settings": {"tier": "db-f1-micro", "edition": "ENTERPRISE"}}
    error = _error(api("POST", f"https://sqladmin.googleapis.com/v1/projects/{project}/instances", json=sql))
    assert (error["code"], error["errors"][0]["reason"]) == (403, "errorMaxInstancePerLabel")
    run = f"https://run.googleapis.com/v2/projects/{project}/locations/us-east1/services?serviceId=s"
    assert _error(api("POST", run, json=_service()))["status"] == "RESOURCE_EXHAUSTED"


def test_states_of_certificates(api, project, done, rules):
    rules.rule("certificate", "*.invisible.example", "FAILED_NOT_VISIBLE")
    compute = f"https://compute.googleapis.com/compute/v1/projects/{project}/global"

    def make(collection: str, **body: Any) -> str:
        operation = done(api("POST", f"{compute}/{collection}", json={"name": "cert"} | body))
        assert "error" not in operation, operation
        return f"projects/{project}/global/{collection}/cert"

    def managed(*wanted: str) -> dict[str, Any]:
        end = time.monotonic() + 10
        while True:
            doc: dict[str, Any] = api("GET", f"{compute}/sslCertificates/cert").json()["managed"]
            if list(doc["domainStatus"].values()) == list(wanted) or time.monotonic() > end:
                return doc
            time.sleep(0.05)

    names = ["a.invisible.example", "b.forbidden.example"]
    certificate = make("sslCertificates", type="MANAGED", managed={"domains": names})
    backend = make("backendServices", loadBalancingScheme="EXTERNAL_MANAGED", protocol="HTTP")
    urls = make("urlMaps", defaultService=backend)
    proxy = make("targetHttpsProxies", urlMap=urls, sslCertificates=[certificate])
    make("forwardingRules", target=proxy, portRange="443", loadBalancingScheme="EXTERNAL_MANAGED")
    found = managed("FAILED_NOT_VISIBLE", "ACTIVE")
    assert (found["status"], found["domainStatus"]["b.forbidden.example"]) == ("PROVISIONING", "ACTIVE")
    rules.rule("certificate", "b.forbidden.example", "FAILED_CAA_FORBIDDEN")
    found = managed("FAILED_NOT_VISIBLE", "FAILED_CAA_FORBIDDEN")
    assert found["status"] == "PROVISIONING_FAILED"
    assert found["domainStatus"]["b.forbidden.example"] == "FAILED_CAA_FORBIDDEN"
    rules.clear()
    assert managed("ACTIVE", "ACTIVE")["status"] == "ACTIVE"


# -- the command -------------------------------------------------------------


def test_command(sandbox, project, rules):
    def policy(*words: str) -> str:
        out: str = sandbox.command("policy", *words)
        return out

    text = policy("set", "run.allowedVPCEgress", "all-traffic", "none", f"on=projects/{project}")
    assert text == f"projects/{project} run.allowedVPCEgress all-traffic none\n"
    policy("set", "run.allowedVPCEgress", "all-traffic", f"on=projects/{project}")
    first = policy("set", "quota", "NETWORKS", "7", f"project={project}")
    second = policy("set", "quota", "NETWORKS", "8", f"project={project}")
    shown = policy("list")
    assert f"run.allowedVPCEgress: all-traffic on=projects/{project}\n" in shown
    assert second in shown and first not in shown  # it was replaced
    assert policy("clear", second.partition(":")[0]) == "1 policies removed\n"
    assert policy("clear", "run.allowedVPCEgress") == "1 policies removed\n"
    assert project not in policy("list")
    with pytest.raises(CommandError, match="unknown policy 'gcp.nothing'"):
        policy("set", "gcp.nothing")
    with pytest.raises(CommandError, match="invalid list value"):
        policy("set", "gcp.resourceLocations", "in:mars-locations", f"on=projects/{project}")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["toll"], "unknown kind"),
        (["quota", "NETWORKS"], "needs METRIC and LIMIT"),
        (["quota", "NETWORKS", "-1"], "a limit is a number"),
        (["quota", "NETWORKS", "1", "zone=a"], "options of quota are project="),
        (["quota", "NETWORKS", "1", "as=call"], "must be as=operation"),
        (["perimeter", "*", "run.googleapis.com", "x=y"], "perimeter has no options"),
        (["certificate", "*", "ACTIVE"], "unknown state"),
    ],
)
def test_rule_that_cannot_be_understood(words, text):
    with pytest.raises(RestrictionError, match=text):
        parse(words)


def test_words_of_a_policy():
    assert written("sql.restrictPublicIp", ["off"]) == {"rules": [{"enforce": False}]}
    assert written("gcp.restrictNonCmekServices", ["inherit", "deny:run.googleapis.com"]) == {
        "inheritFromParent": True,
        "rules": [{"values": {"deniedValues": ["run.googleapis.com"]}}],
    }
    with pytest.raises(ValueError, match="needs values"):
        written("gcp.resourceLocations", [])
    with pytest.raises(ValueError, match="is enforce"):
        written("sql.restrictPublicIp", ["no"])
