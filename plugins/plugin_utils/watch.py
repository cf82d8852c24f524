# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of one run have waited for: shown while it lasts, and kept for the callback timeline."""

from __future__ import annotations

import fcntl
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import waits

FILE = "mlops.mlflow_gcp.waits.jsonl"
FIRST, EVERY = 10.0, 30.0
"""Seconds of a wait before it is shown, and between two lines."""
TICK = 1.0
# Only what somebody has measured or Google says: the beginning of an action, and how long it usually takes.
USUAL = {
    # https://github.com/terraform-google-modules/terraform-google-sql-db/pull/425 (below one core)
    # https://github.com/hashicorp/terraform-provider-google/issues/14770 (others)
    "create Cloud SQL instance": "10 to 20 minutes, up to 25 for a tier below one core",
    # https://cloud.google.com/load-balancing/docs/ssl-certificates/google-managed-certs
    "issue the certificate": "some minutes to an hour after the DNS records are set",
}


@dataclass(frozen=True)
class Waited:
    """What one module has done and waited for, in seconds of the monotonic clock, which all processes share."""

    host: str
    task: str
    """Ansible's ID of the task."""
    resource: str
    """Kind and name, such as "Cloud SQL database mlflow"; "" if it is not to be shown, or there is none."""
    began: float
    ended: float
    waits: list[tuple[str, float, float]] = field(default_factory=list)
    """Kind, begin and end; they overlap where threads wait at the same time, and where requests ask for an operation."""


class Store:
    """The file of a run, which only exists if the callback timeline is enabled."""

    enabled = False
    """Set by the callback in Ansible's main process, before it forks those of the tasks."""

    @staticmethod
    def file() -> Path:
        """Ansible makes the folder for one run, for this user only, and removes it at the end."""
        return Path(vars(C)["DEFAULT_LOCAL_TMP"]) / FILE

    @classmethod
    def add(cls, new: Waited) -> None:
        """Add one to those of this run."""
        if cls.enabled:
            with cls.file().open("a") as file:
                fcntl.lockf(file, fcntl.LOCK_EX)
                file.write(json.dumps(asdict(new)) + "\n")

    @classmethod
    def all(cls) -> list[Waited]:
        """Those of this run, in the order of their ends; one that a killed task has not written whole is left out."""
        if not cls.file().exists():
            return []
        found = []
        for line in cls.file().read_text().splitlines():
            try:
                found.append(Waited(**json.loads(line)))
            except ValueError:
                continue
        return found


class Watch:
    """Listens to the module that runs inside, and shows what takes long, a line at a time."""

    def __init__(self, show: Callable[[str], None] | None, first: float = FIRST, every: float = EVERY) -> None:
        self.waits: list[tuple[str, float, float]] = []
        self._show, self._first, self._every = show, first, every
        self._numbers = itertools.count()
        self._open: dict[int, tuple[str, str, float]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        waits.Ear.listener = self
        return self

    def __exit__(self, *_error: Any) -> None:
        waits.Ear.listener = None
        self._over.set()
        if self._thread:
            self._thread.join()

    def begin(self, kind: str, what: str) -> int:
        """See waits.Listener."""
        with self._lock:
            number = next(self._numbers)
            self._open[number] = (kind, what, time.monotonic())
            if kind == waits.PENDING and self._show is not None and not self._thread:
                self._thread = threading.Thread(target=self._tell, daemon=True)
                self._thread.start()
        return number

    def end(self, number: int) -> None:
        """See waits.Listener."""
        with self._lock:
            kind, _what, began = self._open.pop(number)
            self.waits.append((kind, began, time.monotonic()))

    def _tell(self) -> None:
        shown = float("-inf")
        while not self._over.wait(min(TICK, self._first)):
            now = time.monotonic()
            with self._lock:
                pending = [(began, what) for kind, what, began in self._open.values() if kind == waits.PENDING]
            if (
                self._show is not None
                and pending
                and now - shown >= self._every
                and now - pending[-1][0] >= self._first
            ):
                # The innermost: an operation rather than the repetition that it is part of.
                shown = now
                self._show(line(pending[-1][1], now - pending[-1][0]))


def line(what: str, seconds: float) -> str:
    """What is awaited, for how long, and how long it usually takes."""
    often = usual(what)
    return f"after {duration(seconds)}, still waiting: {what}{f' (usually {often})' if often else ''}"


def usual(what: str) -> str:
    """How long WHAT usually takes, "" if nobody knows."""
    return next((text for start, text in USUAL.items() if what.startswith(start)), "")


def duration(seconds: float) -> str:
    """SECONDS for people: "0.4 s", "12 s", "7 min 2 s", "1 h 4 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
