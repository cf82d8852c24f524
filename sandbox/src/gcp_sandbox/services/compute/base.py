"""Shared by all Compute Engine resources: the service, links, and the errors in Google's wording.

https://cloud.google.com/compute/docs/reference/rest/v1
"""

from __future__ import annotations

import re
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.compute.dialect import COMPUTE

Doc = dict[str, Any]


def _denied(call: Call, permission: str, shown: str) -> ApiError:
    return ApiError(403, f"Required '{permission}' permission for '{shown}'", reason="forbidden")


SERVICE = Service(
    "compute",
    "v1",
    "beta",
    family="legacy",
    dialect=COMPUTE,
    denied=_denied,
    no_project=lambda name: ApiError(404, f"The resource 'projects/{name}' was not found", reason="notFound"),
)
BASE = "https://www.googleapis.com/compute/v1/"
PENDING = "compute.pending"  # resources whose insert operation is in progress, by key
NAME = re.compile(r"(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)")
_URL = re.compile(r"(?:https?://(?:www|compute|content)\.googleapis\.com/compute/[^/]+/)?(?:projects/([^/]+)/)?(.+)")
_PATH = re.compile(r"(?:global|(?:regions|zones)/[^/]+)/[A-Za-z]+/[^/]+")


def link(key: str) -> str:
    """The URL of a resource at Google, from its key ("projects/p/global/networks/n")."""
    return BASE + key


def key_of(url: str) -> str:
    """The key of a link of this sandbox."""
    return url.removeprefix(BASE)


def kind_of(key: str) -> str:
    """The store's kind of a key."""
    return f"compute.{key.rsplit('/', 2)[1]}"


def parse(cloud: Cloud, text: str, project: str) -> str | None:
    """The key for a full or partial URL (a project's number becomes its ID), or None if it is malformed."""
    found = _URL.fullmatch(text)
    if found is None or _PATH.fullmatch(found.group(2)) is None:
        return None
    named = found.group(1) or project
    known = projects.find(cloud, named)
    return f"projects/{known['projectId'] if known else named}/{found.group(2)}"


def find(cloud: Cloud, key: str) -> Doc | None:
    """The resource of a key, read-only."""
    return cloud.store.peek(kind_of(key), key)


def invalid(field: str, value: Any, why: str, *, reason: str = "invalid") -> ApiError:
    """400 for one field of the resource."""
    if isinstance(value, bool):
        value = str(value).lower()
    return ApiError(400, f"Invalid value for field 'resource.{field}': '{value}'. {why}", reason=reason)


def missing(field: str) -> ApiError:
    """400 for a missing required field."""
    return ApiError(400, f"Required field '{field}' not specified", reason="required")


def not_found(key: str) -> ApiError:
    """404 for a resource."""
    return ApiError(404, f"The resource '{key}' was not found", reason="notFound")


def not_ready(key: str) -> ApiError:
    """400 for a resource that an operation is still creating or deleting."""
    return ApiError(400, f"The resource '{key}' is not ready", reason="resourceNotReady")


def in_use(singular: str, key: str, user: str, number: str) -> ApiError:
    """400 for deleting a resource that another one refers to."""
    shown, by = key, user
    what = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", singular).lower()
    if singular == "healthCheck" and "/global/" in key:
        # Health checks are named differently from all other resources (recorded).
        shown = f"GLOBAL:global/PROJECT:{number}/HEALTH_CHECK:{key.rsplit('/', 1)[1]}"
        by = f"GLOBAL:global/PROJECT:{number}/BACKEND_SERVICE:{user.rsplit('/', 1)[1]}"
    text = f"The {what} resource '{shown}' is already being used by '{by}'"
    return ApiError(400, text, reason="resourceInUseByAnotherResource")
