# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action cloud_build; its documentation is in plugins/modules/cloud_build.py."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.action import in_process

# The server's image that is part of the collection.
SOURCE = Path(__file__).resolve().parents[2] / "image"
SECONDS = 0.5


@contextmanager
def followed(path: Path, show: Callable[[str], None]) -> Iterator[None]:
    """Show every line that is appended to a file, as it comes."""
    ended = threading.Event()

    def follow() -> None:
        with path.open(encoding="utf-8") as lines:
            rest = ""
            last = False
            while not last:
                last = ended.wait(SECONDS)
                whole, _newline, rest = (rest + lines.read()).rpartition("\n")
                for line in whole.split("\n") if whole else ():
                    show(line)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class ActionModule(in_process.ActionModule):
    """Run the module, and show the lines of the build's log while it runs; on another host than the controller, at its end."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module."""
        host = (task_vars or {}).get("inventory_hostname", "")
        local = self._connection.transport in ("local", "ansible.builtin.local")
        arguments = dict(self._task.args)
        if not arguments.get("source") and local:
            arguments["source"] = str(SOURCE)

        def show(line: str) -> None:
            self._display.display(f"{host}: {line}")

        self._task.args = arguments
        if arguments.get("log_file") or not local:
            return self.result(super().run(task_vars=task_vars), show)
        descriptor, name = tempfile.mkstemp(prefix="cloud-build-")
        os.close(descriptor)
        try:
            self._task.args = arguments | {"log_file": name}
            with followed(Path(name), show):
                result = super().run(task_vars=task_vars)
            return self.result(result)
        finally:
            os.unlink(name)

    @staticmethod
    def result(result: dict[str, Any], show: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
        """The result of the module; of a failure without the log, which has been shown."""
        for line in result.get("log") or ():
            show(line)
        return {key: value for key, value in result.items() if key != "log" or not result.get("failed")}
