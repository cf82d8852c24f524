# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a deletion of what others may use."""

from __future__ import annotations


class ModuleDocFragment:
    """Options in_use and release_timeout."""

    DOCUMENTATION = r"""
options:
  in_use:
    description:
      - With O(state=absent), what to do with a resource that something else uses, or that Google has not released yet. V(fail) fails,
        V(leave) leaves it, with a warning and without a change.
    type: str
    choices: [fail, leave]
    default: fail
  release_timeout:
    description:
      - With O(state=absent), seconds to wait for what Google itself releases after a while.
    type: int
    default: 60
"""
