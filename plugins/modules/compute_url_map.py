#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_url_map
short_description: Manage the default route of a URL map
description:
  - Creates, updates and deletes the part of a load balancer that selects the backend service of requests, or redirects them.
  - Only the default route is covered by options. Everything else is left unchanged, such as host rules and path matchers,
    headers to add (for example Strict-Transport-Security), custom error pages and timeouts.
  - M(google.cloud.gcp_compute_url_map) replaces the whole URL map when one field differs, and so removes what others have
    added to it; it has no check mode and retries nothing.
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
    description: Name of the URL map.
    type: str
    required: true
  region:
    description: Region of a regional load balancer. Without it, the resource is that of a global one.
    type: str
  default_service:
    description:
      - Name or link of the backend service for all requests that no host rule matches. Traffic is no longer divided between
        several default backend services, or redirected.
      - One of O(default_service) and O(default_url_redirect) is required for O(state=present).
    type: str
  default_url_redirect:
    description: Redirect of all requests that no host rule matches.
    type: dict
    suboptions:
      https_redirect:
        description: Redirect to HTTPS.
        type: bool
        default: false
      redirect_response_code:
        description: Status of the redirect.
        type: str
        choices: [MOVED_PERMANENTLY_DEFAULT, FOUND, SEE_OTHER, TEMPORARY_REDIRECT, PERMANENT_REDIRECT]
        default: MOVED_PERMANENTLY_DEFAULT
      strip_query:
        description: Remove the query from the URL.
        type: bool
        default: false
seealso:
  - name: URL maps
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/urlMaps
"""

EXAMPLES = r"""
- name: Route all paths to the backend service
  mlops.mlflow_gcp.compute_url_map:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    default_service: mlflow-lb-backend

- name: Redirect HTTP to HTTPS
  mlops.mlflow_gcp.compute_url_map:
    project: my-project
    auth_kind: application
    name: mlflow-lb-redirect
    default_url_redirect:
      https_redirect: true
"""

RETURN = r"""
self_link:
  description: Link of the URL map, for HTTP(S) proxies.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/urlMaps/mlflow-lb
resource:
  description: The URL map as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-lb
    defaultService: https://www.googleapis.com/compute/v1/projects/my-project/global/backendServices/mlflow-lb-backend
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import BalancerResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, lookup, same_link
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run


class UrlMap(BalancerResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/urlMaps"""

    kind = "URL map"
    rules = Rules(same={"defaultService": same_link}, optional=frozenset({"defaultUrlRedirect"}))

    def __init__(self, task: Task) -> None:
        super().__init__(task, "urlMaps")
        redirect = self.params["default_url_redirect"]
        self.wanted = {
            "name": self.name,
            "defaultService": self.link("backendServices", self.params["default_service"]),
            "defaultUrlRedirect": redirect
            and {
                "httpsRedirect": redirect["https_redirect"],
                "redirectResponseCode": redirect["redirect_response_code"],
                "stripQuery": redirect["strip_query"],
            },
        }

    def validate(self) -> None:
        given = [name for name in ("default_service", "default_url_redirect") if self.params[name]]
        if self.params["state"] == "present" and len(given) != 1:
            raise InvalidInput(
                "default_service", self.params["default_service"], "give either this or default_url_redirect"
            )

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        """The other kinds of a default route are declared as empty where there is one: Google accepts only one kind."""
        surplus: dict[str, Any] = {}
        if self.wanted["defaultService"] and (live or {}).get("defaultUrlRedirect"):
            surplus["defaultUrlRedirect"] = {}
        if self.wanted["defaultUrlRedirect"] and (live or {}).get("defaultService"):
            surplus["defaultService"] = ""
        if lookup(live, "defaultRouteAction.weightedBackendServices"):
            surplus["defaultRouteAction"] = {"weightedBackendServices": []}
        return self.wanted | surplus

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        body = {name: value or None for name, value in self.changed_fields(changes, live).items()}
        if "defaultRouteAction" in body:
            body["defaultRouteAction"] = {"weightedBackendServices": None}
        return self.patch_fields(body, live)


def main() -> None:
    run(
        UrlMap.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "region": {"type": "str", "kind": values.REGION},
            "default_service": {"type": "str"},
            "default_url_redirect": {
                "type": "dict",
                "options": {
                    "https_redirect": {"type": "bool", "default": False},
                    "redirect_response_code": {
                        "type": "str",
                        "choices": [
                            "MOVED_PERMANENTLY_DEFAULT",
                            "FOUND",
                            "SEE_OTHER",
                            "TEMPORARY_REDIRECT",
                            "PERMANENT_REDIRECT",
                        ],
                        "default": "MOVED_PERMANENTLY_DEFAULT",
                    },
                    "strip_query": {"type": "bool", "default": False},
                },
            },
            **STATE_OPTION,
        },
    )


if __name__ == "__main__":
    main()
