"""Google's token endpoints: access and ID tokens for assertions and refresh tokens, token information and public keys.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import datetime
import json
import re
import time
from typing import Any
from urllib.parse import parse_qsl, unquote

import jwt
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from gcp_sandbox.core.auth import certified_key, own_key
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.iam import accounts
from gcp_sandbox.services.oauth2 import exchange

SERVICE = Service("oauth2", "v2", always_enabled=True)
SERVICE.raw("sts.googleapis.com", "/v1/token")(exchange.token)
LIFETIME = 3600
_AUDIENCES = {
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v3/token",
}
_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TIMES = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and "
    "exp values in the JWT claim."
)
_EMAIL_SCOPES = {"email", "https://www.googleapis.com/auth/userinfo.email"}


class _Refused(Exception):
    """An OAuth error: its code and description."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.status = error, status


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        text=json.dumps(body, indent=2) + "\n",
        content_type="application/json",
        headers={"Cache-Control": "no-cache, no-store, max-age=0, must-revalidate"},
    )


async def _form(request: web.BaseRequest) -> dict[str, str]:
    text = (await request.read()).decode(errors="replace")
    out = dict(request.rel_url.query)
    if request.content_type == "application/json" and text.strip():
        try:
            body = json.loads(text)
        except ValueError:
            raise _Refused("invalid_request", "Bad Request") from None
        return out | ({k: str(v) for k, v in body.items()} if isinstance(body, dict) else {})
    return out | dict(parse_qsl(text, keep_blank_values=True))


# -- tokens ------------------------------------------------------------------


