# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streamed artifacts in Cloud Storage: MLflow's own repository first writes every file to /tmp, which is memory on Cloud Run.

MLflow finds this repository through this package's entry point `mlflow.artifact_repository` for `gs://`.
https://cloud.google.com/storage/docs/resumable-uploads, https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import os
import posixpath
from collections.abc import AsyncIterable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import quote

import google.auth
import google_crc32c
import requests
import urllib3
from google.api_core import exceptions as google_errors
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from google.resumable_media import DataCorruption, InvalidResponse
from google.resumable_media.common import RetryStrategy
from google.resumable_media.requests import XMLMPUContainer
from mlflow.entities import FileInfo
from mlflow.entities.multipart_upload import (
    CreateMultipartUploadResponse,
    MultipartUploadCredential,
    MultipartUploadPart,
)
from mlflow.entities.presigned_download import PresignedDownloadUrlResponse
from mlflow.exceptions import MlflowException, _UnsupportedMultipartUploadException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE
from mlflow.store.artifact.artifact_repo import MultipartDownloadMixin, StreamUploadMixin, verify_artifact_path
from mlflow.store.artifact.gcs_artifact_repo import GCSArtifactRepository, GCSMPUArguments
from mlflow.utils.mime_type_utils import _guess_mime_type
from requests.adapters import HTTPAdapter

from mlflow_gcp_server.signing import Signing

Result = TypeVar("Result")

MIB = 1024 * 1024
# The chunk that a transfer holds in memory: all transfers of an instance together use a small part of its memory.
UPLOAD_CHUNK = 2 * MIB
DOWNLOAD_CHUNK = MIB // 4
# Smaller files go through the server even if URLs can be signed: one request instead of three.
DIRECT_DOWNLOAD_BYTES = 100 * MIB
# Valid long enough to upload one part of a large file over a slow connection.
PART_URL_LIFETIME = timedelta(hours=12)
ATTEMPTS = 5
# Timeout in seconds for Cloud Storage's response to a request, or for its next bytes.
TIMEOUT = 60
# Seconds of retries to start, complete or abort a multipart upload: the client waits two minutes for the response.
MULTIPART_RETRY = 60
# Maximum number of concurrent transfers; Cloud Run sends an instance no more requests than its concurrency.
THREADS = 64
SCOPE = "https://www.googleapis.com/auth/cloud-platform"

executor = ThreadPoolExecutor(THREADS, thread_name_prefix="artifacts")


@functools.cache
def storage_client() -> storage.Client:
    """The process's only client, with a connection for each transfer."""
    credentials, project = google.auth.default(scopes=[SCOPE])
    client = storage.Client(project=project or "none", credentials=credentials)
    client._http.mount("https://", HTTPAdapter(pool_connections=8, pool_maxsize=THREADS))
    return client


@functools.cache
def signing() -> Signing:
    """The URL signer of the process, with the credentials of its Cloud Storage client."""
    return Signing(lambda: storage_client()._credentials)


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Convert errors of Cloud Storage into MLflow's, so that clients retry temporary errors and report the others."""
    try:
        yield
    except InvalidResponse as error:
        raise _failure(what, google_errors.from_http_response(error.response)) from error
    except (
        google_errors.GoogleAPIError,
        requests.ConnectionError,
        requests.Timeout,
        urllib3.exceptions.HTTPError,
        GoogleAuthError,
        DataCorruption,
    ) as error:
        raise _failure(what, error) from error


def _failure(what: str, error: Exception) -> MlflowException:
    if isinstance(error, google_errors.NotFound):
        return MlflowException(f"No such artifact: '{what}'", error_code=RESOURCE_DOES_NOT_EXIST)
    final = isinstance(error, google_errors.GoogleAPICallError)
    if final and not isinstance(error, (google_errors.TooManyRequests, google_errors.ServerError)):
        return MlflowException(f"Cloud Storage rejected the request for '{what}': {error}", error_code=INTERNAL_ERROR)
    message = f"Cloud Storage is temporarily unable to transfer '{what}': {type(error).__name__}"
    return MlflowException(message, error_code=TEMPORARILY_UNAVAILABLE)


