"""Requests as Terraform's provider, gcloud and google-auth send them, which look-alikes tend to answer otherwise."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

REGION = "europe-west2"
HELLO = "us-docker.pkg.dev/cloudrun/container/hello"
ISSUER = "https://token.actions.example.com"
ENVIRONMENT, EGRESS = "run.googleapis.com/execution-environment", "run.googleapis.com/vpc-access-egress"


@pytest.fixture(scope="module")
def ready(api, enable, project) -> str:
    """A project with the APIs of these tests."""
    names = ("compute", "run", "iam", "iamcredentials", "storage", "sqladmin", "secretmanager", "vpcaccess")
    enable(project, *(f"{name}.googleapis.com" for name in names), "cloudresourcemanager.googleapis.com")
    return project


@pytest.fixture(scope="module")
def compute(ready) -> str:
    return f"https://compute.googleapis.com/compute/v1/projects/{ready}"


# -- Compute Engine ---------------------------------------------------------------


def test_a_fingerprint_may_be_url_safe(api, done, compute):
    """Clients whose type for bytes writes the URL-safe alphabet send back - and _ for + and /."""
    for number in range(400):  # until a fingerprint has one of them
        labels = {"round": str(number)}
        body = {"name": f"safe-{number}", "labels": labels, "addressType": "EXTERNAL"}
        done(api("POST", f"{compute}/global/addresses", json=body))
        url = f"{compute}/global/addresses/safe-{number}"
        given = api("GET", url).json()["labelFingerprint"]
        if set(given) & {"+", "/"}:
            break
        done(api("DELETE", url))
    safe = given.replace("+", "-").replace("/", "_")
    answer = api("POST", f"{url}/setLabels", json={"labels": {"a": "b"}, "labelFingerprint": safe})
    assert answer.status_code == 200, answer.text
    answer = api("POST", f"{url}/setLabels", json={"labels": {}, "labelFingerprint": safe})
    assert answer.status_code == 412, "it is outdated now"


def test_a_backend_service_shows_no_cache_keys_that_nobody_set(api, done, compute):
    policy = {"cacheMode": "CACHE_ALL_STATIC"}
    body = {"name": "cached", "loadBalancingScheme": "EXTERNAL_MANAGED", "enableCDN": True, "cdnPolicy": policy}
    done(api("POST", f"{compute}/global/backendServices", json=body))
    url = f"{compute}/global/backendServices/cached"
    assert "cacheKeyPolicy" not in api("GET", url).json()["cdnPolicy"]
    keys = {"includeHost": True, "includeProtocol": True, "includeQueryString": False}
    done(api("PATCH", url, json={"cdnPolicy": policy | {"cacheKeyPolicy": keys}}))
    assert api("GET", url).json()["cdnPolicy"]["cacheKeyPolicy"] == keys


def test_a_nat_may_have_an_empty_list_of_initial_addresses(api, done, compute):
    done(api("POST", f"{compute}/global/networks", json={"name": "nat", "autoCreateSubnetworks": False}))
    nat = {
        "name": "out",
        "natIpAllocateOption": "AUTO_ONLY",
        "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES",
        "initialNatIps": [],
    }
    body: dict[str, Any] = {"name": "router", "network": "global/networks/nat", "nats": [nat]}
    operation = done(api("POST", f"{compute}/regions/{REGION}/routers", json=body))
    assert "error" not in operation, operation
    made = api("GET", f"{compute}/regions/{REGION}/routers/router").json()["nats"][0]
    assert made["name"] == "out" and "initialNatIps" not in made
    body["nats"] = [nat | {"initialNatIpz": []}]
    assert api("PATCH", f"{compute}/regions/{REGION}/routers/router", json=body).status_code == 400


# -- Cloud Run -------------------------------------------------------------------


def test_gcloud_keeps_the_image_of_a_service_by_its_digest(api, done, ready, sandbox, tmp_path):
    """`gcloud run services update` without --image sends the digest of the last revision."""
    image = f"{REGION}-docker.pkg.dev/{ready}/apps/web:1"
    for tag in ("0", "1"):
        (tmp_path / tag).mkdir()
        text = f'FROM python:3\nENV TAG={tag}\nCMD ["sh", "-c", "python -m http.server $PORT --bind $HOST"]\n'
        (tmp_path / tag / "Containerfile").write_text(text)
        name = f"{image.rpartition(':')[0]}:{tag}"
        sandbox.command("image", "add", name, str(tmp_path / tag), "--python", sys.executable)
    url = f"https://run.googleapis.com/v2/projects/{ready}/locations/{REGION}/services"
    operation = done(api("POST", f"{url}?serviceId=web", json={"template": {"containers": [{"image": image}]}}))
    assert "error" not in operation, operation
    revision = api("GET", f"https://run.googleapis.com/v2/{operation['response']['latestReadyRevision']}").json()
    digest = revision["containerStatuses"][0]["imageDigest"]
    body: dict[str, Any] = {"template": {"containers": [{"image": digest}], "labels": {"cost-center": "4711"}}}
    operation = done(api("PATCH", f"{url}/web", json=body))
    assert "error" not in operation, operation
    revision = api("GET", f"https://run.googleapis.com/v2/{operation['response']['latestReadyRevision']}").json()
    assert revision["containerStatuses"][0]["imageDigest"] == digest
    body["template"]["containers"][0]["image"] = digest.partition("@")[0] + "@sha256:" + "0" * 64
    assert "not found" in done(api("PATCH", f"{url}/web", json=body))["error"]["message"]


@pytest.fixture
def serving(ready) -> str:
    return f"https://{REGION}-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{ready}/services"


def _service(name: str, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    template = {"metadata": {"annotations": annotations or {}}, "spec": {"containers": [{"image": HELLO}]}}
    body = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": name}}
    return body | {"spec": {"template": template}}


def test_the_namespace_of_a_v1_service_is_that_of_the_url(api, serving):
    answer = api("POST", serving, json=_service("nameless"))
    assert answer.status_code == 200, answer.text
    other = _service("foreign")
    other["metadata"]["namespace"] = "somebody-else"
    assert api("POST", serving, json=other).status_code == 400


def test_a_service_shows_an_execution_environment_only_as_sent(api, serving, ready):
    def shown(name: str) -> dict[str, str]:
        return api("GET", f"{serving}/{name}").json()["spec"]["template"]["metadata"].get("annotations", {})

    dry = api("POST", f"{serving}?dryRun=all", json=_service("unset"))
    assert ENVIRONMENT not in dry.json()["spec"]["template"]["metadata"].get("annotations", {})
    assert api("POST", serving, json=_service("unset")).status_code == 200
    assert ENVIRONMENT not in shown("unset")
    again = _service("unset", {"own.example.com/note": "1"})
    assert api("PUT", f"{serving}/unset", json=again).status_code == 200
    assert ENVIRONMENT not in shown("unset")
    asked = _service("unset", {ENVIRONMENT: "gen2"})
    for _ in range(2):
        assert api("PUT", f"{serving}/unset", json=asked).status_code == 200
        assert shown("unset")[ENVIRONMENT] == "gen2"
    assert api("PUT", f"{serving}/unset", json=again).status_code == 200
    assert ENVIRONMENT not in shown("unset")
    revisions = api("GET", serving.replace("/services", "/revisions")).json()["items"]
    notes = [r["metadata"]["annotations"] for r in revisions if r["metadata"]["name"].startswith("unset-")]
    assert [n[ENVIRONMENT] for n in notes if ENVIRONMENT in n] == ["gen2"]
    url = f"https://run.googleapis.com/v2/projects/{ready}/locations/{REGION}/services"
    body = {"template": {"containers": [{"image": HELLO}], "executionEnvironment": "EXECUTION_ENVIRONMENT_GEN1"}}
    assert api("POST", f"{url}?serviceId=second", json=body).status_code == 200
    assert shown("second")[ENVIRONMENT] == "gen1"
    assert api("GET", f"{url}/second").json()["template"]["executionEnvironment"] == "EXECUTION_ENVIRONMENT_GEN1"
    assert "executionEnvironment" not in api("GET", f"{url}/unset").json()["template"]
    # As recorded at Google, a job shows it.
    job = {"template": {"template": {"containers": [{"image": HELLO}]}}}
    jobs = url.replace("/services", "/jobs")
    assert api("POST", f"{jobs}?jobId=unset", json=job).status_code == 200
    template = api("GET", f"{jobs}/unset").json()["template"]["template"]
    assert template["executionEnvironment"] == "EXECUTION_ENVIRONMENT_GEN2"


def test_the_egress_of_a_service_is_shown_only_as_sent(api, done, serving, ready, compute):
    network = {"name": "serving", "autoCreateSubnetworks": False}
    done(api("POST", f"{compute}/global/networks", json=network))
    url = f"https://vpcaccess.googleapis.com/v1/projects/{ready}/locations/{REGION}/connectors"
    connector = {"network": "serving", "ipCidrRange": "10.8.0.0/28", "minInstances": 2, "maxInstances": 3}
    operation = done(api("POST", f"{url}?connectorId=link", json=connector))
    assert "error" not in operation, operation
    access = {"connector": f"projects/{ready}/locations/{REGION}/connectors/link"}
    v2 = f"https://run.googleapis.com/v2/projects/{ready}/locations/{REGION}/services"
    body = {"template": {"containers": [{"image": HELLO}], "vpcAccess": access}}
    assert api("POST", f"{v2}?serviceId=inside", json=body).status_code == 200
    assert api("GET", f"{v2}/inside").json()["template"]["vpcAccess"] == access
    notes = api("GET", f"{serving}/inside").json()["spec"]["template"]["metadata"]["annotations"]
    assert EGRESS not in notes and notes["run.googleapis.com/vpc-access-connector"] == access["connector"]
    body["template"]["vpcAccess"] = access | {"egress": "ALL_TRAFFIC"}
    assert api("PATCH", f"{v2}/inside", json=body).status_code == 200
    assert api("GET", f"{v2}/inside").json()["template"]["vpcAccess"]["egress"] == "ALL_TRAFFIC"


# -- accounts ----------------------------------------------------------------------


def test_an_account_that_is_made_again_has_neither_policy_nor_keys_of_the_old_one(api, ready):
    url = f"https://iam.googleapis.com/v1/projects/{ready}/serviceAccounts"
    account = f"{url}/probe-sa@{ready}.iam.gserviceaccount.com"
    old = api("POST", url, json={"accountId": "probe-sa"}).json()
    binding = {"role": "roles/iam.serviceAccountTokenCreator", "members": ["user:jane@example.com"]}
    assert api("POST", f"{account}:setIamPolicy", json={"policy": {"bindings": [binding]}}).status_code == 200
    key = api("POST", f"{account}/keys", json={}).json()["name"]
    api("DELETE", account)
    new = api("POST", url, json={"accountId": "probe-sa"}).json()
    assert new["uniqueId"] != old["uniqueId"]
    assert "bindings" not in api("POST", f"{account}:getIamPolicy").json()
    assert api("GET", f"https://iam.googleapis.com/v1/{key}").status_code == 404
    api("DELETE", account)
    assert api("POST", f"{url}/{old['uniqueId']}:undelete", json={}).status_code == 200
    assert api("POST", f"{account}:getIamPolicy").json()["bindings"] == [binding]
    assert api("GET", f"https://iam.googleapis.com/v1/{key}").status_code == 200


def test_google_auth_asks_where_an_account_may_be_used(api, ready):
    url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
    api("POST", f"https://iam.googleapis.com/v1/projects/{ready}/serviceAccounts", json={"accountId": "bounded"})
    answer = api("GET", f"{url}/bounded@{ready}.iam.gserviceaccount.com/allowedLocations")
    assert (answer.status_code, answer.json()) == (200, {"encodedLocations": "0x0"})
    assert api("GET", f"{url}/nobody@{ready}.iam.gserviceaccount.com/allowedLocations").status_code == 404


def test_a_project_without_app_engine_has_no_account_of_it(api, enable, ready):
    url = f"https://cloudresourcemanager.googleapis.com/v1/projects/{ready}"
    policy = api("POST", f"{url}:getIamPolicy", json={}).json()
    member = f"serviceAccount:{ready}@appspot.gserviceaccount.com"
    policy["bindings"].append({"role": "roles/viewer", "members": [member]})
    answer = api("POST", f"{url}:setIamPolicy", json={"policy": policy})
    assert answer.status_code == 400 and "does not exist" in answer.text
    policy["bindings"][-1]["members"] = ["serviceAccount:not-in-this-sandbox@appspot.gserviceaccount.com"]
    policy = api("POST", f"{url}:setIamPolicy", json={"policy": policy}).json()
    enable(ready, "appengine.googleapis.com")
    policy["bindings"][-1]["members"] = [member]
    assert api("POST", f"{url}:setIamPolicy", json={"policy": policy}).status_code == 200


def test_a_quota_project_needs_the_permission_to_use_it(api, ready):
    """What credentials with quota_project_id send."""
    project = f"https://cloudresourcemanager.googleapis.com/v1/projects/{ready}"
    secrets = f"https://secretmanager.googleapis.com/v1/projects/{ready}/secrets"
    who = "jane@example.com"

    def grant(role: str) -> None:
        policy = api("POST", f"{project}:getIamPolicy", json={}).json()
        policy["bindings"].append({"role": role, "members": [f"user:{who}"]})
        assert api("POST", f"{project}:setIamPolicy", json={"policy": policy}).status_code == 200

    def ask(quota: str = "") -> Any:
        headers = {"X-Goog-User-Project": quota} if quota else {}
        return api("GET", secrets, as_=who, headers=headers)

    grant("roles/secretmanager.admin")
    assert ask().status_code == 200
    for quota in (ready, "no-such-project"):
        error = ask(quota).json()["error"]
        assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")
        assert f"required permission to use project {quota}" in error["message"]
        assert error["details"][0]["reason"] == "USER_PROJECT_DENIED"
    grant("roles/serviceusage.serviceUsageConsumer")
    assert ask(ready).status_code == 200


@pytest.fixture(scope="module")
def federation(api, ready) -> dict[str, Any]:
    """An external_account file of a provider that accepts one repository, and the key of its tokens."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pools = f"https://iam.googleapis.com/v1/projects/{ready}/locations/global/workloadIdentityPools"
    api("POST", f"{pools}?workloadIdentityPoolId=pipelines", json={})
    jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "one", "alg": "RS256", "use": "sig"}
    body = {
        "oidc": {"issuerUri": ISSUER, "jwksJson": json.dumps({"keys": [jwk]})},
        "attributeMapping": {"google.subject": "assertion.sub", "attribute.repository": "assertion.repository"},
        "attributeCondition": "attribute.repository == 'team/app' && has(assertion.ref)",
    }
    answer = api("POST", f"{pools}/pipelines/providers?workloadIdentityPoolProviderId=github", json=body)
    assert answer.status_code == 200, answer.text
    wrong = body | {"attributeCondition": "assertion.sub == "}
    assert (
        api("POST", f"{pools}/pipelines/providers?workloadIdentityPoolProviderId=broken", json=wrong).status_code == 400
    )
    return {"name": answer.json()["response"]["name"], "key": key}


