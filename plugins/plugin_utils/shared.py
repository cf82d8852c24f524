# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that the worker processes of one run share: access tokens, which variables have been checked, what has been read."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Answer, Reread, Token
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import hints

LENGTH = 4


class Locked:
    """What processes forked from this one share, changed by one of them at a time."""

    def __init__(self) -> None:
        # An empty file without a name. A lock of this kind goes with the process that holds it, even if it is killed.
        self._lock, name = tempfile.mkstemp()
        os.unlink(name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other process is in here at the same time."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


class Shared(Locked):
    """
    A dictionary in memory that processes forked from this one share; nothing is written to disk.

    What is more than SIZE bytes as JSON is not kept.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._memory = mmap.mmap(-1, size)

    def read(self) -> dict[str, Any]:
        """What has been stored."""
        length = int.from_bytes(self._memory[:LENGTH], "big")
        try:
            stored: dict[str, Any] = json.loads(self._memory[LENGTH : LENGTH + length] or b"{}")
        except ValueError:
            # A process was killed while it wrote.
            return {}
        return stored

    def add(self, entries: Mapping[str, Any]) -> None:
        """Store ENTRIES beside those that are there."""
        data = json.dumps({**self.read(), **entries}).encode()
        if LENGTH + len(data) <= len(self._memory):
            self._memory[: LENGTH + len(data)] = len(data).to_bytes(LENGTH, "big") + data


class SharedTokens(Shared):
    """The access tokens of a run. Without it, each task would fetch a token of its own."""

    def __init__(self) -> None:
        super().__init__(1 << 18)

    def load(self, key: str) -> Token | None:
        """The token stored under KEY, None if there is none."""
        stored = self.read().get(key)
        return Token(stored["headers"], datetime.fromisoformat(stored["expiry"])) if stored else None

    def store(self, key: str, token: Token) -> None:
        """Store a token that expires under KEY."""
        if token.expiry:
            self.add({key: {"headers": token.headers, "expiry": token.expiry.isoformat()}})


class SharedChecks(Shared):
    """
    The variables of each host that have been checked in this run, each with a digest of what its value comes from.

    Without it, each role would evaluate and check all its variables once more.
    """

    def __init__(self) -> None:
        super().__init__(1 << 22)

    def of(self, host: str) -> dict[str, str]:
        """The digest of each variable of HOST that has been checked."""
        found: dict[str, str] = self.read().get(host, {})
        return found

    def passed(self, host: str, digests: Mapping[str, str]) -> None:
        """The variables of DIGESTS are as they should be."""
        with self.locked():
            self.add({host: {**self.of(host), **digests}})


class SharedReads(Shared):
    """
    What mlflow_preflight has read ahead for the tasks of its play on its host, until the run's first write.

    Without it, each task would make its own connection and wait for its own answer. Hosts and tasks may have other credentials,
    and what another play has done in between is not known here. An answer is used once by each task, and for MAX_AGE
    seconds: who reads a second time waits for a change. A module that has to write after all begins again and reads anew.
    """

    MAX_AGE = 60
    CLOSED = "closed"

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self._contents = mmap.mmap(-1, 1 << 26)
        self.task: hints.Task | None = None
        """The task that this process runs; None if it is not to use what was read ahead."""
        self._taken: set[str] = set()
        self._asked: list[str] = []
        self._wrote = False

    def begin(self, task: hints.Task | None) -> None:
        """A module starts, for TASK."""
        self.task, self._wrote = task, False
        self._taken.clear()
        self._asked.clear()

    def end(self) -> None:
        """The module has ended; what it has read is remembered for the next run, unless it will read less then."""
        if self.task and not self._wrote:
            self.task.remember(self._asked)

    def ahead(self) -> list[str]:
        """What the tasks of this run have read the last time."""
        return self.task.others() if self.task else []

    def fill(self, answers: Mapping[str, Answer], who: str) -> None:
        """Keep ANSWERS that were read with the credentials of WHO, as long as there is room."""
        with self.locked():
            stored = self.read()
            place = max((entry["end"] for entry in stored.values() if isinstance(entry, dict)), default=0)
            added = {}
            for request, answer in answers.items():
                start, place = place, place + len(answer.content)
                if place > len(self._contents):
                    break
                self._contents[start:place] = answer.content
                added[self._key(request, who)] = {
                    "start": start,
                    "end": place,
                    "status": answer.status,
                    "time": time.monotonic(),
                }
            self.add(added)

    def take(self, request: str, who: str) -> Answer | None:
        """The answer to REQUEST, if it was read ahead with the credentials of WHO."""
        if not self.task or request in self._taken:
            return None
        stored = self.read()
        entry = stored.get(self._key(request, who))
        if not entry or self.CLOSED in stored or time.monotonic() - entry["time"] > self.MAX_AGE:
            return None
        self._taken.add(request)
        self._asked.append(request)
        return Answer(entry["status"], self._contents[entry["start"] : entry["end"]])

    def _key(self, request: str, who: str) -> str:
        return json.dumps([self.task.host, self.task.play, who, request]) if self.task else ""

    def sent(self, request: str) -> None:
        """REQUEST is sent to Google."""
        self._asked.append(request)

    def writes(self) -> None:
        """From now on, nothing that was read before counts."""
        self._wrote = True
        if self._taken:
            raise Reread
        if self.CLOSED not in self.read():
            with self.locked():
                self.add({self.CLOSED: True})
