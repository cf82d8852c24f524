#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_role_members
short_description: Manage the members of a role on a Google Cloud resource
description:
  - Grants a role on one resource to members, or revokes it, by updating the IAM policy of the resource.
  - Manages only the binding without a condition. All other bindings, including conditional bindings of the same role, are
    left unchanged.
  - The policy is read and written with its etag. After a concurrent change, or when a new service account has not
    propagated to IAM yet, the module starts over for up to two minutes.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
options:
  resource_type:
    description:
      - Type of O(resource).
    type: str
    required: true
    choices:
      - bucket
      - iap_backend_service
      - iap_run_service
      - project
      - run_service
      - secret
      - service_account
  resource:
    description:
      - Name of the resource, that is the ID of a project, the name of a secret or V(projects/PROJECT/secrets/NAME), the
        e-mail address of a service account, or the name of a Cloud Run service, bucket or backend service.
    type: str
    required: true
  region:
    description:
      - Region of the Cloud Run service; required for O(resource_type=run_service) and O(resource_type=iap_run_service).
    type: str
  role:
    description:
      - Name of the role, such as V(roles/run.invoker) or V(projects/my-project/roles/custom).
    type: str
    required: true
  members:
    description:
      - Members with their type, such as V(user:jane@example.com), V(group:team@example.com),
        V(serviceAccount:app@my-project.iam.gserviceaccount.com), V(domain:example.com) or V(principalSet://…).
    type: list
    elements: str
    required: true
  exclusive:
    description:
      - Revoke the role from all members that are not in O(members). With an empty list nobody has the role.
    type: bool
    default: false
  state:
    description:
      - Whether O(members) have the role.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Allow only these users to pass Identity-Aware Proxy
  mlops.mlflow_gcp.iam_role_members:
    project: my-project
    auth_kind: application
    resource_type: iap_backend_service
    resource: mlflow-backend
    role: roles/iap.httpsResourceAccessor
    exclusive: true
    members:
      - user:jane@example.com
      - group:data-science@example.com

- name: Allow the server to read its password
  mlops.mlflow_gcp.iam_role_members:
    project: my-project
    auth_kind: application
    resource_type: secret
    resource: mlflow-db-password
    role: roles/secretmanager.secretAccessor
    members:
      - serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com
"""

RETURN = r"""
members:
  description: All members that have the role without a condition, sorted.
  returned: success
  type: list
  elements: str
  sample:
    - user:jane@example.com
resource:
  description: Binding of the role in the policy.
  returned: success
  type: dict
  sample:
    role: roles/run.invoker
    members:
      - user:jane@example.com
"""

import re
from collections.abc import Callable
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import iam, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run

ROLE = re.compile(r"(roles|(projects|organizations)/[^/\s]+/roles)/[\w.]+")


def validate(params: dict[str, Any]) -> None:
    """Raise InvalidInput for invalid options."""
    if not ROLE.fullmatch(params["role"]):
        raise InvalidInput("role", params["role"], "give roles/NAME or projects/PROJECT/roles/NAME")
    if not params["members"] and not params["exclusive"]:
        raise InvalidInput("members", [], "give at least one, or exclusive=true to revoke the role from everyone")
    if params["exclusive"] and params["state"] == "absent":
        raise InvalidInput("exclusive", True, "it requires state=present")


def desired(params: dict[str, Any]) -> Callable[[list[str]], list[str]]:
    """A function from the current to the desired members of the role."""
    exactly = iam.exactly(params["members"])
    named = {iam.canonical(member) for member in params["members"]}

    def members(current: list[str]) -> list[str]:
        others = [member for member in current if iam.canonical(member) not in named]
        if params["state"] == "absent":
            return others
        return exactly(current) + ([] if params["exclusive"] else others)

    return members


def converge(task: Task) -> dict[str, Any]:
    """The work of the module."""
    params = task.params
    validate(params)
    target = iam.policy_of(task, params["resource_type"], params["resource"], params["region"])
    before, after = iam.change(task, target, params["role"], desired(params))
    binding = {"role": params["role"], "members": after}
    return task.result(
        changed=before != after,
        before={"role": params["role"], "members": before},
        after=binding,
        resource=binding,
        members=after,
    )


def main() -> None:
    run(
        converge,
        argument_spec={
            "resource_type": {"type": "str", "required": True, "choices": list(iam.RESOURCE_TYPES)},
            "resource": {"type": "str", "required": True},
            "region": {"type": "str", "kind": values.REGION},
            "role": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "str", "required": True, "kind": values.ANY_MEMBERS},
            "exclusive": {"type": "bool", "default": False},
            **STATE_OPTION,
        },
        required_if=[
            ("resource_type", "run_service", ["region"]),
            ("resource_type", "iap_run_service", ["region"]),
        ],
    )


if __name__ == "__main__":
    main()
