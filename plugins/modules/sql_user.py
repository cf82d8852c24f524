#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_user
short_description: Manage a PostgreSQL user of Cloud SQL whose password is in Secret Manager
description:
  - Creates or deletes a built-in user of a Cloud SQL instance. The module itself reads the password from the newest
    enabled version of a secret, so that it never passes through Ansible.
  - Google never tells a password. Which version of the secret a user got is therefore recorded in an annotation of the
    secret, and the password is set again when the user is new or a newer version is there.
  - C(google.cloud.gcp_sql_user) takes the password as an option and never compares it.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
options:
  instance:
    description:
      - Name of the instance.
    type: str
    required: true
  name:
    description:
      - Name of the user.
    type: str
    required: true
  password_secret:
    description:
      - The secret with the password, by name or V(projects/PROJECT/secrets/NAME); required for O(state=present).
    type: str
  timeout:
    description:
      - Seconds to wait for an operation.
    type: int
    default: 600
  state:
    description:
      - Whether the user exists.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: The server's user exists and has the password of the secret
  mlops.mlflow_gcp.sql_user:
    project: my-project
    auth_kind: application
    instance: mlflow
    name: mlflow
    password_secret: mlflow-db-password
"""

RETURN = r"""
secret_version:
  description: Number of the secret's version that the user's password is from.
  returned: success
  type: str
  sample: "1"
resource:
  description: The user as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow
    instance: mlflow
"""

import hashlib
from collections.abc import Callable
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import secretmanager
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.operations import sql_busy
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource


class User(Resource):
    """
    https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/users

    The body carries one key of our own, "secretVersion": the version that the password was set from.
    """

    kind = "Cloud SQL user"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        instance, self.name = self.params["instance"], self.params["name"]
        self.collection = f"https://sqladmin.googleapis.com/v1/projects/{task.project}/instances/{instance}/users"
        self.url = self.collection
        self.query = {"name": self.name, "host": ""}
        self.wanted = {"name": self.name, "instance": instance}
        secret = self.params["password_secret"]
        self.secret = secretmanager.secret_path(task.project, secret, "password_secret") if secret else None
        self.version: dict[str, Any] = {}
        # An annotation's key has at most 63 characters of a narrow alphabet.
        user = f"{task.project}/{instance}/{self.name}"
        self.annotation = f"sql-user-{hashlib.sha256(user.encode()).hexdigest()[:40]}"

    def validate(self) -> None:
        if self.params["state"] == "present" and not self.secret:
            raise InvalidInput("password_secret", self.params["password_secret"], "it is required for state=present")

    def read(self) -> dict[str, Any] | None:
        live = self.find()
        if self.params["state"] == "absent":
            return live
        annotations = self.read_secret()
        return live and {**live, "secretVersion": annotations.get(self.annotation, "")}

    def find(self) -> dict[str, Any] | None:
        """The user as Google has it, None without one."""
        try:
            return next(
                (user for user in self.client.items(self.collection, "items") if user["name"] == self.name), None
            )
        except ApiError as error:
            # No instance, no user; in check mode it may be still to be made.
            if error.status == 404 and (self.params["state"] == "absent" or self.task.check_mode):
                return None
            raise

    def read_secret(self) -> dict[str, str]:
        """The secret's annotations; keeps its newest version."""
        with self.client.attempt(f"read secret {self.secret}"):
            secret = self.client.get(secretmanager.BASE + self.secret, absent=self.task.check_mode)
            # In a first --check of a whole deployment the secret is still to be made.
            newest = secretmanager.newest_enabled(self.client, self.secret) if secret else None
        if newest is None and not self.task.check_mode:
            raise GcpError(
                f"Cannot set the password of {self.label}: secret {self.secret} has no enabled version; add "
                "one (module mlops.mlflow_gcp.secret_manager_secret)"
            )
        self.version = newest or {}
        self.wanted["secretVersion"] = str(secretmanager.version_number(newest)) if newest else "1"
        return (secret or {}).get("annotations") or {}

    def create(self) -> dict[str, Any]:
        return self.set_password(lambda body: self.client.post(self.collection, body, safe=True))

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        return self.set_password(lambda body: self.client.request("PUT", self.collection, body, params=self.query))

    def set_password(self, send: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """Sends the user with its password, waits, and records the version."""
        password = secretmanager.payload(self.client, self.version).decode()
        body = {"name": self.name, "instance": self.params["instance"], "password": password}
        answer = self.client.patiently(lambda: send(body), sql_busy, timeout=self.timeout, pause=3)
        self.wait(answer, self.collection, "set the password of")
        self.client.patiently(self.record, lambda error: error.reason in ("FAILED_PRECONDITION", "ABORTED"), timeout=60)
        return {**(self.find() or {}), "secretVersion": self.wanted["secretVersion"]}

    def record(self) -> None:
        """https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/patch"""
        with self.client.attempt(f"note on secret {self.secret} that {self.label} has its version"):
            url = secretmanager.BASE + self.secret
            secret = self.client.get(url) or {}
            annotations = {**(secret.get("annotations") or {}), self.annotation: self.wanted["secretVersion"]}
            body = {"annotations": annotations, "etag": secret.get("etag")}
            self.client.request("PATCH", url, body, params={"updateMask": "annotations"})

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        return self.client.patiently(
            lambda: self.client.request("DELETE", self.collection, params=self.query),
            sql_busy,
            timeout=self.timeout,
            pause=3,
        )

    def shown(self, live: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in live.items() if key != "secretVersion"}

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {"secret_version": live.get("secretVersion", "")}


def main() -> None:
    run(
        User.converge,
        argument_spec={
            "instance": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "password_secret": {"type": "str", "no_log": False},
            "timeout": {"type": "int", "default": 600},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["password_secret"])],
    )


if __name__ == "__main__":
    main()
