"""Cloud Logging, read-only: the output of Cloud Run containers, and the requests that load balancers log.

https://cloud.google.com/logging/docs/reference/v2/rest
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from typing import Any

from gcp_sandbox.core import paging, projects
from gcp_sandbox.core.errors import ApiError, error_info
from gcp_sandbox.core.iam import ORGANIZATION, project_resource
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.logging import filters, sources
from gcp_sandbox.services.logging.reading import Key, Reader

Doc = dict[str, Any]
_PAGE, _MOST = 50, 1000
# Maximum number of lines read for one response. Google also returns what it found within its time, and a token to continue.
_LINES = 20000
_TURN = 50
_NAME = re.compile(
    r"(projects|organizations|folders|billingAccounts)/([^/]+)"
    r"(?:/locations/([^/]+)/buckets/([^/]+)/views/([^/]+))?"
)


def _project(call: Call) -> str | None:
    """The project whose API must be enabled: the first one in the request."""
    names = (
        _asked(call) if "resourceNames" in call.body or "projectIds" in call.body else [call.params.get("parent", "")]
    )
    found = (re.match(r"projects/([^/]+)", name) for name in names)
    return next((match[1] for match in found if match), None)


SERVICE = Service("logging", "v2")
SERVICE.project_of = _project


def _asked(call: Call) -> list[str]:
    names = [*call.body.get("resourceNames", ()), *(f"projects/{ident}" for ident in call.body.get("projectIds", ()))]
    return list(dict.fromkeys(names))


def _allowed(call: Call, kind: str, ident: str, permission: str) -> str | None:
    """The ID of a project (or "" for another parent) if the caller may read its logs, else None."""
    if kind == "projects":
        project = projects.find(call.cloud, ident)
        if project is None or not call.cloud.iam.allows(
            call.principal, permission, project_resource(project["projectId"])
        ):
            return None
        return project["projectId"]
    return "" if call.cloud.iam.allows(call.principal, permission, ORGANIZATION) else None


def _projects(call: Call, names: list[str]) -> list[str]:
    """The projects of the request; a folder's or an organization's own logs are empty.  Raises ApiError."""
    if not names:
        raise ApiError(400, "At least one resource name must be specified in resource_names.")
    if len(names) > 100:
        raise ApiError(400, "At most 100 resource names may be specified in resource_names.")
    out, refused = [], 0
    for name in names:
        found = _NAME.fullmatch(name)
        if found is None:
            raise ApiError(
                400, f"Name '{name}' is not a valid resource name: it must be of the form projects/[PROJECT_ID]."
            )
        kind, ident, location, bucket, view = found.groups()
        project = _allowed(call, kind, ident, "logging.logEntries.list")
        if project is None:
            refused += 1
            continue
        if bucket and ((bucket not in ("_Default", "_Required")) or location != "global"):
            raise ApiError(404, f"Bucket `{bucket}` does not exist in location `{location}`.")
        if view and view not in ("_Default", "_AllLogs"):
            raise ApiError(404, f"View `{view}` does not exist in bucket `{bucket}`.")
        if project and bucket != "_Required":
            out.append(project)
    if refused == len(names):
        info = error_info(
            "IAM_PERMISSION_DENIED", "logging.googleapis.com", permission="logging.logEntries.list", resource=names[0]
        )
        raise ApiError(403, "Permission denied for all log views", details=[info])
    return list(dict.fromkeys(out))


@SERVICE.method("logging.entries.list")
async def list_entries(call: Call) -> Doc:
    """https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list"""
    names = _asked(call)
    tree = filters.parse(call.body.get("filter", ""))
    newest = _newest_first(call.body.get("orderBy", ""))
    size = call.body.get("pageSize", 0)
    if size < 0:
        raise ApiError(400, "page_size must be non-negative.")
    chosen = sources.chosen(call.cloud.folder / "logs", _projects(call, names), tree)
    request = hashlib.sha256(json.dumps([names, call.body.get("filter", ""), newest]).encode()).hexdigest()[:16]
    bound, past = _position(call.body.get("pageToken", ""), request)
    since, until = sources.earliest(tree), ""
    if newest:
        until = bound
    else:
        since = max(since, bound)
    reader = Reader(chosen, tree.match, newest_first=newest, since=since, until=until, past=past)
    found: list[Doc] = []
    for item in reader:
        if item is not None:
            found.append(item.entry)
            past = item.key
            if len(found) == min(size or _PAGE, _MOST):
                break
        elif reader.read >= _LINES:
            break
        elif reader.read % _TURN == 0:
            await asyncio.sleep(0)
    out: Doc = {"entries": found} if found else {}
    if not reader.done:
        out["nextPageToken"] = _token(request, reader.resume, past)
    return out


def _newest_first(order: str) -> bool:
    words = order.split()
    if words and (words[0] != "timestamp" or words[1:] not in ([], ["asc"], ["desc"])):
        raise ApiError(400, f'Invalid value for order_by: \'{order}\'. It must be "timestamp asc" or "timestamp desc".')
    return words[1:] == ["desc"]


def _token(request: str, bound: str, past: Key | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([request, bound, past]).encode()).decode()


def _position(token: str, request: str) -> tuple[str, Key | None]:
    """The start of a page.  Raises ApiError 400 for an invalid token, or one of a different request."""
    if not token:
        return "", None
    try:
        made_for, bound, past = json.loads(base64.urlsafe_b64decode(token))
        key = (str(past[0]), str(past[1]), int(past[2])) if past else None
    except (ValueError, TypeError, IndexError):
        raise ApiError(400, "page_token is invalid") from None
    if made_for != request:
        raise ApiError(400, "page_token doesn't match arguments from the request")
    return str(bound), key


@SERVICE.method(
    *(f"logging.{parent}logs.list" for parent in ("", "projects.", "folders.", "organizations.", "billingAccounts."))
)
def list_logs(call: Call) -> Doc:
    """https://cloud.google.com/logging/docs/reference/v2/rest/v2/projects.logs/list"""
    found = _NAME.fullmatch(call.params["parent"])
    kind, ident = (found[1], found[2]) if found else ("", "")
    project = _allowed(call, kind, ident, "logging.logs.list")
    if project is None:
        raise call.denied("logging.logs.list", call.params["parent"])
    ids = sorted(sources.logs(call.cloud.folder / "logs", project)) if project else []
    out = paging.page(call, "logNames", [{"name": f"projects/{project}/logs/{ident}"} for ident in ids], default=50)
    return out | ({"logNames": [each["name"] for each in out["logNames"]]} if "logNames" in out else {})
