#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_role_members
short_description: Grant a role on one Google Cloud resource
description:
  - Makes members hold, or no longer hold, a role on one resource, by changing that resource's IAM policy.
  - Every other binding stays as it is, conditional ones of the same role included; this module only speaks of the
    binding without a condition.
  - The policy is read and written with its etag. When somebody else writes it in between, or when a service account
    is so new that IAM does not know it yet, the module starts over for up to two minutes.
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
      - What kind of resource O(resource) is.
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
      - Name of the resource. A project's id, a secret's name or V(projects/PROJECT/secrets/NAME), a service account's
        e-mail address, the name of a Cloud Run service, bucket or backend service.
    type: str
    required: true
  region:
    description:
      - Region of the Cloud Run service; required for O(resource_type=run_service) and O(resource_type=iap_run_service).
    type: str
  role:
    description:
      - The role, such as V(roles/run.invoker) or V(projects/my-project/roles/custom).
    type: str
    required: true
  members:
    description:
      - Whom the role is granted to, each with its kind, such as V(user:jane@example.com), V(group:team@example.com),
        V(serviceAccount:app@my-project.iam.gserviceaccount.com), V(domain:example.com) or V(principalSet://…).
    type: list
    elements: str
    required: true
  exclusive:
    description:
      - Exactly O(members) hold the role; anyone else loses it. An empty list takes it from everyone.
    type: bool
    default: false
  state:
    description:
      - Whether O(members) hold the role.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Exactly these people may pass Identity-Aware Proxy
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

- name: The server reads its password
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
  description: Who holds the role without a condition, sorted.
  returned: success
  type: list
  elements: str
  sample:
    - user:jane@example.com
resource:
  description: The role's binding as it is in the policy.
  returned: success
  type: dict
  sample:
    role: roles/run.invoker
    members:
      - user:jane@example.com
"""

import re
from collections.abc import Callable

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import iam
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run

ROLE = re.compile(r"(roles|(projects|organizations)/[^/\s]+/roles)/[\w.]+")


def validate(params: dict) -> None:
    """Raise InvalidInput before the first call."""
    iam.check_members("members", params["members"])
    if not ROLE.fullmatch(params["role"]):
        raise InvalidInput("role", params["role"], "give roles/NAME or projects/PROJECT/roles/NAME")
    if params["resource_type"].endswith("run_service") and not re.fullmatch(
        r"[a-z]+-[a-z]+\d+", params["region"] or ""
    ):
        raise InvalidInput("region", params["region"], "give the Cloud Run service's region, such as europe-west2")
    if not params["resource"]:
        raise InvalidInput("resource", params["resource"], f"give the name of a {params['resource_type']}")
    if not params["members"] and not params["exclusive"]:
        raise InvalidInput("members", [], "give at least one, or exclusive=true to take the role from everyone")
    if params["exclusive"] and params["state"] == "absent":
        raise InvalidInput("exclusive", True, "it goes with state=present only")


def wish(params: dict) -> Callable[[list[str]], list[str]]:
    """From the members that hold the role to those that shall."""
    exactly = iam.exactly(params["members"])
    named = {iam.canonical(member) for member in params["members"]}

    def members(held: list[str]) -> list[str]:
        others = [member for member in held if iam.canonical(member) not in named]
        if params["state"] == "absent":
            return others
        return exactly(held) + ([] if params["exclusive"] else others)

    return members


def converge(task: Task) -> dict:
    params = task.params
    validate(params)
    target = iam.policy_of(task, params["resource_type"], params["resource"], params["region"])
    before, after = iam.change(task, target, params["role"], wish(params))
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
            "region": {"type": "str"},
            "role": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "str", "required": True},
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
