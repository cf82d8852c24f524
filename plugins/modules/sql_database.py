#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_database
short_description: Create a database in a Cloud SQL for PostgreSQL instance
description:
  - Creates a database. It never changes or deletes one - PostgreSQL cannot change the character set and the collation of an
    existing database, and the deletion of a database cannot be undone.
  - M(google.cloud.gcp_sql_database) has no check mode, retries nothing, and patches an existing database whose character
    set differs in spelling only.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
options:
  instance:
    description:
      - Name of the instance.
    type: str
    required: true
  name:
    description:
      - Name of the database.
    type: str
    required: true
  charset:
    description:
      - Character set, in any case. Cannot be changed.
    type: str
    default: UTF8
  collation:
    description:
      - Collation, such as V(en_US.UTF8), which is Google's default. Cannot be changed.
    type: str
  timeout:
    description:
      - Seconds to wait for an operation.
    type: int
    default: 600
seealso:
  - name: Databases
    description: The API.
    link: https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/databases
"""

EXAMPLES = r"""
- name: Create the server's database
  mlops.mlflow_gcp.sql_database:
    project: my-project
    auth_kind: application
    instance: mlflow
    name: mlflow
"""

RETURN = r"""
resource:
  description: The database as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow
    instance: mlflow
    charset: UTF8
    collation: en_US.UTF8
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudsql
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.immutable import DATABASE
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource


class Database(Resource):
    """https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/databases"""

    kind = DATABASE.name
    rules = Rules(same=DATABASE.same)
    immutable = DATABASE.fields

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        instance, self.name = self.params["instance"], self.params["name"]
        self.collection = f"{cloudsql.instances_url(task.project)}/{instance}/databases"
        self.url = f"{self.collection}/{self.name}"
        self.wanted = {
            "name": self.name,
            "instance": instance,
            "charset": self.params["charset"],
            "collation": self.params["collation"],
        }

    def create(self) -> dict[str, Any]:
        try:
            return cloudsql.retry_while_busy(self.client, super().create, self.timeout)
        except ApiError as error:
            # The response to an earlier attempt was lost, or another run has just created it. Google's status is 400, and its
            # words are PostgreSQL's: "already exists", or, at the same moment, "duplicate key value violates unique constraint".
            live = self.read() if error.status == 400 else None
            if live is None or self.differences(live):
                raise
            return live


def main() -> None:
    run(
        Database.converge,
        argument_spec={
            "instance": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "charset": {"type": "str", "default": "UTF8"},
            "collation": {"type": "str"},
            "timeout": {"type": "int", "default": 600},
        },
    )


if __name__ == "__main__":
    main()
