# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: of_size
short_description: What a size of a deployment sets
version_added: 0.1.0
author: mlops.mlflow_gcp contributors (@mlops)
description:
  - Gives the value that a size of a deployment, C(mlflow_size), has for a variable of the roles cloudsql and cloudrun. Their defaults use it.
positional: _input, name
options:
  _input:
    description: The size.
    type: str
    choices: [small, medium, large, xlarge]
    required: true
  name:
    description: The variable's name without the prefix of its role.
    type: str
    choices:
      - availability_type
      - concurrency
      - cpu
      - disk_size_gb
      - max_instances
      - memory
      - min_instances
      - pool_overflow
      - pool_size
      - tier
    required: true
"""

EXAMPLES = r"""
- name: Show the machine type of the database of a large deployment
  ansible.builtin.debug:
    msg: "{{ 'large' | mlops.mlflow_gcp.of_size('tier') }}"
"""

RETURN = r"""
_value:
  description: The value, in the type of the variable.
  type: raw
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import sizes


def of_size(size: str, name: str) -> object:
    """The filter; an error names what is allowed."""
    try:
        return sizes.of_size(size, name)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, object]:
        return {"of_size": of_size}
