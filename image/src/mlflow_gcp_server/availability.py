# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responses to load balancers and clients while the database is unavailable: `/ready`, and Retry-After.

MLflow itself answers `/health` in its event loop: this shows that the process is alive, not the database.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2

from mlflow_gcp_server import database
from mlflow_gcp_server.console import say, warn
from mlflow_gcp_server.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

PATH = "/ready"
# Timeout of the database's answer, and how long the answer is cached, regardless of the number of requests.
ANSWER_SECONDS = 2.0
CACHE_SECONDS = 1.0
# MLflow's client tries 7 times and uses Retry-After instead of its own backoff: shorter waits would not outlast a failover.
RETRY_SECONDS = (4, 9)


class Readiness:
    """Checks the database with a separate connection, so that an exhausted pool is not mistaken for a lost database."""

    def __init__(self, settings: Settings) -> None:
        self._arguments = database.connection_arguments(settings) | {
            "connect_timeout": int(ANSWER_SECONDS),
            "options": f"-c statement_timeout={int(ANSWER_SECONDS * 1000)}",
            "application_name": "mlflow-server readiness",
        }
        # A separate thread, because asyncio's threads may all be waiting for the database.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._asking: asyncio.Future[None] | None = None
        self._asked = float("-inf")
        self._problem = ""

    async def problem(self) -> str:
        """A short reason why the database cannot be used; empty if it can."""
        if self._asking is None:
            if time.monotonic() < self._asked + CACHE_SECONDS:
                return self._problem
            self._asking = asyncio.ensure_future(self._ask())
        try:
            await asyncio.wait_for(asyncio.shield(self._asking), ANSWER_SECONDS)
        except TimeoutError:
            return f"the database did not answer within {ANSWER_SECONDS:g} s"
        return self._problem

    async def _ask(self) -> None:
        problem, detail = "", ""
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._select)
        except psycopg2.Error as error:
            problem, detail = "the database cannot be used", str(error)
        if problem != self._problem:
            if problem:
                warn(f"not ready: {problem}: {detail}")
            else:
                say("ready again: the database answers")
        self._problem = problem
        self._asked = time.monotonic()
        self._asking = None

    def _select(self) -> None:
        connection = psycopg2.connect(**self._arguments)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        finally:
            connection.close()


class Availability:
    """Answers `/ready` with 200 or 503 and a line of JSON; adds Retry-After to MLflow's responses with 429 and 503.

    https://www.rfc-editor.org/rfc/rfc9110.html#name-retry-after
    """

    def __init__(self, app: Application, settings: Settings) -> None:
        self._app = app
        self._readiness = Readiness(settings)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == PATH:
            await self._ready(send)
        else:
            await self._app(scope, receive, lambda message: send(_with_retry_after(message)))

    async def _ready(self, send: Send) -> None:
        problem = await self._readiness.problem()
        body = json.dumps({"ready": not problem} | ({"reason": problem} if problem else {})).encode() + b"\n"
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 503 if problem else 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _with_retry_after(message: Message) -> Message:
    if message["type"] != "http.response.start" or message["status"] not in (429, 503):
        return message
    headers = list(message.get("headers", ()))
    if any(name.lower() == b"retry-after" for name, _ in headers):
        return message
    # Random, so that clients do not all retry at the same moment.
    return {**message, "headers": [*headers, (b"retry-after", str(random.randint(*RETRY_SECONDS)).encode())]}
