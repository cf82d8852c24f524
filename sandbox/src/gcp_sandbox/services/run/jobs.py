"""Jobs, their executions and tasks: each attempt of a task is a process of the image that runs to its end.

https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from datetime import datetime
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import RPC_CODES, ApiError
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.run import checks, defaults, names
from gcp_sandbox.services.run import resources as common
from gcp_sandbox.services.run.fleet import fleet, log_file
from gcp_sandbox.services.run.plane.instance import Instance
from gcp_sandbox.services.run.plane.workload import StartError, Workload
from gcp_sandbox.services.run.resources import DONE, FAILED, PENDING, RECONCILING, SERVICE, condition
from gcp_sandbox.services.run.revisions import removal

Doc = dict[str, Any]
_BASE = "run.projects.locations.jobs"
_ROW = "run.jobs"
_CANCELLED = "Cancelled by user."
_TIMEOUT = "The configured timeout was reached."
_OUTPUT = ("conditions", "observedGeneration", "latestCreatedExecution", "executionCount")


def _full(call: Call) -> str:
    return f"//run.googleapis.com/{common.key(call).partition('/executions')[0]}"


def _permit(call: Call, permission: str) -> None:
    call.require(permission, _full(call))


# -- jobs ----------------------------------------------------------------------


@SERVICE.method(f"{_BASE}.create", permission="run.jobs.create")
def create(call: Call) -> Operation:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/create"""
    parent, _ = common.parent(call)
    short = call.params.get("jobId", "")
    checks.name("job_id", short, 49)
    return begin(call, f"{parent}/jobs/{short}")


def begin(call: Call, name: str) -> Operation:
    """Create a job of this resource name from the call's body."""
    if call.cloud.store.peek("run.jobs", name) is not None:
        raise ApiError(409, f"Resource '{name.rsplit('/', 1)[-1]}' already exists.")
    doc = common.born(call, name, _spec(call, name, common.declared(call, "jobs", call.body)))
    doc["latestCreatedExecution"] = {}
    return _change(call, doc)


def _spec(call: Call, name: str, body: Doc) -> Doc:
    within = common.message(call, "Job")
    checks.required(body, within)
    spec = defaults.job(body, call.project_number)
    execution = spec["template"]
    checks.template("template.template", execution["template"], within)
    if not 1 <= execution["taskCount"] <= 10000:
        raise checks.invalid("template.task_count", "must be between 1 and 10000.")
    if not 0 <= execution["template"]["maxRetries"] <= 10:
        raise checks.invalid("template.template.max_retries", "must be between 0 and 10.")
    if not 0 < checks.duration(execution["template"]["timeout"]) <= 168 * 3600:
        raise checks.invalid("template.template.timeout", "must be between 1s and 604800s.")
    checks.account(call, execution["template"]["serviceAccount"])
    checks.encryption(call, names.parts(name)["locations"], execution["template"])
    return spec


def _change(call: Call, doc: Doc) -> Operation:
    if call.params.get("validateOnly"):
        return common.validated(call, doc, "Job")
    call.cloud.store.put("run.jobs", doc["name"], doc)
    args = {"name": doc["name"], "generation": doc["generation"]}
    return common.operation(call, doc, "Job", "run.reconcile-job", args, _ROW)


