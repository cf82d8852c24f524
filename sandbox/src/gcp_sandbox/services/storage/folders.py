"""Folders of buckets with a hierarchical namespace, and managed folders, which have a policy of their own.

https://cloud.google.com/storage/docs/folders-overview, https://cloud.google.com/storage/docs/managed-folders
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import LONGRUNNING, Operation
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.storage import access, common, objects, upload
from gcp_sandbox.services.storage.common import SERVICE, Doc, bucket_of, full_name, require
from gcp_sandbox.services.storage.objects import Objects

_TYPE = "type.googleapis.com/google.storage.control.v2."
_O = "storage.buckets.operations"


def kind(bucket: Doc, of: str) -> str:
    """Store kind of a bucket's "folders" or "managedFolders"."""
    return f"storage.{of}:{bucket['_uid']}"


def hierarchical(bucket: Doc) -> bool:
    """Whether a bucket has folders."""
    return bool(bucket.get("hierarchicalNamespace", {}).get("enabled"))


def _slashed(name: str) -> str:
    return name if name.endswith("/") else f"{name}/"


def _parents(name: str) -> Iterator[str]:
    """Names of the folders that a folder or object is in, the outermost first."""
    parts = name.rstrip("/").split("/")[:-1]
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count]) + "/"


def _put(app: Cloud, bucket: Doc, of: str, name: str) -> Doc:
    stamp = objects.moment()
    one = {"folders": "folder", "managedFolders": "managedFolder"}[of]
    doc = {
        "kind": f"storage#{one}",
        "id": f"{bucket['name']}/{name}",
        "name": name,
        "bucket": bucket["name"],
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{bucket['name']}/{of}/{quote(name, safe='')}",
        "metageneration": "1",
        "createTime": stamp,
        "updateTime": stamp,
    }
    return app.store.put(kind(bucket, of), name, doc)


def _find(call: Call, of: str, permission: str, parameter: str, prefix: str = "if") -> tuple[Doc, Doc]:
    """Bucket and folder of a call.  Raises ApiError."""
    bucket, name = bucket_of(call.app, call.params["bucket"]), _slashed(call.params[parameter])
    require(call.app, call.principal, permission, bucket, name=name)
    doc = call.app.store.get(kind(bucket, of), name)
    if doc is None:
        what = "managed folder" if of == "managedFolders" else "folder"
        raise ApiError(404, f"The specified {what} does not exist.", reason="notFound")
    common.guard(call.params, None, doc["metageneration"], prefix)
    return bucket, doc


def _listed(call: Call, of: str, found: list[Doc]) -> Doc:
    after, most = call.params.get("pageToken", ""), call.params.get("pageSize") or 1000
    left = [doc for doc in found if doc["name"] > after]
    out: Doc = {"kind": f"storage#{of}"} | ({"items": left[:most]} if left else {})
    return out | ({"nextPageToken": left[most - 1]["name"]} if len(left) > most else {})


# -- what other modules ask ------------------------------------------------


def managed_above(app: Cloud, bucket: Doc, name: str) -> list[str]:
    """Full names, for policies, of the managed folders that a name or prefix is in."""
    return [
        f"{full_name(bucket['name'])}/managedFolders/{key}"
        for key, _ in app.store.list(kind(bucket, "managedFolders"))
        if name.startswith(key)
    ]


def ensure(app: Cloud, bucket: Doc, name: str) -> None:
    """Make the folders that an object of a hierarchical bucket is in."""
    if hierarchical(bucket):
        for parent in _parents(name):
            if app.store.peek(kind(bucket, "folders"), parent) is None:
                _put(app, bucket, "folders", parent)


def empty(app: Cloud, bucket: Doc) -> bool:
    """Whether a bucket has no folders of either kind."""
    return not any(app.store.list(kind(bucket, of)) for of in ("folders", "managedFolders"))


def prefixes(app: Cloud, bucket: Doc, prefix: str) -> list[str]:
    """Folders of either kind directly below a prefix, as a listing with a delimiter shows them."""
    names = {key for of in ("folders", "managedFolders") for key, _ in app.store.list(kind(bucket, of), prefix)}
    return sorted({name[: name.index("/", len(prefix)) + 1] for name in names if "/" in name[len(prefix) :]})


# -- folders ---------------------------------------------------------------


