"""Writing objects: simple, multipart and resumable uploads.

https://cloud.google.com/storage/docs/uploads-downloads, https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import asyncio
import base64
import json
import mimetypes
import re
import secrets
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import quote

from aiohttp import StreamReader, web

from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.storage import access, common, content, objects
from gcp_sandbox.services.storage.common import SERVICE, Doc, bucket_of
from gcp_sandbox.services.storage.permissions import require

SESSIONS = "storage.uploads"
# Chunks of a resumable upload, except the last one, are multiples of this.
_UNIT = 256 * 1024
# Uploads whose bytes are being received, by upload ID.
_open: weakref.WeakKeyDictionary[Cloud, dict[str, content.Blob]] = weakref.WeakKeyDictionary()
_locks: weakref.WeakKeyDictionary[Cloud, dict[str, asyncio.Lock]] = weakref.WeakKeyDictionary()


# -- one object ------------------------------------------------------------


class Target:
    """The target of an upload: bucket, name, the client's metadata, and preconditions; validated on creation."""

    def __init__(self, cloud: Cloud, principal: Principal, bucket: str, name: str, given: Doc, params: Doc) -> None:
        self.cloud, self.principal, self.given, self.params = cloud, principal, given, params
        self.bucket = bucket_of(cloud, bucket)
        self.name = name
        check_name(name)
        self.objects = objects.Objects(cloud, self.bucket)
        self.check()

    def check(self) -> None:
        """Check the current permissions and preconditions.  Raises ApiError."""
        before = self.objects.get(self.name)
        require(self.cloud, self.principal, "storage.objects.create", self.bucket, name=self.name)
        if before:
            acl = access.list_of(self.bucket, before)
            require(self.cloud, self.principal, "storage.objects.delete", self.bucket, acl, self.name)
            held(self.bucket, before)
        now = before or {"generation": None, "metageneration": None}
        common.guard(self.params, now["generation"], now["metageneration"])

    def finish(self, blob: content.Blob, expected: Doc, *, parts: int = 0) -> Doc:
        """Create the object of a complete blob.  expected: crc32c and md5Hash from the client."""
        blob.close()
        try:
            check_hashes(blob, expected)
            self.check()  # the state may have changed since the upload started
            doc = objects.record(
                self.bucket,
                self.name,
                self.given,
                blob=blob.id,
                size=blob.size,
                md5=blob.md5,
                crc32c=blob.crc32c,
            )
            if parts:
                doc["componentCount"] = parts
            preset = self.params.get("predefinedAcl", "")
            doc |= access.object_list(self.bucket, self.name, self.given.get("acl"), preset, self.principal)
        except BaseException:
            blob.discard()
            raise
        return self.objects.add(doc)


def check_name(name: str) -> None:
    """https://cloud.google.com/storage/docs/objects#naming"""
    if not name:
        raise common.required("Required")
    if len(name.encode()) > 1024:
        raise common.invalid("The maximum object length is 1024 characters, but got a name with more.")
    if "\r" in name or "\n" in name or name in (".", "..") or name.startswith(".well-known/acme-challenge/"):
        raise common.invalid(f"Disallowed unicode characters present in object name '{name}'")


def held(bucket: Doc, doc: Doc) -> None:
    """Reject replacing or deleting an object under a hold or retention.  Raises ApiError 403."""
    for key, word in (("temporaryHold", "Temporary hold"), ("eventBasedHold", "Event-Based hold")):
        if doc.get(key):
            text = (
                f"Object '{doc['bucket']}/{doc['name']}' is under active {word} and cannot be deleted, overwritten or "
                "archived until hold is removed."
            )
            raise ApiError(403, text, reason="forbidden")
    until = objects.kept_until(bucket, doc)
    if until and until > datetime.now(UTC):
        text = (
            f"Object '{doc['bucket']}/{doc['name']}' is subject to bucket's retention policy or object retention and "
            f"cannot be deleted or overwritten until {until.isoformat()}"
        )
        raise ApiError(403, text, reason="retentionPolicyNotMet")


