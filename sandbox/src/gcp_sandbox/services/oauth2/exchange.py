"""Security Token Service: exchanges a provider's token for an access token of the federated identity.

https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

import jwt
from aiohttp import web

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.iam import SETS
from gcp_sandbox.services.iam import federation

LIFETIME = 3600
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_TYPE = "urn:ietf:params:oauth:token-type:"
_AUDIENCE = re.compile(
    r"//iam\.googleapis\.com/(projects/\d+/locations/global/workloadIdentityPools/[^/]+/providers/[^/]+)"
)


class _Refused(Exception):
    """An OAuth error: its code and description."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error


async def token(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """Exchange a token according to RFC 8693; the request is a form or JSON."""
    if request.method != "POST":
        return web.Response(status=404)
    text = (await request.read()).decode(errors="replace")
    try:
        form: dict[str, Any] = dict(parse_qsl(text))
        if request.content_type == "application/json":
            form = {re.sub(r"[A-Z]", lambda m: "_" + m.group().lower(), k): v for k, v in json.loads(text).items()}
        return web.json_response(_exchange(cloud, form))
    except (ValueError, AttributeError):
        refused = _Refused("invalid_request", "The request is malformed.")
    except _Refused as error:
        refused = error
    return web.json_response({"error": refused.error, "error_description": str(refused)}, status=400)


def _exchange(cloud: Cloud, form: dict[str, Any]) -> dict[str, Any]:
    if form.get("grant_type") != _EXCHANGE:
        raise _Refused("unsupported_grant_type", "Invalid grant_type.")
    if form.get("requested_token_type") != f"{_TYPE}access_token":
        raise _Refused("invalid_request", "Invalid requested_token_type.")
    if form.get("subject_token_type") not in (f"{_TYPE}jwt", f"{_TYPE}id_token"):
        raise _Refused("invalid_request", "Invalid subject_token_type.")
    if not form.get("scope"):
        raise _Refused("invalid_scope", "The scope is missing.")
    found = _AUDIENCE.fullmatch(form.get("audience", ""))
    provider = federation.enabled(cloud, found.group(1)) if found else None
    if provider is None:
        raise _Refused(
            "invalid_target",
            'The target service indicated by the "audience" parameters is invalid. This might '
            "either be because the pool or provider is disabled or deleted or because it doesn't exist.",
        )
    try:
        claims = federation.claims_of(provider, form.get("subject_token", ""))
        if not federation.admits(claims, provider):
            text = "The given credential is rejected by the attribute condition."
            raise _Refused("unauthorized_client", text)
        principal, sets = federation.identity(claims, provider)
    except jwt.InvalidTokenError as error:
        raise _Refused("invalid_grant", f"The given credential is rejected: {error}") from None
    except KeyError as error:
        raise _Refused(
            "invalid_grant", f"The attribute mapping refers to the claim {error}, which the token lacks."
        ) from None
    cloud.store.put(SETS, principal, {"sets": sets})
    return {
        "access_token": cloud.tokens.access_token(principal, form["scope"], LIFETIME),
        "issued_token_type": f"{_TYPE}access_token",
        "token_type": "Bearer",
        "expires_in": LIFETIME,
    }
