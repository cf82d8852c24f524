#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_service_address
short_description: Tell the address that Cloud Run gives a service
description:
  - Returns the deterministic address of a Cloud Run service, V(https://NAME-PROJECTNUMBER.REGION.run.app), which is known before the
    service exists. A service can so be told its own address.
  - Only reads the number of the project.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
attributes:
  diff_mode:
    description: There is no diff, because nothing is changed.
    support: none
options:
  name:
    description: Name of the service.
    type: str
    required: true
  region:
    description: Region of the service.
    type: str
    required: true
seealso:
  - name: Deterministic URLs
    description: The addresses of a service.
    link: https://cloud.google.com/run/docs/triggering/https-request#deterministic
"""

EXAMPLES = r"""
- name: Find the address of the server
  mlops.mlflow_gcp.run_service_address:
    project: my-project
    auth_kind: application
    name: mlflow
    region: europe-west2
  register: address
"""

RETURN = r"""
host:
  description: Host of the address; empty in check mode if the number of the project cannot be read yet.
  returned: success
  type: str
  sample: mlflow-123456789012.europe-west2.run.app
url:
  description: The address; empty when RV(host) is.
  returned: success
  type: str
  sample: https://mlflow-123456789012.europe-west2.run.app
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudrun, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run


def look(task: Task) -> dict[str, Any]:
    """The address."""
    number = task.project_number
    host = cloudrun.host(task.params["name"], number, task.params["region"]) if number else ""
    return {"changed": False, "host": host, "url": f"https://{host}" if host else ""}


def main() -> None:
    run(
        look,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.RUN_NAME},
            "region": {"type": "str", "required": True, "kind": values.REGION},
        },
    )


if __name__ == "__main__":
    main()
