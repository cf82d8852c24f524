"""What all of Cloud DNS shares: the shape of messages, pages, errors, and references to networks."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.resources import Collection, serve
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
SERVICE = Service("dns", "v1", "v1beta2", family="legacy")
ZONES, SETS, CHANGES = "dns.managedZones", "dns.resourceRecordSets", "dns.changes"
OPERATIONS = "dns.managedZoneOperations"
NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def number() -> str:
    """A new resource's id."""
    return str(secrets.randbelow(9 * 10**18) + 10**18)


def with_kinds(call: Call, schema: str, value: Doc) -> Doc:
    """A message whose objects all have their ``kind``, as this API answers them."""
    properties = call.method.api.schemas[schema].get("properties", {})
    out = {"kind": properties["kind"]["default"]} if "kind" in properties else {}
    for key, item in value.items():
        field = properties.get(key, {})
        if isinstance(item, dict) and "$ref" in field:
            item = with_kinds(call, field["$ref"], item)
        elif isinstance(item, list) and "$ref" in field.get("items", {}):
            item = [with_kinds(call, field["items"]["$ref"], i) for i in item]
        out[key] = item
    return out


def listed(call: Call, kind: str, field: str, found: list[Doc]) -> Doc:
    """One page of a list; the token is the number of what was already shown.  Raises ApiError 400.

    kind: "" for the lists that have none.
    """
    token = call.params.get("pageToken") or "0"
    if not token.isdigit():
        raise invalid("parameters.pageToken", token)
    start = int(token)
    end = start + min(call.params.get("maxResults") or 100, 1000)
    out: Doc = ({"kind": kind} if kind else {}) | {field: found[start:end]}
    return out | ({"nextPageToken": str(end)} if end < len(found) else {})


# -- errors ----------------------------------------------------------------


def missing(parameter: str, name: str) -> ApiError:
    """404."""
    return ApiError(404, f"The '{parameter}' resource named '{name}' does not exist.")


def invalid(parameter: str, value: Any) -> ApiError:
    """400."""
    return ApiError(400, f"Invalid value for '{parameter}': '{value}'")


def required(parameter: str) -> ApiError:
    """400 for something left out."""
    return ApiError(400, f"The '{parameter}' parameter is required but was missing.", reason="required")


def exists(parameter: str, name: str) -> ApiError:
    """409."""
    return ApiError(409, f"The resource '{parameter}' named '{name}' already exists")


# -- networks --------------------------------------------------------------


def check_networks(call: Call, networks: list[Doc], permission: str) -> None:
    """Refuse networks that are not there or that the caller may not use so: the API tells neither from the other.

    permission: on the project of each network.  Raises ApiError 403.
    """
    for network in networks:
        found = re.search(r"projects/([^/]+)/global/networks/([^/]+)$", network.get("networkUrl", ""))
        project = projects.find(call.cloud, found[1]) if found else None
        allowed = False
        if found and project:
            key = f"projects/{project['projectId']}/global/networks/{found[2]}"
            allowed = call.cloud.store.peek("compute.networks", key) is not None and call.cloud.iam.allows(
                call.principal, permission, project_resource(project["projectId"])
            )
        if not allowed:
            raise ApiError(403, "Forbidden")


def zone_key(call: Call, name: str) -> str:
    """Store key of a zone."""
    return f"projects/{call.project_id}/managedZones/{name}"


def zone_at(call: Call) -> str:
    """Store key of the zone that a call names by name or id, whether or not there is one."""
    name = call.params.get("managedZone") or call.params["resource"].rpartition("/")[2]
    by_id = (key for key, doc in call.cloud.store.list(ZONES, zone_key(call, "")) if doc["id"] == name)
    return next(by_id, zone_key(call, name))


def zone_of(call: Call) -> Doc:
    """The zone that a call names (for reading).  Raises ApiError 404."""
    doc = call.cloud.store.peek(ZONES, zone_at(call))
    if doc is None:
        raise missing("parameters.managedZone", call.params["managedZone"])
    return doc


def in_zone(call: Call) -> str:
    """Store key of the zone that a call names.  Raises ApiError 404."""
    return zone_key(call, zone_of(call)["name"])


def serve_in_zone(kind: str, segment: str, param: str, listing: Callable[[Call, list[Doc]], Doc]) -> None:
    """Register get and list of what zones have with ids of its own.

    kind: of the store, and discovery id.  segment: where it is in the store.  param: which parameter names one.
    """
    contents = Collection(
        SERVICE,
        kind,
        kind,
        segment=segment,
        key=lambda call: f"{in_zone(call)}/{segment}/{call.params[param]}",
        parent=in_zone,
        listing=listing,
        missing=lambda key: missing(f"parameters.{param}", key.rpartition("/")[2]),
    )
    serve(contents, "get list")