@dataclass(frozen=True)
class Stored:
    """One generation of an object.

    name: of the object. size: in bytes. generation: the one that the download reads. checksum: CRC32C in base64, from
    Cloud Storage. etag: as in the HTTP header. updated: as in Last-Modified, seconds since 1970.
    """

    bucket: str
    name: str
    size: int
    generation: int
    checksum: str
    etag: str
    updated: float

    def chunks(self, start: int, stop: int) -> Generator[bytes, None, None]:
        """The bytes from start to before stop, in chunks; an interrupted transfer is resumed.

        The last chunk of a whole object is returned only if the checksum is correct: otherwise the client gets fewer bytes
        than Content-Length and rejects the file.  Raises MlflowException.
        """
        whole = start == 0 and stop == self.size
        checksum = google_crc32c.Checksum()
        for piece in self._pieces(start, stop):
            start += len(piece)
            if whole:
                checksum.update(piece)
                if start == stop and base64.b64encode(checksum.digest()).decode() != self.checksum:
                    raise MlflowException(
                        f"Cloud Storage returned bytes that differ from those stored in '{self.name}'"
                    )
            yield piece

    def _pieces(self, start: int, stop: int) -> Iterator[bytes]:
        client = storage_client()
        url = (
            f"{client._connection.API_BASE_URL}/download/storage/v1/b/{self.bucket}/o/{quote(self.name, safe='')}"
            f"?alt=media&generation={self.generation}"
        )
        failures = 0
        while start < stop:
            # The bytes as stored, without decompressing them.
            headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "gzip"}
            try:
                with told(self.name), client._http.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                    if answer.status_code != 206 and not (answer.status_code == 200 and start == 0):
                        raise google_errors.from_http_response(answer)
                    for piece in answer.raw.stream(DOWNLOAD_CHUNK, decode_content=False):
                        failures = 0
                        start += len(piece)
                        yield piece
                if start < stop:
                    raise MlflowException(f"'{self.name}' ended early", error_code=TEMPORARILY_UNAVAILABLE)
            except MlflowException as error:
                failures += 1
                if error.get_http_status_code() != 503 or failures >= ATTEMPTS:
                    raise


class Upload:
    """An object that is uploaded in chunks: it becomes visible as a whole after the last chunk, or not at all.

    Bytes that Cloud Storage did not accept are sent again.  https://cloud.google.com/storage/docs/performing-resumable-uploads
    """

    def __init__(self, bucket: str, name: str, content_type: str) -> None:
        self._name = name
        self._http = storage_client()._http
        self._collection = f"{storage_client()._connection.API_BASE_URL}/upload/storage/v1/b/{bucket}/o"
        self._object = f"{storage_client()._connection.API_BASE_URL}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        self._content_type = content_type
        self._session: str | None = None
        self._sent = 0
        self._checksum = google_crc32c.Checksum()

    def write(self, chunk: bytes) -> None:
        """Send a chunk that is not the last: a multiple of 256 KiB.  Raises errors of google.api_core and requests."""
        if self._session is None:
            self._session = DEFAULT_RETRY(self._begin)()
        self._send(chunk, last=False)

    def finish(self, chunk: bytes) -> None:
        """Send the last chunk, which may be empty.  Raises like write(), and DataCorruption if different bytes were stored."""
        stored = self._send(chunk, last=True) if self._session else DEFAULT_RETRY(self._send_whole)(chunk)
        if stored.get("crc32c") != base64.b64encode(self._checksum.digest()).decode():
            self._http.delete(self._object, params={"ifGenerationMatch": stored["generation"]}, timeout=TIMEOUT)
            raise DataCorruption(None, "Cloud Storage stored bytes that differ from those sent")

    def abort(self) -> None:
        """Abort the upload: nothing is stored."""
        if self._session:
            # If this fails, Cloud Storage discards the session after a week.
            with contextlib.suppress(requests.RequestException, GoogleAuthError):
                self._http.delete(self._session, timeout=TIMEOUT)

    def _begin(self) -> str:
        answer = self._http.post(
            self._collection,
            params={"uploadType": "resumable", "name": self._name},
            headers={"X-Upload-Content-Type": self._content_type},
            json={"contentType": self._content_type},
            timeout=TIMEOUT,
        )
        if not answer.ok:
            raise google_errors.from_http_response(answer)
        return answer.headers["Location"]

    def _send_whole(self, chunk: bytes) -> dict[str, Any]:
        self._checksum = google_crc32c.Checksum(chunk)
        answer = self._http.post(
            self._collection,
            params={"uploadType": "media", "name": self._name},
            headers={"Content-Type": self._content_type},
            data=chunk,
            timeout=TIMEOUT,
        )
        if not answer.ok:
            raise google_errors.from_http_response(answer)
        return answer.json()

    def _send(self, chunk: bytes, last: bool) -> dict[str, Any]:
        """Returns the object's metadata after the last chunk."""
        self._checksum.update(chunk)
        start, stop = self._sent, self._sent + len(chunk)
        stored: dict[str, Any] | None = None
        unsure = False

        def step() -> None:
            nonlocal stored, unsure
            total = str(stop) if last else "*"
            if unsure or self._sent == stop:
                content, body = f"bytes */{total}", b""
            else:
                content, body = f"bytes {self._sent}-{stop - 1}/{total}", chunk[self._sent - start :]
            unsure = True  # until it responds with the number of accepted bytes
            answer = self._http.put(self._session, data=body, headers={"Content-Range": content}, timeout=TIMEOUT)
            if answer.status_code == 308:
                taken = answer.headers.get("Range", "bytes=0--1").rpartition("=")[2].partition("-")[2]
                self._sent = int(taken) + 1
            elif answer.ok:
                stored, self._sent = answer.json(), stop
            else:
                raise google_errors.from_http_response(answer)
            if not start <= self._sent <= stop:
                raise DataCorruption(answer, "Cloud Storage lost bytes that it had accepted")
            unsure = False

        while self._sent < stop or (last and stored is None):
            DEFAULT_RETRY(step)()
        return stored or {}


