"""Cloud KMS: key rings and keys, and which services may encrypt with them."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

KMS = "https://cloudkms.googleapis.com/v1"
SERVICE = {"template": {"containers": [{"image": "gcr.io/x/y"}]}}


@pytest.fixture(scope="module")
def apis(project, enable):
    services = ("cloudkms", "compute", "run", "secretmanager", "sqladmin", "storage", "artifactregistry")
    enable(project, *(f"{name}.googleapis.com" for name in services))


@pytest.fixture(scope="module")
def ring(api, project, apis):
    url = f"{KMS}/projects/{project}/locations/europe-west2/keyRings"
    made = api("POST", f"{url}?keyRingId=ring", json={})
    assert made.status_code == 200, made.text
    return f"{url}/ring"


def _error(answer: Any) -> dict[str, Any]:
    return answer.json()["error"]


def test_rings_and_keys(api, project, ring):
    path = ring.removeprefix(f"{KMS}/")
    assert api("GET", ring).json()["name"] == path
    rings = ring.rpartition("/")[0]
    error = _error(api("POST", f"{rings}?keyRingId=ring", json={}))
    assert (error["code"], error["message"]) == (409, f"KeyRing {path} already exists.")
    error = _error(api("GET", f"{ring}2"))
    assert (error["code"], error["message"]) == (404, f"KeyRing {path}2 not found.")
    nowhere = rings.replace("europe-west2", "nowhere1")
    assert (
        "The request concerns location 'nowhere1'" in _error(api("POST", f"{nowhere}?keyRingId=r", json={}))["message"]
    )
    keys = f"{ring}/cryptoKeys"
    assert _error(api("POST", f"{keys}?cryptoKeyId=k", json={}))["code"] == 400
    made = api("POST", f"{keys}?cryptoKeyId=k", json={"purpose": "ENCRYPT_DECRYPT", "labels": {"team": "ml"}}).json()
    assert made["primary"]["name"] == f"{path}/cryptoKeys/k/cryptoKeyVersions/1"
    assert (made["primary"]["state"], made["primary"]["algorithm"]) == ("ENABLED", "GOOGLE_SYMMETRIC_ENCRYPTION")
    assert [key["name"] for key in api("GET", keys).json()["cryptoKeys"]] == [made["name"]]
    assert _error(api("GET", f"{keys}/other"))["message"] == f"CryptoKey {path}/cryptoKeys/other not found."


def test_who_may_see_a_key(api, project, ring):
    key = f"{ring}/cryptoKeys/seen"
    api("POST", f"{ring}/cryptoKeys?cryptoKeyId=seen", json={"purpose": "ENCRYPT_DECRYPT"})
    error = _error(api("GET", key, as_="jane@example.com"))
    path = key.removeprefix(f"{KMS}/")
    assert (
        error["message"] == f"Permission 'cloudkms.cryptoKeys.get' denied on resource '{path}' (or it may not exist)."
    )
    binding = {"role": "roles/cloudkms.viewer", "members": ["user:jane@example.com"]}
    assert api("POST", f"{ring}:setIamPolicy", json={"policy": {"bindings": [binding]}}).status_code == 200
    assert api("GET", key, as_="jane@example.com").status_code == 200  # by the policy of the key ring
    asked = {"permissions": ["cloudkms.cryptoKeys.setIamPolicy", "cloudkms.cryptoKeyVersions.useToEncrypt"]}
    assert api("POST", f"{key}:testIamPermissions", json=asked).json() == asked
    assert api("POST", f"{key}:testIamPermissions", json=asked, as_="jane@example.com").json() == {}


def test_an_agent_needs_the_role(api, project, ring, kms_key):
    """Each service is refused the key until its agent has the role, and a key elsewhere always."""
    at = "locations/europe-west2"
    free = kms_key(project, "europe-west2")
    elsewhere = kms_key(project, "us-east1", "storage", "run", "sqladmin", "secretmanager", "artifactregistry")
    granted = kms_key(project, "europe-west2", "storage", "run", "secretmanager", "sqladmin", "artifactregistry")

    def secret(key: str) -> dict[str, Any]:
        replica = {"location": "europe-west2", "customerManagedEncryption": {"kmsKeyName": key}}
        return {"replication": {"userManaged": {"replicas": [replica]}}}

    def bucket(key: str) -> dict[str, Any]:
        name = f"b-{secrets.token_hex(6)}"
        return {"name": name, "location": "europe-west2", "encryption": {"defaultKmsKeyName": key}}

    def instance(key: str) -> dict[str, Any]:
        disk = {"diskEncryptionConfiguration": {"kmsKeyName": key}}
        settings = {"tier": "db-f1-micro", "edition": "ENTERPRISE", "ipConfiguration": {"ipv4Enabled": True}}
        body = {"name": f"i-{secrets.token_hex(4)}", "region": "europe-west2", "databaseVersion": "POSTGRES_17"}
        return body | {"settings": settings} | disk

    def service(key: str) -> dict[str, Any]:
        return {"template": {**SERVICE["template"], "encryptionKey": key}}

    def job(key: str) -> dict[str, Any]:
        return {"template": {"template": {**SERVICE["template"], "encryptionKey": key}}}

    used = f"Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied on resource '{free}' (or it may not exist)."
    storage = (
        "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been authorized "
        "to use this key."
    )
    calls = (
        (f"https://storage.googleapis.com/storage/v1/b?project={project}", bucket, storage),
        (f"https://secretmanager.googleapis.com/v1/projects/{project}/secrets?secretId=s", secret, used),
        (f"https://sqladmin.googleapis.com/v1/projects/{project}/instances", instance, used),
        (f"https://run.googleapis.com/v2/projects/{project}/{at}/services?serviceId=s", service, used),
        (f"https://run.googleapis.com/v2/projects/{project}/{at}/jobs?jobId=j", job, used),
        (
            f"https://artifactregistry.googleapis.com/v1/projects/{project}/{at}/repositories?repositoryId=r",
            lambda key: {"format": "DOCKER", "kmsKeyName": key},
            used,
        ),
    )
    for url, body, text in calls:
        error = _error(api("POST", url, json=body(free)))
        assert (error["code"], error["message"]) == (403, text), url
        assert _error(api("POST", url, json=body(elsewhere)))["code"] == 400, url
        assert _error(api("POST", url, json=body("projects/p/keys/k")))["code"] == 400, url
        if "sqladmin" not in url:  # which takes long
            made = api("POST", url, json=body(granted))
            assert made.status_code == 200, made.text


def test_a_disabled_key(api, project, kms_key):
    """What is encrypted with it can be neither written nor read until it is enabled again."""
    key = kms_key(project, "europe-west2", "storage")
    name = f"b-{secrets.token_hex(6)}"
    body = {"name": name, "location": "europe-west2", "encryption": {"defaultKmsKeyName": key}}
    made = api("POST", f"https://storage.googleapis.com/storage/v1/b?project={project}", json=body)
    assert made.status_code == 200, made.text
    upload = f"https://storage.googleapis.com/upload/storage/v1/b/{name}/o?uploadType=media&name=o"
    assert api("POST", upload, data=b"x").json()["kmsKeyName"] == f"{key}/cryptoKeyVersions/1"
    content = f"https://storage.googleapis.com/storage/v1/b/{name}/o/o?alt=media"
    version = f"{KMS}/{key}/cryptoKeyVersions/1?updateMask=state"
    for state, status in (("DISABLED", 403), ("ENABLED", 200)):
        assert api("PATCH", version, json={"state": state}).json()["state"] == state
        assert api("GET", content).status_code == status
        assert api("POST", upload, data=b"y").status_code == status


def test_a_key_of_an_instance_stays(api, project, apis, kms_key, done):
    key = kms_key(project, "europe-west2", "sqladmin")
    url = f"https://sqladmin.googleapis.com/v1/projects/{project}/instances"
    body = {
        "name": "encrypted",
        "region": "europe-west2",
        "databaseVersion": "POSTGRES_17",
        "settings": {"tier": "db-f1-micro", "edition": "ENTERPRISE"},
        "diskEncryptionConfiguration": {"kmsKeyName": key},
    }
    assert "error" not in done(api("POST", url, json=body))
    doc = api("GET", f"{url}/encrypted").json()
    assert doc["diskEncryptionConfiguration"]["kmsKeyName"] == key
    assert doc["diskEncryptionStatus"]["kmsKeyVersionName"] == f"{key}/cryptoKeyVersions/1"
    other = {"diskEncryptionConfiguration": {"kmsKeyName": f"{key}2"}}
    assert "cannot be changed" in _error(api("PATCH", f"{url}/encrypted", json=other))["message"]
    assert "error" not in done(api("PATCH", f"{url}/encrypted", json={"settings": {"userLabels": {"a": "b"}}}))
    done(api("DELETE", f"{url}/encrypted"))
