#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_usage_services
short_description: Enable Google Cloud APIs in a project
description:
  - Enables those of the named APIs that are not enabled yet, up to twenty in one request.
  - Never disables an API, nor touches one that is not named.
  - Just enabled, an API goes on to answer that it is not for up to some minutes. The module returns when those that
    this collection calls no longer do.
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
      - Seconds to wait for each request to be carried out, and again for the APIs to answer.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: The APIs that MLflow needs are enabled
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
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.operations import poll, wait

# A read of each API that this collection calls: as long as an API is not in place everywhere, some say that it is not
# enabled. Any other answer, a refusal as well, comes from the API itself.
READS = {
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
# Google's limits for one request.
READ_AT_ONCE = 30
ENABLE_AT_ONCE = 20


def batches(names: list[str], size: int) -> Iterator[list[str]]:
    """NAMES in lists of at most SIZE."""
    for start in range(0, len(names), size):
        yield names[start : start + size]


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


def settle(task: Task, names: list[str]) -> None:
    """Wait until all of Google knows that NAMES are enabled: twice in a row no API of them said otherwise."""
    reads = {name: READS[short] for name in names if (short := name.removesuffix(".googleapis.com")) in READS}
    if not reads:
        return
    clean = 0

    def disabled() -> dict[str, str]:
        nonlocal clean
        found = {name: read for name, read in reads.items() if refuses(task, name, read)}
        clean = 0 if found else clean + 1
        return found

    poll(
        disabled,
        lambda _found: clean == 2,
        timeout=task.params["timeout"],
        attempt=f"wait for {', '.join(reads)} to answer, just enabled in project {task.project},",
    )


def refuses(task: Task, name: str, read: str) -> bool:
    """API NAME says that it is not enabled."""
    try:
        task.client.get(f"https://{name}/{read.format(project=task.project)}")
    except ApiError as error:
        return error.disabled
    return False


def converge(task: Task) -> dict:
    names = list(dict.fromkeys(task.params["names"]))
    for name in names:
        if not re.fullmatch(r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)+", name):
            raise InvalidInput("names", name, "give an API's full name such as run.googleapis.com")
    before = states(task, names)
    missing = [name for name in names if before[name] != "ENABLED"]
    if not task.check_mode:
        enable(task, missing)
        settle(task, missing)
    after = {**before, **dict.fromkeys(missing, "ENABLED")}
    return task.result(changed=bool(missing), before=before, after=after, resource=after, enabled=missing)


def main() -> None:
    run(
        converge,
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "int", "default": 600},
        },
    )


if __name__ == "__main__":
    main()
