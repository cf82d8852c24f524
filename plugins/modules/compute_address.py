#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_address
short_description: Manage an internal address of a subnetwork
description:
  - Reserves an internal address of a subnetwork, such as that of a Private Service Connect endpoint for Cloud SQL. The subnetwork
    may be one of a Shared VPC's host project.
  - Google can only change the labels of an address. Any other difference is refused, and nothing is ever deleted in order
    to reserve it anew. An address in use is not deleted.
  - M(google.cloud.gcp_compute_address) deletes and recreates an address at any difference, even if it is in use.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.labels
  - mlops.mlflow_gcp.state.existing
options:
  name:
    description: Name of the address.
    type: str
    required: true
  region:
    description: Region of the address.
    type: str
    required: true
  subnetwork:
    description:
      - Subnetwork that the address is taken from, as a name, V(projects/PROJECT/regions/REGION/subnetworks/NAME) or selfLink.
      - Required for O(state=present).
    type: str
  purpose:
    description:
      - What the address is for. V(SHARED_LOADBALANCER_VIP) is one that several forwarding rules of internal load balancers may have,
        such as those for HTTPS and HTTP.
    type: str
    choices: [GCE_ENDPOINT, SHARED_LOADBALANCER_VIP]
seealso:
  - name: Addresses
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/addresses
  - module: mlops.mlflow_gcp.compute_forwarding_rule
"""

EXAMPLES = r"""
- name: Reserve an address of the subnetwork
  mlops.mlflow_gcp.compute_address:
    project: my-project
    auth_kind: application
    name: mlflow-psc
    region: europe-west2
    subnetwork: projects/network-host/regions/europe-west2/subnetworks/mlflow-ew2
  register: address
"""

RETURN = r"""
address:
  description: The address; empty in check mode if Google has not chosen it yet.
  returned: success
  type: str
  sample: 10.10.0.7
path:
  description: The address's resource path.
  returned: success
  type: str
  sample: projects/my-project/regions/europe-west2/addresses/mlflow-psc
self_link:
  description: Link of the address.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west2/addresses/mlflow-psc
resource:
  description: The address as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-psc
    address: 10.10.0.7
    addressType: INTERNAL
    purpose: GCE_ENDPOINT
"""

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import full_path
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import AddressResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import (
    LABELS_OPTION,
    STATE_OR_EXISTING_OPTION,
    Task,
    run,
)


class Address(AddressResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/addresses"""

    kind = "address"

    def __init__(self, task: Task) -> None:
        region, subnetwork = self.scope(task), task.params["subnetwork"]
        super().__init__(task, region, "addresses")
        self.wanted = {
            "name": self.name,
            "addressType": "INTERNAL",
            "purpose": self.params["purpose"],
            "subnetwork": full_path(task.project, f"{region}/subnetworks", subnetwork) if subnetwork else None,
            "labels": task.labels,
        }

    @staticmethod
    def scope(task: Task) -> str:
        """The part of the path before the collection."""
        return f"regions/{task.params['region']}"


def main() -> None:
    run(
        Address.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "region": {"type": "str", "required": True, "kind": values.REGION},
            "subnetwork": {"type": "str"},
            "purpose": {"type": "str", "choices": ["GCE_ENDPOINT", "SHARED_LOADBALANCER_VIP"]},
            **LABELS_OPTION,
            **STATE_OR_EXISTING_OPTION,
        },
        required_if=[("state", "present", ["subnetwork"])],
    )


if __name__ == "__main__":
    main()
