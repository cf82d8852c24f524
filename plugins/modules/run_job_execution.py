#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_job_execution
short_description: Execute a Cloud Run job and wait for its result
description:
  - Starts an execution of a Cloud Run job, optionally with different arguments, waits until it has finished and returns
    the exit code of each task and their output.
  - Fails with the last line of the output when a task exits with a code that is not in O(accept).
  - The output is read from Cloud Logging, which requires C(roles/logging.viewer) and the API C(logging.googleapis.com).
    Without them the module shows a warning, and still returns the link to the log.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
attributes:
  check_mode:
    description: Executes nothing, and reports whether it would.
  diff_mode:
    description: There is no diff, because the module does not know what a job changes.
    support: none
  idempotent:
    description: Every run starts an execution, unless O(unless_service_runs) applies.
    support: partial
options:
  job:
    description:
      - Name of the job.
    type: str
    required: true
  region:
    description:
      - Region of the job, such as V(europe-west2).
    type: str
    required: true
  args:
    description:
      - Arguments that replace those of the job in this execution. Requires the permission C(run.jobs.runWithOverrides).
    type: list
    elements: str
    default: []
  timeout_seconds:
    description:
      - Maximum duration of this execution in seconds, instead of that of the job, 1 to 604800.
    type: int
  accept:
    description:
      - Exit codes that are not a failure.
    type: list
    elements: int
    default: [0]
  unless_service_runs:
    description:
      - Do not execute the job if a Cloud Run service in the same region already uses an image.
    type: dict
    suboptions:
      service:
        description:
          - Name of the service.
        type: str
        required: true
      image:
        description:
          - The image, exactly as in the service.
        type: str
        required: true
  timeout:
    description:
      - Seconds to wait until the execution has finished.
    type: int
    default: 3600
seealso:
  - module: mlops.mlflow_gcp.run_job
  - name: Execute jobs
    description: The API.
    link: https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/run
"""

EXAMPLES = r"""
- name: Permanently remove what was deleted more than 30 days ago
  mlops.mlflow_gcp.run_job_execution:
    project: my-project
    auth_kind: application
    job: mlflow-admin
    region: europe-west2
    args: [gc, --older-than, 30d]

- name: Compare the database schema with the one of an image before its rollout
  mlops.mlflow_gcp.run_job_execution:
    project: my-project
    auth_kind: application
    job: mlflow-admin
    region: europe-west2
    args: [schema]
    accept: [0, 3]
    unless_service_runs:
      service: mlflow
      image: europe-west2-docker.pkg.dev/my-project/mlflow/server:3.17.2
"""

RETURN = r"""
ran:
  description: Whether the job was executed.
  returned: always
  type: bool
  sample: true
execution:
  description: Resource name of the execution; empty without one.
  returned: always
  type: str
  sample: projects/my-project/locations/europe-west2/jobs/mlflow-admin/executions/mlflow-admin-x7k2p
exit_codes:
  description: The exit code of each task's last attempt; V(-1) if it did not exit by itself.
  returned: always
  type: list
  elements: int
  sample: [0]
output:
  description: Lines that the tasks wrote, in chronological order.
  returned: always
  type: list
  elements: str
  sample: ["mlflow-server: 12 runs deleted"]
log_uri:
  description: URL of the execution's log in the console; empty without an execution.
  returned: always
  type: str
  sample: https://console.cloud.google.com/logs/viewer?project=my-project
