#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_backend_service
short_description: Manage a global backend service with serverless backends and Identity-Aware Proxy
description:
  - The part of a load balancer that says where requests go and whether Identity-Aware Proxy (IAP) guards them.
  - It is meant for serverless network endpoint groups, and so sends no health checks, port name or timeout, which
    Google refuses for them. Only options that are given are compared; everything else stays as it is.
  - M(google.cloud.gcp_compute_backend_service) demands an OAuth client for IAP, loses the IAP settings when it updates
    anything else, and does not see a changed load balancing scheme.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
options:
  name:
    description: Name of the backend service.
    type: str
    required: true
  description:
    description: What it is for.
    type: str
  load_balancing_scheme:
    description: Kind of load balancer. Google does not change it by an update.
    type: str
    choices: [EXTERNAL_MANAGED, EXTERNAL, INTERNAL_MANAGED]
    default: EXTERNAL_MANAGED
  protocol:
    description: Protocol towards the backends; serverless ones take V(HTTPS).
    type: str
    choices: [HTTP, HTTPS, HTTP2]
    default: HTTPS
  groups:
    description: Links of all network endpoint groups that requests go to, as M(mlops.mlflow_gcp.compute_serverless_neg) returns them.
    type: list
    elements: str
  iap:
    description:
      - Identity-Aware Proxy. Without any of the OAuth suboptions it uses the OAuth client that Google manages, with which
        only people of the project's own organisation can sign in; an empty string is the same as leaving one out.
      - A client of your own that is no longer given is taken off, and the module fails when Google keeps it all the
        same.
    type: dict
    suboptions:
      enabled:
        description: Whether requests must pass IAP.
        type: bool
        required: true
      oauth2_client_id:
        description: Id of an OAuth client of your own; goes with O(iap.oauth2_client_secret).
        type: str
      oauth2_client_secret:
        description: Its secret. Google returns its SHA-256, with which it is compared.
        type: str
      oauth2_client:
        description:
          - Instead of both, the name of a client as M(mlops.mlflow_gcp.iap_client) returns it. The module reads the secret
            itself, so that it never passes through Ansible.
        type: str
  log_enabled:
    description: Whether requests are logged.
    type: bool
  log_sample_rate:
    description: Share of the requests that are logged, from 0 to 1. Taken for 1 when O(log_enabled=true) and none is given.
    type: float
  custom_request_headers:
    description: All headers that are added to requests, such as V(X-Client-Region:{client_region}).
    type: list
    elements: str
  security_policy:
    description: Name or link of a Cloud Armor policy; an empty string takes it off.
    type: str
  state:
    description: Whether the backend service shall exist.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - name: Backend services
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/backendServices
  - name: OAuth clients for IAP
    description: Google-managed and custom ones.
    link: https://cloud.google.com/iap/docs/custom-oauth-configuration
"""

EXAMPLES = r"""
- name: Cloud Run behind Identity-Aware Proxy, with the OAuth client that Google manages
  mlops.mlflow_gcp.compute_backend_service:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    groups: ["{{ neg.self_link }}"]
    iap:
      enabled: true
    log_enabled: true
  register: backend

- name: The same with an OAuth client of our own
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
  description: Google's number for it, part of the audience of IAP's signed header; empty while there is none.
  returned: success
  type: str
  sample: "1234567890123456789"
resource:
  description: The backend service as the API returns it, hash of the OAuth secret hidden.
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

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, declared, lookup, same_link
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iap import API, OAUTH_CLIENT, retired
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

# What Google itself may return for "no client of your own".
NO_CLIENT = " "
ID = "iap.oauth2ClientId"
SECRET = "iap.oauth2ClientSecret"
HASH = "iap.oauth2ClientSecretSha256"


