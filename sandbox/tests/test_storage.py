"""Cloud Storage: buckets, objects, all kinds of uploads, the XML API and signed URLs."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import google_crc32c
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from gcp_sandbox.services.storage import lifecycle

JSON = "https://storage.googleapis.com/storage/v1"
UPLOAD = "https://storage.googleapis.com/upload/storage/v1"
XML = "https://storage.googleapis.com"
UNIFORM = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}
NOBODY = {"Authorization": None}


@pytest.fixture(scope="module", autouse=True)
def apis(project: str, enable: Callable[..., None]) -> None:
    enable(project, "iam.googleapis.com", "iamcredentials.googleapis.com")


@pytest.fixture(scope="module")
def make(api: Callable[..., Any], project: str) -> Callable[..., str]:
    """``make(**fields)``: name of a new bucket."""

    def call(**fields: Any) -> str:
        name = f"b-{secrets.token_hex(6)}"
        answer = api(
            "POST", f"{JSON}/b?project={project}", json={"name": name, "location": "europe-west2"} | UNIFORM | fields
        )
        assert answer.status_code == 200, answer.text
        return name

    return call


@pytest.fixture(scope="module")
def bucket(make: Callable[..., str]) -> str:
    return make()


@pytest.fixture(scope="module")
def put(api: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """``put(bucket, name, data, **query)``: record of a new object."""

    def call(bucket: str, name: str, data: bytes = b"x", **query: Any) -> dict[str, Any]:
        extra = "".join(f"&{k}={v}" for k, v in query.items())
        url = f"{UPLOAD}/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}{extra}"
        answer = api("POST", url, data=data, headers={"Content-Type": "text/plain"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    return call


def refused(answer: Any, code: int, reason: str) -> str:
    error = answer.json()["error"]
    assert (answer.status_code, error["errors"][0]["reason"]) == (code, reason), answer.text
    return error["message"]


def xml_error(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, re.search("<Code>(.*?)</Code>", answer.text)[1]) == (status, code), answer.text


def crc(data: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


# -- buckets ---------------------------------------------------------------


def test_a_bucket_has_googles_defaults(api, bucket):
    doc = api("GET", f"{JSON}/b/{bucket}").json()
    expected = {"location": "EUROPE-WEST2", "locationType": "region", "storageClass": "STANDARD", "metageneration": "1"}
    assert doc.items() >= expected.items()
    assert doc["iamConfiguration"]["publicAccessPrevention"] == "inherited"
    assert doc["softDeletePolicy"]["retentionDurationSeconds"] == "604800"
    policy = api("GET", f"{JSON}/b/{bucket}/iam").json()
    assert {b["role"] for b in policy["bindings"]} == {
        f"roles/storage.legacy{role}" for role in ("BucketOwner", "BucketReader", "ObjectOwner", "ObjectReader")
    }


def test_the_name_is_the_worlds(api, bucket, project):
    body = {"name": bucket}
    own = refused(api("POST", f"{JSON}/b?project={project}", json=body), 409, "conflict")
    assert own == "Your previous request to create the named bucket succeeded and you already own it."
    other = f"other-{secrets.token_hex(4)}"
    api("POST", "https://cloudresourcemanager.googleapis.com/v1/projects", json={"projectId": other})
    taken = refused(api("POST", f"{JSON}/b?project={other}", json=body), 409, "conflict")
    assert taken.startswith("The requested bucket name is not available.")
    stranger = refused(api("GET", f"{JSON}/b/{bucket}", as_="stranger@example.com"), 403, "forbidden")
    assert stranger.startswith("stranger@example.com does not have storage.buckets.get access")
    assert (
        refused(api("GET", f"{JSON}/b/no-such-bucket-here"), 404, "notFound") == "The specified bucket does not exist."
    )


@pytest.mark.parametrize("name", ["ab", "Upper", "goog-x", "my-google-bucket", "a..b", "-a-", "192.168.0.1", "a" * 64])
def test_bad_names(api, project, name):
    assert api("POST", f"{JSON}/b?project={project}", json={"name": name}).status_code == 400


def test_bad_fields(api, project):
    for field in (
        {"location": "nowhere"},
        {"storageClass": "GOLD"},
        {"lifecycle": {"rule": [{"action": {"type": "Delete"}}]}},
        {"softDeletePolicy": {"retentionDurationSeconds": "5"}},
    ):
        refused(
            api("POST", f"{JSON}/b?project={project}", json={"name": f"bad-{secrets.token_hex(5)}"} | field),
            400,
            "invalid",
        )


def test_patch_merges_and_null_removes(api, make):
    name = make(labels={"a": "1", "b": "2"}, versioning={"enabled": True})
    rule = {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 3, "isLive": False}}]}
    doc = api("PATCH", f"{JSON}/b/{name}", json={"labels": {"a": None, "c": "3"}, "lifecycle": rule}).json()
    assert (doc["labels"], doc["lifecycle"], doc["metageneration"]) == ({"b": "2", "c": "3"}, rule, "2")
    body = {"labels": None, "lifecycle": None, "softDeletePolicy": {"retentionDurationSeconds": 0}}
    doc = api("PATCH", f"{JSON}/b/{name}", json=body).json()
    assert "labels" not in doc and "lifecycle" not in doc
    assert doc["softDeletePolicy"] == {"retentionDurationSeconds": "0"}
    refused(api("PATCH", f"{JSON}/b/{name}?ifMetagenerationMatch=1", json={"labels": {}}), 412, "conditionNotMet")
    refused(api("PATCH", f"{JSON}/b/{name}", json={"location": "US"}), 400, "invalid")


def test_a_bucket_that_holds_something_stays(api, make, put):
    name = make()
    put(name, "kept")
    refused(api("DELETE", f"{JSON}/b/{name}"), 409, "conflict")
    assert api("DELETE", f"{JSON}/b/{name}/o/kept").status_code == 204
    assert api("DELETE", f"{JSON}/b/{name}").status_code == 204


def test_policy_and_public_access(api, make, put):
    name = make()
    put(name, "open")
    media = f"{JSON}/b/{name}/o/open?alt=media"
    message = refused(api("GET", media, headers=NOBODY), 401, "required")
    assert message.startswith(
        "Anonymous caller does not have storage.objects.get access to the Google Cloud Storage object."
    )
    policy = api("GET", f"{JSON}/b/{name}/iam").json()
    policy["bindings"].append({"role": "roles/storage.objectViewer", "members": ["allUsers"]})
    assert api("PUT", f"{JSON}/b/{name}/iam", json=policy).status_code == 200
    assert api("GET", media, headers=NOBODY).content == b"x"
    assert api("GET", f"{XML}/{name}/open", headers=NOBODY).content == b"x"
    refused(api("PUT", f"{JSON}/b/{name}/iam", json=policy), 412, "conditionNotMet")  # its etag is outdated
    api("PATCH", f"{JSON}/b/{name}", json={"iamConfiguration": {"publicAccessPrevention": "enforced"}})
    assert api("GET", media, headers=NOBODY).status_code == 401
    fresh = api("GET", f"{JSON}/b/{name}/iam").json()
    assert "public access prevention" in refused(api("PUT", f"{JSON}/b/{name}/iam", json=fresh), 412, "conditionNotMet")


def test_roles_count(api, make, put):
    name = make()
    policy = api("GET", f"{JSON}/b/{name}/iam").json()
    policy["bindings"].append({"role": "roles/storage.objectCreator", "members": ["user:writer@example.com"]})
    api("PUT", f"{JSON}/b/{name}/iam", json=policy)
    url = f"{UPLOAD}/b/{name}/o?uploadType=media&name=w"
    assert api("POST", url, data=b"1", as_="writer@example.com").status_code == 200
    message = refused(api("POST", url, data=b"2", as_="writer@example.com"), 403, "forbidden")
    assert "storage.objects.delete" in message
    assert "storage.objects.get" in refused(
        api("GET", f"{JSON}/b/{name}/o/w", as_="writer@example.com"), 403, "forbidden"
    )
    asked = "permissions=storage.objects.create&permissions=storage.objects.get"
    have = api("GET", f"{JSON}/b/{name}/iam/testPermissions?{asked}", as_="writer@example.com").json()
    assert have["permissions"] == ["storage.objects.create"]


def test_lists_of_a_bucket_without_uniform_access(api, make, put):
    name = make(iamConfiguration={"uniformBucketLevelAccess": {"enabled": False}})
    put(name, "public", predefinedAcl="publicRead")
    put(name, "private")
    assert api("GET", f"{XML}/{name}/public", headers=NOBODY).status_code == 200
    assert api("GET", f"{XML}/{name}/private", headers=NOBODY).status_code == 403
    doc = api("GET", f"{JSON}/b/{name}?projection=full").json()
    assert [e["role"] for e in doc["acl"]] == ["OWNER", "OWNER", "READER"]
    assert "acl" not in api("GET", f"{JSON}/b/{name}").json()
    entry = api("POST", f"{JSON}/b/{name}/acl", json={"entity": "user-jane@example.com", "role": "READER"}).json()
    assert entry["email"] == "jane@example.com"
    assert api("GET", f"{JSON}/b/{name}", as_="jane@example.com").status_code == 200


# -- objects ---------------------------------------------------------------


def test_simple_upload_and_download(api, bucket, put):
    data = b"some bytes" * 1000
    doc = put(bucket, "dir/ü + %.txt", data)
    assert (doc["size"], doc["md5Hash"], doc["crc32c"]) == (str(len(data)), md5(data), crc(data))
    assert doc["id"] == f"{bucket}/dir/ü + %.txt/{doc['generation']}"
    answer = api("GET", doc["mediaLink"])
    assert answer.content == data
    assert answer.headers["X-Goog-Hash"] == f"crc32c={crc(data)},md5={md5(data)}"
    part = api("GET", doc["mediaLink"], headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"bytes", f"bytes 5-9/{len(data)}")
    assert api("GET", doc["mediaLink"], headers={"Range": "bytes=-3"}).content == data[-3:]
    assert api("GET", doc["mediaLink"], headers={"Range": "bytes=99999-"}).status_code == 416
    assert refused(api("GET", f"{JSON}/b/{bucket}/o/none"), 404, "notFound") == f"No such object: {bucket}/none"


def test_empty_object(api, bucket, put):
    assert put(bucket, "empty", b"")["size"] == "0"
    assert api("GET", f"{JSON}/b/{bucket}/o/empty?alt=media").content == b""


def multipart(meta: dict[str, Any], data: bytes) -> dict[str, Any]:
    head = f"--B\r\nContent-Type: application/json\r\n\r\n{json.dumps(meta)}\r\n--B\r\nContent-Type: image/png\r\n\r\n"
    return {
        "data": head.encode() + data + b"\r\n--B--\r\n",
        "headers": {"Content-Type": "multipart/related; boundary=B"},
    }


def test_multipart_upload(api, bucket):
    url, data = f"{UPLOAD}/b/{bucket}/o?uploadType=multipart", b"\r\n--A\x00\r\n--" * 5000
    doc = api("POST", url, **multipart({"name": "m", "metadata": {"k": "v"}, "crc32c": crc(data)}, data)).json()
    assert (doc["contentType"], doc["metadata"], doc["md5Hash"]) == ("image/png", {"k": "v"}, md5(data))
    message = refused(api("POST", url, **multipart({"name": "m", "crc32c": crc(b"other")}, data)), 400, "invalid")
    assert "doesn't match calculated CRC32C" in message
    assert api("GET", f"{JSON}/b/{bucket}/o/m").json()["generation"] == doc["generation"]
    body = (
        b'--=B==\nContent-Type: application/json\n\n{"name": "m"}\n--=B==\nMIME-Version: 1.0\n\n' + data + b"\n--=B==--"
    )
    as_gcloud = {"data": body, "headers": {"Content-Type": "multipart/related; boundary='=B=='"}}
    assert api("POST", url, **as_gcloud).json()["md5Hash"] == md5(data)
    cut = as_gcloud | {"data": body.removesuffix(b"--=B==--")}
    assert "Malformed multipart body" in refused(api("POST", url, **cut), 400, "invalid")


def test_resumable_upload(api, bucket):
    unit = 256 * 1024
    data = secrets.token_bytes(2 * unit + 5)
    begun = api("POST", f"{UPLOAD}/b/{bucket}/o?uploadType=resumable&name=r", json={"contentType": "a/b"})
    session = begun.headers["Location"]
    put = {"headers": {"Content-Range": f"bytes 0-{unit - 1}/*"} | NOBODY, "data": data[:unit]}
    first = api("PUT", session, **put)  # the URL is the only authorization it needs
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{unit - 1}")
    asked = api("PUT", session, headers={"Content-Range": "bytes */*", "Content-Length": "0"})
    assert (asked.status_code, asked.headers["Range"]) == (308, f"bytes=0-{unit - 1}")
    of_go = api(
        "PUT", session, headers={"Content-Range": "bytes */*", "Content-Length": "0", "X-GUploader-No-308": "yes"}
    )
    assert (of_go.status_code, of_go.headers["X-Http-Status-Code-Override"]) == (200, "308")
    gap = api(
        "PUT",
        session,
        headers={"Content-Range": f"bytes {2 * unit}-{len(data) - 1}/{len(data)}"},
        data=data[2 * unit :],
    )
    assert (gap.status_code, "exceeds already uploaded size of 262144" in gap.text) == (503, True)
    overlap = {"Content-Range": f"bytes {unit - 10}-{len(data) - 1}/{len(data)}"}
    last = api("PUT", session, headers=overlap, data=data[unit - 10 :])
    assert (last.status_code, last.json()["md5Hash"], last.json()["contentType"]) == (200, md5(data), "a/b")
    again = api("PUT", session, headers={"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
    assert again.json()["generation"] == last.json()["generation"]
    assert api("PUT", f"{session}x", data=b"").status_code == 404


@pytest.mark.parametrize("size", [0, 5, 256 * 1024])
def test_resumable_upload_of_a_stream_ends_with_its_request(api, bucket, size):
    session = api("POST", f"{UPLOAD}/b/{bucket}/o?uploadType=resumable&name=stream", json={}).headers["Location"]
    data = secrets.token_bytes(size)
    done = api("PUT", session, headers={"Content-Range": "bytes 0-*/*"}, data=iter([data]))
    assert (done.status_code, done.json()["md5Hash"]) == (200, md5(data))


def test_resumable_upload_survives_a_restart(own):
    own.command("up", "--detach", "--project", "restarted")
    session = own.session()
    session.post(f"{JSON}/b?project=restarted", json={"name": "restarted-bucket"}, timeout=30)
    data = secrets.token_bytes(2 * 256 * 1024)
    begun = session.post(f"{UPLOAD}/b/restarted-bucket/o?uploadType=resumable&name=r", json={}, timeout=30)
    half = len(data) // 2
    url = begun.headers["Location"]
    session.put(url, data=data[:half], headers={"Content-Range": f"bytes 0-{half - 1}/*"}, timeout=30)
    own.command("down")
    own.command("up", "--detach")
    session = own.session()
    done = session.put(
        url, data=data[half:], headers={"Content-Range": f"bytes {half}-{2 * half - 1}/{2 * half}"}, timeout=30
    )
    assert done.json()["md5Hash"] == md5(data)
    assert session.get(done.json()["mediaLink"], timeout=30).content == data


def test_preconditions(api, bucket, put):
    doc = put(bucket, "p", ifGenerationMatch=0)
    url = f"{JSON}/b/{bucket}/o/p"
    assert (
        api("POST", f"{UPLOAD}/b/{bucket}/o?uploadType=media&name=p&ifGenerationMatch=0", data=b"").status_code == 412
    )
    assert put(bucket, "p", ifGenerationMatch=doc["generation"])["generation"] > doc["generation"]
    now = api("GET", url).json()["generation"]
    assert api("GET", f"{url}?ifGenerationNotMatch={now}").status_code == 304
    refused(api("GET", f"{url}?ifMetagenerationMatch=9"), 412, "conditionNotMet")
    refused(api("DELETE", f"{url}?ifGenerationMatch=1"), 412, "conditionNotMet")
    refused(api("GET", f"{url}?ifGenerationMatch=new"), 400, "invalidParameter")


def test_metadata(api, bucket, put):
    put(bucket, "meta")
    url = f"{JSON}/b/{bucket}/o/meta"
    body = {"metadata": {"a": "1", "b": "2"}, "customTime": "2026-01-02T00:00:00Z", "cacheControl": "no-store"}
    doc = api("PATCH", url, json=body).json()
    assert (doc["metageneration"], doc["customTime"]) == ("2", "2026-01-02T00:00:00Z")
    doc = api("PATCH", url, json={"metadata": {"a": None}, "cacheControl": None}).json()
    assert doc["metadata"] == {"b": "2"} and "cacheControl" not in doc
    refused(api("PATCH", url, json={"customTime": "2025-01-01T00:00:00Z"}), 400, "invalid")
    assert api("GET", f"{url}?alt=media").headers["Content-Type"].startswith("text/plain")


def test_list(api, make, put):
    name = make()
    for path in ("a/1", "a/2", "a/b/3", "c", "d/", "d/4"):
        put(name, path)

    def listed(**query: Any) -> tuple[list[str], list[str]]:
        doc = api("GET", f"{JSON}/b/{name}/o", params=query).json()
        return [i["name"] for i in doc.get("items", [])], doc.get("prefixes", [])

    assert listed() == (["a/1", "a/2", "a/b/3", "c", "d/", "d/4"], [])
    assert listed(delimiter="/") == (["c"], ["a/", "d/"])
    assert listed(prefix="a/", delimiter="/") == (["a/1", "a/2"], ["a/b/"])
    assert listed(startOffset="a/2", endOffset="d/") == (["a/2", "a/b/3", "c"], [])
    assert listed(matchGlob="**/[13]") == (["a/1", "a/b/3"], [])
    found, token = [], None
    while token != "":
        page = api("GET", f"{JSON}/b/{name}/o", params={"maxResults": 1, "delimiter": "/", "pageToken": token}).json()
        found += [i["name"] for i in page.get("items", [])] + page.get("prefixes", [])
        token = page.get("nextPageToken", "")
    assert found == ["a/", "c", "d/"]


def test_versions_and_soft_delete(api, make, put):
    name = make(versioning={"enabled": True})
    one, two = put(name, "v", b"1"), put(name, "v", b"2")
    url = f"{JSON}/b/{name}/o/v"
    assert api("GET", f"{url}?alt=media&generation={one['generation']}").content == b"1"
    assert api("DELETE", url).status_code == 204
    assert api("GET", url).status_code == 404
    versions = api("GET", f"{JSON}/b/{name}/o?versions=true").json()["items"]
    assert [(v["generation"], "timeDeleted" in v) for v in versions] == [
        (one["generation"], True),
        (two["generation"], True),
    ]
    api("DELETE", f"{url}?generation={one['generation']}")
    assert api("GET", f"{url}?generation={one['generation']}").status_code == 404
    gone = api("GET", f"{JSON}/b/{name}/o?softDeleted=true").json()["items"]
    assert [g["generation"] for g in gone] == [one["generation"]] and "hardDeleteTime" in gone[0]
    read = api("GET", f"{url}?softDeleted=true&generation={one['generation']}")  # its list grants it to the owner
    assert read.json()["softDeleteTime"] == gone[0]["softDeleteTime"]
    restored = api("POST", f"{url}/restore?generation={one['generation']}").json()
    assert restored["generation"] > two["generation"]
    assert api("GET", f"{url}?alt=media").content == b"1"


def test_copies(api, bucket, put):
    source = put(bucket, "from", b"abc")
    there = f"{JSON}/b/{bucket}/o/from/rewriteTo/b/{bucket}/o/to"
    answer = api("POST", there, json={}).json()
    assert answer["done"] and answer["resource"]["contentType"] == "text/plain"
    api("POST", f"{JSON}/b/{bucket}/o/from/copyTo/b/{bucket}/o/to", json={"contentType": "x/y"})
    assert api("GET", f"{JSON}/b/{bucket}/o/to").json()["contentType"] == "x/y"
    refused(api("POST", f"{there}?ifSourceGenerationMatch=1", json={}), 412, "conditionNotMet")
    parts = {"sourceObjects": [{"name": "from", "generation": source["generation"]}, {"name": "to"}], "destination": {}}
    doc = api("POST", f"{JSON}/b/{bucket}/o/sum/compose", json=parts).json()
    assert (doc["componentCount"], doc["crc32c"], "md5Hash" in doc) == (2, crc(b"abcabc"), False)
    api("DELETE", f"{JSON}/b/{bucket}/o/from")
    assert api("GET", f"{JSON}/b/{bucket}/o/to?alt=media").content == b"abc"


def test_a_gzipped_object_is_decompressed_for_clients_without_gzip(api, bucket):
    packed = gzip.compress(b"text" * 100)
    url = f"{UPLOAD}/b/{bucket}/o?uploadType=media&name=gz&contentEncoding=gzip"
    assert api("POST", url, data=packed).json()["size"] == str(len(packed))
    raw = api("GET", f"{JSON}/b/{bucket}/o/gz?alt=media", headers={"Accept-Encoding": "gzip"}, stream=True)
    assert (raw.headers["Content-Encoding"], raw.raw.read(decode_content=False)) == ("gzip", packed)
    plain = api("GET", f"{JSON}/b/{bucket}/o/gz?alt=media", headers={"Accept-Encoding": "identity"})
    assert plain.content == b"text" * 100 and "Content-Encoding" not in plain.headers


def test_retention_and_holds(api, make, put):
    name = make(retentionPolicy={"retentionPeriod": "3600"}, softDeletePolicy={"retentionDurationSeconds": 0})
    put(name, "kept")
    refused(api("DELETE", f"{JSON}/b/{name}/o/kept"), 403, "retentionPolicyNotMet")
    api("PATCH", f"{JSON}/b/{name}", json={"retentionPolicy": None})
    api("PATCH", f"{JSON}/b/{name}/o/kept", json={"temporaryHold": True})
    refused(api("DELETE", f"{JSON}/b/{name}/o/kept"), 403, "forbidden")


# -- the XML API -----------------------------------------------------------


def test_xml_objects(api, bucket):
    url = f"{XML}/{bucket}/x/y%20z"
    headers = {"Content-Type": "text/x", "x-goog-meta-color": "red", "Content-MD5": md5(b"hello")}
    made = api("PUT", url, data=b"hello", headers=headers)
    assert made.status_code == 200
    got = api("GET", f"https://{bucket}.storage.googleapis.com/x/y%20z")
    assert (got.content, got.headers["x-goog-meta-color"], got.headers["Content-Type"]) == (b"hello", "red", "text/x")
    head = api("HEAD", url)
    assert (head.headers["Content-Length"], head.headers["ETag"]) == ("5", f'"{hashlib.md5(b"hello").hexdigest()}"')
    xml_error(api("PUT", url, data=b"hello", headers={"Content-MD5": md5(b"other")}), 400, "BadDigest")
    xml_error(api("PUT", url, data=b"", headers={"x-goog-if-generation-match": "0"}), 412, "PreconditionFailed")
    api("PUT", f"{XML}/{bucket}/x/copy", headers={"x-goog-copy-source": f"/{bucket}/x/y%20z"})
    listing = api("GET", f"{XML}/{bucket}?list-type=2&prefix=x/").text
    assert re.findall("<Key>(.*?)</Key>", listing) == ["x/copy", "x/y z"]
    assert api("DELETE", url).status_code == 204
    xml_error(api("GET", url), 404, "NoSuchKey")
    xml_error(api("GET", f"{XML}/no-such-bucket-here/x"), 404, "NoSuchBucket")
    xml_error(api("GET", f"{XML}/{bucket}/x/copy", headers=NOBODY), 403, "AccessDenied")


def test_xml_multipart_upload(api, bucket):
    url, big, small = f"{XML}/{bucket}/parts", secrets.token_bytes(5 * 1024 * 1024), b"end"
    begun = api("POST", f"{url}?uploads").text
    ident = re.search("<UploadId>(.*?)</UploadId>", begun)[1]
    tags = {
        n: api("PUT", f"{url}?partNumber={n}&uploadId={ident}", data=d).headers["ETag"]
        for n, d in ((2, small), (1, big))
    }

    def complete(*numbers: int) -> Any:
        chosen = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tags[n]}</ETag></Part>" for n in numbers)
        body = f"<CompleteMultipartUpload>{chosen}</CompleteMultipartUpload>"
        return api("POST", f"{url}?uploadId={ident}", data=body)

    assert re.findall("<PartNumber>(.)<", api("GET", f"{url}?uploadId={ident}").text) == ["1", "2"]
    xml_error(complete(2, 1), 400, "InvalidPartOrder")
    assert complete(1, 2).status_code == 200
    assert api("GET", url).content == big + small
    assert "md5Hash" not in api("GET", f"{JSON}/b/{bucket}/o/parts").json()
    xml_error(complete(1, 2), 404, "NoSuchUpload")
    other = re.search("<UploadId>(.*?)</UploadId>", api("POST", f"{url}?uploads").text)[1]
    assert api("DELETE", f"{url}?uploadId={other}").status_code == 204


@pytest.fixture(scope="module")
def key(api: Callable[..., Any], project: str, bucket: str) -> dict[str, Any]:
    """Key file of a service account that may use the bucket's objects."""
    accounts = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"
    email = api("POST", accounts, json={"accountId": "signer"}).json()["email"]
    answer = api("POST", f"{accounts}/{email}/keys", json={}).json()
    policy = api("GET", f"{JSON}/b/{bucket}/iam").json()
    policy["bindings"].append({"role": "roles/storage.objectUser", "members": [f"serviceAccount:{email}"]})
    assert api("PUT", f"{JSON}/b/{bucket}/iam", json=policy).status_code == 200
    return json.loads(base64.b64decode(answer["privateKeyData"]))


