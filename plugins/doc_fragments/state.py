# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option state."""

from __future__ import annotations


class ModuleDocFragment:
    """Present or absent; EXISTING also allows to only look up a resource."""

    DOCUMENTATION = r"""
options:
  state:
    description: Whether the resource exists.
    type: str
    choices: [present, absent]
    default: present
"""

    EXISTING = r"""
options:
  state:
    description:
      - Whether the resource exists.
      - V(existing) is for a resource that others manage. It is looked up and returned, and never changed. The module fails if it
        does not exist, or differs from the options that are given.
      - A network, range or connection of a Shared VPC that the caller may use but not read is assumed to exist, with a warning.
    type: str
    choices: [present, existing, absent]
    default: present
"""
