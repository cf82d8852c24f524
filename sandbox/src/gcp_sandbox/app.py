"""The sandbox: one process that plays Google's front end, and routes each request to the service it is for."""

from __future__ import annotations

import asyncio
import gzip
import inspect
import json
import logging
import re
import ssl
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from gcp_sandbox import batch, discovery, frontdoor, projects, services
from gcp_sandbox.auth import ANONYMOUS, Principal, Tokens
from gcp_sandbox.errors import ApiError, service_disabled, unauthenticated
from gcp_sandbox.exchange import Exchange
from gcp_sandbox.faults import Dropped, Faults, reset
from gcp_sandbox.iam import Iam
from gcp_sandbox.latency import profile
from gcp_sandbox.operations import Operation, Operations, render
from gcp_sandbox.pretty import pretty
from gcp_sandbox.proxy import ProxyProtocol
from gcp_sandbox.service import Call, RawHandler, Service
from gcp_sandbox.settings import Settings
from gcp_sandbox.store import JOURNAL, Journal, Store
from gcp_sandbox.tls import Authority

_log = logging.getLogger("gcp_sandbox.app")
_PREFIXES = (("/resumable/upload/", "upload"), ("/upload/", "upload"), ("/download/", "download"))


class Sandbox:
    """Everything that runs: store, identities, operations, services and the proxy in front of them.

    settings: what `up` was asked (see settings.py).  ``network`` is the 127.N of this sandbox's private addresses.
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
        self.operations = Operations(self)
        # Weak: a connection that was handed on ends without telling the proxy.
        self.connections: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        # Host that each of them was asked for, which the Host header need not repeat.
        self.reached: weakref.WeakKeyDictionary[asyncio.BaseTransport, str] = weakref.WeakKeyDictionary()
        self.enable_hooks: dict[str, list[Callable[[Sandbox, str], None]]] = {}
        self.hosts: list[Callable[[Sandbox, str], ssl.SSLContext | None | bool]] = []
        self.services: dict[str, Service] = {}
        self._apis: dict[tuple[str, str], discovery.Api] = {}
        self._raw: list[tuple[str, str, RawHandler]] = []
        # How a fault looks at hosts (patterns) that do not answer as the APIs do.
        self.fault_pages: dict[str, Callable[[web.BaseRequest, ApiError], web.Response]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        # Bodies come as they were sent: objects keep their encoding, and so does what is passed on to Cloud Run.
        self._tls = web.Server(  # type: ignore[arg-type]
            self._handle_tls, request_factory=self._request, auto_decompress=False, access_log=None
        )
        self._plain = web.Server(  # type: ignore[arg-type]
            self._handle_plain, request_factory=self._request, auto_decompress=False, access_log=None
        )
        # Whether an account may use its tokens; IAM sets this.
        self.account_active: Callable[[str], bool] = lambda email: True
        # E-mail of the service account that signed a JWT itself for a host, used in place of an access token.
        self.self_signed: Callable[[str, str], str | None] = lambda token, host: None
        self.front_door: RawHandler | None = None
        # Networks (store keys) that the process of a Cloud Run instance is attached to; Cloud Run sets this.
        self.networks_of_process: Callable[[int], frozenset[str]] = lambda pid: frozenset()
        self._load_services()

    # -- services ----------------------------------------------------------

    def _load_services(self) -> None:
        for module in services.load():
            self.services[module.SERVICE.name] = module.SERVICE
            setup = getattr(module, "setup", None)
            if setup:
                setup(self)
        frontdoor.setup(self)
        for service in self.services.values():
            self._raw += service.raw_routes
            for name, action in service.actions.items():
                self.operations.action(name, action)
        self._raw.sort(key=lambda route: (-len(route[1]), route[0].startswith("*")))

    def raw_route(self, host: str, path_prefix: str, handler: RawHandler) -> None:
        """Register what no discovery document describes (see Service.raw)."""
        self._raw.append((host, path_prefix, handler))

    def when_enabled(self, service: str, hook: Callable[[Sandbox, str], None]) -> None:
        """Have hook(app, project id) run when a project enables an API (default networks, service agents, …)."""
        self.enable_hooks.setdefault(service, []).append(hook)

    def api(self, name: str, version: str) -> discovery.Api:
        """A discovery document, read when first asked for."""
        if (name, version) not in self._apis:
            service = self.services[name]
            self._apis[name, version] = discovery.Api(
                name, version, service.family, service.lenient, service.lenient_query
            )
        return self._apis[name, version]

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a background task until it ends; it is cancelled when the sandbox stops."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- life --------------------------------------------------------------

    async def start(self) -> None:
        """Listen, bring the data planes up, and go on with unfinished operations.  Raises OSError (port in use)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ProxyProtocol(self), "127.0.0.1", self.settings.port)
        self.settings.port = self._server.sockets[0].getsockname()[1]
        self.settings.remember()
        if projects.find(self, self.settings.project) is None:
            deployer = f"serviceAccount:{self.settings.deployer}"
            projects.create(self, self.settings.project, deployer)
        for service in self.services.values():
            for hook in service.on_start:
                await hook(self)
        self.operations.resume()

    async def stop(self) -> None:
        """Close every connection, stop the data planes, and leave the state as it is."""
        if self._server:
            self._server.close()
        await self.operations.drain()
        for service in reversed(self.services.values()):
            for hook in service.on_stop:
                await hook(self)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tls.shutdown(1)
        await self._plain.shutdown(1)
        for transport in list(self.connections):
            transport.abort()
        self.store.close()

    # -- the proxy's questions ---------------------------------------------

    def plays(self, host: str) -> bool:
        """Whether the proxy lets a client through to this host."""
        if host.endswith(".googleapis.com") or any(self._host_matches(pattern, host) for pattern, _, _ in self._raw):
            return True
        return any(hook(self, host) is not False for hook in self.hosts)

    def tls_context(self, host: str) -> ssl.SSLContext | None:
        """The certificate a client of this host is shown; None: none, the handshake fails."""
        if host.endswith(".googleapis.com") or any(self._host_matches(pattern, host) for pattern, _, _ in self._raw):
            return self.authority.context(host)
        for hook in self.hosts:
            answer = hook(self, host)
            if answer is not False:
                return answer if isinstance(answer, ssl.SSLContext) else None
        return None

    def tls_server(self) -> asyncio.Protocol:
        """A protocol that serves HTTP on a connection whose TLS has ended here."""
        return self._tls()

    def plain_server(self) -> asyncio.Protocol:
        """A protocol that serves plain HTTP (port 80)."""
        return self._plain()

    @staticmethod
    def _host_matches(pattern: str, host: str) -> bool:
        return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        if "://" in message.path:  # as clients ask a proxy for what is not TLS
            message = message._replace(path=message.url.raw_path_qs)
        return Exchange(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=1 << 40)

    # -- requests ----------------------------------------------------------

    async def _handle_plain(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._elsewhere(request)

    async def _handle_tls(self, request: web.BaseRequest) -> web.StreamResponse:
        # Clients that have a certificate of their device use hosts of their own for the same APIs.
        host = (request.host or "").split(":")[0].lower().replace(".mtls.googleapis.com", ".googleapis.com")
        if not host.endswith(".googleapis.com"):
            return await self._elsewhere(request)
        if batch.is_batch(request):
            return await batch.serve(request, self._handle_tls)
        path = request.raw_path.split("?", 1)[0]
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        media = ""
        for prefix, kind in _PREFIXES:
            if path.startswith(prefix):
                path, media = path[len(prefix) - 1 :], kind
        for service, version in self._candidates(host, path):
            api = self.api(service.name, version)
            if host.endswith((f"-{service.host}", ".rep.googleapis.com")) and host not in api.regional:
                continue
            found = api.find(request.method, path)
            if found is None and media == "upload" and "upload_id" in request.rel_url.query:
                found = api.find("POST", path)  # a resumable upload goes on by PUT at the URL it was started at
            if found is not None:
                return await self._api_request(request, service, api, *found, media)
            if path.startswith(api.base + version if api.base == "/" else api.base) and api.other_verb(
                request.method, path
            ):
                return web.Response(status=404, text=discovery.not_found_page(path), content_type="text/html")
        return await self._elsewhere(request)

    def _candidates(self, host: str, path: str) -> list[tuple[Service, str]]:
        if host in ("www.googleapis.com", "content.googleapis.com"):
            parts = path.split("/")
            name = {"sql": "sqladmin"}.get(parts[1], parts[1])
            service = self.services.get(name)
            return [(service, v) for v in service.versions if v in path] if service else []
        host = _global(host)
        for service in self.services.values():
            if service.host == host or host.endswith(f"-{service.host}"):
                return [(service, v) for v in service.versions if f"/{v}/" in path]
        return []

    async def _elsewhere(self, request: web.BaseRequest) -> web.StreamResponse:
        host = (request.host or "").split(":")[0].lower()
        path = request.raw_path.split("?", 1)[0]
        for pattern, prefix, handler in self._raw:
            if self._host_matches(pattern, host) and path.startswith(prefix):
                return await self._struck(request, handler)
        if self.front_door is not None and not host.endswith(".googleapis.com"):
            return await self._struck(request, self.front_door)
        if method := discovery.elsewhere(host, request.method, path):
            return _json(discovery.unsupported(method).body("esf"), 501)
        return web.Response(status=404, text=discovery.not_found_page(path), content_type="text/html")

    async def _struck(self, request: web.BaseRequest, handler: RawHandler) -> web.StreamResponse:
        """What a handler outside the documents answers, if no fault comes before."""
        host = (request.host or "").split(":")[0].lower()
        try:
            lost = await self.faults.strike(request, host)
        except Dropped:
            return web.Response()
        except ApiError as error:
            page = next((p for pattern, p in self.fault_pages.items() if self._host_matches(pattern, host)), None)
            if page is None and handler is self.front_door:
                page = frontdoor.fault_page
            if page is None:
                return _json(error.body("esf"), error.code, error.headers)
            answer = page(request, error)
            answer.headers.update(error.headers)
            return answer
        try:
            answer = await handler(self, request)
        except ApiError as error:
            return _json(error.body("esf"), error.code, error.headers)
        if lost:
            reset(request)
        return answer

    async def _api_request(
        self,
        request: web.BaseRequest,
        service: Service,
        api: discovery.Api,
        method: discovery.Method,
        params: dict[str, str],
        media: str,
    ) -> web.StreamResponse:
        lost = False
        journal = noted = None
        try:
            lost = await self.faults.strike(request, (request.host or "").split(":")[0].lower(), method.id)
            if self.faults.may_fail(method.id):
                journal = Journal(method.id)
                noted = JOURNAL.set(journal)
            principal = self.authenticate(request, anonymous=service.anonymous)
            call = Call(self, request, method, dict(params), {}, principal, None, media)
            pairs = list(request.rel_url.query.items())
            call.params |= method.query(pairs)
            if not media and method.request and request.can_read_body:
                data = await request.read()
                if request.headers.get("Content-Encoding", "").lower() == "gzip":
                    data = gzip.decompress(data)
                call.body = api.body(method, _parse(data))
            if not media and ("alt", "media") in pairs:
                call.media = "download"
            self._settle_project(service, call)
            key = service.key(method)
            handler = service.handlers.get(key)
            if handler is None:
                raise discovery.unsupported(method)
            if key in service.permissions:
                permission, resource = service.permissions[key]
                call.require(permission, resource(call) if resource else "")
            answer = handler(call)
            if inspect.isawaitable(answer):
                answer = await answer
        except Dropped:
            return web.Response()
        except ApiError as error:
            return _json(error.body(service.family), error.code, error.headers)
        except (ConnectionError, web.HTTPException):
            raise
        except Exception:
            _log.exception("%s failed", method.id)
            error = ApiError(500, "Internal error encountered.", reason="backendError", status="INTERNAL")
            return _json(error.body(service.family), error.code)
        finally:
            if journal is not None and noted is not None:
                journal.open = False
                JOURNAL.reset(noted)
            if lost:
                reset(request)
        if isinstance(answer, web.StreamResponse):
            return answer
        if isinstance(answer, Operation):
            answer = render(answer, service.host)
        if answer is None:
            return web.Response(status=204) if service.family == "legacy" else _json({})
        if "enum-encoding=int" in request.rel_url.query.get("$alt", ""):
            answer = api.numbered(method.response, answer)
        return _json(answer)

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
            email = self.self_signed(token, host) or self.self_signed(token, _global(host))
            principal = Principal(email) if email else None
        if principal is None:
            raise unauthenticated(missing=False)
        if not self.account_active(principal.email):
            raise unauthenticated(missing=False, reason="ACCOUNT_STATE_INVALID")
        return principal

    def _settle_project(self, service: Service, call: Call) -> None:
        """Find the project a call is about, and refuse where it has not enabled the API."""
        name = service.project_of(call) if service.project_of else _project_name(call.params)
        if name is None or name == "-":
            return
        call.project = projects.find(self, name)
        if call.project is None:
            if service.name == "cloudresourcemanager":
                return
            if service.family == "legacy" and service.name == "compute":
                text = f"The resource 'projects/{name}' was not found"
                raise ApiError(404, text, reason="notFound")
            text = f"Permission denied on resource project {name}."
            raise ApiError(403, text, reason="forbidden", details=_consumer_invalid(name, service.host))
        if call.project["lifecycleState"] != "ACTIVE" and service.name != "cloudresourcemanager":
            text = f"Project #{call.project['projectNumber']} has been deleted."
            raise ApiError(403, text, reason="forbidden", details=_consumer_invalid(name, service.host))
        asked = [call.project["projectId"]]
        if service.client_based and (own := projects.of_account(self, call.principal.email)):
            asked.append(own["projectId"])
        late = self.faults.disabled_for(service.host)
        if not service.always_enabled and not any(projects.enabled(self, p, service.host, late) for p in asked):
            api = self.api(service.name, service.versions[0])
            raise service_disabled(service.host, api.title, call.project["projectNumber"])


def _consumer_invalid(name: str, host: str) -> list[dict[str, Any]]:
    return [
        {
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{"description": "Google developers console", "url": "https://console.developers.google.com"}],
        },
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "CONSUMER_INVALID",
            "domain": "googleapis.com",
            "metadata": {"consumer": f"projects/{name}", "service": host},
        },
    ]