@SERVICE.method(f"{_BASE}.patch")
def patch(call: Call) -> Operation:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/patch"""
    name = common.key(call)
    old = call.cloud.store.get("run.jobs", name)
    if old is None:
        call.require("run.jobs.create" if call.params.get("allowMissing") else "run.jobs.update")
        if not call.params.get("allowMissing"):
            raise common.missing(name)
        call.guard()
        checks.name("job.name", name.rsplit("/", 1)[-1], 49)
        return begin(call, name)
    call.require("run.jobs.update", f"//run.googleapis.com/{name}")
    call.guard()
    common.check_etag(name, old, call.body.get("etag", ""))
    spec = _spec(call, name, common.merged(call, "jobs", old, call.body))
    before = common.declared(call, "jobs", {k: v for k, v in old.items() if not k.startswith("_")})
    if spec == before and old["terminalCondition"]["state"] != FAILED:
        if call.params.get("validateOnly"):
            return common.validated(call, old, "Job")
        return common.operation(call, old, "Job", "run.unchanged", {"name": name, "kind": "Job"}, "")
    doc = common.changed(call, old, spec, _OUTPUT)
    doc["terminalCondition"]["lastTransitionTime"] = old["terminalCondition"]["lastTransitionTime"]
    return _change(call, doc)


@SERVICE.action("reconcile-job")
async def reconcile(cloud: Cloud, op: Doc) -> Doc | None:
    """Check what a job's tasks will need."""
    name = op["args"]["name"]
    doc = cloud.store.get("run.jobs", name)
    if doc is None:
        raise ApiError(404, f"Resource '{name.rsplit('/', 1)[-1]}' was deleted.")
    error: StartError | None = None
    try:
        _check(cloud, name, doc["template"]["template"])
    except StartError as failure:
        error = failure
    if doc["generation"] == op["args"]["generation"]:
        doc.pop("reconciling", None)
        doc["observedGeneration"] = doc["generation"]
        if error is None:
            doc["terminalCondition"] = condition("Ready", DONE)
            doc.pop("conditions", None)
        else:
            doc["terminalCondition"] = condition("Ready", FAILED, str(error), **error.reason)
            doc["conditions"] = [condition("ResourcesAvailable", FAILED, str(error), **error.reason)]
        doc["updateTime"] = now()
        cloud.store.put("run.jobs", name, doc)
    op["metadata"] = names.public(doc, "Job")
    if error is not None:
        raise ApiError(400, str(error), status=error.status)
    return op["metadata"]


def _check(cloud: Cloud, name: str, template: Doc) -> None:
    part = names.parts(name)
    for container in template["containers"]:
        if fleet(cloud).instances.images.lookup(container["image"]) is None:
            raise StartError(f"Image '{container['image']}' not found.", {"reason": "CONTAINER_MISSING"}, "NOT_FOUND")
    checks.networks(cloud, part["projects"], part["locations"], template.get("vpcAccess"))
    checks.secret_problems(cloud, part["projects"], template)
    checks.images(cloud, part["projects"], template)


def delete(call: Call, name: str, doc: Doc) -> Operation:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/delete"""
    common.check_etag(name, doc, call.params.get("etag", ""))
    doc = removal(call, doc)
    if call.params.get("validateOnly"):
        return common.validated(call, doc, "Job")
    call.cloud.store.put("run.jobs", name, doc)
    return common.operation(call, doc, "Job", "run.delete-job", {"name": name}, _ROW)


@SERVICE.action("delete-job")
async def finish_delete(cloud: Cloud, op: Doc) -> Doc | None:
    """Stop a job's executions and forget it."""
    name = op["args"]["name"]
    doc = cloud.store.get("run.jobs", name)
    for key, execution in cloud.store.list("run.executions", f"{name}/executions/"):
        if not execution.get("completionTime"):
            cloud.store.put("run.executions", key, execution | {"_cancel": True})
        _forget(cloud, key)
    cloud.store.delete("run.jobs", name)
    cloud.iam.drop(f"//run.googleapis.com/{name}")
    if doc is None:
        return None
    checks.hold_addresses(cloud, name, doc["template"]["template"].get("vpcAccess", {}))
    doc.pop("reconciling", None)
    doc["observedGeneration"] = doc["generation"]
    doc["terminalCondition"] = doc["terminalCondition"] | {"state": DONE}
    op["metadata"] = names.public(doc, "Job")
    return op["metadata"]


common.declare("jobs", "get list delete", policy=True, erase=delete)
common.policy_methods("jobs")


# -- executions ------------------------------------------------------------------


