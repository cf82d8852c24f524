"""Methods of sql.databases and sql.users: the contents of an instance."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.sqladmin import common, refusals
from gcp_sandbox.services.sqladmin.common import SERVICE, Doc
from gcp_sandbox.services.sqladmin.plane import postgres, users
from gcp_sandbox.services.sqladmin.plane.servers import KIND, owned, plane

DATABASES, USERS = "sqladmin.databases", "sqladmin.users"
_PASSWORDLESS = ("CLOUD_IAM_USER", "CLOUD_IAM_SERVICE_ACCOUNT", "CLOUD_IAM_GROUP")


def _inside(call: Call) -> str:
    """Store key of the instance whose databases and users an instance shows: for a replica, its primary."""
    doc = common.instance(call)
    name = str(doc.get("masterInstanceName", doc["name"])).rpartition(":")[2]
    return f"projects/{call.project_id}/instances/{name}"


def _writable(call: Call) -> Doc:
    """The instance, for a change in the database.  Raises ApiError 400 for a replica."""
    doc = common.runnable(call)
    if "masterInstanceName" in doc:
        raise refusals.invalid("This operation is not valid for a read replica.")
    return doc


async def _sql(call: Call, doc: Doc, statement: str) -> list[list[str]]:
    """Rows that a statement returns on the instance's server.  Raises SqlError."""
    return await plane(call.cloud).server(doc).sql(statement)


# -- databases -------------------------------------------------------------


def _database_key(call: Call) -> str:
    return f"{_inside(call)}/databases/{call.params['database']}"


def _database(call: Call) -> Doc:
    doc = call.cloud.store.get(DATABASES, _database_key(call))
    if doc is None:
        raise ApiError(404, "Not Found", reason="notFound", status="NOT_FOUND")
    return doc


def _shown_database(call: Call, doc: Doc) -> Doc:
    instance = call.params["instance"]
    link = f"https://sqladmin.googleapis.com/sql/v1beta4/projects/{call.project_id}/instances/{instance}/databases/{doc['name']}"
    etag = hashlib.sha256(repr(sorted(doc.items())).encode()).hexdigest()
    return common.shown(
        call,
        doc
        | {"kind": "sql#database", "instance": instance, "project": call.project_id, "selfLink": link, "etag": etag},
    )


def _link(call: Call, name: str) -> dict[str, str]:
    base = f"https://sqladmin.googleapis.com/sql/v1beta4/projects/{call.project_id}/instances/{call.params['instance']}"
    return {"targetLink": f"{base}/databases/{name}"}


@SERVICE.method("sql.databases.get", permission="cloudsql.databases.get")
def get_database(call: Call) -> Doc:
    return _shown_database(call, _database(call))


@SERVICE.method("sql.databases.list", permission="cloudsql.databases.list")
def list_databases(call: Call) -> Doc:
    found = call.cloud.store.list(DATABASES, f"{_inside(call)}/databases/")
    out: Doc = {"kind": "sql#databasesList"}
    return out | ({"items": [_shown_database(call, doc) for _, doc in found]} if found else {})


@SERVICE.method("sql.databases.insert", permission="cloudsql.databases.create")
async def insert_database(call: Call) -> Doc:
    instance = _writable(call)
    name = call.body.get("name", "")
    if not name or "\0" in name:
        raise refusals.invalid("Missing parameter: database name.")
    key = f"{common.instance_key(call)}/databases/{name}"
    charset = call.body.get("charset", "UTF8")
    collation = call.body.get("collation", "en_US.UTF8")
    if charset.upper() not in ("UTF8", "UTF-8"):
        raise refusals.invalid(f"Charset {charset} is not supported for PostgreSQL: it must be UTF8.")
    if call.cloud.store.peek(DATABASES, key):
        raise refusals.invalid(f'failed to create database {name}. Detail: pq: database "{name}" already exists.')
    try:
        await _sql(call, instance, owned(name))
    except postgres.SqlError as error:
        raise refusals.invalid(f"failed to create database {name}. Detail: pq: {error.message}.") from error
    call.cloud.store.put(DATABASES, key, {"name": name, "charset": charset, "collation": collation})
    return common.finished(call, "CREATE_DATABASE", instance["name"], extra=_link(call, name))