def _global(host: str) -> str:
    """The host of an API that a host of one region, or one for clients with a device certificate, is of."""
    host = re.sub(r"(\.[a-z0-9-]+\.rep|\.mtls)\.googleapis\.com$", ".googleapis.com", host)
    return re.sub(r"^[a-z]+(-[a-z]+)+\d+-(?=[a-z]+\.googleapis\.com$)", "", host)


def _project_name(params: dict[str, Any]) -> str | None:
    if "project" in params:
        return params["project"]
    for key in ("name", "parent", "resource", "projectId", "resourceName"):
        value = params.get(key)
        if isinstance(value, str) and (found := re.match(r"(?:.*/)?projects/([^/:]+)", value)):
            return found.group(1)
        if isinstance(value, str) and (found := re.match(r"namespaces/([^/:]+)", value)):
            return found.group(1)
    return None


def _parse(data: bytes) -> Any:
    if not data.strip():
        return None
    try:
        value = json.loads(data)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
        return value
    except ValueError as error:
        text = f"Invalid JSON payload received. {error}"
        raise ApiError(400, text, reason="parseError", status="INVALID_ARGUMENT") from None


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    response = web.Response(
        status=status, body=pretty(body).encode() + b"\n", content_type="application/json", charset="utf-8"
    )
    response.headers["Vary"] = "Origin, X-Origin, Referer"
    response.headers["Server"] = "ESF"
    response.headers.update(headers or {})
    return response