@SERVICE.method(f"{_BASE}.run", permission="run.jobs.run", resource=_full)
def run(call: Call) -> Operation:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/run"""
    name = common.key(call)
    job = common.existing(call, name)
    common.check_etag(name, job, call.body.get("etag", ""))
    overrides = call.body.get("overrides", {})
    if overrides:
        call.require("run.jobs.runWithOverrides", f"//run.googleapis.com/{name}")
    if job["terminalCondition"]["state"] != DONE:
        text = f"Job '{name.rsplit('/', 1)[-1]}' is not ready to be run: {job['terminalCondition'].get('message', '')}"
        raise ApiError(400, text.strip(" :"), status="FAILED_PRECONDITION")
    doc = _execution(call, job, overrides)
    if call.body.get("validateOnly"):
        return common.validated(call, doc, "Execution")
    store = call.cloud.store
    with store.atomic():
        store.put("run.executions", doc["name"], doc)
        job["executionCount"] = job.get("executionCount", 0) + 1
        job["latestCreatedExecution"] = {"name": doc["name"].rsplit("/", 1)[-1], "createTime": doc["createTime"]}
        store.put("run.jobs", name, job)
    return common.operation(call, doc, "Execution", "run.execute", {"name": doc["name"]}, _ROW)


def _execution(call: Call, job: Doc, overrides: Doc) -> Doc:
    spec = copy.deepcopy(job["template"])
    template = spec["template"]
    for override in overrides.get("containerOverrides", ()):
        chosen = [c for c in template["containers"] if not override.get("name") or c.get("name") == override["name"]]
        if len(chosen) != 1:
            raise checks.invalid("overrides.container_overrides", "must name exactly one container of the job.")
        container = chosen[0]
        if override.get("clearArgs"):
            container.pop("args", None)
        if override.get("args"):
            container["args"] = override["args"]
        new = {env["name"]: env for env in override.get("env", ())}
        container["env"] = [e for e in container.get("env", ()) if e["name"] not in new] + list(new.values())
    count = overrides.get("taskCount") or spec["taskCount"]
    if overrides.get("timeout"):
        template["timeout"] = overrides["timeout"]
    part = names.parts(job["name"])
    short = f"{part['jobs']}-{names.suffix(5)}"
    stamp = now()
    return {
        "name": f"{job['name']}/executions/{short}",
        "uid": str(uuid.uuid4()),
        "generation": "1",
        **{k: spec[k] for k in ("labels", "annotations", "client", "clientVersion") if k in spec},
        "createTime": stamp,
        "updateTime": stamp,
        "launchStage": job["launchStage"],
        "job": part["jobs"],
        "parallelism": min(spec.get("parallelism") or count, count),
        "taskCount": count,
        "template": template,
        "reconciling": True,
        "conditions": [condition("Completed", PENDING)],
        "creator": call.principal.email,
        "logUri": "https://console.cloud.google.com/logs/viewer?project="
        + part["projects"]
        + f"&resource=cloud_run_job/job_name/{part['jobs']}/location/{part['locations']}",
        "etag": names.etag(f"{job['name']}/executions/{short}"),
    }


@SERVICE.action("execute")
async def execute(cloud: Cloud, op: Doc) -> Doc | None:
    """Run an execution's tasks, parallelism at a time, each with its retries."""
    key = op["args"]["name"]
    doc = cloud.store.get("run.executions", key)
    if doc is None:
        raise ApiError(404, "The execution was deleted.")
    if "completionTime" not in doc:
        begun = now()
        took = _elapsed(doc["createTime"], begun)
        conditions = [
            condition("Completed", RECONCILING, "Waiting for execution to complete."),
            condition("ResourcesAvailable", DONE, "Provisioned imported containers."),
            condition("Started", DONE, f"Started deployed execution in {took}."),
            condition("ContainerReady", DONE, f"Imported container image in {took}."),
        ]
        _note(
            cloud,
            key,
            startTime=begun,
            conditions=conditions,
            runningCount=0,
            succeededCount=0,
            failedCount=0,
            cancelledCount=0,
            retriedCount=0,
        )
        limit = asyncio.Semaphore(doc["parallelism"])

        async def one(index: int) -> str:
            async with limit:
                return await _task(cloud, key, index)

        results = await asyncio.gather(*(one(i) for i in range(doc["taskCount"])))
        failures = [text for text in results if text]
        doc = cloud.store.get("run.executions", key)
        if doc is None:
            raise ApiError(404, "The execution was deleted.")
        _finish(cloud, doc, failures)
    op["metadata"] = names.public(doc, "Execution")
    if doc["conditions"][0]["state"] == FAILED and not doc.get("_cancel"):
        late = doc["conditions"][0]["message"].endswith(_TIMEOUT)
        raise ApiError(400, doc["conditions"][0]["message"], status="DEADLINE_EXCEEDED" if late else "ABORTED")
    return op["metadata"]


def _note(cloud: Cloud, key: str, **fields: Any) -> Doc | None:
    """Change fields of an execution, counts (as text "+1", "-1") among them."""
    doc = cloud.store.get("run.executions", key)
    if doc is None:
        return None
    for field, value in fields.items():
        doc[field] = doc.get(field, 0) + int(value) if value in ("+1", "-1") else value
    doc["updateTime"], doc["etag"] = now(), names.etag(key)
    return cloud.store.put("run.executions", key, doc)


