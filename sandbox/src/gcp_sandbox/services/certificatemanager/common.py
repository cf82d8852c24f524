"""What all of Certificate Manager shares: the service, names, references and errors."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError, bad_request
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.resources import Collection, parameter, serve_locations, serve_operations
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.compute.places import REGIONS

Doc = dict[str, Any]


def _denied(call: Call, permission: str, shown: str) -> ApiError:
    return ApiError(403, f"Permission '{permission}' denied on '{shown}'")


SERVICE = Service("certificatemanager", "v1", denied=_denied)
BASE = "certificatemanager.projects.locations"
AUTHORIZATIONS, CERTIFICATES = "certificatemanager.dnsAuthorizations", "certificatemanager.certificates"
CONFIGS = "certificatemanager.certificateIssuanceConfigs"
MAPS, ENTRIES = "certificatemanager.certificateMaps", "certificatemanager.certificateMapEntries"
_ID = "[a-z]([a-z0-9-]{0,61}[a-z0-9])?"


def invalid(field: str, text: str) -> ApiError:
    """400 for one field."""
    return ApiError(400, "Validation failed", details=[bad_request(field, text)])


def in_use(key: str, text: str) -> ApiError:
    """400 for deleting what something else refers to."""
    violation = {"type": "RESOURCE_STILL_IN_USE", "subject": key, "description": text}
    details = [{"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [violation]}]
    return ApiError(400, text, status="FAILED_PRECONDITION", details=details)


def key_of(cloud: Cloud, name: str) -> str:
    """A name with the project's id instead of its number."""
    project = projects.find(cloud, name.split("/")[1]) if name.startswith("projects/") else None
    return re.sub(r"^projects/[^/]+", f"projects/{project['projectId']}", name) if project else name


def numbered(cloud: Cloud, key: str) -> str:
    """A name as other resources show it: with the project's number."""
    project = projects.find(cloud, key.split("/")[1])
    return re.sub(r"^projects/[^/]+", f"projects/{project['projectNumber']}", key) if project else key


def refer(call: Call, kind: str, names: list[str], field: str, permission: str) -> list[str]:
    """The keys of resources that a document refers to, which are there, in this project, and may be used.  Raises ApiError."""
    segment = kind.rpartition(".")[2]
    keys = []
    for index, name in enumerate(names):
        key = key_of(call.cloud, name)
        if not re.fullmatch(rf"projects/{re.escape(call.project_id)}/locations/[^/]+/{segment}/[^/]+", key):
            raise invalid(f"{field}[{index}]", f'invalid name "{name}"')
        if call.cloud.store.peek(kind, key) is None:
            raise absent(key)
        keys.append(key)
    if keys:
        call.require(permission)
    return keys


def absent(name: str) -> ApiError:
    """404."""
    return ApiError(404, f"Resource '{name}' was not found")


def begin(call: Call, method: str, key: str) -> Doc:
    """The `operation` of a collection: what its operations have."""
    metadata = {
        "@type": "type.googleapis.com/google.cloud.certificatemanager.v1.OperationMetadata",
        "createTime": now(),
        "target": key,
        "verb": method.replace("patch", "update"),
        "requestedCancellation": False,
        "apiVersion": "v1",
    }
    return {"metadata": metadata, "scope": "/".join(key.split("/")[:4])}


def stamped(new: Doc, old: Doc | None) -> Doc:
    """A document with its times."""
    when = now()
    return new | {"createTime": old["createTime"] if old else when, "updateTime": when}


def ident(param: str) -> Any:
    """The `ident` of a collection."""
    return parameter(param, _ID, lambda text: invalid(param, f"{text!r} does not match the pattern ^{_ID}$"))


# A Collection with what all resources of this API have.
Resources = partial(
    Collection,
    SERVICE,
    operates="create patch delete",
    operation=begin,
    missing=absent,
    taken=lambda name: ApiError(409, f"Resource '{name}' already exists"),
)

serve_operations(
    SERVICE, f"{BASE}.operations", "get list delete", permission="certificatemanager.operations", missing=absent
)
serve_locations(SERVICE, BASE, "get list", dict.fromkeys(("global", *REGIONS), {}))
