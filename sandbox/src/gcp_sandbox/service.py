"""What a service is made of: methods, raw routes, actions and hooks; and the call that a method gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gcp_sandbox.operations import Action, Operation

if TYPE_CHECKING:
    from gcp_sandbox.app import Sandbox
    from gcp_sandbox.auth import Principal
    from gcp_sandbox.discovery import Method

Answer = dict[str, Any] | Operation | web.StreamResponse | None
Handler = Callable[["Call"], Answer | Awaitable[Answer]]
RawHandler = Callable[["Sandbox", web.BaseRequest], Awaitable[web.StreamResponse]]
Hook = Callable[["Sandbox"], Awaitable[None]]
# ("METHOD permission", resource to check it on besides the project) of a call
Resource = Callable[["Call"], str]


@dataclasses.dataclass
class Call:
    """One authenticated request to a method.

    params: path and query parameters, decoded and converted, by their discovery names.  body: the checked JSON body.
    project: the project's record {projectId, projectNumber, name, …} that the request is about, or None.
    media: "", "upload" or "download" (the path's prefix, or ?alt=media).
    """

    app: Sandbox
    request: web.BaseRequest
    method: Method
    params: dict[str, Any]
    body: dict[str, Any]
    principal: Principal
    project: dict[str, Any] | None
    media: str = ""

    @property
    def project_id(self) -> str:
        """Id of the request's project."""
        return self.project["projectId"] if self.project else ""

    @property
    def project_number(self) -> str:
        """Number of the request's project."""
        return self.project["projectNumber"] if self.project else ""

    @property
    def host(self) -> str:
        """Host name the client asked."""
        return (self.request.host or "").split(":")[0]

    def require(self, permission: str, resource: str = "", *, shown: str = "") -> None:
        """Raise the API's 403 unless the caller has the permission on the project or on the resource (see iam.py)."""
        self.app.iam.require(self, permission, resource, shown=shown)

    def operation(self, verb: str, target: str, **kwargs: Any) -> Operation:
        """Start an operation of this call's service, user and project (see Operations.start)."""
        service = self.app.services[self.method.api.name]
        kwargs.setdefault("dialect", service.dialect)
        kwargs.setdefault("latency", f"{service.name}.{self.method.id.partition('.')[2]}")
        return self.app.operations.start(
            service=service.name, verb=verb, target=target, user=self.principal.email, project=self.project_id, **kwargs
        )


class Service:
    """One Google API.

    name: of the discovery document ("run").  versions: those served ("v2").  host: "run.googleapis.com", which is also
    what a project enables.  family: "esf", "legacy" or "mixed" errors.  dialect: of its operations: "longrunning", "compute",
    "sql".  lenient: unknown fields are ignored (Cloud Storage).  lenient_query: unknown
    query parameters are (Cloud SQL).  always_enabled: needs no enabling.  client_based: it
    is enough when the caller's own project has it enabled (https://cloud.google.com/docs/quotas/quota-project).
    anonymous: callers without a credential come through, as ANONYMOUS, and the handlers decide.
    """

    def __init__(
        self,
        name: str,
        *versions: str,
        host: str = "",
        family: str = "esf",
        dialect: str = "longrunning",
        lenient: bool = False,
        lenient_query: bool = False,
        always_enabled: bool = False,
        client_based: bool = False,
        anonymous: bool = False,
    ) -> None:
        self.name, self.versions = name, versions
        self.host = host or f"{name}.googleapis.com"
        self.family, self.dialect, self.lenient, self.always_enabled = family, dialect, lenient, always_enabled
        self.lenient_query = lenient_query
        self.client_based = client_based
        self.anonymous = anonymous
        self.handlers: dict[str, Handler] = {}
        self.permissions: dict[str, tuple[str, Resource | None]] = {}
        self.raw_routes: list[tuple[str, str, RawHandler]] = []
        self.actions: dict[str, Action] = {}
        self.on_start: list[Hook] = []
        self.on_stop: list[Hook] = []
        self.project_of: Callable[[Call], str | None] | None = None

    def method(
        self, *ids: str, permission: str = "", resource: Resource | None = None, version: str = ""
    ) -> Callable[[Handler], Handler]:
        """Register a handler (sync or async) for methods by their discovery ids.

        It returns the answer's JSON, an Operation, None (204, or {} for the esf family) or a web response.
        permission is required on the project, or on what resource(call) names, before the handler runs.
        version: the only one of the API it is for, where two versions mean different things by one id.
        """

        def register(handler: Handler) -> Handler:
            for ident in ids:
                key = f"{version}:{ident}" if version else ident
                self.handlers[key] = handler
                if permission:
                    self.permissions[key] = (permission, resource)
            return handler

        return register

    def key(self, method: Method) -> str:
        """What the handler of a method is registered as: for its version of the API, else for all."""
        own = f"{method.api.version}:{method.id}"
        return own if own in self.handlers else method.id

    def raw(self, host: str, path_prefix: str = "/") -> Callable[[RawHandler], RawHandler]:
        """Register a handler for what no discovery document describes (token endpoints, sign-in pages, XML API).

        host may begin with "*." for any name below it.  It gets every request of the host below the prefix that the
        documents do not match, without authentication.
        """

        def register(handler: RawHandler) -> RawHandler:
            self.raw_routes.append((host, path_prefix, handler))
            return handler

        return register

    def action(self, name: str) -> Callable[[Action], Action]:
        """Register what an operation does: named "<service>.<name>" in Operations.start(action=…)."""

        def register(action: Action) -> Action:
            self.actions[f"{self.name}.{name}"] = action
            return action

        return register

    def starts(self, hook: Hook) -> Hook:
        """Run when the sandbox starts (data planes come back up)."""
        self.on_start.append(hook)
        return hook

    def stops(self, hook: Hook) -> Hook:
        """Run when the sandbox stops."""
        self.on_stop.append(hook)
        return hook
