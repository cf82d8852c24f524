"""Records of objects: the live object of a name, its older versions, and the soft-deleted ones.

https://cloud.google.com/storage/docs/object-versioning, https://cloud.google.com/storage/docs/soft-delete
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import now
from gcp_sandbox.services.storage import content, keys
from gcp_sandbox.services.storage.common import Doc

_last_generation = 0
# The object metadata that clients may set.
EDITABLE = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "metadata",
    "eventBasedHold",
    "temporaryHold",
    "retention",
    "acl",
    "contexts",
)


def generation() -> str:
    """A new generation: the time in microseconds, strictly increasing."""
    global _last_generation
    _last_generation = max(_last_generation + 1, time.time_ns() // 1000)
    return str(_last_generation)


def moment(later: float = 0) -> str:
    """The time in Cloud Storage's format, or one the given number of seconds later."""
    if not later:
        return now(digits=3)
    when = datetime.now(UTC) + timedelta(seconds=later)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


class Objects:
    """The objects of one bucket."""

    def __init__(self, cloud: Cloud, bucket: Doc) -> None:
        self._cloud, self.bucket = cloud, bucket
        uid = bucket["_uid"]
        self._live, self._old, self._gone = (f"storage.{kind}:{uid}" for kind in ("objects", "noncurrent", "deleted"))

    # -- reading -----------------------------------------------------------

    def get(self, name: str, wanted: str | int | None = None) -> Doc | None:
        """A copy of the live object of a name, or of a version by its generation; None if there is none."""
        doc = self._cloud.store.get(self._live, name)
        if wanted is None or doc and doc["generation"] == str(wanted):
            return doc
        return self._cloud.store.get(self._old, f"{name}#{wanted}")

    def deleted(self, name: str, wanted: str | int) -> Doc | None:
        """A copy of a soft-deleted object."""
        doc = self._cloud.store.get(self._gone, f"{name}#{wanted}")
        return doc if doc and doc["hardDeleteTime"] > moment() else None

    def all(self, *, versions: bool = False, deleted: bool = False) -> list[Doc]:
        """Objects by name, then generation; read-only."""
        if deleted:
            self.purge()
            kinds = [self._gone]
        else:
            kinds = [self._live] + ([self._old] if versions else [])
        found = [doc for kind in kinds for _, doc in self._cloud.store.list(kind)]
        return found if kinds == [self._live] else sorted(found, key=lambda d: (d["name"], int(d["generation"])))

    def last_hard_delete(self) -> str:
        """The time when the last of the soft-deleted objects is permanently deleted; "" if there are none."""
        return max((doc["hardDeleteTime"] for _, doc in self._cloud.store.list(self._gone)), default="")

    def empty(self) -> bool:
        """Whether there is no live object and no older version."""
        return not self._cloud.store.list(self._live) and not self._cloud.store.list(self._old)

    # -- writing -----------------------------------------------------------

    def add(self, doc: Doc) -> Doc:
        """Make a record the live object of its name; the replaced object becomes a version, or is soft-deleted."""
        try:
            keys.write(self._cloud, doc)
        except ApiError:
            self._free(doc["_blob"])
            raise
        with self._cloud.store.atomic():
            before = self._cloud.store.get(self._live, doc["name"])
            unused = self._retire(before) if before else None
            out = self._cloud.store.put(self._live, doc["name"], doc)
        self._free(unused)
        return out

    def change(self, doc: Doc) -> Doc:
        """Write changed metadata, and increment the metageneration."""
        doc["metageneration"] = str(int(doc["metageneration"]) + 1)
        doc["updated"] = moment()
        doc["etag"] = etag(doc)
        live = self._cloud.store.peek(self._live, doc["name"])
        if live and live["generation"] == doc["generation"]:
            return self._cloud.store.put(self._live, doc["name"], doc)
        return self._cloud.store.put(self._old, f"{doc['name']}#{doc['generation']}", doc)

    def reclass(self, doc: Doc, storage_class: str) -> None:
        """Move an object to another storage class."""
        self.change(doc | {"storageClass": storage_class, "timeStorageClassUpdated": moment()})

    def delete(self, doc: Doc, *, by_generation: bool) -> None:
        """Delete an object: without a generation, the live one becomes a version if the bucket has versioning."""
        live = self._cloud.store.peek(self._live, doc["name"])
        is_live = bool(live and live["generation"] == doc["generation"])
        with self._cloud.store.atomic():
            if is_live:
                self._cloud.store.delete(self._live, doc["name"])
                unused = self._bury(doc) if by_generation else self._retire(doc)
            else:
                self._cloud.store.delete(self._old, f"{doc['name']}#{doc['generation']}")
                unused = self._bury(doc)
        self._free(unused)

    def purge(self, *, everything: bool = False) -> None:
        """Permanently delete objects that were soft-deleted long enough ago; everything: all objects of the bucket."""
        kinds = (self._live, self._old, self._gone) if everything else (self._gone,)
        for kind in kinds:
            for key, doc in self._cloud.store.list(kind):
                if everything or doc["hardDeleteTime"] <= moment():
                    self._cloud.store.delete(kind, key)
                    self._free(doc["_blob"])

    def _retire(self, doc: Doc) -> str | None:
        """Convert a live object that is replaced or deleted; returns a blob that is no longer used."""
        if self.bucket.get("versioning", {}).get("enabled"):
            self._cloud.store.put(self._old, f"{doc['name']}#{doc['generation']}", doc | {"timeDeleted": moment()})
            return None
        return self._bury(doc)

    def _bury(self, doc: Doc) -> str | None:
        seconds = int(self.bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
        if not seconds:
            return doc["_blob"]
        doc = doc | {"softDeleteTime": moment(), "hardDeleteTime": moment(seconds)}
        self._cloud.store.put(self._gone, f"{doc['name']}#{doc['generation']}", doc)
        return None

    def _free(self, blob: str | None) -> None:
        if blob:
            content.remove(self._cloud, blob)


# -- records ---------------------------------------------------------------


def record(bucket: Doc, name: str, given: Doc, *, blob: str, size: int, md5: str, crc32c: str) -> Doc:
    """A new object's record; given: what the client set."""
    stamp, number = moment(), generation()
    storage_class = given.get("storageClass") or bucket["storageClass"]
    if bucket.get("autoclass", {}).get("enabled"):
        storage_class = "STANDARD"  # regardless of the request
    doc: Doc = {
        "kind": "storage#object",
        "name": name,
        "bucket": bucket["name"],
        "generation": number,
        "metageneration": "1",
        "storageClass": storage_class,
        "size": str(size),
        "md5Hash": md5,
        "crc32c": crc32c,
        "timeCreated": stamp,
        "updated": stamp,
        "timeStorageClassUpdated": stamp,
        "timeFinalized": stamp,
        "_blob": blob,
    }
    if not md5:
        del doc["md5Hash"]
    doc |= {key: given[key] for key in EDITABLE if given.get(key) not in (None, "", {}) and key != "acl"}
    if bucket.get("defaultEventBasedHold"):
        doc.setdefault("eventBasedHold", True)
    key = given.get("kmsKeyName") or bucket.get("encryption", {}).get("defaultKmsKeyName")
    if key:
        doc["kmsKeyName"] = key if "/cryptoKeyVersions/" in key else f"{key}/cryptoKeyVersions/1"
    doc["etag"] = etag(doc)
    return doc


def etag(doc: Doc) -> str:
    """The etag of an object's generation and metageneration, or of a bucket's metageneration."""
    if doc["kind"] == "storage#bucket":
        return counted(int(doc["metageneration"]))
    return counted(int(doc["generation"]), int(doc["metageneration"]))


def counted(*numbers: int) -> str:
    """An etag of numbers: a protocol buffer of them, in base64 ("CAE=" of 1)."""
    out = bytearray()
    for field, value in enumerate(numbers, 1):
        out.append(field << 3)
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return base64.b64encode(out).decode()


def kept_until(bucket: Doc, doc: Doc) -> datetime | None:
    """The time until which an object cannot be deleted, due to its bucket's policy or its own retention."""
    times = []
    if "retentionPolicy" in bucket:
        period = timedelta(seconds=int(bucket["retentionPolicy"]["retentionPeriod"]))
        times.append(datetime.fromisoformat(doc["timeCreated"]) + period)
    if doc.get("retention", {}).get("retainUntilTime"):
        times.append(datetime.fromisoformat(doc["retention"]["retainUntilTime"]))
    return max(times, default=None)


def dated(bucket: Doc, doc: Doc) -> Doc:
    """A record with the end of its retention, if that is known: it is unknown during an event-based hold."""
    until = None if doc.get("eventBasedHold") else kept_until(bucket, doc)
    if until is None:
        return doc
    return doc | {"retentionExpirationTime": until.isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def shown(doc: Doc, *, full: bool = False) -> Doc:
    """An object as returned by the JSON API; full: with its access control list."""
    place = f"b/{doc['bucket']}/o/{quote(doc['name'], safe='')}"
    out = {k: v for k, v in doc.items() if not k.startswith("_")}
    if not full:
        out.pop("acl", None)
        out.pop("owner", None)
    out["id"] = f"{doc['bucket']}/{doc['name']}/{doc['generation']}"
    out["selfLink"] = f"https://www.googleapis.com/storage/v1/{place}"
    out["mediaLink"] = (
        f"https://storage.googleapis.com/download/storage/v1/{place}?generation={doc['generation']}&alt=media"
    )
    return out


def headers(doc: Doc) -> dict[str, str]:
    """Response headers of a download of an object."""
    hashes = [f"crc32c={doc['crc32c']}"] + ([f"md5={doc['md5Hash']}"] if "md5Hash" in doc else [])
    when = datetime.fromisoformat(doc["updated"]).strftime("%a, %d %b %Y %H:%M:%S GMT")
    out = {
        "Content-Type": doc.get("contentType", "application/octet-stream"),
        "Accept-Ranges": "bytes",
        "ETag": doc["etag"],
        "Last-Modified": when,
        "X-Goog-Generation": doc["generation"],
        "X-Goog-Metageneration": doc["metageneration"],
        "X-Goog-Hash": ",".join(hashes),
        "X-Goog-Storage-Class": doc["storageClass"],
        "X-Goog-Stored-Content-Length": doc["size"],
        "X-Goog-Stored-Content-Encoding": doc.get("contentEncoding", "identity"),
        "Server": "UploadServer",
    }
    for key, header in (
        ("cacheControl", "Cache-Control"),
        ("contentDisposition", "Content-Disposition"),
        ("contentLanguage", "Content-Language"),
    ):
        if key in doc:
            out[header] = doc[key]
    return out


def pages(found: Iterator[Doc] | list[Doc], params: Doc) -> tuple[list[Doc], list[str], str]:
    """Objects, common prefixes and the next page's token of a listing with these parameters."""
    prefix, delimiter = params.get("prefix", ""), params.get("delimiter", "")
    begin, end = params.get("startOffset", ""), params.get("endOffset", "")
    most = min(params.get("maxResults") or 1000, 1000)
    after = base64.urlsafe_b64decode(params["pageToken"]).decode() if params.get("pageToken") else ""
    matches = glob(params["matchGlob"]) if params.get("matchGlob") else None
    chosen: list[Doc] = []
    prefixes: list[str] = []
    last = ""
    for doc in found:
        name = doc["name"]
        # The token contains the last returned entry, with the generation to distinguish an object's versions.
        entry = f"{name}\0{int(doc['generation']):020d}"
        if not name.startswith(prefix) or begin and name < begin or end and name >= end:
            continue
        if matches and not matches.fullmatch(name):
            continue
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        group = name[: cut + len(delimiter)] if cut >= 0 else ""
        if group:
            entry = f"{group}\U0010ffff"
        if (
            entry <= after
            or group
            and prefixes
            and prefixes[-1] == group
            and not params.get("includeTrailingDelimiter")
        ):
            continue
        trailing = bool(group) and params.get("includeTrailingDelimiter") and name == group
        if group and prefixes and prefixes[-1] == group and not trailing:
            continue
        if len(chosen) + len(prefixes) >= most:
            return chosen, prefixes, base64.urlsafe_b64encode(last.encode()).decode()
        if not group or trailing:
            chosen.append(doc)
        if group and (not prefixes or prefixes[-1] != group):
            prefixes.append(group)
        last = entry
    return chosen, prefixes, ""


def glob(pattern: str) -> Any:
    """A regular expression for matchGlob: * within a folder, ** across folders, ?, [a-z], {a,b}."""
    out, depth = "", 0
    for part in re.findall(r"\*\*/?|\*|\?|\[[^]]*\]|\{|\}|,|.", pattern, re.S):
        if part.startswith("**"):
            out += "(?:.*/)?" if part == "**/" else ".*"
        elif part in ("*", "?"):
            out += "[^/]*" if part == "*" else "[^/]"
        elif part.startswith("["):
            out += "[" + part[1:].replace("!", "^", 1) if part[1:2] == "!" else part
        elif part == "{":
            out, depth = out + "(?:", depth + 1
        elif part == "}" and depth:
            out, depth = out + ")", depth - 1
        else:
            out += "|" if part == "," and depth else re.escape(part)
    return re.compile(out, re.S)