def check_hashes(blob: content.Blob, expected: Doc) -> None:
    """Reject content that does not match the client's checksums.  Raises ApiError 400."""
    for key, word, mine in (("crc32c", "CRC32C", blob.crc32c), ("md5Hash", "MD5 hash", blob.md5)):
        if expected.get(key) and expected[key] != mine:
            raise common.invalid(f'Provided {word} "{expected[key]}" doesn\'t match calculated {word} "{mine}".')


def header_hashes(request: web.BaseRequest) -> Doc:
    """Checksums in X-Goog-Hash and Content-MD5."""
    out: Doc = {}
    for value in request.headers.getall("X-Goog-Hash", []):
        for part in value.split(","):
            key, _, text = part.strip().partition("=")
            if key in ("crc32c", "md5"):
                out["md5Hash" if key == "md5" else key] = text
    if "Content-MD5" in request.headers:
        out["md5Hash"] = request.headers["Content-MD5"]
    return out


async def received(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """The request's body, as a stream."""
    async for data in request.content.iter_chunked(content.CHUNK):
        yield data


# -- methods ---------------------------------------------------------------


@SERVICE.method("storage.objects.insert")
async def insert(call: Call) -> Doc | web.StreamResponse:
    if "upload_id" in call.request.rel_url.query:
        return await resume(call)
    if not call.media:
        raise common.required("Upload requests must include an uploadType URL parameter.")
    kind = call.request.rel_url.query.get("uploadType", call.request.headers.get("X-Goog-Upload-Protocol", ""))
    if kind == "media":
        return await _simple(call)
    if kind == "multipart":
        return await _multipart(call)
    if kind == "resumable":
        return await _begin(call)
    raise common.invalid("Invalid upload request: uploadType must be media, multipart or resumable.")


def _target(call: Call, given: Doc) -> Target:
    name = call.params.get("name") or given.get("name", "")
    given = {k: v for k, v in given.items() if v is not None}
    if call.params.get("contentEncoding"):
        given["contentEncoding"] = call.params["contentEncoding"]
    return Target(call.cloud, call.principal, call.params["bucket"], name, given, call.params)


def _shown(call: Call, doc: Doc, given: Doc) -> Doc:
    full = call.params.get("projection", "full" if "acl" in given else "noAcl") == "full"
    return objects.shown(objects.dated(bucket_of(call.cloud, doc["bucket"]), doc), full=full)


def guessed(name: str) -> str:
    """A content type from a name's extension, for multipart and resumable uploads without one."""
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


async def _simple(call: Call) -> Doc:
    given = {"contentType": call.request.headers.get("Content-Type", "application/octet-stream")}
    if "Content-Encoding" in call.request.headers:
        given["contentEncoding"] = call.request.headers["Content-Encoding"]
    target = _target(call, given)
    blob = content.Blob(call.cloud)
    await _filled(blob, received(call.request))
    return _shown(call, target.finish(blob, header_hashes(call.request)), given)


async def _filled(blob: content.Blob, chunks: content.Chunks) -> None:
    try:
        await blob.fill(chunks)
    except BaseException:
        blob.discard()
        raise


class _Related:
    """A streamed multipart body.  gcloud and gsutil end its lines with only LF, and quote its boundary with '.

    Methods raise ValueError if it is malformed.
    """

    def __init__(self, stream: StreamReader, kind: str) -> None:
        found = re.search(r"""boundary=(['"]?)([^'";]+)\1""", kind)
        self._stream, self._rest = stream, b""
        self._first = b"--" + found.group(2).encode() if found else b""
        self._mark = b""

    async def _more(self) -> None:
        data = await self._stream.readany()
        if not data:
            raise ValueError("it ends before its last boundary")
        self._rest += data

    async def _line(self) -> bytes:
        while b"\n" not in self._rest:
            await self._more()
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    async def head(self) -> dict[str, str]:
        """Advance to the next part; returns its headers, with names in lower case."""
        line = await self._line()
        if not self._mark:
            if not self._first or line.rstrip(b"\r") != self._first:
                raise ValueError("it does not begin with its boundary")
            self._mark = (b"\r\n" if line.endswith(b"\r") else b"\n") + self._first
        headers = {}
        while line := (await self._line()).rstrip(b"\r"):
            name, _, value = line.decode("utf-8", "replace").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content of the part."""
        keep = len(self._mark) - 1
        while (at := self._rest.find(self._mark)) < 0:
            if len(self._rest) > keep:
                yield self._rest[:-keep]
                self._rest = self._rest[-keep:]
            await self._more()
        if at:
            yield self._rest[:at]
        self._rest = self._rest[at + len(self._mark) :]


async def _multipart(call: Call) -> Doc:
    kind = call.request.headers.get("Content-Type", "")
    if not kind.startswith("multipart/"):
        raise common.invalid("Multipart upload requests need the content type multipart/related.")
    body = _Related(call.request.content, kind)
    try:
        await body.head()
        given = json.loads(b"".join([data async for data in body.chunks()]) or b"{}")
        kind = (await body.head()).get("content-type", "")
    except ValueError as error:
        raise common.invalid(f"Malformed multipart body: {error}.") from None
    if "name" not in given and call.params.get("name"):
        given["name"] = call.params["name"]
    given.setdefault("contentType", kind or guessed(given.get("name", "")))
    target = _target(call, given)
    blob = content.Blob(call.cloud)
    try:
        await _filled(blob, body.chunks())
    except ValueError as error:
        raise common.invalid(f"Malformed multipart body: {error}.") from None
    return _shown(call, target.finish(blob, given), given)


# -- resumable -------------------------------------------------------------


async def _begin(call: Call) -> web.StreamResponse:
    given = json.loads(await call.request.read() or b"{}")
    kind = call.request.headers.get("X-Upload-Content-Type")
    if kind:
        given.setdefault("contentType", kind)
    given.setdefault("contentType", guessed(call.params.get("name") or given.get("name", "")))
    target = _target(call, given)
    ident = begin(call.cloud, target, call.params)
    query = f"uploadType=resumable&upload_id={ident}"
    if call.params.get("name"):
        query = f"uploadType=resumable&name={quote(call.params['name'], safe='')}&upload_id={ident}"
    link = f"https://{call.host}/upload/storage/v1/b/{call.params['bucket']}/o?{query}"
    return web.Response(headers={"Location": link, "X-GUploader-UploadID": ident, "Server": "UploadServer"})


def begin(cloud: Cloud, target: Target, params: Doc) -> str:
    """Record a resumable upload; returns its ID, which is sufficient to continue."""
    ident = secrets.token_urlsafe(48)
    cloud.store.put(
        SESSIONS,
        ident,
        {
            "bucket": target.bucket["name"],
            "name": target.name,
            "given": target.given,
            "email": target.principal.email,
            "params": {k: v for k, v in params.items() if k.startswith("if") or k in ("predefinedAcl", "projection")},
            "blob": secrets.token_hex(16),
            "start": objects.moment(),
        },
    )
    return ident


async def resume(call: Call) -> web.StreamResponse | Doc:
    """Continue an upload, query its progress, or cancel it."""
    ident = call.request.rel_url.query["upload_id"]
    answer = await proceed(call.cloud, call.request, ident)
    if isinstance(answer, dict):
        session = answer.pop("_session", {})
        full = session.get("params", {}).get("projection") == "full"
        return objects.shown(answer, full=full)
    return answer


async def proceed(cloud: Cloud, request: web.BaseRequest, ident: str) -> web.StreamResponse | Doc:
    """Handle one request of a resumable upload; returns the object's record when it is complete, else the response."""
    locks = _locks.setdefault(cloud, {})
    async with locks.setdefault(ident, asyncio.Lock()):
        try:
            return await _proceed(cloud, request, ident)
        finally:
            if cloud.store.peek(SESSIONS, ident) is None:
                locks.pop(ident, None)


async def _proceed(cloud: Cloud, request: web.BaseRequest, ident: str) -> web.StreamResponse | Doc:
    session = cloud.store.peek(SESSIONS, ident)
    if session is None:
        raise ApiError(404, "The resumable upload session does not exist or has expired.", reason="notFound")
    if request.method == "DELETE":
        _blob(cloud, ident, session).discard()
        forget(cloud, ident)
        return web.Response(status=499, headers={"Content-Length": "0"})
    if "done" in session:
        return dict(session["done"])
    blob = _blob(cloud, ident, session)
    header = request.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (?:(\d+)-(\d+|\*)|\*)/(\d+|\*)", header)
    if header and not found:
        raise common.invalid(f"Invalid Content-Range: {header}.")
    whole = int(found[3]) if found and found[3] != "*" else None
    if found and found[1] is None:  # a status query, or the end of an upload of unknown size
        if whole is not None and whole == blob.size and (whole or request.headers.get("Content-Length") == "0"):
            return _finish(cloud, ident, session, blob, request)
        return _incomplete(request, ident, blob)
    begin_at = int(found[1]) if found else 0
    if begin_at > blob.size:
        text = (
            f"Invalid request.  According to the Content-Range header, the upload offset is {begin_at} byte(s), which exceeds "
            f"already uploaded size of {blob.size} byte(s)."
        )
        return _incomplete(request, ident, blob, status=503, text=text)
    skip = blob.size - begin_at  # bytes that are already stored are skipped
    chunks = _without(received(request), skip) if skip else received(request)
    await blob.fill(chunks)
    # A chunk of whole units is followed by another one; an unspecified end (bytes 0-*/*) is that of the request.
    more = (
        found and found[2] != "*" and (int(found[2]) + 1 - begin_at) % _UNIT == 0
        if whole is None
        else blob.size < whole
    )
    if more:
        return _incomplete(request, ident, blob)
    if whole is not None and blob.size > whole:
        raise common.invalid("More bytes than Content-Range says.")
    return _finish(cloud, ident, session, blob, request)


async def _without(chunks: AsyncIterator[bytes], skip: int) -> AsyncIterator[bytes]:
    async for data in chunks:
        if skip >= len(data):
            skip -= len(data)
            continue
        yield data[skip:]
        skip = 0


def _blob(cloud: Cloud, ident: str, session: Doc) -> content.Blob:
    blobs = _open.setdefault(cloud, {})
    if ident not in blobs:
        blobs[ident] = content.Blob(cloud, session["blob"])
    return blobs[ident]


def forget(cloud: Cloud, ident: str) -> None:
    """Delete the record of an upload."""
    _open.setdefault(cloud, {}).pop(ident, None)
    cloud.store.delete(SESSIONS, ident)


def _incomplete(
    request: web.BaseRequest, ident: str, blob: content.Blob, status: int = 308, text: str = ""
) -> web.Response:
    headers = {"X-GUploader-UploadID": ident, "Server": "UploadServer", "Content-Length": str(len(text))}
    if blob.size:
        headers["Range"] = f"bytes=0-{blob.size - 1}"
        headers["X-Range-MD5"] = base64.b64decode(blob.md5).hex()
    # Google's library for Go requests this, because its HTTP client would follow a 308.
    if status == 308 and request.headers.get("X-GUploader-No-308") == "yes":
        headers["X-Http-Status-Code-Override"], status = "308", 200
    return web.Response(status=status, headers=headers, text=text)


def _finish(cloud: Cloud, ident: str, session: Doc, blob: content.Blob, request: web.BaseRequest) -> Doc:
    principal = Principal(session["email"])
    try:
        target = Target(cloud, principal, session["bucket"], session["name"], session["given"], session["params"])
        doc = target.finish(blob, session["given"] | header_hashes(request))
    except ApiError:
        forget(cloud, ident)
        raise
    _open.setdefault(cloud, {}).pop(ident, None)
    # The client may not have received the response, and retry.
    cloud.store.put(SESSIONS, ident, dict(session) | {"done": doc})
    return doc | {"_session": session}
