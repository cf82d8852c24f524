"""The load balancer: forwarding rule -> target proxy -> URL map -> backend service -> serverless NEG -> Cloud Run.

Every step is read from the compute documents for every request, so that a misconfigured path does not work.
Names in a zone of this cloud resolve by its records.  All others do as if their owner had pointed DNS at the rule
whose certificate (through a target HTTPS proxy) contains them.  Internal rules are there for clients in their network alone.
https://cloud.google.com/load-balancing/docs/https/setting-up-https-serverless
"""

from __future__ import annotations

import dataclasses
import fnmatch
import http
import json
import logging
import re
import secrets
import ssl
import tempfile
import time
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from multidict import CIMultiDict

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.exchange import ANSWER, is_secure
from gcp_sandbox.core.network import INTERNET, Client
from gcp_sandbox.core.operations import now
from gcp_sandbox.frontdoor import gate
from gcp_sandbox.services.certificatemanager import certificates, maps
from gcp_sandbox.services.compute import armor
from gcp_sandbox.services.dns import resolver
from gcp_sandbox.services.run import dataplane

Doc = dict[str, Any]
_log = logging.getLogger("gcp_sandbox.frontdoor")
_ENFORCED = "enforcedSecurityPolicy"
_ERROR_PAGE = (
    '\n<html><head>\n<meta http-equiv="content-type" content="text/html;charset=utf-8">\n<title>{code} {title}</title>\n'
    "</head>\n<body text=#000000 bgcolor=#ffffff>\n<h1>Error: {title}</h1>\n<h2>{text}</h2>\n<h2></h2>\n</body></html>\n"
)


def key_of(link: str) -> str:
    """The store key of a resource's URL or partial URL: the part from ``projects/``."""
    return link[link.index("projects/") :] if "projects/" in link else link


def _read(cloud: Cloud, link: str) -> Doc | None:
    """The document that a link of the compute API refers to."""
    key = key_of(link)
    collection = key.split("/")[-2] if "/" in key else ""
    return cloud.store.peek(f"compute.{collection}", key)


@dataclasses.dataclass
class Listener:
    """The forwarding rule and proxy of one address and port."""

    rule: Doc
    proxy: Doc
    names: list[tuple[str, Doc]]
    """(domain, certificate) of all certificates of the proxy."""


def _domains(certificate: Doc) -> list[str]:
    """The names in a certificate of the compute API or of Certificate Manager."""
    managed: list[str] = certificate.get("managed", {}).get("domains", [])
    return managed or certificate.get("subjectAlternativeNames") or certificate.get("sanDnsnames", [])


def _names(cloud: Cloud, proxy: Doc) -> list[tuple[str, Doc]]:
    """The names of a proxy's certificate map, which takes precedence, or of its certificates."""
    if proxy.get("certificateMap"):
        return maps.served(cloud, proxy["certificateMap"])
    found = [
        certificates.of_link(cloud, link) if link.startswith(certificates.HOST) else _read(cloud, link)
        for link in proxy.get("sslCertificates", [])
    ]
    return [(domain, doc) for doc in found if doc for domain in _domains(doc)]


def _listeners(cloud: Cloud, client: Client = INTERNET) -> list[Listener]:
    """What a client reaches."""
    out = []
    for key, rule in cloud.store.list("compute.forwardingRules"):
        if "target" not in rule or not ("/global/" in key or _is_within_reach(cloud, key, rule, client)):
            continue
        proxy = _read(cloud, rule["target"])
        if proxy is not None:
            out.append(Listener(rule, proxy, _names(cloud, proxy)))
    return out


def _is_within_reach(cloud: Cloud, key: str, rule: Doc, client: Client) -> bool:
    """Whether an internal rule is one of the client's network or of a peered one, and of its region, or of all regions.

    https://cloud.google.com/load-balancing/docs/l7-internal/internal-https-lb-and-other-networks
    """
    if rule.get("loadBalancingScheme") != "INTERNAL_MANAGED" or not client.network:
        return False
    if f"/regions/{client.region}/" not in key and not rule.get("allowGlobalAccess"):
        return False
    network = cloud.store.peek("compute.networks", client.network) or {}
    peers = [entry["network"] for entry in network.get("peerings", ()) if entry.get("state") == "ACTIVE"]
    return key_of(rule["network"]) in (client.network, *map(key_of, peers))


