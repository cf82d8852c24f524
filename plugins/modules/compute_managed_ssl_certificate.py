#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_managed_ssl_certificate
short_description: Manage a Google-managed TLS certificate of a load balancer
description:
  - Google issues and renews the certificate when every domain resolves to the load balancer's address and the certificate
    is attached to its HTTPS proxy. Until then RV(status) is V(PROVISIONING). This takes from minutes to an hour, and the
    module does not wait for it.
  - A certificate cannot be changed, and cannot be deleted while it is attached. O(name) is therefore the prefix of a
    family of certificates, followed by a hyphen and 8 hexadecimal digits that depend on the domains. For other domains
    the module creates an additional certificate, which takes over the description. Attach RV(self_link) to the proxy, then
    delete the other certificates of the family, RV(obsolete), with O(state=absent) and O(keep); see the examples.
  - M(google.cloud.gcp_compute_ssl_certificate) only supports self-managed certificates.
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
    description:
      - Domain names in any order, at most 100, without wildcards. Required for O(state=present).
    type: list
    elements: str
  keep:
    description: With O(state=absent), names or links of certificates of the family to keep.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) creates the certificate for O(domains).
      - V(absent) deletes all managed certificates of the family O(name), except those in O(keep). One that a proxy still uses
        is left, with a warning.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - name: SSL certificates
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/sslCertificates
"""

EXAMPLES = r"""
- name: Create a certificate for the domain
  mlops.mlflow_gcp.compute_managed_ssl_certificate:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    domains: [mlflow.example.com]
  register: certificate

- name: Attach the certificate to the HTTPS proxy instead of those of previous domains
  mlops.mlflow_gcp.compute_target_https_proxy:
    project: my-project
    auth_kind: application
    name: mlflow-lb-https
    url_map: mlflow-lb
    ssl_certificates: ["{{ certificate.self_link }}"]
    detach: "{{ certificate.obsolete }}"

- name: Delete the certificates of previous domains
  mlops.mlflow_gcp.compute_managed_ssl_certificate:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    keep: ["{{ certificate.self_link }}"]
    state: absent
"""

RETURN = r"""
name:
  description: Name of the certificate; with O(state=absent), of the family.
  returned: success
  type: str
  sample: mlflow-lb-5d41402a
self_link:
  description: Link of the certificate; empty with O(state=absent).
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/sslCertificates/mlflow-lb-5d41402a
status:
  description: V(PROVISIONING), V(ACTIVE), or the reason for a failure; empty with O(state=absent).
  returned: success
  type: str
  sample: PROVISIONING
domain_status:
  description: Status of each domain.
  returned: success
  type: dict
  sample:
    mlflow.example.com: PROVISIONING
obsolete:
  description: Names of the other certificates of the family, which can be deleted when they are no longer attached.
  returned: success
  type: list
  elements: str
  sample: [mlflow-lb-7b1f3a90]
resource:
  description: The certificate as Google returns it; empty with O(state=absent).
  returned: success
  type: dict
  sample:
    name: mlflow-lb-5d41402a
    type: MANAGED
    managed:
      domains: [mlflow.example.com]
      status: PROVISIONING
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import Family
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API, ComputeResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run


def normalize(domain: str) -> str:
    """DOMAIN in lower case, without a trailing dot."""
    return str(domain).strip().lower().removesuffix(".")


def collection(task: Task) -> str:
    """https://cloud.google.com/compute/docs/reference/rest/v1/sslCertificates"""
    return f"{API}/projects/{task.project}/global/sslCertificates"


def family(task: Task) -> list[dict[str, Any]]:
    """The managed certificates with the prefix in option name, for any domains, the newest last."""
    of = Family(task, task.params["name"], 8)
    found = of.members(task.client.items(collection(task), "items"), "certificates")
    return [entry for entry in found if entry.get("type") == "MANAGED"]


class Certificate(ComputeResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/sslCertificates"""

    kind = "certificate"
    rules = Rules(
        same={"managed.domains": lambda wanted, live: set(map(normalize, wanted)) == set(map(normalize, live or ()))}
    )
    immutable = {"managed.domains": "delete it", "type": "it was not created by this module: give another name"}

    def __init__(self, task: Task) -> None:
        super().__init__(task, "global", "sslCertificates")
        domains = list(dict.fromkeys(map(normalize, self.params["domains"] or ())))
        self.name = Family(task, self.params["name"], 8).member("\n".join(sorted(domains)))
        self.path = f"{self.path.rpartition('/')[0]}/{self.name}"
        self.url = f"{self.collection}/{self.name}"
        self.wanted = {"name": self.name, "type": "MANAGED", "managed": {"domains": domains}}

    def validate(self) -> None:
        domains = self.wanted["managed"]["domains"]
        if not 1 <= len(domains) <= 100:
            raise InvalidInput("domains", domains, "1 to 100 domain names")
        values.check_option("domains", domains, values.DOMAINS)

    def create(self) -> dict[str, Any]:
        for certificate in family(self.task)[-1:]:
            self.wanted["description"] = certificate.get("description") or None
        return super().create()

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        managed = live.get("managed") or {}
        return {
            **super().returns(live),
            "name": self.name,
            "status": managed.get("status") or "PROVISIONING",
            "domain_status": managed.get("domainStatus") or {},
            "obsolete": sorted(entry["name"] for entry in family(self.task) if entry["name"] != self.name),
        }


def absent(task: Task) -> dict[str, Any]:
    """Delete the family, except the certificates in option keep."""
    names = (entry["name"] for entry in family(task))
    return Family(task, task.params["name"], 8).absent(
        "certificate", collection(task), names, status="", domain_status={}
    )


def main() -> None:
    run(
        lambda task: absent(task) if task.params["state"] == "absent" else Certificate.converge(task),
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.BALANCER_NAME},
            "domains": {"type": "list", "elements": "str"},
            "keep": {"type": "list", "elements": "str", "default": []},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["domains"])],
    )


if __name__ == "__main__":
    main()
