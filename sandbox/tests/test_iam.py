"""Service accounts, keys, roles and their permissions."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Api = Callable[..., requests.Response]
IAM = "https://iam.googleapis.com/v1"
TOKEN = "https://oauth2.googleapis.com/token"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@pytest.fixture(scope="module", autouse=True)
def enabled(enable: Callable[..., None], project: str) -> None:
    enable(project, "iam.googleapis.com", "cloudresourcemanager.googleapis.com")


@pytest.fixture
def account(api: Api, project: str) -> Iterator[dict[str, Any]]:
    body = {"accountId": f"sa-{secrets.token_hex(4)}", "serviceAccount": {"displayName": "One"}}
    answer = api("POST", f"{IAM}/projects/{project}/serviceAccounts", json=body)
    assert answer.status_code == 200, answer.text
    yield answer.json()
    api("DELETE", f"{IAM}/{answer.json()['name']}")


def key_of(api: Api, account: dict[str, Any]) -> dict[str, Any]:
    made = api("POST", f"{IAM}/{account['name']}/keys", json={}).json()
    return json.loads(base64.b64decode(made["privateKeyData"]))


def assertion(key: dict[str, Any], **claims: Any) -> str:
    when = int(time.time())
    body = {
        "iss": key["client_email"],
        "aud": TOKEN,
        "iat": when,
        "exp": when + 3600,
        "scope": "https://www.googleapis.com/auth/cloud-platform",
    } | claims
    return jwt.encode(body, key["private_key"], algorithm="RS256", headers={"kid": key["private_key_id"]})


def grant(api: Api, text: str) -> requests.Response:
    return api("POST", TOKEN, data={"grant_type": BEARER, "assertion": text})


def test_account_is_created_found_by_number_and_exists(api: Api, project: str, account: dict[str, Any]) -> None:
    assert account["email"].endswith(f"@{project}.iam.gserviceaccount.com")
    assert api("GET", f"{IAM}/projects/-/serviceAccounts/{account['uniqueId']}").json()["email"] == account["email"]
    ident = account["email"].partition("@")[0]
    again = api("POST", f"{IAM}/projects/{project}/serviceAccounts", json={"accountId": ident})
    assert again.status_code == 409
    assert again.json()["error"]["errors"][0]["reason"] == "alreadyExists"
    assert api("POST", f"{IAM}/projects/{project}/serviceAccounts", json={"accountId": "x"}).status_code == 400


def test_a_project_has_a_hundred_accounts(api: Api) -> None:
    name = f"crowded-{time.time_ns() % 10**9}"
    api("POST", "https://cloudresourcemanager.googleapis.com/v1/projects", json={"projectId": name, "name": name})
    api("POST", f"https://serviceusage.googleapis.com/v1/projects/{name}/services/iam.googleapis.com:enable", json={})
    url = f"https://iam.googleapis.com/v1/projects/{name}/serviceAccounts"
    deadline = time.monotonic() + 10
    while api("GET", url).status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    free = 100 - len(api("GET", f"{url}?pageSize=100").json().get("accounts", []))
    for number in range(free):
        assert api("POST", url, json={"accountId": f"account-{number}"}).status_code == 200
    error = api("POST", url, json={"accountId": "one-too-many"}).json()["error"]
    assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert error["message"] == "Maximum number of service accounts on project reached."
    assert api("DELETE", f"{url}/account-0@{name}.iam.gserviceaccount.com").status_code == 200
    assert api("POST", url, json={"accountId": "one-more-then"}).status_code == 200


def test_unknown_account_is_404_and_behind_a_dash_403(api: Api, project: str) -> None:
    missing = api("GET", f"{IAM}/projects/{project}/serviceAccounts/no-one@{project}.iam.gserviceaccount.com")
    assert missing.json()["error"]["message"] == "Unknown service account"
    assert api("GET", f"{IAM}/projects/-/serviceAccounts/no-one@{project}.iam.gserviceaccount.com").status_code == 403


def test_token_for_a_key_and_google_refusals(api: Api, account: dict[str, Any]) -> None:
    key = key_of(api, account)
    token = grant(api, assertion(key)).json()
    assert token["token_type"] == "Bearer"
    assert grant(api, assertion(key, target_audience="me")).json()["id_token"]
    other = key_of(api, account) | {"private_key_id": key["private_key_id"]}
    for text, said in (
        (assertion(other), "Invalid JWT Signature."),
        (assertion(key, exp=int(time.time()) + 9000), "Invalid JWT: Token must be a short-lived token (60 minutes)"),
        (assertion(key, aud="https://example.com"), "Invalid JWT: Failed audience check."),
        (assertion(key, iss="nobody@x.iam.gserviceaccount.com"), "Invalid grant: account not found"),
    ):
        answer = grant(api, text)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), answer.text
        assert answer.json()["error_description"].startswith(said)
    assert grant(api, assertion(key, scope="nonsense")).json()["error"] == "invalid_scope"


def test_disabled_account_gets_nothing_and_its_token_ends(api: Api, project: str, account: dict[str, Any]) -> None:
    key = key_of(api, account)
    token = grant(api, assertion(key)).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{IAM}/projects/{project}/serviceAccounts"
    assert api("GET", url, headers=headers).status_code == 403
    api("POST", f"{IAM}/{account['name']}:disable")
    assert api("GET", url, headers=headers).json()["error"]["details"][0]["reason"] == "ACCOUNT_STATE_INVALID"
    assert grant(api, assertion(key)).json()["error_description"] == "Invalid grant: account not found"
    api("POST", f"{IAM}/{account['name']}:enable")
    assert "access_token" in grant(api, assertion(key)).json()


def test_deleted_account_stays_in_policies_as_deleted_and_is_restored(
    api: Api, project: str, account: dict[str, Any]
) -> None:
    crm = f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}"
    member = f"serviceAccount:{account['email']}"
    policy = api("POST", f"{crm}:getIamPolicy").json()
    policy["bindings"].append({"role": "roles/logging.logWriter", "members": [member]})
    assert api("POST", f"{crm}:setIamPolicy", json={"policy": policy}).status_code == 200
    api("DELETE", f"{IAM}/{account['name']}")
    text = api("POST", f"{crm}:getIamPolicy").text
    assert f"deleted:{member}?uid={account['uniqueId']}" in text
    body = {"policy": {"bindings": [*policy["bindings"][:1], {"role": "roles/viewer", "members": [member]}]}}
    refused = api("POST", f"{crm}:setIamPolicy", json=body)
    assert refused.json()["error"]["message"] == f"Service account {account['email']} does not exist."
    back = api("POST", f"{IAM}/projects/{project}/serviceAccounts/{account['uniqueId']}:undelete")
    assert back.json()["restoredAccount"]["email"] == account["email"]
    assert f'"{member}"' in api("POST", f"{crm}:getIamPolicy").text


def test_keys_are_listed_published_limited_and_deleted(api: Api, account: dict[str, Any]) -> None:
    key = key_of(api, account)
    url = f"{IAM}/{account['name']}/keys"
    kinds = sorted(k["keyType"] for k in api("GET", url).json()["keys"])
    assert kinds == ["SYSTEM_MANAGED", "USER_MANAGED"]
    published = api("GET", key["client_x509_cert_url"]).json()
    assert published[key["private_key_id"]].startswith("-----BEGIN CERTIFICATE-----")
    assert api("GET", f"https://www.googleapis.com/service_accounts/v1/jwk/{account['email']}").json()["keys"]
    one = f"{url}/{key['private_key_id']}"
    assert "publicKeyData" in api("GET", one, params={"publicKeyType": "TYPE_X509_PEM_FILE"}).json()
    assert api("DELETE", one).json() == {}
    assert api("GET", one).status_code == 404
    assert grant(api, assertion(key)).json()["error_description"] == "Invalid JWT Signature."


def certificate_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, days: int) -> str:
    """The base64 of a certificate (PEM) that expires in this number of days."""
    when, name = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 7, when - timedelta(days=9), when + timedelta(days=days)
    )
    return base64.b64encode(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)).decode()


def test_uploaded_key_can_sign(api: Api, account: dict[str, Any]) -> None:
    mine, url = rsa.generate_private_key(65537, 2048), f"{IAM}/{account['name']}/keys:upload"
    pem = mine.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = api("POST", url, json={"publicKeyData": certificate_of(mine, 9)}).json()
    assert (made["keyOrigin"], made["keyType"], made["keyAlgorithm"]) == (
        "USER_PROVIDED",
        "USER_MANAGED",
        "KEY_ALG_RSA_2048",
    )
    raw = api("GET", f"{IAM}/{made['name']}", params={"publicKeyType": "TYPE_RAW_PUBLIC_KEY"}).json()["publicKeyData"]
    assert base64.b64decode(raw).startswith(b"-----BEGIN PUBLIC KEY-----")
    key = {"client_email": account["email"], "private_key": pem, "private_key_id": made["name"].rpartition("/")[2]}
    assert "access_token" in grant(api, assertion(key)).json()
    old = api("POST", url, json={"publicKeyData": certificate_of(mine, -1)}).json()
    ended = grant(api, assertion(key | {"private_key_id": old["name"].rpartition("/")[2]}))
    assert ended.json()["error_description"] == "Invalid JWT Signature."
    for wrong in (base64.b64encode(b"x").decode(), certificate_of(ec.generate_private_key(ec.SECP256R1()), 9)):
        assert api("POST", url, json={"publicKeyData": wrong}).json()["error"]["status"] == "INVALID_ARGUMENT"


def test_unknown_field_and_type_are_refused(api: Api, project: str) -> None:
    url = f"{IAM}/projects/{project}/serviceAccounts"
    answer = api("POST", url, json={"accountId": "some-account", "colour": "red"}).json()["error"]
    assert answer["status"] == "INVALID_ARGUMENT" and "colour" in answer["message"]


def test_predefined_and_custom_roles(api: Api, project: str) -> None:
    role = api("GET", f"{IAM}/roles/secretmanager.secretAccessor").json()
    assert "secretmanager.versions.access" in role["includedPermissions"]
    assert api("GET", f"{IAM}/roles/run.nothing").status_code == 404
    url = f"{IAM}/projects/{project}/roles"
    role = {"title": "T", "includedPermissions": ["run.services.get"], "stage": "GA"}
    made = api("POST", url, json={"roleId": "watcher", "role": role}).json()
    assert made["name"] == f"projects/{project}/roles/watcher"
    assert api("POST", url, json={"roleId": "watcher", "role": role}).status_code == 409
    wrong = {"roleId": "other", "role": {"includedPermissions": ["run.services.fly"]}}
    assert api("POST", url, json=wrong).status_code == 400
    assert api("DELETE", f"{IAM}/{made['name']}").json()["deleted"] is True


@pytest.mark.parametrize(
    ("role", "has", "lacks"),
    [
        (
            "compute.networkAdmin",
            "compute.subnetworks.create compute.globalAddresses.createInternal compute.regionNetworkEndpointGroups.use "
            "servicenetworking.services.addPeering compute.networks.getEffectiveFirewalls",
            "compute.regionNetworkEndpointGroups.create compute.firewalls.create compute.firewallPolicies.create "
            "compute.sslCertificates.create servicenetworking.services.use",
        ),
        (
            "compute.loadBalancerAdmin",
            "compute.regionNetworkEndpointGroups.create compute.sslCertificates.create compute.subnetworks.use",
            "compute.regions.get compute.zones.list compute.networks.create",
        ),
        (
            "compute.networkViewer",
            "compute.urlMaps.get compute.networks.getEffectiveFirewalls servicenetworking.services.get",
            "compute.regionNetworkEndpointGroups.get compute.globalOperations.get compute.disks.get",
        ),
        ("compute.viewer", "compute.regionNetworkEndpointGroups.get compute.networks.getEffectiveFirewalls", ""),
        ("iap.admin", "iap.webServices.setIamPolicy iap.projects.getSettings", "resourcemanager.projects.get"),
        ("storage.bucketViewer", "storage.buckets.get", "resourcemanager.projects.get storage.buckets.getIamPolicy"),
        ("cloudsql.viewer", "cloudsql.instances.get cloudsql.instances.getDiskShrinkConfig", "cloudsql.users.update"),
    ],
)
def test_permissions_of_predefined_roles(api, role, has, lacks):
    """As in Google's published list."""
    included = api("GET", f"{IAM}/roles/{role}").json()["includedPermissions"]
    assert set(has.split()) <= set(included)
    assert set(lacks.split()).isdisjoint(included)