"""

import json
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudrun, operations, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run

LOGGING = "https://logging.googleapis.com/v2/entries:list"
# Seconds that lines may take to appear in Cloud Logging.
LOG_TIMEOUT = 20
NO_EXECUTION: dict[str, Any] = {"ran": False, "execution": "", "exit_codes": [], "output": [], "log_uri": ""}


def parent(task: Task) -> str:
    """The resource that contains the jobs and services of the region."""
    return f"{cloudrun.BASE}projects/{task.project}/locations/{task.params['region']}"


def already_deployed(task: Task) -> bool:
    """The service of option unless_service_runs uses the image."""
    wanted = task.params["unless_service_runs"]
    if not wanted:
        return False
    url = f"{parent(task)}/services/{wanted['service']}"
    service = task.read(f"Cloud Run service {wanted['service']}", lambda: task.client.find(url)) or {}
    return wanted["image"] in [container.get("image") for container in lookup(service, "template.containers") or ()]


def newest_execution(task: Task) -> dict[str, Any]:
    """
    Name and start of the job's newest execution, {} without one or without a job.
    https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs#executionreference
    """
    job = task.client.find(f"{parent(task)}/jobs/{task.params['job']}") or {}
    found = job.get("latestCreatedExecution") or {}
    return (
        {**found, "name": f"{job['name']}/executions/{found['name'].rpartition('/')[2]}"} if found.get("name") else {}
    )


def execute(task: Task, action: str) -> tuple[dict[str, Any], str, ApiError | None]:
    """
    Execute the job; the execution, its start time, and the error of its operation. Raises that error if there is no execution.
    https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/run
    """
    params, url = task.params, f"{parent(task)}/jobs/{task.params['job']}:run"
    overrides: dict[str, Any] = {}
    if params["args"]:
        overrides["containerOverrides"] = [{"args": params["args"]}]
    if params["timeout_seconds"]:
        overrides["timeout"] = f"{params['timeout_seconds']}s"
    newest = newest_execution(task)

    def find() -> dict[str, Any] | None:
        """The execution of a request without a response, in the form of an operation that has no name."""
        found = newest_execution(task)
        return {"metadata": found} if found.get("name") and found["name"] != newest.get("name") else None

    # Sent twice, the job would be executed twice.
    operation = task.client.post_once(url, {"overrides": overrides} if overrides else {}, find)
    execution, failure = operation.get("metadata") or {}, None
    try:
        if operations.is_operation(operation):
            operations.wait(task.client, operation, url, timeout=params["timeout"], action=action)
        else:
            operations.poll(
                lambda: task.client.get(cloudrun.BASE + execution["name"]),
                lambda body: bool(body.get("completionTime")),
                timeout=params["timeout"],
                action=action,
            )
    except ApiError as error:
        if not execution.get("name"):
            error.passing = False  # it cannot be known whether the job was executed
            raise
        failure = error
    url = cloudrun.BASE + execution["name"]
    found = task.client.find(url) if failure else task.client.get(url)
    if failure and not found:
        raise failure
    return {**execution, **(found or {})}, execution.get("createTime", ""), failure


def exit_code(task: dict[str, Any]) -> int:
    """
    The exit code of a task's last attempt, -1 if it did not exit by itself.
    https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs.executions.tasks#taskattemptresult
    """
    code = lookup(task, "lastAttemptResult.exitCode")
    succeeded = any(
        found.get("type") == "Completed" and found.get("state") == "CONDITION_SUCCEEDED"
        for found in task.get("conditions") or ()
    )
    return code or (0 if succeeded else -1)


def output(task: Task, execution: str, since: str) -> list[str]:
    """
    The lines that an execution wrote to stdout and stderr; [] and a warning when they cannot be read.
    https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list
    """
    conditions = [
        'resource.type="cloud_run_job"',
        f'resource.labels.job_name="{task.params["job"]}"',
        f'labels."run.googleapis.com/execution_name"="{execution.rpartition("/")[2]}"',
    ]
    query = {
        "resourceNames": [f"projects/{task.project}"],
        "orderBy": "timestamp asc",
        "pageSize": 1000,
        "filter": " AND ".join([*conditions, *([f'timestamp>="{since}"'] if since else [])]),
    }
    entries: list[dict[str, Any]] = []

    def read() -> list[dict[str, Any]]:
        entries.clear()
        page: dict[str, Any] = {"nextPageToken": ""}
        while "nextPageToken" in page:
            token = {"pageToken": page["nextPageToken"]} if page["nextPageToken"] else {}
            page = task.client.post(LOGGING, query | token, idempotent=True)
            entries.extend(page.get("entries") or ())
        return entries

    def is_complete(entries: list[dict[str, Any]]) -> bool:
        """Cloud Run's own last message follows the output of the container."""
        return any("Container called exit" in line(entry) for entry in entries)

    action = f"read the output of Cloud Run job {task.params['job']}"
    try:
        with task.client.action(action):
            operations.poll(read, is_complete, timeout=LOG_TIMEOUT, action=action)
    except operations.OperationTimeout:
        pass  # return the lines that have arrived
    except ApiError as error:
        task.warn(str(error))
    streams = ("%2Fstdout", "%2Fstderr")
    return [line(entry) for entry in entries if str(entry.get("logName")).endswith(streams)]


def line(entry: dict[str, Any]) -> str:
    """The text of a log entry."""
    payload = entry.get("jsonPayload")
    if payload is None:
        return str(entry.get("textPayload", ""))
    return str(payload["message"]) if "message" in payload else json.dumps(payload, sort_keys=True)


def run_job(task: Task) -> dict[str, Any]:
    """The work of the module."""
    params = task.params
    if already_deployed(task):
        return {"changed": False, **NO_EXECUTION}
    if task.check_mode:
        return {"changed": True, **NO_EXECUTION}
    action = f"run Cloud Run job {params['job']}" + (f" with {' '.join(params['args'])}" if params["args"] else "")
    with task.client.action(action):
        execution, since, error = operations.repeat(lambda: execute(task, action))
        name = execution["name"]
        tasks = sorted(
            task.client.items(f"{cloudrun.BASE}{name}/tasks", "tasks"), key=lambda entry: entry.get("index", 0)
        )
    codes = [exit_code(entry) for entry in tasks]
    result = {
        "ran": True,
        "execution": name,
        "exit_codes": codes,
        "output": output(task, name, since),
        "log_uri": execution.get("logUri", ""),
    }
    failed = [code for code in codes if code not in params["accept"]]
    if failed or not codes:
        # The container's last line is more informative than Cloud Run's message, which only counts tasks.
        lines = [text for text in result["output"] if text.strip()] if failed and failed[0] > 0 else []
        reason = f"exit code {failed[0]}: {lines[-1]}" if lines else error.message if error else "no task has finished"
        task.module.fail_json(msg=str(GcpError(f"Cannot {action}: {reason}. Log: {result['log_uri']}")), **result)
    return {"changed": True, **result}


def main() -> None:
    run(
        run_job,
        argument_spec={
            "job": {"type": "str", "required": True, "kind": values.RUN_NAME},
            "region": {"type": "str", "required": True, "kind": values.REGION},
            "args": {"type": "list", "elements": "str", "default": []},
            "timeout_seconds": {"type": "int", "kind": values.JOB_TIMEOUT},
            "accept": {"type": "list", "elements": "int", "default": [0]},
            "unless_service_runs": {
                "type": "dict",
                "options": {"service": {"type": "str", "required": True}, "image": {"type": "str", "required": True}},
            },
            "timeout": {"type": "int", "default": 3600},
        },
    )


if __name__ == "__main__":
    main()
