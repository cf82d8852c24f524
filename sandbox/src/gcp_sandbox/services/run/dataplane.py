"""Requests to services: ingress, invoker, traffic, limits, and the way to an instance and back.

https://cloud.google.com/run/docs/securing/ingress, https://cloud.google.com/run/quotas#request_limits
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import random
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.exchange import is_secure
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.services.run import checks, names
from gcp_sandbox.services.run.fleet import NoInstance, fleet, workload
from gcp_sandbox.services.run.plane.instance import Instance
from gcp_sandbox.services.run.plane.output import Output

Doc = dict[str, Any]
LIMIT = 32 * 1024 * 1024
_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "proxy-connection",
    "expect",
}
_PAGE = """
<html><head>
<meta http-equiv="content-type" content="text/html;charset=utf-8">
<title>{status} {title}</title>
</head>
<body text=#000000 bgcolor=#ffffff>
<h1>Error: {heading}</h1>
<h2>{text}</h2>
<h2></h2>
</body></html>
"""
_CHUNK = 256 * 1024
_TIMEOUT = (
    "The request has been terminated because it has reached the maximum request timeout. To change this limit, see "
    "https://cloud.google.com/run/docs/configuring/request-timeout"
)
_BROKEN = (
    "The request failed because either the HTTP response was malformed or connection to the instance had an error. "
    "Additional troubleshooting documentation can be found at: "
    "https://cloud.google.com/run/docs/troubleshooting#malformed-response-or-connection-error"
)


class _TooLarge(Exception):
    pass


def page(
    status: int, title: str, text: str, heading: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    """An error page of Google's front end."""
    body = _PAGE.format(status=status, title=title, heading=heading or title, text=text)
    response = web.Response(status=status, text=body, content_type="text/html", charset="UTF-8", headers=headers)
    response.headers["Server"] = "Google Frontend"
    return response


def _not_found() -> web.Response:
    return page(404, "Page not found", "The requested URL was not found on this server.")


def _forbidden(path: str) -> web.Response:
    text = f"Your client does not have permission to get URL <code>{_escape(path)}</code> from this server."
    return page(403, "Forbidden", text)


def _unauthorized(path: str) -> web.Response:
    return page(
        401,
        "Unauthorized",
        f"Your client does not have permission to the requested URL <code>{_escape(path)}</code>.",
        headers={
            "WWW-Authenticate": 'Bearer error="invalid_token" error_description="The access token could not be verified"'
        },
    )


def _unavailable(status: int = 503) -> web.Response:
    if status == 429:
        return web.Response(status=429, text="Rate exceeded.", headers={"Server": "Google Frontend"})
    return page(
        503,
        "Server Error",
        "The service you requested is not available yet.<p>Please try again in 30 seconds.",
        "Server Error",
    )


def fault_page(request: web.BaseRequest, error: ApiError) -> web.Response:
    """A failure of Cloud Run's own, on the way to a service."""
    if error.code in (429, 503):
        return _unavailable(error.code)
    if error.code == 504:
        return web.Response(status=504, text="upstream request timeout", headers={"Server": "Google Frontend"})
    if error.code == 401:
        return _unauthorized(request.rel_url.raw_path)
    if error.code == 403:
        return _forbidden(request.rel_url.raw_path)
    if error.code == 404:
        return _not_found()
    title = "Server Error" if error.code >= 500 else http.HTTPStatus(error.code).phrase
    return page(
        error.code,
        title,
        "The server encountered an error and could not complete your request.<p>Please try again in 30 seconds.",
    )


