"""The cloud: the entire state of this emulated Google Cloud, shared by all services."""

from __future__ import annotations

import asyncio
import re
import ssl
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from gcp_sandbox.core import network
from gcp_sandbox.core.auth import ANONYMOUS, Principal, Tokens
from gcp_sandbox.core.errors import ApiError, unauthenticated
from gcp_sandbox.core.faults import Faults
from gcp_sandbox.core.iam import Iam
from gcp_sandbox.core.latency import Latency
from gcp_sandbox.core.operations import Operations
from gcp_sandbox.core.restrictions import Restrictions
from gcp_sandbox.core.settings import Settings
from gcp_sandbox.core.store import Store
from gcp_sandbox.core.tls import Authority

RawHandler = Callable[["Cloud", web.BaseRequest], Awaitable[web.StreamResponse]]


class Attachments:
    """What Private Service Connect endpoints lead to; none by default, see Cloud SQL's."""

    def accepts(self, attachment: str, project: str) -> bool | None:
        """Whether a service attachment (projects/…) accepts endpoints of a project; None if there is none of that name."""
        return None

    def address(self) -> str:
        """An address of this machine for a new endpoint."""
        raise NotImplementedError

    def changed(self) -> None:
        """Called when an endpoint has been made or deleted."""


class Cloud:
    """State, identities and operations, and the hooks for services and the front door.

    settings: the options of `up` (see settings.py).  ``settings.network`` is the N of its private addresses 127.N.x.x.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder: Path = settings.state
        self.store = Store(self.folder / "state.sqlite")
        network.settle(self.store, settings.network)
        self.tokens = Tokens(self.store)
        self.iam = Iam(self.store)
        self.authority = Authority(self.folder)
        self.latency = Latency(settings.latency)
        self.faults = Faults(self.folder, self.store)
        self.iam.delay, self.tokens.longest = self.faults.iam_delay, self.faults.token_lifetime
        self.operations = Operations(self.store, self.latency, self.faults)
        self.restrictions = Restrictions(self.folder)
        # Called with each call that its caller may make, and the resource whose policy it sets (see Call.guard).
        self.guards: list[Callable[[Any, str], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.enable_hooks: dict[str, list[Callable[[Cloud, str], None]]] = {}
        # Whether an account may use its tokens; set by the IAM service.
        self.account_active: Callable[[str], bool] = lambda email: True
        # E-mail address of the service account that signed a JWT for a host, used instead of an access token.
        self.self_signed: Callable[[str, str], str | None] = lambda token, host: None
        # How a process (of a Cloud Run instance) is attached to VPC networks; set by Cloud Run.
        self.source_of_process: Callable[[int], network.Source] = lambda pid: network.Source()
        # The service attachments of managed services; set by Cloud SQL.
        self.attachments = Attachments()
        # Handlers for endpoints that no discovery document describes: (host, path prefix, handler).
        self.raw_routes: list[tuple[str, str, RawHandler]] = []
        # The handler for all other hosts, and the certificate for their clients (False: not one of its hosts).
        self.front_door: RawHandler | None = None
        self.hosts: list[Callable[[Cloud, str, network.Client], ssl.SSLContext | None | bool]] = []
        # Identity-Aware Proxy of a Cloud Run service (its store key): the headers and the caller of a request that may pass, or
        # the response to one that may not; set by the front door.
        self.identity_aware_proxy: Callable[
            [web.BaseRequest, str], tuple[dict[str, str], Principal] | web.StreamResponse
        ] = lambda request, service: web.Response(status=502)
        # The responses to faults at hosts (patterns) that do not respond like the APIs; "" is the front door.
        self.fault_pages: dict[str, Callable[[web.BaseRequest, ApiError], web.Response]] = {}
        # The host that each connection was opened to, which may differ from the Host header.
        self.reached: weakref.WeakKeyDictionary[asyncio.BaseTransport, str] = weakref.WeakKeyDictionary()
        # Where the client of each connection is, if it is not on the internet.
        self.clients: weakref.WeakKeyDictionary[asyncio.BaseTransport, network.Client] = weakref.WeakKeyDictionary()

    def when_enabled(self, service: str, hook: Callable[[Cloud, str], None]) -> None:
        """Register hook(cloud, project ID), which runs when a project enables an API (default networks, service agents, …)."""
        self.enable_hooks.setdefault(service, []).append(hook)

    def client_of(self, request: web.BaseRequest) -> network.Client:
        """Where the client of a request is."""
        return self.clients.get(request.transport, network.INTERNET) if request.transport else network.INTERNET

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a reference to a background task until it ends; it is cancelled when the sandbox stops."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end_tasks(self) -> None:
        """Cancel all tasks of keep()."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def authenticate(self, request: web.BaseRequest, *, anonymous: bool = False) -> Principal:
        """The caller of a request, from its bearer token.  Raises ApiError 401 (without a token: only unless anonymous)."""
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
    """The global host of an API for a regional or an mTLS host."""
    host = re.sub(r"(\.[a-z0-9-]+\.rep|\.mtls)\.googleapis\.com$", ".googleapis.com", host)
    return re.sub(r"^[a-z]+(-[a-z]+)+\d+-(?=[a-z]+\.googleapis\.com$)", "", host)
