#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_manager_issuance_config
short_description: Manage a certificate issuance config of Certificate Manager
description:
  - Names the CA pool of Certificate Authority Service that issues certificates, how long they are valid and when they are renewed. The
    service agent of Certificate Manager needs the role C(roles/privateca.certificateRequester) on the pool.
  - Google cannot change a config, and does not delete one that a certificate has. O(name) is therefore the prefix of a family of
    configs, followed by a hyphen and 8 hexadecimal digits that depend on the other options. For another pool the module creates an
    additional config; when no certificate has the others, RV(obsolete), delete them with O(state=absent) and O(keep).
  - google.cloud has no module for it.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
options:
  name:
    description: Prefix of the config's name, at most 54 lower case letters, digits and hyphens.
    type: str
    required: true
  region:
    description: Region of the load balancer and of the CA pool. Without it, the config is for global load balancers.
    type: str
  ca_pool:
    description: Path of the CA pool, V(projects/PROJECT/locations/LOCATION/caPools/POOL). Required for O(state=present).
    type: str
  lifetime_days:
    description: Days that a certificate is valid, 21 to 30.
    type: int
    default: 30
  rotation_window_percentage:
    description: Percentage of this time after which it is renewed, 1 to 99.
    type: int
    default: 66
  key_algorithm:
    description: Algorithm of the certificates' keys.
    type: str
    choices: [RSA_2048, ECDSA_P256]
    default: ECDSA_P256
  keep:
    description: With O(state=absent), names or paths of configs of the family to keep.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) creates the config.
      - V(absent) deletes all configs of the family O(name), except those in O(keep). One that a certificate still has is left, with a
        warning.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - name: Certificate issuance configs
    description: The API.
    link: https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.certificateIssuanceConfigs
  - module: mlops.mlflow_gcp.certificate_manager_certificate
"""

EXAMPLES = r"""
- name: Let the CA pool issue certificates
  mlops.mlflow_gcp.certificate_manager_issuance_config:
    project: my-project
    auth_kind: application
    name: mlflow-internal
    region: europe-west2
    ca_pool: projects/pki/locations/europe-west2/caPools/internal
  register: config
"""

RETURN = r"""
name:
  description: Name of the config; with O(state=absent), of the family.
  returned: success
  type: str
  sample: mlflow-internal-5d41402a
path:
  description: Path of the config; empty with O(state=absent).
  returned: success
  type: str
  sample: projects/my-project/locations/europe-west2/certificateIssuanceConfigs/mlflow-internal-5d41402a
obsolete:
  description: Names of the other configs of the family; with O(state=absent), of those that are left.
  returned: success
  type: list
  elements: str
  sample: []
resource:
  description: The config as Google returns it; empty with O(state=absent).
  returned: success
  type: dict
  sample:
    keyAlgorithm: ECDSA_P256
    lifetime: 2592000s
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import certificate_manager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import Family
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run

COLLECTION = "certificateIssuanceConfigs"
POOL = "certificateAuthorityConfig.certificateAuthorityServiceConfig.caPool"


def family(task: Task) -> list[dict[str, Any]]:
    """The configs with the prefix in option name, the newest last."""
    return certificate_manager.members(task, COLLECTION, task.params["name"], "certificate issuance configs")


class IssuanceConfig(certificate_manager.CertificateResource):
    """https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.certificateIssuanceConfigs"""

    kind = "certificate issuance config"
    id_param = "certificateIssuanceConfigId"
    rules = Rules(same={POOL: same_resource})
    immutable = dict.fromkeys((POOL, "lifetime", "rotationWindowPercentage", "keyAlgorithm"), "delete it")

    def __init__(self, task: Task) -> None:
        params = task.params
        self.wanted = {
            "certificateAuthorityConfig": {"certificateAuthorityServiceConfig": {"caPool": params["ca_pool"]}},
            "lifetime": f"{params['lifetime_days'] * 86400}s",
            "rotationWindowPercentage": params["rotation_window_percentage"],
            "keyAlgorithm": params["key_algorithm"],
        }
        options = ("ca_pool", "lifetime_days", "rotation_window_percentage", "key_algorithm")
        content = "\n".join(str(params[option]) for option in options)
        name = Family(task, params["name"], certificate_manager.DIGITS).member(content)
        super().__init__(task, COLLECTION, name)

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        others = sorted(entry["name"] for entry in family(self.task) if entry["name"] != self.name)
        return {**super().returns(live), "obsolete": others}


def absent(task: Task) -> dict[str, Any]:
    """Delete the family, except what is in option keep."""
    return certificate_manager.absent(task, COLLECTION, "certificate issuance config")


def main() -> None:
    run(
        lambda task: absent(task) if task.params["state"] == "absent" else IssuanceConfig.converge(task),
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.BALANCER_NAME},
            "region": {"type": "str", "kind": values.REGION},
            "ca_pool": {"type": "str", "kind": values.CA_POOL},
            "lifetime_days": {"type": "int", "default": 30, "kind": values.between(21, 30)},
            "rotation_window_percentage": {"type": "int", "default": 66, "kind": values.between(1, 99)},
            "key_algorithm": {"type": "str", "choices": ["RSA_2048", "ECDSA_P256"], "default": "ECDSA_P256"},
            "keep": {"type": "list", "elements": "str", "default": []},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["ca_pool"])],
    )


if __name__ == "__main__":
    main()
