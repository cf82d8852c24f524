# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action mlflow_plan; its documentation is in plugins/modules/mlflow_plan.py."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import failures, record

ACTIONS = ("create", "update", "delete", "run", "unchanged")
SIGNS = {"create": "+", "update": "~", "delete": "-", "run": ">", "unchanged": " "}
WIDTH = 60


class ActionModule(ActionBase):
    """Sums up what the modules of this run have done, or would do."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        options = self.validate_argument_spec(
            {"file": {"type": "path"}, "fail_on_changes": {"type": "bool", "default": False}}
        )[1]
        entries = record.entries((task_vars or {})["inventory_hostname"])
        counts = Counter(entry.action for entry in entries)
        numbers = {action: counts[action] for action in ACTIONS}
        changes = [asdict(entry) for entry in entries if entry.action != "unchanged"]
        if options["file"]:
            _write(options["file"], {"counts": numbers, "resources": [asdict(entry) for entry in entries]})
        result |= {"changed": False, "counts": numbers, "changes": changes, "table": list(table(entries, numbers))}
        if options["fail_on_changes"] and changes:
            names = ", ".join(f"{change['action']} {change['resource']}" for change in changes)
            result |= {"failed": True, "msg": f"The deployment is not as declared; a run of site would {names}"}
            failures.note(str((task_vars or {})["inventory_hostname"]), self._task, result["msg"])
        return result


def table(entries: list[record.Entry], counts: Mapping[str, int]) -> Iterator[str]:
    """A line for each resource that changes, with a line for each of its fields, and a last one with the numbers."""
    for entry in entries:
        if entry.action == "unchanged":
            continue
        yield f"{SIGNS[entry.action]} {entry.action} {entry.resource}"
        if entry.action == "update":
            yield from (
                f"    {path}: {shown(old)} -> {shown(new)}" for path, old, new in fields(entry.before, entry.after)
            )
    yield ", ".join(f"{number} {action}" for action, number in counts.items())


def fields(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new value of everything that differs, as deep as both are mappings."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from fields(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif before != after:
        yield path, before, after


def shown(value: Any) -> str:
    """VALUE in one line, shortened."""
    text = "(not set)" if value is None else json.dumps(value, default=str)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def _write(path: str, content: Mapping[str, Any]) -> None:
    try:
        Path(path).write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise AnsibleActionFail(f"Cannot write the plan to {path} (mlflow_plan_file): {error.strerror}") from None
