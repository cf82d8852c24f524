"""Secrets, their versions and who reads them."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
import requests

Api = Callable[..., requests.Response]
V1 = "https://secretmanager.googleapis.com/v1"


@pytest.fixture(scope="module", autouse=True)
def enabled(enable: Callable[..., None], project: str) -> None:
    enable(project, "secretmanager.googleapis.com")


@pytest.fixture
def secret(api: Api, project: str) -> Iterator[str]:
    """URL of a new secret."""
    ident = f"s-{secrets.token_hex(4)}"
    body = {"replication": {"automatic": {}}, "labels": {"a": "b"}}
    answer = api("POST", f"{V1}/projects/{project}/secrets", params={"secretId": ident}, json=body)
    assert answer.status_code == 200, answer.text
    url = f"{V1}/projects/{project}/secrets/{ident}"
    yield url
    api("DELETE", url)


def add(api: Api, secret: str, text: bytes) -> str:
    """URL of a new version."""
    answer = api("POST", f"{secret}:addVersion", json={"payload": {"data": base64.b64encode(text).decode()}})
    return f"{V1}/{answer.json()['name']}"


def test_versions_live_and_die(api: Api, secret: str) -> None:
    missing = api("GET", f"{secret}/versions/latest:access").json()["error"]
    assert missing["code"] == 404 and missing["message"].endswith("not found or has no versions.")
    first, second = add(api, secret, b"one"), add(api, secret, b"two")
    assert base64.b64decode(api("GET", f"{secret}/versions/latest:access").json()["payload"]["data"]) == b"two"
    assert api("POST", f"{second}:disable").json()["state"] == "DISABLED"
    refused = api("GET", f"{secret}/versions/latest:access").json()["error"]
    assert refused["status"] == "FAILED_PRECONDITION" and refused["message"].endswith("is in DISABLED state.")
    assert api("POST", f"{second}:enable").json()["state"] == "ENABLED"
    destroyed = api("POST", f"{first}:destroy").json()
    assert destroyed["state"] == "DESTROYED" and "destroyTime" in destroyed
    assert api("POST", f"{first}:enable").json()["error"]["message"].endswith("is in DESTROYED state.")
    listed = api("GET", f"{secret}/versions").json()
    assert [v["state"] for v in listed["versions"]] == ["ENABLED", "DESTROYED"] and listed["totalSize"] == 2
    only = api("GET", f"{secret}/versions", params={"filter": "state:ENABLED"}).json()["versions"]
    assert len(only) == 1
    assert api("GET", f"{secret}/versions/9").json()["error"]["message"].endswith("/versions/9] not found.")


def test_update_needs_the_newest_etag_and_a_mask(api: Api, secret: str) -> None:
    old = api("GET", secret).json()
    new = api("PATCH", secret, params={"updateMask": "labels"}, json={"labels": {"x": "y"}, "etag": old["etag"]}).json()
    assert new["labels"] == {"x": "y"} and new["etag"] != old["etag"]
    stale = api("PATCH", secret, params={"updateMask": "labels"}, json={"labels": {}, "etag": old["etag"]})
    assert stale.json()["error"]["status"] == "FAILED_PRECONDITION"
    assert api("PATCH", secret, json={"labels": {}}).status_code == 400
    place = {"replication": {"userManaged": {"replicas": [{"location": "us-central1"}]}}}
    assert api("PATCH", secret, params={"updateMask": "replication"}, json=place).status_code == 400


def test_aliases_annotations_and_expiry(api: Api, secret: str) -> None:
    version = add(api, secret, b"one")
    number = version.rpartition("/")[2]
    body = {"versionAliases": {"prod": number}, "annotations": {"k": "V"}, "ttl": "3600s"}
    answer = api("PATCH", secret, params={"updateMask": "versionAliases,annotations,ttl"}, json=body).json()
    assert answer["versionAliases"] == {"prod": number} and "expireTime" in answer
    assert api("GET", f"{secret}/versions/prod:access").status_code == 200
    wrong = {"versionAliases": {"prod": "7"}}
    assert api("PATCH", secret, params={"updateMask": "versionAliases"}, json=wrong).status_code == 400


def test_rotation_by_parts_and_durations(api: Api, project: str, secret: str) -> None:
    def patch(mask: str, **body: Any) -> requests.Response:
        return api("PATCH", secret, params={"updateMask": mask}, json=body)

    rotation = {"nextRotationTime": "2090-01-01T00:00:00Z", "rotationPeriod": "7200s"}
    assert patch("rotation", rotation=rotation).status_code == 400  # no topic
    topics = [{"name": f"projects/{project}/topics/t"}]
    assert patch("rotation,topics", rotation=rotation, topics=topics).json()["rotation"] == rotation
    new = {"nextRotationTime": "2091-01-01T00:00:00Z"}
    assert patch("rotation.nextRotationTime", rotation=new).json()["rotation"] == rotation | new
    assert patch("rotation.rotation_period").json()["rotation"] == new
    assert "rotation" not in patch("rotation,topics").json()
    assert patch("rotation,topics", rotation=rotation | {"rotationPeriod": "60s"}, topics=topics).status_code == 400
    assert patch("versionDestroyTtl", versionDestroyTtl="3600s").status_code == 400
    both = patch("ttl,expireTime", ttl="60s", expireTime="2090-01-01T00:00:00Z").json()["error"]["message"]
    assert "oneof field 'expiration' is already set" in both


def test_names_and_payloads_are_checked(api: Api, project: str, secret: str) -> None:
    ident = secret.rpartition("/")[2]
    body = {"replication": {"automatic": {}}}
    again = api("POST", f"{V1}/projects/{project}/secrets", params={"secretId": ident}, json=body)
    assert again.status_code == 409 and again.json()["error"]["message"].endswith("already exists.")
    assert api("POST", f"{V1}/projects/{project}/secrets", params={"secretId": "a b"}, json=body).status_code == 400
    assert api("POST", f"{V1}/projects/{project}/secrets", params={"secretId": "none"}, json={}).status_code == 400
    assert api("POST", f"{secret}:addVersion", json={"payload": {"data": ""}}).status_code == 400
    large = base64.b64encode(b"x" * 65537).decode()
    assert api("POST", f"{secret}:addVersion", json={"payload": {"data": large}}).status_code == 400
    wrong = {"payload": {"data": "aGk=", "dataCrc32c": "1"}}
    assert api("POST", f"{secret}:addVersion", json=wrong).status_code == 400


def test_reader_needs_the_accessor_role(api: Api, secret: str) -> None:
    add(api, secret, b"one")
    reader, url = "reader@example.com", f"{secret}/versions/latest:access"
    refused = api("GET", url, as_=reader).json()["error"]
    assert refused["code"] == 403 and "'secretmanager.versions.access' denied" in refused["message"]
    binding = {"role": "roles/secretmanager.secretAccessor", "members": [f"user:{reader}"]}
    answer = api("POST", f"{secret}:setIamPolicy", json={"policy": {"bindings": [binding]}})
    assert answer.json()["bindings"] == [binding]
    assert api("GET", url, as_=reader).status_code == 200
    assert api("GET", secret, as_=reader).status_code == 403
    wrong = {"policy": {"bindings": [{"role": "roles/storage.admin", "members": [f"user:{reader}"]}]}}
    assert api("POST", f"{secret}:setIamPolicy", json=wrong).status_code == 400


def test_secret_of_one_region(api: Api, project: str, sandbox: Any) -> None:
    place = f"projects/{project}/locations/europe-west1"
    url = f"https://secretmanager.europe-west1.rep.googleapis.com/v1/{place}/secrets"
    assert (
        api("GET", f"{url}/near")
        .json()["error"]["message"]
        .endswith("/locations/europe-west1/secrets/near] not found.")
    )
    automatic = {"replication": {"automatic": {}}}
    assert api("POST", url, params={"secretId": "near"}, json=automatic).status_code == 400
    made = api("POST", url, params={"secretId": "near"}, json={"annotations": {"a": "b"}}).json()
    assert "/locations/europe-west1/secrets/near" in made["name"] and "replication" not in made
    version = add(api, f"{url}/near", b"one")
    assert "replicationStatus" not in api("GET", version).json()
    assert base64.b64decode(api("GET", f"{version}:access").json()["payload"]["data"]) == b"one"
    assert api("GET", f"{url}/near:getIamPolicy").json() == {"etag": "ACAB"}
    everywhere = api("GET", f"{V1}/projects/{project}/secrets").json().get("secrets", [])
    assert made["name"] not in [s["name"] for s in everywhere]
    assert [s["name"] for s in api("GET", url).json()["secrets"]] == [made["name"]]
    key, when = json.loads((sandbox.state / "deployer.json").read_text()), int(time.time())
    claims = {
        "iss": key["client_email"],
        "sub": key["client_email"],
        "iat": when,
        "exp": when + 600,
        "aud": "https://secretmanager.googleapis.com/",
    }
    token = jwt.encode(claims, key["private_key"], algorithm="RS256", headers={"kid": key["private_key_id"]})
    assert (
        api("GET", url, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    )  # as Google's libraries sign
    assert api("DELETE", f"{url}/near").json() == {}
    assert api("GET", url.replace("europe-west1.rep", "nowhere1.rep")).status_code == 404


def test_keys_of_cloud_kms(api: Api, project: str, kms_key: Callable[..., str]) -> None:
    def create(ident: str, replication: dict[str, Any]) -> requests.Response:
        return api(
            "POST", f"{V1}/projects/{project}/secrets", params={"secretId": ident}, json={"replication": replication}
        )

    def key(place: str) -> dict[str, Any]:
        name = kms_key(project, place, "secretmanager")
        return {"customerManagedEncryption": {"kmsKeyName": name}}

    made = create("locked", {"userManaged": {"replicas": [{"location": "us-east1"} | key("us-east1")]}})
    assert made.status_code == 200
    url = f"{V1}/projects/{project}/secrets/locked"
    replica = api("GET", add(api, url, b"x")).json()["replicationStatus"]["userManaged"]["replicas"][0]
    assert replica["customerManagedEncryption"]["kmsKeyVersionName"].endswith("/cryptoKeys/k/cryptoKeyVersions/1")
    api("DELETE", url)
    one, other = {"location": "us-east1"} | key("us-east1"), {"location": "us-west1"}
    for wrong in (
        {"automatic": key("us-east1")},
        {"userManaged": {"replicas": [other | key("us-east1")]}},
        {"userManaged": {"replicas": [one, other]}},
        {"automatic": {"customerManagedEncryption": {"kmsKeyName": "k"}}},
    ):
        assert create("locked", wrong).json()["error"]["status"] == "INVALID_ARGUMENT"


def test_locations_have_names(api: Api, project: str) -> None:
    url = f"{V1}/projects/{project}/locations"
    one = api("GET", f"{url}/europe-west2").json()
    assert (one["displayName"], one["locationId"]) == ("London", "europe-west2")
    assert one in api("GET", url).json()["locations"]
    assert api("GET", f"{url}/nowhere1").status_code == 404


def test_numbers_for_enums(api: Api, secret: str) -> None:
    version = add(api, secret, b"one")
    assert api("GET", version, params={"$alt": "json;enum-encoding=int"}).json()["state"] == 1
