"""The parts of a service: methods, raw routes, actions and hooks; and the call that a method receives."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web

from gcp_sandbox.core import discovery
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud, RawHandler
from gcp_sandbox.core.discovery import Method
from gcp_sandbox.core.errors import ApiError, error_info
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.operations import LONGRUNNING, Dialect, Operation

Answer = dict[str, Any] | Operation | web.StreamResponse | None
Handler = Callable[["Call"], Answer | Awaitable[Answer]]
Hook = Callable[[Cloud], Awaitable[None]]
Action = Callable[[Cloud, dict[str, Any]], Awaitable[dict[str, Any] | None]]
H = TypeVar("H", bound=Handler)
Denied = Callable[["Call", str, str], ApiError]
# ("METHOD permission", resource to check it on in addition to the project) of a call
Resource = Callable[["Call"], str]


@dataclasses.dataclass
class Call:
    """One authenticated request to a method.

    params: path and query parameters, decoded and converted, by their discovery names.  body: the validated JSON body.
    project: the record {projectId, projectNumber, name, …} of the request's project, or None.
    media: "", "upload" or "download" (the path's prefix, or ?alt=media).
    """

    cloud: Cloud
    service: Service
    request: web.BaseRequest
    method: Method
    params: dict[str, Any]
    body: dict[str, Any]
    principal: Principal
    project: dict[str, Any] | None
    media: str = ""

    @property
    def project_id(self) -> str:
        """ID of the request's project."""
        return self.project["projectId"] if self.project else ""

    @property
    def project_number(self) -> str:
        """Number of the request's project."""
        return self.project["projectNumber"] if self.project else ""

    @property
    def host(self) -> str:
        """Host name of the request."""
        return (self.request.host or "").split(":")[0]

    def require(self, permission: str, resource: str = "", *, shown: str = "") -> None:
        """Raise the API's 403 unless the caller has the permission on the project or on the resource (see iam.py)."""
        resources = [project_resource(self.project_id)] if self.project else []
        if resource:
            resources.append(resource)
        if not self.cloud.iam.allows(self.principal, permission, *resources):
            raise self.denied(permission, shown or resource.removeprefix("//").partition("/")[2])

    def guard(self, resource: str = "") -> None:
        """Raise the API's refusal if the organization's policies forbid this call, whose caller has the permission.

        The gateway calls it for methods with a declared permission, other handlers after their own check.
        resource: full name of what a setIamPolicy call is about.
        """
        for check in self.cloud.guards:
            check(self, resource)

    def denied(self, permission: str, shown: str = "") -> ApiError:
        """The 403 in the wording of this call's API.  shown: the resource, unless it is the project."""
        return self.service.denied(self, permission, shown or f"projects/{self.project_id}")

    def operation(self, verb: str, target: str, *, over: bool = False, **kwargs: Any) -> Operation:
        """Start an operation of this call's service, user and project (see Operations.start); over: it is at once."""
        kwargs.setdefault("dialect", self.service.dialect.name)
        kwargs.setdefault("latency", f"{self.service.name}.{self.method.id.partition('.')[2]}")
        begin = self.cloud.operations.finished if over else self.cloud.operations.start
        return begin(
            service=self.service.name,
            verb=verb,
            target=target,
            user=self.principal.email,
            project=self.project_id,
            **kwargs,
        )


def denied(call: Call, permission: str, shown: str) -> ApiError:
    """The 403 in the wording of most APIs."""
    host = call.service.host
    text = f"Permission '{permission}' denied on resource '//{host}/{shown}' (or it may not exist)."
    details = [error_info("IAM_PERMISSION_DENIED", host, permission=permission, resource=shown)]
    return ApiError(403, text, reason="forbidden", details=details)


class Service:
    """One Google API.

    name: of the discovery document ("run").  versions: those served ("v2").  host: "run.googleapis.com", which is also
    the name under which projects enable it.  short_name: in the paths of www.googleapis.com, if different.  family: "esf",
    "legacy" or "mixed" errors.  dialect: of its operations.  lenient: unknown fields are ignored (Cloud Storage).
    lenient_query: unknown query parameters are ignored (Cloud SQL).  always_enabled: needs no enabling.  client_based: it
    is sufficient if the caller's own project has it enabled (https://cloud.google.com/docs/quotas/quota-project).
    anonymous: callers without credentials are accepted as ANONYMOUS, and the handlers decide.
    resource_type: the type of its resources in conditions.  denied: returns its 403.  no_project(name): returns the error for
    a nonexistent project.  keeps_projects: its handlers accept any project, also deleted and nonexistent ones.
    trailing_slash: a path that ends with one is that without it.
    """

    def __init__(
        self,
        name: str,
        *versions: str,
        host: str = "",
        family: str = "esf",
        short_name: str = "",
        dialect: Dialect = LONGRUNNING,
        lenient: bool = False,
        lenient_query: bool = False,
        always_enabled: bool = False,
        client_based: bool = False,
        anonymous: bool = False,
        resource_type: str = "",
        denied: Denied = denied,
        no_project: Callable[[str], ApiError] | None = None,
        keeps_projects: bool = False,
        trailing_slash: bool = False,
    ) -> None:
        self.name, self.versions, self.short_name = name, versions, short_name
        self.host = host or f"{name}.googleapis.com"
        self.family, self.dialect, self.lenient, self.always_enabled = family, dialect, lenient, always_enabled
        self.lenient_query, self.trailing_slash = lenient_query, trailing_slash
        self.client_based = client_based
        self.anonymous = anonymous
        self.resource_type = resource_type
        self.denied, self.no_project, self.keeps_projects = denied, no_project, keeps_projects
        self.handlers: dict[str, Handler] = {}
        self.permissions: dict[str, tuple[str, Resource | None]] = {}
        self.raw_routes: list[tuple[str, str, RawHandler]] = []
        self.actions: dict[str, Action] = {}
        self.on_start: list[Hook] = []
        self.on_stop: list[Hook] = []
        self.project_of: Callable[[Call], str | None] | None = None
        self._apis: dict[str, discovery.Api] = {}

    def api(self, version: str) -> discovery.Api:
        """The discovery document of a version, read when first asked for."""
        if version not in self._apis:
            self._apis[version] = discovery.Api(self.name, version, self.family, self.lenient, self.lenient_query)
        return self._apis[version]

    def method(
        self, *ids: str, permission: str = "", resource: Resource | None = None, version: str = ""
    ) -> Callable[[H], H]:
        """Register a handler (sync or async) for methods by their discovery IDs.

        It returns the response's JSON, an Operation, None (204, or {} for the esf family) or a web response.
        permission is required on the project, or on the resource returned by resource(call), before the handler runs.
        version: the only API version it is for, if the meaning of an ID differs between versions.
        """

        def register(handler: H) -> H:
            for ident in ids:
                key = f"{version}:{ident}" if version else ident
                self.handlers[key] = handler
                if permission:
                    self.permissions[key] = (permission, resource)
            return handler

        return register

    def key(self, method: Method) -> str:
        """The key of a method's handler: for its version of the API, else for all versions."""
        own = f"{method.api.version}:{method.id}"
        return own if own in self.handlers else method.id

    def raw(self, host: str, path_prefix: str = "/") -> Callable[[RawHandler], RawHandler]:
        """Register a handler for endpoints that no discovery document describes (token endpoints, sign-in pages, XML API).

        host may start with "*." for all its subdomains.  The handler gets all requests to the host below the prefix that
        match no document, without authentication.
        """

        def register(handler: RawHandler) -> RawHandler:
            self.raw_routes.append((host, path_prefix, handler))
            return handler

        return register

    def action(self, name: str) -> Callable[[Action], Action]:
        """Register the action of an operation: named "<service>.<name>" in Operations.start(action=…)."""

        def register(action: Action) -> Action:
            self.actions[f"{self.name}.{name}"] = action
            return action

        return register

    def starts(self, hook: Hook) -> Hook:
        """Register a function that runs when the sandbox starts (to restart data planes)."""
        self.on_start.append(hook)
        return hook

    def stops(self, hook: Hook) -> Hook:
        """Register a function that runs when the sandbox stops."""
        self.on_stop.append(hook)
        return hook
