# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that the worker processes of one run share: access tokens, and which variables have been checked."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Token

LENGTH = 4


class Shared:
    """
    A dictionary in memory that processes forked from this one share; nothing is written to disk.

    What is more than SIZE bytes as JSON is not kept.
    """

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, size)
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
        super().__init__(1 << 16)

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