@SERVICE.raw("oauth2.googleapis.com", "/token")
@SERVICE.raw("www.googleapis.com", "/oauth2/v4/token")
@SERVICE.raw("www.googleapis.com", "/oauth2/v3/token")
@SERVICE.raw("accounts.google.com", "/o/oauth2/token")
async def token(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """Grants jwt-bearer and refresh_token."""
    if request.path.startswith("/tokeninfo"):
        return await tokeninfo(cloud, request)
    if request.method != "POST":
        return web.Response(status=404)
    try:
        form = await _form(request)
        grant = form.get("grant_type", "")
        if grant == _BEARER:
            return _json(_assertion(cloud, form))
        if grant == "refresh_token":
            return _json(_refresh(cloud, form))
        if not grant:
            raise _Refused("invalid_request", "Required parameter is missing: grant_type")
        raise _Refused("unsupported_grant_type", f"Invalid grant_type: {grant}")
    except _Refused as refused:
        return _json({"error": refused.error, "error_description": str(refused)}, refused.status)


def _assertion(cloud: Cloud, form: dict[str, str]) -> dict[str, Any]:
    assertion = form.get("assertion", "")
    if not assertion:
        raise _Refused("invalid_request", "Missing parameter: assertion")
    try:
        header = jwt.get_unverified_header(assertion)
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise _Refused("invalid_grant", "Invalid JWT: Failed to decode JWT.") from None
    email = claims.get("iss")
    if not isinstance(email, str) or "@" not in email:
        raise _Refused("invalid_grant", "Invalid grant: account not found" if email else "Invalid JWT: iss is missing.")
    account = accounts.by_email(cloud, email)
    if account is None or account.get("disabled"):
        raise _Refused("invalid_grant", "Invalid grant: account not found")
    mine = [k for k in accounts.keys(cloud, account) if k["validBeforeTime"] > now()]
    if header.get("kid"):
        mine = [k for k in mine if accounts.key_id(k) == header["kid"]]
    key = next((k for k in mine if _signed(assertion, k["_cert"])), None)
    if key is None:
        raise _Refused("invalid_grant", "Invalid JWT Signature.")
    if key.get("disabled"):
        raise _Refused("disabled_client", "The OAuth client was disabled.", 401)
    issued, expires, when = claims.get("iat"), claims.get("exp"), time.time()
    if (
        not isinstance(issued, int | float)
        or not isinstance(expires, int | float)
        or not (when - 3600 - 300 <= issued <= when + 300 and when < expires <= issued + 3600)
    ):
        raise _Refused("invalid_grant", _TIMES)
    audiences = claims.get("aud")
    if not _AUDIENCES.intersection([audiences] if isinstance(audiences, str) else audiences or []):
        raise _Refused("invalid_grant", "Invalid JWT: Failed audience check.")
    if claims.get("sub", email) != email:
        raise _Refused(
            "unauthorized_client",
            "Client is unauthorized to retrieve access tokens using this method, or "
            "client not authorized for any of the scopes requested.",
            401,
        )
    if claims.get("target_audience"):
        return {"id_token": cloud.tokens.id_token(email, claims["target_audience"])}
    scopes = str(claims.get("scope") or "").split()
    if not scopes or not all(_known_scope(s) for s in scopes):
        raise _Refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    return {
        "access_token": cloud.tokens.access_token(email, " ".join(scopes), LIFETIME),
        "expires_in": LIFETIME - 1,
        "token_type": "Bearer",
    }


def _signed(assertion: str, certificate: str) -> bool:
    try:
        jwt.decode(
            assertion,
            certified_key(certificate),
            algorithms=["RS256"],
            options={"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.InvalidTokenError:
        return False
    return True


def _known_scope(scope: str) -> bool:
    return scope in ("openid", "email", "profile") or scope.startswith(
        ("https://www.googleapis.com/", "https://mail.google.com/")
    )


def _refresh(cloud: Cloud, form: dict[str, str]) -> dict[str, Any]:
    for name in ("refresh_token", "client_id"):
        if not form.get(name):
            raise _Refused("invalid_request", f"Missing required parameter: {name}")
    content = cloud.tokens.check_refresh(form["refresh_token"])
    if content is None:
        raise _Refused("invalid_grant", "Token has been expired or revoked.")
    scopes = content["s"]
    out = {
        "access_token": cloud.tokens.access_token(content["e"], scopes, LIFETIME),
        "expires_in": LIFETIME - 1,
        "scope": scopes,
        "token_type": "Bearer",
    }
    if "openid" in scopes.split():
        out["id_token"] = cloud.tokens.id_token(content["e"], form["client_id"])
    return out


@SERVICE.raw("oauth2.googleapis.com", "/revoke")
@SERVICE.raw("accounts.google.com", "/o/oauth2/revoke")
async def revoke(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """Revoke a refresh token or an access token."""
    form = await _form(request)
    given = form.get("token", "")
    if cloud.tokens.check(given) is None and cloud.tokens.check_refresh(given) is None:
        return _json({"error": "invalid_token", "error_description": "Token expired or revoked"}, 400)
    cloud.store.put("oauth2.revoked", given, {"time": int(time.time())})
    return _json({})


# -- token information -------------------------------------------------------


@SERVICE.raw("www.googleapis.com", "/oauth2/v3/tokeninfo")
@SERVICE.raw("www.googleapis.com", "/oauth2/v1/tokeninfo")
@SERVICE.raw("oauth2.googleapis.com", "/tokeninfo")
async def tokeninfo(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """The account of an access token, or the claims of an ID token."""
    form = await _form(request)
    if "id_token" in form:
        claims = cloud.tokens.check_id_token(form["id_token"])
        if claims is not None:
            shown = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in claims.items()}
            return _json(shown | {"alg": "RS256", "kid": cloud.tokens.kid, "typ": "JWT"})
    content = cloud.tokens.check(form.get("access_token", ""))
    if content is None or not cloud.account_active(content["e"]):
        return _json({"error": "invalid_token", "error_description": "Invalid Value"}, 400)
    subject = cloud.tokens.subject(content["e"])
    out = {
        "azp": subject,
        "aud": subject,
        "scope": content["s"],
        "exp": str(content["x"]),
        "expires_in": str(int(content["x"] - time.time())),
        "access_type": "online",
    }
    if _tells_email(content["e"], content["s"]):
        out |= {"email": content["e"], "email_verified": "true"}
    return _json(out | ({"sub": subject} if "openid" in content["s"].split() else {}))


def _tells_email(email: str, scopes: str) -> bool:
    if email.startswith("principal://"):
        return False  # a federated identity has none
    return (
        not _EMAIL_SCOPES.isdisjoint(scopes.split())
        or "https://www.googleapis.com/auth/cloud-platform" in scopes.split()
    )


def _about(cloud: Cloud, email: str, scopes: str) -> dict[str, Any]:
    out: dict[str, Any] = {
        "sub": cloud.tokens.subject(email),
        "picture": "https://lh3.googleusercontent.com/a/default-user",
    }
    if _tells_email(email, scopes):
        out |= {"email": email, "email_verified": True}
        if not email.endswith(".gserviceaccount.com"):
            out["hd"] = email.rpartition("@")[2]
    return out


@SERVICE.raw("openidconnect.googleapis.com", "/v1/userinfo")
@SERVICE.raw("www.googleapis.com", "/oauth2/v3/userinfo")
async def userinfo(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """The account of the request's access token."""
    header = request.headers.get("Authorization", "").partition(" ")[2] or request.rel_url.query.get("access_token", "")
    content = cloud.tokens.check(header)
    if content is None or not cloud.account_active(content["e"]):
        return _json({"error": "invalid_request", "error_description": "Invalid Credentials"}, 401)
    return _json(_about(cloud, content["e"], content["s"]))


@SERVICE.method("oauth2.userinfo.get", "oauth2.userinfo.v2.me.get")
def userinfo_v2(call: Call) -> dict[str, Any]:
    about = _about(call.cloud, call.principal.email, call.principal.scopes)
    return {{"sub": "id", "email_verified": "verified_email"}.get(k, k): v for k, v in about.items()}


# -- public keys -------------------------------------------------------------


@SERVICE.raw("www.googleapis.com", "/oauth2/v3/certs")
async def jwks(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """Google's keys as a JWK set."""
    return _public(cloud.tokens.jwks())


@SERVICE.raw("www.googleapis.com", "/oauth2/v1/certs")
async def certs(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """Google's keys as certificates by key ID."""
    return _public({cloud.tokens.kid: _certificate(cloud)})


def _certificate(cloud: Cloud) -> str:
    known = cloud.store.peek("sandbox", "google-certificate")
    if known is None:
        key = own_key(cloud.tokens.private_key)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.system.gserviceaccount.com")])
        when = datetime.datetime.now(datetime.UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(when - datetime.timedelta(hours=1))
            .not_valid_after(when + datetime.timedelta(days=3650))
            .sign(key, hashes.SHA256())
        )
        pem = built.public_bytes(serialization.Encoding.PEM).decode()
        known = cloud.store.put("sandbox", "google-certificate", {"pem": pem})
    return known["pem"]


def _public(body: dict[str, Any]) -> web.Response:
    return web.Response(
        text=json.dumps(body, indent=2) + "\n",
        content_type="application/json",
        headers={"Cache-Control": "public, max-age=19800, must-revalidate, no-transform"},
    )


@SERVICE.raw("www.googleapis.com", "/service_accounts/v1/")
@SERVICE.raw("www.googleapis.com", "/robot/v1/metadata/")
async def account_keys(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """Public keys of a service account: …/x509/E, …/jwk/E, …/raw/E."""
    found = re.fullmatch(
        r"/(?:service_accounts/v1|robot/v1)/(?:metadata/)?(x509|jwk|raw)/([^/]+)",
        unquote(request.raw_path.split("?", 1)[0]),
    )
    account = accounts.by_email(cloud, found.group(2)) if found else None
    if found is None or account is None:
        return _json({"error": {"code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND"}}, 404)
    accounts.system_key(cloud, account)
    if found.group(1) == "jwk":
        return _public(accounts.jwks(cloud, account))
    if found.group(1) == "raw":
        return _public({accounts.key_id(k): accounts.public_key(k) for k in accounts.keys(cloud, account)})
    return _public(accounts.certificates(cloud, account))


@SERVICE.raw("accounts.google.com", "/.well-known/openid-configuration")
async def configuration(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """Google's OpenID Connect discovery document."""
    return _public(
        {
            "issuer": "https://accounts.google.com",
            "authorization_endpoint": "https://accounts.google.com/o/oauth2/v2/auth",
            "token_endpoint": "https://oauth2.googleapis.com/token",
            "revocation_endpoint": "https://oauth2.googleapis.com/revoke",
            "userinfo_endpoint": "https://openidconnect.googleapis.com/v1/userinfo",
            "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
            "response_types_supported": ["code", "id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "email", "profile"],
        }
    )
