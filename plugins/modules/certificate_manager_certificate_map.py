#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_manager_certificate_map
short_description: Manage a certificate map, by which a load balancer finds the certificate of each host name
description:
  - Creates, updates and deletes a certificate map. Its entries are resources of their own, see
    M(mlops.mlflow_gcp.certificate_manager_certificate_map_entry).
  - With O(state=absent), the entries that this collection has made are deleted with it. A map with other entries, or one that a proxy
    serves, is not deleted.
  - google.cloud has no module for it.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state
options:
  name:
    description: Name of the map, at most 54 lower case letters, digits and hyphens.
    type: str
    required: true
seealso:
  - name: Certificate maps
    description: The API.
    link: https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.certificateMaps
"""

EXAMPLES = r"""
- name: Create a certificate map
  mlops.mlflow_gcp.certificate_manager_certificate_map:
    project: my-project
    auth_kind: application
    name: mlflow-lb
"""

RETURN = r"""
name:
  description: Name of the map.
  returned: success
  type: str
  sample: mlflow-lb
path:
  description: Path of the map, for M(mlops.mlflow_gcp.compute_target_https_proxy).
  returned: success
  type: str
  sample: projects/my-project/locations/global/certificateMaps/mlflow-lb
hostnames:
  description: The host names of the entries that this collection has made.
  returned: success
  type: list
  elements: str
  sample: [mlflow.example.com]
resource:
  description: The map as Google returns it.
  returned: success
  type: dict
  sample:
    name: projects/my-project/locations/global/certificateMaps/mlflow-lb
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import certificate_manager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run


class Map(certificate_manager.CertificateResource):
    """https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.certificateMaps"""

    kind = "certificate map"
    id_param = "certificateMapId"

    def __init__(self, task: Task) -> None:
        super().__init__(task, "certificateMaps", task.params["name"])
        self.wanted = {}

    def entries(self) -> list[dict[str, Any]]:
        """The entries that this collection has made."""
        collection = f"certificateMaps/{self.name}/certificateMapEntries"
        return certificate_manager.members(self.task, collection, self.name, "certificate map entries")

    def check_delete(self, live: dict[str, Any]) -> None:
        targets = [target.get("targetHttpsProxy", "") for target in live.get("gclbTargets") or ()]
        if targets:
            raise GcpError(f"Cannot delete {self.label}: {', '.join(targets)} serves it; detach it first")

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        certificate_manager.delete(self.task, "certificate map entry", [str(entry["path"]) for entry in self.entries()])
        return super().delete(live)

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        entries = self.entries() if live and self.params["state"] == "present" else []
        hostnames = sorted(entry["hostname"] for entry in entries if "hostname" in entry)
        return {**super().returns(live), "hostnames": hostnames}


def main() -> None:
    run(
        Map.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.BALANCER_NAME},
            **STATE_OPTION,
        },
    )


if __name__ == "__main__":
    main()