@SERVICE.method("sql.databases.patch", "sql.databases.update", permission="cloudsql.databases.update")
def update_database(call: Call) -> Doc:
    instance = _writable(call)
    doc = _database(call)
    if any(call.body.get(k, doc[k]) != doc[k] for k in ("charset", "collation")):
        raise refusals.invalid("The charset and collation of a PostgreSQL database cannot be changed.")
    return common.finished(call, "UPDATE_DATABASE", instance["name"], extra=_link(call, doc["name"]))


@SERVICE.method("sql.databases.delete", permission="cloudsql.databases.delete")
async def delete_database(call: Call) -> Doc:
    instance = _writable(call)
    doc = _database(call)
    name = doc["name"]
    await _unused(call, instance, name)
    return common.start(
        call,
        "DELETE_DATABASE",
        instance["name"],
        "database",
        extra=_link(call, name),
        args={"key": _database_key(call), "instance": common.instance_key(call), "drop": name},
    )


async def _unused(call: Call, instance: Doc, name: str) -> None:
    """Reject dropping a database with connected clients."""
    counted = "SELECT count(*) FROM pg_stat_activity WHERE datname = "
    rows = await _sql(call, instance, counted + postgres.literal(name))
    if rows[0][0] != "0":
        raise _drop_failed(name, f'database "{name}" is being accessed by other users')


def _drop_failed(name: str, detail: str) -> ApiError:
    return refusals.invalid(
        f'failed to delete database "{name}". Detail: pq: {detail}. (Please use psql client to delete database that is '
        'not owned by "cloudsqlsuperuser").'
    )


@SERVICE.action("database")
async def drop_database(cloud: Cloud, op: Doc) -> None:
    """Drop a database."""
    args = op["args"]
    instance = cloud.store.peek(KIND, args["instance"])
    if instance is None:
        return
    try:
        await plane(cloud).server(instance).sql(f"DROP DATABASE IF EXISTS {postgres.identifier(args['drop'])}")
    except postgres.SqlError as error:
        raise _drop_failed(args["drop"], error.message) from error
    cloud.store.delete(DATABASES, args["key"])


# -- users -----------------------------------------------------------------


def _shown_user(call: Call, doc: Doc) -> Doc:
    out: Doc = {
        "kind": "sql#user",
        "etag": hashlib.sha256(repr(sorted(doc.items())).encode()).hexdigest(),
        "instance": call.params["instance"],
        "project": call.project_id,
        "iamStatus": "IAM_STATUS_UNSPECIFIED",
    }
    if doc.get("type", "BUILT_IN") not in _PASSWORDLESS:
        out["passwordPolicy"] = {"status": {}}
    return out | {k: v for k, v in doc.items() if not k.startswith("_")}


def _policy(given: Doc) -> Doc:
    """A user's password rules, with the time when the current password expires."""
    status = {k: v for k, v in given.get("status", {}).items() if k == "locked"}
    if given.get("passwordExpirationDuration"):
        ends = time.time() + float(given["passwordExpirationDuration"].removesuffix("s"))
        try:
            status["passwordExpirationTime"] = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        except (ValueError, OverflowError):
            raise refusals.invalid("The password expiration duration is too long.") from None
    return given | {"status": status}


def _user_key(call: Call, name: str) -> str:
    return f"{_inside(call)}/users/{name}@"


def _find_user(call: Call, name: str) -> Doc:
    """A copy of a user's record.  Raises ApiError 404."""
    doc = call.cloud.store.get(USERS, _user_key(call, name))
    if doc is None:
        raise ApiError(404, f"User {name} does not exist.", reason="userDoesNotExist")
    return doc


