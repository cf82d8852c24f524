# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Token cache in memory and in a file, so that the processes of a job share one request to Google."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlflow_iap.errors import IapError
from mlflow_iap.identity import Token

if sys.platform != "win32":
    import fcntl

# While a token is valid, a failed renewal is retried after this many seconds.
PAUSE = 20.0


def folder() -> Path:
    """The folder of the files: in the user's cache folder, readable by no other user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mlflow-iap"


class Cache:
    """The token of one identity for one server, renewed before it expires; safe for threads, forks and other processes."""

    def __init__(self, key: str, fetch: Callable[[], Token], seconds: int) -> None:
        self._fetch = fetch
        # The remaining lifetime at which a token is renewed: ten minutes of an hour.
        self._margin = seconds / 6
        self._file = folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        self._token: Token | None = None
        self._refused = ""
        self._tried = 0.0
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent process may have held it

    def get(self) -> Token:
        """A valid token.  Raises IapError."""
        token = self._token
        if token and self._fresh(token):
            return token
        with self._lock:
            if self._token and self._fresh(self._token):
                return self._token
            return self._renew()

    def refuse(self, value: str) -> None:
        """Stop using a token, because the server rejected it."""
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
        """Hold the file's lock; continue without one if it cannot be created."""
        with contextlib.ExitStack() as stack:
            try:
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                handle = os.open(self._file.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, handle)
                if sys.platform != "win32":  # there, each process requests its own token
                    fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:
                pass  # the home folder is not writable: each process has its own token
            yield

    def _read(self) -> Token | None:
        try:
            status = self._file.stat()
            if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
                return None  # another user could have created or read it
            return Token(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _write(self, token: Token) -> None:
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(dir=self._file.parent)  # 0600 from the start
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(token.__dict__, file)
            os.replace(name, self._file)