class BackendService(Resource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/backendServices"""

    kind = "backend service"
    rules = Rules(
        unordered=frozenset({"backends", "customRequestHeaders"}),
        same={
            "backends.group": same_link,
            "securityPolicy": same_link,
            ID: lambda wanted, live: str(wanted).strip() == str(live or "").strip(),
        },
        secret=frozenset({SECRET, HASH}),
    )
    immutable = {"loadBalancingScheme": "make a backend service of another name"}

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        params = self.params
        self.name = params["name"]
        self.path = f"projects/{task.project}/global"
        self.collection = f"https://compute.googleapis.com/compute/v1/{self.path}/backendServices"
        self.url = f"{self.collection}/{self.name}"
        policy, rate = params["security_policy"], params["log_sample_rate"]
        if params["log_enabled"] and rate is None:
            rate = 1.0
        if policy and "/" not in policy:
            policy = f"https://www.googleapis.com/compute/v1/{self.path}/securityPolicies/{policy}"
        self.wanted = {
            "name": self.name,
            "description": params["description"],
            "loadBalancingScheme": params["load_balancing_scheme"],
            "protocol": params["protocol"],
            "backends": None if params["groups"] is None else [{"group": link} for link in params["groups"]],
            "iap": None if params["iap"] is None else {"enabled": params["iap"]["enabled"]},
            "logConfig": None
            if params["log_enabled"] is None
            else {
                "enable": params["log_enabled"],
                "sampleRate": rate if params["log_enabled"] else None,
            },
            "customRequestHeaders": params["custom_request_headers"],
            "securityPolicy": policy,
        }

    def validate(self) -> None:
        rate, iap = self.params["log_sample_rate"], self.params["iap"] or {}
        if rate is not None and not 0 <= rate <= 1:
            raise InvalidInput("log_sample_rate", rate, "0 to 1")
        client, ident, secret = (iap.get(key) for key in ("oauth2_client", "oauth2_client_id", "oauth2_client_secret"))
        if client and (ident or secret):
            raise InvalidInput("iap.oauth2_client", client, "give it, or oauth2_client_id and oauth2_client_secret")
        if client and not OAUTH_CLIENT.fullmatch(client):
            raise InvalidInput(
                "iap.oauth2_client", client, "a name such as projects/N/brands/N/identityAwareProxyClients/ID"
            )
        if bool(ident) != bool(secret):
            given = "oauth2_client_id" if ident else "oauth2_client_secret"
            raise GcpError(
                f"option iap: {given} is given alone; give oauth2_client_id and oauth2_client_secret, or neither of them"
            )

    def read(self) -> dict[str, Any] | None:
        live = super().read()
        if self.params["state"] == "present" and lookup(self.wanted, "iap.enabled"):
            ident, secret = self._oauth_client
            if ident:
                self.wanted["iap"] |= {"oauth2ClientId": ident, "oauth2ClientSecret": secret}
            elif str(lookup(live, ID) or "").strip():
                self.wanted["iap"] |= {"oauth2ClientId": NO_CLIENT, "oauth2ClientSecret": NO_CLIENT}
        return live

    @cached_property
    def _oauth_client(self) -> tuple[str | None, str | None]:
        """Id and secret of the client of our own, if there is one."""
        iap = self.params["iap"]
        if not iap["oauth2_client"]:
            return iap["oauth2_client_id"], iap["oauth2_client_secret"]
        attempt = f"read OAuth client {iap['oauth2_client']}"
        with self.client.attempt(attempt), retired(attempt, "it does not exist, or "):
            client = self.client.get(f"{API}/{iap['oauth2_client']}") or {}
        self.task.module.no_log_values.add(client["secret"])
        return client["name"].rsplit("/", 1)[-1], client["secret"]

    def differences(self, live: dict[str, Any]) -> list[str]:
        secret = lookup(self.wanted, SECRET)
        if secret is None:
            return super().differences(live)
        # Google keeps the secret to itself: its hash stands in for it.
        same = hashlib.sha256(secret.encode()).hexdigest() == lookup(live, HASH) if secret != NO_CLIENT else True
        if same:
            live = {**live, "iap": {**(live.get("iap") or {}), "oauth2ClientSecret": secret}}
        return super().differences(live)

    def create(self) -> dict[str, Any]:
        body = {key: value for key, value in declared(self.wanted).items() if key != "securityPolicy"}
        answer = self.client.post(self.collection, body, safe=True)
        if not self.wanted["securityPolicy"]:
            return answer
        self.wait(answer, self.collection, "create")
        return self._set_policy()

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        if changes != ["securityPolicy"]:
            answer = self._take_client_off(live) if lookup(self.wanted, ID) == NO_CLIENT else self._patch(live)
        if "securityPolicy" in changes:
            self.wait(answer, self.url, "update")
            answer = self._set_policy()
        return answer

    def _patch(self, live: dict[str, Any]) -> dict[str, Any]:
        body = {key: value for key, value in self.patch(live).items() if key != "securityPolicy"}
        try:
            return self.client.request("PATCH", self.url, {**body, "fingerprint": live["fingerprint"]})
        except ApiError as error:
            if error.status != 412:
                raise
        # Somebody else changed it since we read it.
        live = self.client.get(self.url) or {}
        return self.client.request("PATCH", self.url, {**body, "fingerprint": live["fingerprint"]})

    def _take_client_off(self, live: dict[str, Any]) -> dict[str, Any]:
        """Update to Google's own OAuth client. Which blank it takes for that is not documented: try both, and look."""
        client, told = lookup(live, ID), "it was taken off"
        for blank in (NO_CLIENT, ""):
            self.wanted["iap"] |= {"oauth2ClientId": blank, "oauth2ClientSecret": blank}
            try:
                self.wait(self._patch(live), self.url, "update")
            except ApiError as error:
                if error.status != 400:
                    raise
                told = f"Google answered: {error.message}"
                continue
            live = self.client.get(self.url) or {}
            if not str(lookup(live, ID) or "").strip():
                return live
        raise GcpError(
            f"Cannot update {self.label}: it keeps its OAuth client {client} ({told}); go on with that client (oauth2_client_id and "
            "its secret), or delete the backend service and run again"
        )

    def _set_policy(self) -> dict[str, Any]:
        """The only way to change this field."""
        body = {"securityPolicy": self.wanted["securityPolicy"]} if self.wanted["securityPolicy"] else {}
        return self.client.post(f"{self.url}/setSecurityPolicy", body, safe=True)

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        link = f"https://www.googleapis.com/compute/v1/{self.path}/backendServices/{self.name}"
        return {"self_link": live.get("selfLink") or link, "generated_id": str(live.get("id", ""))}


def main() -> None:
    run(
        BackendService.converge,
        argument_spec={
            "name": {"type": "str", "required": True},
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
            "log_sample_rate": {"type": "float"},
            "custom_request_headers": {"type": "list", "elements": "str"},
            "security_policy": {"type": "str"},
            **STATE_OPTION,
        },
    )


if __name__ == "__main__":
    main()
