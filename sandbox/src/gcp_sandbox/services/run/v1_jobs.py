"""The v1 API's jobs, executions and tasks.  https://cloud.google.com/run/docs/reference/rest/v1/namespaces.jobs"""

from __future__ import annotations

from typing import Any

from gcp_sandbox.core.service import Call
from gcp_sandbox.services.run import jobs, v1_fields
from gcp_sandbox.services.run import v1_calls as v1

Doc = dict[str, Any]


@v1.method("jobs.create", "run.jobs.create")
def create(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.jobs/create"""
    short = v1.named(call, call.body, "Job")
    body, kept = v1_fields.job(call.body)
    parent = f"projects/{call.project_id}/locations/{v1.location(call)}"
    v2 = v1.as_v2(call, "jobs.create", {"parent": parent, "jobId": short}, body)
    with call.cloud.store.atomic():
        return v1.remembered(call, "Job", v1.translated(True, lambda: jobs.create(v2)), kept)


@v1.method("jobs.replaceJob", "run.jobs.update")
def replace(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.jobs/replaceJob"""
    old = v1.existing(call)
    v1.named(call, call.body, "Job")
    v1.check_version(old, call.body)
    body, kept = v1_fields.job(call.body)
    before, _ = v1_fields.job(v1.shown(call, "Job", old))
    v2 = v1.as_v2(call, "jobs.patch", {"name": old["name"]}, v1_fields.untouched(body, old, before))
    with call.cloud.store.atomic():
        return v1.remembered(call, "Job", v1.translated(True, lambda: jobs.patch(v2)), kept)


@v1.method("jobs.get", "run.jobs.get")
def get(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.jobs/get"""
    return v1.shown(call, "Job", v1.existing(call))


@v1.method("jobs.list", "run.jobs.list")
def list_(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.jobs/list"""
    return v1.listing(call, "Job")


@v1.method("jobs.delete", "run.jobs.delete")
def delete(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.jobs/delete"""
    doc = v1.existing(call)
    jobs.delete(v1.as_v2(call, "jobs.delete", {"name": doc["name"]}))
    return v1.deleted("Job", doc)


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


@v1.method("executions.get", "run.executions.get")
def get_execution(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.executions/get"""
    return v1.shown(call, "Execution", v1.existing(call))


@v1.method("executions.list", "run.executions.list")
def list_executions(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.executions/list"""
    return v1.listing(call, "Execution")


@v1.method("executions.delete", "run.executions.delete")
def delete_execution(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.executions/delete"""
    doc = v1.existing(call)
    jobs.delete_execution(v1.as_v2(call, "jobs.executions.delete", {"name": doc["name"]}))
    return v1.deleted("Execution", doc)


@v1.method("executions.cancel", "run.executions.cancel")
def cancel(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.executions/cancel"""
    doc = v1.existing(call)
    jobs.cancel(v1.as_v2(call, "jobs.executions.cancel", {"name": doc["name"]}))
    return v1.shown(call, "Execution", v1.existing(call))


@v1.method("tasks.get", "run.tasks.get")
def get_task(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.tasks/get"""
    return v1.shown(call, "Task", v1.existing(call))


@v1.method("tasks.list", "run.tasks.list")
def list_tasks(call: Call) -> Doc:
    """https://cloud.google.com/run/docs/reference/rest/v1/namespaces.tasks/list"""
    return v1.listing(call, "Task")
