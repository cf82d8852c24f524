"""Identity-Aware Proxy: who asks, whether they may pass, and what the service behind is told about them.

https://cloud.google.com/iap/docs/authentication-howto, https://cloud.google.com/iap/docs/signed-headers-howto
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
import re
import time
from typing import TYPE_CHECKING, Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from gcp_sandbox import projects
from gcp_sandbox.auth import EMAILS, Principal, subject_id
from gcp_sandbox.frontdoor import signin
from gcp_sandbox.iam import project_resource
from gcp_sandbox.services.cloudresourcemanager import folders
from gcp_sandbox.services.iam import accounts, service_account

if TYPE_CHECKING:
    from gcp_sandbox.app import Sandbox

Doc = dict[str, Any]
ACCESS = "iap.webServiceVersions.accessViaIAP"
_GENERATED = {"X-Goog-IAP-Generated-Response": "true"}


@dataclasses.dataclass
class Passed:
    """A request that may pass: headers for the service behind, and the service agent that calls it."""

    headers: dict[str, str]
    agent: Principal


class Refused(Exception):
    """The credential is not valid: the text of IAP's 401."""


def check(app: Sandbox, request: web.BaseRequest, backend: Doc) -> Passed | web.Response:
    """Let a request through to the backend service, or answer it (302 to the sign-in page, 401, 403)."""
    found = re.search(r"projects/([^/]+)/", backend["selfLink"])
    project = projects.find(app, found.group(1)) if found else None
    if project is None:
        return _text(500, "The backend service has no project.")
    name = backend["name"]
    path = request.path
    if path == "/_gcp_iap/clear_login_cookie":
        return signin.forget(backend)
    if path == signin.FINISH:
        return signin.finish(app, request, backend)
    try:
        principal = _caller(app, request, backend, project)
    except Refused as refused:
        return _text(401, f"Invalid IAP credentials: {refused}")
    if principal is None:
        if request.headers.get("X-Requested-With") == "XMLHttpRequest" or request.headers.get("Sec-Fetch-Mode") == "cors":
            return _text(401, "")
        return signin.begin(app, request, backend, project)
    number = project["projectNumber"]
    base = f"//iap.googleapis.com/projects/{number}/iap_web"
    resources = (f"{base}/compute/services/{name}", f"{base}/compute/services/{backend['id']}", f"{base}/compute", base,
                 project_resource(project["projectId"]))  # fmt: skip
    where = {"request.path": path, "request.host": (request.host or "").split(":")[0]}
    if not app.iam.allows(principal, ACCESS, *resources, context=where):
        return _denied(principal)
    agent = f"service-{number}@gcp-sa-iap.iam.gserviceaccount.com"
    if app.store.peek(EMAILS, agent) is None:
        return _text(500, "The IAP service account is not provisioned. Please follow the instructions to create service "
                          "account and rectify IAP and Cloud Run setup: "
                          "https://cloud.google.com/iap/docs/enabling-cloud-run")  # fmt: skip
    return Passed(_headers(app, principal, number, backend), Principal(agent))


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/html", headers=_GENERATED)


def _denied(principal: Principal) -> web.Response:
    content = (
        f"<p>You are signed in as <b>{html.escape(principal.email)}</b>, which may not open this page. Ask its owner "
        "for access.</p>"
        "<p>IAM: permission iap.webServiceVersions.accessViaIAP is missing.</p>"
        "<p><a href='/_gcp_iap/clear_login_cookie'>Use another account</a></p>"
    )
    return signin.page("You don't have access", content, 403, _GENERATED)


def _caller(app: Sandbox, request: web.BaseRequest, backend: Doc, project: Doc) -> Principal | None:
    """Who sent the request, or None where it carries no credential.  Raises Refused."""
    for header in ("Proxy-Authorization", "Authorization"):
        scheme, _, token = request.headers.get(header, "").partition(" ")
        if scheme.lower() == "bearer":
            if not token.strip():
                raise Refused("empty token")
            return _bearer(app, request, backend, project, token.strip())
    return signin.from_cookie(app, request, backend)


def _bearer(app: Sandbox, request: web.BaseRequest, backend: Doc, project: Doc, token: str) -> Principal:
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise Refused("Unable to parse JWT") from None
    if claims.get("iss") in ("https://accounts.google.com", "accounts.google.com"):
        return _openid(app, backend, project, token)
    return _service_account(app, request, header, claims, token)


def _openid(app: Sandbox, backend: Doc, project: Doc, token: str) -> Principal:
    """An OpenID Connect token, whose audience is the backend's OAuth client or one that is allow-listed."""
    claims = app.tokens.check_id_token(token)
    if claims is None:
        raise Refused("JWT signature is invalid or the token has expired")
    accepted = programmatic_clients(app, backend, project)
    custom = backend["iap"].get("oauth2ClientId", "").strip()
    if custom:
        accepted = [*accepted, custom]
    if claims["aud"] not in accepted:
        expected = custom or "none: with the Google-managed OAuth client no programmatic client is allowed by default"
        raise Refused(f"JWT audience doesn't match this application ('aud' claim ({claims['aud']}) doesn't match expected "
                      f"value ({expected}))")  # fmt: skip
    if not claims.get("email"):
        raise Refused("JWT 'email' claim isn't a string")
    return Principal(claims["email"])


