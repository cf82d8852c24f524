"""Fields of log entries, and their comparison by the operators of filters."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from gcp_sandbox.core.errors import ApiError

SEVERITIES = {
    "DEFAULT": 0,
    "DEBUG": 100,
    "INFO": 200,
    "NOTICE": 300,
    "WARNING": 400,
    "ERROR": 500,
    "CRITICAL": 600,
    "ALERT": 700,
    "EMERGENCY": 800,
}
# https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry
_FIELDS = frozenset(
    (
        "logName",
        "resource",
        "timestamp",
        "receiveTimestamp",
        "severity",
        "insertId",
        "httpRequest",
        "labels",
        "metadata",
        "operation",
        "trace",
        "spanId",
        "traceSampled",
        "sourceLocation",
        "split",
        "errorGroups",
        "apphub",
        "apphubDestination",
        "apphubSource",
        "textPayload",
        "jsonPayload",
        "protoPayload",
    )
)
_TIMES = (("timestamp",), ("receiveTimestamp",))
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda m: m[1].upper(), name)


def checked(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path that starts with a field of entries (resource.labels.x, log_name), with the JSON names.  Raises ApiError."""
    first = _camel(path[0]) if path else ""
    if first not in _FIELDS:
        raise ApiError(400, f"Field not found: '{'.'.join(path)}'.")
    return (first, *path[1:])


def of(entry: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The values at a path: for a list, those of all items; for an object, those of all fields."""
    if path == ("severity",):
        yield entry.get("severity", "DEFAULT")
        return
    yield from _at(entry, path)


def _at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    elif not path:
        yield from scalars(value)
    elif isinstance(value, dict):
        for key in dict.fromkeys((path[0], _camel(path[0]))):
            if key in value:
                yield from _at(value[key], path[1:])


def scalars(value: Any) -> Iterator[Any]:
    """Every number, string, boolean and null in a document."""
    if isinstance(value, dict):
        for item in value.values():
            yield from scalars(item)
    elif isinstance(value, list):
        for item in value:
            yield from scalars(item)
    else:
        yield value


def text(value: Any) -> str:
    """A value in the format of filters."""
    if value is None:
        return "NULL_VALUE"
    return str(value).lower() if isinstance(value, bool) else str(value)


def log_id(name: str) -> str:
    """A log's ID as in the log's name."""
    return name if "%" in name else quote(name, safe="")


def moment(value: str) -> datetime:
    """A time or a date, in UTC unless it has a time zone.  Raises ValueError."""
    try:
        found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value))
    except ValueError:
        raise ValueError(f"invalid timestamp: {value}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@functools.lru_cache(maxsize=256)
def _pattern(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as error:
        raise ValueError(f"invalid regular expression: {expression}: {error}") from None


def _number(value: Any) -> float | None:
    """A number, or a duration in seconds ("1.5s", "20ms")."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    found = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(ns|us|ms|s|m|h|d)?", value)
    if found is None:
        return None
    return float(found[1]) * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "m": 60, "h": 3600, "d": 86400}.get(found[2], 1)


def test(path: tuple[str, ...], op: str, wanted: str) -> Callable[[Any], bool]:
    """A value converted to the type of the field at a path.  Raises ValueError for a value that the field never has."""
    if op in ("=~", "!~"):
        pattern = _pattern(wanted)
        return lambda value: (pattern.search(text(value)) is not None) == (op == "=~")
    if path == ("severity",) and op != ":":
        level = SEVERITIES.get(wanted.upper())
        if level is None and not wanted.isdigit():
            raise ValueError(f"invalid severity: {wanted}")
        level = int(wanted) if level is None else level
        return lambda value: _ORDER[op](SEVERITIES.get(value, 0), level)
    if path in _TIMES:
        when, how = moment(wanted), _ORDER["=" if op == ":" else op]
        return lambda value: how(moment(value), when)
    folded, number = wanted.casefold(), _number(wanted)
    if op == ":":
        return lambda value: folded in text(value).casefold()

    def ordinary(value: Any) -> bool:
        if isinstance(value, str) and (op in ("=", "!=") or number is None):
            return _ORDER[op](value.casefold(), folded)
        if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
            found = _number(value)
            return found is not None and number is not None and _ORDER[op](found, number)
        return op in ("=", "!=") and _ORDER[op](text(value).casefold(), folded)

    return ordinary
