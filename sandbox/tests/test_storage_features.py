"""Cloud Storage features other than objects: settings of buckets, soft delete, access control lists, errors."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

HOST = "https://storage.googleapis.com"
JSON = f"{HOST}/storage/v1"
UNIFORM = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}
FINE = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": False}}}
NOBODY = {"Authorization": None}
Api = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def make(api: Api, project: str, enable: Callable[..., None]) -> Callable[..., str]:
    """``make(**fields)``: name of a new bucket."""
    enable(project, "iam.googleapis.com")

    def call(**fields: Any) -> str:
        name = f"f-{secrets.token_hex(6)}"
        answer = api(
            "POST", f"{JSON}/b?project={project}", json={"name": name, "location": "europe-west2"} | UNIFORM | fields
        )
        assert answer.status_code == 200, answer.text
        return name

    return call


@pytest.fixture(scope="module")
def put(api: Api) -> Callable[..., dict[str, Any]]:
    """``put(bucket, name, data, **query)``: record of a new object."""

    def call(bucket: str, name: str, data: bytes = b"x", **query: Any) -> dict[str, Any]:
        url = f"{HOST}/upload/storage/v1/b/{bucket}/o"
        answer = api("POST", url, params={"uploadType": "media", "name": name} | query, data=data)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return call


def refused(answer: requests.Response, code: int, reason: str) -> str:
    error = answer.json()["error"]
    assert (answer.status_code, error["errors"][0]["reason"]) == (code, reason), answer.text
    return error["message"]


# -- settings of buckets ---------------------------------------------------


def test_autoclass_begins_with_standard(api, make, put):
    name = make(storageClass="NEARLINE", autoclass={"enabled": True})
    doc = api("GET", f"{JSON}/b/{name}").json()
    assert (doc["storageClass"], doc["autoclass"]["terminalStorageClass"]) == ("STANDARD", "NEARLINE")
    assert put(name, "o")["storageClass"] == "STANDARD"
    changed = api(
        "PATCH", f"{JSON}/b/{name}", json={"autoclass": {"enabled": True, "terminalStorageClass": "ARCHIVE"}}
    ).json()
    assert changed["autoclass"]["terminalStorageClass"] == "ARCHIVE"
    assert changed["autoclass"]["toggleTime"] == doc["autoclass"]["toggleTime"]


def test_an_empty_patch_changes_nothing(api, make):
    name = make()
    doc = api("PATCH", f"{JSON}/b/{name}", json={}).json()
    assert (doc["metageneration"], doc["etag"]) == ("1", "CAE=")
    assert api("PATCH", f"{JSON}/b/{name}", json={"labels": {"a": "b"}}).json()["etag"] == "CAI="


def test_a_locked_retention_policy_stays(api, make):
    name = make(retentionPolicy={"retentionPeriod": "60"})
    locked = api("POST", f"{JSON}/b/{name}/lockRetentionPolicy?ifMetagenerationMatch=1").json()
    assert locked["retentionPolicy"]["isLocked"] is True
    for policy in (None, {"retentionPeriod": "30"}):
        message = refused(api("PATCH", f"{JSON}/b/{name}", json={"retentionPolicy": policy}), 403, "forbidden")
        assert message.startswith("Cannot reduce the retention duration of a locked Retention Policy")
    assert api("PATCH", f"{JSON}/b/{name}", json={"retentionPolicy": {"retentionPeriod": "90"}}).status_code == 200


def test_settings_with_defaults(api, make, put, project, kms_key):
    key = kms_key(project, "europe-west2", "storage")
    name = make(logging={"logBucket": "logs"}, encryption={"defaultKmsKeyName": key})
    doc = api("GET", f"{JSON}/b/{name}").json()
    assert doc["logging"] == {"logBucket": "logs", "logObjectPrefix": name}
    assert put(name, "o")["kmsKeyName"] == f"{key}/cryptoKeyVersions/1"
    retained = f"f-{secrets.token_hex(6)}"
    made = api("POST", f"{JSON}/b?project={project}&enableObjectRetention=true", json={"name": retained}).json()
    assert made["objectRetention"] == {"mode": "Enabled"}


# -- soft delete -----------------------------------------------------------


def test_a_pause_of_hard_deletes_is_kept(api, make):
    name = make()
    pause = {"hardDeletePause": {"enabled": True}}
    assert (
        api("PATCH", f"{JSON}/b/{name}", json={"softDeletePolicy": pause}).json()["softDeletePolicy"].items()
        >= pause.items()
    )
    policy = {"retentionDurationSeconds": "864000"}
    changed = api("PATCH", f"{JSON}/b/{name}", json={"softDeletePolicy": policy}).json()["softDeletePolicy"]
    assert changed.items() >= (pause | policy).items()


def test_a_deleted_bucket_is_restored(api, make, put, project):
    name = make()
    put(name, "o", b"kept")
    policy = api("GET", f"{JSON}/b/{name}/iam").json()
    policy["bindings"].append({"role": "roles/storage.objectViewer", "members": ["user:jane@example.com"]})
    api("PUT", f"{JSON}/b/{name}/iam", json=policy)
    api("DELETE", f"{JSON}/b/{name}/o/o")
    generation = api("GET", f"{JSON}/b/{name}").json()["generation"]
    assert api("DELETE", f"{JSON}/b/{name}").status_code == 204
    refused(api("GET", f"{JSON}/b/{name}"), 404, "notFound")
    assert name not in [b["name"] for b in api("GET", f"{JSON}/b?project={project}").json().get("items", [])]
    gone = api("GET", f"{JSON}/b?project={project}&softDeleted=true&prefix={name}").json()["items"]
    assert gone[0]["generation"] == generation and gone[0]["hardDeleteTime"] > gone[0]["softDeleteTime"]
    assert api("GET", f"{JSON}/b/{name}?softDeleted=true&generation={generation}").json()["softDeleteTime"]
    refused(api("POST", f"{JSON}/b/{name}/restore?generation=1"), 404, "notFound")
    refused(api("POST", f"{JSON}/b/{name}/restore?generation={generation}", as_="jane@example.com"), 403, "forbidden")
    api("POST", f"{JSON}/b?project={project}", json={"name": name, "softDeletePolicy": {"retentionDurationSeconds": 0}})
    refused(api("POST", f"{JSON}/b/{name}/restore?generation={generation}"), 409, "conflict")
    api("DELETE", f"{JSON}/b/{name}")  # this one is not kept
    restored = api("POST", f"{JSON}/b/{name}/restore?generation={generation}").json()
    assert restored["generation"] == generation and "softDeleteTime" not in restored
    assert "items" not in api("GET", f"{JSON}/b?project={project}&softDeleted=true&prefix={name}").json()
    assert "user:jane@example.com" in str(api("GET", f"{JSON}/b/{name}/iam").json())
    assert "items" not in api("GET", f"{JSON}/b/{name}/o").json()
    operation = api("POST", f"{JSON}/b/{name}/o/bulkRestore", json={"matchGlobs": ["o*"]}).json()
    assert operation["kind"] == "storage#operation"
    assert api("GET", f"{JSON}/b/{name}/operations/{operation['name'].rpartition('/')[2]}").json()["done"] is True
    assert api("GET", f"{JSON}/b/{name}/o/o?alt=media").content == b"kept"


# -- lists and policies of objects -----------------------------------------


def test_lists_of_objects(api, make, put):
    name = make(**FINE)
    put(name, "o")
    url = f"{JSON}/b/{name}/o/o/acl"
    refused(api("GET", f"{JSON}/b/{name}/o/o", as_="jane@example.com"), 403, "forbidden")
    entry = api("POST", url, json={"entity": "user-jane@example.com", "role": "READER"}).json()
    assert (entry["email"], entry["object"]) == ("jane@example.com", "o")
    assert entry["selfLink"].endswith(f"/b/{name}/o/o/acl/user-jane@example.com")
    assert api("GET", f"{JSON}/b/{name}/o/o", as_="jane@example.com").json()["metageneration"] == "2"
    refused(api("GET", url, as_="jane@example.com"), 403, "forbidden")
    assert api("PATCH", f"{url}/user-jane@example.com", json={"role": "OWNER"}).json()["role"] == "OWNER"
    assert "user-jane@example.com" in [e["entity"] for e in api("GET", url, as_="jane@example.com").json()["items"]]
    assert api("DELETE", f"{url}/user-jane@example.com").status_code == 204
    assert refused(api("GET", f"{url}/user-jane@example.com"), 404, "notFound") == "The specified key does not exist."
    refused(api("GET", f"{JSON}/b/{name}/acl/allUsers"), 404, "notFound")
    policy = api("GET", f"{JSON}/b/{name}/o/o/iam").json()
    assert "roles/storage.legacyObjectOwner" in [b["role"] for b in policy["bindings"]]
    policy["bindings"].append({"role": "roles/storage.legacyObjectReader", "members": ["allUsers"]})
    assert api("PUT", f"{JSON}/b/{name}/o/o/iam", json=policy).status_code == 200
    assert api("GET", f"{HOST}/{name}/o", headers=NOBODY).status_code == 200
    refused(api("PUT", f"{JSON}/b/{name}/o/o/iam", json=policy), 412, "conditionNotMet")
    assert api("PATCH", f"{JSON}/b/{name}/o/o?predefinedAcl=private", json={}).status_code == 200
    assert api("GET", f"{HOST}/{name}/o", headers=NOBODY).status_code == 403
    refused(api("GET", f"{JSON}/b/{make()}/o/o/acl"), 400, "invalid")


def test_objects_from_times_of_uniform_access_have_the_default_list(api, make, put):
    name = make()
    put(name, "o")
    api("PATCH", f"{JSON}/b/{name}", json=FINE)
    assert [e["role"] for e in api("GET", f"{JSON}/b/{name}/o/o?projection=full").json()["acl"]] == [
        "OWNER",
        "OWNER",
        "READER",
    ]
    refused(api("GET", f"{JSON}/b/{name}/o/none"), 404, "notFound")


def test_an_etag_may_be_written_as_in_urls(api, make):
    name = make()
    policy = api("GET", f"{JSON}/b/{name}/iam").json()
    assert re.fullmatch(r"CA[A-Z]=", policy["etag"])
    policy["etag"] = policy["etag"].replace("+", "-").replace("/", "_")
    assert api("PUT", f"{JSON}/b/{name}/iam", json=policy).status_code == 200


# -- the XML API -----------------------------------------------------------


def test_several_objects_are_deleted_at_once(api, make, put):
    name = make()
    put(name, "a b")
    body = "<Delete><Object><Key>a b</Key></Object><Object><Key>none</Key></Object></Delete>"
    answer = api("POST", f"{HOST}/{name}?delete", data=body)
    assert re.findall("<Key>(.*?)</Key>", answer.text) == ["a b", "none"]


def test_buckets_of_a_project_in_xml(api, make, project):
    name = make()
    assert f"<Name>{name}</Name>" in api("GET", f"{HOST}/", headers={"x-goog-project-id": project}).text


def test_unsupported_features_are_rejected(api, make, put, project):
    name = make()
    url = f"{JSON}/b/{name}"
    for flag in ({"billing": {"requesterPays": True}}, {"hierarchicalNamespace": {"enabled": True}}):
        refused(api("PATCH", url, json=flag), 501, "notImplemented")
    key = {"x-goog-encryption-algorithm": "AES256"}
    upload = f"{HOST}/upload/storage/v1/b/{name}/o?uploadType=media&name=o"
    refused(api("POST", upload, headers=key, data=b"x"), 501, "notImplemented")
    form = {"files": {"file": ("name", b"x")}, "data": {"key": "o"}, "headers": NOBODY}
    by_hmac = {"headers": {"Authorization": "AWS4-HMAC-SHA256 Credential=GOOG1E/20260101/auto/s3/aws4_request"}}
    assert [
        api("PUT", f"{HOST}/{name}/o", headers=key, data=b"x").status_code,
        api("POST", f"{HOST}/{name}", **form).status_code,
        api("GET", f"{HOST}/{name}/o", **by_hmac).status_code,
        api("GET", f"{HOST}/{name}/o?X-Amz-Algorithm=AWS4-HMAC-SHA256", headers=NOBODY).status_code,
    ] == [501] * 4
    assert "items" not in api("GET", f"{url}/o").json()


# -- retention of single objects -------------------------------------------


def test_retention_of_an_object(api, make, put, project):
    name = f"f-{secrets.token_hex(6)}"
    api("POST", f"{JSON}/b?project={project}&enableObjectRetention=true", json={"name": name} | UNIFORM)
    policy = api("GET", f"{JSON}/b/{name}/iam").json()
    deployer = policy["bindings"][0]["members"]
    policy["bindings"].append({"role": "roles/storage.admin", "members": deployer})
    assert api("PUT", f"{JSON}/b/{name}/iam", json=policy).status_code == 200
    put(name, "o")
    url = f"{JSON}/b/{name}/o/o"
    late, later = ({"mode": "Unlocked", "retainUntilTime": f"2{year}-01-01T00:00:00Z"} for year in ("098", "099"))
    assert api("PATCH", url, json={"retention": late}).json()["retentionExpirationTime"] == "2098-01-01T00:00:00.000Z"
    refused(api("DELETE", url), 403, "retentionPolicyNotMet")
    assert api("PATCH", url, json={"retention": later}).status_code == 200
    refused(api("PATCH", url, json={"retention": late}), 403, "forbidden")
    assert api("PATCH", f"{url}?overrideUnlockedRetention=true", json={"retention": None}).status_code == 200
    assert api("PATCH", url, json={"retention": late | {"mode": "Locked"}}).status_code == 200
    refused(api("PATCH", f"{url}?overrideUnlockedRetention=true", json={"retention": None}), 403, "forbidden")
    other = make(retentionPolicy={"retentionPeriod": "60"})
    assert put(other, "o")["retentionExpirationTime"] > datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    refused(api("PATCH", f"{JSON}/b/{other}/o/o", json={"retention": late}), 400, "invalid")
    assert api("PUT", f"{JSON}/b/{other}/o/o", json={"contentType": "a/b"}).json()["contentType"] == "a/b"
