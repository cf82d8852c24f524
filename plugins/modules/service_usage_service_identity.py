#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_usage_service_identity
short_description: Create the service agent of an API in a project
description:
  - Some Google APIs act in a project as a service account of their own, the service agent. This module creates it, or
    returns the existing one.
  - Identity-Aware Proxy calls Cloud Run as its service agent, which therefore requires C(roles/run.invoker).
  - Google does not report whether the service agent already existed, so the module always returns C(changed=false).
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
options:
  service:
    description:
      - Name of the API, such as V(iap.googleapis.com). It must be enabled.
    type: str
    required: true
attributes:
  check_mode:
    description: Creates nothing; returns the usual address of a service agent.
"""

EXAMPLES = r"""
- name: Create the service agent of Identity-Aware Proxy
  mlops.mlflow_gcp.service_usage_service_identity:
    project: my-project
    auth_kind: application
    service: iap.googleapis.com
  register: iap_agent
"""

RETURN = r"""
email:
  description: E-mail address of the service agent.
  returned: success
  type: str
  sample: service-123456789012@gcp-sa-iap.iam.gserviceaccount.com
resource:
  description: The identity as Google returns it.
  returned: success
  type: dict
  sample:
    email: service-123456789012@gcp-sa-iap.iam.gserviceaccount.com
    uniqueId: "112233445566778899001"
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import service_agents
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run


def identity(task: Task) -> dict[str, Any]:
    """The work of the module."""
    agent = service_agents.identity(task, task.params["service"])
    label = f"service agent of {task.params['service']}"
    return task.result(label=label, changed=False, before=agent, after=agent, resource=agent, email=agent["email"])


def main() -> None:
    run(identity, argument_spec={"service": {"type": "str", "required": True}})


if __name__ == "__main__":
    main()
