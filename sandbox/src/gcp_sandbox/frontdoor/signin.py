"""Browser sign-in: Google's account chooser, with IAP's redirects and cookie.

https://cloud.google.com/iap/docs/external-identity-sessions (sessions), https://developers.google.com/identity/openid-connect
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import importlib.resources
import json
import secrets
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import web

from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud

Doc = dict[str, Any]
FINISH = "/_gcp_gatekeeper/authenticate"
_HOUR = 3600
# The OAuth client that IAP uses if none is configured.
_MANAGED_CLIENT = "google-managed.apps.googleusercontent.com"


def _seal(cloud: Cloud, purpose: str, content: Doc, lifetime: int) -> str:
    body = (
        base64.urlsafe_b64encode(json.dumps(content | {"x": int(time.time()) + lifetime}).encode()).decode().rstrip("=")
    )
    return f"{body}.{_mac(cloud, purpose, body)}"


def _open(cloud: Cloud, purpose: str, text: str) -> Doc | None:
    body, _, mac = text.partition(".")
    if not body or not hmac.compare_digest(mac, _mac(cloud, purpose, body)):
        return None
    content = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return content if content["x"] > time.time() else None


def _mac(cloud: Cloud, purpose: str, body: str) -> str:
    key = hashlib.sha256(cloud.tokens.private_key.encode()).digest()
    return hmac.new(key, f"{purpose}:{body}".encode(), "sha256").hexdigest()


def _cookie(backend: Doc) -> str:
    return "__Host-GCP_IAP_AUTH_TOKEN_" + hashlib.sha256(backend["id"].encode()).hexdigest()[:16].upper()


def _nonce_cookie(backend: Doc) -> str:
    return "__Host-GCP_IAP_XSRF_NONCE_" + hashlib.sha256(backend["id"].encode()).hexdigest()[:16].upper()


def from_cookie(cloud: Cloud, request: web.BaseRequest, backend: Doc) -> Principal | None:
    """The account that a browser has signed in as, or None."""
    content = _open(cloud, "session", request.cookies.get(_cookie(backend), ""))
    return Principal(content["email"]) if content and content["backend"] == backend["id"] else None


def begin(cloud: Cloud, request: web.BaseRequest, backend: Doc, after: str) -> web.Response:
    """302 to the account chooser; after: path and query of the final redirect."""
    nonce = secrets.token_urlsafe(16)
    client = backend["iap"].get("oauth2ClientId", "").strip() or _MANAGED_CLIENT
    host = (request.host or "").split(":")[0]
    state = {"url": f"https://{host}{after}", "host": host, "backend": backend["id"], "nonce": nonce}
    query = urlencode(
        {
            "client_id": client,
            "response_type": "code",
            "scope": "openid email",
            "redirect_uri": f"https://iap.googleapis.com/v1/oauth/clientIds/{client}:handleRedirect",
            "cred_ref": "true",
            "state": _seal(cloud, "state", state, _HOUR),
        }
    )
    response = web.Response(
        status=302,
        headers={
            "Location": f"https://accounts.google.com/o/oauth2/v2/auth?{query}",
            "X-Goog-IAP-Generated-Response": "true",
            "Cache-Control": "no-store",
        },
    )
    response.set_cookie(
        _nonce_cookie(backend), nonce, secure=True, httponly=True, path="/", samesite="None", max_age=_HOUR
    )
    return response


async def chooser(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """accounts.google.com: the page with the sandbox's users; choosing one sends the browser back with a code."""
    query = request.rel_url.query
    if not request.path.startswith("/o/oauth2/") or "redirect_uri" not in query or "client_id" not in query:
        return web.Response(status=404, text="Not Found")
    if request.method == "POST":
        form = _form(await request.read())
        email = (form.get("other") or form.get("email") or "").strip().lower()
        if "@" in email:
            return _chosen(cloud, query["client_id"], query["redirect_uri"], query.get("state", ""), email)
    state = _open(cloud, "state", query.get("state", ""))
    back = html.escape(state["host"] if state else urlsplit(query["redirect_uri"]).hostname or "")
    rows = "\n".join(
        f'<li><button name="email" value="{html.escape(person)}"><i style="background: {_colour(person)}">'
        f"{html.escape(person[0].upper())}</i><span>{html.escape(person)}</span></button></li>"
        for person in people(cloud)
    )
    content = f"""<p>to continue to <b>{back}</b></p>
<form method="post"><ul>
{rows}
</ul></form>
<form method="post">
<label for="other">Use another account</label>
<div><input id="other" name="other" type="email" placeholder="name@example.com" required><button>Next</button></div>
</form>"""
    return page("Choose an account", content)


