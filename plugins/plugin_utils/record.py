# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of one run have done, or would do in check mode, in a file that lasts as long as the run."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible import constants as C

FILE = "mlops.mlflow_gcp.jsonl"
EMPTY: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Entry:
    """One resource, as one task has found it and leaves it, or would leave it."""

    host: str
    task: str
    module: str
    project: str
    resource: str
    """Kind and name, such as "Cloud SQL database mlflow"."""
    action: str
    """create, update, delete, unchanged, or run for what is no resource."""
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def entry(host: str, task: str, module: str, project: str, result: Mapping[str, Any]) -> Entry | None:
    """What RESULT of a module says; None for one that only reads. PROJECT is "" where the environment names it."""
    diff = result.get("diff") or EMPTY
    changed, before, after = bool(result.get("changed")), diff.get("before") or EMPTY, diff.get("after") or EMPTY
    resource = diff.get("after_header") or ""
    if not resource:
        # No resource; only mentioned if it changes something.
        return Entry(host, task, module, project, task, "run", EMPTY, EMPTY) if changed else None
    action = "unchanged" if not changed else "create" if not before else "delete" if not after else "update"
    if action == "unchanged" and not before:
        return None  # absent, and to be absent
    return Entry(host, task, module, project, resource, action, before, after)


def _file() -> Path:
    """Ansible makes the folder for one run, for this user only, and removes it at the end."""
    return Path(vars(C)["DEFAULT_LOCAL_TMP"]) / FILE


def add(new: Entry) -> None:
    """Add an entry to those of this run."""
    with _file().open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        file.write(json.dumps(asdict(new), default=str) + "\n")


def entries(host: str) -> list[Entry]:
    """The entries of a host in this run, the last one for each resource."""
    if not _file().exists():
        return []
    found = [Entry(**json.loads(line)) for line in _file().read_text().splitlines()]
    return list({(each.project, each.resource): each for each in found if each.host == host}.values())
