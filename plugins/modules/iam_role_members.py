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
  - With O(exclusive), nobody else has the role on this resource, also not under a condition, and C(allUsers) and
    C(allAuthenticatedUsers) have no role at all on it. Other roles of named members, their conditions and the audit
    configuration are left unchanged; so is what is granted on the project, its folders or its organization.
  - Without O(exclusive), only the binding without a condition is managed.
  - The policy is read and written with its etag. After a concurrent change, or when a new service account has not
    propagated to IAM yet, the module starts over for up to two minutes.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
options:
  resource_type:
    description:
      - Type of O(resource).
    type: str
    required: true
    choices:
      - artifact_registry_repository
      - bucket
      - ca_pool
      - iap_backend_service
      - iap_run_service
      - kms_key
      - project
      - run_service
      - secret
      - service_account
  resource:
    description:
      - Name of the resource, that is the ID of a project, the name of a secret or V(projects/PROJECT/secrets/NAME), the
        e-mail address of a service account, the path of a key of Cloud KMS,
        V(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY), that of a CA pool,
        V(projects/PROJECT/locations/LOCATION/caPools/POOL), or the name of a Cloud Run service, repository, bucket or
        backend service.
    type: str
    required: true
  region:
    description:
      - Region of the Cloud Run service or location of the repository; required for O(resource_type=run_service),
        O(resource_type=iap_run_service) and O(resource_type=artifact_registry_repository).
      - With O(resource_type=iap_backend_service), the region of a regional backend service.
    type: str
  role:
    description:
      - Name of the role, such as V(roles/run.invoker) or V(projects/my-project/roles/custom).
    type: str
    required: true
  members:
    description:
      - Members with their type, such as V(user:jane@example.com), V(group:team@example.com),
        V(serviceAccount:app@my-project.iam.gserviceaccount.com), V(domain:example.com) or V(principalSet://…). All
        members of U(https://cloud.google.com/iam/docs/principal-identifiers#allow) are accepted.
      - E-mail addresses and domains are compared and sent in lower case, as Google stores them.
    type: list
    elements: str
    required: true
  exclusive:
    description:
      - Revoke the role from all members that are not in O(members), including deleted ones and those with a condition, and
        every role of the resource from C(allUsers) and C(allAuthenticatedUsers). With an empty list nobody has the role.
    type: bool
    default: false
  on_conditional:
    description:
      - What to do with O(exclusive) if somebody has the role under a condition. V(remove) revokes it, V(refuse) fails
        before anything is written, and names the members and the condition.
    type: str
    choices: [remove, refuse]
    default: remove
  allow_nobody:
    description:
      - Whether the last members may lose the role. Otherwise, the module fails before anything is written, and names who
        would lose it.
    type: bool
    default: true
  own_members:
    description:
      - Those of O(members) who always have the role, such as an application's own service account, and do not count for
        O(allow_nobody=false).
    type: list
    elements: str
    default: []
  state:
    description:
      - Whether O(members) have the role.
      - V(absent) also revokes it from deleted accounts with these names.
      - V(checked) changes nothing and fails where V(present) with O(exclusive) would refuse the change. A resource that
        does not exist has no members yet. Use it to find this out before other resources are changed.
    type: str
    choices: [present, absent, checked]
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

- name: Stop if nobody would be left, for example because a question was left unanswered
  mlops.mlflow_gcp.iam_role_members:
    project: my-project
    auth_kind: application
    resource_type: iap_backend_service
    resource: mlflow-backend
    role: roles/iap.httpsResourceAccessor
    exclusive: true
    members: "{{ users }}"
    allow_nobody: false
    on_conditional: refuse
    state: checked

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
  description:
    - Binding of the role in the policy.
    - With O(state=checked) also C(conditional), the bindings of the role with a condition, and C(public), the bindings
      of other roles to everybody, if there are any.
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
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run

ROLE = re.compile(r"(roles|(projects|organizations)/[^/\s]+/roles)/[\w.]+")


def validate(params: dict[str, Any]) -> None:
    """Raise InvalidInput for invalid options."""
    if not ROLE.fullmatch(params["role"]):
        raise InvalidInput("role", params["role"], "give roles/NAME or projects/PROJECT/roles/NAME")
    if not params["members"] and not params["exclusive"]:
        raise InvalidInput("members", [], "give at least one, or exclusive=true to revoke the role from everyone")
    if params["exclusive"] and params["state"] == "absent":
        raise InvalidInput("exclusive", True, "it requires state=present")
    if not params["exclusive"]:
        if params["state"] == "checked":
            raise InvalidInput("state", "checked", "it requires exclusive=true")
        if params["on_conditional"] == "refuse":
            raise InvalidInput("on_conditional", "refuse", "it requires exclusive=true")
        if not params["allow_nobody"] and params["state"] == "present":
            raise InvalidInput("allow_nobody", False, "it requires exclusive=true or state=absent")


def desired(params: dict[str, Any]) -> Callable[[list[str]], list[str]]:
    """A function from the current to the desired members of the role."""
    exactly = iam.exactly(params["members"])
    named = {iam.canonical(member) for member in params["members"]}

    def members(current: list[str]) -> list[str]:
        others = [member for member in current if iam.canonical(member) not in named]
        if params["state"] == "absent":
            return [member for member in others if iam.before_deletion(member) not in named]
        return exactly(current) + ([] if params["exclusive"] else others)

    return members


def converge(task: Task) -> dict[str, Any]:
    """The work of the module."""
    params = task.params
    validate(params)
    change = iam.Change(
        params["role"],
        desired(params),
        exclusive=params["exclusive"],
        on_conditional=params["on_conditional"],
        allow_nobody=params["allow_nobody"],
        own=tuple(params["own_members"]),
    )

    def target() -> iam.PolicyTarget:
        return iam.policy_of(task, params["resource_type"], params["resource"], params["region"])

    if params["state"] == "checked":
        try:
            before = after = iam.check(task, target(), change)
        except ApiError as error:
            if not error.disabled:
                raise
            before = after = iam.access({}, change.role)
    else:
        before, after = iam.apply(task, target(), change)
    label = f"{params['role']} on {iam.label_of(params['resource_type'], params['resource'])}"
    return task.result(
        label=label, changed=before != after, before=before, after=after, resource=after, members=after["members"]
    )


def main() -> None:
    run(
        converge,
        argument_spec={
            "resource_type": {"type": "str", "required": True, "choices": list(iam.RESOURCE_TYPES)},
            "resource": {"type": "str", "required": True},
            "region": {"type": "str", "kind": values.REGISTRY_LOCATION},
            "role": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "str", "required": True, "kind": values.ANY_MEMBERS},
            "exclusive": {"type": "bool", "default": False},
            "on_conditional": {"type": "str", "choices": ["remove", "refuse"], "default": "remove"},
            "allow_nobody": {"type": "bool", "default": True},
            "own_members": {"type": "list", "elements": "str", "default": [], "kind": values.ANY_MEMBERS},
            "state": {"type": "str", "choices": ["present", "absent", "checked"], "default": "present"},
        },
        required_if=[
            ("resource_type", "run_service", ["region"]),
            ("resource_type", "iap_run_service", ["region"]),
            ("resource_type", "artifact_registry_repository", ["region"]),
        ],
    )


if __name__ == "__main__":
    main()
