"""Identity-Aware Proxy: authenticates and authorizes requests, and passes the identity to the service behind it.

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
from collections.abc import Iterator
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import EMAILS, Principal, subject_id
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.frontdoor import signin
from gcp_sandbox.services.iam import accounts, service_account
from gcp_sandbox.services.run import names

Doc = dict[str, Any]
# Times and audience are checked here, with Google's tolerance.
_OPTIONS: Any = {"verify_aud": False, "verify_iat": False, "require": ["iat", "exp", "aud"]}
ACCESS = "iap.webServiceVersions.accessViaIAP"
_SPECIAL = "/_gcp_iap/"
_GENERATED = {"X-Goog-IAP-Generated-Response": "true"}


@dataclasses.dataclass
class Passed:
    """An authorized request: headers for the backend, and the service agent that calls it."""

    headers: dict[str, str]
    agent: Principal


class Refused(Exception):
    """The credentials are invalid; the text is that of IAP's 401."""


def of_service(cloud: Cloud, request: web.BaseRequest, key: str) -> tuple[dict[str, str], Principal] | web.Response:
    """As check(), for the Cloud Run service with this store key.

    https://cloud.google.com/run/docs/securing/identity-aware-proxy-cloud-run
    """
    doc = cloud.store.get("run.services", key) or {}
    part = names.parts(key)
    resource = {"selfLink": key, "name": part["services"], "id": doc["uid"], "iap": {}, "_region": part["locations"]}
    passed = check(cloud, request, resource)
    return passed if isinstance(passed, web.Response) else (passed.headers, passed.agent)


def _web_type(backend: Doc) -> str:
    """What IAP calls the kind of a resource: backend services, global or of a region, or the Cloud Run services of a region."""
    if "_region" in backend:
        return f"cloud_run-{backend['_region']}"
    return f"compute-{_region(backend)}" if _region(backend) else "compute"


def check(cloud: Cloud, request: web.BaseRequest, backend: Doc) -> Passed | web.Response:
    """Authorize a request to the backend service, or respond to it (302 to the sign-in page, 401, 403)."""
    found = re.search(r"projects/([^/]+)/", backend["selfLink"])
    project = projects.find(cloud, found.group(1)) if found else None
    if project is None:
        return _text(500, "The backend service has no project.")
    name, web_type = backend["name"], _web_type(backend)
    backend = backend | {"iap": {"oauth2ClientId": _client(cloud, backend, project)}}
    path = request.path
    number = project["projectNumber"]
    agent = f"service-{number}@gcp-sa-iap.iam.gserviceaccount.com"
    mode = _mode(request)
    if mode == "CLEAR_LOGIN_COOKIE":
        return signin.forget(backend, "/" if path.startswith(_SPECIAL) else f"/{path.lstrip('/')}")
    if path == signin.FINISH:
        return signin.finish(cloud, request, backend)
    if request.method == "OPTIONS" and _lets_options_pass(cloud, backend, project):
        return Passed({}, Principal(agent))
    try:
        principal = _caller(cloud, request, backend, project)
    except Refused as refused:
        return _text(401, f"Invalid IAP credentials: {refused}")
    if principal is None or mode == "DO_SESSION_REFRESH":
        if not _follows_redirects(request):
            return _text(401, "Invalid IAP credentials: empty token")
        after = f"{_SPECIAL}session_refresher" if mode == "DO_SESSION_REFRESH" else request.raw_path
        return signin.begin(cloud, request, backend, after)
    if mode == "IDENTITY":
        who = {"email": f"accounts.google.com:{principal.email}", "sub": _subject(principal)}
        return web.json_response(who, headers=_GENERATED)
    if mode == "SESSION_REFRESHER":
        return signin.refresher(f"{_SPECIAL}do_session_refresh")
    base = f"//iap.googleapis.com/projects/{number}/iap_web"
    resources = (
        f"{base}/{web_type}/services/{name}",
        f"{base}/{web_type}/services/{backend['id']}",
        f"{base}/{web_type}",
        base,
        project_resource(project["projectId"]),
    )
    where = {"request.path": path, "request.host": (request.host or "").split(":")[0]}
    if not cloud.iam.allows(principal, ACCESS, *resources, context=where):
        return _denied(principal)
    if cloud.store.peek(EMAILS, agent) is None:
        return _text(
            500,
            "The IAP service account is not provisioned. Please follow the instructions to create service "
            "account and rectify IAP and Cloud Run setup: "
            "https://cloud.google.com/iap/docs/enabling-cloud-run",
        )
    test = _test(request) if mode == "SECURE_TOKEN_TEST" else ""
    return Passed(_headers(cloud, principal, number, backend, test), Principal(agent))


def _region(backend: Doc) -> str:
    """Region of a backend service, "" for a global one."""
    return str(backend.get("region", "")).rpartition("/")[2]


