"""The bytes of objects: files under the state folder, written whole or not at all.

https://cloud.google.com/storage/docs/data-validation
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import re
import secrets
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import google_crc32c
from aiohttp import web

from gcp_sandbox.errors import ApiError

if TYPE_CHECKING:
    from gcp_sandbox.app import Sandbox

CHUNK = 1 << 18
Chunks = AsyncIterator[bytes]


def folder(app: Sandbox) -> Path:
    """Where the bytes are."""
    path = app.folder / "objects"
    path.mkdir(exist_ok=True)
    return path


def path_of(app: Sandbox, blob: str) -> Path:
    """File of a blob id."""
    return folder(app) / blob[:2] / blob


class Blob:
    """Bytes being written: a file, its size, and its checksums as they grow."""

    def __init__(self, app: Sandbox, ident: str = "") -> None:
        self.id = ident or secrets.token_hex(16)
        self.path = path_of(app, self.id)
        self.path.parent.mkdir(exist_ok=True)
        self._md5: Any = hashlib.md5(usedforsecurity=False)
        self._crc = google_crc32c.Checksum()
        self.size = 0
        if ident and self.path.exists():  # an upload that goes on after a restart
            with self.path.open("rb") as file:
                while data := file.read(CHUNK):
                    self._count(data)
        self._file: BinaryIO | None = None
        self.path.touch()

    def _count(self, data: bytes) -> None:
        if self._md5 is not None:
            self._md5.update(data)
        self._crc.update(data)
        self.size += len(data)

    def write(self, data: bytes) -> None:
        """Append."""
        if self._file is None:
            self._file = self.path.open("ab")
        self._file.write(data)
        self._count(data)

    async def fill(self, chunks: Chunks) -> None:
        """Append all of a stream; where it breaks off, what came stays."""
        try:
            async for data in chunks:
                self.write(data)
        finally:
            self.close()

    async def join(self, files: list[Path]) -> None:
        """Append all of some files, beside the event loop; what is joined has no MD5.

        Raises FileNotFoundError, and discards the blob then.
        """
        self._md5 = None
        await asyncio.to_thread(self._join, files)

    def _join(self, files: list[Path]) -> None:
        try:
            for file in files:
                with file.open("rb") as source:
                    while data := source.read(4 * CHUNK):
                        self.write(data)
            self.close()
        except BaseException:
            self.discard()
            raise

    def close(self) -> None:
        """Write out; more may be written later."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    @property
    def md5(self) -> str:
        """md5Hash as the API writes it; an empty string for what was joined."""
        return base64.b64encode(self._md5.digest()).decode() if self._md5 is not None else ""

    @property
    def crc32c(self) -> str:
        """crc32c as the API writes it."""
        return base64.b64encode(self._crc.digest()).decode()


def remove(app: Sandbox, blob: str) -> None:
    """Delete a blob's file."""
    path_of(app, blob).unlink(missing_ok=True)


def link(app: Sandbox, blob: str) -> str:
    """Another blob with the same bytes, at no cost; returns its id."""
    ident = secrets.token_hex(16)
    target = path_of(app, ident)
    target.parent.mkdir(exist_ok=True)
    os.link(path_of(app, blob), target)
    return ident


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte that a Range header asks for, or None for all.  Raises ApiError 416."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if not found or not (found[1] or found[2]):
        return None
    if found[1]:
        first, last = int(found[1]), min(int(found[2]), size - 1) if found[2] else size - 1
        if found[2] and int(found[2]) < int(found[1]):
            return None
    else:
        first, last = max(size - int(found[2]), 0), size - 1
        if int(found[2]) == 0:
            first = size
    if first >= size:
        raise ApiError(416, "Request range not satisfiable", reason="requestedRangeNotSatisfiable",
                       location="Range", location_type="header", headers={"Content-Range": f"bytes */{size}"})  # fmt: skip
    return first, last


async def send(
    request: web.BaseRequest, file: Path, headers: dict[str, str], *, encoding: str = "", head: bool = False
) -> web.StreamResponse:
    """Answer with a file or the range of it that is asked for.

    encoding: the object's contentEncoding; gzip is undone for a client that does not accept it.
    https://cloud.google.com/storage/docs/transcoding
    """
    size = file.stat().st_size
    unpack = encoding == "gzip" and "gzip" not in request.headers.get("Accept-Encoding", "")
    response = web.StreamResponse(headers=headers)
    if unpack and "no-transform" not in headers.get("Cache-Control", ""):
        response.headers["Warning"] = "214 UploadServer gunzipped"
        wanted = None
    else:
        unpack = False
        if encoding:
            response.headers["Content-Encoding"] = encoding
        wanted = byte_range(request.headers.get("Range", ""), size)
    first, last = wanted or (0, size - 1)
    if wanted:
        response.set_status(206)
        response.headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    if not unpack:
        response.content_length = last - first + 1
    if head:
        response.headers.setdefault("Content-Length", str(size))
        await response.prepare(request)
        return response
    await response.prepare(request)
    with file.open("rb") as source, contextlib.suppress(ConnectionError):
        source.seek(first)
        left = last - first + 1
        inflate = zlib.decompressobj(31) if unpack else None
        while left > 0 and (data := source.read(min(CHUNK, left))):
            left -= len(data)
            await response.write(inflate.decompress(data) if inflate else data)
        if inflate:
            await response.write(inflate.flush())
    await response.write_eof()
    return response
