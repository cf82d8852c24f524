#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_managed_ssl_certificate
short_description: Manage a Google-managed TLS certificate of a load balancer
description:
  - Google fetches and renews the certificate, once every domain resolves to the load balancer's address and the
    certificate is attached to its HTTPS proxy. Until then RV(status) is V(PROVISIONING); that takes minutes to an hour
    and this module does not wait for it.
  - A certificate cannot be changed, nor deleted while it is attached. O(name) therefore names a family, and the
    certificate itself is called O(name), a hyphen and 8 hexadecimal digits that stand for its domains. Other
    domains make another certificate beside the old one. Attach RV(self_link) to the proxy, then delete the family's other
    members, RV(obsolete), with O(state=absent) and O(keep); see the examples.
  - M(google.cloud.gcp_compute_ssl_certificate) takes only certificates that you bring.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
options:
  name:
    description: First part of the certificate's name, at most 54 lower case letters, digits and hyphens.
    type: str
    required: true
  domains:
    description:
      - Domain names, at most 100, no wildcards; their order means nothing. Needed for O(state=present).
    type: list
    elements: str
  keep:
    description: With O(state=absent), names or links of certificates of the family that stay.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) makes the certificate of O(domains).
      - V(absent) deletes all managed certificates of the family O(name), except those in O(keep).
    type: str
    choices: [present, absent]
    default: present
seealso:
  - name: SSL certificates
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/sslCertificates
"""

EXAMPLES = r"""
- name: A certificate for the domain
  mlops.mlflow_gcp.compute_managed_ssl_certificate:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    domains: [mlflow.example.com]
  register: certificate

- name: The HTTPS proxy presents it
  google.cloud.gcp_compute_target_https_proxy:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    url_map: "{{ url_map }}"
    ssl_certificates:
      - selfLink: "{{ certificate.self_link }}"

- name: Certificates of earlier domains are gone
  mlops.mlflow_gcp.compute_managed_ssl_certificate:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    keep: ["{{ certificate.self_link }}"]
    state: absent
"""

RETURN = r"""
name:
  description: Name of the certificate; with O(state=absent) that of the family.
  returned: success
  type: str
  sample: mlflow-lb-5d41402a
self_link:
  description: Link of the certificate; empty with O(state=absent).
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/sslCertificates/mlflow-lb-5d41402a
status:
  description: V(PROVISIONING), V(ACTIVE), or why it failed; empty with O(state=absent).
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
  description: Names of the family's other certificates, which can be deleted once they are no longer attached.
  returned: success
  type: list
  elements: str
  sample: [mlflow-lb-7b1f3a90]
resource:
  description: The certificate as the API returns it; empty with O(state=absent).
  returned: success
  type: dict
  sample:
    name: mlflow-lb-5d41402a
    type: MANAGED
    managed:
      domains: [mlflow.example.com]
      status: PROVISIONING
"""

import hashlib
import re
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import operations
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")


def normal(domain: str) -> str:
    """Lower case, without the root's dot."""
    return str(domain).strip().lower().removesuffix(".")


def family(task: Task) -> list[dict[str, Any]]:
    """The managed certificates of option name, those of other domains included."""
    name = re.escape(task.params["name"])
    with task.client.attempt(f"list the certificates of project {task.project}"):
        try:
            entries = list(task.client.items(collection(task), "items"))
        except ApiError as error:
            # A first --check of a whole deployment: compute is not enabled yet.
            if not task.check_mode or not error.disabled:
                raise
            return []
    return [
        entry
        for entry in entries
        if entry.get("type") == "MANAGED" and re.fullmatch(rf"{name}(-[0-9a-f]{{8}})?", entry["name"])
    ]


def collection(task: Task) -> str:
    return f"https://compute.googleapis.com/compute/v1/projects/{task.project}/global/sslCertificates"


class Certificate(Resource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/sslCertificates"""

    kind = "certificate"
    rules = Rules(
        same={"managed.domains": lambda wanted, live: set(map(normal, wanted)) == set(map(normal, live or ()))}
    )
    immutable = {"managed.domains": "delete it", "type": "it was not made by this module: choose another name"}

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        domains = list(dict.fromkeys(map(normal, self.params["domains"] or ())))
        mark = hashlib.sha256("\n".join(sorted(domains)).encode()).hexdigest()[:8]
        self.name = f"{self.params['name']}-{mark}"
        self.collection = collection(task)
        self.url = f"{self.collection}/{self.name}"
        self.wanted = {"name": self.name, "type": "MANAGED", "managed": {"domains": domains}}

    def validate(self) -> None:
        name, domains = self.params["name"], self.wanted["managed"]["domains"]
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,52}[a-z0-9])?", name):
            raise InvalidInput("name", name, "at most 54 lower case letters, digits and hyphens, a letter first")
        if not 1 <= len(domains) <= 100:
            raise InvalidInput("domains", domains, "1 to 100 domain names")
        for domain in domains:
            if not DOMAIN.fullmatch(domain):
                raise InvalidInput(
                    "domains",
                    domain,
                    "a domain name such as mlflow.example.com; Google-managed certificates have no wildcards",
                )

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        managed = live.get("managed") or {}
        link = f"https://www.googleapis.com/compute/v1/projects/{self.task.project}/global/sslCertificates/{self.name}"
        return {
            "name": self.name,
            "self_link": live.get("selfLink") or link,
            "status": managed.get("status") or "PROVISIONING",
            "domain_status": managed.get("domainStatus") or {},
            "obsolete": sorted(entry["name"] for entry in family(self.task) if entry["name"] != self.name),
        }


def delete(task: Task, url: str, attempt: str) -> None:
    """Delete one certificate and wait; patient with what still has it."""

    def once() -> None:
        operations.wait(task.client, task.client.request("DELETE", url), url, timeout=600, attempt=attempt)

    task.client.patiently(once, in_use, timeout=60)


def in_use(error: ApiError) -> bool:
    """A proxy has it, perhaps still: google.cloud does not wait until the one that was attached in its place is."""
    return error.reason in ("resourceInUseByAnotherResource", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE")


def absent(task: Task) -> dict[str, Any]:
    """Delete the family, except what option keep names."""
    keep = {link.rsplit("/", 1)[-1] for link in task.params["keep"]}
    names = sorted(entry["name"] for entry in family(task))
    gone = [name for name in names if name not in keep]
    for name in () if task.check_mode else gone:
        attempt, url = f"delete certificate {name}", f"{collection(task)}/{name}"
        with task.client.attempt(attempt):
            delete(task, url, attempt)
    return task.result(
        changed=bool(gone),
        before={"certificates": names},
        after={"certificates": [name for name in names if name not in gone]},
        name=task.params["name"],
        self_link="",
        status="",
        domain_status={},
        obsolete=[],
        resource={},
    )


def main() -> None:
    run(
        lambda task: absent(task) if task.params["state"] == "absent" else Certificate.converge(task),
        argument_spec={
            "name": {"type": "str", "required": True},
            "domains": {"type": "list", "elements": "str"},
            "keep": {"type": "list", "elements": "str", "default": []},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["domains"])],
    )


if __name__ == "__main__":
    main()