def _mode(request: web.BaseRequest) -> str:
    """The special function that a URL requests from IAP itself: https://cloud.google.com/iap/docs/query-parameters-and-headers-howto."""
    if request.path.startswith(_SPECIAL):
        return request.path.removeprefix(_SPECIAL).partition("/")[0].upper()
    return request.rel_url.query.get("gcp-iap-mode", "")


def _test(request: web.BaseRequest) -> str:
    path = request.path.removeprefix(f"{_SPECIAL}secure_token_test/") if request.path.startswith(_SPECIAL) else ""
    return (path or request.rel_url.query.get("iap-secure-token-test-type", "")).upper()


def _follows_redirects(request: web.BaseRequest) -> bool:
    """Whether the client is to be redirected to the sign-in page: https://cloud.google.com/iap/docs/faq."""
    if request.method not in ("GET", "HEAD") or request.headers.get("X-Requested-With") == "XMLHttpRequest":
        return False
    accepts = request.headers.get("Accept", "*/*")
    return request.headers.get("Sec-Fetch-Mode") != "cors" and ("text/html" in accepts or "*/*" in accepts)


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


def _caller(cloud: Cloud, request: web.BaseRequest, backend: Doc, project: Doc) -> Principal | None:
    """The caller of the request, or None if it has no credentials.  Raises Refused."""
    for header in ("Proxy-Authorization", "Authorization"):
        scheme, _, token = request.headers.get(header, "").partition(" ")
        if scheme.lower() == "bearer":
            if not token.strip():
                raise Refused("empty token")
            return _bearer(cloud, request, backend, project, token.strip())
    return signin.from_cookie(cloud, request, backend)


def _bearer(cloud: Cloud, request: web.BaseRequest, backend: Doc, project: Doc, token: str) -> Principal:
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise Refused("Unable to parse JWT") from None
    if claims.get("iss") in ("https://accounts.google.com", "accounts.google.com"):
        return _openid(cloud, backend, project, token)
    return _service_account(cloud, request, header, claims, token)


def _openid(cloud: Cloud, backend: Doc, project: Doc, token: str) -> Principal:
    """An OpenID Connect token whose audience is the backend's OAuth client or an allowlisted one."""
    claims = cloud.tokens.check_id_token(token)
    if claims is None:
        raise Refused("JWT signature is invalid or the token has expired")
    accepted = programmatic_clients(cloud, backend, project)
    custom = backend["iap"].get("oauth2ClientId", "").strip()
    if custom:
        accepted = [*accepted, custom]
    if claims["aud"] not in accepted:
        expected = custom or "none: with the Google-managed OAuth client no programmatic client is allowed by default"
        raise Refused(
            f"JWT audience doesn't match this application ('aud' claim ({claims['aud']}) doesn't match expected "
            f"value ({expected}))"
        )
    if not claims.get("email"):
        raise Refused("JWT 'email' claim isn't a string")
    return Principal(claims["email"])


def programmatic_clients(cloud: Cloud, backend: Doc, project: Doc) -> list[str]:
    """OAuth clients that the IAP settings of the service or of its ancestors allow."""
    out: list[str] = []
    for settings in _settings(cloud, backend, project):
        out += settings.get("oauthSettings", {}).get("programmaticClients", [])
    return out


def _client(cloud: Cloud, backend: Doc, project: Doc) -> str:
    """The custom OAuth client of a resource, its own or that of the nearest settings; "" where Google manages the client."""
    own = backend["iap"].get("oauth2ClientId", "").strip()
    said = (settings.get("oauthSettings", {}).get("clientId", "") for settings in _settings(cloud, backend, project))
    return own or next(filter(None, said), "")


def _lets_options_pass(cloud: Cloud, backend: Doc, project: Doc) -> bool:
    """Whether CORS preflight requests need no credentials; the nearest settings that define it apply."""
    said = (settings.get("corsSettings", {}).get("allowHttpOptions") for settings in _settings(cloud, backend, project))
    return bool(next((answer for answer in said if answer is not None), False))


def _settings(cloud: Cloud, backend: Doc, project: Doc) -> Iterator[Doc]:
    """Access settings of a backend service, or Cloud Run service, and of its ancestors, nearest first."""
    web_type = _web_type(backend)
    number, parent = project["projectNumber"], project.get("parent", {})
    for name in (
        f"projects/{number}/iap_web/{web_type}/services/{backend['name']}",
        f"projects/{number}/iap_web/{web_type}/services/{backend['id']}",
        f"projects/{number}/iap_web/{web_type}",
        f"projects/{number}/iap_web",
        f"projects/{number}",
        f"{parent.get('type')}s/{parent.get('id')}",
    ):
        yield (cloud.store.peek("iap.settings", name) or {}).get("accessSettings", {})


