# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests a run has made, in a file in Ansible's home, so that the next run can make them all at once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible import constants as C

FOLDER = "mlops.mlflow_gcp/reads"
# Operations have a new name each time.
OPERATION = re.compile(r"/operations/[^/?\"]+\"")


@dataclass(frozen=True)
class Task:
    """
    One task of a run for a host. The file has, for each task, its tags and the requests that it has sent; no answers.

    A file that is lost, old or broken costs a run nothing but time.
    """

    host: str
    play: str
    name: str
    """With the item of a loop."""
    tags: tuple[str, ...]
    run_tags: tuple[str, ...]

    @property
    def file(self) -> Path:
        """One for each host and play."""
        digest = hashlib.sha256(json.dumps([self.host, self.play]).encode()).hexdigest()[:16]
        return Path(vars(C)["ANSIBLE_HOME"]).expanduser() / FOLDER / f"{digest}.json"

    def _all(self) -> dict[str, dict[str, Any]]:
        try:
            found: dict[str, dict[str, Any]] = json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    def others(self) -> list[str]:
        """The requests of all tasks that this run is not limited to leave out, each once."""
        asked = {*self.run_tags, "always"}
        every = asked & {"all", "tagged"}
        entries = [entry for entry in self._all().values() if every or asked & {*entry["tags"]}]
        return list(dict.fromkeys(request for entry in entries for request in entry["reads"]))

    def remember(self, reads: list[str]) -> None:
        """Replace what the task has read the last time, if it is something else."""
        unique = [read for read in dict.fromkeys(reads) if not OPERATION.search(read)]
        entries = self._all()
        if not unique or entries.get(self.name, {}).get("reads") == unique:
            return
        entries[self.name] = {"tags": [*self.tags], "reads": unique}
        with suppress(OSError):
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.file.parent)
            with os.fdopen(descriptor, "w") as file:
                json.dump(entries, file)
            os.replace(name, self.file)
