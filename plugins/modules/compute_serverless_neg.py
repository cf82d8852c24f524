#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_serverless_neg
short_description: Manage a serverless network endpoint group for Cloud Run
description:
  - Creates and deletes a serverless network endpoint group (NEG), which connects the backend service of a load balancer
    with a Cloud Run service.
  - A NEG cannot be changed. When O(cloud_run_service) differs, an unused NEG is recreated; if a backend service uses it,
    the module fails with instructions.
  - Neither Google nor this module checks that the Cloud Run service exists; M(mlops.mlflow_gcp.mlflow_doctor) does.
  - The module for NEGs in C(google.cloud) only supports zonal NEGs.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state
options:
  name:
    description: Name of the NEG.
    type: str
    required: true
  region:
    description: Region of the NEG and of the Cloud Run service.
    type: str
    required: true
  cloud_run_service:
    description: Short name of the Cloud Run service. Required for O(state=present).
    type: str
seealso:
  - name: Region network endpoint groups
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/regionNetworkEndpointGroups
"""

EXAMPLES = r"""
- name: Create a NEG for the Cloud Run service
  mlops.mlflow_gcp.compute_serverless_neg:
    project: my-project
    auth_kind: application
    name: mlflow-neg
    region: europe-west2
    cloud_run_service: mlflow
  register: neg
"""

RETURN = r"""
self_link:
  description: Link of the NEG, for O(mlops.mlflow_gcp.compute_backend_service#module:groups).
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west2/networkEndpointGroups/mlflow-neg
resource:
  description: The NEG as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-neg
    networkEndpointType: SERVERLESS
    cloudRun:
      service: mlflow
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, lookup, same_link
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource


class Neg(Resource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/regionNetworkEndpointGroups"""

    kind = "serverless NEG"
    # An additional tag or URL mask changes the target as much as another service does.
    rules = Rules(exact=frozenset({"cloudRun"}))
    immutable = {"networkEndpointType": "give another name"}

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.name = self.params["name"]
        self.path = f"projects/{task.project}/regions/{self.params['region']}/networkEndpointGroups"
        self.collection = f"https://compute.googleapis.com/compute/v1/{self.path}"
        self.url = f"{self.collection}/{self.name}"
        self.wanted = {
            "name": self.name,
            "networkEndpointType": "SERVERLESS",
            "cloudRun": {"service": self.params["cloud_run_service"]},
        }

    def check_change(self, live: dict[str, Any], changes: list[str]) -> None:
        super().check_change(live, changes)
        with self.client.action(f"list the backend services that use {self.label}"):
            url = f"https://compute.googleapis.com/compute/v1/projects/{self.task.project}/global/backendServices"
            users = [
                service["name"]
                for service in self.client.items(url, "items")
                if any(same_link(backend.get("group"), self.url) for backend in service.get("backends") or ())
            ]
        if users:
            raise GcpError(
                f"Cannot update {self.label}: its target {lookup(live, 'cloudRun')} cannot be changed to "
                f"{self.wanted['cloudRun']} while backend service {', '.join(users)} uses it; create a NEG with another "
                "name and attach that, or detach this NEG and run again"
            )

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        self.wait(self.delete(live), self.url, "delete")
        return self.create()

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {"self_link": live.get("selfLink") or f"https://www.googleapis.com/compute/v1/{self.path}/{self.name}"}


def main() -> None:
    run(
        Neg.converge,
        argument_spec={
            "name": {"type": "str", "required": True},
            "region": {"type": "str", "required": True, "kind": values.REGION},
            "cloud_run_service": {"type": "str"},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["cloud_run_service"])],
    )


if __name__ == "__main__":
    main()
