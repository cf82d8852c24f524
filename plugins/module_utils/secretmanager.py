# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secret Manager, as far as more than one module needs it."""

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import full_path
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InvalidInput

BASE = "https://secretmanager.googleapis.com/v1/"


def secret_path(project: str, name: str, option: str = "name") -> str:
    """projects/p/secrets/s for a short name or such a path; raises InvalidInput naming OPTION."""
    path = full_path(project, "secrets", name)
    parts = path.split("/")
    if len(parts) != 4 or parts[2] != "secrets" or not all(parts):
        raise InvalidInput(option, name, "give a secret's name or projects/PROJECT/secrets/NAME")
    return path


def newest_enabled(client: Client, path: str) -> dict[str, Any] | None:
    """
    The newest version of secret PATH that is enabled, None without one.
    https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/list
    """
    versions = client.items(f"{BASE}{path}/versions", "versions", params={"filter": "state:ENABLED"})
    return max((v for v in versions if v.get("state") == "ENABLED"), key=version_number, default=None)


def version_number(version: dict[str, Any]) -> int:
    """3 for …/versions/3."""
    return int(version["name"].rpartition("/")[2])


def payload(client: Client, version: dict[str, Any]) -> bytes:
    """
    What a version holds.
    https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
    """
    answer = client.get(f"{BASE}{version['name']}:access") or {}
    return base64.b64decode(answer["payload"].get("data", ""))
