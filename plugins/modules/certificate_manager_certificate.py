#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_manager_certificate
short_description: Manage a Google-managed certificate of Certificate Manager
description:
  - Google issues and renews the certificate when each domain is authorized, with O(dns_authorizations) by a DNS record, before any
    load balancer serves it; with O(issuance_config), a CA pool issues it for any domain. Until then RV(status) is V(PROVISIONING).
    The module does not wait for it; see M(mlops.mlflow_gcp.certificate_wait).
  - Google cannot change the domains of a certificate, and does not delete one that a map entry has. O(name) is therefore the
    prefix of a family of certificates, followed by a hyphen and 8 hexadecimal digits that depend on the domains and the issuance
    config. For other domains the module creates an additional certificate; when the map entries have it, delete the others, RV(obsolete), with
    O(state=absent) and O(keep).
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
    description: Prefix of the certificate's name, at most 54 lower case letters, digits and hyphens.
    type: str
    required: true
  domains:
    description: Domain names in any order, at most 100. Required for O(state=present).
    type: list
    elements: str
  region:
    description: Region of the load balancer. Without it, the certificate is for global ones.
    type: str
  dns_authorizations:
    description: Paths of the DNS authorizations of the domains. This or O(issuance_config) is required for O(state=present).
    type: list
    elements: str
  issuance_config:
    description:
      - Path of the issuance config with the CA pool that issues the certificate, as returned by
        M(mlops.mlflow_gcp.certificate_manager_issuance_config).
    type: str
  keep:
    description: With O(state=absent), names or paths of certificates of the family to keep.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) creates the certificate for O(domains).
      - V(absent) deletes all certificates of the family O(name), except those in O(keep). One that a map entry still has is left,
        with a warning.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - name: Certificates
    description: The API.
    link: https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.certificates
  - module: mlops.mlflow_gcp.certificate_manager_dns_authorization
  - module: mlops.mlflow_gcp.certificate_manager_issuance_config
  - module: mlops.mlflow_gcp.certificate_manager_certificate_map_entry
"""

EXAMPLES = r"""
- name: Create a certificate for the domain
  mlops.mlflow_gcp.certificate_manager_certificate:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    domains: [mlflow.example.com]
    dns_authorizations: ["{{ authorization.path }}"]
  register: certificate
"""

RETURN = r"""
name:
  description: Name of the certificate; with O(state=absent), of the family.
  returned: success
  type: str
  sample: mlflow-lb-5d41402a
path:
  description: Path of the certificate; empty with O(state=absent).
  returned: success
  type: str
  sample: projects/my-project/locations/global/certificates/mlflow-lb-5d41402a
status:
  description: V(PROVISIONING), V(ACTIVE) or V(FAILED); empty with O(state=absent).
  returned: success
  type: str
  sample: ACTIVE
obsolete:
  description: Names of the other certificates of the family; with O(state=absent), of those that are left.
  returned: success
  type: list
  elements: str
  sample: []
resource:
  description: The certificate as Google returns it; empty with O(state=absent).
  returned: success
  type: dict
  sample:
    managed:
      domains: [mlflow.example.com]
      state: ACTIVE
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import certificate_manager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import Family
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, same_resource, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run

COLLECTION = "certificates"


def family(task: Task) -> list[dict[str, Any]]:
    """The certificates with the prefix in option name, the newest last."""
    return certificate_manager.members(task, COLLECTION, task.params["name"], "certificates")


class Certificate(certificate_manager.CertificateResource):
    """https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.certificates"""

    kind = "certificate"
    id_param = "certificateId"
    rules = Rules(
        same={
            "managed.domains": lambda wanted, live: set(wanted) == set(live or ()),
            # Google returns them with the project's number.
            "managed.dnsAuthorizations": lambda wanted, live: set(map(short, wanted)) == set(map(short, live or ())),
            "managed.issuanceConfig": same_resource,
        }
    )
    immutable = dict.fromkeys(("managed.domains", "managed.dnsAuthorizations", "managed.issuanceConfig"), "delete it")

    def __init__(self, task: Task) -> None:
        domains = list(dict.fromkeys(task.params["domains"] or ()))
        config = task.params["issuance_config"]
        content = "\n".join([*sorted(domains), *([short(config)] if config else [])])
        name = Family(task, task.params["name"], certificate_manager.DIGITS).member(content)
        super().__init__(task, COLLECTION, name)
        self.wanted = {
            "managed": {
                "domains": domains,
                "dnsAuthorizations": self.params["dns_authorizations"],
                "issuanceConfig": config,
            }
        }

    def validate(self) -> None:
        domains = self.wanted["managed"]["domains"]
        if not 1 <= len(domains) <= 100:
            raise InvalidInput("domains", domains, "1 to 100 domain names")
        values.check_option("domains", domains, values.DOMAINS)
        if bool(self.params["dns_authorizations"]) == bool(self.params["issuance_config"]):
            raise InvalidInput(
                "dns_authorizations", self.params["dns_authorizations"], "give either this or issuance_config"
            )

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {
            **super().returns(live),
            "status": (live.get("managed") or {}).get("state") or "PROVISIONING",
            "obsolete": sorted(entry["name"] for entry in family(self.task) if entry["name"] != self.name),
        }


def absent(task: Task) -> dict[str, Any]:
    """Delete the family, except what is in option keep."""
    return certificate_manager.absent(task, COLLECTION, "certificate", status="")


def main() -> None:
    run(
        lambda task: absent(task) if task.params["state"] == "absent" else Certificate.converge(task),
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.BALANCER_NAME},
            "domains": {"type": "list", "elements": "str"},
            "region": {"type": "str", "kind": values.REGION},
            "dns_authorizations": {"type": "list", "elements": "str"},
            "issuance_config": {"type": "str"},
            "keep": {"type": "list", "elements": "str", "default": []},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["domains"])],
    )


if __name__ == "__main__":
    main()
