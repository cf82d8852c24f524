#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_backup
short_description: Create an on-demand backup of a Cloud SQL instance
description:
  - Creates an on-demand backup of a Cloud SQL instance and waits until it has finished. It is kept until the backup or
    the instance is deleted, and does not count towards the number of daily backups.
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
    description: Creates no backup.
  idempotent:
    description: Every run creates a backup, unless there is one that O(max_age) allows.
    support: partial
options:
  instance:
    description:
      - Name of the instance. One that has another name because this one was reserved is found too
        (O(mlops.mlflow_gcp.sql_instance#module:if_reserved)).
    type: str
    required: true
  description:
    description:
      - Description that is shown in lists of backups.
    type: str
  max_age:
    description:
      - Seconds. If an on-demand backup with the same O(description) has succeeded and has begun no longer ago, it is returned
        and none is created, so that a play that was interrupted after its backup makes no second one when it is repeated.
      - V(0) always creates one.
    type: int
    default: 0
  timeout:
    description:
      - Seconds to wait for the backup, and for another operation on the instance to finish.
    type: int
    default: 3600
seealso:
  - name: Create and manage on-demand and automatic backups
    description: Includes how to restore a backup.
    link: https://cloud.google.com/sql/docs/postgres/backup-recovery/backing-up
"""

EXAMPLES = r"""
- name: Back up the database before the upgrade
  mlops.mlflow_gcp.sql_backup:
    project: my-project
    auth_kind: application
    instance: mlflow
    description: Before the upgrade to 3.17.2
  register: backup
"""

RETURN = r"""
id:
  description: ID of the backup, for restoring it; empty in check mode.
  returned: success
  type: str
  sample: "1764400000000"
resource:
  description: The backup as Google returns it; empty in check mode.
  returned: success
  type: dict
  sample:
    id: "1764400000000"
    instance: mlflow
    status: SUCCESSFUL
    type: ON_DEMAND
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudsql, operations, times
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import declared, lookup
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run

# How the client names a caller whose address it does not know.
ANYBODY = "the caller"


def started(task: Task) -> list[dict[str, Any]]:
    """
    The newest backups of the instance, as operations: a backup itself is listed only when it begins.
    https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/operations/list
    """
    url = f"https://sqladmin.googleapis.com/v1/projects/{task.project}/operations"
    found = task.client.get(url, params={"instance": task.params["instance"], "maxResults": 100}).get("items") or ()
    return [entry for entry in found if entry.get("operationType") == "BACKUP_VOLUME"]


def recent(task: Task, url: str) -> str:
    """
    ID of the newest backup that option max_age allows, "" without one.
    https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/backupRuns/list
    """
    params = task.params
    if not params["max_age"]:
        return ""
    for entry in task.client.items(url, "items"):
        wanted = (entry.get("type"), entry.get("status"), entry.get("description")) == (
            "ON_DEMAND",
            "SUCCESSFUL",
            params["description"],
        )
        if wanted and entry.get("startTime"):
            age = times.now() - times.moment(entry["startTime"])
            if age.total_seconds() <= params["max_age"]:
                return str(entry["id"])
    return ""


def backed_up(task: Task, url: str, body: dict[str, Any], action: str) -> tuple[bool, str]:
    """Whether a backup was made, and its ID."""
    client, timeout = task.client, task.params["timeout"]
    before = {entry["name"] for entry in started(task)}

    def find() -> dict[str, Any] | None:
        """The operation of a request without a response; others of the same moment are somebody else's."""
        new = (entry for entry in started(task) if entry["name"] not in before)
        return next((entry for entry in new if client.principal in (entry.get("user"), ANYBODY)), None)

    def found_or_begun() -> str | dict[str, Any]:
        """The ID of a recent backup, which may be what the instance was busy with; otherwise the operation of a new one."""
        return recent(task, url) or client.post_once(url, body, find)

    running = cloudsql.retry_while_busy(client, found_or_begun, timeout)
    if isinstance(running, str):
        return False, running
    done = operations.wait(client, running, url, timeout=timeout, action=action)
    return True, str(lookup(done, "backupContext.backupId"))


def back_up(task: Task) -> dict[str, Any]:
    """Back up the instance, or the one that has another name because this one was reserved."""
    try:
        return back_up_instance(task)
    except ApiError as error:
        if error.status != 404:
            raise
        other = cloudsql.replacement(task.client, task.project, task.params["instance"])
        if other is None:
            raise
    task.params["instance"] = other["name"]
    return back_up_instance(task)


def back_up_instance(task: Task) -> dict[str, Any]:
    """https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/backupRuns"""
    params, client = task.params, task.client
    url = f"{cloudsql.instances_url(task.project)}/{params['instance']}/backupRuns"
    body = declared({"description": params["description"]})
    label = f"backup of Cloud SQL instance {params['instance']}"
    action = f"back up Cloud SQL instance {params['instance']}"
    if task.check_mode:
        return task.result(label=label, changed=True, before={}, after=body, id="", resource={})
    with client.action(action):
        made, backup_id = operations.repeat(lambda: backed_up(task, url, body, action))
        backup = client.get(f"{url}/{backup_id}")
    before = {} if made else backup
    return task.result(label=label, changed=made, before=before, after=backup, id=backup_id, resource=backup)


def main() -> None:
    run(
        back_up,
        argument_spec={
            "instance": {"type": "str", "required": True},
            "description": {"type": "str"},
            "max_age": {"type": "int", "default": 0},
            "timeout": {"type": "int", "default": 3600},
        },
    )


if __name__ == "__main__":
    main()
