#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_service_account
short_description: Manage a service account
description:
  - Creates or deletes a service account, sets its display name and description, and enables it if somebody has disabled it.
  - An account is never deleted in order to be changed. Its keys and its IAM policy are left unchanged.
  - After an account has been deleted, an account of the same name is a new one, with another unique ID, and has none of the
    roles of the old one. To get the old one back, undelete it within 30 days before you run this module; this requires its
    unique ID (21 digits), which C(gcloud logging read) and the members C(deleted:serviceAccount:…?uid=…) of IAM policies show.
  - C(google.cloud.gcp_iam_service_account) does not notice a disabled account or another display name, has no description
    and no check mode, and retries nothing.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state
options:
  name:
    description:
      - ID of the account, the part of its e-mail address before the C(@).
    type: str
    required: true
  display_name:
    description:
      - Display name, at most 100 bytes. Without this option it is left unchanged.
    type: str
  description:
    description:
      - Description, at most 256 bytes. Without this option it is left unchanged.
    type: str
seealso:
  - name: Service accounts
    description: The API.
    link: https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts
  - name: Undelete a service account
    description: How to restore a deleted account.
    link: https://cloud.google.com/iam/docs/service-accounts-delete-undelete
"""

EXAMPLES = r"""
- name: Create the server's service account
  mlops.mlflow_gcp.iam_service_account:
    project: my-project
    auth_kind: application
    name: mlflow-server
    display_name: MLflow server
  register: server
"""

RETURN = r"""
email:
  description: E-mail address of the account.
  returned: success
  type: str
  sample: mlflow-server@my-project.iam.gserviceaccount.com
member:
  description: The account as a member of IAM policies.
  returned: success
  type: str
  sample: serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com
unique_id:
  description: Unique ID of the account; empty if check mode would create it.
  returned: success
  type: str
  sample: "103456789012345678901"
resource:
  description: The account as Google returns it.
  returned: success
  type: dict
  sample:
    name: projects/my-project/serviceAccounts/mlflow-server@my-project.iam.gserviceaccount.com
    email: mlflow-server@my-project.iam.gserviceaccount.com
    displayName: MLflow server
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import iam, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.operations import OperationTimeout
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

# Option, field of the API, bytes at most.
TEXTS = (("display_name", "displayName", 100), ("description", "description", 256))


class ServiceAccount(Resource):
    """https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts"""

    kind = "service account"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.name = self.email = values.service_account_email(self.params["name"], task.project)
        self.url = iam.account_url(self.email, task.project)
        self.collection = self.url.rpartition("/")[0]
        self.texts = {field: self.params[option] for option, field, _most in TEXTS if self.params[option] is not None}
        # Enabled accounts do not have the field.
        self.wanted = {**self.texts, "disabled": False}

    def validate(self) -> None:
        for option, _field, most in TEXTS:
            size = len((self.params[option] or "").encode())
            if size > most:
                raise InvalidInput(option, f"{size} bytes", f"give at most {most} bytes")

    def create(self) -> dict[str, Any]:
        body = {"accountId": self.params["name"], "serviceAccount": self.texts}
        try:
            return self.client.post(self.collection, body, idempotent=True)
        except ApiError as error:
            if error.status != 409 or error.retried:
                raise
            # Another run has created it in the meantime.
            if (live := self.read()) is None:
                raise GcpError(
                    f"{error} Google reserves the name but shows no such account. If it was deleted less than 30 days "
                    f"ago, restore it: gcloud beta iam service-accounts undelete UNIQUE_ID"
                ) from None
            changes = self.differences(live)
            return self.update(live, changes) if changes else live

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        if fields := [field for field in self.texts if field in changes]:
            # The response contains only the name and these fields.
            body = {"serviceAccount": {field: self.texts[field] for field in fields}, "updateMask": ",".join(fields)}
            self.client.request("PATCH", self.url, body)
        if "disabled" in changes:
            self.client.post(f"{self.url}:enable", {}, idempotent=True)
        return self.enabled() if "disabled" in changes else self.read() or {}

    def enabled(self) -> dict[str, Any]:
        """The live body once it is enabled; raises GcpError if Google does not enable it within a minute."""
        self.timeout = 60
        try:
            return self.poll(lambda body: not body.get("disabled"), "wait for the enabling")
        except OperationTimeout:
            raise GcpError(
                f"Cannot enable {self.label}: it is still disabled. Google may have disabled it itself, for example because "
                "a key was published; then only Google's support can enable it"
            ) from None

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {
            "email": self.email,
            "member": f"serviceAccount:{self.email}",
            "unique_id": live.get("uniqueId", ""),
        }


def main() -> None:
    run(
        ServiceAccount.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.ACCOUNT_ID},
            "display_name": {"type": "str"},
            "description": {"type": "str"},
            **STATE_OPTION,
        },
    )


if __name__ == "__main__":
    main()
