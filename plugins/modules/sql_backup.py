#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_backup
short_description: Back up a Cloud SQL instance now
description:
  - Takes an on-demand backup of a Cloud SQL instance and waits for it. Such a backup is kept until it is deleted, or the
    instance is; it does not count among the daily ones.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
attributes:
  check_mode:
    description: Takes no backup.
  idempotent:
    description: Every run is another backup.
    support: none
options:
  instance:
    description:
      - Name of the instance.
    type: str
    required: true
  description:
    description:
      - What the backup is for, as lists of backups show it.
    type: str
  timeout:
    description:
      - Seconds to wait for the backup, and for an operation that holds the instance.
    type: int
    default: 3600
seealso:
  - name: Create and manage on-demand and automatic backups
    description: How to restore one, among others.
    link: https://cloud.google.com/sql/docs/postgres/backup-recovery/backing-up
"""

EXAMPLES = r"""
- name: The database can be brought back to now
  mlops.mlflow_gcp.sql_backup:
    project: my-project
    auth_kind: application
    instance: mlflow
    description: Before the upgrade to 3.17.2
  register: backup
"""

RETURN = r"""
id:
  description: The backup's id, by which it is restored; empty in check mode.
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

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import operations
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import declared, lookup
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run


def back_up(task: Task) -> dict[str, Any]:
    """https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/backupRuns"""
    params, client = task.params, task.client
    url = f"https://sqladmin.googleapis.com/v1/projects/{task.project}/instances/{params['instance']}/backupRuns"
    body = declared({"description": params["description"]})
    what = f"back up Cloud SQL instance {params['instance']}"
    if task.check_mode:
        return task.result(changed=True, before={}, after=body, id="", resource={})
    with client.attempt(what):
        operation = client.patiently(
            lambda: client.post(url, body), operations.sql_busy, timeout=params["timeout"], pause=3
        )
        done = operations.wait(client, operation, url, timeout=params["timeout"], attempt=what)
        number = str(lookup(done, "backupContext.backupId"))
        backup = client.get(f"{url}/{number}") or {}
    return task.result(changed=True, before={}, after=backup, id=number, resource=backup)


def main() -> None:
    run(
        back_up,
        argument_spec={
            "instance": {"type": "str", "required": True},
            "description": {"type": "str"},
            "timeout": {"type": "int", "default": 3600},
        },
    )


if __name__ == "__main__":
    main()
