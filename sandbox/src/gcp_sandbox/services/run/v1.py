"""The v1 API, in the style of Knative.  Policies are the same as in v2.

https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.resources import serve_locations
from gcp_sandbox.core.service import Call, Handler
from gcp_sandbox.services.run import jobs, names, revisions, v1_fields, v1_views
from gcp_sandbox.services.run import resources as common
from gcp_sandbox.services.run import v1_calls as v1
from gcp_sandbox.services.run.resources import SERVICE

Doc = dict[str, Any]


def _written(
    kind: str, read: Callable[[Doc], tuple[Doc, Doc]], begin: Callable[[Call, str], Operation], update: Handler
) -> None:
    """Register create and replace of a kind whose body v1_fields reads, and whose v2 code begins and updates one."""
    collection, job = v1_views.KINDS[kind][0], kind == "Job"

    def create(call: Call) -> Doc:
        short = v1.named(call, call.body, kind)
        body, kept = read(call.body)
        parent = f"projects/{call.project_id}/locations/{v1.location(call)}"
        v2 = v1.as_v2(call, f"{collection}.create", {"parent": parent, f"{kind.lower()}Id": short}, body)
        with call.cloud.store.atomic():
            v2.guard()
            op = v1.translated(job, lambda: begin(v2, f"{parent}/{collection}/{short}"))
            return v1.remembered(call, kind, op, kept)

    def replace(call: Call) -> Doc:
        old = v1.existing(call)
        v1.named(call, call.body, kind)
        v1.check_version(old, call.body)
        body, kept = read(call.body)
        before, _ = read(v1.shown(call, kind, old))
        wanted = v1_fields.untouched(body, old, before)
        v2 = v1.as_v2(call, f"{collection}.patch", {"name": old["name"]}, wanted)
        with call.cloud.store.atomic():
            return v1.remembered(call, kind, v1.translated(job, lambda: update(v2)), kept)

    v1.method(f"{collection}.create", f"run.{collection}.create")(create)
    v1.method(f"{collection}.replace{kind}", f"run.{collection}.update")(replace)


_written("Service", v1_fields.service, revisions.begin, partial(revisions.update, retry=False))
_written("Job", v1_fields.job, jobs.begin, jobs.patch)
v1.declare("Service", "get list delete", revisions.delete)
v1.declare("Revision", "get list delete", revisions.delete_revision)
v1.declare("Configuration", "get list")
v1.declare("Route", "get list")
v1.declare("Job", "get list delete", jobs.delete)
v1.declare("Execution", "get list delete", jobs.delete_execution)
v1.declare("Task", "get list")


@v1.method("jobs.run", "run.jobs.run")
def run(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.jobs/run"""
    doc = v1.existing(call)
    given = call.body.get("overrides", {})
    overrides: Doc = {k: given[k] for k in ("taskCount", "delayExecution") if k in given}
    if given.get("timeoutSeconds"):
        overrides["timeout"] = f"{given['timeoutSeconds']}s"
    if given.get("containerOverrides"):
        overrides["containerOverrides"] = [
            {k: v for k, v in each.items() if k != "env"}
            | {"env": [{"name": e.get("name", ""), "value": e.get("value", "")} for e in each.get("env", ())]}
            for each in given["containerOverrides"]
        ]
    op = jobs.run(v1.as_v2(call, "jobs.run", {"name": doc["name"]}, {"overrides": overrides} if overrides else {}))
    execution = call.cloud.store.get("run.executions", op["metadata"]["name"])
    assert execution is not None
    return v1.shown(call, "Execution", execution)


@v1.method("executions.cancel", "run.executions.cancel")
def cancel(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.executions/cancel"""
    doc = v1.existing(call)
    jobs.cancel(v1.as_v2(call, "jobs.executions.cancel", {"name": doc["name"]}))
    return v1.shown(call, "Execution", v1.existing(call))


# -- locations and operations --------------------------------------------------------


serve_locations(
    SERVICE,
    "run.projects.locations",
    "list",
    {region: {"labels": {"cloud.googleapis.com/region": region}} for region in names.REGIONS},
    version="v1",
)


def _shown(call: Call, op: Operation) -> Doc:
    """An operation with its resource as v1 shows it, where v1 has that kind of resource."""
    out = call.cloud.operations.render(op, SERVICE.host)
    for field in ("metadata", "response"):
        body = out.get(field) or {}
        kind = str(body.get("@type", "")).rpartition(".")[2]
        if kind in v1_views.KINDS:
            stored = call.cloud.store.peek(f"run.{v1_views.KINDS[kind][0]}", body["name"]) or {}
            doc = body | {k: v for k, v in stored.items() if k.startswith("_")}
            mark = re.sub("v2", "v1", str(body["@type"]))
            out[field] = {"@type": mark} | v1.shown(call, kind, doc)
    return out


common.operation_methods("get wait list", shown=_shown, version="v1")
