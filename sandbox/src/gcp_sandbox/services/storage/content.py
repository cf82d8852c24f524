"""The bytes of objects: files in the state folder, written atomically.

https://cloud.google.com/storage/docs/data-validation
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import secrets
import shutil
import zlib
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
from aiohttp import web

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError

CHUNK = 1 << 18
Chunks = AsyncIterator[bytes]


def folder(cloud: Cloud) -> Path:
    """The folder with the bytes of objects."""
    path = cloud.folder / "objects"
    path.mkdir(exist_ok=True)
    return path


def path_of(cloud: Cloud, blob: str) -> Path:
    """File of a blob ID."""
    return folder(cloud) / blob[:2] / blob


def _files(blob: Path) -> list[Path]:
    """The files whose concatenated bytes are a blob's."""
    return sorted(blob.iterdir()) if blob.is_dir() else [blob]


def _delete(blob: Path) -> None:
    if blob.is_dir():
        shutil.rmtree(blob)
    else:
        blob.unlink(missing_ok=True)


class Blob:
    """A blob being written: a file, its size, and its running checksums."""

    def __init__(self, cloud: Cloud, ident: str = "") -> None:
        self.id = ident or secrets.token_hex(16)
        self.path = path_of(cloud, self.id)
        self.path.parent.mkdir(exist_ok=True)
        self._md5: Any = hashlib.md5(usedforsecurity=False)
        self._crc = 0
        self.size = 0
        if ident and self.path.exists():  # an upload that continues after a restart
            with self.path.open("rb") as file:
                while data := file.read(CHUNK):
                    self._count(data)
        self._file: BinaryIO | None = None
        self.path.touch()

    def _count(self, data: bytes) -> None:
        if self._md5 is not None:
            self._md5.update(data)
        self._crc = google_crc32c.extend(self._crc, data)
        self.size += len(data)

    def write(self, data: bytes) -> None:
        """Append."""
        if self._file is None:
            self._file = self.path.open("ab")
        self._file.write(data)
        self._count(data)

    async def fill(self, chunks: Chunks) -> None:
        """Append a stream; if it is interrupted, the received bytes are kept."""
        try:
            async for data in chunks:
                self.write(data)
        finally:
            self.close()

    def join(self, parts: list[tuple[str, int, str]]) -> None:
        """Create a blob by concatenating others, as a folder with links to their files; it has no MD5.

        parts: the ID, size and crc32c (in the API's format) of each.
        """
        self._md5 = None
        self.path.unlink()
        self.path.mkdir()
        folder = self.path.parents[1]
        for number, file in enumerate(file for ident, _, _ in parts for file in _files(folder / ident[:2] / ident)):
            os.link(file, self.path / f"{number:06d}")
        for _, size, crc32c in parts:
            self._crc = _joined(self._crc, int.from_bytes(base64.b64decode(crc32c), "big"), size)
            self.size += size

    def close(self) -> None:
        """Flush to disk; more may be written later."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Delete the written bytes."""
        self.close()
        _delete(self.path)

    @property
    def md5(self) -> str:
        """md5Hash in the API's format; an empty string for a concatenated blob."""
        return base64.b64encode(self._md5.digest()).decode() if self._md5 is not None else ""

    @property
    def crc32c(self) -> str:
        """crc32c in the API's format."""
        return base64.b64encode(self._crc.to_bytes(4, "big")).decode()


def _joined(first: int, second: int, size: int) -> int:
    """The CRC32C of two concatenated byte sequences; size: the length of the second.

    CRCs are polynomials over GF(2), here with the coefficient of x^0 in the highest bit: the first is multiplied by x^(8 size).
    """
    power, step = 1 << 31, 1 << 23  # x^0 and x^8
    while size:
        if size & 1:
            power = _times(power, step)
        step = _times(step, step)
        size >>= 1
    return _times(first, power) ^ second


def _times(one: int, other: int) -> int:
    product = 0
    while one:
        if one & 1 << 31:
            product ^= other
        one = one << 1 & 0xFFFFFFFF
        other = other >> 1 ^ (0x82F63B78 if other & 1 else 0)  # Castagnoli's polynomial
    return product


def remove(cloud: Cloud, blob: str) -> None:
    """Delete a blob."""
    _delete(path_of(cloud, blob))


def link(cloud: Cloud, blob: str) -> str:
    """Create a blob with the same bytes, without copying them; returns its ID."""
    ident = secrets.token_hex(16)
    target = path_of(cloud, ident)
    target.parent.mkdir(exist_ok=True)
    source = path_of(cloud, blob)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link)
    else:
        os.link(source, target)
    return ident


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header, or None for all.  Raises ApiError 416."""
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
        raise ApiError(
            416,
            "Request range not satisfiable",
            reason="requestedRangeNotSatisfiable",
            location="Range",
            location_type="header",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return first, last


def _read(blob: Path, start: int, stop: int) -> Generator[bytes]:
    """The bytes of a blob from start to before stop, in chunks, even if it is deleted in the meantime."""
    with contextlib.ExitStack() as stack:
        sources = []
        for file in _files(blob):
            size = file.stat().st_size
            if start < size and stop > 0:
                sources.append((stack.enter_context(file.open("rb")), max(start, 0), min(stop, size)))
            start, stop = start - size, stop - size
        for source, first, last in sources:
            source.seek(first)
            while data := source.read(min(CHUNK, last - source.tell())):
                yield data


async def send(
    request: web.BaseRequest, blob: Path, headers: dict[str, str], *, encoding: str = "", head: bool = False
) -> web.StreamResponse:
    """Respond with a blob or the requested range of it.

    encoding: the object's contentEncoding; gzip is decompressed for a client that does not accept it.
    https://cloud.google.com/storage/docs/transcoding
    """
    size = sum(file.stat().st_size for file in _files(blob))
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
    with contextlib.suppress(ConnectionError), contextlib.closing(_read(blob, first, last + 1)) as pieces:
        inflate = zlib.decompressobj(31) if unpack else None
        for data in pieces:
            await response.write(inflate.decompress(data) if inflate else data)
        if inflate:
            await response.write(inflate.flush())
    await response.write_eof()
    return response