def _finish(cloud: Cloud, doc: Doc, failures: list[str]) -> None:
    doc.pop("reconciling", None)
    doc["completionTime"] = doc["updateTime"] = now()
    doc["observedGeneration"], doc["runningCount"] = doc["generation"], 0
    cancelled = bool(doc.get("_cancel"))
    if cancelled:
        done = condition("Completed", FAILED, _CANCELLED, executionReason="CANCELLED")
    elif failures:
        done = condition("Completed", FAILED, failures[0], executionReason="NON_ZERO_EXIT_CODE")
    else:
        took = _elapsed(doc["startTime"], doc["completionTime"])
        done = condition("Completed", DONE, f"Execution completed successfully in {took}.")
    doc["conditions"] = [done, *doc["conditions"][1:]]
    for count in ("runningCount", "succeededCount", "failedCount", "cancelledCount", "retriedCount"):
        if not doc.get(count):
            doc.pop(count, None)
    cloud.store.put("run.executions", doc["name"], doc)
    name = doc["name"].partition("/executions/")[0]
    job = cloud.store.get("run.jobs", name)
    if job is not None and job["latestCreatedExecution"].get("name") == doc["name"].rsplit("/", 1)[-1]:
        status = "EXECUTION_CANCELLED" if cancelled else "EXECUTION_FAILED" if failures else "EXECUTION_SUCCEEDED"
        job["latestCreatedExecution"] |= {"completionTime": doc["completionTime"], "completionStatus": status}
        cloud.store.put("run.jobs", name, job)


def _elapsed(start: str, end: str) -> str:
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    return (f"{int(seconds // 60)}m" if seconds >= 60 else "") + f"{seconds % 60:.2f}s"


async def _task(cloud: Cloud, key: str, index: int) -> str:
    """Run one task to its end; returns why it failed, or ""."""
    execution = cloud.store.get("run.executions", key)
    if execution is None or execution.get("_cancel"):
        return _CANCELLED
    short = f"{key.rsplit('/', 1)[-1]}-task{index}"
    name = f"{key}/tasks/{short}"
    stamp = now()
    template = execution["template"]
    task: Doc = {
        "name": name,
        "uid": str(uuid.uuid4()),
        "generation": "1",
        "createTime": stamp,
        "scheduledTime": stamp,
        "startTime": stamp,
        "updateTime": stamp,
        "job": execution["job"],
        "execution": key.rsplit("/", 1)[-1],
        **{
            k: template[k]
            for k in (
                "containers",
                "volumes",
                "maxRetries",
                "timeout",
                "serviceAccount",
                "vpcAccess",
                "executionEnvironment",
            )
            if k in template
        },
        "index": index,
        "reconciling": True,
        "conditions": [condition("Completed", PENDING)],
        "logUri": execution["logUri"],
        "etag": names.etag(name),
    }
    cloud.store.put("run.tasks", name, task)
    _note(cloud, key, runningCount="+1")
    failure = ""
    for attempt in range(template.get("maxRetries", 3) + 1):
        if attempt:
            task["retried"] = attempt
            _note(cloud, key, retriedCount="+1")
        failure, status = await _attempt(cloud, key, execution, index, attempt)
        task["lastAttemptResult"] = _result(failure, status)
        current = cloud.store.peek("run.executions", key)
        if not failure or current is None or current.get("_cancel"):
            break
    current = cloud.store.peek("run.executions", key)
    cancelled = current is None or bool(current.get("_cancel"))
    count = "cancelledCount" if cancelled else "failedCount" if failure else "succeededCount"
    _note(cloud, key, runningCount="-1", **{count: "+1"})
    task.pop("reconciling", None)
    task |= {"completionTime": now(), "updateTime": now(), "observedGeneration": "1"}
    reason = "CANCELLED" if cancelled else "NON_ZERO_EXIT_CODE"
    task["conditions"] = [condition("Completed", FAILED if failure else DONE, failure, executionReason=reason)]
    if current is not None:
        cloud.store.put("run.tasks", name, task)
    return f"Task {short} failed with exit code: {status} and message: {failure}" if failure else ""


