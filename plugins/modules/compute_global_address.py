#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_global_address
short_description: Manage a global address, or a range for private services access
description:
  - Reserves a global external address, such as that of a load balancer, or a range of internal addresses for private
    services access (O(purpose=VPC_PEERING)), from which Google gives addresses to Cloud SQL.
  - Google can only change the labels of an address. Any other difference is refused, and nothing is ever deleted in order
    to reserve it anew.
  - An address that a forwarding rule uses, and a range that a service networking connection uses, is not deleted.
  - M(google.cloud.gcp_compute_global_address) deletes and recreates an address at any difference, even if it is in use.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.labels
  - mlops.mlflow_gcp.state.existing
  - mlops.mlflow_gcp.deletion
options:
  name:
    description: Name of the address.
    type: str
    required: true
  address_type:
    description: Whether the address is on the internet. With O(purpose), the default is V(INTERNAL), otherwise V(EXTERNAL).
    type: str
    choices: [EXTERNAL, INTERNAL]
  purpose:
    description: What an internal address is for; V(VPC_PEERING) is private services access.
    type: str
    choices: [VPC_PEERING]
  address:
    description:
      - IPv4 address, the first one of a range. Google chooses one if it is not given.
      - An existing address keeps what it has if this is not given.
    type: str
  prefix_length:
    description: Prefix length of a range, 8 to 29. Required to reserve a range.
    type: int
  network:
    description: Network of a range, as a name, V(projects/PROJECT/global/networks/NAME) or selfLink.
    type: str
seealso:
  - name: Global addresses
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/globalAddresses
  - module: mlops.mlflow_gcp.service_networking_connection
"""

EXAMPLES = r"""
- name: Reserve the address of a load balancer
  mlops.mlflow_gcp.compute_global_address:
    project: my-project
    auth_kind: application
    name: mlflow-lb-ip
  register: address

- name: Reserve a range for private services access
  mlops.mlflow_gcp.compute_global_address:
    project: my-project
    auth_kind: application
    name: mlflow-services
    purpose: VPC_PEERING
    prefix_length: 16
    network: mlflow

- name: Use the range that the network team has reserved
  mlops.mlflow_gcp.compute_global_address:
    project: network-host
    auth_kind: application
    name: google-managed-services
    purpose: VPC_PEERING
    network: shared
    state: existing
"""

RETURN = r"""
address:
  description: The address, the first one of a range; empty in check mode if Google has not chosen it yet.
  returned: success
  type: str
  sample: 203.0.113.7
path:
  description: The address's resource path.
  returned: success
  type: str
  sample: projects/my-project/global/addresses/mlflow-lb-ip
self_link:
  description: Link of the address.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/addresses/mlflow-lb-ip
resource:
  description: The address as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-lb-ip
    address: 203.0.113.7
    addressType: EXTERNAL
    status: IN_USE
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import full_path, relative
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import AddressResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, InUse, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import (
    LABELS_OPTION,
    STATE_OR_EXISTING_OPTION,
    Task,
    deletion_options,
    run,
)

CONNECTIONS = "https://servicenetworking.googleapis.com/v1/services/-/connections"


class Address(AddressResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/globalAddresses"""

    kind = "global address"

    def __init__(self, task: Task) -> None:
        super().__init__(task, "global", "addresses")
        params, network = self.params, self.params["network"]
        # Who may use a range of a Shared VPC's host project need not be allowed to read it; Cloud SQL checks it.
        self.may_be_hidden = params["purpose"] == "VPC_PEERING"
        self.wanted = {
            "name": self.name,
            "addressType": params["address_type"] or ("INTERNAL" if params["purpose"] else "EXTERNAL"),
            "purpose": params["purpose"],
            "address": params["address"] or None,
            "prefixLength": params["prefix_length"],
            "network": full_path(task.project, "global/networks", network) if network else None,
            "labels": task.labels,
        }

    def validate(self) -> None:
        if self.params["state"] != "present":
            return
        if self.params["purpose"]:
            for option in ("network", "prefix_length"):
                if not self.params[option]:
                    raise InvalidInput(option, self.params[option], "a range for private services access requires it")
        elif self.wanted["addressType"] == "INTERNAL":
            raise InvalidInput("purpose", None, "an internal address requires it")

    def check_delete(self, live: dict[str, Any]) -> None:
        super().check_delete(live)
        if live.get("purpose") == "VPC_PEERING" and self._is_connected(live["network"]):
            raise InUse(
                f"Cannot delete {self.label}: the service networking connection of network "
                f"{relative(live['network']).rpartition('/')[2]} uses it; take it out of the connection first "
                "(module mlops.mlflow_gcp.service_networking_connection, option exclusive, or state=absent)"
            )

    def _is_connected(self, network: str) -> bool:
        """Whether a service networking connection has this range; Google would delete it all the same."""
        _projects, project, *path = relative(network).split("/")
        number = project if project.isdigit() else self.task.number_of(project)
        try:
            with self.client.action(f"list the service networking connections that use {self.label}"):
                found = self.client.get(CONNECTIONS, params={"network": "/".join(["projects", str(number), *path])})
        except ApiError as error:
            if error.disabled:
                return False
            raise
        return any(self.name in entry.get("reservedPeeringRanges", ()) for entry in found.get("connections", ()))


def main() -> None:
    run(
        Address.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "address_type": {"type": "str", "choices": ["EXTERNAL", "INTERNAL"]},
            "purpose": {"type": "str", "choices": ["VPC_PEERING"]},
            "address": {"type": "str", "kind": values.IPV4},
            "prefix_length": {"type": "int", "kind": values.between(8, 29)},
            "network": {"type": "str"},
            **LABELS_OPTION,
            **STATE_OR_EXISTING_OPTION,
            **deletion_options(60),
        },
    )


if __name__ == "__main__":
    main()
