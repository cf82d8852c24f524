"""Cloud Storage beyond objects: settings of buckets, soft delete, folders, notifications, lists, HMAC keys and who pays."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

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


def test_settings_with_defaults(api, make, put, project):
    key = f"projects/{project}/locations/europe-west2/keyRings/r/cryptoKeys/k"
    name = make(logging={"logBucket": "logs"}, encryption={"defaultKmsKeyName": key})
    doc = api("GET", f"{JSON}/b/{name}").json()
    assert doc["logging"] == {"logBucket": "logs", "logObjectPrefix": name}
    assert put(name, "o")["kmsKeyName"] == f"{key}/cryptoKeyVersions/1"
    retained = f"f-{secrets.token_hex(6)}"
    made = api("POST", f"{JSON}/b?project={project}&enableObjectRetention=true", json={"name": retained}).json()
    assert made["objectRetention"] == {"mode": "Enabled"}


def test_requester_pays(api, make, put, project):
    name = make(billing={"requesterPays": True})
    put(name, "o")
    policy = api("GET", f"{JSON}/b/{name}/iam").json()
    policy["bindings"].append({"role": "roles/storage.objectViewer", "members": ["user:reader@example.com"]})
    assert api("PUT", f"{JSON}/b/{name}/iam", json=policy).status_code == 200
    url = f"{JSON}/b/{name}/o/o"
    message = refused(api("GET", url, as_="reader@example.com"), 400, "required")
    assert message == "Bucket is a requester pays bucket but no user project provided."
    refused(api("GET", f"{url}?userProject={project}", as_="reader@example.com"), 403, "forbidden")
    answer = api("GET", f"{HOST}/{name}/o", as_="reader@example.com")
    assert (answer.status_code, re.search("<Code>(.*?)<", answer.text)[1]) == (400, "UserProjectMissing")
    assert api("GET", f"{url}?userProject={project}").status_code == 200


# -- soft delete -----------------------------------------------------------


def test_a_deleted_bucket_comes_back(api, make, put, project):
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


# -- folders ---------------------------------------------------------------


def test_folders(api, make, put):
    name = make(hierarchicalNamespace={"enabled": True})
    url = f"{JSON}/b/{name}/folders"
    refused(api("POST", f"{JSON}/b/{make()}/folders", json={"name": "a"}), 409, "conflict")
    refused(api("POST", url, json={"name": "a/b"}), 409, "conflict")  # its parent is not there
    made = api("POST", f"{url}?recursive=true", json={"name": "a/b"}).json()
    assert (made["name"], made["id"], made["metageneration"]) == ("a/b/", f"{name}/a/b/", "1")
    assert api("GET", f"{url}/a%2Fb").json() == made == api("GET", f"{url}/a%2Fb%2F").json()
    put(name, "a/c/o", b"moved")  # makes its folder
    assert [f["name"] for f in api("GET", url).json()["items"]] == ["a/", "a/b/", "a/c/"]
    listed = api("GET", f"{JSON}/b/{name}/o?delimiter=/&prefix=a/").json()
    assert listed["prefixes"] == ["a/c/"]
    with_empty = api("GET", f"{JSON}/b/{name}/o?delimiter=/&prefix=a/&includeFoldersAsPrefixes=true").json()
    assert with_empty["prefixes"] == ["a/b/", "a/c/"]
    message = refused(api("DELETE", f"{url}/a%2Fc"), 409, "conflict")
    assert message == "The folder you tried to delete is not empty."
    renamed = api("POST", f"{url}/a%2Fc/renameTo/folders/d").json()
    assert renamed["metadata"]["@type"].endswith("RenameFolderMetadata")
    assert api("GET", f"{JSON}/b/{name}/o/d%2Fo?alt=media").content == b"moved"
    refused(api("GET", f"{url}/a%2Fc"), 404, "notFound")
    refused(api("DELETE", f"{JSON}/b/{name}"), 409, "conflict")
    assert api("POST", f"{url}/d/deleteRecursive").status_code == 200
    assert [api("DELETE", f"{url}/{folder}").status_code for folder in ("a%2Fb", "a")] == [204, 204]
    assert api("DELETE", f"{JSON}/b/{name}").status_code == 204


def test_a_managed_folder_has_its_own_policy(api, make, put):
    name = make()
    url = f"{JSON}/b/{name}/managedFolders"
    made = api("POST", url, json={"name": "team"}).json()
    assert made["selfLink"].endswith("/managedFolders/team%2F") and api("GET", f"{url}/team").json() == made
    put(name, "team/o")
    put(name, "other")
    bindings = [{"role": "roles/storage.objectViewer", "members": ["user:zoe@example.com"]}]
    assert (
        api("PUT", f"{url}/team/iam", json={"bindings": bindings})
        .json()["resourceId"]
        .endswith("/managedFolders/team/")
    )
    assert api("GET", f"{JSON}/b/{name}/o/team%2Fo?alt=media", as_="zoe@example.com").status_code == 200
    assert "items" in api("GET", f"{JSON}/b/{name}/o?prefix=team/", as_="zoe@example.com").json()
    refused(api("GET", f"{JSON}/b/{name}/o/other", as_="zoe@example.com"), 403, "forbidden")
    refused(api("GET", f"{JSON}/b/{name}/o", as_="zoe@example.com"), 403, "forbidden")
    refused(api("DELETE", f"{url}/team"), 409, "conflict")
    api("DELETE", f"{JSON}/b/{name}/o/team%2Fo")
    api("DELETE", f"{JSON}/b/{name}/o/other")
    refused(api("DELETE", f"{JSON}/b/{name}"), 409, "conflict")  # a managed folder is something, too
    assert api("DELETE", f"{url}/team%2F").status_code == 204
    assert api("GET", url).json() == {"kind": "storage#managedFolders"}
    assert api("DELETE", f"{JSON}/b/{name}").status_code == 204


# -- notifications ---------------------------------------------------------


def test_notifications(api, make, project):
    url = f"{JSON}/b/{make()}/notificationConfigs"
    assert api("GET", url).json() == {"kind": "storage#notifications"}
    body = {
        "topic": f"projects/{project}/topics/topic",
        "payload_format": "JSON_API_V1",
        "event_types": ["OBJECT_FINALIZE"],
        "custom_attributes": {"a": "b"},
        "object_name_prefix": "p-",
    }
    made = api("POST", url, json=body).json()
    assert made["id"] == "1" and made["selfLink"].endswith("/notificationConfigs/1")
    assert made["topic"] == f"//pubsub.googleapis.com/projects/{project}/topics/topic"
    assert made.items() >= {k: v for k, v in body.items() if k != "topic"}.items()
    for wrong in ({"topic": "topic"}, {"payload_format": "XML"}, {"event_types": ["OBJECT_READ"]}):
        refused(api("POST", url, json=body | wrong), 400, "invalid")
    assert api("POST", url, json=body).json()["id"] == "2"
    assert api("DELETE", f"{url}/1").status_code == 204
    assert [n["id"] for n in api("GET", url).json()["items"]] == ["2"]
    refused(api("GET", f"{url}/1"), 404, "notFound")


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


# -- HMAC keys -------------------------------------------------------------


@pytest.fixture(scope="module")
def key(api: Api, project: str, make: Callable[..., str]) -> dict[str, Any]:
    """A new HMAC key of a new account, whose metadata are at ``url``."""
    accounts = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"
    email = api("POST", accounts, json={"accountId": "hmac-signer"}).json()["email"]
    made = api("POST", f"{JSON}/projects/{project}/hmacKeys?serviceAccountEmail={email}").json()
    assert (made["kind"], made["metadata"]["state"], len(made["secret"])) == ("storage#hmacKey", "ACTIVE", 40)
    return made | {"email": email, "url": f"{JSON}/projects/{project}/hmacKeys/{made['metadata']['accessId']}"}


def aws(key: dict[str, Any], method: str, path: str, *, data: bytes = b"", query: bool = False) -> dict[str, Any]:
    """Arguments of a request signed as clients do that speak S3: by its headers, or by its query."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/auto/s3/aws4_request"
    headers = {"host": "storage.googleapis.com"}
    params: dict[str, str] = {}
    credential = f"{key['metadata']['accessId']}/{scope}"
    if query:
        params = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": credential,
            "X-Amz-Date": stamp,
            "X-Amz-Expires": "60",
            "X-Amz-SignedHeaders": "host",
        }
    else:
        headers |= {"x-amz-content-sha256": hashlib.sha256(data).hexdigest(), "x-amz-date": stamp}
    text = "&".join(f"{k}={quote(v, safe='')}" for k, v in sorted(params.items()))
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"{method}\n{path}\n{text}\n{lines}\n{names}\n{headers.get('x-amz-content-sha256', 'UNSIGNED-PAYLOAD')}"
    secret = b"AWS4" + key["secret"].encode()
    for part in (stamp[:8], "auto", "s3", "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(secret, to_sign.encode(), "sha256").hex()
    del headers["host"]
    if query:
        return {"url": f"{HOST}{path}?{text}&X-Amz-Signature={signature}", "headers": NOBODY}
    header = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return {"url": f"{HOST}{path}", "headers": headers | {"Authorization": header}, "data": data}


def test_requests_signed_by_an_hmac_key(api, make, put, key):
    name = make()
    policy = api("GET", f"{JSON}/b/{name}/iam").json()
    policy["bindings"].append({"role": "roles/storage.objectUser", "members": [f"serviceAccount:{key['email']}"]})
    api("PUT", f"{JSON}/b/{name}/iam", json=policy)
    assert api("PUT", **aws(key, "PUT", f"/{name}/a%20b", data=b"by HMAC")).status_code == 200
    assert api("GET", **aws(key, "GET", f"/{name}/a%20b", query=True)).content == b"by HMAC"
    assert "<Key>a b</Key>" in api("GET", **aws(key, "GET", f"/{name}")).text
    wrong = api("GET", **aws(key | {"secret": "x" * 40}, "GET", f"/{name}/a%20b"))
    assert (wrong.status_code, re.search("<Code>(.*?)<", wrong.text)[1]) == (403, "SignatureDoesNotMatch")
    assert api("GET", **aws(key, "GET", f"/{make()}")).status_code == 403  # the account may not
    body = "<Delete><Object><Key>a b</Key></Object><Object><Key>none</Key></Object></Delete>"
    answer = api("POST", f"{HOST}/{name}?delete", data=body)
    assert re.findall("<Key>(.*?)</Key>", answer.text) == ["a b", "none"]
    api("PUT", key["url"], json={"state": "INACTIVE"})
    unknown = api("GET", **aws(key, "GET", f"/{name}"))
    assert (unknown.status_code, re.search("<Code>(.*?)<", unknown.text)[1]) == (403, "InvalidAccessKeyId")
    api("PUT", key["url"], json={"state": "ACTIVE"})


def test_buckets_of_a_project_in_xml(api, make, project):
    name = make()
    assert f"<Name>{name}</Name>" in api("GET", f"{HOST}/", headers={"x-goog-project-id": project}).text


def test_hmac_keys(api, project, key):
    url = f"{JSON}/projects/{project}/hmacKeys"
    mine = api("GET", f"{url}?serviceAccountEmail={key['email']}").json()["items"]
    assert [k["accessId"] for k in mine] == [key["metadata"]["accessId"]] and "secret" not in mine[0]
    refused(api("POST", f"{url}?serviceAccountEmail=nobody@{project}.iam.gserviceaccount.com"), 404, "notFound")
    refused(api("GET", url, as_="jane@example.com"), 403, "forbidden")
    refused(api("DELETE", key["url"]), 400, "invalid")  # it is active
    refused(api("PUT", key["url"], json={"state": "INACTIVE", "etag": "stale"}), 412, "conditionNotMet")
    assert api("PUT", key["url"], json={"state": "INACTIVE"}).json()["state"] == "INACTIVE"
    assert api("DELETE", key["url"]).status_code == 204
    assert "items" not in api("GET", url).json()
    assert [k["state"] for k in api("GET", f"{url}?showDeletedKeys=true").json()["items"]] == ["DELETED"]
    refused(api("PUT", key["url"], json={"state": "ACTIVE"}), 400, "invalid")


# -- keys of customers -----------------------------------------------------


def test_objects_under_a_key_of_the_customers_own(api, make):
    name = make()

    def key(letter: bytes, prefix: str = "x-goog-encryption") -> dict[str, str]:
        raw = letter * 32
        return {
            f"{prefix}-algorithm": "AES256",
            f"{prefix}-key": base64.b64encode(raw).decode(),
            f"{prefix}-key-sha256": base64.b64encode(hashlib.sha256(raw).digest()).decode(),
        }

    upload = f"{HOST}/upload/storage/v1/b/{name}/o?uploadType=media&name=locked"
    refused(
        api("POST", upload, headers=key(b"a") | {"x-goog-encryption-key": "short"}, data=b"x"),
        400,
        "customerEncryptionKeyFormatIsInvalid",
    )
    made = api("POST", upload, headers=key(b"a"), data=b"secret").json()
    assert made["customerEncryption"] == {
        "encryptionAlgorithm": "AES256",
        "keySha256": key(b"a")["x-goog-encryption-key-sha256"],
    }
    url = f"{JSON}/b/{name}/o/locked"
    assert "crc32c" not in api("GET", url).json() and "crc32c" in api("GET", url, headers=key(b"a")).json()
    refused(api("GET", f"{url}?alt=media"), 400, "resourceIsEncryptedWithCustomerEncryptionKey")
    refused(api("GET", f"{url}?alt=media", headers=key(b"b")), 400, "customerEncryptionKeyIsIncorrect")
    assert api("GET", f"{url}?alt=media", headers=key(b"a")).content == b"secret"
    assert api("GET", f"{HOST}/{name}/locked").status_code == 400
    rewrite = f"{url}/rewriteTo/b/{name}/o/open"
    refused(api("POST", rewrite, json={}), 400, "resourceIsEncryptedWithCustomerEncryptionKey")
    assert api("POST", rewrite, json={}, headers=key(b"a", "x-goog-copy-source-encryption")).json()["done"] is True
    assert api("GET", f"{JSON}/b/{name}/o/open?alt=media").content == b"secret"
    refused(
        api("GET", f"{JSON}/b/{name}/o/open?alt=media", headers=key(b"a")),
        400,
        "resourceNotEncryptedWithCustomerEncryptionKey",
    )


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
