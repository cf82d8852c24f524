# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: max_connections
short_description: How many connections a Cloud SQL for PostgreSQL tier accepts by default
version_added: 0.1.0
author: mlops.mlflow_gcp contributors (@mlops)
description:
  - Gives the default of PostgreSQL's C(max_connections) on Cloud SQL, which depends on the tier's memory
    (U(https://cloud.google.com/sql/docs/postgres/flags#postgres-m)).
positional: _input
options:
  _input:
    description: A tier such as V(db-g1-small), V(db-custom-2-7680) or V(db-perf-optimized-N-4).
    type: str
    required: true
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

import re

# Memory in GB from which on, connections.
STEPS = ((120, 1000), (60, 800), (30, 600), (15, 500), (7.5, 400), (6, 200), (3.75, 100), (1.7, 50), (0, 25))


def memory_gb(tier: str) -> float:
    """Return the memory of a tier in GB; 0 when its name does not tell."""
    if custom := re.fullmatch(r"db-custom-\d+-(\d+)", tier):
        return int(custom[1]) / 1024
    # The machines of Enterprise Plus have at least this much.
    if plus := re.fullmatch(r"db-(?:perf-optimized-N|memory-optimized-N|c4a-highmem)-(\d+)(?:-lssd)?", tier):
        return int(plus[1]) * 8
    return 1.7 if tier == "db-g1-small" else 0


def max_connections(tier: str) -> int:
    """Return the connections that PostgreSQL on this tier accepts when no database flag says otherwise."""
    memory = memory_gb(tier)
    return next(connections for least, connections in STEPS if memory >= least)


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, object]:
        return {"max_connections": max_connections}
