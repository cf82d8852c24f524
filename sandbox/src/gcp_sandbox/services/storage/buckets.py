"""Methods of storage.buckets.

https://cloud.google.com/storage/docs/json_api/v1/buckets
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from aiohttp import web

from gcp_sandbox.core import projects
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.masks import patched
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.serviceusage import catalog
from gcp_sandbox.services.storage import access, common, deleted, keys, locations, permissions
from gcp_sandbox.services.storage.common import BUCKETS, SERVICE, Doc, bucket_of, full_name
from gcp_sandbox.services.storage.objects import Objects, etag, generation, moment
from gcp_sandbox.services.storage.permissions import require

_CLASSES = {"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY"}
_SETTABLE = (
    "acl",
    "defaultObjectAcl",
    "autoclass",
    "billing",
    "cors",
    "customPlacementConfig",
    "defaultEventBasedHold",
    "encryption",
    "hierarchicalNamespace",
    "iamConfiguration",
    "ipFilter",
    "labels",
    "lifecycle",
    "logging",
    "retentionPolicy",
    "rpo",
    "softDeletePolicy",
    "storageClass",
    "versioning",
    "website",
)
_UNPLAYED = {"billing": "requesterPays", "hierarchicalNamespace": "enabled"}
_ACTIONS = ("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload")
_LEAST, _MOST, _DEFAULT_SOFT_DELETE = 7 * 86400, 90 * 86400, 7 * 86400


# -- responses -------------------------------------------------------------


def shown(doc: Doc, *, full: bool) -> Doc:
    """A bucket as returned by the API; full: with access control lists, if it has any."""
    out = {k: v for k, v in doc.items() if not k.startswith("_")}
    if not full or permissions.uniform(doc):
        for key in ("acl", "defaultObjectAcl", "owner"):
            out.pop(key, None)
    return out


def _answer(call: Call, doc: Doc, *, full: bool) -> Doc:
    return shown(doc, full={"full": True, "noAcl": False}.get(call.params.get("projection", ""), full))


# -- methods ---------------------------------------------------------------


@SERVICE.method("storage.buckets.get")
def get(call: Call) -> Doc | web.Response:
    if call.params.get("softDeleted"):
        return _answer(call, deleted.found(call, "storage.buckets.get"), full=False)
    doc = bucket_of(call.cloud, call.params["bucket"])
    require(call.cloud, call.principal, "storage.buckets.get", doc)
    try:
        common.check_generation(call.params, doc["generation"], doc["metageneration"])
    except common.NotModified:
        return web.Response(status=304, headers={"ETag": doc["etag"]})
    return _answer(call, doc, full=False)


@SERVICE.method("storage.buckets.list")
def list_(call: Call) -> Doc:
    project = _named_project(call)
    if not call.cloud.iam.allows(call.principal, "storage.buckets.list", project_resource(project["projectId"])):
        who = call.principal.email or "Anonymous caller"
        text = f"{who} does not have storage.buckets.list access to the Google Cloud project."
        raise ApiError(
            403 if call.principal.email else 401,
            f"{text} Permission 'storage.buckets.list' denied on resource (or it may not exist).",
            reason="forbidden" if call.principal.email else "required",
        )
    prefix, after = call.params.get("prefix", ""), call.params.get("pageToken", "")
    most = call.params.get("maxResults") or 1000
    found = [
        doc
        for name, doc in call.cloud.store.list(BUCKETS, prefix)
        if doc["_project"] == project["projectId"] and name > after
    ]
    if call.params.get("softDeleted"):
        gone = deleted.of_project(call.cloud, project["projectId"])
        found = [doc for doc in gone if after < doc["name"] and doc["name"].startswith(prefix)]
    out: Doc = {"kind": "storage#buckets"}
    if found:
        out["items"] = [_answer(call, doc, full=False) for doc in found[:most]]
    if len(found) > most:
        out["nextPageToken"] = found[most - 1]["name"]
    return out


def _named_project(call: Call) -> Doc:
    name = call.params.get("project", "")
    project = projects.find(call.cloud, name)
    if project is None:
        raise common.invalid(f"Unknown project id: {name}")
    return project


@SERVICE.method("storage.buckets.insert")
def insert(call: Call) -> Doc:
    project = _named_project(call)
    name = call.body.get("name", "")
    _check_name(name)
    if not call.cloud.iam.allows(call.principal, "storage.buckets.create", project_resource(project["projectId"])):
        who = call.principal.email or "Anonymous caller"
        text = (
            f"{who} does not have storage.buckets.create access to the Google Cloud project. Permission "
            "'storage.buckets.create' denied on resource (or it may not exist)."
        )
        code = 403 if call.principal.email else 401
        raise ApiError(code, text, reason="forbidden" if call.principal.email else "required")
    call.project = project
    call.guard()
    other = call.cloud.store.peek(BUCKETS, name)
    if other is not None:
        own = other["_project"] == project["projectId"]
        raise common.conflict(
            "Your previous request to create the named bucket succeeded and you already own it."
            if own
            else "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
            "Please select a different name and try again."
        )
    place = locations.find(call.body.get("location", "US"), call.body.get("customPlacementConfig"))
    stamp = moment()
    doc: Doc = {
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "projectNumber": project["projectNumber"],
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{name}",
        "location": place.name,
        "locationType": place.kind,
        "storageClass": "STANDARD",
        "generation": generation(),
        "metageneration": "1",
        "timeCreated": stamp,
        "updated": stamp,
        "_project": project["projectId"],
        "_uid": secrets.token_hex(8),
        "softDeletePolicy": {"retentionDurationSeconds": str(_DEFAULT_SOFT_DELETE), "effectiveTime": stamp},
    }
    if place.kind == "region":
        doc["satisfiesPZI"] = True
    else:
        doc["rpo"] = "DEFAULT"
    if call.params.get("enableObjectRetention"):
        doc["objectRetention"] = {"mode": "Enabled"}
    if place.regions and call.body.get("customPlacementConfig"):
        doc["customPlacementConfig"] = {"dataLocations": list(place.regions)}
    given = {k: v for k, v in call.body.items() if k in _SETTABLE and k != "customPlacementConfig"}
    _lay(call, doc, given)
    access.first_lists(doc, call.params, call.principal)
    doc["etag"] = etag(doc)
    call.cloud.store.put(BUCKETS, name, doc)
    call.cloud.iam.set_policy(full_name(name), {"bindings": access.first_bindings(doc)}, first=True)
    return _answer(call, doc, full="acl" in call.body or "defaultObjectAcl" in call.body)


@SERVICE.method("storage.buckets.patch")
async def patch(call: Call) -> Doc:
    doc = _changing(call)
    raw = json.loads(await call.request.read() or b"{}")
    if not raw:
        return _answer(call, doc, full=True)
    _refuse_immutable(doc, call.body)
    given = {k: v for k, v in call.body.items() if k in _SETTABLE}
    whole = await patched(call, doc, given)
    laid = {k: whole[k] for k in given}
    laid |= {k: None for k, v in raw.items() if v is None and k in _SETTABLE}
    return _changed(call, doc, laid)


@SERVICE.method("storage.buckets.update")
def update(call: Call) -> Doc:
    doc = _changing(call)
    _refuse_immutable(doc, call.body)
    laid: Doc = {k: call.body.get(k) for k in _SETTABLE}
    # A full update keeps the fields that every bucket has if it omits them.
    for key in (
        "storageClass",
        "iamConfiguration",
        "softDeletePolicy",
        "rpo",
        "acl",
        "defaultObjectAcl",
        "customPlacementConfig",
        "hierarchicalNamespace",
    ):
        if key not in call.body:
            del laid[key]
    return _changed(call, doc, laid)


def _changing(call: Call) -> Doc:
    doc = call.cloud.store.get(BUCKETS, call.params["bucket"])
    if doc is None:
        raise common.no_bucket()
    require(call.cloud, call.principal, "storage.buckets.update", doc)
    call.guard()
    common.guard(call.params, doc["generation"], doc["metageneration"])
    return doc


def _refuse_immutable(doc: Doc, body: Doc) -> None:
    if "location" in body and body["location"].upper() != doc["location"]:
        raise common.invalid("Bucket location cannot be changed.")
    if body.get("name", doc["name"]) != doc["name"]:
        raise common.invalid("Bucket name cannot be changed.")


def _changed(call: Call, doc: Doc, laid: Doc) -> Doc:
    was_uniform = permissions.uniform(doc)
    _lay(call, doc, laid)
    if was_uniform != permissions.uniform(doc):
        access.switched(call.cloud, doc)
    doc["metageneration"] = str(int(doc["metageneration"]) + 1)
    doc["updated"] = moment()
    doc["etag"] = etag(doc)
    call.cloud.store.put(BUCKETS, doc["name"], doc)
    return _answer(call, doc, full=True)


@SERVICE.method("storage.buckets.delete")
def delete(call: Call) -> None:
    doc = bucket_of(call.cloud, call.params["bucket"])
    require(call.cloud, call.principal, "storage.buckets.delete", doc)
    common.guard(call.params, doc["generation"], doc["metageneration"])
    objects = Objects(call.cloud, doc)
    if not objects.empty():
        raise common.conflict("The bucket you tried to delete is not empty.")
    if not deleted.kept_for(doc):
        objects.purge(everything=True)
    with call.cloud.store.atomic():
        call.cloud.store.delete(BUCKETS, doc["name"])
        deleted.bury(call.cloud, doc)
        call.cloud.iam.drop(full_name(doc["name"]))


@SERVICE.method("storage.buckets.lockRetentionPolicy")
def lock(call: Call) -> Doc:
    doc = _changing(call)
    if str(call.params.get("ifMetagenerationMatch", "")) != doc["metageneration"]:
        raise common.unmet()
    if "retentionPolicy" not in doc:
        raise common.invalid("Bucket has no retention policy to lock.")
    doc["retentionPolicy"]["isLocked"] = True
    return _changed(call, doc, {})


@SERVICE.method("storage.buckets.restore")
def restore(call: Call) -> Doc:
    return _answer(call, deleted.restored(call), full=True)


@SERVICE.method("storage.projects.serviceAccount.get")
def service_agent(call: Call) -> Doc:
    project = projects.find(call.cloud, call.params["projectId"])
    if project is None:
        raise common.invalid(f"Unknown project id: {call.params['projectId']}")
    resource = project_resource(project["projectId"])
    if not call.cloud.iam.allows(call.principal, "resourcemanager.projects.get", resource):
        raise common.denied(call.principal, "resourcemanager.projects.get")
    agent = catalog.identity(call.cloud, project, "storage.googleapis.com")
    return {"kind": "storage#serviceAccount", "email_address": agent["email"]}


@SERVICE.method("storage.buckets.getStorageLayout")
def layout(call: Call) -> Doc:
    doc = bucket_of(call.cloud, call.params["bucket"])
    require(call.cloud, call.principal, "storage.objects.list", doc)
    return {
        "kind": "storage#storageLayout",
        "bucket": doc["name"],
        "location": doc["location"],
        "locationType": doc["locationType"],
        "hierarchicalNamespace": {"enabled": False},
    }


# -- settings --------------------------------------------------------------


def _check_name(name: str) -> None:
    """https://cloud.google.com/storage/docs/buckets#naming"""
    if not name:
        raise common.required("Required")
    parts = name.split(".")
    if (
        not re.fullmatch(r"[a-z0-9][a-z0-9._-]*[a-z0-9]", name)
        or not 3 <= len(name) <= 222
        or any(not part or len(part) > 63 for part in parts)
        or re.fullmatch(r"\d+(\.\d+){3}", name)
        or name.startswith("goog")
        or re.search(r"g[o0][o0]g[l1][e3]", name)
    ):
        raise common.invalid(f"Invalid bucket name: '{name}'")
    if len(parts) > 1:
        text = "The bucket you tried to create is a domain name owned by another user."
        raise ApiError(403, text, reason="forbidden")


