#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_manager_certificate_map_entry
short_description: Manage the entry of a certificate map for one host name
description:
  - Creates, updates and deletes the entry that gives one host name its certificate.
  - The name of the entry is the map's, followed by a hyphen and 8 hexadecimal digits that depend on the host name.
  - An entry with another certificate that is ACTIVE keeps it as long as O(certificate) is not ACTIVE, so that the host name is never
    without a certificate. RV(certificate) then is the previous one.
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
  map:
    description: Name of the certificate map.
    type: str
    required: true
  hostname:
    description: Host name.
    type: str
    required: true
  certificate:
    description: Path of the certificate. Required for O(state=present).
    type: str
seealso:
  - name: Certificate map entries
    description: The API.
    link: https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.certificateMaps.certificateMapEntries
"""

EXAMPLES = r"""
- name: Serve the certificate for the domain
  mlops.mlflow_gcp.certificate_manager_certificate_map_entry:
    project: my-project
    auth_kind: application
    map: mlflow-lb
    hostname: mlflow.example.com
    certificate: projects/my-project/locations/global/certificates/mlflow-lb-5d41402a
"""

RETURN = r"""
name:
  description: Name of the entry.
  returned: success
  type: str
  sample: mlflow-lb-5d41402a
path:
  description: Path of the entry.
  returned: success
  type: str
  sample: projects/my-project/locations/global/certificateMaps/mlflow-lb/certificateMapEntries/mlflow-lb-5d41402a
certificate:
  description: Name of the certificate that the entry has; empty if it is absent.
  returned: success
  type: str
  sample: mlflow-lb-5d41402a
resource:
  description: The entry as Google returns it.
  returned: success
  type: dict
  sample:
    hostname: mlflow.example.com
    state: ACTIVE
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import certificate_manager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import Family
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, lookup, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run


class Entry(certificate_manager.CertificateResource):
    """https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.certificateMaps.certificateMapEntries"""

    kind = "certificate map entry"
    id_param = "certificateMapEntryId"
    # Google returns the certificates with the project's number.
    rules = Rules(same={"certificates": lambda wanted, live: list(map(short, wanted)) == list(map(short, live or ()))})
    immutable = {"hostname": "delete it"}

    def __init__(self, task: Task) -> None:
        name, host = task.params["map"], task.params["hostname"]
        own = Family(task, name, certificate_manager.DIGITS).member(host)
        super().__init__(task, f"certificateMaps/{name}/certificateMapEntries", own)
        certificate = self.params["certificate"]
        self.wanted = {"hostname": host, "certificates": [certificate] if certificate else None}

    @property
    def label(self) -> str:
        return f"{self.kind} {self.name} ({self.params['hostname']}) of project {self.task.project}"

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        current = (live or {}).get("certificates") or []
        if not current or not self.differences(live or {}) or self.active(self.params["certificate"]):
            return self.wanted
        return self.wanted | ({"certificates": current} if any(map(self.active, current)) else {})

    def active(self, path: str) -> bool:
        """Whether a certificate can be served."""
        found = self.client.find(f"{certificate_manager.API}/{path}")
        return found is not None and (lookup(found, "managed.state") or "ACTIVE") == "ACTIVE"

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {**super().returns(live), "certificate": short((live.get("certificates") or [""])[0])}


def main() -> None:
    run(
        Entry.converge,
        argument_spec={
            "map": {"type": "str", "required": True, "kind": values.BALANCER_NAME},
            "hostname": {"type": "str", "required": True, "kind": values.DOMAIN},
            "certificate": {"type": "str"},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["certificate"])],
    )


if __name__ == "__main__":
    main()