def _credentials(federation: dict[str, Any], path: Any, account: str = "", **claims: Any) -> Any:
    from google.auth import identity_pool

    now, name = int(time.time()), federation["name"]
    content = {"iss": ISSUER, "sub": "repo:team/app", "aud": f"https://iam.googleapis.com/{name}", "iat": now}
    content |= {"exp": now + 300, "repository": "team/app", "ref": "main"} | claims
    content = {name: value for name, value in content.items() if value is not None}
    path.write_text(jwt.encode(content, federation["key"], algorithm="RS256", headers={"kid": "one"}))
    info: dict[str, Any] = {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{name}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": str(path)},
    }
    if account:
        url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
        info["service_account_impersonation_url"] = f"{url}/{account}:generateAccessToken"
    return identity_pool.Credentials.from_info(info, scopes=["https://www.googleapis.com/auth/cloud-platform"])


def test_external_account_credentials_act_as_a_service_account(api, ready, federation, sandbox, tmp_path):
    from google.auth import exceptions
    from google.auth.transport.requests import Request

    account = f"deployer-ci@{ready}.iam.gserviceaccount.com"
    accounts = f"https://iam.googleapis.com/v1/projects/{ready}/serviceAccounts"
    api("POST", accounts, json={"accountId": "deployer-ci"})
    request = Request(session=sandbox.session(anonymous=True))
    credentials = _credentials(federation, tmp_path / "token", account)
    with pytest.raises(exceptions.RefreshError, match="getAccessToken"):
        credentials.refresh(request)
    pool = "iam.googleapis.com/" + federation["name"].partition("/providers/")[0]
    member = f"principalSet://{pool}/attribute.repository/team/app"
    policy = {"bindings": [{"role": "roles/iam.workloadIdentityUser", "members": [member]}]}
    assert api("POST", f"{accounts}/{account}:setIamPolicy", json={"policy": policy}).status_code == 200
    credentials.refresh(request)
    told = api("GET", f"https://oauth2.googleapis.com/tokeninfo?access_token={credentials.token}").json()
    assert told["email"] == account


