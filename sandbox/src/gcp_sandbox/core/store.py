"""State on disk: JSON documents in SQLite (WAL), with a copy of all of them in memory.

A write is on disk when the call returns, so that killing the process at any time loses nothing that a response confirmed.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Doc = dict[str, Any]


class Journal(list[tuple[str, str, Doc | None]]):
    """(kind, key, previous document) of each write of a request, for undoing it.

    method: discovery ID of the request.  open: whether it is still being handled; later writes do not belong to it.
    """

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method
        self.open = True


# The journal of the request that is being handled, if one is kept.
JOURNAL: contextvars.ContextVar[Journal | None] = contextvars.ContextVar("journal", default=None)


def _copy(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if type(value) is list else value


class Store:
    """Documents by kind ("compute.networks") and key ("projects/p/global/networks/n")."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS docs (kind TEXT, key TEXT, body TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID"
        )
        self._docs: dict[str, dict[str, Doc]] = {}
        for kind, key, body in self._db.execute("SELECT kind, key, body FROM docs ORDER BY kind, key"):
            self._docs.setdefault(kind, {})[key] = json.loads(body)

    def get(self, kind: str, key: str) -> Doc | None:
        """A copy of a document, or None."""
        doc = self._docs.get(kind, {}).get(key)
        return _copy(doc) if doc is not None else None

    def peek(self, kind: str, key: str) -> Doc | None:
        """The document itself, read-only."""
        return self._docs.get(kind, {}).get(key)

    def put(self, kind: str, key: str, doc: Doc) -> Doc:
        """Write a document; returns a copy of it."""
        body = json.dumps(doc, separators=(",", ":"))
        self._note(kind, key)
        self._db.execute("INSERT OR REPLACE INTO docs VALUES (?, ?, ?)", (kind, key, body))
        kept = self._docs.setdefault(kind, {})[key] = json.loads(body)
        return _copy(kept)

    def delete(self, kind: str, key: str) -> Doc | None:
        """Remove a document; returns it, or None if there was none."""
        self._note(kind, key)
        doc = self._docs.get(kind, {}).pop(key, None)
        if doc is not None:
            self._db.execute("DELETE FROM docs WHERE kind = ? AND key = ?", (kind, key))
        return doc

    def _note(self, kind: str, key: str) -> None:
        journal = JOURNAL.get()
        if journal is not None and journal.open:
            journal.append((kind, key, self._docs.get(kind, {}).get(key)))

    def undo(self, writes: list[tuple[str, str, Doc | None]]) -> None:
        """Undo the writes of a journal."""
        with self.atomic():
            for kind, key, before in reversed(writes):
                if before is None:
                    self.delete(kind, key)
                else:
                    self.put(kind, key, before)

    def list(self, kind: str, prefix: str = "") -> list[tuple[str, Doc]]:
        """(key, document) pairs whose key starts with prefix, by key; the documents are read-only."""
        docs = self._docs.get(kind, {})
        return [(key, docs[key]) for key in sorted(key for key in docs if key.startswith(prefix))]

    def kinds(self) -> tuple[str, ...]:
        """Kinds that have documents, by name."""
        return tuple(sorted(kind for kind, docs in self._docs.items() if docs))

    def rewrite(self, change: Callable[[str], str]) -> None:
        """Pass the JSON of every document through a function."""
        for kind, docs in self._docs.items():
            for key, doc in list(docs.items()):
                text = json.dumps(doc)
                if (changed := change(text)) != text:
                    self.put(kind, key, json.loads(changed))

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Commit all writes of the block, or none (do not await inside); an inner block is part of the outer one."""
        if self._db.in_transaction:
            yield
            return
        before = {kind: dict(docs) for kind, docs in self._docs.items()}
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            self._docs = before
            raise
        self._db.execute("COMMIT")

    def counter(self, name: str, start: int = 1) -> int:
        """The next number of a persistent sequence."""
        doc = self.get("counters", name) or {"next": start}
        self.put("counters", name, {"next": doc["next"] + 1})
        return doc["next"]

    def close(self) -> None:
        self._db.close()
