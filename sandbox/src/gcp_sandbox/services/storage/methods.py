"""Methods of storage.objects other than insert.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.storage import access, common, content, keys, objects, operations, permissions
from gcp_sandbox.services.storage.common import SERVICE, Doc, bucket_of
from gcp_sandbox.services.storage.objects import EDITABLE, Objects, shown
from gcp_sandbox.services.storage.permissions import allows, require
from gcp_sandbox.services.storage.upload import Target, held


def find(call: Call, permission: str, *, bucket: str = "", name: str = "", generation: Any = None) -> tuple[Doc, Doc]:
    """Bucket and object of a call that requires a permission.  Raises ApiError 401, 403, 404."""
    found = bucket_of(call.cloud, bucket or call.params["bucket"])
    name = name or call.params["object"]
    doc = Objects(call.cloud, found).get(name, generation)
    if doc or permissions.uniform(found):  # otherwise no list could allow it
        require(call.cloud, call.principal, permission, found, access.list_of(found, doc), name)
    if doc is None:
        # A caller who may not list the bucket is not told which objects do not exist.
        require(call.cloud, call.principal, "storage.objects.list", found)
        raise common.no_object(found["name"], name, str(generation) if generation else "")
    return found, doc


def _projected(call: Call, doc: Doc, default: str = "noAcl") -> Doc:
    full = call.params.get("projection", default) == "full"
    bucket = bucket_of(call.cloud, doc["bucket"])
    acl = access.list_of(bucket, doc) if full else None
    out = shown(objects.dated(bucket, doc), full=acl is not None)
    return out if acl is None else out | {"acl": acl}


@SERVICE.method("storage.objects.get")
async def get(call: Call) -> Doc | web.StreamResponse:
    if call.params.get("softDeleted"):
        return _get_deleted(call)
    _, doc = find(call, "storage.objects.get", generation=call.params.get("generation"))
    try:
        common.check_generation(call.params, doc["generation"], doc["metageneration"])
    except common.NotModified:
        return web.Response(status=304, headers={"ETag": doc["etag"]})
    if call.request.headers.get("If-None-Match") == doc["etag"]:
        return web.Response(status=304, headers={"ETag": doc["etag"]})
    if call.media != "download":
        return _projected(call, doc)
    keys.read(call.cloud, doc)
    file = content.path_of(call.cloud, doc["_blob"])
    return await content.send(call.request, file, objects.headers(doc), encoding=doc.get("contentEncoding", ""))


def _get_deleted(call: Call) -> Doc:
    bucket = bucket_of(call.cloud, call.params["bucket"])
    if "generation" not in call.params:
        raise common.required("Soft-deleted objects are found by generation.")
    name = call.params["object"]
    doc = Objects(call.cloud, bucket).deleted(name, call.params["generation"])
    if doc or permissions.uniform(bucket):  # otherwise no list could allow it
        require(call.cloud, call.principal, "storage.objects.get", bucket, access.list_of(bucket, doc), name)
    if doc is None:
        require(call.cloud, call.principal, "storage.objects.list", bucket)
        raise common.no_object(bucket["name"], call.params["object"], str(call.params["generation"]))
    return _projected(call, doc)


@SERVICE.method("storage.objects.list")
def list_(call: Call) -> Doc:
    bucket = bucket_of(call.cloud, call.params["bucket"])
    require(call.cloud, call.principal, "storage.objects.list", bucket)
    if call.params.get("softDeleted") and call.params.get("versions"):
        raise common.invalid("softDeleted and versions cannot both be true.")
    found = Objects(call.cloud, bucket).all(
        versions=bool(call.params.get("versions")), deleted=bool(call.params.get("softDeleted"))
    )
    try:
        chosen, prefixes, token = objects.pages(found, call.params)
    except ValueError:
        raise common.invalid("Invalid page token.") from None
    out: Doc = {"kind": "storage#objects"}
    if token:
        out["nextPageToken"] = token
    if prefixes:
        out["prefixes"] = prefixes
    if chosen:
        out["items"] = [_projected(call, doc) for doc in chosen]
    return out


# -- metadata --------------------------------------------------------------


@SERVICE.method("storage.objects.patch")
async def patch(call: Call) -> Doc:
    bucket, doc = _changing(call)
    raw = json.loads(await call.request.read() or b"{}")
    for key in EDITABLE:
        if key not in raw:
            continue
        value = call.body.get(key)
        if key == "metadata" and value is not None:
            merged = doc.get("metadata", {}) | value
            value = {k: v for k, v in merged.items() if raw["metadata"].get(k, "") is not None}
        _put(call, bucket, doc, key, value)
    return _changed(call, bucket, doc)


@SERVICE.method("storage.objects.update")
def update(call: Call) -> Doc:
    bucket, doc = _changing(call)
    for key in EDITABLE:
        if key != "acl" or key in call.body:
            _put(call, bucket, doc, key, call.body.get(key))
    return _changed(call, bucket, doc)


def _changed(call: Call, bucket: Doc, doc: Doc) -> Doc:
    if call.params.get("predefinedAcl"):
        doc = access.relisted(bucket, doc, None, call.params["predefinedAcl"])
    return _projected(call, Objects(call.cloud, bucket).change(doc), "full")


def _changing(call: Call) -> tuple[Doc, Doc]:
    bucket, doc = find(call, "storage.objects.update", generation=call.params.get("generation"))
    _guard(call, doc)
    return bucket, doc


def _guard(call: Call, doc: Doc, prefix: str = "if") -> None:
    common.guard(call.params, doc["generation"], doc["metageneration"], prefix)


def _put(call: Call, bucket: Doc, doc: Doc, key: str, value: Any) -> None:
    if key == "acl":
        if value is not None:
            doc |= access.relisted(bucket, doc, value)
    elif key == "retention":
        if value or key in doc:
            _retain(call, bucket, doc, value)
    elif key == "customTime" and doc.get("customTime") and (not value or value < doc["customTime"]):
        raise common.invalid("Once set, an object's customTime cannot be removed or moved to the past.")
    elif value in (None, "", {}):
        doc.pop(key, None)
    else:
        doc[key] = value


def _retain(call: Call, bucket: Doc, doc: Doc, value: Doc | None) -> None:
    """Set or remove an object's own retention.  https://cloud.google.com/storage/docs/object-lock"""
    require(
        call.cloud, call.principal, "storage.objects.setRetention", bucket, access.list_of(bucket, doc), doc["name"]
    )
    if "objectRetention" not in bucket:
        raise common.invalid(
            "Object retention can only be set on objects of a bucket that has object retention enabled."
        )
    old, new = doc.get("retention", {}), value or {}
    if new and (new.get("mode") not in ("Locked", "Unlocked") or not new.get("retainUntilTime")):
        raise common.invalid("Object retention needs a mode, Locked or Unlocked, and a time to retain until.")
    less = bool(old) and (
        new.get("retainUntilTime", "") < old["retainUntilTime"]
        or (old["mode"], new.get("mode")) == ("Locked", "Unlocked")
    )
    text = (
        f"Object '{doc['bucket']}/{doc['name']}' is subject to object retention, which cannot be removed or shortened."
    )
    if less and (old["mode"] == "Locked" or not call.params.get("overrideUnlockedRetention")):
        raise ApiError(403, text, reason="forbidden")
    if less:
        require(call.cloud, call.principal, "storage.objects.overrideUnlockedRetention", bucket, name=doc["name"])
    doc.pop("retention", None)
    if new:
        doc["retention"] = new


