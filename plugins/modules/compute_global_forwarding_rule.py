#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_global_forwarding_rule
short_description: Manage the target of a global forwarding rule
description:
  - Creates, updates and deletes the part of a load balancer that receives the requests to an address and port.
  - Google can only change the target of a forwarding rule. Any other difference is refused, and nothing is ever deleted in order
    to create it anew. Fields not covered by an option are left unchanged.
  - M(google.cloud.gcp_compute_global_forwarding_rule) compares links and ports as text, has no check mode and retries nothing.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.labels
  - mlops.mlflow_gcp.state
options:
  name:
    description: Name of the forwarding rule.
    type: str
    required: true
  ip_address:
    description: IP address of the load balancer. If it is empty, Google chooses one that is not reserved.
    type: str
  port:
    description: Port of the requests. Required for O(state=present).
    type: int
  target:
    description: Link of the HTTP or HTTPS proxy. Required for O(state=present).
    type: str
  load_balancing_scheme:
    description: Type of load balancer.
    type: str
    choices: [EXTERNAL_MANAGED, EXTERNAL]
    default: EXTERNAL_MANAGED
seealso:
  - name: Global forwarding rules
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/globalForwardingRules
"""

EXAMPLES = r"""
- name: Forward HTTPS traffic to the HTTPS proxy
  mlops.mlflow_gcp.compute_global_forwarding_rule:
    project: my-project
    auth_kind: application
    name: mlflow-lb-https
    ip_address: "{{ address.address }}"
    port: 443
    target: "{{ proxy.self_link }}"
"""

RETURN = r"""
self_link:
  description: Link of the forwarding rule.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/forwardingRules/mlflow-lb-https
resource:
  description: The forwarding rule as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-lb-https
    IPAddress: 203.0.113.7
    portRange: 443-443
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import BalancerResource, same_ports
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, same_link
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import LABELS_OPTION, STATE_OPTION, Task, run

INSTEAD = (
    "delete the forwarding rule and run again, which interrupts the traffic, or create one under another name and point "
    "the domain to its address"
)


class ForwardingRule(BalancerResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/globalForwardingRules"""

    kind = "forwarding rule"
    rules = Rules(labels=frozenset({"labels"}), same={"target": same_link, "portRange": same_ports})
    immutable = dict.fromkeys(("IPAddress", "IPProtocol", "portRange", "loadBalancingScheme"), INSTEAD)

    def __init__(self, task: Task) -> None:
        super().__init__(task, "forwardingRules")
        params = self.params
        self.wanted = {
            "name": self.name,
            "IPAddress": params["ip_address"] or None,
            "IPProtocol": "TCP",
            "portRange": f"{params['port']}-{params['port']}",
            "loadBalancingScheme": params["load_balancing_scheme"],
            "target": params["target"],
            "labels": task.labels,
        }

    def create(self) -> dict[str, Any]:
        return self.create_labelled() if self.wanted["labels"] else super().create()

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        if "target" in changes:
            self.set_field("setTarget", target=self.wanted["target"])
        return {} if changes == ["target"] else self.set_labels(live)


def main() -> None:
    run(
        ForwardingRule.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "ip_address": {"type": "str"},
            "port": {"type": "int", "kind": values.PORT},
            "target": {"type": "str"},
            "load_balancing_scheme": {
                "type": "str",
                "choices": ["EXTERNAL_MANAGED", "EXTERNAL"],
                "default": "EXTERNAL_MANAGED",
            },
            **LABELS_OPTION,
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["port", "target"])],
    )


if __name__ == "__main__":
    main()
