# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action mlflow_summary; its documentation is in plugins/modules/mlflow_summary.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import one_line
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import failures

UNKNOWN = "a task of another collection failed, or the host is unreachable; its message is above"


class ActionModule(ActionBase):
    """Sums up which hosts of the play are done, and which have failed and why."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The hosts of the play, those that have left it with the reason."""
        result = super().run(tmp, task_vars)
        self.validate_argument_spec({})
        variables = task_vars or {}
        every, left = variables.get("ansible_play_hosts_all", []), {*variables.get("ansible_play_hosts", [])}
        noted, hosts = failures.of_run(), variables.get("hostvars")
        failed = {
            str(host): noted.get(host) or _registered(hosts.raw_get(host) if hosts else {}) or UNKNOWN
            for host in every
            if host not in left
        }
        done = [str(host) for host in every if host in left]
        lines = [f"{len(done)} of {len(every)} deployments are done"]
        lines += [f"{host} failed: {why}" for host, why in failed.items()]
        return {**result, "changed": False, "done": done, "failed_hosts": failed, "lines": lines}


def _registered(variables: Mapping[str, Any]) -> str:
    """The message of a task that has failed and registered its result; "" without one."""
    for value in variables.values():
        if isinstance(value, Mapping) and value.get("failed") is True and value.get("msg"):
            return one_line(str(value["msg"]))
    return ""
