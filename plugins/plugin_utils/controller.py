# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that run on the controller, in a process of their own."""

from __future__ import annotations

import sys
from typing import Any


def is_here(connection: Any) -> bool:
    """Whether a connection leads to the controller itself."""
    return connection.transport in ("local", "ansible.builtin.local")


def interpreted(connection: Any, task: Any, variables: dict[str, Any]) -> dict[str, Any]:
    """VARIABLES with the Python of Ansible, which has google-auth, for a module on the controller if they name none."""
    if not is_here(connection) or task.delegate_to or variables.get("ansible_python_interpreter"):
        return variables
    return {**variables, "ansible_python_interpreter": sys.executable}
