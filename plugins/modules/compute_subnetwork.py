#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_subnetwork
short_description: Manage a subnetwork of a VPC network
description:
  - Creates, changes and deletes a subnetwork. Secondary ranges, flow logs and everything else that is not an option here stay as
    they are.
  - The range of a subnetwork can be expanded; any other change of it is refused, and the subnetwork is never recreated.
  - M(google.cloud.gcp_compute_subnetwork) has no check mode, retries nothing and resets what is not given.
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
    description: Name of the subnetwork.
    type: str
    required: true
  region:
    description: Region of the subnetwork.
    type: str
    required: true
  network:
    description:
      - Network of the subnetwork, as a name, V(projects/PROJECT/global/networks/NAME) or selfLink.
      - Required for O(state=present).
    type: str
  ip_cidr_range:
    description: Primary IPv4 range. Required for O(state=present).
    type: str
  private_ip_google_access:
    description: Whether instances without an external address reach Google APIs.
    type: bool
seealso:
  - name: Subnetworks
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/subnetworks
"""

EXAMPLES = r"""
- name: Create a subnetwork with Private Google Access
  mlops.mlflow_gcp.compute_subnetwork:
    project: my-project
    auth_kind: application
    name: mlflow-europe-west2
    region: europe-west2
    network: mlflow
    ip_cidr_range: 10.10.0.0/24
    private_ip_google_access: true

- name: Use a subnetwork of a Shared VPC
  mlops.mlflow_gcp.compute_subnetwork:
    project: network-host
    auth_kind: application
    name: mlflow-ew2
    region: europe-west2
    network: shared
    state: existing
  register: subnetwork
"""

RETURN = r"""
ip_cidr_range:
  description: Primary IPv4 range.
  returned: success
  type: str
  sample: 10.10.0.0/24
path:
  description: The subnetwork's resource path.
  returned: success
  type: str
  sample: projects/my-project/regions/europe-west2/subnetworks/mlflow-europe-west2
self_link:
  description: Link of the subnetwork.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west2/subnetworks/mlflow-europe-west2
resource:
  description: The subnetwork as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-europe-west2
    ipCidrRange: 10.10.0.0/24
    privateIpGoogleAccess: true
"""

from ipaddress import IPv4Network
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, full_path, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import ComputeResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import (
    STATE_OR_EXISTING_OPTION,
    Task,
    deletion_options,
    run,
)


class Subnetwork(ComputeResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/subnetworks"""

    kind = "subnetwork"
    rules = Rules(same={"network": same_resource})
    immutable = {"network": "Google cannot move a subnetwork: set the option back, or give another name"}

    def __init__(self, task: Task) -> None:
        super().__init__(task, f"regions/{task.params['region']}", "subnetworks")
        network = self.params["network"]
        self.wanted = {
            "name": self.name,
            "network": full_path(task.project, "global/networks", network) if network else None,
            "ipCidrRange": self.params["ip_cidr_range"],
            "privateIpGoogleAccess": self.params["private_ip_google_access"],
        }

    def check_change(self, live: dict[str, Any], changes: list[str]) -> None:
        super().check_change(live, changes)
        if "ipCidrRange" in changes:
            old, new = live.get("ipCidrRange"), self.wanted["ipCidrRange"]
            if not old or not IPv4Network(old).subnet_of(IPv4Network(new)):
                raise GcpError(
                    f"Cannot update {self.label}: ipCidrRange is {old!r} and cannot be changed to {new!r}; the range can only be "
                    "expanded, to one that contains it: set the option to this, or give another name"
                )

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        # Both have a method of their own: they need no fingerprint, and nothing else can change by them.
        for field, method in (
            ("ipCidrRange", "expandIpCidrRange"),
            ("privateIpGoogleAccess", "setPrivateIpGoogleAccess"),
        ):
            if field in changes:
                url = f"{self.url}/{method}"
                self.wait(self.client.post(url, {field: self.wanted[field]}, idempotent=True), url, "update")
        return {}

    def is_held(self, error: ApiError) -> bool:
        # https://cloud.google.com/run/docs/configuring/vpc-direct-vpc#delete-subnet: released after one or two hours.
        return error.in_use and "/addresses/serverless-" in error.message

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {**super().returns(live), "path": self.path, "ip_cidr_range": live.get("ipCidrRange") or ""}


def main() -> None:
    run(
        Subnetwork.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "region": {"type": "str", "required": True, "kind": values.REGION},
            "network": {"type": "str"},
            "ip_cidr_range": {"type": "str", "kind": values.IPV4_RANGE},
            "private_ip_google_access": {"type": "bool"},
            **STATE_OR_EXISTING_OPTION,
            **deletion_options(60),
        },
        required_if=[("state", "present", ["network", "ip_cidr_range"])],
    )


if __name__ == "__main__":
    main()