class Multipart(NamedTuple):
    """A multipart upload of one object."""

    blob: storage.Blob
    container: XMLMPUContainer
    arguments: GCSMPUArguments


class StreamingArtifactRepository(GCSArtifactRepository, StreamUploadMixin, MultipartDownloadMixin):
    """A folder in a bucket; like MLflow's own repository for `gs://`, but with streamed files and URLs signed by IAM."""

    def __init__(self, artifact_uri: str, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("client", storage_client())
        super().__init__(artifact_uri, *args, **kwargs)

    def _name(self, path: str | None) -> str:
        """The object name of an artifact path."""
        _, root = self.parse_gcs_uri(self.artifact_uri)
        return posixpath.join(root, path) if path else root

    def _blob(self, path: str) -> storage.Blob:
        bucket, _ = self.parse_gcs_uri(self.artifact_uri)
        return self.client.bucket(bucket).blob(self._name(path))

    def probe(self) -> storage.Blob:
        """A nonexistent object with which signed URLs are tested."""
        return self._blob("signed-url-test/none")

    # -- streams -----------------------------------------------------------

    def _upload(self, file_name: str, artifact_path: str | None) -> Upload:
        verify_artifact_path(artifact_path)
        name = os.path.basename(file_name)
        blob = self._blob(posixpath.join(artifact_path, name) if artifact_path else name)
        return Upload(blob.bucket.name, blob.name, _guess_mime_type(name))

    def log_artifact_from_stream(
        self, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        """Store the contents of a stream; nothing is stored if it ends early.  Raises MlflowException."""
        upload = self._upload(artifact_file_name, artifact_path)
        try:
            with told(artifact_file_name):
                while len(chunk := stream.read(UPLOAD_CHUNK)) == UPLOAD_CHUNK:
                    upload.write(chunk)
                upload.finish(chunk)
        except BaseException:
            upload.abort()
            raise

    async def log_artifact_from_async_stream(
        self, chunks: AsyncIterable[bytes], artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        """Store the contents of an asynchronous stream; nothing is stored if it ends early.  Raises MlflowException."""
        upload = self._upload(artifact_file_name, artifact_path)
        gathered, filled = bytearray(), 0
        sending: asyncio.Future[None] | None = None
        try:
            with told(artifact_file_name):
                # A thread sends one chunk while the next one is received.
                async for piece in chunks:
                    rest = memoryview(piece)
                    while rest:
                        if filled == UPLOAD_CHUNK:
                            if sending:
                                await sending
                            sending, filled = run(upload.write, bytes(gathered)), 0
                        taken = rest[: UPLOAD_CHUNK - filled]
                        gathered[filled : filled + len(taken)] = taken
                        filled, rest = filled + len(taken), rest[len(taken) :]
                if sending:
                    await sending
                sending = run(upload.finish, bytes(memoryview(gathered)[:filled]))
                await sending
        except BaseException:
            # The client disconnected, or Cloud Storage rejected the upload: leave no upload session behind.
            if sending:
                await asyncio.gather(sending, return_exceptions=True)
            await run(upload.abort)
            raise

    def stat(self, path: str) -> Stored:
        """The object at an artifact path.  Raises MlflowException if there is none, or if it is a folder."""
        blob = self._blob(path)
        try:
            with told(path):
                blob.reload(timeout=TIMEOUT)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" and self._is_directory(path):
                text = f"Artifact path refers to a directory, not a file: '{path}'"
                raise MlflowException.invalid_parameter_value(text) from None
            raise
        return Stored(
            bucket=blob.bucket.name,
            name=blob.name,
            size=blob.size,
            generation=blob.generation,
            checksum=blob.crc32c,
            etag=str(blob.generation),
            updated=blob.updated.timestamp(),
        )

    # -- folders -----------------------------------------------------------

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """The contents of a folder."""
        bucket, root = self.parse_gcs_uri(self.artifact_uri)
        prefix = self._name(path).rstrip("/") + "/" if self._name(path) else ""
        cut = len(root) + 1 if root else 0
        with told(path or root):
            listing = self.client.bucket(bucket).list_blobs(
                prefix=prefix, delimiter="/", fields="items(name,size),prefixes,nextPageToken"
            )
            found = [FileInfo(blob.name[cut:], False, blob.size) for blob in listing if blob.name != prefix]
        found += [FileInfo(folder[cut:-1], True, None) for folder in listing.prefixes]
        return sorted(found, key=lambda info: info.path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file, or a folder with everything in it."""
        bucket, _ = self.parse_gcs_uri(self.artifact_uri)
        name = self._name(artifact_path)

        def delete(blob: storage.Blob) -> None:
            with contextlib.suppress(google_errors.NotFound):
                blob.delete(timeout=TIMEOUT)

        with told(artifact_path or name):
            blobs = self.client.bucket(bucket).list_blobs(prefix=name, fields="items(name),nextPageToken")
            inside = (b for b in blobs if not name or b.name == name or b.name.startswith(name.rstrip("/") + "/"))
            list(executor.map(delete, inside))

    # -- direct transfers ----------------------------------------------------

    @staticmethod
    def _gcs_mpu_arguments(filename: str, blob: storage.Blob) -> GCSMPUArguments:
        """MLflow's arguments of an XML multipart upload, with the object name quoted for a URL."""
        arguments = GCSArtifactRepository._gcs_mpu_arguments(filename, blob)
        base = arguments.url.removesuffix(blob.name)
        return arguments._replace(url=base + quote(blob.name, safe="/~"))

    def _multipart(self, local_file: str, artifact_path: str | None, upload_id: str | None = None) -> Multipart:
        name = os.path.basename(local_file)
        blob = self._blob(posixpath.join(artifact_path, name) if artifact_path else name)
        arguments = self._gcs_mpu_arguments(name, blob)
        container = XMLMPUContainer(arguments.url, name, headers=arguments.headers)
        container._upload_id = upload_id
        container._retry_strategy = RetryStrategy(max_cumulative_retry=MULTIPART_RETRY)
        return Multipart(blob, container, arguments)

    def create_multipart_upload(
        self, local_file: str, num_parts: int = 1, artifact_path: str | None = None
    ) -> CreateMultipartUploadResponse:
        """Start a multipart upload whose parts the client sends directly to Cloud Storage.  Raises MlflowException."""
        if not signing().works:
            raise _UnsupportedMultipartUploadException()
        blob, container, arguments = self._multipart(local_file, artifact_path)
        with told(local_file):
            container.initiate(transport=arguments.transport, content_type=arguments.content_type)

        def sign(number: int) -> MultipartUploadCredential:
            query = {"partNumber": number, "uploadId": container.upload_id}
            url = signing().url(blob, "PUT", PART_URL_LIFETIME, query)
            return MultipartUploadCredential(url=url, part_number=number, headers={})

        try:
            with told(local_file):
                parts = list(executor.map(sign, range(1, num_parts + 1)))
        except BaseException as error:
            with contextlib.suppress(Exception):
                container.cancel(transport=arguments.transport)
            if isinstance(error.__cause__, GoogleAuthError):
                signing().failed()
                raise _UnsupportedMultipartUploadException() from error
            raise
        return CreateMultipartUploadResponse(credentials=parts, upload_id=container.upload_id)

    def complete_multipart_upload(
        self,
        local_file: str,
        upload_id: str,
        parts: list[MultipartUploadPart] | None = None,
        artifact_path: str | None = None,
    ) -> None:
        """Assemble the file from its parts.  Raises MlflowException."""
        _, container, arguments = self._multipart(local_file, artifact_path, upload_id)
        for part in parts or []:
            container.register_part(part.part_number, part.etag)
        with told(local_file):
            container.finalize(transport=arguments.transport)

    def abort_multipart_upload(self, local_file: str, upload_id: str, artifact_path: str | None = None) -> None:
        """Discard the uploaded parts of a file.  Raises MlflowException."""
        _, container, arguments = self._multipart(local_file, artifact_path, upload_id)
        with told(local_file):
            container.cancel(transport=arguments.transport)

    def get_download_presigned_url(self, artifact_path: str, expiration: int = 300) -> PresignedDownloadUrlResponse:
        """A Cloud Storage URL for a large file; none for a small one, which the client then requests from the server.

        expiration: seconds.  Raises MlflowException.
        """
        stored = self.stat(artifact_path)
        if stored.size < DIRECT_DOWNLOAD_BYTES or not signing().works:
            return PresignedDownloadUrlResponse(url="", headers={}, file_size=None)
        query = {"generation": stored.generation}
        with told(artifact_path):
            url = signing().url(self._blob(artifact_path), "GET", timedelta(seconds=expiration), query)
        return PresignedDownloadUrlResponse(url=url, headers={}, file_size=stored.size)


def run(function: Callable[..., Result], *args: Any) -> asyncio.Future[Result]:
    """Run a function that waits for Cloud Storage in one of this module's threads."""
    return asyncio.get_running_loop().run_in_executor(executor, functools.partial(function, *args))
