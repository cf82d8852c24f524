#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iap_client
short_description: Manage an OAuth client of Identity-Aware Proxy
description:
  - Creates and deletes the OAuth client O(display_name) of a brand. The secret is never returned; pass RV(name) to
    M(mlops.mlflow_gcp.compute_backend_service) as O(mlops.mlflow_gcp.compute_backend_service#module:iap.oauth2_client), which reads it.
  - Google deprecated this API on 2025-01-22 and announced its shutdown for 2026-03-19. After the shutdown the module fails
    with a message that names the two alternatives, the Google-managed OAuth client and a manually created one.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state
options:
  brand:
    description: Name of the brand, as returned by M(mlops.mlflow_gcp.iap_brand).
    type: str
    required: true
  display_name:
    description: Name of the client. Google allows several clients with the same name; the module uses the first.
    type: str
    required: true
seealso:
  - module: mlops.mlflow_gcp.iap_brand
  - name: OAuth clients of IAP
    description: The API.
    link: https://cloud.google.com/iap/docs/reference/rest/v1/projects.brands.identityAwareProxyClients
"""

EXAMPLES = r"""
- name: Create the OAuth client
  mlops.mlflow_gcp.iap_client:
    project: my-project
    auth_kind: application
    brand: projects/123456789012/brands/123456789012
    display_name: mlflow
  register: oauth_client

- name: Use the OAuth client for IAP
  mlops.mlflow_gcp.compute_backend_service:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    iap:
      enabled: true
      oauth2_client: "{{ oauth_client.name }}"
"""

RETURN = r"""
name:
  description: Name of the client; empty if it is absent, or would be created in check mode.
  returned: success
  type: str
  sample: projects/123456789012/brands/123456789012/identityAwareProxyClients/123456789012-abc.apps.googleusercontent.com
client_id:
  description: ID of the OAuth client, the last part of RV(name).
  returned: success
  type: str
  sample: 123456789012-abc.apps.googleusercontent.com
resource:
  description: The client as Google returns it, with its secret masked.
  returned: success
  type: dict
  sample:
    name: projects/123456789012/brands/123456789012/identityAwareProxyClients/123456789012-abc.apps.googleusercontent.com
    displayName: mlflow
    secret: "********"
"""

from contextlib import suppress
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import operations, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iap import API, explain_shutdown
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

# Seconds in which another run deletes the client that it has created at the same time.
AGREEMENT = 10


class OauthClient(Resource):
    """https://cloud.google.com/iap/docs/reference/rest/v1/projects.brands.identityAwareProxyClients"""

    kind = "OAuth client"
    rules = Rules(secret=frozenset({"secret"}))

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.name = self.params["display_name"]
        self.collection = f"{API}/{self.params['brand']}/identityAwareProxyClients"
        self.wanted = {"displayName": self.name}
        self.other_cause = f"brand {self.params['brand']} does not exist, or "

    def found(self) -> list[dict[str, Any]]:
        """All clients with the display name."""
        with explain_shutdown(f"read {self.label}", self.other_cause):
            clients = self.client.items(self.collection, "identityAwareProxyClients")
            return [entry for entry in clients if entry.get("displayName") == self.name]

    def read(self) -> dict[str, Any] | None:
        try:
            live = next(iter(self.found()), None)
        except GcpError:
            # In check mode the brand may not have been created yet.
            if not self.task.check_mode:
                raise
            live = None
        if live:
            self.url = f"{API}/{live['name']}"
        return live

    def create(self) -> dict[str, Any]:
        with explain_shutdown(f"create {self.label}", self.other_cause):
            # Google would create a second client with the same name.
            made = self.client.post_once(self.collection, self.wanted, self.read)
        return self.agreed(made)

    def agreed(self, made: dict[str, Any]) -> dict[str, Any]:
        """
        MADE, or the client that another run has created at the same time; one of them is deleted.

        Of two runs that see both, the one with the second name deletes its own. If it does not, it has looked before there
        were two, and uses its own.
        """

        def others() -> list[dict[str, Any]]:
            return [entry for entry in self.found() if entry["name"] != made["name"]]

        rivals = others()
        if rivals and made["name"] < min(entry["name"] for entry in rivals):
            with suppress(operations.OperationTimeout):
                action = f"wait for another run to delete its {self.label}"
                rivals = operations.poll(others, lambda found: not found, timeout=AGREEMENT, action=action)
        if not rivals:
            return made
        try:
            self.client.request("DELETE", f"{API}/{made['name']}")
        except ApiError as error:
            # A deployer needs no permission to delete clients otherwise.
            if error.status != 403:
                raise
            self.task.warn(
                f"{made['name']} is left: another run created {self.label} at the same time ({error.message})"
            )
        return min(rivals, key=lambda entry: str(entry["name"]))

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        name = live.get("name", "")
        return {"name": name, "client_id": name.rsplit("/", 1)[-1]}


def main() -> None:
    run(
        OauthClient.converge,
        argument_spec={
            "brand": {"type": "str", "required": True, "kind": values.BRAND},
            "display_name": {"type": "str", "required": True},
            **STATE_OPTION,
        },
    )


if __name__ == "__main__":
    main()
