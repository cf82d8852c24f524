# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: service_account_email
short_description: Give the e-mail address of a service account
version_added: 0.1.0
author: mlops.mlflow_gcp contributors (@mlops)
description:
  - Gives the address under which Google creates the service account of an ID in a project. In a project that belongs to a domain, such
    as V(example.com:my-project), it ends with C(@my-project.example.com.iam.gserviceaccount.com).
positional: _input, project
options:
  _input:
    description: ID of the service account.
    type: str
    required: true
  project:
    description: ID of its project.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the address of the logger
  ansible.builtin.debug:
    msg: "{{ 'mlflow-logger' | mlops.mlflow_gcp.service_account_email('my-project') }}"
"""

RETURN = r"""
_value:
  description: The e-mail address.
  type: str
"""

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, object]:
        return {"service_account_email": values.service_account_email}
