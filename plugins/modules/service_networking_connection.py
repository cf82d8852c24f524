#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_networking_connection
short_description: Peer a VPC network with Google's managed services
description:
  - Private services access, the peering over which Cloud SQL gets a private address in a network of yours.
  - Ranges that the peering has already stay in it, other users of the network live in them; see O(exclusive).
  - Deleting fails for a while after the last Cloud SQL instance is gone. The module retries, and at the end removes the
    peering from the network itself, unless a Cloud SQL instance of the project still uses that network.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
options:
  network:
    description:
      - The network, by name, V(projects/PROJECT/global/networks/NAME) or its selfLink.
    type: str
    required: true
  reserved_ranges:
    description:
      - Names of the network's global addresses with purpose C(VPC_PEERING); required for O(state=present).
    type: list
    elements: str
  exclusive:
    description:
      - The peering uses exactly O(reserved_ranges); a range that is not named is taken out of it.
    type: bool
    default: false
  service:
    description:
      - The service to peer with.
    type: str
    default: servicenetworking.googleapis.com
  timeout:
    description:
      - Seconds to wait for an operation, and to retry a deletion that Google still refuses.
    type: int
    default: 600
  state:
    description:
      - Whether the connection exists.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Managed services reach the network
  mlops.mlflow_gcp.service_networking_connection:
    project: my-project
    auth_kind: application
    network: mlflow-network
    reserved_ranges:
      - mlflow-services
"""

RETURN = r"""
resource:
  description: The connection as Google returns it.
  returned: success
  type: dict
  sample:
    network: projects/123456789012/global/networks/mlflow-network
    peering: servicenetworking-googleapis-com
    reservedPeeringRanges:
      - mlflow-services
    service: services/servicenetworking.googleapis.com
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, full_path, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.operations import OperationTimeout
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource


class Connection(Resource):
    """https://cloud.google.com/service-infrastructure/docs/service-networking/reference/rest/v1/services.connections"""

    kind = "service networking connection of network"
    rules = Rules(unordered=frozenset({"reservedPeeringRanges"}), same={"network": same_resource})

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.network = full_path(task.project, "global/networks", self.params["network"])
        if self.network.split("/")[2:4] != ["global", "networks"]:
            raise InvalidInput(
                "network", self.params["network"], "give a name or projects/PROJECT/global/networks/NAME"
            )
        self.name = self.network.rpartition("/")[2]
        service = self.params["service"]
        self.collection = f"https://servicenetworking.googleapis.com/v1/services/{service}/connections"
        self.url = f"{self.collection}/{service.replace('.', '-')}"
        self.wanted = {"network": self.network, "reservedPeeringRanges": self.params["reserved_ranges"]}

    def validate(self) -> None:
        if self.params["state"] == "present" and not self.params["reserved_ranges"]:
            raise InvalidInput("reserved_ranges", [], "give the name of at least one global address")

    def read(self) -> dict[str, Any] | None:
        # This API knows networks by the project's number only.
        project = self.network.split("/")[1]
        if not project.isdigit():
            project = self.task.number_of(project)
        if project == "0":
            return None
        network = f"projects/{project}/global/networks/{self.name}"
        self.wanted["network"] = network
        service = f"services/{self.params['service']}"
        try:
            connections = list(self.client.items(self.collection, "connections", params={"network": network}))
        except ApiError as error:
            if not self.task.check_mode or "not exist" not in error.message:
                raise
            # In a first --check of a whole deployment the network is still to be made.
            self.task.warn(f"Check mode takes {self.label} as absent: the network is not there yet")
            return None
        live = next((found for found in connections if found.get("service", service) == service), None)
        if live and self.params["state"] == "present" and not self.params["exclusive"]:
            ranges = [*live.get("reservedPeeringRanges", ()), *self.params["reserved_ranges"]]
            self.wanted["reservedPeeringRanges"] = list(dict.fromkeys(ranges))
        return live

    def create(self) -> dict[str, Any]:
        try:
            answer = self.client.post(self.collection, self.wanted, safe=True)
            self.wait(answer, self.collection, "create")
            # Cloud SQL fails for good when it comes before the connection is in place.
            return self.poll(bool, "wait for the creation")
        except ApiError as error:
            if "cannot modify allocated ranges" not in error.message.lower():
                raise
        # A deleted connection leaves its ranges behind with the service; only a patch can replace them.
        return self.update({}, [])

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        query = {"force": "true", "updateMask": "reservedPeeringRanges"}
        return self.client.request("PATCH", f"{self.collection}/-", self.wanted, params=query)

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        def refused(error: ApiError) -> bool:
            """Still in use says Google; at once clear when an instance is, else true for a while after the last one."""
            in_use = error.reason == "FAILED_PRECONDITION" or "still using" in error.message
            if in_use and (instances := self.instances()):
                raise GcpError(
                    f"Cannot delete {self.label}: Cloud SQL still uses it; delete first {', '.join(instances)}"
                )
            return in_use

        try:
            self.client.patiently(self.disconnect, refused, timeout=self.timeout, pause=10)
        except (ApiError, OperationTimeout) as error:
            if isinstance(error, ApiError) and not refused(error):
                raise
            self.task.warn(f"{error}. Removed the peering from the network instead")
            self.remove_peering(live["peering"])
        return {}

    def disconnect(self) -> None:
        """Ask the service to end the connection."""
        answer = self.client.post(self.url, {"consumerNetwork": self.wanted["network"]}, safe=True)
        self.wait(answer, self.url, "delete")

    def instances(self) -> list[str]:
        """Cloud SQL instances of this project in the network."""
        url = f"https://sqladmin.googleapis.com/v1/projects/{self.task.project}/instances"
        try:
            return [
                instance["name"]
                for instance in self.client.items(url, "items")
                if same_resource(
                    self.wanted["network"],
                    instance.get("settings", {}).get("ipConfiguration", {}).get("privateNetwork"),
                )
            ]
        except ApiError as error:
            if error.disabled:
                return []
            raise

    def remove_peering(self, peering: str) -> None:
        """https://cloud.google.com/compute/docs/reference/rest/v1/networks/removePeering"""
        url = f"https://compute.googleapis.com/compute/v1/{self.network}/removePeering"
        self.wait(self.client.post(url, {"name": peering}, safe=True), url, "remove the peering of")


def main() -> None:
    run(
        Connection.converge,
        argument_spec={
            "network": {"type": "str", "required": True},
            "reserved_ranges": {"type": "list", "elements": "str"},
            "exclusive": {"type": "bool", "default": False},
            "service": {"type": "str", "default": "servicenetworking.googleapis.com"},
            "timeout": {"type": "int", "default": 600},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["reserved_ranges"])],
    )


if __name__ == "__main__":
    main()