def _note(cloud: Cloud, revision_key: str, revision: Doc, status: int) -> None:
    """Write why no instance took a request to the service's log."""
    load = workload(cloud, revision_key, revision)
    text = (
        "The request was aborted because there was no available instance. Additional troubleshooting documentation can be "
        "found at: https://cloud.google.com/run/docs/troubleshooting#abort-request"
        if status == 429
        else "The request failed because the instance could not start successfully."
    )
    load.log.parent.mkdir(parents=True, exist_ok=True)
    Output(load.log, load.name, load.env).system(text, "WARNING" if status == 429 else "ERROR")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def serve(
    cloud: Cloud,
    request: web.BaseRequest,
    service_key: str,
    *,
    caller: Principal | None = None,
    via: str = "load-balancer",
    headers: Mapping[str, str] | None = None,
    tag: str = "",
) -> web.StreamResponse:
    """Answer a request to a service (store key) as Cloud Run does.

    caller: who is signed in already (the IAP service agent), or None: then the request's own token counts.  via:
    "load-balancer", "run.app" or "internal".  headers: set on the request that the container gets.  tag: of the traffic.
    """
    doc = cloud.store.peek("run.services", service_key)
    if doc is None or not _enters(doc.get("ingress", ""), via):
        return _not_found()
    path = request.rel_url.raw_path
    if doc.get("iapEnabled"):
        passed = cloud.identity_aware_proxy(request, service_key)
        if isinstance(passed, web.StreamResponse):
            return passed
        headers, caller = {**(headers or {}), **passed[0]}, passed[1]
    checked, by_iap = "", caller is not None
    if caller is None and not doc.get("invokerIamDisabled"):
        checked, token = _token(request)
        if token:
            caller = _caller(cloud, doc, token)
            if caller is None and not _allowed(cloud, service_key, None):
                return _unauthorized(path)
    if not doc.get("invokerIamDisabled") and not _allowed(cloud, service_key, caller):
        return _forbidden(path)
    revision_key = _route(doc, tag)
    revision = cloud.store.peek("run.revisions", revision_key) if revision_key else None
    if revision is None:
        return _not_found()
    http2 = any(port.get("name") == "h2c" for c in revision["containers"] for port in c.get("ports", ()))
    if not http2 and (request.content_length or 0) > LIMIT:
        return _too_large()
    pool = fleet(cloud).pool(revision_key, revision)
    try:
        instance = await pool.acquire()
    except NoInstance as error:
        _note(cloud, revision_key, revision, error.status)
        return _unavailable(error.status)
    told = _request_headers(request, headers or {}, checked if caller else "", by_iap)
    try:
        if not instance.answers:
            text = "upstream connect error or disconnect/reset before headers. reset reason: protocol error"
            return web.Response(status=503, text=text, headers={"Server": "Google Frontend"})
        if request.headers.get("Upgrade", "").lower() == "websocket" and not http2:
            return await _websocket(cloud, request, instance, revision, told)
        return await _forward(cloud, request, instance, revision, told, http2)
    finally:
        pool.release(instance)


def _enters(ingress: str, via: str) -> bool:
    """Whether a service's ingress setting lets a request in that comes this way."""
    if ingress == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER":
        return via in ("load-balancer", "internal")
    if ingress in ("INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_NONE"):
        return via == "internal" and ingress != "INGRESS_TRAFFIC_NONE"
    return True


def _allowed(cloud: Cloud, service_key: str, caller: Principal | None) -> bool:
    project = names.parts(service_key)["projects"]
    resource = f"//run.googleapis.com/{service_key}"
    return cloud.iam.allows(caller, "run.routes.invoke", project_resource(project), resource)


def _token(request: web.BaseRequest) -> tuple[str, str]:
    """The header that Cloud Run checks, and the token in it."""
    for name in ("X-Serverless-Authorization", "Authorization"):
        scheme, _, token = request.headers.get(name, "").partition(" ")
        if scheme.lower() == "bearer":
            return name.lower(), token.strip()
    return "", ""


def _caller(cloud: Cloud, doc: Doc, token: str) -> Principal | None:
    """The account of an ID token that is meant for this service."""
    claims = cloud.tokens.check_id_token(token)
    if claims is None or "email" not in claims:
        return None
    audiences = {*doc.get("urls", ()), *doc.get("customAudiences", ())}
    return Principal(claims["email"]) if claims["aud"].rstrip("/") in audiences else None


def _route(doc: Doc, tag: str) -> str:
    """The revision (store key) a request goes to, by tag or by percent."""
    routes: list[Doc] = doc.get("_routes", [])
    if tag:
        return next((r["revision"] for r in routes if r.get("tag") == tag), "")
    weighted = [r for r in routes if r.get("percent")]
    if not weighted:
        return ""
    return random.choices(weighted, [r["percent"] for r in weighted])[0]["revision"]


