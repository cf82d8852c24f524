# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible's main process prepares for the processes that it forks, one for each task and host."""

from __future__ import annotations

import importlib

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import client
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.tokens import SharedTokens

# Imported on demand by the modules, for which it is the most common kind of credentials.
ON_DEMAND = ("google.oauth2.service_account",)


def up() -> None:
    """
    Import what modules need, and let them share their access tokens.

    Without effect when called again. Every role begins with the action check_variables, whose file Ansible loads in its main process.
    """
    if client.IMPORT_ERROR or client.TokenAuth.shared:
        return
    for name in ON_DEMAND:
        importlib.import_module(name)
    client.TokenAuth.shared = SharedTokens()
