# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why hosts of a run have failed, in a file that lasts as long as the run, for the summary at its end."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import one_line

FILE = "mlops.mlflow_gcp.failures.jsonl"
HIDDEN = "its message is hidden (no_log)"


def _file() -> Path:
    """Ansible makes the folder for one run, for this user only, and removes it at the end."""
    return Path(vars(C)["DEFAULT_LOCAL_TMP"]) / FILE


def note(host: str, task: Any, message: object) -> None:
    """TASK has failed on HOST with MESSAGE."""
    why = HIDDEN if task.no_log else one_line(str(message))
    with _file().open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        file.write(json.dumps({"host": host, "task": task.name or task.action, "why": why}) + "\n")


@contextmanager
def noted(task: Any, variables: Mapping[str, Any] | None) -> Iterator[None]:
    """Note an AnsibleActionFail that is raised inside."""
    try:
        yield
    except AnsibleActionFail as error:
        note(str((variables or {}).get("inventory_hostname", "")), task, error.message)
        raise


def of_run() -> dict[str, str]:
    """For each host with failed tasks, the last one and its message."""
    if not _file().exists():
        return {}
    found = [json.loads(line) for line in _file().read_text().splitlines()]
    return {each["host"]: f"{each['task']}: {each['why']}" for each in found}
