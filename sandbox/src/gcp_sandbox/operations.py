"""Long-running operations in Google's three dialects.

An operation names an *action* (registered by a service) and its arguments, both on disk, so that a restarted
sandbox goes on where it was killed.  compute: https://cloud.google.com/compute/docs/reference/rest/v1/globalOperations,
google.longrunning: https://google.aip.dev/151, sql: https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/operations
"""

from __future__ import annotations

import asyncio
import collections
import http
import logging
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gcp_sandbox.errors import ApiError
from gcp_sandbox.faults import operation_error
from gcp_sandbox.store import JOURNAL

if TYPE_CHECKING:
    from gcp_sandbox.app import Sandbox

KIND = "operations"
# Google forgets operations after weeks, this program all but the last of them.
KEPT = 500
# Kinds of documents that a failed operation leaves as they are.
_NOT_UNDONE = (KIND, "counters", "faults")
_log = logging.getLogger("gcp_sandbox.operations")
Action = Callable[["Sandbox", dict[str, Any]], Awaitable[dict[str, Any] | None]]


def now(*, digits: int = 6) -> str:
    """The time as Google writes it: RFC 3339, UTC."""
    text = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text[: len(text) - 6 + digits].rstrip(".") + "Z"


def compute_time() -> str:
    """The time as Compute Engine writes it: Pacific time with milliseconds."""
    from zoneinfo import ZoneInfo

    text = datetime.now(ZoneInfo("America/Los_Angeles")).isoformat(timespec="milliseconds")
    return text


class Operation(dict[str, Any]):
    """An operation's record; a handler returns it, the dispatcher renders it in the service's dialect.

    Keys: id, service, dialect, scope, verb, target, user, project, status (PENDING, RUNNING, DONE), insertTime, startTime,
    endTime, metadata, response, error, http (status of a failed compute operation), action, args, latency,
    due (Unix time when its action is to run), fault (how it is made to fail), undo (what it then takes back).
    """


