"""Service Account Credentials: tokens and signatures of a service account, for callers who may act as it.

https://cloud.google.com/iam/docs/reference/credentials/rest
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.iam import accounts, service_account

Doc = dict[str, Any]
LIFETIME, DAYS_JWT = 3600, 12 * 3600
_EVERYWHERE = "0x0"


def _project_of(call: Call) -> str | None:
    doc = accounts.find(call.cloud, call.params["name"])
    return doc["projectId"] if doc else None


SERVICE = Service("iamcredentials", "v1", client_based=True, denied=accounts.denied)
SERVICE.project_of = _project_of
_M = "iamcredentials.projects.serviceAccounts."


def _may(cloud: Cloud, principal: Principal, permission: str, doc: Doc) -> bool:
    return cloud.iam.allows(
        principal, permission, project_resource(doc["projectId"]), "//iam.googleapis.com/" + doc["name"]
    )


def _account(call: Call, permission: str) -> Doc:
    """The account of a call, when the caller, or the last of its delegates, has the permission on it."""
    caller = call.principal
    for name in call.body.get("delegates", ()):
        found = re.fullmatch(r"projects/-/serviceAccounts/[^/]+", name)
        doc = accounts.find(call.cloud, name) if found else None
        if not found:
            raise ApiError(400, f"Invalid form of delegate: {name}. It must be projects/-/serviceAccounts/ACCOUNT.")
        if (
            doc is None
            or doc.get("disabled")
            or not _may(call.cloud, caller, "iam.serviceAccounts.implicitDelegation", doc)
        ):
            raise call.denied("iam.serviceAccounts.implicitDelegation", name)
        caller = Principal(doc["email"])
    target = accounts.find(call.cloud, call.params["name"])
    if target is None:
        if call.params["name"].startswith("projects/-/"):
            raise ApiError(404, "Not found; Gaia id not found for email " + call.params["name"].rpartition("/")[2])
        raise call.denied(permission, call.params["name"])
    if not _may(call.cloud, caller, permission, target):
        raise call.denied(permission, call.params["name"])
    if service_account(call.cloud, target["email"]) is None:
        raise ApiError(400, "Service account is disabled.", status="FAILED_PRECONDITION")
    return target


def _lifetime(text: str) -> int:
    found = re.fullmatch(r"(\d+)(?:\.\d+)?s", text or f"{LIFETIME}s")
    seconds = int(found.group(1)) if found else 0
    if not found or not 0 < seconds <= LIFETIME:
        raise ApiError(400, f"The lifetime must be more than 0 seconds and at most {LIFETIME}s.")
    return seconds


@SERVICE.method(_M + "generateAccessToken")
def access_token(call: Call) -> Doc:
    account = _account(call, "iam.serviceAccounts.getAccessToken")
    scopes = call.body.get("scope", [])
    if not scopes:
        raise ApiError(400, "The scope must be provided.")
    seconds = _lifetime(call.body.get("lifetime", ""))
    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    token = call.cloud.tokens.access_token(account["email"], " ".join(scopes), seconds)
    return {"accessToken": token, "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}


@SERVICE.method(_M + "generateIdToken")
def id_token(call: Call) -> Doc:
    account = _account(call, "iam.serviceAccounts.getOpenIdToken")
    if not call.body.get("audience"):
        raise ApiError(400, "The audience must be provided.")
    mail = call.body.get("includeEmail", False)
    return {"token": call.cloud.tokens.id_token(account["email"], call.body["audience"], include_email=mail)}


@SERVICE.method(_M + "signJwt")
def sign_jwt(call: Call) -> Doc:
    account = _account(call, "iam.serviceAccounts.signJwt")
    try:
        claims = json.loads(call.body.get("payload", ""))
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise ApiError(400, "The payload must be a JSON object that is a JWT claims set.")
    if "exp" in claims and (not isinstance(claims["exp"], int) or claims["exp"] > time.time() + DAYS_JWT):
        raise ApiError(400, "The expiration time of the JWT must be an integer within 12 hours from now.")
    key, signed = accounts.sign_jwt(call.cloud, account, json.dumps(claims))
    return {"keyId": key, "signedJwt": signed}


@SERVICE.method(_M + "signBlob")
def sign_blob(call: Call) -> Doc:
    account = _account(call, "iam.serviceAccounts.signBlob")
    try:
        data = base64.b64decode(call.body.get("payload", ""), validate=True)
    except binascii.Error:
        raise ApiError(400, "Invalid value at 'payload' (TYPE_BYTES), Base64 decoding failed.") from None
    key, signature = accounts.sign_blob(call.cloud, account, data)
    return {"keyId": key, "signedBlob": signature}


@SERVICE.method(_M + "getAllowedLocations")
def account_locations(call: Call) -> Doc:
    """Where an account's credentials may be used; google-auth asks it.  Accounts here have no such boundary: 0x0."""
    if accounts.find(call.cloud, call.params["name"]) is None:
        raise ApiError(404, "Not found; Gaia id not found for email " + call.params["name"].rpartition("/")[2])
    return {"encodedLocations": _EVERYWHERE}


@SERVICE.method("iamcredentials.projects.locations.workloadIdentityPools.getAllowedLocations")
def pool_locations(call: Call) -> Doc:
    """Where a workload identity pool's credentials may be used: everywhere."""
    return {"encodedLocations": _EVERYWHERE}
