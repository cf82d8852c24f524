#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_serverless_neg
short_description: Manage a serverless network endpoint group for Cloud Run
description:
  - A serverless network endpoint group (NEG) is how a load balancer's backend service reaches a Cloud Run service.
  - Google does not change a NEG. When O(cloud_run_service) differs, one that no backend service uses is deleted and made
    anew; one that is in use is left alone, and the error says what to do.
  - Google does not check that the Cloud Run service exists, neither does this module; M(mlops.mlflow_gcp.mlflow_doctor)
    does.
  - The module for NEGs in C(google.cloud) is for zonal ones.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
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
    description: Short name of the Cloud Run service. Needed for O(state=present).
    type: str
  state:
    description: Whether the NEG shall exist.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - name: Region network endpoint groups
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/regionNetworkEndpointGroups
"""

EXAMPLES = r"""
- name: The load balancer's way to Cloud Run
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
  description: Link of the NEG, as M(mlops.mlflow_gcp.compute_backend_service) takes it in O(mlops.mlflow_gcp.compute_backend_service#module:groups).
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west2/networkEndpointGroups/mlflow-neg
resource:
  description: The NEG as the API returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-neg
    networkEndpointType: SERVERLESS
    cloudRun:
      service: mlflow
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, lookup, same_link
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource


class Neg(Resource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/regionNetworkEndpointGroups"""

    kind = "serverless NEG"
    # A tag or a URL mask that somebody added leads elsewhere as much as another service does.
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

    def validate(self) -> None:
        if self.params["state"] == "present" and not self.params["cloud_run_service"]:
            raise InvalidInput(
                "cloud_run_service", self.params["cloud_run_service"], "the short name of a Cloud Run service"
            )

    def check_change(self, live: dict[str, Any], changes: list[str]) -> None:
        super().check_change(live, changes)
        with self.client.attempt(f"list the backend services that use {self.label}"):
            url = f"https://compute.googleapis.com/compute/v1/projects/{self.task.project}/global/backendServices"
            users = [
                service["name"]
                for service in self.client.items(url, "items")
                if any(same_link(backend.get("group"), self.url) for backend in service.get("backends") or ())
            ]
        if users:
            was, wish = lookup(live, "cloudRun"), self.wanted["cloudRun"]
            raise GcpError(
                f"Cannot update {self.label}: it leads to {was} instead of {wish}, Google does not change a NEG, and backend service "
                f"{', '.join(users)} uses it; make a NEG of another name and attach that, or take this one off and run again"
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
            "region": {"type": "str", "required": True},
            "cloud_run_service": {"type": "str"},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["cloud_run_service"])],
    )


if __name__ == "__main__":
    main()
