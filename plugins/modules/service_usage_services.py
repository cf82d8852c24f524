#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_usage_services
short_description: Enable Google Cloud APIs in a project
description:
  - Enables those of the given APIs that are not enabled yet, up to twenty per request.
  - Never disables an API, and does not change other APIs.
  - A newly enabled API may report for a few minutes that it is disabled. The module waits until the APIs that this
    collection calls no longer do so.
  - C(google.cloud.gcp_serviceusage_service) enables one API per task, has no check mode, and fails with a traceback
    when a finished operation has no response.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
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
      - Seconds to wait for each operation, and again until the APIs are available.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Enable the APIs that MLflow requires
  mlops.mlflow_gcp.service_usage_services:
    project: my-project
    auth_kind: application
    names:
      - compute.googleapis.com
      - run.googleapis.com
      - sqladmin.googleapis.com
"""

RETURN = r"""
enabled:
  description: The APIs that were enabled, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample:
    - run.googleapis.com
resource:
  description: State of each given API.
  returned: success
  type: dict
  sample:
    compute.googleapis.com: ENABLED
    run.googleapis.com: ENABLED
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.operations import poll, repeat, wait

# A read request for each API that this collection calls. While enabling an API is propagating, some of Google's servers
# still report it as disabled. Any other response, including an error, comes from the API itself.
READ_PATHS = {
    "artifactregistry": "v1/projects/{project}/locations?pageSize=1",
    "cloudresourcemanager": "v1/projects/{project}",
    "compute": "compute/v1/projects/{project}/global/networks?maxResults=1",
    "iam": "v1/projects/{project}/serviceAccounts?pageSize=1",
    "iap": "v1/projects/{project}/iap_web:iapSettings",
    "run": "v2/projects/{project}/locations/us-central1/services?pageSize=1",
    "secretmanager": "v1/projects/{project}/secrets?pageSize=1",
    "servicenetworking": "v1/services/servicenetworking.googleapis.com/connections?network=projects/{project}/global/networks/-",
    "sqladmin": "v1/projects/{project}/instances?maxResults=1",
    "storage": "storage/v1/b?project={project}&maxResults=1",
    "vpcaccess": "v1/projects/{project}/locations?pageSize=1",
}
# Google's limits per request.
READ_BATCH_SIZE = 30
ENABLE_BATCH_SIZE = 20


def batches(names: list[str], size: int) -> Iterator[list[str]]:
    """NAMES in lists of at most SIZE."""
    for start in range(0, len(names), size):
        yield names[start : start + size]


def states(task: Task, names: list[str]) -> dict[str, str]:
    """The state of each API, ENABLED or DISABLED; https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchGet"""
    found = dict.fromkeys(names, "DISABLED")
    parent = f"projects/{task.project}/services"
    with task.client.action(f"read the APIs of project {task.project}"):
        for batch in batches(names, READ_BATCH_SIZE):
            query = {"names": [f"{parent}/{name}" for name in batch]}
            response = task.client.get(f"https://serviceusage.googleapis.com/v1/{parent}:batchGet", params=query)
            for service in response.get("services") or ():
                found[service["name"].rpartition("/")[2]] = service.get("state", "DISABLED")
    return found


def enable_batch(task: Task, url: str, batch: list[str], action: str) -> dict[str, Any]:
    """The result of the operation that enables up to 20 APIs."""
    operation = task.client.post(url, {"serviceIds": batch}, idempotent=True)
    return wait(task.client, operation, url, timeout=task.params["timeout"], action=action)


def enable(task: Task, names: list[str]) -> None:
    """https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchEnable"""
    url = f"https://serviceusage.googleapis.com/v1/projects/{task.project}/services:batchEnable"
    for batch in batches(names, ENABLE_BATCH_SIZE):
        action = f"enable {', '.join(batch)} in project {task.project}"
        with task.client.action(action):
            result = repeat(partial(enable_batch, task, url, batch, action))
        failures = result.get("failures") or ()
        if failures:
            reasons = "; ".join(f"{failure.get('serviceId')}: {failure.get('errorMessage')}" for failure in failures)
            raise ApiError(action, 0, "", reasons)


def wait_until_available(task: Task, names: list[str]) -> None:
    """Wait until none of the APIs NAMES reports that it is disabled, twice in a row."""
    paths = {name: READ_PATHS[short] for name in names if (short := name.removesuffix(".googleapis.com")) in READ_PATHS}
    if not paths:
        return
    clean = 0

    def disabled() -> dict[str, str]:
        nonlocal clean
        found = {name: path for name, path in paths.items() if is_disabled(task, name, path)}
        clean = 0 if found else clean + 1
        return found

    poll(
        disabled,
        lambda _found: clean == 2,
        timeout=task.params["timeout"],
        action=f"wait for the newly enabled {', '.join(paths)} in project {task.project}",
    )


def is_disabled(task: Task, name: str, path: str) -> bool:
    """API NAME reports that it is disabled."""
    try:
        task.client.get(f"https://{name}/{path.format(project=task.project)}")
    except ApiError as error:
        return error.disabled
    return False


def converge(task: Task) -> dict[str, Any]:
    """The work of the module."""
    names = list(dict.fromkeys(task.params["names"]))
    before = states(task, names)
    missing = [name for name in names if before[name] != "ENABLED"]
    if not task.check_mode:
        enable(task, missing)
        wait_until_available(task, missing)
    after = {**before, **dict.fromkeys(missing, "ENABLED")}
    label = f"APIs of project {task.project}"
    return task.result(label=label, changed=bool(missing), before=before, after=after, resource=after, enabled=missing)


def main() -> None:
    run(
        converge,
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True, "kind": values.API_NAMES},
            "timeout": {"type": "int", "default": 600},
        },
    )


if __name__ == "__main__":
    main()
