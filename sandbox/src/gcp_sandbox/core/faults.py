"""Configurable faults: rules that make calls fail, delay them or make them see outdated state.

A rule has the form CALL FAULT [OPTION=VALUE …], see README.md.  The rules are stored in the state folder, where the command
changes them while the sandbox is running.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import fnmatch
import hashlib
import random
import shlex
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcp_sandbox.core.errors import STATUS_NAMES, ApiError, error_info, unauthenticated
from gcp_sandbox.core.rulebook import Rulebook

if TYPE_CHECKING:
    from aiohttp import web

    from gcp_sandbox.core.store import Store

KIND = "faults"
_WHEN = {"every": int, "first": int, "each": int, "probability": float}
# Fault -> its options in addition to those of _WHEN; an HTTP status is "status".
_OPTIONS: dict[str, dict[str, type]] = {
    "status": {"retry-after": int, "message": str, "reason": str},
    "reset": {},
    "lost": {},
    "slow": {"seconds": float},
    "operation-error": {"code": str, "message": str},
    "token-lifetime": {"seconds": float},
    "service-disabled": {"seconds": float},
    "iam-delay": {"seconds": float},
    "held": {"seconds": float},
}
# Faults that apply continuously, not to single calls.
_STANDING = {"token-lifetime", "service-disabled", "iam-delay", "held"}
_MESSAGES = {
    429: "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute'.",
    500: "Internal error encountered.",
    503: "The service is currently unavailable.",
    504: "The request timed out.",
}
# What the request that is being handled has in common with its repetitions, if a rule needs it.
CALL: contextvars.ContextVar[str] = contextvars.ContextVar("call", default="")


class Dropped(Exception):
    """The connection of a request has been closed: there is nothing to respond to."""


class FaultError(ValueError):
    """An invalid rule; the message says why."""


@dataclasses.dataclass
class Rule:
    """One rule.  call: glob of the calls it applies to; fault: a key of _OPTIONS; status: HTTP status of "status"."""

    ident: int
    text: str
    call: str
    fault: str
    status: int
    options: dict[str, Any]

    def about(self, *names: str) -> bool:
        """Whether the rule applies to one of the names (method ID, host/path, …)."""
        return any(fnmatch.fnmatchcase(name, self.call) for name in names)


def parse(words: list[str], ident: int = 0) -> Rule:
    """Parse the words of a rule.  Raises FaultError."""
    if len(words) < 2:
        raise FaultError("a rule has at least two words: CALL FAULT [OPTION=VALUE …]")
    call, fault, *rest = words
    status = int(fault) if fault.isdigit() else 0
    if status and not 400 <= status <= 599:
        raise FaultError(f"status {status}: must be 400 to 599")
    name = "status" if status else fault
    if name not in _OPTIONS or fault == "status":
        raise FaultError(f"unknown fault {fault!r}: must be an HTTP status or one of {', '.join(list(_OPTIONS)[1:])}")
    allowed: dict[str, type] = _OPTIONS[name] | ({} if name in _STANDING else _WHEN)
    options: dict[str, Any] = {}
    for word in rest:
        key, equals, value = word.partition("=")
        if key not in allowed or not equals:
            raise FaultError(f"{word!r}: options of {fault} are {', '.join(f'{k}=' for k in allowed)}")
        try:
            options[key] = allowed[key](value)
        except ValueError:
            raise FaultError(f"{word!r}: {value!r} is not a number") from None
        if not isinstance(options[key], str) and options[key] < 0 or key == "every" and not options[key]:
            raise FaultError(f"{word!r}: too small")
        if key == "probability" and options[key] > 1:
            raise FaultError(f"{word!r}: at most 1")
    if "seconds" in allowed and "seconds" not in options:
        raise FaultError(f"{fault} needs seconds=N")
    return Rule(ident, shlex.join(words), call, name, status, options)


def read(path: Path) -> list[list[str]]:
    """Read rules from a file, one per line, # starts a comment.  Raises FaultError, OSError."""
    out = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            if words := shlex.split(line, comments=True):
                parse(words)
                out.append(words)
        except ValueError as error:
            raise FaultError(f"{path}:{number}: {error}") from None
    return out


class Book(Rulebook[Rule]):
    """The rules on disk, in a state folder.  Adding an invalid rule raises FaultError."""

    def __init__(self, state: Path) -> None:
        super().__init__(state / "faults.json", parse)


