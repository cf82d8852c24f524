"""Long-running operations: a common record, which each family of APIs renders in its own dialect.

An operation refers to an *action* (registered by a service) and its arguments, both on disk, so that a restarted
sandbox resumes where it was killed.  google.longrunning: https://google.aip.dev/151
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.faults import Faults, operation_error
from gcp_sandbox.core.store import JOURNAL, Store

KIND = "operations"
# Google deletes operations after weeks, this program all except the last ones.
KEPT = 500
# Kinds of documents that a failed operation does not undo.
_NOT_UNDONE = (KIND, "counters", "faults")
_log = logging.getLogger("gcp_sandbox.core.operations")
Action = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]


def now(*, digits: int = 6) -> str:
    """The current time in Google's format: RFC 3339, UTC."""
    text = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text[: len(text) - 6 + digits].rstrip(".") + "Z"


class Operation(dict[str, Any]):
    """An operation's record; a handler returns it, the dispatcher renders it in the service's dialect.

    Keys: id, service, dialect, scope, verb, target, user, project, status (PENDING, RUNNING, DONE), insertTime, startTime,
    endTime, metadata, response, error, http (status of a failed compute operation), action, args, latency,
    due (Unix time when its action runs), fault (its injected error), undo (the writes that the error then undoes).
    """


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a family of APIs names and renders its operations.

    render(operation, host of the API): as a client sees it.  ident: creates an ID.  time: the time in the family's format.
    first: the initial status of an operation.
    """

    name: str
    render: Callable[[Operation, str], dict[str, Any]]
    ident: Callable[[], str] = lambda: str(uuid.uuid4())
    time: Callable[[], str] = now
    first: str = "RUNNING"


def _longrunning(op: Operation, host: str) -> dict[str, Any]:
    name = (
        f"{op['scope']}/operations/{op['id']}"
        if op["scope"]
        else f"operations/{op['extra'].get('prefix', '')}{op['id']}"
    )
    out: dict[str, Any] = {"name": name}
    if op["metadata"]:
        out["metadata"] = op["metadata"]
    if op["status"] == "DONE":
        out["done"] = True
        out |= {"error": op["error"]} if "error" in op else {"response": op["response"] or {}}
    return out


LONGRUNNING = Dialect("longrunning", _longrunning)


class Operations:
    """Starts operations, runs their actions, and resumes those that a crash interrupted.

    latency(row): the seconds for a row of the table of durations.
    """

    def __init__(self, store: Store, latency: Callable[[str], float], faults: Faults) -> None:
        self._store, self._latency, self._faults = store, latency, faults
        self._actions: dict[str, Action] = {}
        self._dialects: dict[str, Dialect] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Finished operations, oldest first; None until the first one finishes.
        self._over: collections.deque[str] | None = None

    def dialect(self, dialect: Dialect) -> None:
        """Register a dialect."""
        self._dialects[dialect.name] = dialect

    def render(self, op: Operation, host: str) -> dict[str, Any]:
        """The operation in the format of its API (host)."""
        return self._dialects[op["dialect"]].render(op, host)

    def action(self, name: str, action: Action) -> None:
        """Register an operation's action, which runs when it is due: ``async (operation) -> response or None``.

        It may change ``operation["metadata"]``, and raises ApiError to make the operation fail.
        """
        self._actions[name] = action

    def start(
        self,
        *,
        service: str,
        dialect: str,
        verb: str,
        target: str,
        user: str,
        project: str = "",
        scope: str = "",
        action: str | None = None,
        args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        response: dict[str, Any] | None = None,
        latency: str = "",
        extra: dict[str, Any] | None = None,
    ) -> Operation:
        """Record an operation and start it.

        scope: the parent of its name ("projects/p/locations/l", "projects/p/global", "" for "operations/x").
        target: link or name of its resource. latency: row of the latency table ("sql.instances.insert").
        extra: further keys of the rendered operation.
        """
        speech = self._dialects[dialect]
        ident, stamp = speech.ident(), speech.time()
        op = Operation(
            id=ident,
            number=str(secrets.randbelow(9 * 10**18) + 10**18),
            service=service,
            dialect=dialect,
            verb=verb,
            target=target,
            user=user,
            project=project,
            scope=scope,
            action=action,
            args=args or {},
            metadata=metadata or {},
            response=response,
            latency=latency,
            extra=extra or {},
            status=speech.first,
            insertTime=stamp,
            startTime=stamp,
        )
        op["due"] = time.time() + self._latency(latency)
        journal = JOURNAL.get()
        if journal is not None and (fault := self._faults.failure(journal.method)):
            op["fault"], op["undo"] = fault, [w for w in journal if w[0] not in _NOT_UNDONE]
        self._store.put(KIND, ident, op)
        self._spawn(ident)
        return op

    def finished(self, **kwargs: Any) -> Operation:
        """An operation that has already finished in the response (as some of Google's do)."""
        response = kwargs.pop("response", None)
        op = self.start(**kwargs)
        if "fault" in op:
            del op["undo"]  # its work is done, also outside the store
            self._fail(op, operation_error(op["fault"]))
        self._end(op, response)
        return op

    def get(self, ident: str) -> Operation | None:
        """An operation by its ID."""
        doc = self._store.get(KIND, ident)
        return Operation(doc) if doc else None

    def unfinished(self, **match: str) -> list[Operation]:
        """Operations in progress whose record has these values."""
        return [
            Operation(doc)
            for _, doc in self._store.list(KIND)
            if doc["status"] != "DONE" and all(doc.get(k) == v for k, v in match.items())
        ]

    def all(self, **match: str) -> list[Operation]:
        """Operations whose record has these values, newest first."""
        found = [doc for _, doc in self._store.list(KIND) if all(doc.get(k) == v for k, v in match.items())]
        return [Operation(doc) for doc in sorted(found, key=lambda d: d["insertTime"], reverse=True)]

    def resume(self) -> None:
        """Resume the operations that were in progress when the program ended."""
        for op in self.unfinished():
            self._spawn(op["id"])

    async def drain(self) -> None:
        """Stop all operations in progress (they resume at the next start)."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- running -----------------------------------------------------------

    def _spawn(self, ident: str) -> None:
        task = asyncio.get_running_loop().create_task(self._run(ident))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, ident: str) -> None:
        op = self.get(ident)
        if op is None or op["status"] == "DONE":
            return
        journal = JOURNAL.get()
        JOURNAL.set(None)
        # After a restart, the remaining time, or none if the sandbox now runs without latency.
        delay = min(op.get("due", 0) - time.time(), self._latency(op["latency"]) * 1.5)
        if delay > 0:
            await asyncio.sleep(delay)
            op = self.get(ident)
            if op is None or op["status"] == "DONE":
                return
        op["status"] = "RUNNING"
        self._store.put(KIND, ident, op)
        response = op["response"]
        try:
            if "fault" in op:
                self._undo(op, journal)
                raise operation_error(op["fault"])
            if op["action"]:
                response = await self._actions[op["action"]](op) or response
        except ApiError as error:
            self._fail(op, error)
        except Exception as error:  # a bug must not leave a client polling forever
            _log.exception("operation %s (%s)", ident, op["action"])
            op["error"] = {"code": 13, "message": f"Internal error of gcp-sandbox: {error!r}"}
            op["http"] = 500
            op["reason"] = "internalError"
        self._end(op, response)

    @staticmethod
    def _fail(op: Operation, error: ApiError) -> None:
        op["error"] = error.rpc()
        op["http"] = error.code
        op["reason"] = error.reason

    def _undo(self, op: Operation, journal: list[Any] | None) -> None:
        """Restore the state before the request; journal: includes what the request wrote after it had started this."""
        self._store.undo(op.pop("undo") if journal is None else [w for w in journal if w[0] not in _NOT_UNDONE])
        op.pop("undo", None)

    def _end(self, op: Operation, response: dict[str, Any] | None) -> None:
        op["status"] = "DONE"
        op["endTime"] = self._dialects[op["dialect"]].time()
        if "error" not in op:
            op["response"] = response
        self._store.put(KIND, op["id"], op)
        self._forget_old(op["id"])

    def _forget_old(self, latest: str) -> None:
        if self._over is None:
            done = [(doc["insertTime"], key) for key, doc in self._store.list(KIND) if doc["status"] == "DONE"]
            self._over = collections.deque(key for _, key in sorted(done))
        else:
            self._over.append(latest)
        while len(self._over) > KEPT:
            self._store.delete(KIND, self._over.popleft())