@SERVICE.method("storage.objects.delete")
def delete(call: Call) -> None:
    bucket, doc = find(call, "storage.objects.delete", generation=call.params.get("generation"))
    _guard(call, doc)
    held(bucket, doc)
    Objects(call.cloud, bucket).delete(doc, by_generation="generation" in call.params)


@SERVICE.method("storage.objects.restore")
def restore(call: Call) -> Doc:
    bucket = bucket_of(call.cloud, call.params["bucket"])
    require(call.cloud, call.principal, "storage.objects.restore", bucket)
    require(call.cloud, call.principal, "storage.objects.create", bucket)
    found = Objects(call.cloud, bucket)
    doc = found.deleted(call.params["object"], call.params.get("generation", ""))
    if doc is None:
        raise common.no_object(bucket["name"], call.params["object"], str(call.params.get("generation", "")))
    live = found.get(doc["name"])
    _guard(call, live or {"generation": "0", "metageneration": "0"})
    return _projected(call, found.add(_revived(call, doc)))


def _revived(call: Call, doc: Doc) -> Doc:
    new = {k: v for k, v in doc.items() if k not in ("softDeleteTime", "hardDeleteTime", "timeDeleted")}
    stamp = objects.moment()
    new |= {"generation": objects.generation(), "metageneration": "1", "timeCreated": stamp, "updated": stamp}
    return new | {"etag": objects.etag(new), "_blob": content.link(call.cloud, doc["_blob"])}


@SERVICE.method("storage.objects.bulkRestore")
def bulk_restore(call: Call) -> Doc:
    bucket = bucket_of(call.cloud, call.params["bucket"])
    require(call.cloud, call.principal, "storage.objects.restore", bucket)
    require(call.cloud, call.principal, "storage.objects.create", bucket)
    found, given = Objects(call.cloud, bucket), call.body
    globs = [objects.glob(pattern) for pattern in given.get("matchGlobs", [])]
    for doc in found.all(deleted=True):
        taken = found.get(doc["name"]) is not None and not given.get("allowOverwrite")
        after, before = given.get("softDeletedAfterTime", ""), given.get("softDeletedBeforeTime", "~")
        if (
            not taken
            and after < doc["softDeleteTime"] < before
            and (not globs or any(g.fullmatch(doc["name"]) for g in globs))
        ):
            found.add(_revived(call, doc))
    return operations.started(call, bucket, "BulkRestoreObjects")