class Faults:
    """The rules of a running sandbox.  The store counts how many calls each one matched and affected."""

    def __init__(self, state: Path, store: Store) -> None:
        self._book = Book(state)
        self._store = store
        self._rules: list[Rule] = []

    def _current(self) -> list[Rule]:
        """The current rules on disk; read for every request, later lookups of the same request use the last result."""
        rules = self._book.current()
        if rules is not self._rules:
            self._rules = rules
            for key, _ in self._store.list(KIND):
                if int(key) not in {r.ident for r in rules}:
                    self._store.delete(KIND, key)
        return self._rules

    def _about(self, fault: str, *names: str) -> Iterator[Rule]:
        return (r for r in self._rules if r.fault == fault and r.about(*names))

    def _strikes(self, rule: Rule, call: str) -> bool:
        count = self._store.get(KIND, str(rule.ident)) or {"met": 0, "struck": 0}
        count["met"] += 1
        when = rule.options
        of_call = count.setdefault("calls", {}) if "each" in when else {}
        out = (
            count["met"] % when.get("every", 1) == 0
            and count["struck"] < when.get("first", count["met"])
            and of_call.get(call, 0) < when.get("each", count["met"])
            and random.random() < when.get("probability", 1)
        )
        count["struck"] += out
        if out and "each" in when:
            of_call[call] = of_call.get(call, 0) + 1
        self._store.put(KIND, str(rule.ident), count)
        return out

    async def strike(self, request: web.BaseRequest, host: str, method: str = "", *, body: bool = False) -> bool:
        """Apply the faults to a request; returns whether its response is to be dropped.  Raises ApiError, Dropped.

        method: discovery ID, if it is a call of an API.  body: it has one of JSON.
        """
        rules = self._current()
        if not rules:
            return False
        call = ""
        if any("each" in rule.options for rule in rules):
            said = await request.read() if body else b""
            call = hashlib.sha256(f"{request.method} {host}{request.raw_path}\n".encode() + said).hexdigest()
            CALL.set(call)
        names = (host + request.raw_path.split("?", 1)[0], *([method] if method else []))
        lost = False
        for rule in rules:
            if (
                rule.fault not in ("status", "reset", "lost", "slow")
                or not rule.about(*names)
                or not self._strikes(rule, call)
            ):
                continue
            if rule.fault == "slow":
                await asyncio.sleep(rule.options["seconds"])
            elif rule.fault == "status":
                raise _refusal(rule, host)
            elif rule.fault == "reset":
                reset(request)
                raise Dropped
            else:
                lost = True
        return lost

    def may_fail(self, method: str) -> bool:
        """Whether a rule applies to operations of a method."""
        return any(self._about("operation-error", method))

    def failure(self, method: str) -> dict[str, Any] | None:
        """The error of an operation that a method is starting, {code, message}, or None if it is to succeed."""
        for rule in self._about("operation-error", method):
            if self._strikes(rule, CALL.get()):
                code = rule.options.get("code", "INTERNAL")
                return {"code": code, "message": rule.options.get("message", "An internal error has occurred.")}
        return None

    def _seconds(self, fault: str, name: str, default: float) -> float:
        return next((r.options["seconds"] for r in self._about(fault, name)), default)

    def token_lifetime(self, email: str) -> float:
        """The maximum lifetime in seconds of an account's access tokens."""
        return self._seconds("token-lifetime", email, float("inf"))

    def disabled_for(self, host: str) -> float:
        """For how many seconds an enabled API still rejects calls."""
        return self._seconds("service-disabled", host, 0)

    def held(self, method: str) -> float:
        """For how many seconds what was deleted still counts as in use for a method."""
        self._current()
        return self._seconds("held", method, 0)

    def iam_delay(self, resource: str) -> float:
        """For how many seconds a change of a resource's policy (full name) has no effect."""
        return self._seconds("iam-delay", resource, 0)


def _refusal(rule: Rule, host: str) -> ApiError:
    if rule.status == 401 and "message" not in rule.options:
        return unauthenticated(missing=False)
    name = STATUS_NAMES.get(rule.status, "Error").replace("_", " ").capitalize()
    text = rule.options.get("message", _MESSAGES.get(rule.status, name))
    limited = rule.status == 429 and not host.endswith("storage.googleapis.com")
    details = [error_info("RATE_LIMIT_EXCEEDED", "googleapis.com", service=host)] if limited else []
    headers = {"Retry-After": str(rule.options["retry-after"])} if "retry-after" in rule.options else {}
    domain = "usageLimits" if rule.status == 429 else "global"
    return ApiError(
        rule.status, text, reason=rule.options.get("reason"), details=details, headers=headers, domain=domain
    )


def operation_error(fault: dict[str, Any]) -> ApiError:
    """The error of an operation that is to fail; code: a google.rpc.Code, or an API-specific code."""
    code = fault["code"]
    http = next((number for number, name in STATUS_NAMES.items() if name == code), 403 if "QUOTA" in code else 500)
    status = "RESOURCE_EXHAUSTED" if "QUOTA" in code else code if http != 500 else "INTERNAL"
    return ApiError(http, fault["message"], reason=code, status=status)


def reset(request: web.BaseRequest) -> None:
    """Close the connection of a request immediately, with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def counts(state: Path, rule: Rule) -> tuple[int, int]:
    """How many calls a rule matched, and how many it affected."""
    from gcp_sandbox.core.store import Store

    if not (state / "state.sqlite").exists():
        return 0, 0
    store = Store(state / "state.sqlite")
    doc = store.get(KIND, str(rule.ident)) or {"met": 0, "struck": 0}
    store.close()
    return doc["met"], doc["struck"]