def programmatic_clients(app: Sandbox, backend: Doc, project: Doc) -> list[str]:
    """OAuth clients that the IAP settings of the service, or of what it is in, allow."""
    number, parent = project["projectNumber"], project.get("parent", {})
    above = f"{parent.get('type')}s/{parent.get('id')}"
    out: list[str] = []
    for name in (f"projects/{number}/iap_web/compute/services/{backend['name']}",
                 f"projects/{number}/iap_web/compute/services/{backend['id']}",
                 f"projects/{number}/iap_web/compute", f"projects/{number}/iap_web", f"projects/{number}",
                 above, *folders.above(app, above)):  # fmt: skip
        settings = app.store.peek("iap.settings", name) or {}
        oauth = settings.get("accessSettings", {}).get("oauthSettings", {})
        out += oauth.get("programmaticClients", [])
    return out


def _service_account(app: Sandbox, request: web.BaseRequest, header: Doc, claims: Doc, token: str) -> Principal:
    """A JWT that a service account signed, itself or by signJwt."""
    email = claims.get("iss", "")
    if not email or claims.get("sub") != email:
        raise Refused("JWT 'iss' and 'sub' claims must be the service account's e-mail")
    account = service_account(app, email)
    for key in accounts.keys(app, account) if account else ():
        if header.get("kid") in (None, accounts.key_id(key)) and not key.get("disabled"):
            try:
                claims = jwt.decode(token, accounts.public_key(key), algorithms=["RS256"], options={"verify_aud": False})
                break
            except jwt.ExpiredSignatureError:
                raise Refused("Expired JWT") from None
            except jwt.InvalidTokenError:
                continue
    else:
        raise Refused("JWT signature is invalid")
    issued, expires = claims.get("iat", 0), claims.get("exp", 0)
    if expires - issued > 3600:
        raise Refused("JWT lifetime is longer than one hour")
    if issued > time.time() + 600:
        raise Refused("JWT was issued in the future")
    audience = claims.get("aud", "")
    url = f"https://{(request.host or '').split(':')[0]}{request.path}"
    if not _audience_covers(audience, url):
        raise Refused(f"JWT audience doesn't match this application ('aud' claim ({audience}) doesn't match expected value "
                      f"({url}))")  # fmt: skip
    return Principal(email)


def _audience_covers(audience: str, url: str) -> bool:
    """A URL as it is, or one that ends in /* for all below it."""
    if audience.endswith("/*"):
        return url.startswith(audience[:-1]) or url == audience[:-2]
    return audience == url


# -- what the service behind is told -----------------------------------------


def _assertion_key(app: Sandbox) -> Doc:
    doc = app.store.peek("sandbox", "iap-key")
    if doc is None:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        kid = base64.urlsafe_b64encode(hashlib.sha256(pem).digest()[:4]).decode().rstrip("=")
        app.store.put("sandbox", "iap-key", {"kid": kid, "pem": pem.decode()})
        doc = app.store.peek("sandbox", "iap-key")
        assert doc is not None
    return doc


def _headers(app: Sandbox, principal: Principal, number: str, backend: Doc) -> dict[str, str]:
    key = _assertion_key(app)
    when = int(time.time())
    subject = f"accounts.google.com:{subject_id(principal.email)}"
    claims = {
        "iss": "https://cloud.google.com/iap", "sub": subject, "email": principal.email, "iat": when, "exp": when + 600,
        "aud": f"/projects/{number}/global/backendServices/{backend['id']}", "azp": f"/projects/{number}",
        "hd": principal.email.rsplit("@", 1)[-1], "identity_source": "GOOGLE",
    }  # fmt: skip
    return {
        "X-Goog-Authenticated-User-Email": f"accounts.google.com:{principal.email}",
        "X-Goog-Authenticated-User-Id": subject,
        "X-Goog-IAP-JWT-Assertion": jwt.encode(claims, key["pem"], algorithm="ES256", headers={"kid": key["kid"]}),
    }


async def public_keys(app: Sandbox, request: web.BaseRequest) -> web.StreamResponse:
    """https://www.gstatic.com/iap/verify/public_key and public_key-jwk."""
    key = _assertion_key(app)
    public = serialization.load_pem_private_key(key["pem"].encode(), None).public_key()
    if request.path == "/iap/verify/public_key-jwk":
        jwk = ECAlgorithm.to_jwk(public, as_dict=True)  # type: ignore[arg-type]
        return web.json_response({"keys": [jwk | {"kid": key["kid"], "alg": "ES256", "use": "sig"}]})
    if request.path == "/iap/verify/public_key":
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        return web.Response(body=json.dumps({key["kid"]: pem}), content_type="application/json")
    return web.Response(status=404)
