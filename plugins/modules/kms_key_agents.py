#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kms_key_agents
short_description: Let the service agents of APIs encrypt with a key of Cloud KMS
description:
  - An API encrypts with a customer's key as its service agent in the project. This module creates the service agents, and grants
    them the role C(roles/cloudkms.cryptoKeyEncrypterDecrypter) on the key. Nobody loses a role.
  - If the caller may not read the policy of the key, for example because it belongs to another team, the agents are assumed to have
    the role, with a warning.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
options:
  key:
    description:
      - The key, as V(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY). It can belong to another project.
    type: str
    required: true
  services:
    description:
      - Names of the APIs, such as V(sqladmin.googleapis.com). They must be enabled in the project.
    type: list
    elements: str
    required: true
seealso:
  - name: CMEK-integrated services
    description: Which APIs can encrypt with a key of Cloud KMS.
    link: https://cloud.google.com/kms/docs/compatible-services
  - name: Policies of keys
    description: The API.
    link: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/setIamPolicy
"""

EXAMPLES = r"""
- name: Let Cloud SQL and Secret Manager encrypt with the key of the security team
  mlops.mlflow_gcp.kms_key_agents:
    project: my-project
    auth_kind: application
    key: projects/security/locations/europe-west2/keyRings/mlflow/cryptoKeys/mlflow
    services:
      - sqladmin.googleapis.com
      - secretmanager.googleapis.com
"""

RETURN = r"""
agents:
  description: E-mail addresses of the service agents, in the order of O(services).
  returned: success
  type: list
  elements: str
  sample:
    - service-123456789012@gcp-sa-cloud-sql.iam.gserviceaccount.com
    - service-123456789012@gcp-sa-secretmanager.iam.gserviceaccount.com
resource:
  description: Binding of the role in the policy of the key; empty if the caller may not read it.
  returned: success
  type: dict
  sample:
    role: roles/cloudkms.cryptoKeyEncrypterDecrypter
    members:
      - serviceAccount:service-123456789012@gcp-sa-cloud-sql.iam.gserviceaccount.com
      - serviceAccount:service-123456789012@gcp-sa-secretmanager.iam.gserviceaccount.com
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import iam, service_agents, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import KEY_ROLE, ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run


def converge(task: Task) -> dict[str, Any]:
    """The work of the module."""
    agents = [service_agents.identity(task, service)["email"] for service in task.params["services"]]
    members = [f"serviceAccount:{email}" for email in agents]
    target = iam.policy_of(task, "kms_key", task.params["key"])
    change = iam.Change(KEY_ROLE, lambda current: list(dict.fromkeys([*current, *members])))
    try:
        before, after = iam.apply(task, target, change)
    except ApiError as error:
        if "cryptoKeys.setIamPolicy" in error.message:
            grant = f"have an administrator of the key grant {KEY_ROLE} to {', '.join(members)}"
            raise GcpError(f"{error}; or {grant}") from None
        if "cryptoKeys.getIamPolicy" not in error.message:
            raise
        task.warn(
            f"{', '.join(members)} are assumed to have {KEY_ROLE} on the key, because its policy cannot be read: {error.message}"
        )
        before = after = {}
    label = f"{KEY_ROLE} on key {task.params['key']}"
    return task.result(label=label, changed=before != after, before=before, after=after, resource=after, agents=agents)


def main() -> None:
    run(
        converge,
        argument_spec={
            "key": {"type": "str", "required": True, "no_log": False, "kind": values.KMS_KEY},
            "services": {"type": "list", "elements": "str", "required": True, "kind": values.API_NAMES},
        },
    )


if __name__ == "__main__":
    main()
