#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_user
short_description: Manage a PostgreSQL user of Cloud SQL with a password from Secret Manager
description:
  - Creates or deletes a built-in user of a Cloud SQL instance. The module reads the password from the newest enabled
    version of a secret, so that Ansible variables never contain it.
  - Google does not return passwords. The module therefore records in an annotation of the secret which version it has set,
    and by which operation. It sets the password again when there is a newer version, when a later operation may have
    changed the password (a user of the instance was created, changed or deleted, or a backup was restored), and when
    Google no longer lists the recorded operation.
  - If somebody removes the annotation, as Terraform's provider before version 5 does with annotations that are not its own, the
    next run sets the same password again. Nothing else comes of it.
  - Google does not say which user an operation has changed, so the module also sets the password again after a change of
    another user of the instance. Connected clients do not notice.
  - A password that was changed inside the database, by C(ALTER ROLE), is not noticed.
  - The databaseRoles, passwordPolicy and type of a user are left unchanged.
  - C(google.cloud.gcp_sql_user) requires the password as an option and never compares it.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state
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
      - Secret with the password, as a name or V(projects/PROJECT/secrets/NAME); required for O(state=present).
    type: str
  timeout:
    description:
      - Seconds to wait for an operation.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Create the server's user with the password from the secret
  mlops.mlflow_gcp.sql_user:
    project: my-project
    auth_kind: application
    instance: mlflow
    name: mlflow
    password_secret: mlflow-db-password
"""

RETURN = r"""
secret_version:
  description: Number of the version of the secret that the user's password comes from.
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

from collections.abc import Callable
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudsql, secretmanager
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource


class User(Resource):
    """
    https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/users

    The body has two additional keys: "secretVersion", the version of the secret that the password comes from, and
    "passwordChange", the operation that may have changed the password since.
    """

    kind = "Cloud SQL user"
    internal = frozenset({"secretVersion", "passwordChange"})

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        instance, self.name = self.params["instance"], self.params["name"]
        self.collection = f"{cloudsql.instances_url(task.project)}/{instance}/users"
        self.url = self.collection
        self.query = {"name": self.name, "host": ""}
        self.wanted = {"name": self.name, "instance": instance}
        secret = self.params["password_secret"]
        self.secret = secretmanager.secret_path(task.project, secret, "password_secret") if secret else ""
        self.annotation = cloudsql.PasswordRecord.key(task.project, instance, self.name)

    def read(self) -> dict[str, Any] | None:
        live = self.find()
        if live is None or self.params["state"] == "absent":
            return live
        with self.client.action(f"read secret {self.secret}"):
            # In a first --check of a whole deployment, the secret has not been created yet.
            read = self.client.find if self.task.check_mode else self.client.get
            secret = read(secretmanager.BASE + self.secret) or {}
        record = cloudsql.PasswordRecord.of(secret, self.annotation)
        change = cloudsql.password_change(self.client, self.task.project, self.params["instance"], record)
        shown = "" if change is None else change or "unknown, the operation that set the password is no longer listed"
        return {**live, "secretVersion": record.version, "passwordChange": shown}

    def find(self) -> dict[str, Any] | None:
        """The user as Google returns it, None if it does not exist."""
        try:
            return next(
                (user for user in self.client.items(self.collection, "items") if user["name"] == self.name), None
            )
        except ApiError as error:
            # Without an instance there is no user; in check mode the instance may not have been created yet.
            if error.status == 404 and (self.params["state"] == "absent" or self.task.check_mode):
                return None
            raise

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        with self.client.action(f"read secret {self.secret}"):
            try:
                newest = secretmanager.newest_enabled(self.client, self.secret)
            except ApiError as error:
                if error.status != 404 or not self.task.check_mode:
                    raise
                newest = None
        if newest is None and not self.task.check_mode:
            raise GcpError(
                f"Cannot set the password of {self.label}: secret {self.secret} has no enabled version; add "
                "one (module mlops.mlflow_gcp.secret_manager_secret)"
            )
        version = str(secretmanager.version_number(newest)) if newest else "1"
        return {**self.wanted, "secretVersion": version, "passwordChange": ""}

    def create(self) -> dict[str, Any]:
        return self.set_password(lambda body: self.client.post(self.collection, body, idempotent=True))

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        return self.set_password(lambda body: self.client.request("PUT", self.collection, body, params=self.query))

    def set_password(self, send: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """Send the user with its password, wait, and record the version of the secret and the operation."""
        version = f"{self.secret}/versions/{self.wanted['secretVersion']}"
        password = secretmanager.payload(self.client, version).decode()
        body = {"name": self.name, "instance": self.params["instance"], "password": password}
        operation = cloudsql.retry_while_busy(self.client, lambda: send(body), self.timeout)
        self.wait(operation, self.collection, "set the password of")
        record = cloudsql.PasswordRecord(
            self.wanted["secretVersion"], str(operation.get("name")), str(operation.get("insertTime"))
        )
        self.client.retry(
            lambda: self.record(record),
            secretmanager.is_stale,
            timeout=60,
        )
        return {**(self.find() or {}), "secretVersion": record.version, "passwordChange": ""}

    def record(self, record: cloudsql.PasswordRecord) -> None:
        """https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/patch"""
        with self.client.action(f"record the password version of {self.label} in secret {self.secret}"):
            url = secretmanager.BASE + self.secret
            secret = self.client.get(url)
            before = secret.get("annotations") or {}
            if before.get(self.annotation) == str(record):
                return  # by a request whose response was lost
            annotations = {**before, self.annotation: str(record)}
            body = {"annotations": annotations, "etag": secret.get("etag")}
            self.client.request("PATCH", url, body, params={"updateMask": "annotations"})

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        return cloudsql.retry_while_busy(
            self.client, lambda: self.client.request("DELETE", self.collection, params=self.query), self.timeout
        )

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {"secret_version": self.task.known(live.get("secretVersion", ""))}


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