def _lay(call: Call, doc: Doc, given: Doc) -> None:
    """Set the given fields (None: unset) on a bucket's record, after validating and completing them.  Raises ApiError."""
    for key, flag in _UNPLAYED.items():
        if (given.get(key) or {}).get(flag):
            raise common.unplayed(f"{key}.{flag} of a bucket")
    for key, value in given.items():
        setter = _SETTERS.get(key)
        if value is None or value in ({}, []):
            if key == "retentionPolicy" and doc.get(key, {}).get("isLocked"):
                raise _locked(doc)
            if key not in ("softDeletePolicy", "iamConfiguration", "storageClass", "acl", "defaultObjectAcl"):
                doc.pop(key, None)
            elif key == "softDeletePolicy":
                doc[key] = {"retentionDurationSeconds": "0"}
            elif key in ("acl", "defaultObjectAcl") and value == []:
                doc[key] = []
        elif setter:
            setter(doc, value)
        else:
            doc[key] = value
    if name := (given.get("encryption") or {}).get("defaultKmsKeyName"):
        keys.check(call.cloud, doc, name)
    _complete(call, doc)


def _complete(call: Call, doc: Doc) -> None:
    config = doc.setdefault("iamConfiguration", {})
    config.setdefault("publicAccessPrevention", "inherited")
    asked = config.get("uniformBucketLevelAccess", config.get("bucketPolicyOnly", {}))
    if "bucketPolicyOnly" in config and "uniformBucketLevelAccess" not in config:
        asked = config["bucketPolicyOnly"]
    uniform: Doc = {"enabled": bool(asked.get("enabled"))}
    if uniform["enabled"]:
        uniform["lockedTime"] = asked.get("lockedTime") or moment(90 * 86400)
    listed = "acl" in call.body or "predefinedAcl" in call.params
    if uniform["enabled"] and call.method.id == "storage.buckets.insert" and listed:
        raise common.invalid("Cannot use ACL API to update bucket policy when uniform bucket-level access is enabled.")
    config["uniformBucketLevelAccess"] = config["bucketPolicyOnly"] = uniform
    if "logging" in doc:
        doc["logging"].setdefault("logObjectPrefix", doc["name"])
    if doc.get("autoclass", {}).get("enabled"):
        doc["storageClass"] = "STANDARD"  # the class of new objects; Autoclass changes it later


