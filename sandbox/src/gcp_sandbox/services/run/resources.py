"""What services and jobs have in common: names, lists, conditions, etags, policies and operations."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from gcp_sandbox.core import policies
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.masks import masked, paths
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.resources import Collection, name_of, serve, serve_operations
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.run import checks, names

Doc = dict[str, Any]
SERVICE = Service("run", "v2", "v1", resource_type="run.googleapis.com/Service")
DONE, FAILED, PENDING = "CONDITION_SUCCEEDED", "CONDITION_FAILED", "CONDITION_PENDING"
RECONCILING = "CONDITION_RECONCILING"
_MAPS = {"labels", "annotations", "limits", "nodeSelector"}
# Fields of which Google knows that they were given, whatever their value.
_PRESENT = _MAPS | {"value", "maxRetries", "manualInstanceCount"}
# Only with latency none: how long the first answer waits, so that what is ready at once is answered ready.
SETTLE_SECONDS = 2.0
_SCHEMAS = {"services": "GoogleCloudRunV2Service", "jobs": "GoogleCloudRunV2Job"}
_KINDS = {"services": "SERVICE", "jobs": "JOB", "revisions": "REVISION", "executions": "EXECUTION", "tasks": "TASK"}


def key(call: Call) -> str:
    """The store key of the resource that a call names, or of its parent: the name with the project's id."""
    text = name_of(call)
    checks.region(names.parts(text)["locations"])
    return text


def parent(call: Call) -> tuple[str, str]:
    """(name of the parent with the project's id, location)."""
    text = key(call)
    return text, names.parts(text)["locations"]


def missing(name: str) -> ApiError:
    """404 for a resource."""
    part = names.parts(name)
    kind = next(k for k in ("tasks", "executions", "revisions", "services", "jobs") if k in part)
    text = (
        f"Resource '{part[kind]}' of kind '{_KINDS[kind]}' in region '{part['locations']}' in project "
        f"'{part['projects']}' does not exist."
    )
    return ApiError(404, text)


def existing(call: Call, name: str) -> Doc:
    """The document of a resource.  Raises ApiError 404."""
    kind = name.split("/")[-2]
    doc = call.cloud.store.get(f"run.{kind}", name)
    if doc is None:
        raise missing(name)
    return doc


def declare(ids: str, methods: str, **rules: Any) -> Collection:
    """Serve a collection of the v2 API ("jobs.executions"), by further rules of a Collection."""
    kind = ids.rpartition(".")[2]
    out = Collection(SERVICE, f"run.projects.locations.{ids}", f"run.{kind}", named=key, missing=missing, **rules)
    serve(out, methods)
    return out


def declared(call: Call, collection: str, body: Doc) -> Doc:
    """A body without what only Google writes, and without zero values, which Google does not keep."""
    fields = call.method.api.schemas[_SCHEMAS[collection]]["properties"]
    return _kept({k: v for k, v in body.items() if not fields[k].get("readOnly") and k not in ("name", "etag")})


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v if k in _MAPS else _kept(v) for k, v in value.items() if k in _PRESENT or not _zero(v)}
    return [_kept(v) for v in value] if isinstance(value, list) else value


def _zero(value: Any) -> bool:
    # An empty object is kept: that it is there says something (emptyDir).
    return value in (False, 0, "", []) or isinstance(value, str) and value.endswith("_UNSPECIFIED")


def message(call: Call, kind: str) -> str:
    """Where in the request's message a resource of a kind ("Service") is, as violations name it."""
    return f"{'Create' if call.method.http == 'POST' else 'Update'}{kind}Request.{kind.lower()}"


def merged(call: Call, collection: str, old: Doc, body: Doc) -> Doc:
    """The declaration after an update: the whole body, or with an updateMask only its fields."""
    mask = paths(call)
    if not mask or mask == ["*"]:
        return declared(call, collection, body)
    out = declared(call, collection, {k: v for k, v in old.items() if not k.startswith("_")})
    return masked(call, out, mask, None, lambda path: checks.invalid("update_mask", f"Invalid field mask: {path}"))


