#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_forwarding_rule
short_description: Manage a Private Service Connect endpoint, or the rule of a regional internal load balancer
description:
  - Creates and deletes a regional forwarding rule that connects a reserved internal address with a service attachment, such as
    that of a Cloud SQL instance (RV(mlops.mlflow_gcp.sql_instance#module:psc_service_attachment)). The service must accept the project
    of the rule. Otherwise the module fails, and the rule is left for when it does.
  - With O(load_balancing_scheme=INTERNAL_MANAGED), it connects the address with the HTTP or HTTPS proxy of a regional internal
    Application Load Balancer. The network must have an active proxy-only subnetwork in the region, see
    M(mlops.mlflow_gcp.compute_proxy_only_subnetwork).
  - Google can only change the labels of such a rule, and the target of a load balancer. Any other difference is refused.
  - M(google.cloud.gcp_compute_forwarding_rule) deletes and recreates a rule at any difference.
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
    description: Name of the rule.
    type: str
    required: true
  region:
    description: Region of the rule, which is the region of the service attachment.
    type: str
    required: true
  network:
    description:
      - Network of the address, as a name, V(projects/PROJECT/global/networks/NAME) or selfLink.
      - Required for O(state=present).
    type: str
  address:
    description:
      - Path or selfLink of a reserved internal address, see M(mlops.mlflow_gcp.compute_address). Required for O(state=present).
      - It is used for a new rule, and not compared with that of an existing one.
    type: str
  target:
    description: Path or link of the service attachment, or of the regional proxy. Required for O(state=present).
    type: str
  load_balancing_scheme:
    description: V(INTERNAL_MANAGED) for a regional internal Application Load Balancer; without it, the rule is an endpoint.
    type: str
    choices: [INTERNAL_MANAGED]
  subnetwork:
    description: Subnetwork of the address, as a name, path or selfLink. Required with O(load_balancing_scheme).
    type: str
  port:
    description: Port of the requests. Required with O(load_balancing_scheme).
    type: int
  allow_global_access:
    description: Whether clients in other regions reach the load balancer. Cannot be changed.
    type: bool
seealso:
  - module: mlops.mlflow_gcp.compute_proxy_only_subnetwork
  - name: Forwarding rules
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/forwardingRules
  - name: Private Service Connect for Cloud SQL
    description: How the endpoint of an instance is made.
    link: https://cloud.google.com/sql/docs/postgres/configure-private-service-connect
"""

EXAMPLES = r"""
- name: Connect the reserved address with the database
  mlops.mlflow_gcp.compute_forwarding_rule:
    project: my-project
    auth_kind: application
    name: mlflow-psc
    region: europe-west2
    network: mlflow
    address: "{{ address.path }}"
    target: "{{ instance.psc_service_attachment }}"
  register: endpoint

- name: Forward HTTPS traffic within the network to the proxy
  mlops.mlflow_gcp.compute_forwarding_rule:
    project: my-project
    auth_kind: application
    name: mlflow-internal-https
    region: europe-west2
    load_balancing_scheme: INTERNAL_MANAGED
    network: mlflow
    subnetwork: mlflow-europe-west2
    address: "{{ address.path }}"
    port: 443
    target: "{{ proxy.self_link }}"
"""

RETURN = r"""
address:
  description: The address of the rule; empty in check mode before it exists.
  returned: success
  type: str
  sample: 10.10.0.7
path:
  description: The rule's resource path.
  returned: success
  type: str
  sample: projects/my-project/regions/europe-west2/forwardingRules/mlflow-psc
self_link:
  description: Link of the rule.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west2/forwardingRules/mlflow-psc
resource:
  description: The rule as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-psc
    IPAddress: 10.10.0.7
    pscConnectionStatus: ACCEPTED
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import BalancerResource, same_ports
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import (
    Rules,
    full_path,
    relative,
    same_link,
    same_resource,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import ComputeResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import LABELS_OPTION, STATE_OPTION, Task, run

INSTEAD = "Google cannot change it: set the option back, give another name, or delete the rule first (state=absent)"
# The service has yet to see the endpoint.
UNDECIDED = ("", "STATUS_UNSPECIFIED")


class Endpoint(ComputeResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/forwardingRules"""

    kind = "Private Service Connect endpoint"
    rules = Rules(
        labels=frozenset({"labels"}),
        same={"network": same_resource, "target": same_resource, "IPAddress": lambda wanted, live: bool(live)},
    )
    immutable = {"network": INSTEAD, "target": INSTEAD}

    def __init__(self, task: Task) -> None:
        super().__init__(task, f"regions/{task.params['region']}", "forwardingRules")
        network = self.params["network"]
        self.wanted = {
            "name": self.name,
            "network": full_path(task.project, "global/networks", network) if network else None,
            "IPAddress": relative(self.params["address"]) or None,
            "target": relative(self.params["target"]) or None,
            "labels": task.labels,
        }

    def create(self) -> dict[str, Any]:
        return self.create_labelled() if self.wanted["labels"] else super().create()

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        return self.set_labels(live)

    def settle(self, live: dict[str, Any]) -> dict[str, Any]:
        if self.params["state"] == "absent":
            return live
        if live.get("pscConnectionStatus", "") in UNDECIDED:
            live = self.poll(
                lambda body: body.get("pscConnectionStatus", "") not in UNDECIDED, "wait for the connection"
            )
        if live["pscConnectionStatus"] != "ACCEPTED":
            raise GcpError(
                f"Cannot use {self.label}: the connection is {live['pscConnectionStatus']}; add project {self.task.project} to the "
                "projects that the service accepts (option psc_allowed_projects of module mlops.mlflow_gcp.sql_instance)"
            )
        return live

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return returned(self, live)


class BalancerRule(BalancerResource):
    """https://cloud.google.com/load-balancing/docs/l7-internal"""

    kind = "forwarding rule"
    rules = Rules(
        labels=frozenset({"labels"}),
        same={
            "network": same_resource,
            "subnetwork": same_resource,
            "target": same_link,
            "portRange": same_ports,
            "IPAddress": lambda wanted, live: bool(live),
            "allowGlobalAccess": lambda wanted, live: wanted == bool(live),
        },
    )
    immutable = dict.fromkeys(
        ("network", "subnetwork", "portRange", "loadBalancingScheme", "allowGlobalAccess"), INSTEAD
    )

    def __init__(self, task: Task) -> None:
        super().__init__(task, "forwardingRules")
        params = self.params
        network, subnetwork = params["network"], params["subnetwork"]
        self.wanted = {
            "name": self.name,
            "loadBalancingScheme": params["load_balancing_scheme"],
            "network": full_path(task.project, "global/networks", network) if network else None,
            "subnetwork": full_path(task.project, f"{self.scope}/subnetworks", subnetwork) if subnetwork else None,
            "IPAddress": relative(params["address"]) or None,
            "IPProtocol": "TCP",
            "portRange": f"{params['port']}-{params['port']}",
            "target": relative(params["target"]) or None,
            "allowGlobalAccess": params["allow_global_access"],
            "labels": task.labels,
        }

    def validate(self) -> None:
        for name in ("subnetwork", "port") if self.params["state"] == "present" else ():
            if not self.params[name]:
                raise InvalidInput(name, self.params[name], "it is required with load_balancing_scheme")

    def create(self) -> dict[str, Any]:
        return self.create_labelled() if self.wanted["labels"] else super().create()

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        if "target" in changes:
            self.set_field("setTarget", target=self.wanted["target"])
        return {} if changes == ["target"] else self.set_labels(live)

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return returned(self, live)


def returned(rule: ComputeResource, live: dict[str, Any]) -> dict[str, Any]:
    """What the module returns of a rule."""
    # A declaration has the address resource there.
    address = str(live.get("IPAddress") or "")
    return {
        **ComputeResource.returns(rule, live),
        "path": rule.path,
        "address": rule.task.known("" if "/" in address else address),
    }


def converge(task: Task) -> dict[str, Any]:
    """The work of the module."""
    return (BalancerRule if task.params["load_balancing_scheme"] else Endpoint).converge(task)


def main() -> None:
    run(
        converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "region": {"type": "str", "required": True, "kind": values.REGION},
            "network": {"type": "str"},
            "address": {"type": "str"},
            "target": {"type": "str"},
            "load_balancing_scheme": {"type": "str", "choices": ["INTERNAL_MANAGED"]},
            "subnetwork": {"type": "str"},
            "port": {"type": "int", "kind": values.PORT},
            "allow_global_access": {"type": "bool"},
            **LABELS_OPTION,
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["network", "address", "target"])],
    )


if __name__ == "__main__":
    main()