def _storage_class(doc: Doc, value: str) -> None:
    if value not in _CLASSES:
        raise common.invalid(f"Invalid storage class: {value}.")
    doc["storageClass"] = value


def _versioning(doc: Doc, value: Doc) -> None:
    doc["versioning"] = {"enabled": bool(value.get("enabled"))}


def _soft_delete(doc: Doc, value: Doc) -> None:
    seconds = int(value.get("retentionDurationSeconds", _DEFAULT_SOFT_DELETE))
    if seconds and not _LEAST <= seconds <= _MOST:
        raise common.invalid("Soft delete retention duration must be 0, or between 604800 and 7776000 seconds.")
    old = doc.get("softDeletePolicy", {})
    policy: Doc = {"retentionDurationSeconds": str(seconds)}
    if "hardDeletePause" in value:
        policy["hardDeletePause"] = value["hardDeletePause"]
    if seconds:
        same = old.get("retentionDurationSeconds") == str(seconds)
        policy["effectiveTime"] = old["effectiveTime"] if same and "effectiveTime" in old else moment()
    doc["softDeletePolicy"] = policy


def _iam_configuration(doc: Doc, value: Doc) -> None:
    config = dict(doc.get("iamConfiguration", {})) | value
    if config.get("publicAccessPrevention") == "unspecified":
        config["publicAccessPrevention"] = "inherited"
    if config.get("publicAccessPrevention", "inherited") not in ("inherited", "enforced"):
        raise common.invalid(f"Invalid public access prevention: {config['publicAccessPrevention']}.")
    if "uniformBucketLevelAccess" not in value and "bucketPolicyOnly" in value:
        config["uniformBucketLevelAccess"] = value["bucketPolicyOnly"]
    doc["iamConfiguration"] = config


