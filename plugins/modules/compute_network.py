#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_network
short_description: Manage a VPC network
description:
  - Creates, changes and deletes a VPC network. Only the options that are given are compared and sent.
  - M(google.cloud.gcp_compute_network) has no check mode, retries nothing and reports rejected changes as done.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state.existing
  - mlops.mlflow_gcp.deletion
options:
  name:
    description: Name of the network.
    type: str
    required: true
  auto_create_subnetworks:
    description:
      - Whether the network is in auto mode, with a subnetwork in each region. A new network is in custom mode if this is not given.
      - It cannot be changed afterwards. C(gcloud compute networks update --switch-to-custom-subnet-mode) does, in one direction.
    type: bool
  routing_mode:
    description: Whether routes that Cloud Routers learn apply to one region or to the whole network.
    type: str
    choices: [REGIONAL, GLOBAL]
seealso:
  - name: Networks
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/networks
"""

EXAMPLES = r"""
- name: Create a network in custom mode
  mlops.mlflow_gcp.compute_network:
    project: my-project
    auth_kind: application
    name: mlflow
    auto_create_subnetworks: false

- name: Use a network that others manage
  mlops.mlflow_gcp.compute_network:
    project: network-host
    auth_kind: application
    name: shared
    state: existing
"""

RETURN = r"""
path:
  description: The network's resource path.
  returned: success
  type: str
  sample: projects/my-project/global/networks/mlflow
self_link:
  description: Link of the network.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/networks/mlflow
resource:
  description: The network as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow
    autoCreateSubnetworks: false
    routingConfig:
      routingMode: REGIONAL
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import ComputeResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import (
    STATE_OR_EXISTING_OPTION,
    Task,
    deletion_options,
    run,
)


class Network(ComputeResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/networks"""

    kind = "VPC network"
    immutable = {
        "autoCreateSubnetworks": "set the option back, give another name, or change the network from auto to custom mode "
        "with gcloud compute networks update --switch-to-custom-subnet-mode, which cannot be undone"
    }
    # Who may use a subnetwork of a Shared VPC need not be allowed to read its network.
    may_be_hidden = True

    def __init__(self, task: Task) -> None:
        super().__init__(task, "global", "networks")
        self.wanted = {
            "name": self.name,
            "autoCreateSubnetworks": self.params["auto_create_subnetworks"],
            "routingConfig": {"routingMode": self.params["routing_mode"]},
        }

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        # Required by the API: without it, a creation means a legacy network.
        created = live is None and self.wanted["autoCreateSubnetworks"] is None
        return self.wanted | ({"autoCreateSubnetworks": False} if created else {})

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {**super().returns(live), "path": self.path}


def main() -> None:
    run(
        Network.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "auto_create_subnetworks": {"type": "bool"},
            "routing_mode": {"type": "str", "choices": ["REGIONAL", "GLOBAL"]},
            **STATE_OR_EXISTING_OPTION,
            **deletion_options(60),
        },
    )


if __name__ == "__main__":
    main()