def _result(failure: str, status: int) -> Doc:
    """A TaskAttemptResult."""
    if not failure:
        return {"status": {}}
    code = {_CANCELLED: "CANCELLED", _TIMEOUT: "DEADLINE_EXCEEDED"}.get(failure, "ABORTED")
    out: Doc = {"status": {"code": RPC_CODES[code], "message": failure}}
    return out | ({"exitCode": status} if status else {})


async def _attempt(cloud: Cloud, key: str, execution: Doc, index: int, attempt: int) -> tuple[str, int]:
    """Run one attempt of a task; returns (why it failed or "", exit status)."""
    part = names.parts(key)
    project = projects.find(cloud, part["projects"])
    assert project is not None
    template = execution["template"]
    env = {
        "CLOUD_RUN_JOB": execution["job"],
        "CLOUD_RUN_EXECUTION": part["executions"],
        "CLOUD_RUN_TASK_INDEX": str(index),
        "CLOUD_RUN_TASK_ATTEMPT": str(attempt),
        "CLOUD_RUN_TASK_COUNT": str(execution["taskCount"]),
    }
    try:
        networks = checks.networks(cloud, part["projects"], part["locations"], template.get("vpcAccess"))
        load = Workload(
            part["executions"],
            project,
            part["locations"],
            template["serviceAccount"],
            template,
            networks,
            env,
            log_file(cloud, key),
        )
        instance = Instance(fleet(cloud).instances, load)
        await instance.start(serves=False)
    except (StartError, OSError, ApiError) as error:
        return str(error), 1
    end = asyncio.get_running_loop().time() + checks.duration(template.get("timeout", "600s"))
    try:
        while not instance.exited.is_set():
            current = cloud.store.peek("run.executions", key)
            if current is None or current.get("_cancel"):
                return _CANCELLED, 0
            if asyncio.get_running_loop().time() >= end:
                instance.log("Terminating task because it has reached the maximum timeout.")
                return _TIMEOUT, 0
            try:
                async with asyncio.timeout(0.25):
                    await instance.exited.wait()
            except TimeoutError:
                continue
    finally:
        await instance.stop()
    if instance.status == 0:
        return "", 0
    return "The container exited with an error.", instance.status or 1


@SERVICE.method(f"{_BASE}.executions.cancel", permission="run.executions.cancel", resource=_full)
def cancel(call: Call) -> Operation:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs.executions/cancel"""
    name = common.key(call)
    doc = common.existing(call, name)
    common.check_etag(name, doc, call.body.get("etag", ""))
    if doc.get("completionTime"):
        text = f"Execution '{name.rsplit('/', 1)[-1]}' cannot be cancelled because it is not running."
        raise ApiError(400, text, status="FAILED_PRECONDITION")
    if call.body.get("validateOnly"):
        return common.validated(call, doc, "Execution")
    doc = call.cloud.store.put("run.executions", name, doc | {"_cancel": True})
    return common.operation(call, doc, "Execution", "run.cancel", {"name": name}, "")


@SERVICE.action("cancel")
async def finish_cancel(cloud: Cloud, op: Doc) -> Doc | None:
    """Wait until a cancelled execution has ended."""
    key = op["args"]["name"]
    while (doc := cloud.store.get("run.executions", key)) and not doc.get("completionTime"):
        await asyncio.sleep(0.05)
    if doc is None:
        raise ApiError(404, "The execution was deleted.")
    op["metadata"] = names.public(doc, "Execution")
    return op["metadata"]


def delete_execution(call: Call, name: str, doc: Doc) -> Operation:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs.executions/delete"""
    common.check_etag(name, doc, call.params.get("etag", ""))
    if call.params.get("validateOnly"):
        return common.validated(call, doc, "Execution")
    return common.operation(call, doc | {"deleteTime": now()}, "Execution", "run.delete-execution", {"name": name}, "")


@SERVICE.action("delete-execution")
async def finish_delete_execution(cloud: Cloud, op: Doc) -> Doc | None:
    """Forget an execution, which ends it."""
    _forget(cloud, op["args"]["name"])
    return op["metadata"]


def _forget(cloud: Cloud, key: str) -> None:
    for name, _ in cloud.store.list("run.tasks", f"{key}/tasks/"):
        cloud.store.delete("run.tasks", name)
    cloud.store.delete("run.executions", key)


common.declare("jobs.executions", "get list delete", permit=_permit, newest=True, erase=delete_execution)
common.declare("jobs.executions.tasks", "get list", permit=_permit)
