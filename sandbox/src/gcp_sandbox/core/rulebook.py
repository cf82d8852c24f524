"""Numbered rules in a file of the state folder, where the command changes them while the sandbox is running."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class Rulebook(Generic[R]):
    """The rules in a file, each stored as the words that PARSE turns, together with its number, into the rule."""

    def __init__(self, path: Path, parse: Callable[[list[str], int], R]) -> None:
        self.path = path
        self._parse = parse
        self._stamp: tuple[int, int] | None = None
        self._current: list[R] = []

    def rules(self) -> list[R]:
        """All rules, oldest first."""
        return [self._parse(words, int(ident)) for ident, words in self._read()["rules"].items()]

    def current(self) -> list[R]:
        """All rules, oldest first; the same list until the file changes."""
        try:
            found = os.stat(self.path)
            stamp = found.st_mtime_ns, found.st_ino
        except FileNotFoundError:
            stamp = None
        if stamp != self._stamp:
            self._stamp, self._current = stamp, self.rules()
        return self._current

    def add(self, words: list[str], *, instead: Collection[int] = ()) -> R:
        """Add a rule, and remove those with the numbers INSTEAD.  Raises what the parser raises, before any change."""
        doc = self._read()
        doc["last"] += 1  # numbers are never reused, because they identify the counters
        rule = self._parse(words, doc["last"])
        doc["rules"] = {ident: old for ident, old in doc["rules"].items() if int(ident) not in instead}
        doc["rules"][str(doc["last"])] = words
        self._write(doc)
        return rule

    def clear(self, *idents: int) -> int:
        """Remove the given rules, or all if none is given; returns how many were removed."""
        doc = self._read()
        before = len(doc["rules"])
        doc["rules"] = {ident: words for ident, words in doc["rules"].items() if idents and int(ident) not in idents}
        self._write(doc)
        return before - len(doc["rules"])

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"last": 0, "rules": {}}
        doc: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return doc

    def _write(self, doc: dict[str, Any]) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(doc, indent=2) + "\n", encoding="utf-8")
        part.replace(self.path)