@SERVICE.method("storage.folders.insert")
def insert(call: Call) -> Doc:
    bucket, name = bucket_of(call.app, call.params["bucket"]), call.body.get("name", "")
    upload.check_name(name)
    name = _slashed(name)
    require(call.app, call.principal, "storage.folders.create", bucket, name=name)
    if not hierarchical(bucket):
        raise common.conflict("The bucket does not support hierarchical namespace.")
    store, own = call.app.store, kind(bucket, "folders")
    if store.peek(own, name) is not None:
        raise common.conflict("The folder you tried to create already exists.")
    if not call.params.get("recursive") and any(store.peek(own, parent) is None for parent in _parents(name)):
        raise common.conflict("The parent folder does not exist.")
    with store.atomic():
        ensure(call.app, bucket, name)
        return _put(call.app, bucket, "folders", name)


@SERVICE.method("storage.folders.get")
def get(call: Call) -> Doc:
    return _find(call, "folders", "storage.folders.get", "folder")[1]


@SERVICE.method("storage.folders.list")
def list_(call: Call) -> Doc:
    bucket, prefix = bucket_of(call.app, call.params["bucket"]), call.params.get("prefix", "")
    require(call.app, call.principal, "storage.folders.list", bucket, below=prefix)
    begin, end = call.params.get("startOffset", ""), call.params.get("endOffset", "")
    found = [
        doc
        for name, doc in call.app.store.list(kind(bucket, "folders"), prefix)
        if name >= begin
        and (not end or name < end)
        and not (call.params.get("delimiter") and "/" in name[len(prefix) :].rstrip("/"))
    ]
    return _listed(call, "folders", found)


@SERVICE.method("storage.folders.delete")
def delete(call: Call) -> None:
    bucket, doc = _find(call, "folders", "storage.folders.delete", "folder")
    name, store = doc["name"], call.app.store
    if len(store.list(kind(bucket, "folders"), name)) > 1 or Objects(call.app, bucket).below(name):
        raise common.conflict("The folder you tried to delete is not empty.")
    store.delete(kind(bucket, "folders"), name)


@SERVICE.method("storage.folders.deleteRecursive")
def delete_recursive(call: Call) -> Doc:
    bucket, doc = _find(call, "folders", "storage.folders.delete", "folder")
    found = Objects(call.app, bucket)
    for inner in found.below(doc["name"]):
        require(call.app, call.principal, "storage.objects.delete", bucket, name=inner["name"])
        upload.held(bucket, inner)
    for inner in found.below(doc["name"]):
        found.delete(dict(inner), by_generation=False)
    for key, _ in call.app.store.list(kind(bucket, "folders"), doc["name"]):
        call.app.store.delete(kind(bucket, "folders"), key)
    return started(call, bucket, "DeleteFolderRecursive", {"folderId": doc["name"]}, "google.protobuf.Empty", {})


@SERVICE.method("storage.folders.rename")
def rename(call: Call) -> Doc:
    bucket, doc = _find(call, "folders", "storage.folders.rename", "sourceFolder", "ifSource")
    old, new = doc["name"], _slashed(call.params["destinationFolder"])
    require(call.app, call.principal, "storage.folders.create", bucket, name=new)
    upload.check_name(new)
    store, own = call.app.store, kind(bucket, "folders")
    if new.startswith(old):
        raise common.invalid("A folder cannot be moved into itself.")
    if store.peek(own, new) is not None:
        raise common.conflict("The folder you tried to create already exists.")
    if any(store.peek(own, parent) is None for parent in _parents(new)):
        raise common.conflict("The parent folder does not exist.")
    with store.atomic():
        for key, _ in store.list(own, old):
            store.delete(own, key)
            _put(call.app, bucket, "folders", new + key.removeprefix(old))
        Objects(call.app, bucket).rename(old, new)
    made = {"name": f"projects/_/buckets/{bucket['name']}/folders/{new}"}
    return started(
        call, bucket, "RenameFolder", {"sourceFolderId": old, "destinationFolderId": new}, f"{_TYPE}Folder", made
    )


# -- operations ------------------------------------------------------------


def started(call: Call, bucket: Doc, what: str, about: Doc, type_: str, response: Doc) -> Doc:
    """Answer with an operation whose work is done.  type_: of its response, which has these fields."""
    name = f"projects/_/buckets/{bucket['name']}"
    op = call.operation(
        what,
        name,
        scope=name,
        latency="",
        metadata={"@type": f"{_TYPE}{what}Metadata"} | about,
        response={"@type": type_ if "/" in type_ else f"type.googleapis.com/{type_}"} | response,
    )
    return shown(op)


