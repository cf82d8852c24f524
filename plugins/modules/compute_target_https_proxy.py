#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_target_https_proxy
short_description: Manage the URL map and the certificates of an HTTPS proxy
description:
  - Creates, updates and deletes the part of a load balancer that terminates TLS.
  - Each field has a method of its own, so that no other field is ever sent. The SSL policy, the QUIC setting, the keep-alive
    timeout, a certificate map without O(certificate_map), and everything else that others have set is left unchanged.
  - M(google.cloud.gcp_compute_target_https_proxy) sends every field when one differs, those without an option as empty, and so
    removes the SSL policy when the certificate changes; it neither waits for the change nor notices that Google refuses it.
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
    description: Name of the HTTPS proxy.
    type: str
    required: true
  region:
    description: Region of a regional load balancer. Without it, the resource is that of a global one.
    type: str
  url_map:
    description: Name or link of the URL map. Required for O(state=present).
    type: str
  ssl_certificates:
    description:
      - Names or links of the certificates to attach. With O(region), also paths of certificates of Certificate Manager, as returned by
        M(mlops.mlflow_gcp.certificate_manager_certificate); Google does not accept both kinds together.
      - Other certificates stay attached, except those in O(detach).
      - A new proxy needs certificates or O(certificate_map).
    type: list
    elements: str
    default: []
  certificate_map:
    description:
      - Path of a certificate map of Certificate Manager, by which the proxy then serves instead of by its certificates. C("") detaches
        the map. Regional load balancers have no map.
      - Without this option, a map that is attached stays.
    type: str
  ready:
    description:
      - Whether O(certificate_map) can serve already. With V(false), a proxy that has certificates or another map keeps serving by
        these, and the map is not attached yet.
    type: bool
    default: true
  detach:
    description:
      - Names or links of certificates to detach, such as
        RV(mlops.mlflow_gcp.compute_managed_ssl_certificate#module:obsolete). A new certificate takes the place of a detached
        one. Certificates that are not attached are ignored.
    type: list
    elements: str
    default: []
  detach_family:
    description:
      - Prefix of the names of certificates to detach in the same step, except those in O(ssl_certificates), such as O(name) of
        M(mlops.mlflow_gcp.compute_ssl_certificate) or M(mlops.mlflow_gcp.certificate_manager_certificate).
    type: str
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
ssl_certificates:
  description: Names of the certificates that are attached; paths of those of Certificate Manager.
  returned: success
  type: list
  elements: str
  sample: [mlflow-lb-5d41402a]
detached:
  description: Names of the certificates that were detached; paths of those of Certificate Manager.
  returned: success
  type: list
  elements: str
  sample: []
certificate_map:
  description: Path of the certificate map that is attached, "" without one.
  returned: success
  type: str
  sample: ""
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
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import BalancerResource, Family
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import (
    Rules,
    relative,
    same_link,
    same_resource,
    short,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run

MANAGER = "//certificatemanager.googleapis.com/"


def same_list(wanted: list[str], live: list[str] | None) -> bool:
    """Whether two lists of links are those of the same resources, in the same order."""
    live = live or []
    return len(wanted) == len(live) and all(map(same_resource, wanted, live))


def said(link: str) -> str:
    """A certificate by its name, or, if it is one of Certificate Manager, by its path."""
    return relative(link) if link.startswith(MANAGER) else short(link)


class HttpsProxy(BalancerResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/targetHttpsProxies"""

    kind = "HTTPS proxy"
    rules = Rules(
        same={
            "urlMap": same_link,
            "sslPolicy": same_link,
            "sslCertificates": same_list,
            "certificateMap": same_resource,
        }
    )

    def __init__(self, task: Task) -> None:
        super().__init__(task, "targetHttpsProxies")
        self.detached: list[str] = []
        policy = self.params["ssl_policy"]
        self.wanted = {
            "name": self.name,
            "sslPolicy": self.link("sslPolicies", policy),
            "urlMap": self.link("urlMaps", self.params["url_map"]),
            "sslCertificates": self._links(self.params["ssl_certificates"]),
        }

    def validate(self) -> None:
        given = self.params["certificate_map"] is not None or self.params["ssl_certificates"] or self.params["detach"]
        if self.params["state"] == "present" and not given:
            raise InvalidInput("ssl_certificates", [], "give at least one, or option certificate_map")
        if self.params["region"] and self.params["certificate_map"]:
            raise InvalidInput(
                "certificate_map",
                self.params["certificate_map"],
                "a regional load balancer has certificates, not a map",
            )

    def _links(self, names: list[str] | None) -> list[str]:
        manager = (f"{MANAGER}{name}" if "/locations/" in name and "//" not in name else name for name in names or ())
        return [link for name in manager if (link := self.link("sslCertificates", name))]

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        """With the certificates, and with the map unless the proxy is to go on serving by what it has."""
        serves = live is not None and any(live.get(field) for field in ("sslCertificates", "certificateMap"))
        path = self.params["certificate_map"] if self.params["ready"] or not serves else None
        return self._with_certificates(live) | {"certificateMap": f"{MANAGER}{path}" if path else path}

    def _with_certificates(self, live: dict[str, Any] | None) -> dict[str, Any]:
        """The attached certificates in their order, new ones in place of the first that goes, or at the end."""
        self.detached = []
        detach = self._links(self.params["detach"])
        attached = list((live or {}).get("sslCertificates") or ())
        wanted = self._links(self.params["ssl_certificates"])
        new = [link for link in wanted if not any(same_resource(link, known) for known in attached)]
        result: list[str] = []
        for link in attached:
            goes = any(same_resource(gone, link) for gone in detach) or self._in_family(link)
            if not goes or any(same_resource(kept, link) for kept in wanted):
                result.append(link)
            else:
                self.detached.append(link)
                result += new
                new = []
        return self.wanted | {"sslCertificates": result + new}

    def _in_family(self, link: str) -> bool:
        """Whether a certificate has a name of option detach_family."""
        prefix = self.params["detach_family"]
        return bool(prefix and Family(self.task, prefix, 8).has(short(link)))

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        certificates, new = self.wanted["sslCertificates"], self.wanted["certificateMap"]
        steps = {
            "sslCertificates": lambda: self.set_field("setSslCertificates", sslCertificates=certificates),
            "certificateMap": lambda: self.set_field("setCertificateMap", certificateMap=new),
        }
        # What is to serve comes before what goes.
        for field in sorted(steps, reverse=not new):
            if field in changes:
                steps[field]()
        if "sslPolicy" in changes and self.params["region"]:
            # The only field of a regional proxy without a method of its own.
            body = {"sslPolicy": self.wanted["sslPolicy"]}
            self.wait(self.patch_fields(body, self.client.get(self.url)), self.url, "update")
        elif "sslPolicy" in changes:
            self.set_field("setSslPolicy", sslPolicy=self.wanted["sslPolicy"])
        if "urlMap" in changes:
            self.set_field("setUrlMap", urlMap=self.wanted["urlMap"])
        return {}

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {
            **super().returns(live),
            "ssl_certificates": list(map(said, live.get("sslCertificates") or ())),
            "detached": list(map(said, self.detached)),
            "certificate_map": relative(live.get("certificateMap")),
        }


def main() -> None:
    run(
        HttpsProxy.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "region": {"type": "str", "kind": values.REGION},
            "url_map": {"type": "str"},
            "ssl_certificates": {"type": "list", "elements": "str", "default": []},
            "certificate_map": {"type": "str"},
            "ready": {"type": "bool", "default": True},
            "detach": {"type": "list", "elements": "str", "default": []},
            "detach_family": {"type": "str"},
            "ssl_policy": {"type": "str"},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["url_map"])],
    )


if __name__ == "__main__":
    main()
