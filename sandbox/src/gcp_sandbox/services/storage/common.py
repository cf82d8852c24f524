"""What all of Cloud Storage shares: errors, permissions, preconditions.

https://cloud.google.com/storage/docs/json_api/v1/status-codes
"""

from __future__ import annotations

import re
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
BUCKETS = "storage.buckets"


def _project_of(call: Call) -> str | None:
    """The project of a call: that of its bucket, or the one named."""
    bucket = call.params.get("bucket") or call.params.get("destinationBucket") or call.params.get("sourceBucket")
    if bucket:
        doc = call.app.store.peek(BUCKETS, bucket)
        if doc:
            who_pays(call.app, call.principal, doc, call.params.get("userProject"))
        return doc["_project"] if doc else None
    name = call.params.get("project") or call.params.get("projectId", "")
    return name if projects.find(call.app, name) else None


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
)
SERVICE.project_of = _project_of


def who_pays(app: Cloud, principal: Principal, bucket: Doc, payer: str | None) -> None:
    """Refuse a request to a bucket whose requesters pay, unless it names who does or its own project may be billed.

    https://cloud.google.com/storage/docs/requester-pays#requirements
    """
    if not bucket.get("billing", {}).get("requesterPays"):
        return
    if payer is None:
        own = project_resource(bucket["_project"])
        if not app.iam.allows(principal, "resourcemanager.projects.createBillingAssignment", own):
            text = "Bucket is a requester pays bucket but no user project provided."
            raise ApiError(400, text, reason="required")
        return
    project = projects.find(app, payer)
    allowed = project and app.iam.allows(principal, "serviceusage.services.use", project_resource(project["projectId"]))
    if not allowed:
        text = f"{principal.email or 'Anonymous caller'} does not have serviceusage.services.use access."
        raise ApiError(403, text, reason="forbidden")


def full_name(bucket: str) -> str:
    """Full resource name of a bucket, by which its policy is kept."""
    return f"//storage.googleapis.com/buckets/{bucket}"


# -- errors ----------------------------------------------------------------


def invalid(text: str) -> ApiError:
    """400."""
    return ApiError(400, text, reason="invalid")


def required(text: str) -> ApiError:
    """400 for something left out."""
    return ApiError(400, text, reason="required")


def no_bucket() -> ApiError:
    """404 for a bucket."""
    return ApiError(404, "The specified bucket does not exist.", reason="notFound")


def no_object(bucket: str, name: str, generation: str = "") -> ApiError:
    """404 for an object."""
    suffix = f"#{generation}" if generation else ""
    return ApiError(404, f"No such object: {bucket}/{name}{suffix}", reason="notFound")


def no_key() -> ApiError:
    """404 for what belongs to a bucket or object: an entry of its list, a notification, an HMAC key."""
    return ApiError(404, "The specified key does not exist.", reason="notFound")


def conflict(text: str) -> ApiError:
    """409."""
    return ApiError(409, text, reason="conflict")


def unmet() -> ApiError:
    """412 for a precondition."""
    text = "At least one of the pre-conditions you specified did not hold."
    return ApiError(412, text, reason="conditionNotMet", location="If-Match", location_type="header")


class NotModified(Exception):
    """304: the client has what it asks for."""


# -- permissions -----------------------------------------------------------


def allows(
    app: Cloud,
    principal: Principal,
    permission: str,
    bucket: Doc,
    acl: list[Doc] | None = None,
    name: str = "",
    below: str = "",
) -> bool:
    """Whether a caller has a permission on a bucket, or on an object of this name (for conditions and managed folders).

    acl: the object's, in a bucket without uniform access.  below: prefix of the names that are asked for, whose managed
    folders may allow it too.
    """
    from gcp_sandbox.services.storage import access, folders

    context = {}
    if name:
        context = {
            "resource.type": "storage.googleapis.com/Object",
            "resource.name": f"projects/_/buckets/{bucket['name']}/objects/{name}",
        }
    above = folders.managed_above(app, bucket, name or below)
    resources = (project_resource(bucket["_project"]), full_name(bucket["name"]), *above)
    if app.iam.allows(principal, permission, *resources, context=context, public=not access.prevented(bucket)):
        return True
    return acl is not None and access.acl_allows(app, principal, permission, bucket, acl)


def require(
    app: Cloud,
    principal: Principal,
    permission: str,
    bucket: Doc,
    acl: list[Doc] | None = None,
    name: str = "",
    below: str = "",
) -> None:
    """Raise the 401 or 403 unless allowed."""
    if not allows(app, principal, permission, bucket, acl, name, below):
        raise denied(principal, permission)


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


def bucket_of(app: Cloud, name: str) -> Doc:
    """A bucket's record, for reading only.  Raises ApiError 404."""
    doc = app.store.peek(BUCKETS, name)
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
    """Apply if*GenerationMatch and if*MetagenerationMatch to an object or bucket as it is (None: there is none).

    prefix: "if", "ifSource".  Raises ApiError 412, and NotModified where a NotMatch precondition does not hold.
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
