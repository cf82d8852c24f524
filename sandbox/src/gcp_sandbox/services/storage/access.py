"""Policies and access control lists of buckets and objects.

https://cloud.google.com/storage/docs/access-control/iam, https://cloud.google.com/storage/docs/access-control/lists
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import KIND as POLICIES
from gcp_sandbox.core.policies import shown as policy_shown
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.storage import common, objects, permissions
from gcp_sandbox.services.storage.common import BUCKETS, SERVICE, Doc, bucket_of, full_name
from gcp_sandbox.services.storage.permissions import require

TEAMS = {"owners": "projectOwner", "editors": "projectEditor", "viewers": "projectViewer"}
_BUCKET_ROLES = {
    "OWNER": "roles/storage.legacyBucketOwner",
    "WRITER": "roles/storage.legacyBucketWriter",
    "READER": "roles/storage.legacyBucketReader",
}
_EVERYBODY = {"allUsers", "allAuthenticatedUsers"}
# Predefined lists, as (entity, role); OWNER stands for the creator and TEAM for the project team.
_PREDEFINED: dict[str, list[tuple[str, str]]] = {
    "authenticatedRead": [("allAuthenticatedUsers", "READER")],
    "private": [],
    "projectPrivate": [("TEAM", "")],
    "publicRead": [("allUsers", "READER")],
    "publicReadWrite": [("allUsers", "WRITER")],
    "bucketOwnerFullControl": [("project-owners", "OWNER")],
    "bucketOwnerRead": [("project-owners", "READER")],
}


# -- policies --------------------------------------------------------------


def first_bindings(bucket: Doc) -> list[Doc]:
    """The initial policy of a bucket: the convenience groups of its project.

    https://cloud.google.com/storage/docs/access-control/iam-roles#basic-roles-modifiable
    """
    project = bucket["_project"]
    owners, viewers = [f"projectEditor:{project}", f"projectOwner:{project}"], [f"projectViewer:{project}"]
    out = [
        {"role": "roles/storage.legacyBucketOwner", "members": owners},
        {"role": "roles/storage.legacyBucketReader", "members": viewers},
    ]
    if permissions.uniform(bucket):
        out += [
            {"role": "roles/storage.legacyObjectOwner", "members": owners},
            {"role": "roles/storage.legacyObjectReader", "members": viewers},
        ]
    return out


def switched(cloud: Cloud, bucket: Doc) -> None:
    """Convert the default list of objects to bindings, or back, when uniform access is switched."""
    policy = cloud.iam.policy(full_name(bucket["name"]))
    bindings = policy.get("bindings", [])
    roles = set(permissions.OBJECT_ROLES.values())
    if permissions.uniform(bucket):
        extra = [b for b in first_bindings(bucket) if b["role"] in roles]
        bindings = [*bindings, *extra]
    else:
        bindings = [b for b in bindings if b["role"] not in roles]
    cloud.iam.set_policy(full_name(bucket["name"]), {"bindings": bindings})
    if not permissions.uniform(bucket) and "acl" not in bucket:
        first_lists(bucket, {}, None)


def _current_policy(call: Call, bucket: Doc, version: int) -> Doc:
    name = full_name(bucket["name"])
    policy = policy_shown(call, call.cloud.iam.policy(name), version)
    policy["etag"] = objects.counted((call.cloud.store.peek(POLICIES, name) or {}).get("serial", 0))
    return {"kind": "storage#policy", "resourceId": name.replace("//storage.googleapis.com/", "projects/_/")} | policy


@SERVICE.method("storage.buckets.getIamPolicy")
def get_policy(call: Call) -> Doc:
    bucket = bucket_of(call.cloud, call.params["bucket"])
    require(call.cloud, call.principal, "storage.buckets.getIamPolicy", bucket)
    return _current_policy(call, bucket, call.params.get("optionsRequestedPolicyVersion", 1))


@SERVICE.method("storage.buckets.setIamPolicy")
def set_policy(call: Call) -> Doc:
    bucket = bucket_of(call.cloud, call.params["bucket"])
    require(call.cloud, call.principal, "storage.buckets.setIamPolicy", bucket)
    call.guard(full_name(bucket["name"]))
    policy = {k: v for k, v in call.body.items() if k in ("bindings", "version")}
    for binding in policy.get("bindings", []):
        if not _accepted(binding.get("role", "")):
            raise common.invalid(f"Role {binding.get('role', '')} is not supported for this resource.")
        if "condition" in binding and not permissions.uniform(bucket):
            text = "Conditions can only be set on buckets with permissions.uniform bucket-level access."
            raise ApiError(412, text, reason="conditionNotMet")
        if _EVERYBODY & set(binding.get("members", [])) and permissions.private(call.cloud, bucket):
            raise public_refused()
    try:
        call.cloud.iam.check(full_name(bucket["name"]), policy)
    except ApiError as error:
        raise common.invalid(error.message) from None
    # Some clients use URL-safe base64.
    given = call.body.get("etag", "").replace("-", "+").replace("_", "/")
    if given and given != _current_policy(call, bucket, 3)["etag"]:
        raise common.unmet()
    call.cloud.iam.set_policy(full_name(bucket["name"]), policy)
    return _current_policy(call, bucket, 3)


def _accepted(role: str) -> bool:
    return role.startswith(("roles/storage.", "projects/", "organizations/")) or role in ("roles/owner", "roles/viewer")


def public_refused() -> ApiError:
    """412 for granting public access while it is prevented."""
    text = (
        "The member bindings allUsers and allAuthenticatedUsers are not allowed since public access prevention is "
        "enforced."
    )
    return ApiError(412, text, reason="conditionNotMet", location="If-Match", location_type="header")


@SERVICE.method("storage.buckets.testIamPermissions")
def test_permissions(call: Call) -> Doc:
    bucket = bucket_of(call.cloud, call.params["bucket"])
    asked = call.params.get("permissions", [])
    have = [p for p in asked if permissions.allows(call.cloud, call.principal, p, bucket)]
    return {"kind": "storage#testIamPermissionsResponse"} | ({"permissions": have} if have else {})


# -- access control lists --------------------------------------------------


def _entry(bucket: Doc, entity: str, role: str, *, of: str, where: str = "") -> Doc:
    """One entry of a list; of: "bucket", "object" or "default"; where: the object's name."""
    kind = "bucketAccessControl" if of == "bucket" else "objectAccessControl"
    out: Doc = {"kind": f"storage#{kind}", "entity": entity, "role": role}
    out["etag"] = hashlib.sha256(json.dumps([entity, role]).encode()).hexdigest()[:8]
    if of != "default":
        place = bucket["name"] + (f"/{where}" if where else "")
        out |= {"bucket": bucket["name"], "id": f"{place}/{entity}"}
        inner = "" if of == "bucket" else f"/o/{quote(where, safe='')}"
        path = f"b/{bucket['name']}{inner}/acl/{entity}"
        if of == "object":
            out["object"] = where
        out["selfLink"] = f"https://www.googleapis.com/storage/v1/{path}"
    for team in TEAMS:
        if entity.startswith(f"project-{team}-"):
            out["projectTeam"] = {"projectNumber": entity.rpartition("-")[2], "team": team}
    for kind in ("user", "group"):
        if entity.startswith(f"{kind}-"):
            out["email"] = entity.partition("-")[2]
    if entity.startswith("domain-"):
        out["domain"] = entity.partition("-")[2]
    return out


