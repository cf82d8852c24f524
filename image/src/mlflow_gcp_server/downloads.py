# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads through the server: streamed from Cloud Storage to the client, with ranges, without a temporary file.

MLflow's handlers decide about access and headers; this module only transfers the bytes. A Flask handler stores the object in
the request's context, and the bridge to Flask sends it after the handler has returned, so that a slow client does not occupy a
thread.  https://www.rfc-editor.org/rfc/rfc9110.html#name-range-requests
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from mlflow.environment_variables import (
    MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD,
    MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD,
)
from mlflow.exceptions import MlflowException
from mlflow.server import artifact_router, fastapi_app, handlers, server_info_api
from mlflow.store.artifact.artifact_repo import TRACE_DATA_FILE_NAME, _validate_attachment_path
from mlflow.utils.mime_type_utils import _guess_mime_type
from mlflow.utils.uri import validate_path_is_safe
from starlette.routing import Mount
from werkzeug.http import http_date, parse_etags, parse_if_range_header, parse_range_header

from mlflow_gcp_server import seams
from mlflow_gcp_server.artifacts import Stored, StreamingArtifactRepository, run, signing
from mlflow_gcp_server.server import BODY_BYTES, Message, Receive, Send, refuse_body


@dataclass(frozen=True)
class Download:
    """The response to a request for an object: its status, and the bytes from start to before stop."""

    stored: Stored
    status: int
    start: int
    stop: int

    @classmethod
    def plan(cls, stored: Stored, headers: Mapping[str, str]) -> Download:
        """The part of an object that a request with these headers (names in lower case) gets."""
        etag = stored.etag
        if parse_etags(headers.get("if-none-match", "")).contains_weak(etag):
            return cls(stored, 304, 0, 0)
        asked = parse_range_header(headers.get("range"))
        condition = parse_if_range_header(headers.get("if-range"))
        if condition.etag not in (None, etag) or (condition.date and condition.date.timestamp() < int(stored.updated)):
            asked = None  # the client has another version: it gets the whole object
        if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
            return cls(stored, 200, 0, stored.size)
        found = asked.range_for_length(stored.size)
        return cls(stored, 206, *found) if found else cls(stored, 416, 0, 0)

    def headers(self) -> dict[str, str]:
        """The response headers, except those that MLflow sets for artifacts."""
        out = {
            "Accept-Ranges": "bytes",
            "ETag": f'"{self.stored.etag}"',
            "Last-Modified": http_date(self.stored.updated),
        }
        out["Cache-Control"] = "no-cache"
        if self.status == 416:
            out["Content-Range"] = f"bytes */{self.stored.size}"
        elif self.status == 206:
            out["Content-Range"] = f"bytes {self.start}-{self.stop - 1}/{self.stored.size}"
        if self.status != 304:
            out["Content-Length"] = str(self.stop - self.start)
        return out

    async def send(self, receive: Receive, send: Send) -> None:
        """Send the body until it is complete or the client disconnects."""
        pieces = self.stored.chunks(self.start, self.stop)
        gone = asyncio.ensure_future(_gone(receive))
        try:
            while not gone.done():
                piece = await run(_next, pieces)
                if piece is None:
                    await send({"type": "http.response.body", "body": b""})
                    return
                sending = asyncio.ensure_future(send({"type": "http.response.body", "body": piece, "more_body": True}))
                await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not sending.done():
                    sending.cancel()
        finally:
            gone.cancel()
            await run(pieces.close)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def artifact_headers(path: str) -> dict[str, str]:
    """The headers that MLflow sets for an artifact: browsers must not display it on the server's own domain."""
    name = posixpath.basename(path)
    return {
        "Content-Type": _guess_mime_type(name),
        "Content-Disposition": handlers._content_disposition_attachment(name),
        "X-Content-Type-Options": "nosniff",
    }


# -- native route ------------------------------------------------------------


class _Answer(Response):
    """A download as a response of a FastAPI route."""

    def __init__(self, download: Download, headers: dict[str, str], method: str) -> None:
        super().__init__(status_code=download.status, headers=headers | download.headers())
        if download.status == 304:
            del self.headers["content-length"]
        else:
            self.headers["content-length"] = download.headers()["Content-Length"]
        self._download, self._method = download, method

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._method == "HEAD" or self._download.start == self._download.stop:
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._download.send(receive, send)


async def _download_artifact(artifact_path: str, request: Request) -> Response:
    """Like MLflow's route of the same path, but without a temporary file."""
    if not artifact_router._is_serving_proxied_artifacts():
        raise HTTPException(503, "Artifact serving is disabled.")
    try:
        path = artifact_router._get_workspace_scoped_path(validate_path_is_safe(artifact_path))
        stored = await run(artifact_router._get_artifact_repo().stat, path)
    except MlflowException as error:
        content = error.serialize_as_json()
        return Response(content, error.get_http_status_code(), media_type="application/json")
    return _Answer(Download.plan(stored, request.headers), artifact_headers(path), request.method)


