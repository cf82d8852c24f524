"""HMAC keys of service accounts, by which clients that speak S3 sign their requests.

https://cloud.google.com/storage/docs/authentication/hmackeys
"""

from __future__ import annotations

import base64
import secrets

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.storage import common, objects
from gcp_sandbox.services.storage.common import SERVICE, Doc

KIND = "storage.hmacKeys"
_C = "storage.projects.hmacKeys"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def active(app: Cloud, ident: str) -> Doc | None:
    """The key of an access id, with its secret as _secret; None where it cannot be used."""
    doc = app.store.peek(KIND, ident)
    return doc if doc and doc["state"] == "ACTIVE" else None


def _project(call: Call, verb: str) -> Doc:
    project = projects.find(call.app, call.params["projectId"])
    if project is None:
        raise common.invalid(f"Unknown project id: {call.params['projectId']}")
    permission = f"storage.hmacKeys.{verb}"
    if not call.app.iam.allows(call.principal, permission, project_resource(project["projectId"])):
        raise common.denied(call.principal, permission)
    return project


def _key(call: Call, project: Doc) -> Doc:
    doc = call.app.store.get(KIND, call.params["accessId"])
    if doc is None or doc["projectId"] != project["projectId"]:
        raise ApiError(404, "Access ID not found in project.", reason="notFound")
    return doc


def _shown(doc: Doc) -> Doc:
    return {k: v for k, v in doc.items() if not k.startswith("_")}


def _put(call: Call, doc: Doc) -> Doc:
    serial = doc.get("_serial", 0) + 1
    doc |= {"_serial": serial, "updated": objects.moment(), "etag": objects.counted(serial)}
    return _shown(call.app.store.put(KIND, doc["accessId"], doc))


@SERVICE.method(f"{_C}.create")
def create(call: Call) -> Doc:
    from gcp_sandbox.services.iam import accounts

    project = _project(call, "create")
    account = accounts.by_email(call.app, call.params["serviceAccountEmail"])
    if account is None or projects.of_account(call.app, account["email"]) != project:
        raise ApiError(404, f"Service Account '{call.params['serviceAccountEmail']}' not found.", reason="notFound")
    ident = "GOOG1E" + "".join(secrets.choice(_LETTERS) for _ in range(55))
    name = project["projectId"]
    secret = base64.b64encode(secrets.token_bytes(30)).decode()
    doc = {
        "kind": "storage#hmacKeyMetadata",
        "id": f"{name}/{ident}",
        "accessId": ident,
        "projectId": name,
        "state": "ACTIVE",
        "selfLink": f"https://www.googleapis.com/storage/v1/projects/{name}/hmacKeys/{ident}",
        "serviceAccountEmail": account["email"],
        "timeCreated": objects.moment(),
        "_secret": secret,
    }
    return {"kind": "storage#hmacKey", "secret": secret, "metadata": _put(call, doc)}


@SERVICE.method(f"{_C}.get")
def get(call: Call) -> Doc:
    return _shown(_key(call, _project(call, "get")))


@SERVICE.method(f"{_C}.list")
def list_(call: Call) -> Doc:
    project, whose = _project(call, "list"), call.params.get("serviceAccountEmail")
    after, most = call.params.get("pageToken", ""), call.params.get("maxResults") or 250
    found = [
        _shown(doc)
        for key, doc in call.app.store.list(KIND)
        if doc["projectId"] == project["projectId"]
        and key > after
        and (not whose or doc["serviceAccountEmail"] == whose)
        and (doc["state"] != "DELETED" or call.params.get("showDeletedKeys"))
    ]
    out: Doc = {"kind": "storage#hmacKeysMetadata"} | ({"items": found[:most]} if found else {})
    return out | ({"nextPageToken": found[most - 1]["accessId"]} if len(found) > most else {})


@SERVICE.method(f"{_C}.update")
def update(call: Call) -> Doc:
    doc = _key(call, _project(call, "update"))
    if call.body.get("etag", doc["etag"]) != doc["etag"]:
        raise common.unmet()
    state = call.body.get("state", "")
    if state not in ("ACTIVE", "INACTIVE"):
        raise common.invalid(f"Invalid HMAC key state: {state}.")
    if doc["state"] == "DELETED":
        raise common.invalid("Cannot update a deleted HMAC key.")
    return _put(call, doc | {"state": state})


@SERVICE.method(f"{_C}.delete")
def delete(call: Call) -> None:
    doc = _key(call, _project(call, "delete"))
    if doc["state"] != "INACTIVE":
        raise common.invalid(f"Cannot delete keys in '{doc['state']}' state.")
    _put(call, {k: v for k, v in doc.items() if k != "_secret"} | {"state": "DELETED"})
