#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: project_services
short_description: Enable Google Cloud APIs in a project
description:
  - Enables those of the named APIs that are not enabled yet, up to twenty in one request.
  - Never disables an API, nor touches one that is not named.
  - C(google.cloud.gcp_serviceusage_service) enables one API a task, has no check mode, and stops with a traceback
    where a finished operation has no response.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
options:
  names:
    description:
      - Names of the APIs, such as V(run.googleapis.com).
    type: list
    elements: str
    required: true
  timeout:
    description:
      - Seconds to wait for each request to be carried out.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: The APIs that MLflow needs are enabled
  mlops.mlflow_gcp.project_services:
    project: my-project
    auth_kind: application
    names:
      - compute.googleapis.com
      - run.googleapis.com
      - sqladmin.googleapis.com
"""

RETURN = r"""
enabled:
  description: The APIs that this run has enabled, or would have in check mode.
  returned: success
  type: list
  elements: str
  sample:
    - run.googleapis.com
resource:
  description: State of each named API.
  returned: success
  type: dict
  sample:
    compute.googleapis.com: ENABLED
    run.googleapis.com: ENABLED
"""

import re
from collections.abc import Iterator

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.operations import wait

# Google's limits for one request.
READ_AT_ONCE, ENABLE_AT_ONCE = 30, 20


def batches(names: list[str], size: int) -> Iterator[list[str]]:
    """NAMES in lists of at most SIZE."""
    for start in range(0, len(names), size):
        yield names[start:start + size]


def states(task: Task, names: list[str]) -> dict[str, str]:
    """ENABLED or DISABLED of each API; https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchGet"""
    found = dict.fromkeys(names, "DISABLED")
    parent = f"projects/{task.project}/services"
    with task.client.attempt(f"read the APIs of project {task.project}"):
        for batch in batches(names, READ_AT_ONCE):
            query = {"names": [f"{parent}/{name}" for name in batch]}
            answer = task.client.get(f"https://serviceusage.googleapis.com/v1/{parent}:batchGet", params=query) or {}
            for service in answer.get("services") or ():
                found[service["name"].rpartition("/")[2]] = service.get("state", "DISABLED")
    return found


def enable(task: Task, names: list[str]) -> None:
    """https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchEnable"""
    url = f"https://serviceusage.googleapis.com/v1/projects/{task.project}/services:batchEnable"
    for batch in batches(names, ENABLE_AT_ONCE):
        attempt = f"enable {', '.join(batch)} in project {task.project}"
        with task.client.attempt(attempt):
            operation = task.client.post(url, {"serviceIds": batch}, safe=True)
            answer = wait(task.client, operation, url, timeout=task.params["timeout"], attempt=attempt)
        failures = answer.get("failures") or ()
        if failures:
            reasons = "; ".join(f"{failure.get('serviceId')}: {failure.get('errorMessage')}" for failure in failures)
            raise ApiError(attempt, 0, "", reasons)


def converge(task: Task) -> dict:
    names = list(dict.fromkeys(task.params["names"]))
    for name in names:
        if not re.fullmatch(r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)+", name):
            raise InvalidInput("names", name, "give an API's full name such as run.googleapis.com")
    before = states(task, names)
    missing = [name for name in names if before[name] != "ENABLED"]
    if not task.check_mode:
        enable(task, missing)
    after = {**before, **dict.fromkeys(missing, "ENABLED")}
    return task.result(changed=bool(missing), before=before, after=after, resource=after, enabled=missing)


def main() -> None:
    run(converge, argument_spec={
        "names": {"type": "list", "elements": "str", "required": True},
        "timeout": {"type": "int", "default": 600},
    })


if __name__ == "__main__":
    main()
