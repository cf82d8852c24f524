# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action certificate_wait: the module of that name looks, until it finds what is waited for or the time is over."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import waits
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import controller, failures, host_credentials, watch

MODULE = "mlops.mlflow_gcp.certificate_wait"
PAUSES = (2.0, 5.0, 10.0, 20.0)
"""Seconds between two looks; the last is that between all further ones."""
SHOWN_EVERY = 60.0
"""Seconds after which what has not changed is shown again."""
AWAITED = "issue the certificate"

display = Display()


class ActionModule(ActionBase):
    """Repeat the module, and show each state that is new."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of the last look; failed if the domains are not active when the time is over."""
        result = super().run(tmp, task_vars)
        if self._task.check_mode:
            # There may be no certificate yet.
            return {**result, "changed": False, "active": False, "lasting": False, "problems": []}
        self._task.args = host_credentials.arguments(self._task.args, self._templar.template, task_vars or {})
        variables = controller.interpreted(self._connection, self._task, task_vars or {})
        timeout = float(self._task.args.get("timeout", 3600) or 0)
        began = shown_at = time.monotonic()
        shown: list[str] = []
        looks = 0
        host = str(task_vars["inventory_hostname"]) if task_vars else ""
        usual = f" (usually {watch.usual(AWAITED)})"
        while True:
            found = self._execute_module(module_name=MODULE, task_vars=variables)
            result.update(found)
            passed = time.monotonic() - began
            pause = PAUSES[min(looks, len(PAUSES) - 1)]
            if found.get("failed") or found.get("active") or found.get("lasting") or passed + pause > timeout:
                break
            if found["problems"] != shown or time.monotonic() - shown_at >= SHOWN_EVERY:
                shown, shown_at = found["problems"], time.monotonic()
                for problem in shown:
                    display.display(f"{host}: after {passed:.0f} s, {problem}{usual}")
                usual = ""
            looks += 1
            time.sleep(pause)
        if watch.Store.enabled:
            ended = time.monotonic()
            watch.Store.add(
                watch.Waited(host, self._task._uuid, "certificate", began, ended, [(waits.PENDING, began, ended)])
            )
        if not found.get("failed") and not found.get("active") and timeout:
            result["failed"] = True
            reason = "this does not pass by waiting" if found["lasting"] else f"still so after {passed:.0f} s"
            result["msg"] = (
                f"The certificate is not active ({reason}): {'; '.join(found['problems'])}. Nothing is lost: correct it and run "
                "site with --tags wait_for_certificate, or run site again"
            )
        if result.get("failed"):
            failures.note(host, self._task, result["msg"])
        return result
