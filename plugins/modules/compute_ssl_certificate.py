#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_ssl_certificate
short_description: Manage a self-managed SSL certificate
description:
  - Uploads a certificate chain with its private key, for the HTTPS proxies of a region or for global ones. Google never returns the key.
  - Google cannot change a certificate, and does not delete one that is attached. O(name) is therefore the prefix of a family of
    certificates, followed by a hyphen and 8 hexadecimal digits that depend on the chain. For another chain the module creates an
    additional certificate; when the HTTPS proxy has it, delete the others, RV(obsolete), with O(state=absent) and O(keep).
  - M(google.cloud.gcp_compute_ssl_certificate) has no regional certificates, and deletes and recreates one at any difference.
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
  region:
    description: Region of the certificate. Without it, the certificate is a global one.
    type: str
  certificate:
    description: The certificate and its intermediate ones in PEM, that of the server first. Required for O(state=present).
    type: str
  private_key:
    description: The private key in PEM, without a passphrase. Required for O(state=present).
    type: str
  domains:
    description:
      - Domain names that the certificate must cover. Otherwise the module fails, after Google has read the certificate and before
        anything serves it.
    type: list
    elements: str
    default: []
  keep:
    description: With O(state=absent), names or links of certificates of the family to keep.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) creates the certificate.
      - V(absent) deletes all self-managed certificates of the family O(name), except those in O(keep). One that is still attached
        to a load balancer is left, with a warning.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - name: Regional SSL certificates
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/regionSslCertificates
  - name: SSL certificates
    description: The API for global ones.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/sslCertificates
  - module: mlops.mlflow_gcp.compute_target_https_proxy
"""

EXAMPLES = r"""
- name: Upload the certificate
  mlops.mlflow_gcp.compute_ssl_certificate:
    project: my-project
    auth_kind: application
    name: mlflow-internal
    region: europe-west2
    certificate: "{{ lookup('ansible.builtin.file', 'chain.pem') }}"
    private_key: "{{ vault_private_key }}"
    domains: [mlflow.example.internal]
  register: certificate
"""

RETURN = r"""
name:
  description: Name of the certificate; with O(state=absent), of the family.
  returned: success
  type: str
  sample: mlflow-internal-5d41402a
self_link:
  description: Link of the certificate, for HTTPS proxies; empty with O(state=absent).
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west2/sslCertificates/mlflow-internal-5d41402a
expire_time:
  description: When it expires; empty with O(state=absent), and in check mode before it exists.
  returned: success
  type: str
  sample: "2027-01-01T00:00:00.000-08:00"
obsolete:
  description: Names of the other certificates of the family; with O(state=absent), of those that are left.
  returned: success
  type: list
  elements: str
  sample: [mlflow-internal-7b1f3a90]
resource:
  description: The certificate as Google returns it, without its key; empty with O(state=absent).
  returned: success
  type: dict
  sample:
    name: mlflow-internal-5d41402a
    type: SELF_MANAGED
    subjectAlternativeNames: [mlflow.example.internal]
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import Family, covers, scope_of
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API, ComputeResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run


def collection(task: Task) -> str:
    """Where the certificates are."""
    return f"{API}/projects/{task.project}/{scope_of(task.params['region'])}/sslCertificates"


def family(task: Task) -> list[dict[str, Any]]:
    """The self-managed certificates with the prefix in option name, the newest last."""
    of = Family(task, task.params["name"], 8)
    found = of.members(task.client.items(collection(task), "items"), "certificates")
    return [entry for entry in found if entry.get("type", "SELF_MANAGED") == "SELF_MANAGED"]


def lines(pem: str | None) -> str:
    """PEM without what does not matter: line ends, and space around it."""
    return "\n".join((pem or "").split("\n")).replace("\r", "").strip()


class Certificate(ComputeResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/regionSslCertificates"""

    kind = "certificate"
    # Google does not return the key; its certificate has the name.
    rules = Rules(
        same={"selfManaged.certificate": lambda wanted, live: lines(wanted) == lines(live)},
        secret=frozenset({"selfManaged.privateKey"}),
    )
    immutable = {
        "type": "it was not created by this module: give another name",
        "selfManaged.certificate": "it was not created by this module: give another name",
    }

    def __init__(self, task: Task) -> None:
        super().__init__(task, scope_of(task.params["region"]), "sslCertificates")
        chain = lines(self.params["certificate"])
        self.name = Family(task, self.params["name"], 8).member(chain)
        self.path = f"{self.path.rpartition('/')[0]}/{self.name}"
        self.url = f"{self.collection}/{self.name}"
        self.wanted = {
            "name": self.name,
            "type": "SELF_MANAGED",
            "selfManaged": {"certificate": f"{chain}\n"},
        }

    def create(self) -> dict[str, Any]:
        body = {
            **self.wanted,
            "selfManaged": {**self.wanted["selfManaged"], "privateKey": f"{lines(self.params['private_key'])}\n"},
        }
        # Idempotent because the name is given.
        return self.client.post(self.collection, body, idempotent=True)

    def settle(self, live: dict[str, Any]) -> dict[str, Any]:
        names = live.get("subjectAlternativeNames") or ()
        if missing := [domain for domain in self.params["domains"] if not any(covers(name, domain) for name in names)]:
            raise GcpError(
                f"Cannot use {self.label}: it is for {', '.join(names) or 'no domain name'}, not for {', '.join(missing)}; give one "
                "with these subject alternative names"
            )
        return live

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {
            **super().returns(live),
            "name": self.name,
            "expire_time": live.get("expireTime") or "",
            "obsolete": sorted(entry["name"] for entry in family(self.task) if entry["name"] != self.name),
        }


def absent(task: Task) -> dict[str, Any]:
    """Delete the family, except the certificates in option keep."""
    names = (entry["name"] for entry in family(task))
    return Family(task, task.params["name"], 8).absent("certificate", collection(task), names, expire_time="")


def main() -> None:
    run(
        lambda task: absent(task) if task.params["state"] == "absent" else Certificate.converge(task),
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.BALANCER_NAME},
            "region": {"type": "str", "kind": values.REGION},
            "certificate": {"type": "str", "kind": values.CERTIFICATE_CHAIN},
            "private_key": {"type": "str", "no_log": True, "kind": values.PRIVATE_KEY},
            "domains": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "list", "elements": "str", "default": []},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["certificate", "private_key"])],
    )


if __name__ == "__main__":
    main()
