# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access tokens that the worker processes of one run share."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

SIZE = 1 << 16
LENGTH = 4


class SharedTokens:
    """
    The tokens of a run, in memory that processes forked from this one share; nothing is written to disk.

    Without it, each task would fetch a token of its own.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SIZE)
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

    def load(self, key: str, credentials: Any) -> None:
        """Give CREDENTIALS the token stored under KEY, if there is one."""
        stored = self._read().get(key)
        if stored:
            credentials.token, credentials.expiry = stored[0], datetime.fromisoformat(stored[1])

    def store(self, key: str, credentials: Any) -> None:
        """Store the token of CREDENTIALS under KEY, if it is one that expires."""
        if not credentials.token or not credentials.expiry:
            return
        tokens = self._read() | {key: [credentials.token, credentials.expiry.isoformat()]}
        data = json.dumps(tokens).encode()
        if LENGTH + len(data) <= SIZE:
            self._memory[: LENGTH + len(data)] = len(data).to_bytes(LENGTH, "big") + data

    def _read(self) -> dict[str, list[str]]:
        length = int.from_bytes(self._memory[:LENGTH], "big")
        try:
            tokens: dict[str, list[str]] = json.loads(self._memory[LENGTH : LENGTH + length] or b"{}")
        except ValueError:
            # A process was killed while it wrote.
            return {}
        return tokens