@SERVICE.method("sql.users.list", permission="cloudsql.users.list")
def list_users(call: Call) -> Doc:
    found = call.cloud.store.list(USERS, f"{_inside(call)}/users/")
    out: Doc = {"kind": "sql#usersList"}
    return out | ({"items": [_shown_user(call, doc) for _, doc in found]} if found else {})


@SERVICE.method("sql.users.get", permission="cloudsql.users.get")
def get_user(call: Call) -> Doc:
    doc = call.cloud.store.peek(USERS, _user_key(call, call.params["name"]))
    if doc is None:
        raise ApiError(404, "Not Found", reason="notFound", status="NOT_FOUND")
    return _shown_user(call, doc)


@SERVICE.method("sql.users.insert", permission="cloudsql.users.create")
async def insert_user(call: Call) -> Doc:
    instance = _writable(call)
    body = call.body
    name, kind = body.get("name", ""), body.get("type", "BUILT_IN")
    _check_name(name, kind)
    if kind in _PASSWORDLESS:
        flag = "cloudsql.iam_authentication"
        flags = {f["name"]: f.get("value") for f in instance["settings"].get("databaseFlags", [])}
        if flags.get(flag) != "on":
            raise refusals.invalid(f"The instance must have the flag {flag} on to add IAM users.")
        if "password" in body:
            raise refusals.invalid("IAM users cannot have a password.")
    elif body.get("password"):
        refusals.password(instance, name, body["password"])
    doc: Doc = {"name": name, "host": ""} | ({"type": kind} if kind != "BUILT_IN" else {})
    if "passwordPolicy" in body:
        doc["passwordPolicy"] = _policy(body["passwordPolicy"])
    verifier = postgres.verifier(body["password"]) if body.get("password") else ""
    try:
        await _sql(call, instance, users.create(name, verifier, superuser=kind == "BUILT_IN"))
    except postgres.SqlError as error:
        raise refusals.invalid(f"failed to create user {name}: {error.message}.") from error
    call.cloud.store.put(USERS, _user_key(call, name), doc)
    return common.finished(call, "CREATE_USER", instance["name"])


def _check_name(name: str, kind: str) -> None:
    if not name or "\0" in name:
        raise refusals.invalid("Missing parameter: user name.")
    if len(name.encode()) > 63 and kind == "BUILT_IN":
        raise refusals.invalid(f"User name {name} is too long.")
    if name.startswith(("cloudsql", "pg_")) or name == "public":
        raise refusals.invalid(f"User name {name} is reserved.")


@SERVICE.method("sql.users.update", permission="cloudsql.users.update")
async def update_user(call: Call) -> Doc:
    instance = _writable(call)
    name = call.params.get("name") or call.body.get("name", "")
    doc = _find_user(call, name)
    if call.body.get("password"):
        refusals.password(instance, name, call.body["password"])
        try:
            await _sql(call, instance, users.password(name, postgres.verifier(call.body["password"])))
        except postgres.SqlError as error:
            raise refusals.invalid(f"failed to update user {name}: {error.message}.") from error
    if "passwordPolicy" in call.body:
        call.cloud.store.put(
            USERS, _user_key(call, name), doc | {"passwordPolicy": _policy(call.body["passwordPolicy"])}
        )
    return common.finished(call, "UPDATE_USER", instance["name"])


@SERVICE.method("sql.users.delete", permission="cloudsql.users.delete")
async def delete_user(call: Call) -> Doc:
    instance = _writable(call)
    name = call.params.get("name", "")
    _find_user(call, name)
    try:
        await _sql(call, instance, users.drop(name))
    except postgres.SqlError as error:
        details = f" Details: {error.detail}" if error.detail else ""
        raise refusals.invalid(f"failed to delete user {name}: . {error.message}{details}.") from error
    call.cloud.store.delete(USERS, _user_key(call, name))
    return common.finished(call, "DELETE_USER", instance["name"])
