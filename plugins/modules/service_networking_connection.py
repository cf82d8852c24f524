#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_networking_connection
short_description: Peer a VPC network with Google's managed services
description:
  - Manages private services access, the peering that gives Cloud SQL a private IP address in your network.
  - Ranges that the peering already has are kept, because other users of the network may depend on them; see O(exclusive). Names
    of ranges that no longer exist, which Google refuses in a change, are left out of it.
  - The API has no protection against two changes at once, the last one wins. The module therefore reads the connection again
    after a change. If ranges were reserved in the last minutes that are not part of it yet, it waits for the deployments that
    are adding them, and adds its own again if one of them has dropped it.
  - For up to four days after the last Cloud SQL instance has been deleted, Google rejects the deletion. If the network has no
    subnetwork left, so that nothing in it can use the connection, the module removes the peering from the network instead.
    Otherwise it retries for O(release_timeout).
  - C(google.cloud) has no module for this.
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
  network:
    description:
      - Network, as a name, V(projects/PROJECT/global/networks/NAME) or selfLink.
    type: str
    required: true
  reserved_ranges:
    description:
      - Names of global addresses in the network with purpose C(VPC_PEERING); required for O(state=present).
      - With O(state=existing), ranges that the connection must have.
      - With O(state=absent), take only these ranges out, and delete the connection if it has no others. A connection that has only
        others belongs to others. Without this option, the whole connection is deleted.
    type: list
    elements: str
  exclusive:
    description:
      - Remove ranges from the peering that are not in O(reserved_ranges).
    type: bool
    default: false
  service:
    description:
      - Service to peer with.
    type: str
    default: servicenetworking.googleapis.com
  timeout:
    description:
      - Seconds to wait for an operation.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Connect managed services to the network
  mlops.mlflow_gcp.service_networking_connection:
    project: my-project
    auth_kind: application
    network: mlflow-network
    reserved_ranges:
      - mlflow-services

- name: Take the range out, and leave the connection if others use it
  mlops.mlflow_gcp.service_networking_connection:
    project: my-project
    auth_kind: application
    network: mlflow-network
    reserved_ranges:
      - mlflow-services
    in_use: leave
    state: absent

- name: Use the connection of a Shared VPC
  mlops.mlflow_gcp.service_networking_connection:
    project: network-host
    auth_kind: application
    network: shared
    state: existing
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