async def _upload_artifact(artifact_path: str, request: Request) -> Response:
    """Like MLflow's route of the same path, but rejects names that would be stored as different ones.

    MLflow's client puts a path into the URL unquoted: characters that look like a query or like encoded bytes are lost here.
    """
    try:
        if request.url.query or "\ufffd" in artifact_path or validate_path_is_safe(artifact_path) != artifact_path:
            raise MlflowException.invalid_parameter_value(
                "An artifact's name must not contain ?, #, a control character, or % before two hexadecimal digits"
            )
    except MlflowException as error:
        content = error.serialize_as_json()
        return Response(content, error.get_http_status_code(), media_type="application/json")
    return await artifact_router.upload_artifact(artifact_path, request)


# -- Flask's handlers --------------------------------------------------------

_noted: ContextVar[list[Download] | None] = ContextVar("mlflow_gcp_server_download", default=None)


def _flask_response(stored: Stored, path: str) -> flask.Response:
    """Store a download for the bridge; the response has its status and headers, but no body yet."""
    download = Download.plan(stored, {name.lower(): value for name, value in flask.request.headers.items()})
    response = flask.Response(status=download.status, headers=artifact_headers(path) | download.headers())
    response.automatically_set_content_length = False
    noted = _noted.get()
    if noted is not None and flask.request.method != "HEAD" and download.start < download.stop:
        noted.append(download)
    return response


def _send_artifact(original: Callable[..., flask.Response], repository: Any, path: str) -> flask.Response:
    if isinstance(repository, StreamingArtifactRepository):
        return _flask_response(repository.stat(path), path)
    return original(repository, path)


class _TraceFiles(StreamingArtifactRepository):
    """A trace's folder whose files are stored for the bridge instead of being written to /tmp."""

    def download_trace_data_to_file(self, dst_path: Path) -> Path:
        flask.g.trace_file = self.stat(TRACE_DATA_FILE_NAME)
        return dst_path

    def download_trace_attachment_to_file(self, path: str, dst_path: Path) -> Path:
        _validate_attachment_path(path)
        flask.g.trace_file = self.stat(posixpath.join("attachments", path))
        return dst_path


def _trace_repository(original: Callable[..., Any], trace_info: Any) -> Any:
    repository = original(trace_info)
    if isinstance(repository, StreamingArtifactRepository):
        return _TraceFiles(repository.artifact_uri)
    return repository


def _temporary_file_response(
    original: Callable[..., flask.Response], file_path: str, artifact_name: str, cleanup: Callable[[], None]
) -> flask.Response:
    stored = flask.g.pop("trace_file", None)
    if stored is None:
        return original(file_path, artifact_name, cleanup)
    cleanup()
    return _flask_response(stored, artifact_name)


class Bridge:
    """The bridge to Flask: rejects bodies that would fill the memory, and sends downloads stored by a handler."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        self._inner = inner

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        noted: list[Download] = []
        token = _noted.set(noted)
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_BYTES:
                raise _TooLarge
            return message

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start" or not noted:
                await send(message)

        try:
            await self._inner(scope, bounded, keep)
        except _TooLarge:
            await refuse_body(send)
            return
        finally:
            _noted.reset(token)
        if noted:
            await noted[0].send(receive, send)


class _TooLarge(Exception):
    pass


# -- what is advertised --------------------------------------------------------


def _server_info(original: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """MLflow's description of the server, with the features that depend on signed URLs only if these work and are enabled."""
    payload = original()
    for name, variable in (
        ("multipart_uploads_enabled", MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD),
        ("multipart_downloads_enabled", MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD),
    ):
        unwanted = variable.is_set() and not variable.get()
        payload[name] = bool(payload[name]) and signing().works and not unwanted
    return payload


def install(app: FastAPI) -> None:
    """Install the downloads in MLflow's application.  Raises RuntimeError if this version of MLflow is incompatible."""
    seams.wrap(handlers, "_send_artifact", ("artifact_repository", "path"), _send_artifact)
    seams.wrap(handlers, "_get_trace_artifact_repo", ("trace_info",), _trace_repository)
    seams.wrap(
        handlers,
        "_create_temp_artifact_file_response",
        ("file_path", "artifact_name", "cleanup"),
        _temporary_file_response,
    )
    info = seams.wrap(handlers, "build_server_info_payload", (), _server_info)
    seams.replace(server_info_api, "build_server_info_payload", info)
    for name in ("_is_serving_proxied_artifacts", "_get_workspace_scoped_path", "_get_artifact_repo"):
        seams.require(artifact_router, name)
    seams.require(artifact_router, "upload_artifact", ("artifact_path", "request"))
    router = APIRouter()
    for prefix in ("api", "ajax-api"):
        router.add_api_route(
            f"/{prefix}/2.0/mlflow-artifacts/artifacts/{{artifact_path:path}}",
            _download_artifact,
            methods=["GET", "HEAD"],
            response_model=None,
        )
        router.add_api_route(
            f"/{prefix}/2.0/mlflow-artifacts/artifacts/{{artifact_path:path}}",
            _upload_artifact,
            methods=["PUT"],
            response_model=None,
        )
    app.router.routes[:0] = router.routes
    mounts = [route for route in app.router.routes if isinstance(route, Mount) and route.path == ""]
    if len(mounts) != 1 or not isinstance(mounts[0].app, fastapi_app._EfficientWSGIMiddleware):
        raise RuntimeError("MLflow's application does not mount Flask at its root")
    mounts[0].app = Bridge(mounts[0].app)
