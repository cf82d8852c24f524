# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option state."""

from __future__ import annotations


class ModuleDocFragment:
    """Present or absent."""

    DOCUMENTATION = r"""
options:
  state:
    description: Whether the resource exists.
    type: str
    choices: [present, absent]
    default: present
"""