def _labels(doc: Doc, value: Doc) -> None:
    for key, text in value.items():
        fine = re.fullmatch(r"[\w-]{1,63}", key) and re.fullmatch(r"[\w-]{0,63}", text)
        if not fine or key != key.lower() or text != text.lower():
            raise common.invalid(f"Invalid label: {key}={text}.")
    if len(value) > 64:
        raise common.invalid("A bucket can have at most 64 labels.")
    doc["labels"] = value


def _lifecycle(doc: Doc, value: Doc) -> None:
    rules = value.get("rule", [])
    if not rules:
        doc.pop("lifecycle", None)
        return
    if len(rules) > 100:
        raise common.invalid("A bucket can have at most 100 lifecycle rules.")
    for rule in rules:
        action, condition = rule.get("action", {}), rule.get("condition", {})
        if action.get("type") not in _ACTIONS:
            raise common.invalid(f"Invalid lifecycle action: {action.get('type', '')}.")
        if action["type"] == "SetStorageClass" and action.get("storageClass") not in _CLASSES:
            raise common.invalid("A SetStorageClass lifecycle action needs a valid storageClass.")
        if not condition:
            raise common.invalid("At least one condition must be specified in a lifecycle rule.")
        if any(isinstance(v, int) and not isinstance(v, bool) and v < 0 for v in condition.values()):
            raise common.invalid("Lifecycle conditions must not be negative.")
    doc["lifecycle"] = {"rule": rules}


