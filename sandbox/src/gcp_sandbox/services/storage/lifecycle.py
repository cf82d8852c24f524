"""Automatic changes of objects: lifecycle rules, the end of soft delete, the expiry of unfinished uploads.

https://cloud.google.com/storage/docs/lifecycle
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.storage import content, deleted, parts, upload
from gcp_sandbox.services.storage.common import BUCKETS, SERVICE, Doc
from gcp_sandbox.services.storage.objects import Objects

_log = logging.getLogger("gcp_sandbox.storage")
_EVERY = 3600.0
_SESSION_DAYS = 7


@SERVICE.starts
async def start(cloud: Cloud) -> None:
    """Process all buckets, now and then every hour."""
    cloud.keep(asyncio.get_running_loop().create_task(_run(cloud)))


async def _run(cloud: Cloud) -> None:
    while True:
        await asyncio.sleep(_EVERY)
        try:
            tend(cloud, datetime.now(UTC))
        except Exception:
            _log.exception("lifecycle")


def tend(cloud: Cloud, now: datetime) -> None:
    """Apply all rules for a given time."""
    for _, bucket in cloud.store.list(BUCKETS):
        found = Objects(cloud, bucket)
        found.purge()
        for rule in bucket.get("lifecycle", {}).get("rule", ()):
            _apply(cloud, found, rule, now)
    deleted.purge(cloud)
    for ident, session in cloud.store.list(upload.SESSIONS):
        if _time(session["start"]) < now - timedelta(days=_SESSION_DAYS):
            if "done" not in session:
                content.remove(cloud, session["blob"])
            upload.forget(cloud, ident)


def _apply(cloud: Cloud, found: Objects, rule: Doc, now: datetime) -> None:
    action, condition = rule["action"], rule["condition"]
    if action["type"] == "AbortIncompleteMultipartUpload":
        for ident, doc in cloud.store.list(parts.UPLOADS):
            old = _time(doc["start"]) <= now - timedelta(days=condition.get("age", 0))
            if doc["bucket"] == found.bucket["name"] and old and _named(condition, doc["name"]):
                parts.drop(cloud, ident)
        return
    versions = found.all(versions=True)
    newer: dict[str, int] = {}
    for doc in reversed(versions):  # newest first
        rank = newer.get(doc["name"], 0)
        newer[doc["name"]] = rank + 1
        if not matches(condition, doc, rank, now):
            continue
        if action["type"] == "Delete":
            found.delete(dict(doc), by_generation="timeDeleted" in doc)
        elif doc["storageClass"] != action["storageClass"]:
            found.reclass(dict(doc), action["storageClass"])


def matches(condition: Doc, doc: Doc, newer: int, now: datetime) -> bool:
    """Whether an object meets all parts of a rule's condition; newer: the number of newer versions."""
    live = "timeDeleted" not in doc
    tests: dict[str, Any] = {
        "age": lambda v: _time(doc["timeCreated"]) <= now - timedelta(days=v),
        "createdBefore": lambda v: _time(doc["timeCreated"]) < _midnight(v),
        "isLive": lambda v: live == v,
        "numNewerVersions": lambda v: newer >= v,
        "matchesStorageClass": lambda v: doc["storageClass"] in v,
        "daysSinceNoncurrentTime": lambda v: not live and _time(doc["timeDeleted"]) <= now - timedelta(days=v),
        "noncurrentTimeBefore": lambda v: not live and _time(doc["timeDeleted"]) < _midnight(v),
        "daysSinceCustomTime": lambda v: "customTime" in doc and _time(doc["customTime"]) <= now - timedelta(days=v),
        "customTimeBefore": lambda v: "customTime" in doc and _time(doc["customTime"]) < _midnight(v),
    }
    return _named(condition, doc["name"]) and all(
        test(condition[key]) for key, test in tests.items() if key in condition
    )


def _named(condition: Doc, name: str) -> bool:
    prefixes, suffixes = condition.get("matchesPrefix"), condition.get("matchesSuffix")
    return (not prefixes or name.startswith(tuple(prefixes))) and (not suffixes or name.endswith(tuple(suffixes)))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _midnight(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
