#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_job_execution
short_description: Run a Cloud Run job to its end
description:
  - Starts an execution of a Cloud Run job, with arguments of its own if given, waits for its end and tells with which status
    each task ended and what they wrote.
  - A task that ends with a status that is not in O(accept) ends the module with the last line that was written.
  - What was written is read from Cloud Logging, which needs C(roles/logging.viewer) and the API C(logging.googleapis.com).
    Without them a warning says so, and the link to the log is returned all the same.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
attributes:
  check_mode:
    description: Runs nothing, and says whether it would.
  diff_mode:
    description: There is nothing to show, what a job changes is not known here.
    support: none
  idempotent:
    description: Every run is an execution, unless O(unless_service_runs) holds.
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
      - Arguments in place of the job's, for this execution. This needs the permission C(run.jobs.runWithOverrides).
    type: list
    elements: str
    default: []
  timeout_seconds:
    description:
      - Longest duration of the execution in place of the job's, 1 to 604800 seconds.
    type: int
  accept:
    description:
      - Exit statuses that are no failure.
    type: list
    elements: int
    default: [0]
  unless_service_runs:
    description:
      - Run nothing when a Cloud Run service of the region has an image already.
    type: dict
    suboptions:
      service:
        description:
          - Name of the service.
        type: str
        required: true
      image:
        description:
          - The image, as the service names it.
        type: str
        required: true
  timeout:
    description:
      - Seconds to wait for the end of the execution.
    type: int
    default: 3600
seealso:
  - module: mlops.mlflow_gcp.run_job
  - name: Execute jobs
    description: The API.
    link: https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/run
"""

EXAMPLES = r"""
- name: What was deleted a month ago is removed for good
  mlops.mlflow_gcp.run_job_execution:
    project: my-project
    auth_kind: application
    job: mlflow-admin
    region: europe-west2
    args: [gc, --older-than, 30d]

- name: Ask an image that is to be rolled out about the schema of the database
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
  description: Whether there was an execution.
  returned: always
  type: bool
  sample: true
execution:
  description: Resource name of the execution; empty when there was none.
  returned: always
  type: str
  sample: projects/my-project/locations/europe-west2/jobs/mlflow-admin/executions/mlflow-admin-x7k2p
exit_codes:
  description: The exit status of each task's last attempt, V(-1) where it did not end by itself.
  returned: always
  type: list
  elements: int
  sample: [0]
output:
  description: What the tasks wrote, in the order of time.
  returned: always
  type: list
  elements: str
  sample: ["mlflow-server: 12 runs deleted"]
log_uri:
  description: Address of the execution's log in the console; empty when there was no execution.
  returned: always
  type: str
  sample: https://console.cloud.google.com/logs/viewer?project=my-project
"""

import json
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudrun, operations
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run

LOGGING = "https://logging.googleapis.com/v2/entries:list"
RANGES = {"timeout_seconds": (1, 604800)}
# Seconds for which lines may be on their way to Cloud Logging.
LOG_PATIENCE = 20
NOTHING: dict[str, Any] = {"ran": False, "execution": "", "exit_codes": [], "output": [], "log_uri": ""}


def parent(task: Task) -> str:
    """Where the jobs and services of the region are."""
    return f"{cloudrun.BASE}projects/{task.project}/locations/{task.params['region']}"


def served_already(task: Task) -> bool:
    """The service of option unless_service_runs has the image."""
    wanted = task.params["unless_service_runs"]
    if not wanted:
        return False
    url = f"{parent(task)}/services/{wanted['service']}"
    service = task.read(f"Cloud Run service {wanted['service']}", lambda: task.client.get(url, absent=True)) or {}
    return wanted["image"] in [container.get("image") for container in lookup(service, "template.containers") or ()]


def start(task: Task, what: str) -> tuple[str, str, ApiError | None]:
    """
    Runs the job to its end; the execution's resource name, its beginning, and the error that its operation ended with.
    https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/run
    """
    params, url = task.params, f"{parent(task)}/jobs/{task.params['job']}:run"
    overrides: dict[str, Any] = {}
    if params["args"]:
        overrides["containerOverrides"] = [{"args": params["args"]}]
    if params["timeout_seconds"]:
        overrides["timeout"] = f"{params['timeout_seconds']}s"
    # Sent twice it would run twice.
    operation = task.client.post(url, {"overrides": overrides} if overrides else {})
    begun = operation.get("metadata") or {}
    try:
        operations.wait(task.client, operation, url, timeout=params["timeout"], attempt=what)
    except ApiError as error:
        if not begun.get("name"):
            raise
        return begun["name"], begun.get("createTime", ""), error
    return begun["name"], begun.get("createTime", ""), None


def exit_code(task: dict[str, Any]) -> int:
    """
    The exit status of a task's last attempt, -1 where it did not end by itself.
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
    The lines that an execution has written to stdout and stderr, [] and a warning when they cannot be read.
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
    found: dict[str, list[dict[str, Any]]] = {}

    def read() -> dict[str, Any]:
        entries, page = [], {"nextPageToken": ""}
        while "nextPageToken" in page:
            token = {"pageToken": page["nextPageToken"]} if page["nextPageToken"] else {}
            page = task.client.post(LOGGING, query | token, safe=True)
            entries += page.get("entries") or []
        found["entries"] = entries
        return found

    try:
        with task.client.attempt("read what the job wrote"):
            # Cloud Run's own last word, which follows the container's.
            operations.poll(
                read,
                lambda body: any("Container called exit" in line(entry) for entry in body["entries"]),
                timeout=LOG_PATIENCE,
                attempt="read what the job wrote",
            )
    except operations.OperationTimeout:
        pass  # what is there by now
    except ApiError as error:
        task.warn(str(error))
    written = ("%2Fstdout", "%2Fstderr")
    return [line(entry) for entry in found.get("entries", ()) if str(entry.get("logName")).endswith(written)]


def line(entry: dict[str, Any]) -> str:
    """The text of a log entry."""
    payload = entry.get("jsonPayload")
    if payload is None:
        return str(entry.get("textPayload", ""))
    return str(payload["message"]) if "message" in payload else json.dumps(payload, sort_keys=True)


def execute(task: Task) -> dict[str, Any]:
    params = task.params
    cloudrun.check_place(params, "job")
    cloudrun.check_range(params, RANGES)
    if served_already(task):
        return {"changed": False, **NOTHING}
    if task.check_mode:
        return {"changed": True, **NOTHING}
    what = f"run Cloud Run job {params['job']}" + (f" with {' '.join(params['args'])}" if params["args"] else "")
    with task.client.attempt(what):
        name, since, error = start(task, what)
        execution = task.client.get(cloudrun.BASE + name) or {}
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
    wrong = [code for code in codes if code not in params["accept"]]
    if wrong or not codes:
        # The container's last word says more than Cloud Run's, which only counts.
        told = [text for text in result["output"] if text.strip()] if wrong and wrong[0] > 0 else []
        reason = f"exit status {wrong[0]}: {told[-1]}" if told else error.message if error else "no task has ended"
        task.module.fail_json(msg=str(GcpError(f"Cannot {what}: {reason}. Log: {result['log_uri']}")), **result)
    return {"changed": True, **result}


def main() -> None:
    run(
        execute,
        argument_spec={
            "job": {"type": "str", "required": True},
            "region": {"type": "str", "required": True},
            "args": {"type": "list", "elements": "str", "default": []},
            "timeout_seconds": {"type": "int"},
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