class Operations:
    """Starts operations, runs their actions, and resumes those that a crash cut off."""

    def __init__(self, app: Sandbox) -> None:
        self._app = app
        self._actions: dict[str, Action] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Operations that are over, oldest first; None until the first one ends.
        self._over: collections.deque[str] | None = None

    def action(self, name: str, action: Action) -> None:
        """Register what an operation does when its time has come: ``async (app, operation) -> response or None``.

        It may change ``operation["metadata"]`` and raises ApiError to make the operation end in error.
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
        """Record an operation and let it run.

        scope: what its name is under ("projects/p/locations/l", "projects/p/global", "" for "operations/x").
        target: link or name of what it works on. latency: row of the latency table ("sql.instances.insert").
        extra: further keys of the rendered operation.
        """
        stamp = compute_time() if dialect == "compute" else now()
        if dialect == "sql":
            ident = str(uuid.uuid4())
        elif dialect == "compute":
            ident = (
                f"operation-{int(datetime.now(UTC).timestamp() * 1000)}-{secrets.token_hex(6)}-{secrets.token_hex(4)}"
            )
        else:
            ident = str(uuid.uuid4())
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
            status="PENDING" if dialect == "sql" else "RUNNING",
            insertTime=stamp,
            startTime=stamp,
        )
        op["due"] = time.time() + self._app.latency(latency)
        journal = JOURNAL.get()
        if journal is not None and (fault := self._app.faults.failure(journal.method)):
            op["fault"], op["undo"] = fault, [w for w in journal if w[0] not in _NOT_UNDONE]
        self._app.store.put(KIND, ident, op)
        self._spawn(ident)
        return op

    def finished(self, **kwargs: Any) -> Operation:
        """An operation that is over when it is answered (as some of Google's are)."""
        response = kwargs.pop("response", None)
        op = self.start(**kwargs)
        if "fault" in op:
            del op["undo"]  # its work is done, and not in the store alone
            self._fail(op, operation_error(op["fault"]))
        self._end(op, response)
        return op

    def get(self, ident: str) -> Operation | None:
        """An operation by its id."""
        doc = self._app.store.get(KIND, ident)
        return Operation(doc) if doc else None

    def unfinished(self, **match: str) -> list[Operation]:
        """Operations under way whose record has these values."""
        return [
            Operation(doc)
            for _, doc in self._app.store.list(KIND)
            if doc["status"] != "DONE" and all(doc.get(k) == v for k, v in match.items())
        ]

    def all(self, **match: str) -> list[Operation]:
        """Operations whose record has these values, newest first."""
        found = [doc for _, doc in self._app.store.list(KIND) if all(doc.get(k) == v for k, v in match.items())]
        return [Operation(doc) for doc in sorted(found, key=lambda d: d["insertTime"], reverse=True)]

    def resume(self) -> None:
        """Go on with what was under way when the program ended."""
        for op in self.unfinished():
            self._spawn(op["id"])

    async def drain(self) -> None:
        """Stop all that is under way (it resumes at the next start)."""
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
        # After a restart what is left of it, and nothing where the sandbox is quick now.
        delay = min(op.get("due", 0) - time.time(), self._app.latency(op["latency"]) * 1.5)
        if delay > 0:
            await asyncio.sleep(delay)
            op = self.get(ident)
            if op is None or op["status"] == "DONE":
                return
        op["status"] = "RUNNING"
        self._app.store.put(KIND, ident, op)
        response = op["response"]
        try:
            if "fault" in op:
                self._undo(op, journal)
                raise operation_error(op["fault"])
            if op["action"]:
                response = await self._actions[op["action"]](self._app, op) or response
        except ApiError as error:
            self._fail(op, error)
        except Exception as error:  # a bug here must not leave a client polling for ever
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
        """Leave all as it was before the request; journal: has also what the request wrote after it had started this."""
        self._app.store.undo(op.pop("undo") if journal is None else [w for w in journal if w[0] not in _NOT_UNDONE])
        op.pop("undo", None)

    def _end(self, op: Operation, response: dict[str, Any] | None) -> None:
        op["status"] = "DONE"
        op["endTime"] = compute_time() if op["dialect"] == "compute" else now()
        if "error" not in op:
            op["response"] = response
        self._app.store.put(KIND, op["id"], op)
        self._forget_old(op["id"])

    def _forget_old(self, latest: str) -> None:
        if self._over is None:
            done = [(doc["insertTime"], key) for key, doc in self._app.store.list(KIND) if doc["status"] == "DONE"]
            self._over = collections.deque(key for _, key in sorted(done))
        else:
            self._over.append(latest)
        while len(self._over) > KEPT:
            self._app.store.delete(KIND, self._over.popleft())


def render(op: Operation, host: str) -> dict[str, Any]:
    """The operation as its API shows it."""
    return {"compute": _compute, "sql": _sql, "longrunning": _longrunning}[op["dialect"]](op, host)


def _compute(op: Operation, host: str) -> dict[str, Any]:
    done = op["status"] == "DONE"
    base = f"https://www.googleapis.com/compute/v1/{op['scope']}"
    out: dict[str, Any] = {
        "kind": "compute#operation",
        "id": op["number"],
        "name": op["id"],
        "operationType": op["verb"],
        "targetLink": op["target"],
        "status": op["status"],
        "user": op["user"],
        "progress": 100 if done else 0,
        "insertTime": op["insertTime"],
        "startTime": op["startTime"],
        "selfLink": f"{base}/operations/{op['id']}",
    }
    if not op["scope"].endswith("/global"):
        out["zone" if "/zones/" in op["scope"] else "region"] = base
    if done:
        out["endTime"] = op["endTime"]
    if "error" in op:
        code = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", op["reason"]).upper()
        out["error"] = {"errors": [{"code": code, "message": op["error"]["message"]}]}
        out["httpErrorStatusCode"] = op["http"]
        out["httpErrorMessage"] = http.HTTPStatus(op["http"]).phrase.upper()
    return out | op["extra"]


def _sql(op: Operation, host: str) -> dict[str, Any]:
    base = f"https://{host}/sql/v1beta4/projects/{op['project']}"
    out: dict[str, Any] = {
        "kind": "sql#operation",
        "name": op["id"],
        "operationType": op["verb"],
        "status": op["status"],
        "user": op["user"],
        "insertTime": op["insertTime"],
        "targetId": op["target"],
        "targetProject": op["project"],
        "targetLink": f"{base}/instances/{op['target']}",
        "selfLink": f"{base}/operations/{op['id']}",
    }
    if op["status"] != "PENDING":
        out["startTime"] = op["startTime"]
    if op["status"] == "DONE":
        out["endTime"] = op["endTime"]
    if "error" in op:
        out["error"] = {
            "kind": "sql#operationErrors",
            "errors": [{"kind": "sql#operationError", "code": op["reason"], "message": op["error"]["message"]}],
        }
    return out | op["extra"]


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
