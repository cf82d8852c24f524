# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool of database connections that cannot deadlock on threads that hold one connection and wait for a second."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

# An event loop serves all requests and must not block; its own database requests go first instead.
LOOP_SECONDS = 0.25


def unavailable(reason: str) -> MlflowException:
    """An error that clients retry: HTTP 503."""
    return MlflowException(f"The database is temporarily unavailable: {reason}", TEMPORARILY_UNAVAILABLE)


def on_event_loop() -> bool:
    """Whether this thread runs an asyncio loop, so that waiting here would stop all requests."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Ticket:
    """A place in the queue; the event is set when its thread has been admitted."""

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.called = threading.Event()


class Gate:
    """Admits a number of threads; the others wait in order of arrival; admitted threads may enter again."""

    def __init__(self, places: int) -> None:
        self.places = places
        # Maximum number of nested entries of one thread: if more than 2, `places` is too high (see GatedPool).
        self.deepest = 0
        self._lock = threading.Lock()
        self._inside: dict[int, int] = {}
        self._queue: deque[_Ticket] = deque()

    def enter(self, seconds: float, first: bool = False) -> int:
        """Wait up to `seconds`, ahead of all others if `first`; returns the number to pass to `leave`.

        Raises TimeoutError.
        """
        thread = threading.get_ident()
        with self._lock:
            if thread in self._inside or (len(self._inside) < self.places and not self._queue):
                self._let_in(thread)
                return thread
            ticket = _Ticket(thread)
            if first:
                self._queue.appendleft(ticket)
            else:
                self._queue.append(ticket)
        if not ticket.called.wait(seconds):
            with self._lock:
                # Admitted between the end of the wait and the lock.
                if not ticket.called.is_set():
                    self._queue.remove(ticket)
                    raise TimeoutError
        return thread

    def leave(self, thread: int) -> None:
        """Undo one `enter`, from any thread; the last one admits the thread that has waited longest."""
        with self._lock:
            self._inside[thread] -= 1
            if self._inside[thread]:
                return
            del self._inside[thread]
            while self._queue and len(self._inside) < self.places:
                ticket = self._queue.popleft()
                self._let_in(ticket.thread)
                ticket.called.set()

    def _let_in(self, thread: int) -> None:
        depth = self._inside[thread] = self._inside.get(thread, 0) + 1
        self.deepest = max(self.deepest, depth)


class GatedPool(QueuePool):
    """A queue pool whose connections are held by at most pool_size + max_overflow - 1 threads at the same time.

    MLflow's log-batch, log-inputs and OTLP open a second session within the first. With as many threads as connections,
    each could wait for its second connection forever; with one thread fewer, one of them gets it. The threads of the WSGI
    bridge and of asyncio's executors are all counted, because all of them use this pool.
    """

    def __init__(
        self,
        creator: Callable[..., Any],
        pool_size: int = 5,
        max_overflow: int = 10,
        timeout: float = 30.0,
        **options: Any,
    ) -> None:
        super().__init__(creator, pool_size=pool_size, max_overflow=max_overflow, timeout=timeout, **options)
        self.gate = Gate(pool_size + max_overflow - 1)
        self._own = threading.local()

    def _do_get(self) -> ConnectionPoolEntry:
        if getattr(self._own, "entered", False):  # QueuePool calls itself if another thread was faster
            return super()._do_get()
        waits = not on_event_loop()
        reason = f"all {self.gate.places} connections are in use, waited for {self._timeout:g} s"
        try:
            thread = self.gate.enter(self._timeout if waits else LOOP_SECONDS, first=not waits)
        except TimeoutError:
            raise unavailable(reason) from None
        self._own.entered = True
        try:
            entry = super()._do_get()
        except PoolTimeoutError:
            self.gate.leave(thread)
            raise unavailable(reason) from None
        except BaseException:
            self.gate.leave(thread)
            raise
        finally:
            self._own.entered = False
        assert entry.record_info is not None  # only a detached connection has none
        entry.record_info["gate"] = thread
        return entry

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        assert record.record_info is not None
        thread = record.record_info.pop("gate", None)
        try:
            super()._do_return_conn(record)
        finally:
            if thread is not None:
                self.gate.leave(thread)