def shown(op: Operation | Doc) -> Doc:
    """An operation as this API answers it."""
    out = LONGRUNNING.render(Operation(op), SERVICE.host)
    _, _, _, bucket, _, ident = out["name"].split("/")
    link = f"https://www.googleapis.com/storage/v1/b/{bucket}/operations/{ident}"
    return {"kind": "storage#operation", "selfLink": link, "done": False} | out


def _operations(call: Call) -> list[Operation]:
    bucket = bucket_of(call.app, call.params["bucket"])
    require(call.app, call.principal, "storage.buckets.get", bucket)
    return call.app.operations.all(service="storage", scope=f"projects/_/buckets/{bucket['name']}")


@SERVICE.method(f"{_O}.get")
def get_operation(call: Call) -> Doc:
    for op in _operations(call):
        if op["id"] == call.params["operationId"]:
            return shown(op)
    raise ApiError(404, "The specified operation does not exist.", reason="notFound")


@SERVICE.method(f"{_O}.list")
def list_operations(call: Call) -> Doc:
    return {"kind": "storage#operations", "operations": [shown(op) for op in _operations(call)]}


# -- managed folders -------------------------------------------------------


@SERVICE.method("storage.managedFolders.insert")
def insert_managed(call: Call) -> Doc:
    bucket, name = bucket_of(call.app, call.params["bucket"]), call.body.get("name", "")
    upload.check_name(name)
    name = _slashed(name)
    require(call.app, call.principal, "storage.managedFolders.create", bucket, name=name)
    if not access.uniform(bucket):
        raise common.conflict("Managed folders need a bucket with uniform bucket-level access.")
    if call.app.store.peek(kind(bucket, "managedFolders"), name) is not None:
        raise common.conflict("The managed folder you tried to create already exists.")
    ensure(call.app, bucket, f"{name}-")
    return _put(call.app, bucket, "managedFolders", name)


@SERVICE.method("storage.managedFolders.get")
def get_managed(call: Call) -> Doc:
    return _find(call, "managedFolders", "storage.managedFolders.get", "managedFolder")[1]


@SERVICE.method("storage.managedFolders.list")
def list_managed(call: Call) -> Doc:
    bucket, prefix = bucket_of(call.app, call.params["bucket"]), call.params.get("prefix", "")
    require(call.app, call.principal, "storage.managedFolders.list", bucket, below=prefix)
    found = [doc for _, doc in call.app.store.list(kind(bucket, "managedFolders"), prefix)]
    return _listed(call, "managedFolders", found)


@SERVICE.method("storage.managedFolders.delete")
def delete_managed(call: Call) -> None:
    bucket, doc = _find(call, "managedFolders", "storage.managedFolders.delete", "managedFolder")
    if not call.params.get("allowNonEmpty") and Objects(call.app, bucket).below(doc["name"]):
        raise common.conflict("The managed folder you tried to delete is not empty.")
    call.app.store.delete(kind(bucket, "managedFolders"), doc["name"])
    call.app.iam.drop(_full_name(bucket, doc))


def _full_name(bucket: Doc, doc: Doc) -> str:
    return f"{full_name(bucket['name'])}/managedFolders/{doc['name']}"


@SERVICE.method("storage.managedFolders.getIamPolicy")
def get_policy(call: Call) -> Doc:
    bucket, doc = _find(call, "managedFolders", "storage.managedFolders.getIamPolicy", "managedFolder")
    return access.current_policy(call, _full_name(bucket, doc), call.params.get("optionsRequestedPolicyVersion", 1))


@SERVICE.method("storage.managedFolders.setIamPolicy")
def set_policy(call: Call) -> Doc:
    bucket, doc = _find(call, "managedFolders", "storage.managedFolders.setIamPolicy", "managedFolder")
    return access.replace_policy(call, bucket, _full_name(bucket, doc))


@SERVICE.method("storage.managedFolders.testIamPermissions")
def test_permissions(call: Call) -> Doc:
    bucket, doc = _find(call, "managedFolders", "storage.managedFolders.get", "managedFolder")
    asked = call.params.get("permissions", [])
    have = [p for p in asked if common.allows(call.app, call.principal, p, bucket, name=doc["name"])]
    return {"kind": "storage#testIamPermissionsResponse"} | ({"permissions": have} if have else {})


def forget(call: Call, bucket: Doc) -> None:
    """The bucket is gone, and with it its managed folders (its folders keep a bucket from being deleted)."""
    for of in ("folders", "managedFolders"):
        for key, doc in call.app.store.list(kind(bucket, of)):
            call.app.store.delete(kind(bucket, of), key)
            call.app.iam.drop(_full_name(bucket, doc))