def _team(bucket: Doc, of: str, where: str = "") -> list[Doc]:
    number = bucket["projectNumber"]
    roles = (("owners", "OWNER"), ("editors", "OWNER"), ("viewers", "READER"))
    return [_entry(bucket, f"project-{team}-{number}", role, of=of, where=where) for team, role in roles]


def predefined(bucket: Doc, name: str, of: str, owner: Principal | None, where: str = "") -> list[Doc]:
    """A predefined list.  Raises ApiError 400."""
    if name not in _PREDEFINED:
        raise common.invalid(f"Invalid predefined ACL: {name}.")
    out = []
    if owner and owner.email and of == "object":
        out.append(_entry(bucket, f"user-{owner.email}", "OWNER", of=of, where=where))
    if of == "bucket":
        out.append(_entry(bucket, f"project-owners-{bucket['projectNumber']}", "OWNER", of=of))
    for entity, role in _PREDEFINED[name]:
        if entity == "TEAM":
            return (out if of == "object" else []) + _team(bucket, of, where)
        named = f"{entity}-{bucket['projectNumber']}" if entity == "project-owners" else entity
        out.append(_entry(bucket, named, role, of=of, where=where))
    return out


def first_lists(bucket: Doc, params: Doc, owner: Principal | None) -> None:
    """Set a bucket's initial lists, unless it has its own."""
    if permissions.uniform(bucket):
        return
    bucket.setdefault("acl", predefined(bucket, params.get("predefinedAcl", "projectPrivate"), "bucket", owner))
    default = params.get("predefinedDefaultObjectAcl", "projectPrivate")
    bucket.setdefault("defaultObjectAcl", predefined(bucket, default, "default", owner))
    bucket["owner"] = {"entity": f"project-owners-{bucket['projectNumber']}"}


