# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large traces, one at a time: MLflow needs about eight times the size of a trace in memory while it stores its spans.

https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
"""

from __future__ import annotations

import asyncio

from mlflow_gcp_server.server import BODY_BYTES, Application, Message, Receive, Send, refuse_body

PATH = "/v1/traces"
# Smaller traces do not wait.
LARGE_BYTES = 4 * 1024 * 1024


class LargeTraces:
    """Reads the body of a request with traces, and processes one large request at a time."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._turn = asyncio.Semaphore(1)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(PATH):
            await self._app(scope, receive, send)
            return
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client disconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > BODY_BYTES:
                await refuse_body(send)
                return
        pending: list[Message] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]
        parts.clear()

        async def again() -> Message:
            return pending.pop() if pending else await receive()

        if size <= LARGE_BYTES:
            await self._app(scope, again, send)
            return
        async with self._turn:
            await self._app(scope, again, send)
