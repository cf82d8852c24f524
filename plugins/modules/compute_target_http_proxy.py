#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_target_http_proxy
short_description: Manage the URL map of an HTTP proxy
description:
  - Creates, updates and deletes the part of a load balancer that receives requests without TLS, for example to redirect them.
  - Fields not covered by an option are left unchanged.
  - M(google.cloud.gcp_compute_target_http_proxy) neither waits for a change nor notices that Google refuses it, has no check
    mode and retries nothing.
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
    description: Name of the HTTP proxy.
    type: str
    required: true
  region:
    description: Region of a regional load balancer. Without it, the resource is that of a global one.
    type: str
  url_map:
    description: Name or link of the URL map. Required for O(state=present).
    type: str
seealso:
  - name: Target HTTP proxies
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/targetHttpProxies
"""

EXAMPLES = r"""
- name: Create the HTTP proxy for the redirect
  mlops.mlflow_gcp.compute_target_http_proxy:
    project: my-project
    auth_kind: application
    name: mlflow-lb-http
    url_map: mlflow-lb-redirect
"""

RETURN = r"""
self_link:
  description: Link of the HTTP proxy, for forwarding rules.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/targetHttpProxies/mlflow-lb-http
resource:
  description: The HTTP proxy as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-lb-http
    urlMap: https://www.googleapis.com/compute/v1/projects/my-project/global/urlMaps/mlflow-lb-redirect
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import BalancerResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, same_link
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run


class HttpProxy(BalancerResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/targetHttpProxies"""

    kind = "HTTP proxy"
    rules = Rules(same={"urlMap": same_link})

    def __init__(self, task: Task) -> None:
        super().__init__(task, "targetHttpProxies")
        self.wanted = {"name": self.name, "urlMap": self.link("urlMaps", self.params["url_map"])}

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        self.set_field("setUrlMap", urlMap=self.wanted["urlMap"])
        return {}


def main() -> None:
    run(
        HttpProxy.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "region": {"type": "str", "kind": values.REGION},
            "url_map": {"type": "str"},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["url_map"])],
    )


if __name__ == "__main__":
    main()