def _covers(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return name.lower() == host


def _at(cloud: Cloud, host: str, port: int, client: Client) -> tuple[Listener | None, bool]:
    """The listener on a port of a host's address, and whether the host belongs to any load balancer, as a client sees it."""
    listeners = _listeners(cloud, client)
    addresses = {one.rule.get("IPAddress") for one in listeners if one.rule.get("IPAddress") == host}
    resolved = resolver.lookup(cloud, host, "A", client.network)
    for one in listeners:
        address = one.rule.get("IPAddress")
        if any(_covers(name, host) for name, _ in one.names) if resolved is None else address in resolved:
            addresses.add(address)
    for one in listeners:
        low, _, high = one.rule.get("portRange", "").partition("-")
        if one.rule.get("IPAddress") in addresses and low and int(low) <= port <= int(high or low):
            return one, True
    return None, bool(addresses)


def certificate(cloud: Cloud, host: str, client: Client) -> ssl.SSLContext | None | bool:
    """The certificate for TLS clients of this host: a context, None (no certificate yet: no handshake), False (other host)."""
    listener, known = _at(cloud, host, 443, client)
    if not known:
        return False
    if listener is None:
        return None
    for name, doc in listener.names:
        by_address = listener.rule.get("IPAddress") == host
        if not by_address and not _covers(name, host):
            continue
        if "managed" in doc and "_privateKey" not in doc:
            if "ACTIVE" in (doc["managed"].get("status"), doc["managed"].get("state")):
                covered = any(_covers(domain, host) for domain in _domains(doc))
                return cloud.authority.context(host if covered else _domains(doc)[0])
        elif "_privateKey" in doc:
            return _own(doc)
    return None


def _own(doc: Doc) -> ssl.SSLContext | None:
    """A context with a certificate that the user uploaded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(doc["_privateKey"].strip() + "\n" + (doc.get("certificate") or doc["pemCertificate"]))
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError as error:
            _log.warning("certificate %s: %s", doc.get("name"), error)
            return None
    return context


# -- requests --------------------------------------------------------------


async def serve(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """Answer a request for a host of a load balancer."""
    host = (request.host or "").split(":")[0].lower()
    secure, client = is_secure(request), cloud.client_of(request)
    listener, _ = _at(cloud, host, 443 if secure else 80, client)
    if listener is None:  # a host that is not on the certificate; the URL map covers all hosts
        reached = cloud.reached.get(request.transport, "") if request.transport else ""
        listener, _ = _at(cloud, reached, 443 if secure else 80, client)
    if listener is None:
        if request.transport:
            request.transport.abort()  # nothing listens on that port
        return web.Response(status=502)
    request[ANSWER] = CIMultiDict(Via="1.1 google")
    began = time.monotonic()
    backend: Doc | None = None
    details = "response_sent_by_backend"
    try:
        step = _route(cloud, listener, host, request.path)
        if isinstance(step, web.Response) or step is None:
            response: web.StreamResponse = step or error_page(
                404, "Not Found", "The requested URL was not found on this server."
            )
        elif "redirect" in step:
            response = _redirect(request, step["redirect"], secure, step.get("matched", ""))
        else:
            backend = step["backend"]
            response, details = await _to_backend(cloud, request, listener, backend)
    except ConnectionResetError:
        raise
    except OSError as error:
        _log.warning("backend of %s: %s", host, error)
        details = "failed_to_connect_to_backend"
        response = _try_again()
    if backend is not None and backend.get("logConfig", {}).get("enable"):
        _write_log(cloud, request, listener, backend, response, time.monotonic() - began, details)
    return response


def error_page(code: int, title: str, text: str) -> web.Response:
    """An error page in the load balancer's wording."""
    body = _ERROR_PAGE.format(code=code, title=title, text=text)
    return web.Response(status=code, text=body, content_type="text/html", charset="UTF-8")


def fault_page(request: web.BaseRequest, error: ApiError) -> web.Response:
    """An error of the load balancer itself."""
    request[ANSWER] = CIMultiDict(Via="1.1 google")
    if error.code == 502:
        return _try_again()
    return error_page(error.code, http.HTTPStatus(error.code).phrase, error.message)


def _try_again() -> web.Response:
    return error_page(
        502,
        "Server Error",
        "The server encountered a temporary error and could not complete your "
        "request.<p>Please try again in 30 seconds.",
    )


def _route(cloud: Cloud, listener: Listener, host: str, path: str) -> Doc | None:
    """{"redirect": …} or {"backend": …} from the URL map; None if a link is broken."""
    url_map = _read(cloud, listener.proxy.get("urlMap", ""))
    if url_map is None:
        return None
    chosen: Doc = url_map
    for rule in url_map.get("hostRules", []):
        if any(fnmatch.fnmatchcase(host, pattern) for pattern in rule.get("hosts", [])):
            matchers = {m["name"]: m for m in url_map.get("pathMatchers", [])}
            chosen = matchers.get(rule["pathMatcher"], url_map)
            break
    matched = ""
    rules = [(p, r) for r in chosen.get("pathRules", []) for p in r.get("paths", []) if _path_matches(p, path)]
    if rules:
        matched, rule = max(rules, key=lambda pair: len(pair[0]))
        redirect, link = rule.get("urlRedirect"), rule.get("service")
    else:
        redirect, link = chosen.get("defaultUrlRedirect"), chosen.get("defaultService")
    if redirect:
        return {"redirect": redirect, "matched": matched.removesuffix("/*")}
    backend = _read(cloud, link) if link else None
    return {"backend": backend} if backend else None


def _path_matches(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) or path == pattern[:-2] if pattern.endswith("/*") else path == pattern


def _redirect(request: web.BaseRequest, redirect: Doc, secure: bool, matched: str) -> web.Response:
    scheme = "https" if secure or redirect.get("httpsRedirect") else "http"
    parts = urlsplit(request.raw_path)
    path = redirect.get("pathRedirect") or parts.path or "/"
    if prefix := redirect.get("prefixRedirect"):
        path = prefix + parts.path.removeprefix(matched)
    query = "" if redirect.get("stripQuery") or not parts.query else f"?{parts.query}"
    host = redirect.get("hostRedirect") or (request.host or "").split(":")[0]
    codes = {"FOUND": 302, "SEE_OTHER": 303, "TEMPORARY_REDIRECT": 307, "PERMANENT_REDIRECT": 308}
    code = codes.get(redirect.get("redirectResponseCode", ""), 301)
    url = f"{scheme}://{host}{path}{query}"
    text = (
        f'<HTML><HEAD><meta http-equiv="content-type" content="text/html;charset=utf-8">\n<TITLE>{code} Moved</TITLE>'
        f"</HEAD><BODY>\n<H1>{code} Moved</H1>\nThe document has moved\n"
        f'<A HREF="{url}">here</A>.\r\n</BODY></HTML>\r\n'
    )
    return web.Response(
        status=code,
        text=text,
        content_type="text/html",
        charset="UTF-8",
        headers={"Location": url, "Cache-Control": "private"},
    )


async def _to_backend(
    cloud: Cloud, request: web.BaseRequest, listener: Listener, backend: Doc
) -> tuple[web.StreamResponse, str]:
    """The response, and its origin in the wording of the log's statusDetails."""
    if (policy := _read(cloud, backend.get("securityPolicy", ""))) and (refused := _enforced(request, policy)):
        return refused, "denied_by_security_policy" if refused.status != 302 else "redirected_by_security_policy"
    key = _run_service(cloud, backend)
    address = listener.rule.get("IPAddress", "")
    before = request.headers.get("X-Forwarded-For")
    headers = {
        "X-Forwarded-For": f"{before + ',' if before else ''}{request.remote or '127.0.0.1'},{address}",
        "X-Forwarded-Proto": "https" if is_secure(request) else "http",
        "Via": "1.1 google",
    }
    if "X-Cloud-Trace-Context" not in request.headers:
        headers["X-Cloud-Trace-Context"] = f"{secrets.token_hex(16)}/{secrets.randbelow(2**63)}"
    for header in backend.get("customRequestHeaders", []):
        name, _, value = header.partition(":")
        headers[name.strip()] = value.strip()
    caller = None
    if backend.get("iap", {}).get("enabled"):
        passed = gate.check(cloud, request, backend)
        if isinstance(passed, web.Response):
            return passed, "handled_by_identity_aware_proxy"
        headers |= passed.headers
        caller = passed.agent
    if key is None:
        return _try_again(), "failed_to_pick_backend"
    for header in backend.get("customResponseHeaders", []):
        name, _, value = header.partition(":")
        request[ANSWER].add(name.strip(), value.strip())
    # A regional internal load balancer is one of the ways by which a service is reached from within.
    via = "internal" if listener.rule.get("loadBalancingScheme") == "INTERNAL_MANAGED" else "load-balancer"
    answer = await dataplane.serve(cloud, request, key, caller=caller, via=via, headers=headers)
    return answer, "response_sent_by_backend"


def _enforced(request: web.BaseRequest, policy: Doc) -> web.Response | None:
    """The response of a Cloud Armor policy that does not let the request through; what it decided is noted for the log."""
    rule = armor.decide(policy, request, secure=is_secure(request))
    if rule is None:
        return None
    refused = armor.refusal(rule)
    request[_ENFORCED] = {
        "name": policy["name"],
        "priority": rule["priority"],
        "configuredAction": rule["action"].partition("(")[0].upper(),
        "outcome": "ACCEPT" if refused is None else rule["action"].partition("(")[0].upper(),
    }
    return refused


def _run_service(cloud: Cloud, backend: Doc) -> str | None:
    """Store key of the Cloud Run service behind a backend service, or None."""
    for entry in backend.get("backends", []):
        neg = _read(cloud, entry["group"])
        if neg is None or neg.get("networkEndpointType") != "SERVERLESS":
            continue
        found = re.match(r"projects/([^/]+)/regions/([^/]+)/", key_of(entry["group"]))
        name = neg.get("cloudRun", {}).get("service")
        if found and name:
            key = f"projects/{found.group(1)}/locations/{found.group(2)}/services/{name}"
            if cloud.store.peek("run.services", key) is not None:
                return key
    return None


def _project(rule: Doc) -> str:
    """ID of a forwarding rule's project."""
    return key_of(rule.get("selfLink", "")).partition("/")[2].partition("/")[0]


def _write_log(
    cloud: Cloud,
    request: web.BaseRequest,
    listener: Listener,
    backend: Doc,
    response: web.StreamResponse,
    seconds: float,
    details: str,
) -> None:
    kind, place = "http_load_balancer", {"zone": "global"}
    if "region" in listener.rule:
        # https://cloud.google.com/load-balancing/docs/l7-internal/monitoring
        network = listener.rule["network"].rpartition("/")[2]
        kind = "internal_http_lb_rule"
        place = {"region": listener.rule["region"].rpartition("/")[2], "network_name": network}
    entry: Doc = {
        "timestamp": now(),
        "severity": "INFO" if response.status < 400 else "WARNING",
        "httpRequest": {
            "requestMethod": request.method,
            "requestUrl": f"https://{request.host}{request.raw_path}",
            "status": response.status,
            "userAgent": request.headers.get("User-Agent", ""),
            "remoteIp": request.remote,
            "latency": f"{seconds:.6f}s",
        },
        "resource": {
            "type": kind,
            "labels": {
                "project_id": _project(listener.rule),
                **place,
                "forwarding_rule_name": listener.rule["name"],
                "target_proxy_name": listener.proxy["name"],
                "url_map_name": listener.proxy.get("urlMap", "").rsplit("/", 1)[-1],
                "backend_service_name": backend["name"],
            },
        },
        "jsonPayload": {"statusDetails": details, "remoteIp": request.remote},
    }
    if enforced := request.get(_ENFORCED):
        entry["jsonPayload"]["enforcedSecurityPolicy"] = enforced
    if referer := request.headers.get("Referer"):
        entry["httpRequest"]["referer"] = referer
    folder = cloud.folder / "logs"
    folder.mkdir(exist_ok=True)
    with (folder / "load-balancer.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, separators=(",", ":")) + "\n")