def check_etag(name: str, doc: Doc, given: str) -> None:
    """Raise ApiError 409 where a request is about another version than the present one."""
    if given and given != doc["etag"]:
        short = name.rsplit("/", 1)[-1]
        text = (
            f"Conflict for resource '{short}': version '{given}' was specified but current version is '{doc['etag']}'."
        )
        raise ApiError(409, text, status="ABORTED")


def condition(kind: str, state: str, message: str = "", **reason: str) -> Doc:
    """A condition as of now."""
    out: Doc = {"type": kind, "state": state}
    if message:
        out["message"] = message
    out["lastTransitionTime"] = now()
    if state == FAILED:
        out |= reason
    return out


def born(call: Call, name: str, spec: Doc) -> Doc:
    """A new resource from its declaration."""
    stamp = now()
    return {
        "name": name,
        "uid": str(uuid.uuid4()),
        "generation": "1",
        **spec,
        "createTime": stamp,
        "updateTime": stamp,
        "creator": call.principal.email,
        "lastModifier": call.principal.email,
        "reconciling": True,
        "terminalCondition": condition("Ready", PENDING),
        "etag": names.etag(name),
    }


def changed(call: Call, old: Doc, spec: Doc, output: tuple[str, ...]) -> Doc:
    """The next generation of a resource; output: fields of the old that stay until it is reconciled."""
    kept = {
        k: v
        for k, v in old.items()
        if k in output or k.startswith("_") or k in ("name", "uid", "createTime", "creator")
    }
    return (
        kept
        | spec
        | {
            "generation": str(int(old["generation"]) + 1),
            "updateTime": now(),
            "lastModifier": call.principal.email,
            "reconciling": True,
            "terminalCondition": condition("Ready", PENDING),
            "etag": names.etag(old["name"]),
        }
    )


def operation(call: Call, doc: Doc, kind: str, action: str | None, args: Doc, row: str) -> Operation:
    """Start the operation on a resource; its metadata is the resource as it is now."""
    part = names.parts(doc["name"])
    return call.operation(
        call.method.id.rsplit(".", 1)[-1],
        doc["name"],
        action=action,
        args=args,
        latency=row,
        scope=f"projects/{part['projects']}/locations/{part['locations']}",
        metadata=names.public(doc, kind),
    )


def validated(call: Call, doc: Doc, kind: str) -> Operation:
    """The answer to validateOnly: an operation that is over, and nothing kept."""
    part = names.parts(doc["name"])
    body = names.public(doc, kind)
    return call.operation(
        "validate",
        doc["name"],
        over=True,
        scope=f"projects/{part['projects']}/locations/{part['locations']}",
        metadata=body,
        response=body,
    )


async def settled(call: Call, op: Operation, row: str) -> Doc | Operation:
    """The first answer, still unfinished to look at; see SETTLE_SECONDS."""
    if call.cloud.latency(row) or op["status"] == "DONE":
        return op
    end = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.01)
        latest = call.cloud.operations.get(op["id"])
        if latest is None:
            break
        if latest["status"] == "DONE":
            return call.cloud.operations.render(Operation(latest | {"status": "RUNNING"}), SERVICE.host)
    return op


# -- policies and operations -------------------------------------------------------


def policy_methods(collection: str) -> None:
    """Register the methods of a collection's policies; testIamPermissions answers before a resource is there."""
    policies.serve(
        SERVICE,
        f"run.projects.locations.{collection}",
        lambda call: f"//run.googleapis.com/{key(call)}",
        f"run.{collection}",
        lambda call: existing(call, key(call)),
        ask_first=True,
    )


def operation_methods(methods: str, **rules: Any) -> None:
    """Register methods of operations (see serve_operations)."""

    def missing(name: str) -> ApiError:
        return ApiError(404, f"Resource '{name.rpartition('/')[2]}' of kind 'OPERATION' does not exist.")

    ids = "run.projects.locations.operations"
    for method in methods.split():
        named = key if method == "list" else name_of
        serve_operations(SERVICE, ids, method, permission="run.operations", named=named, missing=missing, **rules)


operation_methods("get wait list delete")
