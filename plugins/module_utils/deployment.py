# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment as the variables of the roles describe it: its names, and reading what exists of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import secretmanager
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import relative
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.values import FRONT_DOORS


class Found(NamedTuple):
    """A resource: its label for messages, and its body; None if it does not exist, {} if the caller may not read it."""

    label: str
    body: dict[str, Any] | None


class Deployment:
    """Option variables of a task, and what they name."""

    def __init__(self, task: Task) -> None:
        self.task, self.params, self.client = task, task.params, task.client
        self.variables: Mapping[str, Any] = self.params["variables"]
        self.disabled: set[str] = set()
        """APIs that are not enabled."""
        self.unread: list[str] = []
        """What the caller may not read, each with Google's message."""
        self.network_project = self.text("network_project_id")
        self.network = self.path(
            "network_name", f"projects/{self.network_project}/global/networks", self.text("network_prefix")
        )
        self.subnetwork = self.path(
            "network_subnetwork_name",
            f"projects/{self.network_project}/regions/{self.text('network_region')}/subnetworks",
            f"{self.text('network_prefix')}-{self.text('network_region')}",
        )
        self.peered = self.text("network_private_access") != "psc"
        # As in role network: only the range with the default name is made, any other belongs to somebody else.
        self.range = self.text("network_reserved_range") if self.peered else ""
        self.makes_range = self.range == f"{self.text('network_prefix')}-services"
        self.secret = secretmanager.secret_path(self.text("cloudsql_project_id"), self.text("cloudsql_password_secret"))

    # The variables.

    def text(self, name: str) -> str:
        """A variable as text, "" if it is not known."""
        value = self.variables.get(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> int:
        """A variable as a number."""
        return int(self.variables.get(name) or 0)

    def flag(self, name: str) -> bool:
        """A variable as a truth value."""
        return bool(boolean(self.variables.get(name), strict=False))

    def said(self, name: str) -> str:
        """The variable to name in messages."""
        return str(self.params["names"].get(name, name))

    @property
    def door(self) -> str:
        """The front door."""
        return self.text("mlflow_front_door") or "load_balancer"

    def of_door(self, name: str) -> str:
        """A variable of the role that makes the front door, by its name without the prefix, as text."""
        return self.text(f"{FRONT_DOORS[self.door]}_{name}")

    def path(self, name: str, collection: str, default: str) -> str:
        """The path of the resource that a variable gives by name, path or link."""
        given = self.text(name)
        return relative(given) if "/" in given else f"{collection}/{given or default}"

    # Reading.

    def look(self, label: str, api: str, call: Callable[[], dict[str, Any] | None]) -> Found:
        """What CALL reads from API."""
        try:
            with self.client.action(f"read {label}"):
                return Found(label, call())
        except ApiError as error:
            if error.disabled:
                self.disabled.add(api)
                return Found(label, None)
            if error.status != 403:
                raise
            self.unread.append(f"{label} ({error.message})")
            return Found(label, {})
