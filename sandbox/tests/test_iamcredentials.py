"""Impersonating a service account: tokens and signatures for callers with permission, and through delegates."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

import jwt
import pytest
import requests

Api = Callable[..., requests.Response]
URL = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
IAM = "https://iam.googleapis.com/v1"


@pytest.fixture(scope="module")
def accounts(api: Api, enable: Callable[..., None], project: str) -> tuple[str, str]:
    """Two accounts: the deployer may act as the first, the first as the second."""
    enable(project, "iam.googleapis.com", "iamcredentials.googleapis.com")
    emails = []
    for ident in ("first-one", "second-one"):
        answer = api("POST", f"{IAM}/projects/{project}/serviceAccounts", json={"accountId": ident})
        emails.append(answer.json()["email"])
    deployer = api("GET", "https://openidconnect.googleapis.com/v1/userinfo").json()["email"]
    for who, on in ((deployer, emails[0]), (emails[0], emails[1])):
        binding = {"role": "roles/iam.serviceAccountTokenCreator", "members": [f"serviceAccount:{who}"]}
        body = {"policy": {"bindings": [binding]}}
        assert api("POST", f"{IAM}/projects/{project}/serviceAccounts/{on}:setIamPolicy", json=body).status_code == 200
    return emails[0], emails[1]


def test_access_token(api: Api, accounts: tuple[str, str]) -> None:
    scope = ["https://www.googleapis.com/auth/cloud-platform"]
    answer = api("POST", f"{URL}/{accounts[0]}:generateAccessToken", json={"scope": scope, "lifetime": "300s"}).json()
    about = api("GET", "https://oauth2.googleapis.com/tokeninfo", params={"access_token": answer["accessToken"]}).json()
    assert about["email"] == accounts[0] and 250 < int(about["expires_in"]) <= 300
    assert (
        api("POST", f"{URL}/{accounts[0]}:generateAccessToken", json={"scope": scope, "lifetime": "2h"}).status_code
        == 400
    )
    assert api("POST", f"{URL}/{accounts[0]}:generateAccessToken", json={}).status_code == 400


def test_only_with_permission_and_through_delegates(api: Api, accounts: tuple[str, str]) -> None:
    body = {"audience": "me", "includeEmail": True}
    refused = api("POST", f"{URL}/{accounts[1]}:generateIdToken", json=body)
    assert refused.status_code == 403
    assert refused.json()["error"]["details"][0]["metadata"]["permission"] == "iam.serviceAccounts.getOpenIdToken"
    body["delegates"] = [f"projects/-/serviceAccounts/{accounts[0]}"]
    token = api("POST", f"{URL}/{accounts[1]}:generateIdToken", json=body).json()["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["email"]) == ("me", accounts[1])


def test_signatures_verify_with_the_published_keys(api: Api, accounts: tuple[str, str]) -> None:
    payload = json.dumps({"iss": accounts[0], "aud": "x", "exp": int(time.time()) + 60})
    signed = api("POST", f"{URL}/{accounts[0]}:signJwt", json={"payload": payload}).json()
    keys = api("GET", f"https://www.googleapis.com/service_accounts/v1/jwk/{accounts[0]}").json()["keys"]
    key = next(jwt.PyJWK(k) for k in keys if k["kid"] == signed["keyId"])
    assert jwt.decode(signed["signedJwt"], key, audience="x")["iss"] == accounts[0]
    far = json.dumps({"exp": int(time.time()) + 13 * 3600})
    assert api("POST", f"{URL}/{accounts[0]}:signJwt", json={"payload": far}).status_code == 400
    blob = api("POST", f"{URL}/{accounts[0]}:signBlob", json={"payload": base64.b64encode(b"hi").decode()}).json()
    assert len(base64.b64decode(blob["signedBlob"])) == 256
