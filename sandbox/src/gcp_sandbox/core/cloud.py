"""The world: all that exists in this Google Cloud, whoever asks and by whatever way."""

from __future__ import annotations

import asyncio
import re
import ssl
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from gcp_sandbox.core.auth import ANONYMOUS, Principal, Tokens
from gcp_sandbox.core.errors import ApiError, unauthenticated
from gcp_sandbox.core.faults import Faults
from gcp_sandbox.core.iam import Iam
from gcp_sandbox.core.latency import profile
from gcp_sandbox.core.operations import Operations
from gcp_sandbox.core.settings import Settings
from gcp_sandbox.core.store import Store
from gcp_sandbox.core.tls import Authority

RawHandler = Callable[["Cloud", web.BaseRequest], Awaitable[web.StreamResponse]]


class Cloud:
    """State, identities and operations, and the hooks by which services and front door take part.

    settings: what `up` was asked (see settings.py).  ``settings.network`` is the 127.N of its private addresses.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder: Path = settings.state
        self.store = Store(self.folder / "state.sqlite")
        self.tokens = Tokens(self.store)
        self.iam = Iam(self.store)
        self.authority = Authority(self.folder)
        self.latency = profile(settings.latency)
        self.faults = Faults(self.folder, self.store)
        self.iam.delay, self.tokens.longest = self.faults.iam_delay, self.faults.token_lifetime
        self.operations = Operations(self.store, self.latency, self.faults)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.enable_hooks: dict[str, list[Callable[[Cloud, str], None]]] = {}
        # Whether an account may use its tokens; IAM sets this.
        self.account_active: Callable[[str], bool] = lambda email: True
        # E-mail of the service account that signed a JWT itself for a host, used in place of an access token.
        self.self_signed: Callable[[str, str], str | None] = lambda token, host: None
        # Networks (store keys) that the process of a Cloud Run instance is attached to; Cloud Run sets this.
        self.networks_of_process: Callable[[int], frozenset[str]] = lambda pid: frozenset()
        # What answers at hosts that no discovery document describes: (host, path prefix, handler).
        self.raw_routes: list[tuple[str, str, RawHandler]] = []
        # What answers at every other host, and which certificate a client of it is shown (False: not its host).
        self.front_door: RawHandler | None = None
        self.hosts: list[Callable[[Cloud, str], ssl.SSLContext | None | bool]] = []
        # How a fault looks at hosts (patterns) that do not answer as the APIs do; "" is the front door.
        self.fault_pages: dict[str, Callable[[web.BaseRequest, ApiError], web.Response]] = {}
        # Host that each connection was opened to, which the Host header need not repeat.
        self.reached: weakref.WeakKeyDictionary[asyncio.BaseTransport, str] = weakref.WeakKeyDictionary()

    def when_enabled(self, service: str, hook: Callable[[Cloud, str], None]) -> None:
        """Have hook(cloud, project id) run when a project enables an API (default networks, service agents, …)."""
        self.enable_hooks.setdefault(service, []).append(hook)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a background task until it ends; it is cancelled when the sandbox stops."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end_tasks(self) -> None:
        """Cancel what keep() holds."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def authenticate(self, request: web.BaseRequest, *, anonymous: bool = False) -> Principal:
        """The caller of a request, by its bearer token.  Raises ApiError 401 (without a token: unless anonymous)."""
        header = request.headers.get("Authorization", "")
        token = header.partition(" ")[2].strip() if header.lower().startswith("bearer ") else ""
        token = token or request.rel_url.query.get("access_token", "")
        if not token:
            if anonymous:
                return ANONYMOUS
            raise unauthenticated(missing=True)
        principal = self.tokens.principal(token)
        if principal is None:
            host = (request.host or "").split(":")[0].lower()
            email = self.self_signed(token, host) or self.self_signed(token, global_host(host))
            principal = Principal(email) if email else None
        if principal is None:
            raise unauthenticated(missing=False)
        if not self.account_active(principal.email):
            raise unauthenticated(missing=False, reason="ACCOUNT_STATE_INVALID")
        return principal


def global_host(host: str) -> str:
    """The host of an API that a host of one region, or one for clients with a device certificate, is of."""
    host = re.sub(r"(\.[a-z0-9-]+\.rep|\.mtls)\.googleapis\.com$", ".googleapis.com", host)
    return re.sub(r"^[a-z]+(-[a-z]+)+\d+-(?=[a-z]+\.googleapis\.com$)", "", host)