@pytest.mark.parametrize("claims", [{"repository": "other/app"}, {"ref": None}])
def test_an_attribute_condition_refuses_other_tokens(federation, sandbox, tmp_path, claims):
    from google.auth import exceptions
    from google.auth.transport.requests import Request

    credentials = _credentials(federation, tmp_path / "token", **claims)
    with pytest.raises(exceptions.OAuthError, match="rejected by the attribute condition"):
        credentials.refresh(Request(session=sandbox.session(anonymous=True)))


# -- storage and databases -----------------------------------------------------------


def test_terraform_lists_the_caches_of_a_bucket_before_it_deletes_it(api, ready):
    bucket = f"{ready}-cached"
    api("POST", f"https://storage.googleapis.com/storage/v1/b?project={ready}", json={"name": bucket})
    for end in ("", "/"):
        answer = api("GET", f"https://storage.googleapis.com/storage/v1/b/{bucket}/anywhereCaches{end}")
        assert answer.json() == {"kind": "storage#anywhereCaches"}, answer.text
    answer = api("GET", f"https://storage.googleapis.com/storage/v1/b/{bucket}/anywhereCaches/{REGION}-a")
    assert answer.status_code == 404 and answer.json()["error"]["errors"][0]["reason"] == "notFound"


def test_an_instance_has_no_dataplex_integration_that_nobody_set(api, done, ready):
    url = f"https://sqladmin.googleapis.com/v1/projects/{ready}/instances"
    settings = {"tier": "db-f1-micro", "edition": "ENTERPRISE"}
    body = {"name": "plain", "databaseVersion": "POSTGRES_16", "region": REGION, "settings": settings}
    answer = api("POST", url, json=body)
    assert answer.status_code == 200, answer.text
    assert "enableDataplexIntegration" not in api("GET", f"{url}/plain").json()["settings"]
    done(answer)
    operation = done(api("PATCH", f"{url}/plain", json={"settings": {"enableDataplexIntegration": True}}))
    assert "error" not in operation
    assert api("GET", f"{url}/plain").json()["settings"]["enableDataplexIntegration"] is True
    done(api("DELETE", f"{url}/plain"))
