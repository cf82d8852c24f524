#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_adoption
short_description: Describe what Terraform's module has made as an inventory
description:
  - Looks at a project in which the Terraform module
    L(teamdatatonic/mlflow/google, https://registry.terraform.io/modules/teamdatatonic/mlflow/google) has been applied, and returns the
    variables of this collection that describe it, so that the playbook C(site) goes on with its bucket, database, network, service
    account and Cloud Run service.
  - Begins at the load balancer, which leads to the Cloud Run service, whose environment names database and bucket. Random suffixes
    of names do not matter.
  - Keeps the size of the database as it is, so that the first run of C(site) does not restart it.
  - Fails if two resources are possible, and names both, and the variable that chooses. Nothing is guessed.
  - Returns what Terraform has to forget, so that it never deletes what stays, and what remains for Terraform to destroy.
  - Only reads, except O(inventory). No password is returned.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
attributes:
  diff_mode:
    description: Shows the inventory before and after.
    support: full
options:
  deployment:
    description: The name of the deployment in the inventory, usually C(inventory_hostname).
    type: str
    required: true
  given:
    description:
      - Variables that somebody has set. They choose where several resources are possible, and they are in the inventory as they are.
    type: dict
    default: {}
  terraform_module:
    description:
      - Address of the module in Terraform's configuration, empty if it is the root module.
    type: str
    default: module.mlflow
  inventory:
    description:
      - A file on the controller for the inventory; empty writes none. One that differs is never overwritten without O(replace).
    type: path
  replace:
    description: Whether O(inventory) may be overwritten if it has another content.
    type: bool
    default: false
seealso:
  - module: mlops.mlflow_gcp.mlflow_preflight
"""

EXAMPLES = r"""
- name: Describe what Terraform has made
  mlops.mlflow_gcp.mlflow_adoption:
    project: my-project
    auth_kind: application
    deployment: prod
    inventory: inventories/prod/hosts.yml
  register: adoption
"""

RETURN = r"""
variables:
  description: The variables, as they are in the inventory; without the secret of an OAuth client.
  returned: success
  type: dict
  sample:
    mlflow_project_id: my-project
    bucket_name: mlflow-artifacts-store-c29e11d1d5
text:
  description: The inventory.
  returned: success
  type: str
  sample: "mlflow: …"
forget:
  description: Commands by which Terraform forgets what stays.
  returned: success
  type: list
  elements: str
  sample: ["terraform state rm 'module.mlflow.module.mlflow.module.artifacts'"]
left:
  description: What nothing needs when the new load balancer serves, for Terraform to destroy.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: Terraform's address.
      type: str
      returned: always
    resource:
      description: The resource.
      type: str
      returned: always
password_env:
  description: The plain variable of the Cloud Run service that contains the password of the database, empty if there is none.
  returned: success
  type: str
  sample: DB_PASSWORD
notes:
  description: What is worth knowing before the first run.
  returned: success
  type: list
  elements: str
  sample: []
"""

from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import adoption, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run


def current(path: str) -> str:
    """The content of a file, "" if it does not exist; raises InvalidInput if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("inventory", path, f"the path of a file that can be read and written ({error})") from None


def write(path: str, text: str) -> None:
    """Write the inventory; raises GcpError."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise GcpError(f"Cannot write the inventory to {path}: {error.strerror}") from None


def look(task: Task) -> dict[str, Any]:
    """The work of the module."""
    path = task.params["inventory"]
    before = current(path) if path else ""
    stack = adoption.Stack(task, task.params["given"], task.params["terraform_module"])
    variables = stack.variables()
    text = adoption.inventory(task.params["deployment"], variables)
    if before not in ("", text) and not task.params["replace"]:
        raise GcpError(
            f"{path} exists and differs from what was found: nothing was written. Compare them with --diff and mlflow_adopt_replace, "
            "which overwrites it, or give another path (mlflow_adopt_inventory)"
        )
    left, changed = stack.left(), bool(path) and before != text
    if changed and not task.check_mode:
        write(path, text)
    return task.result(
        label=f"inventory {path or ''}".strip(),
        changed=changed,
        before=before,
        after=text if path else "",
        variables=variables,
        text=text,
        forget=stack.forget(),
        left=left,
        password_env=adoption.PASSWORD if stack.password else "",
        notes=stack.notes,
    )


def main() -> None:
    run(
        look,
        argument_spec={
            "deployment": {"type": "str", "required": True},
            "given": {"type": "dict", "default": {}},
            "terraform_module": {"type": "str", "default": "module.mlflow", "kind": values.TERRAFORM_MODULE},
            "inventory": {"type": "path"},
            "replace": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