def set_bucket_list(bucket: Doc, entries: list[Doc]) -> None:
    """Replace a bucket's list."""
    bucket["acl"] = [_entry(bucket, e["entity"], e["role"], of="bucket") for e in entries]


def set_default_list(bucket: Doc, entries: list[Doc]) -> None:
    """Replace the default list for new objects."""
    bucket["defaultObjectAcl"] = [_entry(bucket, e["entity"], e["role"], of="default") for e in entries]


def object_list(bucket: Doc, name: str, given: list[Doc] | None, preset: str, owner: Principal) -> Doc:
    """The acl and owner of a new object, or nothing in a bucket with uniform access.  Raises ApiError 400."""
    if permissions.uniform(bucket):
        if given or preset:
            raise common.invalid(
                "Cannot insert legacy ACL for an object when permissions.uniform bucket-level access is enabled."
            )
        return {}
    if preset:
        acl = predefined(bucket, preset, "object", owner, name)
    else:
        source = given if given is not None else bucket.get("defaultObjectAcl", [])
        acl = [_entry(bucket, e["entity"], e["role"], of="object", where=name) for e in source]
        mine = f"user-{owner.email}"
        if owner.email and not any(e["entity"] == mine for e in acl):
            acl.append(_entry(bucket, mine, "OWNER", of="object", where=name))
    if permissions.prevented(bucket) and any(e["entity"] in _EVERYBODY for e in acl):
        raise public_refused()
    return {"acl": acl, "owner": {"entity": f"user-{owner.email}"}}


def relisted(bucket: Doc, doc: Doc, entries: list[Doc] | None, preset: str = "") -> Doc:
    """An object with a new list, given or predefined; its owner and the owner's access are kept.  Raises ApiError."""
    owner = doc.get("owner", {}).get("entity", "").removeprefix("user-")
    out = doc | object_list(bucket, doc["name"], entries, preset, Principal(owner))
    return out if owner else {k: v for k, v in out.items() if k != "owner"}


def list_of(bucket: Doc, doc: Doc | None) -> list[Doc] | None:
    """The list that applies to an object, or None if only policies apply.

    Objects that were created while access was uniform have the bucket's default list.
    """
    if permissions.uniform(bucket):
        return None
    if doc is None or "acl" in doc:
        return doc["acl"] if doc else []
    return [_entry(bucket, e["entity"], e["role"], of="object", where=doc["name"]) for e in bucket["defaultObjectAcl"]]


# -- methods on lists ------------------------------------------------------