def page(title: str, content: str, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A page in the common design of the sign-in pages; content is HTML."""
    frame = importlib.resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    text = frame.replace("{title}", html.escape(title, quote=False)).replace("{content}", content)
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def _colour(person: str) -> str:
    return f"hsl({hashlib.sha256(person.encode()).digest()[0] * 360 // 256} 45% 40%)"


def people(cloud: Cloud) -> list[str]:
    """Accounts in the chooser: all users in any policy, and two that are in none."""
    found = {"alice@example.com", "mallory@example.net"}
    for _, policy in cloud.store.list("iam.policies"):
        for binding in policy["bindings"]:
            found |= {m.removeprefix("user:") for m in binding["members"] if m.startswith("user:")}
    return sorted(found)


def _form(data: bytes) -> dict[str, str]:
    return dict(parse_qsl(data.decode("utf-8", "replace")))


def _chosen(cloud: Cloud, client: str, redirect: str, state: str, email: str) -> web.Response:
    if client == _MANAGED_CLIENT and email.rsplit("@", 1)[-1] != cloud.settings.organization:
        content = (
            f"<p>This app can only be used within its organization (<b>{html.escape(cloud.settings.organization)}</b>): IAP uses "
            f"the Google-managed OAuth client. You chose <b>{html.escape(email)}</b>.</p><p>Error 403: org_internal</p>"
        )
        return page("Access blocked", content, status=403)
    code = _seal(cloud, "code", {"email": email, "client": client}, 600)
    return web.Response(status=302, headers={"Location": f"{redirect}?{urlencode({'state': state, 'code': code})}"})


async def handle_redirect(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """iap.googleapis.com/v1/oauth/clientIds/ID:handleRedirect: back to the host that the browser requested."""
    state = _open(cloud, "state", request.rel_url.query.get("state", ""))
    code = _open(cloud, "code", request.rel_url.query.get("code", ""))
    if state is None or code is None:
        return web.Response(status=400, text="Invalid or expired sign-in; start again at the application's address.")
    token = _seal(cloud, "finish", {"email": code["email"], **{k: state[k] for k in ("url", "backend", "nonce")}}, 600)
    return web.Response(
        status=302, headers={"Location": f"https://{state['host']}{FINISH}?{urlencode({'token': token})}"}
    )


def finish(cloud: Cloud, request: web.BaseRequest, backend: Doc) -> web.Response:
    """On the application's host: set the session cookie and redirect to the requested page."""
    content = _open(cloud, "finish", request.rel_url.query.get("token", ""))
    nonce = request.cookies.get(_nonce_cookie(backend), "")
    if content is None or content["backend"] != backend["id"] or not hmac.compare_digest(content["nonce"], nonce):
        return web.Response(status=400, text="Invalid or expired sign-in; start again at the application's address.")
    session = _seal(cloud, "session", {"email": content["email"], "backend": backend["id"]}, _HOUR)
    response = web.Response(status=302, headers={"Location": content["url"], "Cache-Control": "no-store"})
    response.set_cookie(_cookie(backend), session, secure=True, httponly=True, path="/", samesite="None", max_age=_HOUR)
    response.del_cookie(_nonce_cookie(backend), path="/", secure=True)
    return response


def refresher(again: str) -> web.Response:
    """A page that renews the sign-in before the one-hour session ends, for an application to keep in a frame."""
    text = f'<!DOCTYPE html><title>Session refresher</title><meta http-equiv="refresh" content="2700; url={again}">'
    return web.Response(text=text, content_type="text/html", headers={"X-Goog-IAP-Generated-Response": "true"})


def forget(backend: Doc, after: str) -> web.Response:
    """Sign out of this host, and redirect to a path."""
    response = web.Response(status=302, headers={"Location": after, "X-Goog-IAP-Generated-Response": "true"})
    response.del_cookie(_cookie(backend), path="/", secure=True)
    return response
