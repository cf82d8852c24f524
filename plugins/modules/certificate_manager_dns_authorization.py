#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_manager_dns_authorization
short_description: Manage the authorization by which Certificate Manager issues a certificate before the domain leads anywhere
description:
  - Creates and deletes the DNS authorization of a domain. Google issues a certificate for the domain as soon as the CNAME record
    RV(record) is in its zone, wherever the domain itself leads.
  - O(name) is the prefix of a family of authorizations, one for each domain, followed by a hyphen and 8 hexadecimal digits that
    depend on the domain. Google cannot change the domain of an authorization.
  - The record is of the type C(PER_PROJECT_RECORD), whose name depends on the project, so that several projects can have
    certificates for one domain, and another C(_acme-challenge) record of the domain stays as it is.
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
    description: Prefix of the authorization's name, at most 54 lower case letters, digits and hyphens.
    type: str
    required: true
  domain:
    description: The domain name. Required for O(state=present).
    type: str
  keep:
    description: With O(state=absent), domains whose authorizations are kept.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) creates the authorization of O(domain).
      - V(absent) deletes all authorizations of the family O(name), except those of the domains in O(keep). One that a certificate
        still uses is left, with a warning.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - name: DNS authorizations
    description: The API.
    link: https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.dnsAuthorizations
  - module: mlops.mlflow_gcp.certificate_manager_certificate
"""

EXAMPLES = r"""
- name: Authorize certificates for the domain by a DNS record
  mlops.mlflow_gcp.certificate_manager_dns_authorization:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    domain: mlflow.example.com
  register: authorization

- name: Set the record of the authorization
  mlops.mlflow_gcp.dns_record_set:
    project: my-project
    auth_kind: application
    zone: example
    name: "{{ authorization.record.name }}"
    type: CNAME
    values: ["{{ authorization.record.data }}"]
"""

RETURN = r"""
name:
  description: Name of the authorization; with O(state=absent), of the family.
  returned: success
  type: str
  sample: mlflow-lb-5d41402a
path:
  description: Path of the authorization, for M(mlops.mlflow_gcp.certificate_manager_certificate).
  returned: state is present
  type: str
  sample: projects/my-project/locations/global/dnsAuthorizations/mlflow-lb-5d41402a
record:
  description: The record to set, with C(name), C(type) and C(data); empty in check mode before the authorization exists.
  returned: state is present
  type: dict
  sample:
    name: _acme-challenge_ujmmovf2vn55tgye.mlflow.example.com.
    type: CNAME
    data: 45b1dc1b-2e2d-4d1c-9e2a-3b0f7f1f0d11.1.authorize.certificatemanager.goog.
zone_line:
  description: The record as a zone file has it; empty in check mode before the authorization exists.
  returned: state is present
  type: str
  sample: _acme-challenge_ujmmovf2vn55tgye.mlflow.example.com. CNAME 45b1dc1b-2e2d.1.authorize.certificatemanager.goog.
domains:
  description: The domains of all authorizations of the family.
  returned: state is present
  type: list
  elements: str
  sample: [mlflow.example.com]
records:
  description: With O(state=absent), the records of the authorizations that were deleted.
  returned: state is absent
  type: list
  elements: dict
  sample: []
resource:
  description: The authorization as Google returns it.
  returned: state is present
  type: dict
  sample:
    domain: mlflow.example.com
    type: PER_PROJECT_RECORD
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import certificate_manager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import Family
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, UNKNOWN, Task, run

COLLECTION = "dnsAuthorizations"


def family(task: Task) -> list[dict[str, Any]]:
    """The authorizations with the prefix in option name."""
    return certificate_manager.members(task, COLLECTION, task.params["name"], "DNS authorizations")


class Authorization(certificate_manager.CertificateResource):
    """https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.dnsAuthorizations"""

    kind = "DNS authorization"
    id_param = "dnsAuthorizationId"
    immutable = {"domain": "delete it", "type": "delete it"}

    def __init__(self, task: Task) -> None:
        domain = task.params["domain"]
        super().__init__(task, COLLECTION, Family(task, task.params["name"], certificate_manager.DIGITS).member(domain))
        self.wanted = {"domain": domain, "type": "PER_PROJECT_RECORD"}

    def foreseen(self) -> dict[str, str]:
        """The record in check mode, before Google has chosen where it leads to."""
        name = f"_acme-challenge.{self.wanted['domain'].removeprefix('*.')}."
        return {"name": name, "type": "CNAME", "data": UNKNOWN} if self.task.check_mode else {}

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        domains = {entry["domain"] for entry in family(self.task)} | {self.wanted["domain"]}
        record = live.get("dnsResourceRecord") or self.foreseen()
        return {
            **super().returns(live),
            "record": record,
            "zone_line": " ".join(record.get(key, "") for key in ("name", "type", "data")).strip(),
            "domains": sorted(domains),
        }


def absent(task: Task) -> dict[str, Any]:
    """Delete the family, except the authorizations of the domains in option keep."""
    found = family(task)
    obsolete = [entry for entry in found if entry["domain"] not in task.params["keep"]]
    paths = [entry["path"] for entry in obsolete]
    left = [] if task.check_mode else certificate_manager.delete(task, "DNS authorization", paths)
    gone = [entry for entry in obsolete if entry["path"] not in left]
    return task.result(
        label=f"DNS authorizations {task.params['name']}",
        changed=bool(gone),
        before={"dns_authorizations": [entry["name"] for entry in found]},
        after={"dns_authorizations": [entry["name"] for entry in found if entry not in gone]},
        name=task.params["name"],
        records=[entry["dnsResourceRecord"] for entry in gone],
    )


def main() -> None:
    run(
        lambda task: absent(task) if task.params["state"] == "absent" else Authorization.converge(task),
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.BALANCER_NAME},
            "domain": {"type": "str", "kind": values.DOMAIN},
            "keep": {"type": "list", "elements": "str", "default": []},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["domain"])],
    )


if __name__ == "__main__":
    main()
