#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_target_https_proxy
short_description: Manage the URL map and the certificates of a global HTTPS proxy
description:
  - Creates, updates and deletes the part of a load balancer that terminates TLS.
  - Each field has a method of its own, so that no other field is ever sent. The SSL policy, the QUIC setting, the certificate
    map, the keep-alive timeout and everything else that others have set is left unchanged.
  - M(google.cloud.gcp_compute_target_https_proxy) sends every field when one differs, those without an option as empty, and so
    removes the SSL policy when the certificate changes; it neither waits for the change nor notices that Google refuses it.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state
options:
  name:
    description: Name of the HTTPS proxy.
    type: str
    required: true
  url_map:
    description: Name or link of the URL map. Required for O(state=present).
    type: str
  ssl_certificates:
    description:
      - Names or links of the certificates to attach. Required for O(state=present).
      - Other certificates stay attached, except those in O(detach).
    type: list
    elements: str
  detach:
    description:
      - Names or links of certificates to detach, such as
        RV(mlops.mlflow_gcp.compute_managed_ssl_certificate#module:obsolete). A new certificate takes the place of a detached
        one. Certificates that are not attached are ignored.
    type: list
    elements: str
    default: []
  ssl_policy:
    description:
      - Name or link of an SSL policy, which says which versions of TLS and which ciphers clients may use.
      - If empty, the HTTPS proxy keeps the SSL policy that it has, and a new one has none.
    type: str
seealso:
  - name: Target HTTPS proxies
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/targetHttpsProxies
"""

EXAMPLES = r"""
- name: Create the HTTPS proxy with the certificate
  mlops.mlflow_gcp.compute_target_https_proxy:
    project: my-project
    auth_kind: application
    name: mlflow-lb-https
    url_map: mlflow-lb
    ssl_certificates: ["{{ certificate.self_link }}"]
    detach: "{{ certificate.obsolete }}"
"""

RETURN = r"""
self_link:
  description: Link of the HTTPS proxy, for forwarding rules.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/targetHttpsProxies/mlflow-lb-https
resource:
  description: The HTTPS proxy as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-lb-https
    urlMap: https://www.googleapis.com/compute/v1/projects/my-project/global/urlMaps/mlflow-lb
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import BalancerResource, global_link
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, relative, same_link
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run


class HttpsProxy(BalancerResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/targetHttpsProxies"""

    kind = "HTTPS proxy"
    rules = Rules(
        same={
            "urlMap": same_link,
            "sslPolicy": same_link,
            "sslCertificates": lambda wanted, live: list(map(relative, wanted)) == list(map(relative, live or ())),
        }
    )

    def __init__(self, task: Task) -> None:
        super().__init__(task, "targetHttpsProxies")
        policy = self.params["ssl_policy"]
        self.wanted = {
            "name": self.name,
            "sslPolicy": global_link(task.project, "sslPolicies", policy) if policy else None,
            "urlMap": self.link("urlMaps", self.params["url_map"]),
            "sslCertificates": self._links(self.params["ssl_certificates"]),
        }

    def _links(self, names: list[str] | None) -> list[str]:
        return [global_link(self.task.project, "sslCertificates", name) for name in names or ()]

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        """The attached certificates in their order, new ones in place of the first that goes, or at the end."""
        detach = set(map(relative, self._links(self.params["detach"])))
        attached = list((live or {}).get("sslCertificates") or ())
        known = set(map(relative, attached))
        new = [link for link in self._links(self.params["ssl_certificates"]) if relative(link) not in known]
        result: list[str] = []
        for link in attached:
            if relative(link) not in detach:
                result.append(link)
            else:
                result += new
                new = []
        return self.wanted | {"sslCertificates": result + new}

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        if "sslCertificates" in changes:
            self.set_field("setSslCertificates", sslCertificates=self.wanted["sslCertificates"])
        if "sslPolicy" in changes:
            self.set_field("setSslPolicy", sslPolicy=self.wanted["sslPolicy"])
        if "urlMap" in changes:
            self.set_field("setUrlMap", urlMap=self.wanted["urlMap"])
        return {}


def main() -> None:
    run(
        HttpsProxy.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "url_map": {"type": "str"},
            "ssl_certificates": {"type": "list", "elements": "str"},
            "detach": {"type": "list", "elements": "str", "default": []},
            "ssl_policy": {"type": "str"},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["url_map", "ssl_certificates"])],
    )


if __name__ == "__main__":
    main()
