#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_proxy_only_subnetwork
short_description: Make sure that a network has a proxy-only subnetwork
description:
  - Regional Envoy-based load balancers, such as the internal Application Load Balancer, have their proxies in a subnetwork of the
    purpose V(REGIONAL_MANAGED_PROXY). Google accepts one that is active in each region of a network, which all load balancers share.
  - The module uses the active one, whatever it is called, and creates one only where there is none. It changes none.
  - With O(state=absent), only one with the name O(name) is deleted. One in which other load balancers have proxies is in use.
  - M(google.cloud.gcp_compute_subnetwork) does not look for the active one.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state
  - mlops.mlflow_gcp.deletion
options:
  name:
    description: Name of the subnetwork to create if there is none.
    type: str
    required: true
  region:
    description: Region of the load balancers.
    type: str
    required: true
  network:
    description:
      - Network of the load balancers, as a name, V(projects/PROJECT/global/networks/NAME) or selfLink.
      - Required for O(state=present).
    type: str
  ip_cidr_range:
    description:
      - IPv4 range of a new one, of /26 or larger. It must be free in the network and in those that are peered with it. Required for
        O(state=present).
    type: str
seealso:
  - name: Proxy-only subnets
    description: What they are, and how large they should be.
    link: https://cloud.google.com/load-balancing/docs/proxy-only-subnets
  - module: mlops.mlflow_gcp.compute_forwarding_rule
"""

EXAMPLES = r"""
- name: Make sure that internal load balancers can have proxies in the network
  mlops.mlflow_gcp.compute_proxy_only_subnetwork:
    project: my-project
    auth_kind: application
    name: mlflow-proxies
    region: europe-west2
    network: mlflow
    ip_cidr_range: 10.11.0.0/24
"""

RETURN = r"""
ip_cidr_range:
  description: Its IPv4 range, from which the requests to backends come.
  returned: success
  type: str
  sample: 10.11.0.0/24
path:
  description: The subnetwork's resource path; that of an existing one, if it was there.
  returned: success
  type: str
  sample: projects/my-project/regions/europe-west2/subnetworks/mlflow-proxies
self_link:
  description: Link of the subnetwork.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west2/subnetworks/mlflow-proxies
resource:
  description: The subnetwork as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-proxies
    purpose: REGIONAL_MANAGED_PROXY
    role: ACTIVE
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, full_path, relative, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import LINKS, ComputeResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InUse
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import (
    STATE_OPTION,
    Task,
    deletion_options,
    run,
)

PURPOSE = "REGIONAL_MANAGED_PROXY"


class ProxyOnlySubnetwork(ComputeResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/subnetworks"""

    kind = "proxy-only subnetwork"
    rules = Rules(same={"network": same_resource, "ipCidrRange": lambda wanted, live: bool(live)})
    immutable = dict.fromkeys(("network", "purpose", "role"), "give another name")

    def __init__(self, task: Task) -> None:
        super().__init__(task, f"regions/{task.params['region']}", "subnetworks")
        network = self.params["network"]
        self.wanted = {
            "name": self.name,
            "network": full_path(task.project, "global/networks", network) if network else None,
            "ipCidrRange": self.params["ip_cidr_range"],
            "purpose": PURPOSE,
            "role": "ACTIVE",
        }

    def read(self) -> dict[str, Any] | None:
        """The active one of the network, or, to delete it, the one with the name."""
        if self.params["state"] == "absent":
            return super().read()
        for entry in self.client.items(self.collection, "items", params={"filter": f"purpose={PURPOSE}"}):
            active = entry.get("purpose") == PURPOSE and entry.get("role") == "ACTIVE"
            if active and same_resource(self.wanted["network"], entry.get("network")):
                self._call(entry["name"])
                return entry
        return super().read()

    def _call(self, name: str) -> None:
        """Take the name of the one that there is."""
        self.name = self.wanted["name"] = name
        self.url, self.path = f"{self.collection}/{name}", f"{self.path.rpartition('/')[0]}/{name}"

    def check_delete(self, live: dict[str, Any]) -> None:
        if live.get("purpose") != PURPOSE:
            raise InUse(f"Cannot delete {self.label}: its purpose is {live.get('purpose')}")

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {
            "self_link": live.get("selfLink") or f"{LINKS}/{self.path}",
            "path": relative(live.get("selfLink")) or self.path,
            "ip_cidr_range": live.get("ipCidrRange") or "",
        }


def main() -> None:
    run(
        ProxyOnlySubnetwork.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "region": {"type": "str", "required": True, "kind": values.REGION},
            "network": {"type": "str"},
            "ip_cidr_range": {"type": "str", "kind": values.SUBNETWORK_RANGE},
            **STATE_OPTION,
            **deletion_options(60),
        },
        required_if=[("state", "present", ["network", "ip_cidr_range"])],
    )


if __name__ == "__main__":
    main()
