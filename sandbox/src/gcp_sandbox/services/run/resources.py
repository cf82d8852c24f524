"""What services and jobs have in common: names, lists, conditions, etags, policies and operations."""

from __future__ import annotations

import asyncio
import copy
import re
import uuid
from typing import Any

from gcp_sandbox.core import policies
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.paging import page
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


def key(call: Call, param: str = "name") -> str:
    """The store key of the resource a call names: its name with the project's id."""
    text = re.sub(r"^projects/[^/]+", f"projects/{call.project_id}", call.params[param])
    checks.region(names.parts(text)["locations"])
    return text


def parent(call: Call) -> tuple[str, str]:
    """(name of the parent with the project's id, location)."""
    text = key(call, "parent")
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


def listing(call: Call, kind: str, prefix: str) -> Doc:
    """A page of a collection; a location of "-" stands for all."""
    pattern = re.compile("/".join("[^/]+" if part == "-" else re.escape(part) for part in prefix.split("/")) + "/[^/]+")
    stem = prefix.partition("/-")[0]
    found = [names.public(doc) for name, doc in call.cloud.store.list(f"run.{kind}", stem) if pattern.fullmatch(name)]
    if kind in ("revisions", "executions"):
        found.sort(key=lambda doc: doc["createTime"], reverse=True)
    return page(call, kind, found)


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
    mask = call.params.get("updateMask", "")
    if not mask or mask == "*":
        return declared(call, collection, body)
    out = declared(call, collection, {k: v for k, v in old.items() if not k.startswith("_")})
    for path in mask.split(","):
        words = [re.sub(r"_([a-z0-9])", lambda m: m.group(1).upper(), word) for word in path.strip().split(".")]
        if words[0] not in call.method.api.schemas[_SCHEMAS[collection]]["properties"]:
            raise checks.invalid("update_mask", f"Invalid field mask: {path}")
        source: Any = body
        target: Any = out
        for word in words[:-1]:
            source = source.get(word, {}) if isinstance(source, dict) else {}
            target = target.setdefault(word, {})
        if isinstance(source, dict) and words[-1] in source:
            target[words[-1]] = copy.deepcopy(source[words[-1]])
        else:
            target.pop(words[-1], None)
    return out


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
    op = call.cloud.operations.finished(
        service="run",
        dialect="longrunning",
        verb="validate",
        target=doc["name"],
        user=call.principal.email,
        project=call.project_id,
        scope=f"projects/{part['projects']}/locations/{part['locations']}",
        metadata=body,
    )
    op["response"] = body
    call.cloud.store.put("operations", op["id"], op)
    return op


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


# -- policies --------------------------------------------------------------------


def full_name(call: Call) -> str:
    """Full resource name of what a policy call is about."""
    return f"//run.googleapis.com/{key(call, 'resource')}"


def policy_methods(collection: str) -> None:
    """Register getIamPolicy, setIamPolicy and testIamPermissions of a collection."""

    def exists(call: Call) -> str:
        return existing(call, key(call, "resource"))["name"]

    policies.serve(SERVICE, f"run.projects.locations.{collection}", full_name, f"run.{collection}", exists)

    @SERVICE.method(f"run.projects.locations.{collection}.testIamPermissions")
    def test(call: Call) -> Doc:
        """Of what is not there yet too: clients ask before they create it."""
        return policies.granted(call, full_name(call))


# -- operations ------------------------------------------------------------------


def _operation(call: Call) -> Operation:
    name = re.sub(r"^projects/[^/]+", f"projects/{call.project_id}", call.params["name"])
    op = call.cloud.operations.get(name.rsplit("/", 1)[-1])
    if op is None or op["service"] != "run" or f"{op['scope']}/operations/{op['id']}" != name:
        raise ApiError(404, f"Resource '{name.rsplit('/', 1)[-1]}' of kind 'OPERATION' does not exist.")
    return op


@SERVICE.method("run.projects.locations.operations.get", permission="run.operations.get")
def get_operation(call: Call) -> Operation:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.operations/get"""
    return _operation(call)


@SERVICE.method("run.projects.locations.operations.wait", permission="run.operations.get")
async def wait_operation(call: Call) -> Operation:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.operations/wait"""
    loop = asyncio.get_running_loop()
    end = loop.time() + min(checks.duration(call.body.get("timeout", "30s")), 120)
    while (op := _operation(call))["status"] != "DONE" and loop.time() < end:
        await asyncio.sleep(0.05)
    return op


@SERVICE.method("run.projects.locations.operations.list", permission="run.operations.list")
def list_operations(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.operations/list"""
    scope = key(call)
    found = call.cloud.operations.all(service="run", scope=scope)
    return page(call, "operations", [call.cloud.operations.render(op, SERVICE.host) for op in found])


@SERVICE.method("run.projects.locations.operations.delete", permission="run.operations.delete")
def delete_operation(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.operations/delete"""
    call.cloud.store.delete("operations", _operation(call)["id"])
    return {}
