# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: timeline
type: aggregate
short_description: Draw where the time of a run went
description:
  - Writes one page (HTML with an SVG picture, no scripts, opens without a network) at the end of a run. It has a lane for each host and
    a bar for each resource, or task without one, in which waiting for Google is apart from what the controller did; the critical path is
    marked.
  - Ends the output of the run with the same in five lines.
  - Waiting is known of this collection's modules that run in the process of their task, see M(mlops.mlflow_gcp.in_process).
    Everything else counts as the controller's time.
  - The page has names of hosts, tasks and resources, and times; no arguments, results or messages. Of tasks with C(no_log) it has
    the name of the task only.
  - Also works in check mode, with any strategy and number of forks, and for a run that fails. A run that is interrupted writes nothing.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
requirements:
  - enable in configuration, C(callbacks_enabled = mlops.mlflow_gcp.timeline), or with E(ANSIBLE_CALLBACKS_ENABLED)
options:
  file:
    description:
      - The file to write; an existing one is replaced at once, and its folder must exist.
      - If the name ends with C(.svg), only the picture is written.
    type: path
    default: timeline.html
    env:
      - name: MLFLOW_GCP_TIMELINE_FILE
    ini:
      - section: callback_mlflow_gcp_timeline
        key: file
"""

import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import core
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.timeline import Event, Timeline, html, svg
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.watch import Store


class CallbackModule(CallbackBase):
    """Notes when the tasks of all hosts begin and end, and writes the timeline at the end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "mlops.mlflow_gcp.timeline"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        Store.enabled = True
        self._began = time.monotonic()
        self._when = datetime.now().astimezone()
        self._names: list[str] = []
        self._running: dict[tuple[str, str], Event] = {}
        self._done: list[Event] = []

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """A playbook begins, of which a run may have several."""
        self._names.append(Path(playbook._file_name).stem)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A process for a task on a host has been started."""
        self._running[host.name, task._uuid] = Event(host.name, task._uuid, task.get_name(), time.monotonic())

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task is done."""
        self._end(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task has failed."""
        self._end(result, "ignored" if ignore_errors else "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """There is no connection to a host."""
        self._end(result, "unreachable")

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task was not necessary."""
        self._end(result, "skipped")

    def _end(self, result: Any, status: str) -> None:
        host, task, returned = core.task_result(result)
        event = self._running.pop((host, task), None)
        if event:
            event.ended, event.status = time.monotonic(), status
            event.hidden = bool(returned.get("_ansible_no_log"))
            # With the values of variables, except of those that are only known in the task.
            event.name = result.task_name if not event.hidden else event.name
            self._done.append(event)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """A playbook is over."""
        now = time.monotonic()
        for event in self._running.values():
            event.ended = now
        timeline = Timeline([*self._done, *self._running.values()], Store.all(), self._began, now)
        path, title = Path(self.get_option("file")), ", ".join(self._names)
        self._display.banner("TIMELINE")
        for line in timeline.summary():
            self._display.display(line)
        try:
            write(path, svg(timeline, title) if path.suffix == ".svg" else html(timeline, title, self._when))
        except OSError as error:
            self._display.warning(f"Cannot write the timeline to {path} (MLFLOW_GCP_TIMELINE_FILE): {error.strerror}")
        else:
            self._display.display(f"Timeline: {path}")


def write(path: Path, text: str) -> None:
    """Replace the file at once, so that nobody reads half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
