"""Google's front end: routes each request to the service it is for."""

from __future__ import annotations

import asyncio
import functools
import gzip
import inspect
import json
import logging
import re
import ssl
import time
import weakref
from typing import Any

from aiohttp import web

from gcp_sandbox import frontdoor, services
from gcp_sandbox.core import discovery, projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud, RawHandler, global_host
from gcp_sandbox.core.errors import ApiError, error_info, service_disabled
from gcp_sandbox.core.exchange import Exchange
from gcp_sandbox.core.faults import Dropped, reset
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.network import Client
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.pretty import pretty
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.core.store import JOURNAL, Journal
from gcp_sandbox.gateway import batch
from gcp_sandbox.gateway.proxy import ProxyProtocol
from gcp_sandbox.services.run.plane.metadata import MetadataServer

_log = logging.getLogger("gcp_sandbox.gateway")
# Where the machine of the clients is, if it has a service account.
MACHINE_REGION = "europe-west2"
_PREFIXES = (("/resumable/upload/", "upload"), ("/upload/", "upload"), ("/download/", "download"))


class Server:
    """Serves a cloud: the proxy, TLS, and the routing of requests to handlers."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        # Weak: the proxy is not notified when a connection that was passed on is closed.
        self.connections: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self.reached, self.clients, self.keep = cloud.reached, cloud.clients, cloud.keep
        self.services: dict[str, Service] = {}
        self._server: asyncio.Server | None = None
        # Bodies are not decoded: objects keep their encoding, as do requests that are passed on to Cloud Run.
        self._tls = web.Server(self._handle_tls, request_factory=self._request, auto_decompress=False, access_log=None)
        self._plain = web.Server(self._elsewhere, request_factory=self._request, auto_decompress=False, access_log=None)
        self._machine: MetadataServer | None = None
        self._load_services()

    # -- services ----------------------------------------------------------

    def _load_services(self) -> None:
        cloud = self.cloud
        for module in services.load():
            service: Service = module.SERVICE
            self.services[service.name] = service
            cloud.raw_routes += service.raw_routes
            cloud.operations.dialect(service.dialect)
            cloud.iam.resource_types[service.host] = service.resource_type
            for name, action in service.actions.items():
                cloud.operations.action(name, functools.partial(action, cloud))
            if setup := getattr(module, "setup", None):
                setup(cloud)
        frontdoor.setup(cloud)
        cloud.raw_routes.sort(key=lambda route: (-len(route[1]), route[0].startswith("*")))

    # -- life --------------------------------------------------------------

    async def start(self) -> None:
        """Listen, start the data planes, and resume unfinished operations.  Raises OSError (port in use)."""
        loop = asyncio.get_running_loop()
        settings = self.cloud.settings
        self._server = await loop.create_server(lambda: ProxyProtocol(self), "127.0.0.1", settings.port)
        settings.port = self._server.sockets[0].getsockname()[1]
        settings.remember()
        if projects.find(self.cloud, settings.project) is None:
            projects.create(self.cloud, settings.project, f"serviceAccount:{settings.deployer}")
        for service in self.services.values():
            for hook in service.on_start:
                await hook(self.cloud)
        self.cloud.operations.resume()

    async def stop(self) -> None:
        """Close all connections and stop the data planes, keeping the state."""
        if self._server:
            self._server.close()
        await self.cloud.operations.drain()
        for service in reversed(self.services.values()):
            for hook in service.on_stop:
                await hook(self.cloud)
        await self.cloud.end_tasks()
        await self._tls.shutdown(1)
        await self._plain.shutdown(1)
        for transport in list(self.connections):
            transport.abort()
        self.cloud.store.close()

    # -- called by the proxy -----------------------------------------------

    def emulates(self, host: str, client: Client) -> bool:
        """Whether this host is emulated for a client."""
        if host.endswith(".googleapis.com") or any(
            self._host_matches(pattern, host) for pattern, _, _ in self.cloud.raw_routes
        ):
            return True
        return any(hook(self.cloud, host, client) is not False for hook in self.cloud.hosts)

    def tls_context(self, host: str, client: Client) -> ssl.SSLContext | None:
        """The certificate for clients of this host; None: the handshake fails."""
        if host.endswith(".googleapis.com") or any(
            self._host_matches(pattern, host) for pattern, _, _ in self.cloud.raw_routes
        ):
            return self.cloud.authority.context(host)
        for hook in self.cloud.hosts:
            answer = hook(self.cloud, host, client)
            if answer is not False:
                return answer if isinstance(answer, ssl.SSLContext) else None
        return None

    def tls_server(self) -> asyncio.Protocol:
        """A protocol that serves HTTP on a connection after the TLS handshake."""
        return self._tls()

    def plain_server(self) -> asyncio.Protocol:
        """A protocol that serves plain HTTP (port 80)."""
        return self._plain()

    def metadata_server(self) -> asyncio.Protocol | None:
        """A protocol that serves the metadata of the machine that clients run on; None if it has no metadata server."""
        settings = self.cloud.settings
        project = projects.find(self.cloud, settings.project)
        if not settings.machine or project is None:
            return None
        if self._machine is None:
            self._machine = MetadataServer(self.cloud, settings.machine, project, MACHINE_REGION)
        return self._machine.protocol()

    @staticmethod
    def _host_matches(pattern: str, host: str) -> bool:
        return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        if "://" in message.path:  # the form in which clients send plain HTTP requests to a proxy
            message = message._replace(path=message.url.raw_path_qs)
        return Exchange(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=1 << 40)

    # -- requests ----------------------------------------------------------

    async def _handle_tls(self, request: web.BaseRequest) -> web.StreamResponse:
        # Clients with a device certificate use separate (mTLS) hosts for the same APIs.
        host = (request.host or "").split(":")[0].lower().replace(".mtls.googleapis.com", ".googleapis.com")
        if not host.endswith(".googleapis.com"):
            return await self._elsewhere(request)
        began = time.time()
        # A batch is one call.
        await asyncio.sleep(self.cloud.latency.call)
        answer = await (batch.serve(request, self._called) if batch.is_batch(request) else self._called(request))
        if self.cloud.settings.calls:
            self._note(request, host, answer.status, began)
        return answer

    def _note(self, request: web.BaseRequest, host: str, status: int, began: float) -> None:
        """Append a call to the file that was asked for: neither headers nor bodies, which contain secrets."""
        call = {
            "began": began,
            "seconds": time.time() - began,
            "method": request.method,
            "url": f"https://{host}{request.raw_path}",
            "status": status,
        }
        with open(self.cloud.settings.calls, "a", encoding="utf-8") as file:
            file.write(json.dumps(call) + "\n")

    async def _called(self, request: web.BaseRequest) -> web.StreamResponse:
        host = (request.host or "").split(":")[0].lower().replace(".mtls.googleapis.com", ".googleapis.com")
        path = request.raw_path.split("?", 1)[0]
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        media = ""
        for prefix, kind in _PREFIXES:
            if path.startswith(prefix):
                path, media = path[len(prefix) - 1 :], kind
        for service, version in self._candidates(host, path):
            api = service.api(version)
            if host.endswith((f"-{service.host}", ".rep.googleapis.com")) and host not in api.regional:
                continue
            found = api.find(request.method, path)
            if found is None and media == "upload" and "upload_id" in request.rel_url.query:
                found = api.find("POST", path)  # a resumable upload continues with PUT at the URL where it was started
            if found is None and service.trailing_slash and path.endswith("/"):
                found = api.find(request.method, path.rstrip("/"))
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
            found = (s for s in self.services.values() if parts[1] in (s.name, s.short_name))
            return [(service, version) for service in found for version in service.versions if version in path]
        host = global_host(host)
        for service in self.services.values():
            if service.host == host or host.endswith(f"-{service.host}"):
                return [(service, v) for v in service.versions if f"/{v}/" in path]
        return []

    async def _elsewhere(self, request: web.BaseRequest) -> web.StreamResponse:
        host = (request.host or "").split(":")[0].lower()
        path = request.raw_path.split("?", 1)[0]
        for pattern, prefix, handler in self.cloud.raw_routes:
            if self._host_matches(pattern, host) and path.startswith(prefix):
                return await self._struck(request, handler)
        if self.cloud.front_door is not None and not host.endswith(".googleapis.com"):
            return await self._struck(request, self.cloud.front_door)
        found = discovery.elsewhere(host, request.method, path)

        async def unplayed(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
            if found:
                raise discovery.unsupported(found)
            return web.Response(status=404, text=discovery.not_found_page(path), content_type="text/html")

        return await self._struck(request, unplayed, found.id if found else "")

    async def _struck(self, request: web.BaseRequest, handler: RawHandler, method: str = "") -> web.StreamResponse:
        """The response of a handler outside the documents, unless a fault occurs first; method: its ID if Google has one."""
        host = (request.host or "").split(":")[0].lower()
        try:
            lost = await self.cloud.faults.strike(request, host, method)
        except Dropped:
            return web.Response()
        except ApiError as error:
            pages = self.cloud.fault_pages
            page = next((p for pattern, p in pages.items() if self._host_matches(pattern, host)), None)
            if page is None and handler is self.cloud.front_door:
                page = pages.get("")
            if page is None:
                return _json(error.body("esf"), error.code, error.headers)
            told = page(request, error)
            told.headers.update(error.headers)
            return told
        try:
            answer = await handler(self.cloud, request)
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
            host = (request.host or "").split(":")[0].lower()
            has_body = not media and bool(method.request) and request.can_read_body
            lost = await self.cloud.faults.strike(request, host, method.id, body=has_body)
            if self.cloud.faults.may_fail(method.id):
                journal = Journal(method.id)
                noted = JOURNAL.set(journal)
            principal = self.cloud.authenticate(request, anonymous=service.anonymous)
            self._charge(request, principal, service)
            call = Call(self.cloud, service, request, method, dict(params), {}, principal, None, media)
            pairs = list(request.rel_url.query.items())
            call.params |= method.query(pairs)
            if has_body:
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
                about = resource(call) if resource else ""
                call.require(permission, about)
                call.guard(about)
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
            broken = ApiError(500, "Internal error encountered.", reason="backendError", status="INTERNAL")
            return _json(broken.body(service.family), broken.code)
        finally:
            if journal is not None and noted is not None:
                journal.open = False
                JOURNAL.reset(noted)
            if lost:
                reset(request)
        if isinstance(answer, web.StreamResponse):
            return answer
        if isinstance(answer, Operation):
            answer = self.cloud.operations.render(answer, service.host)
        if answer is None:
            return web.Response(status=204) if service.family == "legacy" else _json({})
        if "enum-encoding=int" in request.rel_url.query.get("$alt", ""):
            answer = api.numbered(method.response, answer)
        return _json(answer)

    def _charge(self, request: web.BaseRequest, principal: Principal, service: Service) -> None:
        """Reject a call whose caller may not use the project that it names for quota.

        https://cloud.google.com/docs/quotas/quota-project
        """
        name = request.headers.get("X-Goog-User-Project", "")
        if not name or not principal.email:
            return
        project = projects.find(self.cloud, name.removeprefix("projects/"))
        permission = "serviceusage.services.use"
        if project is not None and self.cloud.iam.allows(principal, permission, project_resource(project["projectId"])):
            return
        text = (
            f"Caller does not have required permission to use project {name}. Grant the caller the "
            f"roles/serviceusage.serviceUsageConsumer role, or a custom role with the {permission} permission, by "
            f"visiting https://console.developers.google.com/iam-admin/iam/project?project={name} and then retry. "
            "Propagation of the new permission may take a few minutes."
        )
        info = error_info("USER_PROJECT_DENIED", "googleapis.com", service=service.host, consumer=f"projects/{name}")
        raise ApiError(403, text, reason="forbidden", status="PERMISSION_DENIED", details=[info])

    def _settle_project(self, service: Service, call: Call) -> None:
        """Find the project of a call, and reject the call if the project has not enabled the API."""
        name = service.project_of(call) if service.project_of else _project_name(call.params)
        if name is None or name == "-":
            return
        call.project = projects.find(self.cloud, name)
        if call.project is None:
            if service.keeps_projects:
                return
            if service.no_project:
                raise service.no_project(name)
            text = f"Permission denied on resource project {name}."
            raise ApiError(403, text, reason="forbidden", details=_consumer_invalid(name, service.host))
        if call.project["lifecycleState"] != "ACTIVE" and not service.keeps_projects:
            text = f"Project #{call.project['projectNumber']} has been deleted."
            raise ApiError(403, text, reason="forbidden", details=_consumer_invalid(name, service.host))
        asked = [call.project["projectId"]]
        if service.client_based and (own := projects.of_account(self.cloud, call.principal.email)):
            asked.append(own["projectId"])
        self.cloud.restrictions.check_perimeter(call.project_id, call.project_number, service.host)
        late = self.cloud.faults.disabled_for(service.host)
        if not service.always_enabled and not any(projects.enabled(self.cloud, p, service.host, late) for p in asked):
            title = service.api(service.versions[0]).title
            raise service_disabled(service.host, title, call.project["projectNumber"])


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


def _project_name(params: dict[str, Any]) -> str | None:
    if "project" in params:
        return params["project"]
    for key in ("name", "parent", "resource", "projectId", "resourceName"):
        value = params.get(key)
        if isinstance(value, str) and (
            found := re.match(r"(?:.*/)?projects/((?:[a-z0-9-]+\.[a-z0-9.-]+:)?[^/:]+)", value)
        ):
            return found.group(1)
        if isinstance(value, str) and (found := re.match(r"namespaces/((?:[a-z0-9-]+\.[a-z0-9.-]+:)?[^/:]+)", value)):
            return found.group(1)
    return None


def _parse(data: bytes) -> Any:
    if not data.strip():
        return None
    try:
        value = json.loads(data)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is not valid text
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
