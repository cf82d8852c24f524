"""Shared by all handlers of Cloud SQL."""

from __future__ import annotations

from typing import Any

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.sqladmin import refusals
from gcp_sandbox.services.sqladmin.dialect import SQL
from gcp_sandbox.services.sqladmin.plane.servers import KIND


def _denied(call: Call, permission: str, shown: str) -> ApiError:
    return ApiError(403, "The client is not authorized to make this request.", reason="notAuthorized")


SERVICE = Service(
    "sqladmin",
    "v1",
    "v1beta4",
    short_name="sql",
    family="legacy",
    dialect=SQL,
    lenient_query=True,
    resource_type="sqladmin.googleapis.com/Instance",
    denied=_denied,
)
Doc = dict[str, Any]


def instance_key(call: Call) -> str:
    """Store key of a call's instance."""
    return f"projects/{call.project_id}/instances/{call.params['instance']}"


def instance(call: Call) -> Doc:
    """A copy of the instance's record.  Raises ApiError 404."""
    doc = call.cloud.store.get(KIND, instance_key(call))
    if doc is None:
        raise refusals.missing()
    return doc


def idle(call: Call) -> Doc:
    """A copy of the record, for a change.  Raises ApiError 404, and 409 while an operation is in progress."""
    doc = instance(call)
    check_idle(call, doc)
    return doc


def check_idle(call: Call, doc: Doc) -> None:
    """Check that no operation of an instance is in progress.  Raises ApiError 409."""
    working = call.cloud.operations.unfinished(service=SERVICE.name, project=call.project_id, target=doc["name"])
    if working or doc["state"] == "PENDING_CREATE":
        raise refusals.busy()


def runnable(call: Call) -> Doc:
    """A copy of the record, for a change in the database.  Raises ApiError 400 if the server is stopped."""
    doc = idle(call)
    if doc["settings"]["activationPolicy"] == "NEVER" or doc["state"] != "RUNNABLE":
        raise refusals.invalid("Invalid request since instance is not running.")
    return doc


def shown(call: Call, doc: Any) -> Any:
    """A record as returned by the API: without private fields, with links of the requested version."""
    if isinstance(doc, dict):
        return {k: shown(call, v) for k, v in doc.items() if not k.startswith("_")}
    if isinstance(doc, list):
        return [shown(call, v) for v in doc]
    if isinstance(doc, str) and call.method.api.version == "v1":
        return doc.replace("https://sqladmin.googleapis.com/sql/v1beta4/", "https://sqladmin.googleapis.com/v1/")
    return doc


def answer(call: Call, operation: Operation) -> Doc:
    """An operation as returned by the API."""
    return shown(call, call.cloud.operations.render(operation, SERVICE.host))


def start(call: Call, verb: str, name: str, action: str, **kwargs: Any) -> Doc:
    """Start an operation on an instance."""
    return answer(call, call.operation(verb, name, action=f"{SERVICE.name}.{action}", **kwargs))


def finished(call: Call, verb: str, name: str, **kwargs: Any) -> Doc:
    """An operation on an instance that is over when it is answered."""
    return answer(call, call.operation(verb, name, over=True, **kwargs))


def items(call: Call, kind: str, found: list[Doc], *, default: int = 500) -> Doc:
    """A page of a list: by maxResults, with the next item's index as the token."""
    size = call.params.get("maxResults") or default
    token = call.params.get("pageToken", "")
    if token and not token.isdigit():
        raise refusals.invalid("Invalid page token.")
    begin = int(token or 0)
    out: Doc = {"kind": kind}
    if found[begin:]:
        out["items"] = [shown(call, doc) for doc in found[begin : begin + size]]
    if begin + size < len(found):
        out["nextPageToken"] = str(begin + size)
    return out