from datetime import timedelta
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudsql, times
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, full_path, lookup, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InUse, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import (
    STATE_OR_EXISTING_OPTION,
    Task,
    deletion_options,
    run,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.operations import OperationTimeout, poll
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

# How recently a range was reserved that a deployment may be about to add, and how long to wait for that: Google takes 30 to 60 s.
RECENTLY = timedelta(minutes=15)
PATIENCE = 120


class Connection(Resource):
    """https://cloud.google.com/service-infrastructure/docs/service-networking/reference/rest/v1/services.connections"""

    kind = "service networking connection of network"
    # Who may use the network of a Shared VPC need not be allowed to read its connections; Cloud SQL checks them.
    may_be_hidden = True
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

    @cached_property
    def consumer_network(self) -> str | None:
        """The network with its project's number, as this API requires it; None when check mode cannot read it yet."""
        project = self.network.split("/")[1]
        number = project if project.isdigit() else self.task.number_of(project)
        return number and f"projects/{number}/global/networks/{self.name}"

    def read(self) -> dict[str, Any] | None:
        live = self.find()
        if live is None or self.params["state"] != "absent":
            return live
        own, ranges = self.params["reserved_ranges"], live.get("reservedPeeringRanges") or []
        # With other ranges only, the connection is one of others.
        return live if not own or not ranges or set(own) & set(ranges) else None

    def find(self) -> dict[str, Any] | None:
        """The live connection, None without one."""
        if self.consumer_network is None:
            return None
        service, query = f"services/{self.params['service']}", {"network": self.consumer_network}
        try:
            connections = list(self.client.items(self.collection, "connections", params=query))
        except ApiError as error:
            if not (self.task.check_mode or self.params["state"] == "absent") or "not exist" not in error.message:
                raise
            if self.params["state"] != "absent":
                # In a first --check of a whole deployment, the network has not been created yet.
                self.task.warn(f"Check mode assumes that {self.label} is absent: the network does not exist yet")
            return None
        return next((found for found in connections if found.get("service", service) == service), None)

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        own, kept = self.params["reserved_ranges"] or [], list((live or {}).get("reservedPeeringRanges", ()))
        if self.params["exclusive"]:
            kept = []
        elif set(own) <= set(kept):
            own = []
        elif kept and (known := self.addresses()) is not None:
            kept = [name for name in kept if name in known]
        ranges = list(dict.fromkeys([*kept, *own]))
        return {"network": self.consumer_network or self.network, "reservedPeeringRanges": ranges}

    def create(self) -> dict[str, Any]:
        try:
            operation = self.client.post(self.collection, self.wanted, idempotent=True)
            self.wait(operation, self.collection, "create")
            # A Cloud SQL instance that is created before the connection exists fails permanently.
            return self.poll(bool, "wait for the creation")
        except ApiError as error:
            if "cannot modify allocated ranges" not in error.message.lower():
                raise
        # The service remembers the ranges of a deleted connection, or another run has created it: only a PATCH changes it.
        live = self.read()
        self.wanted = self.complete(live)
        return self.update(live or {}, [])

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        """Add the ranges until they are there: a change of another run, read before ours and written after it, drops them."""
        url, query = f"{self.collection}/-", {"force": "true", "updateMask": "reservedPeeringRanges"}
        for _attempt in range(10):
            self.wait(self.client.request("PATCH", url, self.wanted, params=query), self.collection, "update")
            self.poll(bool, "wait for the connection")
            self.wait_for_others()
            live = self.read() or {}
            self.wanted = self.complete(live)
            if not self.differences(live):
                return live
        raise GcpError(
            f"Cannot update {self.label}: other runs keep dropping its ranges; run again when they have finished"
        )

    def wait_for_others(self) -> None:
        """Return when no other run seems to be adding a range, after PATIENCE at the latest."""
        try:
            poll(self.is_settled, bool, timeout=PATIENCE, action=f"wait for other changes of {self.label}")
        except OperationTimeout:
            # Somebody has reserved a range for later.
            return

    def is_settled(self) -> bool:
        """Whether all ranges that were reserved recently are part of the connection."""
        connected = (self.read() or {}).get("reservedPeeringRanges", ())
        since = times.now() - RECENTLY
        return all(
            name in connected or times.moment(address["creationTimestamp"]) < since
            for name, address in (self.addresses() or {}).items()
        )

    def addresses(self) -> dict[str, dict[str, Any]] | None:
        """
        The ranges of the network by name; None if the caller may not list them.

        https://cloud.google.com/compute/docs/reference/rest/v1/globalAddresses/list
        """
        url = f"https://compute.googleapis.com/compute/v1/{self.network.rpartition('/networks/')[0]}/addresses"
        try:
            return {
                address["name"]: address
                for address in self.client.items(url, "items")
                if address.get("purpose") == "VPC_PEERING" and same_resource(self.network, address.get("network"))
            }
        except ApiError as error:
            if error.status == 403:
                return None
            raise

    def remains(self, live: dict[str, Any]) -> dict[str, Any]:
        kept = [
            name for name in live["reservedPeeringRanges"] if name not in (self.params["reserved_ranges"] or [name])
        ]
        return {**live, "reservedPeeringRanges": kept} if kept else {}

    def check_delete(self, live: dict[str, Any]) -> None:
        # In a connection with this range only, every instance has its address in it.
        users = [entry["name"] for entry in self.instances() if not self.remains(live) or self.is_inside(entry)]
        if users:
            raise InUse(f"Cannot delete {self.label}: Cloud SQL still uses it; first delete {', '.join(users)}")

    def is_held(self, error: ApiError) -> bool:
        # For up to four days after the last instance was deleted.
        return error.reason == "FAILED_PRECONDITION" or "still using" in error.message

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        if kept := self.remains(live):
            query = {"force": "true", "updateMask": "reservedPeeringRanges"}
            body = {"network": self.consumer_network, "reservedPeeringRanges": kept["reservedPeeringRanges"]}
            return self.client.request("PATCH", f"{self.collection}/-", body, params=query)
        try:
            self.disconnect()
        except ApiError as error:
            # Who uses the connection is in a subnetwork of the network.
            if not self.is_held(error) or self.subnetworks():
                raise
            self.task.warn(
                f"{error}. No subnetwork is left to use it: the peering was removed from the network instead"
            )
            self.remove_peering(live["peering"])
        return {}

    def disconnect(self) -> None:
        """https://cloud.google.com/service-infrastructure/docs/service-networking/reference/rest/v1/services.connections/deleteConnection"""
        operation = self.client.post(self.url, {"consumerNetwork": self.consumer_network}, idempotent=True)
        self.wait(operation, self.url, "delete")

    def instances(self) -> list[dict[str, Any]]:
        """The Cloud SQL instances of this project in the network."""
        url, path = cloudsql.instances_url(self.task.project), "settings.ipConfiguration.privateNetwork"
        try:
            return [
                instance
                for instance in self.client.items(url, "items")
                if same_resource(self.consumer_network, lookup(instance, path))
            ]
        except ApiError as error:
            # Google itself rejects the deletion of a connection in use.
            if error.status == 403:
                return []
            raise

    def is_inside(self, instance: dict[str, Any]) -> bool:
        """Whether an instance has its address in option reserved_ranges."""
        if lookup(instance, "settings.ipConfiguration.allocatedIpRange") in self.params["reserved_ranges"]:
            return True
        own = [
            ip_network(f"{address['address']}/{address['prefixLength']}")
            for name, address in self.known_addresses.items()
            if name in self.params["reserved_ranges"]
        ]
        private = (entry["ipAddress"] for entry in instance.get("ipAddresses") or () if entry.get("type") == "PRIVATE")
        return any(ip_address(address) in network for address in private for network in own)

    @cached_property
    def known_addresses(self) -> dict[str, dict[str, Any]]:
        """The ranges of the network by name, as far as they may be listed."""
        return self.addresses() or {}

    def subnetworks(self) -> list[str]:
        """The links of the network's subnetworks."""
        network = self.client.find(f"https://compute.googleapis.com/compute/v1/{self.network}")
        return (network or {}).get("subnetworks") or []

    def remove_peering(self, peering: str) -> None:
        """https://cloud.google.com/compute/docs/reference/rest/v1/networks/removePeering"""
        url = f"https://compute.googleapis.com/compute/v1/{self.network}/removePeering"
        self.wait(self.client.post(url, {"name": peering}, idempotent=True), url, "remove the peering of")


def main() -> None:
    run(
        Connection.converge,
        argument_spec={
            "network": {"type": "str", "required": True},
            "reserved_ranges": {"type": "list", "elements": "str"},
            "exclusive": {"type": "bool", "default": False},
            "service": {"type": "str", "default": "servicenetworking.googleapis.com"},
            "timeout": {"type": "int", "default": 600},
            **STATE_OR_EXISTING_OPTION,
            **deletion_options(60),
        },
        required_if=[("state", "present", ["reserved_ranges"])],
    )


if __name__ == "__main__":
    main()
