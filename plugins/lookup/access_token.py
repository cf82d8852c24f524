# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An access token of the host's credentials, for modules of other collections."""

from __future__ import annotations

DOCUMENTATION = r"""
name: access_token
short_description: Access token of the credentials that the modules of this collection use
description:
  - Returns an access token of the host's credentials - its variables such as C(mlflow_auth_kind) and
    C(mlflow_impersonate_service_account), otherwise the environment - for modules of other collections, which have no option for
    some kinds of credentials. See docs/credentials.md.
  - A token is good for up to an hour. In a run that has used a module of this collection before, all tasks share it.
  - Only use it as the value of an option that Ansible hides, such as O(google.cloud.gcp_compute_network#module:access_token).
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
requirements:
  - google-auth
  - requests
options:
  _terms:
    description: None.
  impersonate_service_account:
    description: E-mail address of the service account to act as, instead of the host's.
    type: str
  scopes:
    description: Scopes of the token, by default C(https://www.googleapis.com/auth/cloud-platform).
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Use modules of google.cloud with the credentials of each host, of any kind
  hosts: mlflow
  connection: local
  gather_facts: false
  module_defaults:
    group/google.cloud.gcp:
      auth_kind: accesstoken
      access_token: "{{ lookup('mlops.mlflow_gcp.access_token') }}"
      # Not from the environment: google.cloud refuses a key file beside a token.
      service_account_file:
      service_account_contents:
      service_account_email:
  tasks:
    - name: Find the networks
      google.cloud.gcp_compute_network_info:
        project: my-project
"""

RETURN = r"""
_raw:
  description: The token.
  type: list
  elements: str
"""

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.lookup import LookupBase
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import client, credentials
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import SIGN_IN
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import host_credentials


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: Any, variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """The token, in a list."""
        if terms:
            raise AnsibleLookupError("mlops.mlflow_gcp.access_token has no terms, only options")
        if client.IMPORT_ERROR:
            raise AnsibleLookupError("mlops.mlflow_gcp.access_token requires google-auth and requests")
        self.set_options(var_options=variables, direct=kwargs)
        asked = {name: self.get_option(name) for name in ("impersonate_service_account", "scopes")}
        if self._templar is None:
            raise AnsibleLookupError("mlops.mlflow_gcp.access_token is for templates")
        given = host_credentials.of_host(self._templar.template, variables or {})
        given |= {name: value for name, value in asked.items() if value}
        params = checked(given)
        try:
            return [client.access_token(params)]
        except GcpError as error:
            raise AnsibleLookupError(str(error)) from None


def checked(given: dict[str, Any]) -> dict[str, Any]:
    """Options with those of the environment, in their types; raises AnsibleLookupError."""
    result = ArgumentSpecValidator(credentials.OPTIONS).validate(given)
    if result.error_messages:
        missing = given.get("auth_kind") is None
        raise AnsibleLookupError(SIGN_IN if missing else "; ".join(result.error_messages))
    params: dict[str, Any] = result.validated_parameters
    return params
