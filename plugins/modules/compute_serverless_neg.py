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
  - A NEG cannot be changed, and cannot be deleted while a backend service uses it. O(name) is therefore the prefix of a family
    of NEGs, followed by a hyphen and 4 hexadecimal digits that depend on the region and the service. For another service or
    region the module creates an additional NEG, which takes over the description and the annotations. Give RV(self_link) to the
    backend service, then delete the other NEGs of the family, RV(obsolete), with O(state=absent) and O(keep); see the examples.
  - A NEG of the family that already leads to the service is used, also one whose name is O(name).
  - Neither Google nor this module checks that the Cloud Run service exists; M(mlops.mlflow_gcp.mlflow_front_door_check) does.
  - The module for NEGs in C(google.cloud) only supports zonal NEGs.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
options:
  name:
    description: Prefix of the NEG's name, at most 58 lower case letters, digits and hyphens.
    type: str
    required: true
  region:
    description: Region of the NEG and of the Cloud Run service. Required for O(state=present).
    type: str
  cloud_run_service:
    description: Short name of the Cloud Run service. Required for O(state=present).
    type: str
  keep:
    description: With O(state=absent), links of NEGs of the family to keep.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) creates the NEG for O(cloud_run_service).
      - V(absent) deletes all serverless NEGs of the family O(name) in all regions, except those in O(keep). One that a backend
        service still uses is left, with a warning.
    type: str
    choices: [present, absent]
    default: present
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
    name: mlflow-lb-neg
    region: europe-west2
    cloud_run_service: mlflow
  register: neg

- name: Direct requests to the Cloud Run service
  mlops.mlflow_gcp.compute_backend_service:
    project: my-project
    auth_kind: application
    name: mlflow-lb-backend
    groups: ["{{ neg.self_link }}"]

- name: Delete the NEGs of previous services
  mlops.mlflow_gcp.compute_serverless_neg:
    project: my-project
    auth_kind: application
    name: mlflow-lb-neg
    keep: ["{{ neg.self_link }}"]
    state: absent
"""

RETURN = r"""
name:
  description: Name of the NEG; with O(state=absent), of the family.
  returned: success
  type: str
  sample: mlflow-lb-neg-5d41
self_link:
  description: Link of the NEG, for O(mlops.mlflow_gcp.compute_backend_service#module:groups); empty with O(state=absent).
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west2/networkEndpointGroups/mlflow-lb-neg-5d41
obsolete:
  description: Links of the other NEGs of the family, which can be deleted when no backend service uses them any more.
  returned: success
  type: list
  elements: str
  sample: ["https://www.googleapis.com/compute/v1/projects/my-project/regions/us-east1/networkEndpointGroups/mlflow-lb-neg-7b1f"]
resource:
  description: The NEG as Google returns it; empty with O(state=absent).
  returned: success
  type: dict
  sample:
    name: mlflow-lb-neg-5d41
    networkEndpointType: SERVERLESS
    cloudRun:
      service: mlflow
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import Family
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import relative, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API, LINKS, ComputeResource, aggregated
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run

# What others may have set on a NEG that another one replaces.
TAKEN_OVER = ("description", "annotations")


class Neg(ComputeResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/regionNetworkEndpointGroups"""

    kind = "serverless NEG"

    def __init__(self, task: Task) -> None:
        super().__init__(task, f"regions/{task.params['region']}", "networkEndpointGroups")
        self.family = Family(task, self.params["name"], 4)
        self._use(self.family.member(self._content(0)))

    def _content(self, attempt: int) -> str:
        parts = [self.params["region"], self.params["cloud_run_service"], *([str(attempt)] if attempt else [])]
        return "/".join(parts)

    def _use(self, name: str) -> None:
        """Manage the NEG with this name."""
        self.name = name
        self.path = f"{self.path.rpartition('/')[0]}/{name}"
        self.url = f"{API}/{self.path}"
        self.wanted = {
            "name": name,
            "networkEndpointType": "SERVERLESS",
            "cloudRun": {"service": self.params["cloud_run_service"]},
        }

    def _fits(self, neg: dict[str, Any]) -> bool:
        """Whether a NEG leads to the whole Cloud Run service: a tag or URL mask would change the target."""
        region = short(neg.get("region")) == self.params["region"]
        return region and all(neg.get(key) == self.wanted[key] for key in ("networkEndpointType", "cloudRun"))

    def read(self) -> dict[str, Any] | None:
        """The NEG of the family that leads to the service. Without one, the name is one that no other NEG has."""
        members = family(self.task, self.family)
        fitting = [neg for neg in members if self._fits(neg)]
        if fitting:
            self._use(fitting[-1]["name"])
            return fitting[-1]
        taken = {neg["name"] for neg in members if short(neg.get("region")) == self.params["region"]}
        names = (self.family.member(self._content(attempt)) for attempt in range(len(taken) + 1))
        self._use(next(name for name in names if name not in taken))
        return None

    def create(self) -> dict[str, Any]:
        for neg in family(self.task, self.family)[-1:]:
            self.wanted |= {key: neg[key] for key in TAKEN_OVER if neg.get(key)}
        return super().create()

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        links = [neg["selfLink"] for neg in family(self.task, self.family)]
        return {
            **super().returns(live),
            "name": self.name,
            "obsolete": sorted(link for link in links if relative(link) != self.path),
        }


def family(task: Task, of: Family) -> list[dict[str, Any]]:
    """The serverless NEGs of a family in all regions, the newest last."""
    found = of.members(aggregated(task.client, task.project, "networkEndpointGroups"), "network endpoint groups")
    return [neg for neg in found if neg.get("networkEndpointType") == "SERVERLESS"]


def absent(task: Task) -> dict[str, Any]:
    """Delete the family, except the NEGs in option keep."""
    of, keep = Family(task, task.params["name"], 4), set(map(relative, task.params["keep"]))
    paths = sorted(relative(neg["selfLink"]) for neg in family(task, of))
    obsolete = [path for path in paths if path not in keep]
    left = [] if task.check_mode else of.delete("serverless NEG", obsolete)
    gone = [path for path in obsolete if path not in left]
    return task.result(
        label=f"serverless NEGs {task.params['name']}",
        changed=bool(gone),
        before={"negs": paths},
        after={"negs": [path for path in paths if path not in gone]},
        name=task.params["name"],
        self_link="",
        obsolete=[f"{LINKS}/{path}" for path in left],
        resource={},
    )


def main() -> None:
    run(
        lambda task: absent(task) if task.params["state"] == "absent" else Neg.converge(task),
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.name(58)},
            "region": {"type": "str", "kind": values.REGION},
            "cloud_run_service": {"type": "str"},
            "keep": {"type": "list", "elements": "str", "default": []},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["region", "cloud_run_service"])],
    )


if __name__ == "__main__":
    main()