def _lists(collection: str, field: str, of: str, permission: str) -> None:
    """Register the methods of bucketAccessControls or defaultObjectAccessControls."""

    def bucket(call: Call, verb: str) -> Doc:
        doc = call.cloud.store.get(BUCKETS, call.params["bucket"])
        if doc is None:
            raise common.no_bucket()
        require(call.cloud, call.principal, f"storage.buckets.{verb}", doc)
        if permissions.uniform(doc):
            raise common.invalid(
                "Cannot get legacy ACL for a bucket that has permissions.uniform bucket-level access. Read more at "
                "https://cloud.google.com/storage/docs/permissions.uniform-bucket-level-access"
            )
        return doc

    def found(call: Call, doc: Doc) -> Doc:
        for entry in doc[field]:
            if entry["entity"] == call.params["entity"]:
                return entry
        raise common.no_key()

    def put(call: Call, doc: Doc, entity: str, role: str) -> Doc:
        if role not in (_BUCKET_ROLES if of == "bucket" else permissions.OBJECT_ROLES):
            raise common.invalid(f"Invalid role: {role}.")
        if entity in _EVERYBODY and permissions.private(call.cloud, doc):
            raise public_refused()
        entry = _entry(doc, entity, role, of=of)
        doc[field] = [e for e in doc[field] if e["entity"] != entity] + [entry]
        save(call, doc)
        return entry

    def save(call: Call, doc: Doc) -> None:
        doc["metageneration"] = str(int(doc["metageneration"]) + 1)
        call.cloud.store.put(BUCKETS, doc["name"], doc)
        if of == "bucket":
            _synchronise(call.cloud, doc)

    @SERVICE.method(f"storage.{collection}.list")
    def list_(call: Call) -> Doc:
        kind = "bucketAccessControls" if of == "bucket" else "objectAccessControls"
        return {"kind": f"storage#{kind}", "items": bucket(call, permission)[field]}

    @SERVICE.method(f"storage.{collection}.get")
    def get(call: Call) -> Doc:
        return found(call, bucket(call, permission))

    @SERVICE.method(f"storage.{collection}.insert")
    def insert(call: Call) -> Doc:
        return put(call, bucket(call, "update"), call.body.get("entity", ""), call.body.get("role", ""))

    @SERVICE.method(f"storage.{collection}.update", f"storage.{collection}.patch")
    def update(call: Call) -> Doc:
        doc = bucket(call, "update")
        entry = found(call, doc)
        return put(call, doc, entry["entity"], str(call.body.get("role", entry["role"])))

    @SERVICE.method(f"storage.{collection}.delete")
    def delete(call: Call) -> None:
        doc = bucket(call, "update")
        entry = found(call, doc)
        doc[field] = [e for e in doc[field] if e is not entry]
        save(call, doc)


def _synchronise(cloud: Cloud, bucket: Doc) -> None:
    """A bucket's list and the legacy roles of its policy are two representations of the same access."""
    members: dict[str, list[str]] = {}
    for entry in bucket["acl"]:
        members.setdefault(_BUCKET_ROLES[entry["role"]], []).append(member(bucket, entry["entity"]))
    name = full_name(bucket["name"])
    kept: list[dict[str, Any]] = [
        b for b in cloud.iam.policy(name).get("bindings", []) if b["role"] not in _BUCKET_ROLES.values()
    ]
    cloud.iam.set_policy(name, {"bindings": kept + [{"role": r, "members": m} for r, m in members.items()]})


def member(bucket: Doc, entity: str) -> str:
    kind, _, rest = entity.partition("-")
    if kind == "project":
        return f"{TEAMS[rest.partition('-')[0]]}:{bucket['_project']}"
    if kind == "user" and rest.endswith(".gserviceaccount.com"):
        return f"serviceAccount:{rest}"
    return f"{kind}:{rest}" if rest else entity


_lists("bucketAccessControls", "acl", "bucket", "getIamPolicy")
_lists("defaultObjectAccessControls", "defaultObjectAcl", "default", "getIamPolicy")
