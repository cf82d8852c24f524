#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_backend_service
short_description: Manage a backend service with serverless backends and Identity-Aware Proxy
description:
  - Creates, updates and deletes the part of a load balancer that selects the backends of requests, and enables
    Identity-Aware Proxy (IAP) for them.
  - It supports serverless network endpoint groups, and so sends no health checks, port name or timeout, which Google
    rejects for them.
  - An update only sends the fields that differ. Fields not covered by an option are left unchanged, such as the log's optional
    fields, Cloud CDN and session affinity, and those of a backend. A group that takes the place of another one takes over the
    other fields of its backend.
  - M(google.cloud.gcp_compute_backend_service) requires an OAuth client for IAP, resets the IAP settings when it updates
    another field, and does not notice a different load balancing scheme.
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
    description: Name of the backend service.
    type: str
    required: true
  region:
    description: Region of a regional load balancer. Without it, the resource is that of a global one.
    type: str
  description:
    description: Description of the backend service.
    type: str
  load_balancing_scheme:
    description: Type of load balancer. Cannot be changed.
    type: str
    choices: [EXTERNAL_MANAGED, EXTERNAL, INTERNAL_MANAGED]
    default: EXTERNAL_MANAGED
  protocol:
    description: Protocol for requests to the backends; V(HTTPS) for serverless ones.
    type: str
    choices: [HTTP, HTTPS, HTTP2]
    default: HTTPS
  groups:
    description:
      - Links of all network endpoint groups that receive requests, as returned by M(mlops.mlflow_gcp.compute_serverless_neg).
        Requests are no longer sent to other groups.
    type: list
    elements: str
  iap:
    description:
      - Settings of Identity-Aware Proxy. Without an OAuth client IAP uses the Google-managed one, with which only users of
        the project's organization can sign in. An empty string is the same as omitting a suboption.
      - A custom OAuth client that is no longer given is removed; the module fails if Google keeps it.
    type: dict
    suboptions:
      enabled:
        description: Require users to sign in with IAP.
        type: bool
        required: true
      oauth2_client_id:
        description: ID of a custom OAuth client; requires O(iap.oauth2_client_secret).
        type: str
      oauth2_client_secret:
        description: Secret of the custom OAuth client. It is compared with the SHA-256 hash that Google returns.
        type: str
      oauth2_client:
        description:
          - Name of an OAuth client as returned by M(mlops.mlflow_gcp.iap_client), instead of ID and secret. The module reads
            the secret itself, so that Ansible variables never contain it.
        type: str
  log_enabled:
    description: Log requests.
    type: bool
  log_sample_rate:
    description: Fraction of the requests that are logged, 0 to 1. The default is 1 with O(log_enabled=true).
    type: float
  custom_request_headers:
    description: All headers to add to requests, such as V(X-Client-Region:{client_region}).
    type: list
    elements: str
  security_policy:
    description: Name or link of a Cloud Armor policy; an empty string removes it.
    type: str
  detach_security_policy:
    description: Name or link of a Cloud Armor policy that is removed if it is attached, while any other one stays.
    type: str
seealso:
  - name: Backend services
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/backendServices
  - name: OAuth clients for IAP
    description: Google-managed and custom OAuth clients.
    link: https://cloud.google.com/iap/docs/custom-oauth-configuration
"""

EXAMPLES = r"""
- name: Create a backend service with Identity-Aware Proxy and the Google-managed OAuth client
  mlops.mlflow_gcp.compute_backend_service:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    groups: ["{{ neg.self_link }}"]
    iap:
      enabled: true
    log_enabled: true
  register: backend

- name: Use a custom OAuth client instead
  mlops.mlflow_gcp.compute_backend_service:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    groups: ["{{ neg.self_link }}"]
    iap:
      enabled: true
      oauth2_client_id: 123456789012-abc.apps.googleusercontent.com
      oauth2_client_secret: "{{ vault_oauth_client_secret }}"
"""

RETURN = r"""
self_link:
  description: Link of the backend service, for URL maps.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/backendServices/mlflow-lb
generated_id:
  description: Numeric ID, part of the audience of IAP's signed header; empty if it does not exist yet.
  returned: success
  type: str
  sample: "1234567890123456789"
resource:
  description: The backend service as Google returns it, with the hash of the OAuth client secret masked.
  returned: success
  type: dict
  sample:
    name: mlflow-lb
    loadBalancingScheme: EXTERNAL_MANAGED
    iap:
      enabled: true
