"""Reads entries from their files in the order of their times, and reads only the necessary parts of a file.

A file's lines are in the order in which they were received.  An entry's own time may be earlier (structured lines may have
one): it is sorted among those received at most _LATE before it.
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from gcp_sandbox.services.logging.entries import written

Doc = dict[str, Any]
# Time, file and position of an entry: a total order of all entries.
Key = tuple[str, str, int]
_BLOCK = 65536
_LATE = timedelta(seconds=2)
_TIME = re.compile(rb'\{"time(?:stamp)?":"([^"]{27})"')


@dataclasses.dataclass(frozen=True)
class Source:
    """A file, and the function that converts a line's object and name to an entry (or None: not of this project)."""

    file: Path
    entry: Callable[[str, Doc], Doc | None]


@dataclasses.dataclass
class Line:
    """A line of a file: the time when it was received, and its position."""

    time: str
    source: Source
    offset: int
    data: bytes


@dataclasses.dataclass
class Found:
    """An entry, its sort key, and the time when it was received."""

    key: Key
    received: str
    entry: Doc


def _time(data: bytes) -> str | None:
    found = _TIME.match(data)
    return found[1].decode() if found else None


def _seek(stream: BinaryIO, size: int, wanted: str, *, after: bool) -> int:
    """Offset of the first line whose time is at or after wanted (after: strictly after), or the file's size."""
    low, high = 0, size  # the line starts in [low, high]
    while low < high:
        middle = (low + high) // 2
        stream.seek(middle)
        if middle:
            stream.seek(middle - 1)
            stream.readline()
        start = stream.tell()
        if start >= high:
            high = middle
            continue
        data = stream.readline()
        time = _time(data) or ""
        if time < wanted or (after and time == wanted):
            low = start + len(data)
        else:
            high = middle
    return low


def _backwards(stream: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    """The lines before an offset, in reverse order."""
    rest = b""
    while end > 0:
        start = max(0, end - _BLOCK)
        stream.seek(start)
        block = stream.read(end - start) + rest
        lines = block.splitlines(keepends=True)
        if start:  # the first one may start before the block
            rest = lines.pop(0)
        at = start + len(block)
        for line in reversed(lines):
            at -= len(line)
            yield at, line
        end = start


def _lines(source: Source, newest_first: bool, since: str, until: str) -> Iterator[Line]:
    """The lines of a file received in [since, until] ("": open)."""
    try:
        stream = source.file.open("rb")
    except OSError:
        return
    with stream:
        size = stream.seek(0, 2)
        if newest_first:
            pairs: Iterable[tuple[int, bytes]] = _backwards(
                stream, _seek(stream, size, until, after=True) if until else size
            )
        else:
            pairs = _forwards(stream, _seek(stream, size, since, after=False) if since else 0)
        for offset, data in pairs:
            time = _time(data)
            if time is None or not data.endswith(b"\n"):
                continue
            if time < since if newest_first else until and time > until:
                return
            yield Line(time, source, offset, data)


def _forwards(stream: BinaryIO, start: int) -> Iterator[tuple[int, bytes]]:
    stream.seek(start)
    for data in stream:
        yield start, data
        start += len(data)


def _moved(time: str, by: timedelta) -> str:
    return written(datetime.fromisoformat(time) + by)


class Reader:
    """Iterates over the matching entries of files; read: number of lines read so far, done: whether all were read.

    since, until: bounds of the times when lines were received.  past: the key of the last entry already returned.
    """

    def __init__(
        self,
        sources: list[Source],
        matches: Callable[[Doc], bool],
        *,
        newest_first: bool,
        since: str = "",
        until: str = "",
        past: Key | None = None,
    ) -> None:
        self.read, self.done = 0, False
        self._newest, self._past, self._matches = newest_first, past, matches
        self._next = -1 if newest_first else 0  # of the buffered entries, which are sorted
        streams = [_lines(source, newest_first, since, until) for source in sources]
        self._merged = heapq.merge(*streams, key=lambda line: line.time, reverse=newest_first)
        self._held: list[Found] = []
        self._last = ""

    @property
    def resume(self) -> str:
        """The time of the first line that must be read again to continue after the returned entries."""
        times = [found.received for found in self._held] + ([self._last] if self._last else [])
        return (max(times) if self._newest else min(times)) if times else ""

    def __iter__(self) -> Iterator[Found | None]:
        """Entries in order; None after each line, so that the caller can stop or yield to other tasks."""
        for line in self._merged:
            self._last = line.time
            self.read += 1
            yield from self._ripe(line.time)
            self._hold(line)
            yield None
        while self._held:
            yield self._held.pop(self._next)
        self.done = True

    def _ripe(self, time: str) -> Iterator[Found]:
        """Buffered entries that no entry received from a given time on can precede."""
        if not self._held:
            return
        bound = time if self._newest else _moved(time, -_LATE)
        while self._held:
            time = self._held[self._next].key[0]
            if time <= bound if self._newest else time >= bound:
                return
            yield self._held.pop(self._next)

    def _hold(self, line: Line) -> None:
        try:
            entry = line.source.entry(f"{line.source.file.name} {line.offset}", json.loads(line.data))
        except (ValueError, KeyError):
            return
        if entry is None:
            return
        time = line.time
        if entry["timestamp"] != time:
            time = max(min(entry["timestamp"], time), _moved(time, -_LATE))
        key = (time, line.source.file.name, line.offset)
        if self._past and (key >= self._past if self._newest else key <= self._past):
            return
        if self._matches(entry):
            bisect.insort(self._held, Found(key, line.time, entry), key=lambda found: found.key)
