# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible's main process prepares for the processes that it forks, one for each task and host."""

from __future__ import annotations

import gc
import importlib
import pkgutil

from ansible.plugins.loader import action_loader, filter_loader, lookup_loader, test_loader
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import client
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import templates
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.shared import SharedReads, SharedTokens

COLLECTION = "ansible_collections.mlops.mlflow_gcp.plugins"
# Imported on demand by the modules, for which it is the most common kind of credentials.
ON_DEMAND = ("google.oauth2.service_account",)
READS = SharedReads()


def up() -> None:
    """
    Import what modules and templates need; let the modules share their access tokens and what has been read ahead, and all
    processes the templates that one of them has compiled.

    Without effect when called again. Every role begins with the action check_variables, whose file Ansible loads in its main process.
    """
    if client.IMPORT_ERROR or client.TokenAuth.shared:
        return
    client.TokenAuth.shared = SharedTokens()
    client.Client.reads = READS
    templates.share(templates.SharedTemplates())
    for name in ON_DEMAND:
        importlib.import_module(name)
    modules = importlib.import_module(f"{COLLECTION}.modules")
    for found in pkgutil.iter_modules(modules.__path__, f"{COLLECTION}.modules."):
        importlib.import_module(found.name)
    filters = importlib.import_module(f"{COLLECTION}.filter")
    for found in pkgutil.iter_modules(filters.__path__):
        filter_loader.get(f"mlops.mlflow_gcp.{found.name}")
    list(filter_loader.all())
    list(test_loader.all())
    action_loader.get("ansible.legacy.normal", class_only=True)
    lookup_loader.get("ansible.builtin.env", class_only=True)
    # What has been imported stays: a collection in a forked process would write to each object, and copy its memory.
    gc.collect()
    gc.freeze()
