"""Soft-deleted buckets: kept, with their objects, until their retention ends.

https://cloud.google.com/storage/docs/use-soft-deleted-buckets
"""

from __future__ import annotations

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.storage import common
from gcp_sandbox.services.storage.common import BUCKETS, Doc, full_name
from gcp_sandbox.services.storage.objects import Objects, moment

KIND = "storage.softDeletedBuckets"


def kept_for(bucket: Doc) -> int:
    """For how many seconds a bucket is kept if it is deleted now."""
    return int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))


def bury(cloud: Cloud, bucket: Doc) -> None:
    """Keep a bucket that is being deleted, if it has a soft delete policy."""
    seconds = kept_for(bucket)
    if seconds:
        until = max(moment(seconds), Objects(cloud, bucket).last_hard_delete())
        times = {"softDeleteTime": moment(), "hardDeleteTime": until}
        kept = bucket | times | {"_policy": cloud.iam.policy(full_name(bucket["name"]))}
        cloud.store.put(KIND, f"{bucket['name']}#{bucket['generation']}", kept)


def of_project(cloud: Cloud, project: str) -> list[Doc]:
    """The soft-deleted buckets of a project, by name; read-only."""
    return [doc for _, doc in cloud.store.list(KIND) if doc["_project"] == project and doc["hardDeleteTime"] > moment()]


def found(call: Call, permission: str) -> Doc:
    """The soft-deleted bucket that a call names by its generation (a copy).  Raises ApiError 400, 403, 404."""
    if "generation" not in call.params:
        raise common.required("Soft-deleted buckets are found by generation.")
    doc = call.cloud.store.get(KIND, f"{call.params['bucket']}#{call.params['generation']}")
    if doc is None or doc["hardDeleteTime"] <= moment():
        raise common.no_bucket()
    if not call.cloud.iam.allows(call.principal, permission, project_resource(doc["_project"])):
        raise common.denied(call.principal, permission)
    return doc


def restored(call: Call) -> Doc:
    """Restore the bucket of a call, with its policy and without its objects.  Raises ApiError."""
    doc = found(call, "storage.buckets.restore")
    store, name = call.cloud.store, doc["name"]
    if store.peek(BUCKETS, name) is not None:
        raise common.conflict("A live bucket of this name exists: a soft-deleted bucket cannot be restored beside it.")
    policy = doc.pop("_policy")
    for key in ("softDeleteTime", "hardDeleteTime"):
        del doc[key]
    with store.atomic():
        store.delete(KIND, f"{name}#{doc['generation']}")
        store.put(BUCKETS, name, doc)
        call.cloud.iam.set_policy(full_name(name), {"bindings": policy.get("bindings", [])})
    return doc


def purge(cloud: Cloud) -> None:
    """Permanently delete buckets that were soft-deleted long enough ago."""
    for key, doc in cloud.store.list(KIND):
        if doc["hardDeleteTime"] <= moment():
            Objects(cloud, doc).purge(everything=True)
            cloud.store.delete(KIND, key)