# -- copies ----------------------------------------------------------------


def copied(call: Call, source: Doc, given: Doc, *, whole: bool) -> Doc:
    """Copy an object to the call's destination; given: new metadata, replacing or extending the old."""
    kept = {} if whole else {k: v for k, v in source.items() if k in (*EDITABLE, "storageClass") and k != "acl"}
    kept.setdefault("contentType", source.get("contentType", "application/octet-stream"))
    name = given.get("name") or call.params["destinationObject"]
    params = dict(call.params) | {"predefinedAcl": call.params.get("destinationPredefinedAcl", "")}
    target = Target(call.cloud, call.principal, call.params["destinationBucket"], name, kept | given, params)
    blob = content.link(call.cloud, source["_blob"])
    doc = objects.record(
        target.bucket,
        target.name,
        target.given,
        blob=blob,
        size=int(source["size"]),
        md5=source.get("md5Hash", ""),
        crc32c=source["crc32c"],
    )
    if "componentCount" in source:
        doc["componentCount"] = source["componentCount"]
    doc |= access.object_list(target.bucket, name, given.get("acl"), params["predefinedAcl"], call.principal)
    return target.objects.add(doc)


def _source(call: Call) -> Doc:
    _, source = find(
        call,
        "storage.objects.get",
        bucket=call.params["sourceBucket"],
        name=call.params["sourceObject"],
        generation=call.params.get("sourceGeneration"),
    )
    _guard(call, source, "ifSource")
    return source


@SERVICE.method("storage.objects.copy")
def copy(call: Call) -> Doc:
    return _projected(call, copied(call, _source(call), call.body, whole=bool(call.body)))


@SERVICE.method("storage.objects.rewrite")
def rewrite(call: Call) -> Doc:
    source = _source(call)
    doc = copied(call, source, call.body, whole=bool(call.body))
    return {
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": source["size"],
        "objectSize": source["size"],
        "done": True,
        "resource": _projected(call, doc),
    }


@SERVICE.method("storage.objects.move")
def move(call: Call) -> Doc:
    bucket, source = find(call, "storage.objects.get", name=call.params["sourceObject"])
    if not (
        allows(call.cloud, call.principal, "storage.objects.move", bucket)
        or allows(call.cloud, call.principal, "storage.objects.delete", bucket, access.list_of(bucket, source))
    ):
        raise common.denied(call.principal, "storage.objects.move")
    _guard(call, source, "ifSource")
    held(bucket, source)
    call.params["destinationBucket"] = bucket["name"]
    doc = copied(call, source, {}, whole=False)
    Objects(call.cloud, bucket).delete(source, by_generation=False)
    return _projected(call, doc)


@SERVICE.method("storage.objects.compose")
async def compose(call: Call) -> Doc:
    parts = call.body.get("sourceObjects", [])
    if not 1 <= len(parts) <= 32:
        raise common.invalid("The number of source components must be between 1 and 32.")
    bucket = call.params["destinationBucket"]
    given = call.body.get("destination", {})
    params = dict(call.params) | {"predefinedAcl": call.params.get("destinationPredefinedAcl", "")}
    found = []
    for part in parts:
        _, doc = find(
            call, "storage.objects.get", bucket=bucket, name=part.get("name", ""), generation=part.get("generation")
        )
        wanted = part.get("objectPreconditions", {}).get("ifGenerationMatch")
        if wanted is not None and str(wanted) != doc["generation"]:
            raise common.unmet()
        found.append(doc)
    given.setdefault("contentType", found[0].get("contentType", "application/octet-stream"))
    target = Target(call.cloud, call.principal, bucket, call.params["destinationObject"], given, params)
    blob = content.Blob(call.cloud)
    blob.join([(doc["_blob"], int(doc["size"]), doc["crc32c"]) for doc in found])
    count = sum(doc.get("componentCount", 1) for doc in found)
    return _projected(call, target.finish(blob, {}, parts=count))


# -- policies --------------------------------------------------------------


@SERVICE.method("storage.objects.testIamPermissions")
def test_permissions(call: Call) -> Doc:
    bucket, doc = find(call, "storage.objects.get")
    asked = call.params.get("permissions", [])
    have = [p for p in asked if allows(call.cloud, call.principal, p, bucket, access.list_of(bucket, doc), doc["name"])]
    return {"kind": "storage#testIamPermissionsResponse"} | ({"permissions": have} if have else {})