def _too_large() -> web.Response:
    text = "Your client issued a request that was too large."
    body = (
        "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error 413 (Request Entity Too Large)!!1</title>\n"
        f"  <p><b>413.</b> <ins>That\u2019s an error.</ins>\n  <p>{text}\n  <ins>That\u2019s all we know.</ins>\n"
    )
    response = web.Response(status=413, text=body, content_type="text/html", charset="UTF-8")
    response.headers["Server"] = "Google Frontend"
    response.headers["Connection"] = "close"
    response.force_close()
    return response


# -- to the instance and back --------------------------------------------------


def _request_headers(
    request: web.BaseRequest, extra: Mapping[str, str], checked: str, by_iap: bool
) -> CIMultiDict[str]:
    """What the container is told; checked: the header whose token Cloud Run has checked, if it has."""
    named = {n.strip().lower() for n in request.headers.get("Connection", "").split(",")}
    out: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.items():
        if name.lower() in _HOP_BY_HOP or name.lower() in named:
            continue
        if by_iap and name.lower().startswith(("x-goog-", "x-serverless-authorization")):
            continue  # IAP's own words, whoever else says them
        if name.lower() == checked and value.lower().startswith("bearer ey"):
            # Cloud Run takes the signature off the token that it has checked.
            value = value.rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE"
        out.add(name, value)
    peer = "169.254.1.1"
    before = request.headers.get("X-Forwarded-For")
    out["X-Forwarded-For"] = f"{before},{peer}" if before else peer
    out["X-Forwarded-Proto"] = "https"
    out["Forwarded"] = f'for="{peer}";proto=https'
    for name, value in extra.items():
        out[name] = value
    out.setdefault("X-Cloud-Trace-Context", f"{secrets.token_hex(16)}/{secrets.randbits(63)};o=0")
    trace = re.match("[0-9a-f]{32}", out["X-Cloud-Trace-Context"])
    out.setdefault("traceparent", f"00-{trace.group() if trace else secrets.token_hex(16)}-{secrets.token_hex(8)}-00")
    return out


async def _body(request: web.BaseRequest, limit: int | None) -> AsyncIterator[bytes]:
    sent = 0
    async for chunk in request.content.iter_any():
        sent += len(chunk)
        if limit is not None and sent > limit:
            raise _TooLarge
        yield chunk


async def _forward(
    cloud: Cloud, request: web.BaseRequest, instance: Instance, revision: Doc, headers: CIMultiDict[str], http2: bool
) -> web.StreamResponse:
    data = _body(request, None if http2 else LIMIT) if request.can_read_body else None
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    seconds = checks.duration(revision.get("timeout", "300s"))
    response: web.StreamResponse | None = None
    try:
        async with asyncio.timeout(seconds), _ask(cloud, request, instance, headers, data, http2) as upstream:
            if not http2 and (upstream.content_length or 0) > LIMIT and request.method != "HEAD":
                instance.log("Response size was too large. Please consider reducing response size.")
                return page(
                    500,
                    "Server Error",
                    "The server encountered an error and could not complete your request."
                    "<p>Please try again in 30 seconds.",
                )
            response = _begin(upstream)
            response.headers.setdefault(
                "X-Cloud-Trace-Context", headers["X-Cloud-Trace-Context"].partition("/")[0] + ";o=1"
            )
            await response.prepare(request)
            if request.method != "HEAD":
                async for chunk in upstream.content.iter_chunked(_CHUNK):
                    await response.write(chunk)
            await response.write_eof()
            return response
    except _TooLarge:
        return _too_large()
    except TimeoutError:
        instance.log(_TIMEOUT, "ERROR")
        if response is None or not response.prepared:
            return web.Response(status=504, text="upstream request timeout", headers={"Server": "Google Frontend"})
    except aiohttp.ClientError as error:
        if isinstance(error.__cause__, _TooLarge):
            return _too_large()
        instance.log(_BROKEN, "ERROR")
        with contextlib.suppress(
            TimeoutError
        ):  # where the container is ending, the next request wants another instance
            await asyncio.wait_for(instance.exited.wait(), 0.2)
        if response is None or not response.prepared:
            text = "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
            return web.Response(status=503, text=text, headers={"Server": "Google Frontend"})
    # What was sent already cannot be taken back: the connection ends here.
    if request.transport is not None:
        request.transport.close()
    with contextlib.suppress(ConnectionError):
        await response.write_eof()
    return response


