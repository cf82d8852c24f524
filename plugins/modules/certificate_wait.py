#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The waiting, which shows its progress, is in plugins/action/certificate_wait.py; this looks once.

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_wait
short_description: Wait until Google has issued the certificate of a load balancer
description:
  - Waits until a certificate can be served for every domain, and shows what it waits for. A Google-managed certificate takes from
    minutes to an hour after its domains lead to the load balancer, one with DNS authorization some minutes.
  - Explains each state that Google gives, such as C(FAILED_NOT_VISIBLE), and what to do about it. Fails at once for a state that
    does not pass by waiting, such as C(FAILED_CAA_FORBIDDEN), and after O(timeout) seconds for any other.
  - Self-managed certificates are active. Only reads.
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
    description: Prefix of the names of the load balancer's resources.
    type: str
    required: true
  domains:
    description: Domain names of the server.
    type: list
    elements: str
    required: true
  certificate:
    description:
      - Path or link of the certificate of Compute Engine or Certificate Manager to wait for. Without this option, any certificate that the
        load balancer has for a domain is good.
    type: str
  timeout:
    description: Seconds to wait at most. With V(0), the module only looks.
    type: int
    default: 3600
seealso:
  - module: mlops.mlflow_gcp.compute_managed_ssl_certificate
  - module: mlops.mlflow_gcp.certificate_manager_certificate
"""

EXAMPLES = r"""
- name: Wait for the certificate
  mlops.mlflow_gcp.certificate_wait:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    domains: [mlflow.example.com]
"""

RETURN = r"""
active:
  description: Whether a certificate can be served for every domain.
  returned: success
  type: bool
  sample: true
states:
  description: The state of each domain, also returned on failure.
  returned: always
  type: dict
  sample:
    mlflow.example.com: ACTIVE
problems:
  description: What is wrong with each domain that is not active, and what to do about it; also returned on failure.
  returned: always
  type: list
  elements: str
  sample: []
lasting:
  description: Whether one of the states does not pass by waiting.
  returned: success
  type: bool
  sample: false
"""

import re
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import certificates, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run


def look(task: Task) -> dict[str, Any]:
    """The states of the domains now."""
    name, domains, certificate = task.params["name"], task.params["domains"], task.params["certificate"]
    if certificate:
        url = f"{API}/projects/{task.project}/global/forwardingRules/{name}-https"
        # A CA pool issues that of a regional load balancer, wherever the domains lead.
        is_global = re.search("/locations/(?!global/)", certificate) is None
        rule = task.read(f"forwarding rule {name}-https", lambda: task.client.find(url)) if is_global else None
        states = certificates.states_of(task, certificate, domains, (rule or {}).get("IPAddress", ""))
    else:
        states = certificates.served(task, name, domains)
    waiting = [state for state in states if state.state != certificates.ACTIVE]
    return {
        "changed": False,
        "active": not waiting,
        "states": {state.domain: state.state for state in states},
        "problems": [f"{state.domain} is {state.state}: {state.advice}" for state in waiting],
        "lasting": any(state.state in certificates.LASTING for state in waiting),
    }


def main() -> None:
    run(
        look,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.BALANCER_NAME},
            "domains": {"type": "list", "elements": "str", "required": True, "kind": values.DOMAINS},
            "certificate": {"type": "str"},
            "timeout": {"type": "int", "default": 3600, "kind": values.at_least(0)},
        },
    )


if __name__ == "__main__":
    main()