"""

import hashlib
from functools import cached_property
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import BalancerResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import (
    Rules,
    declared,
    lookup,
    relative,
    same_link,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iap import API, OAUTH_CLIENT, explain_shutdown
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.immutable import BACKEND_SERVICE
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run

# Google may return this for the Google-managed OAuth client.
NO_CLIENT = " "
ID = "iap.oauth2ClientId"
SECRET = "iap.oauth2ClientSecret"
HASH = "iap.oauth2ClientSecretSha256"
# What Google fills in for a backend.
BACKEND_DEFAULTS = {"balancingMode": "UTILIZATION", "capacityScaler": 1.0}


class BackendService(BalancerResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/backendServices"""

    kind = BACKEND_SERVICE.name
    rules = Rules(
        unordered=frozenset({"backends", "customRequestHeaders"}),
        same={
            "backends.group": same_link,
            "securityPolicy": same_link,
            ID: lambda wanted, live: str(wanted).strip() == str(live or "").strip(),
        },
        secret=frozenset({SECRET, HASH}),
    )
    immutable = BACKEND_SERVICE.fields

    def __init__(self, task: Task) -> None:
        super().__init__(task, "backendServices")
        params = self.params
        rate = params["log_sample_rate"]
        if params["log_enabled"] and rate is None:
            rate = 1.0
        policy = params["security_policy"]
        self.wanted = {
            "name": self.name,
            "description": params["description"],
            "loadBalancingScheme": params["load_balancing_scheme"],
            "protocol": params["protocol"],
            "backends": None if params["groups"] is None else [{"group": link} for link in params["groups"]],
            "iap": {"enabled": (params["iap"] or {}).get("enabled")},
            "logConfig": {"enable": params["log_enabled"], "sampleRate": rate if params["log_enabled"] else None},
            "customRequestHeaders": params["custom_request_headers"],
            "securityPolicy": self.link("securityPolicies", policy) if policy else policy,
        }

    def validate(self) -> None:
        iap = self.params["iap"] or {}
        client, client_id, secret = (
            iap.get(key) for key in ("oauth2_client", "oauth2_client_id", "oauth2_client_secret")
        )
        if client and (client_id or secret):
            raise InvalidInput(
                "iap.oauth2_client", client, "give either this or oauth2_client_id and oauth2_client_secret"
            )
        if client and not OAUTH_CLIENT.fullmatch(client):
            raise InvalidInput(
                "iap.oauth2_client", client, "give a name such as projects/N/brands/N/identityAwareProxyClients/ID"
            )
        if bool(client_id) != bool(secret):
            given, missing = ("id", "secret") if client_id else ("secret", "id")
            raise GcpError(f"option iap: oauth2_client_{given} requires oauth2_client_{missing}; give both or neither")

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        going = self.link("securityPolicies", self.params["detach_security_policy"])
        if going and same_link(going, (live or {}).get("securityPolicy")):
            self.wanted["securityPolicy"] = ""
        if live and self.wanted["backends"] is not None:
            self.wanted["backends"] = self._backends(live.get("backends") or [])
        if not lookup(self.wanted, "iap.enabled"):
            return self.wanted
        client_id, secret = self._oauth_client
        if client_id:
            return self._with_client(client_id, secret)
        return self._with_client(NO_CLIENT, NO_CLIENT) if str(lookup(live, ID) or "").strip() else self.wanted

    def _backends(self, live: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The declared groups with the other fields of their backends; a new group has those of one that goes."""
        current = {relative(entry.get("group")): entry for entry in live}
        wanted = set(map(relative, self.params["groups"]))
        going = [entry for path, entry in current.items() if path not in wanted]
        result = []
        for link in self.params["groups"]:
            entry = current.get(relative(link))
            if entry is None:
                entry = dict(going.pop(0)) if going else {}
                entry = {key: value for key, value in entry.items() if BACKEND_DEFAULTS.get(key) != value}
                entry["group"] = link
            result.append(entry)
        return result

    def _with_client(self, client_id: str, secret: str | None) -> dict[str, Any]:
        """The declaration with an OAuth client."""
        return {
            **self.wanted,
            "iap": {**self.wanted["iap"], "oauth2ClientId": client_id, "oauth2ClientSecret": secret},
        }

    @cached_property
    def _oauth_client(self) -> tuple[str | None, str | None]:
        """ID and secret of the custom OAuth client, if there is one."""
        iap = self.params["iap"]
        if not iap["oauth2_client"]:
            return iap["oauth2_client_id"], iap["oauth2_client_secret"]
        action = f"read OAuth client {iap['oauth2_client']}"
        with self.client.action(action), explain_shutdown(action, "it does not exist, or "):
            client = self.client.get(f"{API}/{iap['oauth2_client']}")
        self.task.module.no_log_values.add(client["secret"])
        return client["name"].rsplit("/", 1)[-1], client["secret"]

    def differences(self, live: dict[str, Any]) -> list[str]:
        secret = lookup(self.wanted, SECRET)
        if secret is None:
            return super().differences(live)
        # Google returns the hash instead of the secret.
        same = hashlib.sha256(secret.encode()).hexdigest() == lookup(live, HASH) if secret != NO_CLIENT else True
        if same:
            live = {**live, "iap": {**(live.get("iap") or {}), "oauth2ClientSecret": secret}}
        return super().differences(live)

    def create(self) -> dict[str, Any]:
        body = {key: value for key, value in declared(self.wanted).items() if key != "securityPolicy"}
        operation = self.client.post(self.collection, body, idempotent=True)
        if not self.wanted["securityPolicy"]:
            return operation
        self.wait(operation, self.collection, "create")
        return self._set_policy()

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        response: dict[str, Any] = {}
        fields = [path for path in changes if path != "securityPolicy"]
        if fields and lookup(self.wanted, ID) == NO_CLIENT:
            response = self._remove_client(live, [*fields, "iap"])
        elif fields:
            response = self.patch_fields(self.changed_fields(fields, live), live)
        if "securityPolicy" in changes:
            self.wait(response, self.url, "update")
            response = self._set_policy()
        return response

    def _remove_client(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        """Update to the Google-managed client. Which empty ID has this effect is not documented: try both, and check."""
        client, reason = lookup(live, ID), "although it was removed"
        for empty in (NO_CLIENT, ""):
            self.wanted = self._with_client(empty, empty)
            try:
                self.wait(self.patch_fields(self.changed_fields(changes, live), live), self.url, "update")
            except ApiError as error:
                if error.status != 400:
                    raise
                reason = error.message
                continue
            live = self.client.get(self.url)
            if not str(lookup(live, ID) or "").strip():
                return live
        raise GcpError(
            f"Cannot update {self.label}: Google keeps its OAuth client {client} ({reason}); keep using that client "
            "(oauth2_client_id and oauth2_client_secret), or delete the backend service and run again"
        )

    def _set_policy(self) -> dict[str, Any]:
        """https://cloud.google.com/compute/docs/reference/rest/v1/backendServices/setSecurityPolicy"""
        body = {"securityPolicy": self.wanted["securityPolicy"]} if self.wanted["securityPolicy"] else {}
        return self.client.post(f"{self.url}/setSecurityPolicy", body, idempotent=True)

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {**super().returns(live), "generated_id": str(live.get("id", ""))}


def main() -> None:
    run(
        BackendService.converge,
        argument_spec={
            "name": {"type": "str", "required": True},
            "region": {"type": "str", "kind": values.REGION},
            "description": {"type": "str"},
            "load_balancing_scheme": {
                "type": "str",
                "choices": ["EXTERNAL_MANAGED", "EXTERNAL", "INTERNAL_MANAGED"],
                "default": "EXTERNAL_MANAGED",
            },
            "protocol": {"type": "str", "choices": ["HTTP", "HTTPS", "HTTP2"], "default": "HTTPS"},
            "groups": {"type": "list", "elements": "str"},
            "iap": {
                "type": "dict",
                "options": {
                    "enabled": {"type": "bool", "required": True},
                    "oauth2_client_id": {"type": "str"},
                    "oauth2_client_secret": {"type": "str", "no_log": True},
                    "oauth2_client": {"type": "str"},
                },
            },
            "log_enabled": {"type": "bool"},
            "log_sample_rate": {"type": "float", "kind": values.SAMPLE_RATE},
            "custom_request_headers": {"type": "list", "elements": "str"},
            "security_policy": {"type": "str"},
            "detach_security_policy": {"type": "str"},
            **STATE_OPTION,
        },
        mutually_exclusive=[("security_policy", "detach_security_policy")],
    )


if __name__ == "__main__":
    main()
