# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP server: HTTP/2 without TLS (h2c), which Cloud Run uses for a port of that name, and HTTP/1.1 on the same port.

Only over HTTP/2, Cloud Run accepts requests larger than 32 MiB (https://cloud.google.com/run/quotas#request_limits).
Granian handles it outside Python's GIL and within this process, so that MLflow is loaded once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP2Settings
from granian.server.embed import Server

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# Cloud Run kills an instance 10 seconds after SIGTERM; stopping the process itself takes some of them.
GRACE_SECONDS = 5.0
# Pending connections, and concurrent requests; Cloud Run itself sends no more than the service's concurrency.
BACKLOG = 2048
# Bytes per request that a client may send before the application reads them: they are held in memory.
WINDOW = 512 * 1024
# Larger bodies are rejected where MLflow would hold them in memory: in Flask's handlers, and for traces.
BODY_BYTES = 200 * 1024 * 1024
# Bytes of a request's body that the application gets at a time.
PIECE = 512 * 1024


async def refuse_body(send: Send) -> None:
    """Respond with 413, in MLflow's error format, to a body larger than BODY_BYTES."""
    text = f"The body of this request is limited to {BODY_BYTES // 2**20} MiB."
    body = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Gathered:
    """Combines the body of a request into fewer and larger chunks.

    HTTP/2 delivers it in frames of 16 KiB, each of which would pass through all layers of the application.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._next: Message | None = None

    async def __call__(self) -> Message:
        first = self._next or await self._receive()
        self._next = None
        if not first.get("more_body"):
            return first
        parts, size = [first.get("body", b"")], len(first.get("body", b""))
        while size < PIECE:
            message = await self._receive()
            if message["type"] != "http.request":
                self._next = message  # the client disconnected: first deliver what it sent
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if not message.get("more_body"):
                return {"type": "http.request", "body": b"".join(parts), "more_body": False}
        return {"type": "http.request", "body": b"".join(parts), "more_body": True}


class Requests:
    """Counts the requests in progress, so that a stopping server can let them finish."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._count = 0
        self.none = asyncio.Event()
        self.none.set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._count += 1
        self.none.clear()
        try:
            await self._app(scope, Gathered(receive), send)
        finally:
            self._count -= 1
            if not self._count:
                self.none.set()


async def _serve(app: Application, host: str, port: int) -> None:
    requests = Requests(app)
    server = Server(
        requests,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.auto,
        http2_settings=HTTP2Settings(
            initial_connection_window_size=16 * WINDOW,
            initial_stream_window_size=WINDOW,
            max_frame_size=WINDOW // 2,
            max_concurrent_streams=1000,
        ),
        websockets=False,
        backlog=BACKLOG,
        log_enabled=False,
    )
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(asked.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not serving.done():
        with contextlib.suppress(TimeoutError):  # unfinished requests are aborted then
            await asyncio.wait_for(requests.none.wait(), GRACE_SECONDS)
        server.stop()
        await asyncio.wait({serving}, timeout=1)
    if serving.done():
        serving.result()


def serve(app: Application, host: str, port: int) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT; requests in progress then have GRACE_SECONDS to finish.

    Raises OSError if the port is in use.
    """
    asyncio.run(_serve(app, host, port))
