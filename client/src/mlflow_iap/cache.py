# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens kept in memory and in a file, so that the processes of a job ask Google once and not each for itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlflow_iap.errors import IapError
from mlflow_iap.identity import Token

try:
    import fcntl
except ImportError:  # Windows: each process asks for itself
    fcntl = None  # type: ignore[assignment]

# While a token is good, a failed renewal is tried again after so many seconds.
PAUSE = 20.0


def folder() -> Path:
    """Where the files are: in the user's cache folder, for nobody else to read."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mlflow-iap"


class Cache:
    """The token of one identity for one server, renewed before it ends; safe for threads, forks and other processes."""

    def __init__(self, key: str, fetch: Callable[[], Token], seconds: int) -> None:
        self._fetch = fetch
        # What is left of a token when it is renewed: ten minutes of an hour.
        self._margin = seconds / 6
        self._file = folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        self._token: Token | None = None
        self._refused = ""
        self._tried = 0.0
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it

    def get(self) -> Token:
        """A token that is good.  Raises IapError."""
        token = self._token
        if token and self._fresh(token):
            return token
        with self._lock:
            if self._token and self._fresh(self._token):
                return self._token
            return self._renew()

    def refuse(self, value: str) -> None:
        """Use a token no more: the server would not take it."""
        with self._lock:
            self._refused = value
            if self._token and self._token.value == value:
                self._token, self._tried = None, 0.0

    def _fresh(self, token: Token) -> bool:
        return token.value != self._refused and token.expires - time.time() > self._margin

    def _good(self, token: Token | None) -> bool:
        return token is not None and token.value != self._refused and token.expires - time.time() > 5

    def _renew(self) -> Token:
        if self._good(self._token) and time.monotonic() - self._tried < PAUSE:
            assert self._token
            return self._token
        with self._locked():
            stored = self._read()
            if stored and self._fresh(stored):
                self._token = stored
                return stored
            self._tried = time.monotonic()
            try:
                self._token = self._fetch()
            except IapError:
                if self._good(stored):
                    self._token = stored
                if not self._good(self._token):
                    raise
                assert self._token
                return self._token
            self._write(self._token)
            return self._token

    # -- the file --------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the file's lock; where there can be none, go on without."""
        with contextlib.ExitStack() as stack:
            try:
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                handle = os.open(self._file.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, handle)
                if fcntl:
                    fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:
                pass  # a home that cannot be written to: each process has its own token
            yield

    def _read(self) -> Token | None:
        try:
            status = self._file.stat()
            if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
                return None  # somebody else could have put it there, or read it
            return Token(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _write(self, token: Token) -> None:
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(dir=self._file.parent)  # 0600 from the start
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(token.__dict__, file)
            os.replace(name, self._file)
