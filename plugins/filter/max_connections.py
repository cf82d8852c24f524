# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: max_connections
short_description: How many connections a Cloud SQL for PostgreSQL instance accepts
version_added: 0.1.0
author: mlops.mlflow_gcp contributors (@mlops)
description:
  - Gives PostgreSQL's C(max_connections) on Cloud SQL. Its default depends on the tier's memory
    (U(https://cloud.google.com/sql/docs/postgres/flags#postgres-m)).
positional: _input, database_flags
options:
  _input:
    description: A tier such as V(db-g1-small), V(db-custom-2-7680) or V(db-perf-optimized-N-4).
    type: str
    required: true
  database_flags:
    description: The instance's database flags, a dictionary or a text for one. With C(max_connections), the tier does not matter.
    type: raw
"""

EXAMPLES = r"""
- name: Show what the smallest tier accepts
  ansible.builtin.debug:
    msg: "{{ 'db-f1-micro' | mlops.mlflow_gcp.max_connections }}"
"""

RETURN = r"""
_value:
  description: The number of connections.
  type: int
"""

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, object]:
        return {"max_connections": values.max_connections}
