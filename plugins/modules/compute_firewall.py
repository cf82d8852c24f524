#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_firewall
short_description: Manage a VPC firewall rule that allows traffic
description:
  - Creates, changes and deletes an ingress firewall rule. Lists are compared completely, so that a rule can be narrowed. Logging,
    priority, whether the rule is disabled, and everything else that is not an option here stay as they are.
  - With O(state=absent), a rule that the caller may not read, as in the host project of a Shared VPC, is taken as absent.
  - M(google.cloud.gcp_compute_firewall) does not narrow a rule, and resets what is not given.
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
    description: Name of the rule.
    type: str
    required: true
  network:
    description:
      - Network of the rule, as a name, V(projects/PROJECT/global/networks/NAME) or selfLink.
      - Required for O(state=present).
    type: str
  source_ranges:
    description: All ranges from which traffic is allowed. Required for O(state=present).
    type: list
    elements: str
  allowed:
    description: Everything that is allowed. Required for O(state=present).
    type: list
    elements: dict
    suboptions:
      ip_protocol:
        description: Protocol, such as V(tcp), V(icmp) or V(all).
        type: str
        required: true
      ports:
        description: Ports and ranges of ports, such as V(8080-8090). All ports if this is not given.
        type: list
        elements: str
seealso:
  - name: Firewalls
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/firewalls
"""

EXAMPLES = r"""
- name: Allow all TCP traffic within a subnetwork
  mlops.mlflow_gcp.compute_firewall:
    project: my-project
    auth_kind: application
    name: mlflow-allow-internal
    network: mlflow
    source_ranges: [10.10.0.0/24]
    allowed:
      - ip_protocol: tcp
"""

RETURN = r"""
self_link:
  description: Link of the rule.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/firewalls/mlflow-allow-internal
resource:
  description: The rule as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-allow-internal
    direction: INGRESS
    sourceRanges: [10.10.0.0/24]
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, full_path, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import ComputeResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run

INSTEAD = "Google cannot change it: give another name, or delete the rule first (state=absent)"


def same_allowed(wanted: Any, live: Any) -> bool:
    """The same protocols and ports in any order; no ports means all, so that a missing list differs from any other."""

    def key(entries: Any) -> Any:
        return sorted((entry["IPProtocol"].lower(), sorted(entry.get("ports") or ())) for entry in entries or ())

    return bool(key(wanted) == key(live))


class Firewall(ComputeResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/firewalls"""

    kind = "firewall rule"
    rules = Rules(
        unordered=frozenset({"sourceRanges"}),
        same={"network": same_resource, "allowed": same_allowed},
    )
    immutable = {"network": INSTEAD, "direction": INSTEAD}

    def __init__(self, task: Task) -> None:
        super().__init__(task, "global", "firewalls")
        network = self.params["network"]
        self.wanted = {
            "name": self.name,
            "network": full_path(task.project, "global/networks", network) if network else None,
            "direction": "INGRESS",
            "sourceRanges": self.params["source_ranges"],
            "allowed": [
                {"IPProtocol": entry["ip_protocol"]} | ({"ports": entry["ports"]} if entry["ports"] else {})
                for entry in self.params["allowed"] or ()
            ],
        }

    def read(self) -> dict[str, Any] | None:
        try:
            return super().read()
        except ApiError as error:
            # Who may not even read the rules of a Shared VPC's host project did not create one there.
            if self.params["state"] == "absent" and error.status == 403 and not error.disabled:
                return None
            raise


def main() -> None:
    run(
        Firewall.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "network": {"type": "str"},
            "source_ranges": {"type": "list", "elements": "str"},
            "allowed": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "ip_protocol": {"type": "str", "required": True},
                    "ports": {"type": "list", "elements": "str"},
                },
            },
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["network", "source_ranges", "allowed"])],
    )


if __name__ == "__main__":
    main()