def signed(
    key: dict[str, Any], method: str, path: str, *, seconds: int = 60, ago: int = 0, lower: bool = False, **query: str
) -> str:
    """A V4 signed URL; lower: with the names of its parameters in lower case, as gcloud writes them."""
    stamp = datetime.fromtimestamp(time.time() - ago, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/auto/storage/goog4_request"
    pairs = query | {
        "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
        "X-Goog-Credential": f"{key['client_email']}/{scope}",
        "X-Goog-Date": stamp,
        "X-Goog-Expires": str(seconds),
        "X-Goog-SignedHeaders": "host",
    }
    pairs = {k.lower() if lower else k: v for k, v in pairs.items()}
    text = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(pairs.items()))
    canonical = f"{method}\n{path}\n{text}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    private: Any = serialization.load_pem_private_key(key["private_key"].encode(), None)
    signature = private.sign(
        f"GOOG4-RSA-SHA256\n{stamp}\n{scope}\n{digest}".encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    return f"{XML}{path}?{text}&{'x-goog-signature' if lower else 'X-Goog-Signature'}={signature.hex()}"


def test_signed_urls(api, bucket, key):
    path = f"/{bucket}/signed%2Fo%C3%BC"
    assert api("PUT", signed(key, "PUT", path), data=b"data", headers=NOBODY).status_code == 200
    url = signed(key, "GET", path)
    assert api("GET", url, headers=NOBODY).content == b"data"
    assert api("GET", signed(key, "GET", path, lower=True), headers=NOBODY).content == b"data"
    xml_error(api("DELETE", url, headers=NOBODY), 403, "SignatureDoesNotMatch")
    xml_error(api("GET", url.replace("o%C3%BC", "other"), headers=NOBODY), 403, "SignatureDoesNotMatch")
    xml_error(api("GET", signed(key, "GET", path, ago=120), headers=NOBODY), 400, "ExpiredToken")
    xml_error(
        api("GET", signed(key, "GET", path, seconds=8 * 86400), headers=NOBODY),
        400,
        "AuthorizationQueryParametersError",
    )
    xml_error(
        api(
            "GET", signed(key | {"client_email": "nobody@nowhere.iam.gserviceaccount.com"}, "GET", path), headers=NOBODY
        ),
        403,
        "SignatureDoesNotMatch",
    )


def test_signed_url_of_an_account_without_permission(api, make, key):
    other = make()
    xml_error(api("PUT", signed(key, "PUT", f"/{other}/o"), data=b"", headers=NOBODY), 403, "AccessDenied")


def test_signed_url_with_a_blob_signed_by_iam(api, project, bucket, key):
    email = key["client_email"]
    account = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts/{email}"
    binding = {"role": "roles/iam.serviceAccountTokenCreator", "members": ["user:signer@example.com"]}
    assert api("POST", f"{account}:setIamPolicy", json={"policy": {"bindings": [binding]}}).status_code == 200
    url = signed(key, "GET", f"/{bucket}/blob")
    # The same text, signed with the Google-managed key.
    stamp = re.search(r"X-Goog-Date=(\w+)", url)[1]
    text = url.partition("?")[2].partition("&X-Goog-Signature")[0]
    canonical = f"GET\n/{bucket}/blob\n{text}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"GOOG4-RSA-SHA256\n{stamp}\n{stamp[:8]}/auto/storage/goog4_request\n{digest}"
    answer = api(
        "POST",
        f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{email}:signBlob",
        json={"payload": base64.b64encode(to_sign.encode()).decode()},
        as_="signer@example.com",
    )
    assert answer.status_code == 200, answer.text
    signature = base64.b64decode(answer.json()["signedBlob"]).hex()
    api("PUT", f"{XML}/{bucket}/blob", data=b"by IAM")
    got = api("GET", f"{XML}/{bucket}/blob?{text}&X-Goog-Signature={signature}", headers=NOBODY)
    assert got.content == b"by IAM"


def test_resumable_upload_by_signed_url(api, bucket):
    begun = api("POST", f"{XML}/{bucket}/later", headers={"x-goog-resumable": "start"})
    assert begun.status_code == 201
    done = api("PUT", begun.headers["Location"], data=b"resumed", headers=NOBODY)
    assert done.status_code == 200
    assert api("GET", f"{XML}/{bucket}/later").content == b"resumed"


def test_an_interrupted_upload_leaves_no_object(api, bucket):
    def broken():
        yield b"some"
        raise OSError("cut")

    with contextlib.suppress(Exception):
        api("POST", f"{UPLOAD}/b/{bucket}/o?uploadType=media&name=broken", data=broken())
    assert api("GET", f"{JSON}/b/{bucket}/o/broken").status_code == 404


def test_lifecycle_conditions():
    now = datetime(2026, 3, 10, tzinfo=UTC)
    live = {"name": "logs/a", "timeCreated": "2026-03-01T00:00:00.000Z", "storageClass": "STANDARD"}
    old = live | {"timeDeleted": "2026-03-05T00:00:00.000Z"}
    for condition, of_live, of_old in (
        ({"age": 9}, True, True),
        ({"age": 10}, False, False),
        ({"age": 1, "isLive": False}, False, True),
        ({"numNewerVersions": 1}, False, True),
        ({"daysSinceNoncurrentTime": 5}, False, True),
        ({"daysSinceNoncurrentTime": 6}, False, False),
        ({"createdBefore": "2026-03-02", "matchesPrefix": ["logs/"]}, True, True),
        ({"age": 1, "matchesSuffix": [".gz"]}, False, False),
        ({"matchesStorageClass": ["NEARLINE"]}, False, False),
    ):
        assert (lifecycle.matches(condition, live, 0, now), lifecycle.matches(condition, old, 1, now)) == (
            of_live,
            of_old,
        )