def test_credentials_of_a_user(api: Api, sandbox: Any) -> None:
    credentials = json.loads(sandbox.command("token", "--as", "jane@example.com", "--credentials"))
    assert credentials.pop("type") == "authorized_user"
    form = credentials | {"grant_type": "refresh_token"}
    answer = api("POST", TOKEN, data=form).json()
    info = api("GET", "https://oauth2.googleapis.com/tokeninfo", params={"access_token": answer["access_token"]}).json()
    assert info["email"] == "jane@example.com"
    assert api("POST", "https://oauth2.googleapis.com/revoke", data={"token": form["refresh_token"]}).status_code == 200
    assert api("POST", TOKEN, data=form).json()["error"] == "invalid_grant"
    assert "is a service account" in sandbox.command("token", "--credentials", check=False)


def test_refresh_token_and_token_info(api: Api) -> None:
    refused = api("POST", TOKEN, data={"grant_type": "refresh_token", "refresh_token": "1//no", "client_id": "x"})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert api("POST", TOKEN, data={"grant_type": "password"}).json()["error"] == "unsupported_grant_type"
    info = api("GET", "https://oauth2.googleapis.com/tokeninfo", params={"access_token": "ya29.no"})
    assert info.json()["error"] == "invalid_token"
    assert api("GET", "https://www.googleapis.com/oauth2/v3/certs").json()["keys"][0]["alg"] == "RS256"
    assert api("GET", "https://openidconnect.googleapis.com/v1/userinfo").json()["email_verified"] is True
