# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local proxy that signs in for clients that cannot: R, Java, TypeScript, curl, OpenTelemetry exporters.

It accepts HTTP on the loopback address only, and streams requests and responses of any size.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from mlflow_iap.errors import IapError
from mlflow_iap.provider import IapAuth
from mlflow_iap.settings import origin

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer")
    + ("transfer-encoding", "upgrade")
)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
PIECE = 256 * 1024
# A small body is kept until the response arrives, so that a rejected token can be retried; a larger one is streamed.
KEPT = 1024 * 1024


class _Body:
    """The body of a request as it is received; the library requests uses its length as Content-Length."""

    def __init__(self, handler: BaseHTTPRequestHandler, length: int) -> None:
        self._file, self._left, self._length = handler.rfile, length, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(PIECE):
            yield piece

    def read(self, size: int = -1) -> bytes:
        """The next bytes.  Raises ConnectionError if the client stops before the end."""
        size = min(PIECE if size < 0 else size, self._left)
        piece = self._file.read(size) if size else b""
        if len(piece) < size:
            raise ConnectionError("the client disconnected")
        self._left -= len(piece)
        return piece


def _chunks(handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
    """A body with chunked transfer encoding."""
    while size := int(handler.rfile.readline(100).split(b";")[0], 16):
        while size:
            piece = handler.rfile.read(min(size, PIECE))
            if not piece:
                raise ConnectionError("the client disconnected")
            size -= len(piece)
            yield piece
        handler.rfile.readline(10)
    while handler.rfile.readline(8192).strip():
        pass


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    target = ""
    session: requests.Session
    auth: IapAuth

    def log_message(self, format: str, *args: object) -> None:
        """Do not log successful requests."""

    def _refuse(self, status: int, text: str) -> None:
        body = (text + "\n").encode()
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _ours(self) -> bool:
        """Whether the request comes from a local program, not from a web page under a name that resolves to this address."""
        host = self.headers.get("Host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name not in LOOPBACK:
            self._refuse(403, f"mlflow-iap: {host!r} is not an address of this proxy")
            return False
        source = self.headers.get("Origin")
        if source and urlsplit(source).netloc != host:
            self._refuse(403, f"mlflow-iap: pages of {source} may not use this proxy")
            return False
        return True

    def _handle(self) -> None:
        if not self._ours():
            return
        named = {name.strip().lower() for name in self.headers.get("Connection", "").split(",")}
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in HOP_BY_HOP
            and name.lower() not in named | {"host", "content-length", "expect", "origin"}
        }
        headers.setdefault("Accept-Encoding", "identity")
        body: bytes | _Body | Iterator[bytes] | None = None
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            body = _chunks(self)
        elif length := int(self.headers.get("Content-Length") or 0):
            body = _Body(self, length) if length > KEPT else self.rfile.read(length)
        try:
            answer = self.session.request(
                self.command,
                self.target + self.path,
                data=body,
                headers=headers,
                auth=self.auth,
                stream=True,
                allow_redirects=False,
                timeout=(30, 600),
            )
        except IapError as error:
            print(f"mlflow-iap: {error}", file=sys.stderr, flush=True)
            self._refuse(502, f"mlflow-iap: {error}")
            return
        except (requests.RequestException, ConnectionError) as error:
            self._refuse(502, f"mlflow-iap: {self.target} could not be reached: {error}")
            return
        with contextlib.closing(answer):
            self._answer(answer)
        if not isinstance(body, bytes | None):
            self.close_connection = True  # the server may not have read the whole body

    def _answer(self, answer: requests.Response) -> None:
        self.send_response_only(answer.status_code, answer.reason)
        length = answer.headers.get("Content-Length")
        for name, value in answer.headers.items():
            if name.lower() not in HOP_BY_HOP:
                if name.lower() == "location":
                    value = value.replace(self.target, f"http://{self.headers['Host']}", 1)
                self.send_header(name, value)
        bodiless = self.command == "HEAD" or answer.status_code in (204, 304)
        chunked = length is None and not bodiless
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if bodiless:
            return
        try:
            for piece in answer.raw.stream(PIECE, decode_content=False):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                self.wfile.flush()
            if chunked:
                self.wfile.write(b"0\r\n\r\n")
        except (OSError, requests.RequestException):
            self.close_connection = True  # part of the response has already been sent

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _handle


class Server(ThreadingHTTPServer):
    """The proxy; each connection has a thread."""

    daemon_threads = True
    request_queue_size = 256


def make(url: str, port: int, auth: IapAuth) -> Server:
    """Create a proxy for a server's URL on a port of 127.0.0.1 (0: any).  Raises IapError, OSError."""
    session = requests.Session()
    session.mount("https://", HTTPAdapter(pool_maxsize=256))
    fields = {"target": origin(url), "session": session, "auth": auth}
    return Server(("127.0.0.1", port), type("BoundHandler", (Handler,), fields))