def _locked(doc: Doc) -> ApiError:
    text = f"Cannot reduce the retention duration of a locked Retention Policy for bucket '{doc['name']}'."
    return ApiError(403, text, reason="forbidden")


def _retention(doc: Doc, value: Doc) -> None:
    seconds = int(value.get("retentionPeriod", 0))
    old = doc.get("retentionPolicy", {})
    if old.get("isLocked") and seconds < int(old["retentionPeriod"]):
        raise _locked(doc)
    if not 0 < seconds <= 3155760000:
        raise common.invalid("Retention period must be between 1 and 3155760000 seconds.")
    same = old.get("retentionPeriod") == str(seconds)
    out: Doc = {"retentionPeriod": str(seconds), "effectiveTime": old["effectiveTime"] if same else moment()}
    doc["retentionPolicy"] = out | ({"isLocked": True} if old.get("isLocked") or value.get("isLocked") else {})


def _autoclass(doc: Doc, value: Doc) -> None:
    enabled = bool(value.get("enabled"))
    old = doc.get("autoclass", {})
    toggled = old.get("toggleTime") if old.get("enabled") == enabled and old else moment()
    out: Doc = {"enabled": enabled, "toggleTime": toggled}
    if enabled:
        terminal = value.get("terminalStorageClass", "NEARLINE")
        if terminal not in ("NEARLINE", "ARCHIVE"):
            raise common.invalid("The terminal storage class must be NEARLINE or ARCHIVE.")
        same = old.get("terminalStorageClass") == terminal
        out |= {
            "terminalStorageClass": terminal,
            "terminalStorageClassUpdateTime": old["terminalStorageClassUpdateTime"] if same else moment(),
        }
    doc["autoclass"] = out


def _rpo(doc: Doc, value: str) -> None:
    if value not in ("DEFAULT", "ASYNC_TURBO"):
        raise common.invalid(f"Invalid RPO: {value}.")
    if doc["locationType"] == "region" or value == "ASYNC_TURBO" and doc["locationType"] != "dual-region":
        raise common.invalid(f"RPO {value} is not supported for a bucket of this location type.")
    doc["rpo"] = value


_SETTERS: dict[str, Any] = {
    "storageClass": _storage_class,
    "versioning": _versioning,
    "softDeletePolicy": _soft_delete,
    "labels": _labels,
    "iamConfiguration": _iam_configuration,
    "lifecycle": _lifecycle,
    "retentionPolicy": _retention,
    "autoclass": _autoclass,
    "rpo": _rpo,
    "acl": access.set_bucket_list,
    "defaultObjectAcl": access.set_default_list,
}


# -- Anywhere Cache ----------------------------------------------------------


def _caches(call: Call, permission: str) -> None:
    require(
        call.cloud, call.principal, f"storage.anywhereCaches.{permission}", bucket_of(call.cloud, call.params["bucket"])
    )


@SERVICE.method("storage.anywhereCaches.list")
def list_caches(call: Call) -> Doc:
    """A bucket's caches, of which there are none here; Terraform asks before it deletes a bucket."""
    _caches(call, "list")
    return {"kind": "storage#anywhereCaches"}


@SERVICE.method("storage.anywhereCaches.get")
def get_cache(call: Call) -> Doc:
    _caches(call, "get")
    raise ApiError(404, "The specified Anywhere Cache does not exist.", reason="notFound")