def _service_account(cloud: Cloud, request: web.BaseRequest, header: Doc, claims: Doc, token: str) -> Principal:
    """A JWT signed by a service account, with its own key or with signJwt."""
    email = claims.get("iss", "")
    if not isinstance(email, str) or not email or claims.get("sub") != email:
        raise Refused("JWT 'iss' and 'sub' claims must be the service account's e-mail")
    account = service_account(cloud, email)
    for key in accounts.keys(cloud, account) if account else ():
        if header.get("kid") in (None, accounts.key_id(key)) and not key.get("disabled"):
            try:
                claims = jwt.decode(token, accounts.public_key(key), algorithms=["RS256"], options=_OPTIONS)
                break
            except jwt.ExpiredSignatureError:
                raise Refused("Expired JWT") from None
            except jwt.MissingRequiredClaimError as error:
                raise Refused(f"JWT '{error.claim}' claim is missing") from None
            except jwt.InvalidTokenError:
                continue
    else:
        raise Refused("JWT signature is invalid")
    issued, expires, audience = claims["iat"], claims["exp"], claims["aud"]
    if not isinstance(issued, int | float):
        raise Refused("JWT 'iat' claim isn't a number")
    if not isinstance(audience, str):
        raise Refused("JWT 'aud' claim isn't a string")
    if expires - issued > 3600:
        raise Refused("JWT lifetime is longer than one hour")
    if issued > time.time() + 600:
        raise Refused("JWT was issued in the future")
    url = f"https://{(request.host or '').split(':')[0]}{request.path}"
    if not _audience_covers(audience, url):
        raise Refused(
            f"JWT audience doesn't match this application ('aud' claim ({audience}) doesn't match expected value "
            f"({url}))"
        )
    return Principal(email)


def _audience_covers(audience: str, url: str) -> bool:
    """Whether the audience is this URL, or one that ends in /* and covers it."""
    if audience.endswith("/*"):
        return url.startswith(audience[:-1]) or url == audience[:-2]
    return audience == url


# -- identity headers for the backend ----------------------------------------


def _assertion_key(cloud: Cloud) -> Doc:
    doc = cloud.store.peek("sandbox", "iap-key")
    if doc is None:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        kid = base64.urlsafe_b64encode(hashlib.sha256(pem).digest()[:4]).decode().rstrip("=")
        cloud.store.put("sandbox", "iap-key", {"kid": kid, "pem": pem.decode()})
        doc = cloud.store.peek("sandbox", "iap-key")
        assert doc is not None
    return doc


def _subject(principal: Principal) -> str:
    return f"accounts.google.com:{subject_id(principal.email)}"


def _audience(number: str, backend: Doc) -> str:
    """The audience of the assertion for a backend service, or Cloud Run service."""
    if "_region" in backend:
        return f"/projects/{number}/locations/{backend['_region']}/services/{backend['name']}"
    return f"/projects/{number}/{_region(backend) or 'global'}/backendServices/{backend['id']}"


def _headers(cloud: Cloud, principal: Principal, number: str, backend: Doc, test: str = "") -> dict[str, str]:
    """test: the intended error of the assertion, for a service that tests its own checks (SIGNATURE, …)."""
    key = _assertion_key(cloud)
    when = int(time.time()) + {"FUTURE_ISSUE": 3600, "PAST_EXPIRATION": -3600}.get(test, 0)
    subject = _subject(principal)
    claims = {
        "iss": "https://cloud.google.com/iap",
        "sub": subject,
        "email": principal.email,
        "iat": when,
        "exp": when + 600,
        "aud": _audience(number, backend),
        "azp": f"/projects/{number}",
        "identity_source": "GOOGLE",
    }
    if not principal.email.endswith(".gserviceaccount.com"):
        claims["hd"] = principal.email.rsplit("@", 1)[-1]
    if test == "ISSUER":
        claims["iss"] = "https://example.com/not-iap"
    if test == "AUDIENCE":
        claims["aud"] = _audience(number, backend | {"id": "0", "name": "0"})
    assertion = jwt.encode(claims, key["pem"], algorithm="ES256", headers={"kid": key["kid"]})
    if test == "SIGNATURE":
        head, body, _ = assertion.split(".")
        assertion = f"{head}.{body}.{base64.urlsafe_b64encode(bytes(64)).decode().rstrip('=')}"
    return {
        "X-Goog-Authenticated-User-Email": f"accounts.google.com:{principal.email}",
        "X-Goog-Authenticated-User-Id": subject,
        "X-Goog-IAP-JWT-Assertion": assertion,
    }


async def public_keys(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """https://www.gstatic.com/iap/verify/public_key and public_key-jwk."""
    key = _assertion_key(cloud)
    private = serialization.load_pem_private_key(key["pem"].encode(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    public = private.public_key()
    if request.path == "/iap/verify/public_key-jwk":
        jwk = ECAlgorithm.to_jwk(public, as_dict=True)
        return web.json_response({"keys": [jwk | {"kid": key["kid"], "alg": "ES256", "use": "sig"}]})
    if request.path == "/iap/verify/public_key":
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        return web.Response(body=json.dumps({key["kid"]: pem}), content_type="application/json")
    return web.Response(status=404)
