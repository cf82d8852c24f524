#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iap_oauth_settings
short_description: Manage the OAuth client in the settings of Identity-Aware Proxy
description:
  - Sets the custom OAuth client that users of a Cloud Run service with Identity-Aware Proxy (IAP) sign in with, or removes it, so that
    Google manages the client.
  - With the client that Google manages, only users of the project's own organization can sign in.
  - Other settings of the service are left unchanged.
  - Google returns only a hash of the secret. A different secret is a change.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
options:
  run_service:
    description: Name of the Cloud Run service.
    type: str
    required: true
  region:
    description: Region of the service.
    type: str
    required: true
  client_id:
    description: ID of the OAuth client. If empty, Google manages the client.
    type: str
    default: ""
  client_secret:
    description: Secret of the OAuth client, with O(client_id).
    type: str
    default: ""
seealso:
  - module: mlops.mlflow_gcp.compute_backend_service
  - name: Custom OAuth clients
    description: When one is needed, and how to create it.
    link: https://cloud.google.com/iap/docs/custom-oauth-configuration
"""

EXAMPLES = r"""
- name: Let people outside of the organization sign in
  mlops.mlflow_gcp.iap_oauth_settings:
    project: my-project
    auth_kind: application
    run_service: mlflow
    region: europe-west2
    client_id: 123456789012-abc.apps.googleusercontent.com
    client_secret: "{{ oauth_client_secret }}"
"""

RETURN = r"""
client_id:
  description: ID of the custom OAuth client, empty when Google manages the client.
  returned: success
  type: str
  sample: 123456789012-abc.apps.googleusercontent.com
"""

import hashlib
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iam import policy_of
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run

OAUTH = "accessSettings.oauthSettings"
MASK = ",".join(f"iapSettings.{OAUTH}.{field}" for field in ("clientId", "clientSecret"))


def read(task: Task, url: str) -> dict[str, Any]:
    """The OAuth settings; in check mode a service that does not exist yet has none."""
    try:
        with task.client.action(f"read the settings of IAP of Cloud Run service {task.params['run_service']}"):
            return lookup(task.client.get(url), OAUTH) or {}
    except ApiError as error:
        if not task.check_mode or error.status != 404 and not error.disabled:
            raise
        return {}


def shown(client_id: str) -> dict[str, str]:
    """The client as the diff shows it."""
    return {"clientId": client_id, "clientSecret": "********"} if client_id else {}


def converge(task: Task) -> dict[str, Any]:
    """https://cloud.google.com/iap/docs/reference/rest/v1/TopLevel/updateIapSettings"""
    params = task.params
    client_id, secret = params["client_id"], params["client_secret"]
    if bool(client_id) != bool(secret):
        raise InvalidInput("client_id", client_id, "it requires client_secret, and client_secret requires it")
    service = params["run_service"]
    target = policy_of(task, "iap_run_service", service, params["region"])
    url = f"{target.url}:iapSettings" if target.url else ""
    live = read(task, url) if url else {}
    before = live.get("clientId") or ""
    hashed = hashlib.sha256(secret.encode()).hexdigest() if secret else None
    changed = (before, live.get("clientSecretSha256") or None) != (client_id, hashed)
    if changed and not task.check_mode:
        client = {"clientId": client_id, "clientSecret": secret} if client_id else {}
        body = {"accessSettings": {"oauthSettings": client}}
        with task.client.action(f"set the OAuth client of IAP of Cloud Run service {service}"):
            # Safe to repeat: the same settings again.
            task.client.request("PATCH", url, body, params={"updateMask": MASK}, idempotent=True)
    after = shown(client_id)
    if changed and before == client_id:
        after["clientSecret"] = "******** (changed)"
    return task.result(
        label=f"OAuth client of IAP of Cloud Run service {service}",
        changed=changed,
        before=shown(before),
        after=after,
        client_id=client_id,
    )


def main() -> None:
    run(
        converge,
        argument_spec={
            "run_service": {"type": "str", "required": True, "kind": values.RUN_NAME},
            "region": {"type": "str", "required": True, "kind": values.REGION},
            "client_id": {"type": "str", "default": "", "kind": values.OAUTH_CLIENT_ID},
            "client_secret": {"type": "str", "default": "", "no_log": True},
        },
    )


if __name__ == "__main__":
    main()
