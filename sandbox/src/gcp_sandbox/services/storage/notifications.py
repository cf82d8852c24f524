"""Notification configurations: which events of a bucket go to which topic.  Pub/Sub is not played: nothing is published.

https://cloud.google.com/storage/docs/json_api/v1/notifications
"""

from __future__ import annotations

import re

from gcp_sandbox.core.service import Call
from gcp_sandbox.services.storage import common, objects
from gcp_sandbox.services.storage.common import BUCKETS, SERVICE, Doc, bucket_of, require

_EVENTS = {"OBJECT_FINALIZE", "OBJECT_METADATA_UPDATE", "OBJECT_DELETE", "OBJECT_ARCHIVE"}
_TOPIC = re.compile(r"(?://pubsub\.googleapis\.com/)?(projects/[^/]+/topics/[A-Za-z][\w.~+%-]{2,254})")
_FIELDS = ("custom_attributes", "event_types", "object_name_prefix", "payload_format")
_MOST = 100


def _kind(bucket: Doc) -> str:
    return f"storage.notifications:{bucket['_uid']}"


def _bucket(call: Call, permission: str) -> Doc:
    bucket = bucket_of(call.app, call.params["bucket"])
    require(call.app, call.principal, permission, bucket)
    return bucket


def _found(call: Call, bucket: Doc) -> Doc:
    doc = call.app.store.get(_kind(bucket), call.params["notification"])
    if doc is None:
        raise common.no_key()
    return doc


@SERVICE.method("storage.notifications.insert")
def insert(call: Call) -> Doc:
    bucket = _bucket(call, "storage.buckets.update")
    topic = _TOPIC.fullmatch(call.body.get("topic", ""))
    if not topic:
        raise common.invalid(f"Invalid Google Cloud Pub/Sub topic: {call.body.get('topic', '')}.")
    if call.body.get("payload_format") not in ("JSON_API_V1", "NONE"):
        raise common.invalid("The payload format must be JSON_API_V1 or NONE.")
    wrong = sorted(set(call.body.get("event_types", [])) - _EVENTS)
    if wrong:
        raise common.invalid(f"Invalid event type: {wrong[0]}.")
    if len(call.app.store.list(_kind(bucket))) >= _MOST:
        raise common.invalid(f"A bucket can have at most {_MOST} notification configurations.")
    record = call.app.store.get(BUCKETS, bucket["name"]) or bucket
    record["_notifications"] = number = record.get("_notifications", 0) + 1
    doc = {k: v for k, v in call.body.items() if k in _FIELDS}
    doc |= {
        "kind": "storage#notification",
        "id": str(number),
        "etag": objects.counted(number).rstrip("="),
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{bucket['name']}/notificationConfigs/{number}",
        "topic": f"//pubsub.googleapis.com/{topic[1]}",
    }
    with call.app.store.atomic():
        call.app.store.put(BUCKETS, bucket["name"], record)
        return call.app.store.put(_kind(bucket), str(number), doc)


@SERVICE.method("storage.notifications.get")
def get(call: Call) -> Doc:
    return _found(call, _bucket(call, "storage.buckets.get"))


@SERVICE.method("storage.notifications.list")
def list_(call: Call) -> Doc:
    found = [doc for _, doc in call.app.store.list(_kind(_bucket(call, "storage.buckets.get")))]
    ordered = sorted(found, key=lambda doc: int(doc["id"]))
    return {"kind": "storage#notifications"} | ({"items": ordered} if ordered else {})


@SERVICE.method("storage.notifications.delete")
def delete(call: Call) -> None:
    bucket = _bucket(call, "storage.buckets.update")
    call.app.store.delete(_kind(bucket), _found(call, bucket)["id"])


def forget(call: Call, bucket: Doc) -> None:
    """The bucket is gone."""
    for key, _ in call.app.store.list(_kind(bucket)):
        call.app.store.delete(_kind(bucket), key)