def _ask(
    cloud: Cloud,
    request: web.BaseRequest,
    instance: Instance,
    headers: CIMultiDict[str],
    data: AsyncIterator[bytes] | None,
    http2: bool,
) -> AbstractAsyncContextManager[Any]:
    """The container's answer, in the protocol that its port is named after."""
    port, path = instance.workload.port, request.raw_path
    if http2:
        from gcp_sandbox.services.run.plane import h2c  # few containers want it

        return h2c.request(request.method, instance.address, port, path, headers, data)
    url = URL(f"http://{instance.address}:{port}{path}", encoded=True)
    return fleet(cloud).session.request(request.method, url, headers=headers, data=data, allow_redirects=False)


async def _websocket(
    cloud: Cloud, request: web.BaseRequest, instance: Instance, revision: Doc, headers: CIMultiDict[str]
) -> web.StreamResponse:
    protocols = tuple(p.strip() for p in headers.pop("Sec-WebSocket-Protocol", "").split(",") if p.strip())
    for name in [name for name in headers if name.lower().startswith("sec-websocket-")]:
        del headers[name]
    url = URL(f"http://{instance.address}:{instance.workload.port}{request.raw_path}", encoded=True)
    try:
        upstream = await fleet(cloud).session.ws_connect(url, headers=headers, protocols=protocols, max_msg_size=0)
    except aiohttp.WSServerHandshakeError as error:
        return web.Response(status=error.status, headers={"Server": "Google Frontend"})
    except aiohttp.ClientError:
        return _unavailable()
    client = web.WebSocketResponse(protocols=[upstream.protocol] if upstream.protocol else (), max_msg_size=0)
    async with upstream:
        await client.prepare(request)
        ways = [asyncio.create_task(_pump(client, upstream)), asyncio.create_task(_pump(upstream, client))]
        seconds = checks.duration(revision.get("timeout", "300s"))
        try:
            ended, _ = await asyncio.wait(ways, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
    if not ended:  # the time of a request is over: it is cut, without a closing handshake
        instance.log(_TIMEOUT, "ERROR")
        if request.transport is not None:
            request.transport.close()
        return client
    await client.close(code=upstream.close_code or 1000)
    return client


async def _pump(source: Any, target: Any) -> None:
    async for message in source:
        if message.type == aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type == aiohttp.WSMsgType.BINARY:
            await target.send_bytes(message.data)


def _begin(upstream: Any) -> web.StreamResponse:
    named = {n.strip().lower() for n in upstream.headers.get("Connection", "").split(",")}
    response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
    for name, value in upstream.headers.items():
        if name.lower() not in _HOP_BY_HOP and name.lower() not in named:
            response.headers.add(name, value)
    response.headers["Server"] = "Google Frontend"
    return response


# -- *.run.app --------------------------------------------------------------------

_hosts: dict[str, str] = {}


def service_of_host(cloud: Cloud, host: str) -> tuple[str, str]:
    """(service's store key, traffic tag) of a run.app host name; empty where there is none."""
    tag, mark, rest = host.partition("---")
    if not mark:
        tag, rest = "", host
    key = _hosts.get(rest, "")
    if not key or cloud.store.peek("run.services", key) is None:
        _hosts.clear()
        for name, _ in cloud.store.list("run.services"):
            project = projects.find(cloud, names.parts(name)["projects"])
            if project is not None:
                for url in names.urls(name, project["projectNumber"]):
                    _hosts[url.removeprefix("https://")] = name
        key = _hosts.get(rest, "")
    return key, tag


async def run_app(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """A request to a service's own URL."""
    key, tag = service_of_host(cloud, (request.host or "").split(":")[0].lower())
    doc = cloud.store.peek("run.services", key) if key else None
    if doc is None or doc.get("defaultUriDisabled"):
        return _not_found()
    if not is_secure(request):
        where = f"https://{request.host.split(':')[0]}{request.raw_path}"
        return web.Response(
            status=302, headers={"Location": where, "Server": "Google Frontend"}, content_type="text/html"
        )
    return await serve(cloud, request, key, via="run.app", tag=tag)
