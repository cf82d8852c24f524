"""Access to single objects of a bucket without uniform access: their lists, also in the form of policies.

https://cloud.google.com/storage/docs/json_api/v1/objectAccessControls, https://cloud.google.com/storage/docs/access-control/iam
"""

from __future__ import annotations

from gcp_sandbox.core.service import Call
from gcp_sandbox.services.storage import access, common, objects, permissions
from gcp_sandbox.services.storage.common import SERVICE, Doc, bucket_of
from gcp_sandbox.services.storage.methods import find

_C = "storage.objectAccessControls"
_KINDS = {"user": "user", "serviceAccount": "user", "group": "group", "domain": "domain"}


def _object(call: Call, verb: str) -> tuple[Doc, Doc]:
    """Bucket and object of a call; the object has its list.  Raises ApiError."""
    bucket = bucket_of(call.cloud, call.params["bucket"])
    if permissions.uniform(bucket):
        raise common.invalid(
            "Cannot get legacy ACL for an object when uniform bucket-level access is enabled. Read more at "
            "https://cloud.google.com/storage/docs/uniform-bucket-level-access"
        )
    bucket, doc = find(call, f"storage.objects.{verb}", generation=call.params.get("generation"))
    return bucket, doc | {"acl": access.list_of(bucket, doc)}


def _shown(doc: Doc, entry: Doc) -> Doc:
    return entry | {
        "generation": doc["generation"],
        "id": f"{doc['bucket']}/{doc['name']}/{doc['generation']}/{entry['entity']}",
    }


def _entry_of(call: Call, doc: Doc) -> Doc:
    for entry in doc["acl"]:
        if entry["entity"] == call.params["entity"]:
            return entry
    raise common.no_key()


def _change(call: Call, bucket: Doc, doc: Doc, entries: list[Doc]) -> Doc:
    for entry in entries:
        if entry.get("role") not in ("OWNER", "READER"):
            raise common.invalid(f"Invalid role: {entry.get('role', '')}.")
    return objects.Objects(call.cloud, bucket).change(access.relisted(bucket, doc, entries))


# -- lists -----------------------------------------------------------------


@SERVICE.method(f"{_C}.list")
def list_(call: Call) -> Doc:
    _, doc = _object(call, "getIamPolicy")
    return {"kind": "storage#objectAccessControls", "items": [_shown(doc, entry) for entry in doc["acl"]]}


@SERVICE.method(f"{_C}.get")
def get(call: Call) -> Doc:
    _, doc = _object(call, "getIamPolicy")
    return _shown(doc, _entry_of(call, doc))


@SERVICE.method(f"{_C}.insert", f"{_C}.update", f"{_C}.patch")
def put(call: Call) -> Doc:
    bucket, doc = _object(call, "setIamPolicy")
    new = call.method.id.endswith(".insert")
    old = {} if new else _entry_of(call, doc)
    entity, role = call.body.get("entity") or old.get("entity", ""), call.body.get("role") or old.get("role", "")
    if not entity:
        raise common.required("Required")
    kept = [e for e in doc["acl"] if e["entity"] != entity]
    doc = _change(call, bucket, doc, [*kept, {"entity": entity, "role": role}])
    return next(_shown(doc, entry) for entry in doc["acl"] if entry["entity"] == entity)


@SERVICE.method(f"{_C}.delete")
def delete(call: Call) -> None:
    bucket, doc = _object(call, "setIamPolicy")
    entry = _entry_of(call, doc)
    _change(call, bucket, doc, [e for e in doc["acl"] if e is not entry])


# -- policies --------------------------------------------------------------


def _policy_object(call: Call, verb: str) -> tuple[Doc, Doc]:
    if permissions.uniform(bucket_of(call.cloud, call.params["bucket"])):
        raise common.invalid(
            "Object policies are disabled for this bucket, because uniform bucket-level access is enabled."
        )
    return _object(call, verb)


def _policy(bucket: Doc, doc: Doc) -> Doc:
    members: dict[str, list[str]] = {}
    for entry in doc["acl"]:
        members.setdefault(permissions.OBJECT_ROLES[entry["role"]], []).append(access.member(bucket, entry["entity"]))
    return {
        "kind": "storage#policy",
        "resourceId": f"projects/_/buckets/{bucket['name']}/objects/{doc['name']}#{doc['generation']}",
        "version": 1,
        "etag": objects.counted(int(doc["metageneration"])),
        "bindings": [{"role": role, "members": sorted(who)} for role, who in sorted(members.items())],
    }


@SERVICE.method("storage.objects.getIamPolicy")
def get_policy(call: Call) -> Doc:
    return _policy(*_policy_object(call, "getIamPolicy"))


@SERVICE.method("storage.objects.setIamPolicy")
def set_policy(call: Call) -> Doc:
    bucket, doc = _policy_object(call, "setIamPolicy")
    given = call.body.get("etag", "").replace("-", "+").replace("_", "/")
    if given and given != objects.counted(int(doc["metageneration"])):
        raise common.unmet()
    roles = {role: short for short, role in permissions.OBJECT_ROLES.items()}
    entries: dict[str, str] = {}
    for binding in call.body.get("bindings", []):
        if binding.get("role") not in roles or "condition" in binding:
            raise common.invalid(f"Role {binding.get('role', '')} is not supported for this resource.")
        for member in binding.get("members", []):
            entity = _entity(bucket, member)
            if entries.get(entity) != "OWNER":
                entries[entity] = roles[binding["role"]]
    return _policy(bucket, _change(call, bucket, doc, [{"entity": e, "role": r} for e, r in entries.items()]))


def _entity(bucket: Doc, member: str) -> str:
    kind, _, rest = member.partition(":")
    for team, convenience in access.TEAMS.items():
        if kind == convenience and rest == bucket["_project"]:
            return f"project-{team}-{bucket['projectNumber']}"
    if kind in _KINDS and rest:
        return f"{_KINDS[kind]}-{rest}"
    if member in ("allUsers", "allAuthenticatedUsers"):
        return member
    raise common.invalid(f"Invalid member: {member}.")
