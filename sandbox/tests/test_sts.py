"""Workload identity federation: exchanging an external provider's token for an access token, and its permissions."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://token.actions.example.com"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPE = "urn:ietf:params:oauth:token-type:"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def provider(api, enable, project, key) -> str:
    """Name of a provider that trusts the key."""
    enable(project, "iam.googleapis.com", "iamcredentials.googleapis.com", "cloudresourcemanager.googleapis.com")
    pools = f"https://iam.googleapis.com/v1/projects/{project}/locations/global/workloadIdentityPools"
    pool = api("POST", f"{pools}?workloadIdentityPoolId=runners", json={"displayName": "Runners"})
    assert pool.json()["done"] and pool.json()["response"]["state"] == "ACTIVE", pool.text
    jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "one", "alg": "RS256", "use": "sig"}
    body = {
        "oidc": {"issuerUri": ISSUER, "jwksJson": json.dumps({"keys": [jwk]})},
        "attributeMapping": {"google.subject": "assertion.sub", "attribute.repository": "assertion.repository"},
    }
    made = api("POST", f"{pools}/runners/providers?workloadIdentityPoolProviderId=oidc", json=body).json()
    assert [p["name"] for p in api("GET", f"{pools}/runners/providers").json()["workloadIdentityPoolProviders"]] == [
        made["response"]["name"]
    ]
    return made["response"]["name"]


@pytest.fixture
def exchange(api, provider, key):
    def call(claims: dict[str, Any] | None = None, **form: Any) -> Any:
        now = int(time.time())
        content = {
            "iss": ISSUER,
            "sub": "repo:team/app",
            "aud": f"https://iam.googleapis.com/{provider}",
            "iat": now,
            "exp": now + 300,
            "repository": "team/app",
        } | (claims or {})
        data = {
            "grant_type": EXCHANGE,
            "audience": f"//iam.googleapis.com/{provider}",
            "scope": "https://www.googleapis.com/auth/iam",
            "requested_token_type": f"{TYPE}access_token",
            "subject_token_type": f"{TYPE}jwt",
            "subject_token": jwt.encode(content, key, algorithm="RS256", headers={"kid": "one"}),
        }
        return api("POST", "https://sts.googleapis.com/v1/token", data=data | form)

    return call


@pytest.mark.parametrize(
    "member",
    ["principal://{}/subject/repo:team/app", "principalSet://{}/attribute.repository/team/app", "principalSet://{}/*"],
)
def test_a_federated_identity_has_the_permissions_of_its_member(api, exchange, project, provider, member, sandbox):
    account = f"logger@{project}.iam.gserviceaccount.com"
    accounts = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"
    api("POST", accounts, json={"accountId": "logger"})
    pool = "iam.googleapis.com/" + provider.partition("/providers/")[0]
    binding = {"role": "roles/iam.serviceAccountTokenCreator", "members": [member.format(pool)]}
    assert (
        api("POST", f"{accounts}/{account}:setIamPolicy", json={"policy": {"bindings": [binding]}}).status_code == 200
    )
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:signJwt"
    client = sandbox.session()
    client.headers["Authorization"] = "Bearer " + exchange().json()["access_token"]
    assert client.post(url, json={"payload": "{}"}).status_code == 200
    other = {"sub": "repo:other/app", "repository": "other/app"}
    client.headers["Authorization"] = "Bearer " + exchange(other).json()["access_token"]
    assert client.post(url, json={"payload": "{}"}).status_code == (200 if member.endswith("/*") else 403)


@pytest.mark.parametrize(
    ("claims", "form", "error"),
    [
        ({"iss": "https://other.example.com"}, {}, "invalid_grant"),
        ({"aud": "somebody"}, {}, "invalid_grant"),
        ({"exp": 1}, {}, "invalid_grant"),
        ({}, {"subject_token": "x.y.z"}, "invalid_grant"),
        (
            {},
            {"audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/providers/b"},
            "invalid_target",
        ),
        ({}, {"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({}, {"scope": ""}, "invalid_scope"),
    ],
)
def test_refused(exchange, claims, form, error):
    answer = exchange(claims, **form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.json()["error_description"]


def test_a_disabled_pool_gives_nothing(api, exchange, provider):
    url = f"https://iam.googleapis.com/v1/{provider.partition('/providers/')[0]}?updateMask=disabled"
    assert api("PATCH", url, json={"disabled": True}).json()["response"]["disabled"]
    assert exchange().json()["error"] == "invalid_target"
    api("PATCH", url, json={"disabled": False})
    assert exchange().status_code == 200
