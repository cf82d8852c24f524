"""Shared by all of Cloud Storage: errors, permissions, preconditions.

https://cloud.google.com/storage/docs/json_api/v1/status-codes
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
BUCKETS = "storage.buckets"


def _project_of(call: Call) -> str | None:
    """The project of a call: that of its bucket, or the one in its parameters.  Raises ApiError 501."""
    refuse_keys(call.request)
    bucket = call.params.get("bucket") or call.params.get("destinationBucket") or call.params.get("sourceBucket")
    if bucket:
        doc = call.cloud.store.peek(BUCKETS, bucket)
        return doc["_project"] if doc else None
    name = call.params.get("project") or call.params.get("projectId", "")
    return name if projects.find(call.cloud, name) else None


def _denied(call: Call, permission: str, shown: str) -> ApiError:
    return denied(call.principal, permission)


SERVICE = Service(
    "storage",
    "v1",
    family="legacy",
    lenient=True,
    anonymous=True,
    resource_type="storage.googleapis.com/Bucket",
    denied=_denied,
    trailing_slash=True,
)
SERVICE.project_of = _project_of


def full_name(bucket: str) -> str:
    """Full resource name of a bucket, under which its policy is stored."""
    return f"//storage.googleapis.com/buckets/{bucket}"


# -- errors ----------------------------------------------------------------


def invalid(text: str) -> ApiError:
    """400."""
    return ApiError(400, text, reason="invalid")


def required(text: str) -> ApiError:
    """400 for a missing value."""
    return ApiError(400, text, reason="required")


def no_bucket() -> ApiError:
    """404 for a bucket."""
    return ApiError(404, "The specified bucket does not exist.", reason="notFound")


def no_object(bucket: str, name: str, generation: str = "") -> ApiError:
    """404 for an object."""
    suffix = f"#{generation}" if generation else ""
    return ApiError(404, f"No such object: {bucket}/{name}{suffix}", reason="notFound")


def no_key() -> ApiError:
    """404 for a child of a bucket or object: an entry of its list."""
    return ApiError(404, "The specified key does not exist.", reason="notFound")


def unplayed(what: str) -> ApiError:
    """501 for a feature of Cloud Storage that is not implemented here."""
    return ApiError(501, f"gcp-sandbox does not implement {what}.", reason="notImplemented")


def refuse_keys(request: web.BaseRequest) -> None:
    """Reject a customer-supplied encryption key, because the sandbox does not encrypt.  Raises ApiError 501."""
    if any(f"X-Goog-{prefix}Encryption-Algorithm" in request.headers for prefix in ("", "Copy-Source-")):
        raise unplayed("customer-supplied encryption keys")


def conflict(text: str) -> ApiError:
    """409."""
    return ApiError(409, text, reason="conflict")


def unmet() -> ApiError:
    """412 for a precondition."""
    text = "At least one of the pre-conditions you specified did not hold."
    return ApiError(412, text, reason="conditionNotMet", location="If-Match", location_type="header")


class NotModified(Exception):
    """304: the client already has the requested version."""


# -- denials --------------------------------------------------------------


def denied(principal: Principal, permission: str) -> ApiError:
    """The 401 (anonymous) or 403 of a caller without a permission."""
    who = principal.email or "Anonymous caller"
    kind = {"objects": "object", "buckets": "bucket"}.get(permission.split(".")[1], "bucket")
    if permission == "storage.objects.list":
        kind = "bucket"
    text = (
        f"{who} does not have {permission} access to the Google Cloud Storage {kind}. Permission '{permission}' denied "
        "on resource (or it may not exist)."
    )
    if principal.email:
        return ApiError(403, text, reason="forbidden")
    return ApiError(
        401,
        text,
        reason="required",
        location="Authorization",
        location_type="header",
        headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'},
    )


def bucket_of(cloud: Cloud, name: str) -> Doc:
    """A bucket's record, read-only.  Raises ApiError 404."""
    doc = cloud.store.peek(BUCKETS, name)
    if doc is None:
        raise no_bucket()
    return doc


# -- preconditions ---------------------------------------------------------


def guard(params: Doc, generation: str | None, metageneration: str | None, prefix: str = "if") -> None:
    """Apply the preconditions of a change.  Raises ApiError 412."""
    try:
        check_generation(params, generation, metageneration, prefix)
    except NotModified:
        raise unmet() from None


def check_generation(params: Doc, generation: str | None, metageneration: str | None, prefix: str = "if") -> None:
    """Apply if*GenerationMatch and if*MetagenerationMatch to the current object or bucket (None: there is none).

    prefix: "if", "ifSource".  Raises ApiError 412, and NotModified if a NotMatch precondition fails.
    """
    for word, value in (("Generation", generation or "0"), ("Metageneration", metageneration)):
        for kind in ("Match", "NotMatch"):
            given = params.get(f"{prefix}{word}{kind}")
            if given is not None and not re.fullmatch(r"-?\d+", str(given)):
                raise ApiError(
                    400,
                    f"Invalid long value: '{given}'.",
                    reason="invalidParameter",
                    location=f"{prefix}{word}{kind}",
                    location_type="parameter",
                )
        wanted = params.get(f"{prefix}{word}Match")
        if wanted is not None and str(wanted) != value:
            raise unmet()
        unwanted = params.get(f"{prefix}{word}NotMatch")
        if unwanted is not None and str(unwanted) == value:
            raise NotModified
