"""Multipart uploads of the XML API: parts in any order, concatenated on completion.

https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

import base64
import secrets

from aiohttp import web

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.storage import content, messages, objects, upload
from gcp_sandbox.services.storage.common import Doc
from gcp_sandbox.services.storage.messages import Request
from gcp_sandbox.services.storage.permissions import require

UPLOADS, PARTS = "storage.multipartUploads", "storage.parts"
_LEAST = 5 * 1024 * 1024


def initiate(call: Request) -> web.StreamResponse:
    """POST ?uploads"""
    require(call.cloud, call.principal, "storage.multipartUploads.create", call.bucket)
    target = call.target()
    ident = secrets.token_urlsafe(36)
    call.cloud.store.put(
        UPLOADS,
        ident,
        {
            "bucket": call.bucket_name,
            "name": call.name,
            "given": target.given,
            "email": call.principal.email,
            "params": call.params,
            "start": objects.moment(),
        },
    )
    inner = messages.element("Bucket", call.bucket_name) + messages.element("Key", call.name)
    return messages.xml("InitiateMultipartUploadResult", inner + messages.element("UploadId", ident))


def _upload(call: Request) -> tuple[str, Doc]:
    ident = call.query.get("uploadId", "")
    doc = call.cloud.store.peek(UPLOADS, ident)
    if doc is None or (doc["bucket"], doc["name"]) != (call.bucket_name, call.name):
        raise messages.XmlError(404, "NoSuchUpload", "The requested upload was not found.")
    return ident, doc


async def put(call: Request) -> web.StreamResponse:
    """PUT ?partNumber=N&uploadId=ID"""
    require(call.cloud, call.principal, "storage.objects.create", call.bucket)
    ident, _ = _upload(call)
    number = call.query.get("partNumber", "")
    if not number.isdigit() or not 1 <= int(number) <= 10_000:
        raise messages.XmlError(
            400, "InvalidArgument", "Invalid argument.", Details="The part number must be 1 to 10000."
        )
    blob = content.Blob(call.cloud)
    try:
        await blob.fill(upload.received(call.http))
        blob.close()
        upload.check_hashes(blob, upload.header_hashes(call.http))
        _upload(call)  # it may have been completed or aborted in the meantime
    except BaseException:
        blob.discard()
        raise
    key = f"{ident}/{int(number):05d}"
    before = call.cloud.store.peek(PARTS, key)
    etag = f'"{base64.b64decode(blob.md5).hex()}"'
    call.cloud.store.put(
        PARTS,
        key,
        {
            "number": int(number),
            "blob": blob.id,
            "size": blob.size,
            "etag": etag,
            "crc32c": blob.crc32c,
            "updated": objects.moment(),
        },
    )
    if before:
        content.remove(call.cloud, before["blob"])
    hashes = f"crc32c={blob.crc32c},md5={blob.md5}"
    return web.Response(headers={"ETag": etag, "X-Goog-Hash": hashes, "Content-Length": "0", "Server": "UploadServer"})


async def complete(call: Request) -> web.StreamResponse:
    """POST ?uploadId=ID"""
    ident, doc = _upload(call)
    require(call.cloud, call.principal, "storage.objects.create", call.bucket)
    root = messages.parsed(await call.http.read())
    wanted = [(node.findtext("PartNumber", ""), node.findtext("ETag", "").strip('"')) for node in root.iter("Part")]
    numbers = [int(number) for number, _ in wanted if number.isdigit()]
    if not wanted or len(numbers) != len(wanted):
        raise messages.XmlError(400, "MalformedXML", "The XML you provided was not well-formed or did not validate.")
    if numbers != sorted(set(numbers)):
        raise messages.XmlError(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
    chosen = []
    for number, (_, etag) in zip(numbers, wanted, strict=True):
        part = call.cloud.store.peek(PARTS, f"{ident}/{number:05d}")
        if part is None or part["etag"].strip('"') != etag:
            raise messages.XmlError(
                400,
                "InvalidPart",
                "One or more of the specified parts could not be found.",
                Details=f"Part number {number} with ETag {etag} was not found.",
            )
        chosen.append(part)
    if any(part["size"] < _LEAST for part in chosen[:-1]):
        raise messages.XmlError(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum object size.")
    target = upload.Target(call.cloud, call.principal, call.bucket_name, call.name, doc["given"], doc["params"])
    blob = content.Blob(call.cloud)
    blob.join([(part["blob"], part["size"], part["crc32c"]) for part in chosen])
    made = target.finish(blob, {})
    drop(call.cloud, ident)
    inner = messages.element("Location", f"http://{call.http.host}{call.http.path}")
    inner += messages.element("Bucket", call.bucket_name) + messages.element("Key", call.name)
    answer = messages.xml("CompleteMultipartUploadResult", inner + messages.element("ETag", f'"{made["etag"]}"'))
    answer.headers["X-Goog-Generation"] = made["generation"]
    answer.headers["X-Goog-Hash"] = f"crc32c={made['crc32c']}"
    return answer


def abort(call: Request) -> web.StreamResponse:
    """DELETE ?uploadId=ID"""
    ident, _ = _upload(call)
    require(call.cloud, call.principal, "storage.multipartUploads.abort", call.bucket)
    drop(call.cloud, ident)
    return web.Response(status=204)


def drop(cloud: Cloud, ident: str) -> None:
    """Delete an upload and its parts."""
    cloud.store.delete(UPLOADS, ident)
    for key, part in cloud.store.list(PARTS, f"{ident}/"):
        cloud.store.delete(PARTS, key)
        content.remove(cloud, part["blob"])


async def listed(call: Request) -> web.StreamResponse:
    """GET ?uploadId=ID"""
    ident, _ = _upload(call)
    require(call.cloud, call.principal, "storage.multipartUploads.listParts", call.bucket)
    inner = (
        messages.element("Bucket", call.bucket_name)
        + messages.element("Key", call.name)
        + messages.element("UploadId", ident)
    )
    for _, part in call.cloud.store.list(PARTS, f"{ident}/"):
        names = (("PartNumber", "number"), ("LastModified", "updated"), ("ETag", "etag"), ("Size", "size"))
        inner += "<Part>" + "".join(messages.element(k, part[name]) for k, name in names) + "</Part>"
    return messages.xml("ListPartsResult", inner + messages.element("IsTruncated", "false"))


def uploads(call: Request) -> web.StreamResponse:
    """GET ?uploads of a bucket"""
    require(call.cloud, call.principal, "storage.multipartUploads.list", call.bucket)
    inner = messages.element("Bucket", call.bucket_name)
    for ident, doc in call.cloud.store.list(UPLOADS):
        if doc["bucket"] == call.bucket_name:
            values = (("Key", doc["name"]), ("UploadId", ident), ("Initiated", doc["start"]))
            inner += "<Upload>" + "".join(messages.element(k, v) for k, v in values) + "</Upload>"
    return messages.xml("ListMultipartUploadsResult", inner + messages.element("IsTruncated", "false"))
