"""Final backups: taken when an instance is deleted, and kept after it for some days.

https://cloud.google.com/sql/docs/postgres/backup-recovery/backups#final-backup
"""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.sqladmin import common, refusals
from gcp_sandbox.services.sqladmin.common import SERVICE, Doc
from gcp_sandbox.services.sqladmin.plane import postgres
from gcp_sandbox.services.sqladmin.plane.servers import KIND, plane, served
from gcp_sandbox.services.sqladmin.records import inside, put_inside

BACKUPS = "sqladmin.backups"
_DEFAULT_DAYS, _MOST_DAYS = 30, 365


def wanted(call: Call) -> Doc | None:
    """The days and the description of the final backup that a deletion asks for.  Raises ApiError 400."""
    if not call.params.get("enableFinalBackup"):
        return None
    common.runnable(call)
    days = int(call.params.get("finalBackupTtlDays") or _DEFAULT_DAYS)
    if not 1 <= days <= _MOST_DAYS:
        raise refusals.invalid(f"The retention period of a final backup must be between 1 and {_MOST_DAYS} days.")
    return {"days": days, "description": call.params.get("finalBackupDescription", "")}


def _folder(cloud: Cloud, ident: str) -> Path:
    return cloud.folder / "sql" / "final" / ident


async def take(cloud: Cloud, key: str, instance: Doc, asked: Doc) -> None:
    """Back up an instance that is being deleted.  Raises ApiError."""
    ident = str(uuid.uuid4())
    if served(instance):
        server = plane(cloud).server(instance)
        try:
            await server.dump(_folder(cloud, ident) / "dump.sql")
        except postgres.SqlError as error:
            raise ApiError(500, f"Final backup failed: {error.message}", reason="INTERNAL_ERROR") from error
        # The dump sets the password of the sandbox's own role.
        _folder(cloud, ident).joinpath("admin.pgpass").write_bytes(server.folder.joinpath("admin.pgpass").read_bytes())
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=asked["days"])
    name = f"{key.partition('/instances/')[0]}/backups/{ident}"
    doc = {
        "kind": "sql#backup",
        "name": name,
        "selfLink": f"https://sqladmin.googleapis.com/sql/v1beta4/{name}",
        "type": "FINAL",
        "state": "SUCCESSFUL",
        "backupKind": "SNAPSHOT",
        "instance": instance["name"],
        "databaseVersion": instance["databaseVersion"],
        "location": instance["region"].partition("-")[0][:2],
        "instanceDeletionTime": now(digits=3),
        "expiryTime": expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "backupInterval": {"endTime": now(digits=3)},
        "instanceSettings": instance,
        "_inside": inside(cloud, key),
        "_source": key,
    }
    cloud.store.put(BACKUPS, name, doc | ({"description": asked["description"]} if asked["description"] else {}))


def find(cloud: Cloud, name: str) -> Doc:
    """The backup with a name (projects/P/backups/ID), read-only.  Raises ApiError 404."""
    doc = cloud.store.peek(BACKUPS, name)
    if doc is None or doc["expiryTime"] < now():
        raise ApiError(404, "The backup does not exist.", reason="backupDoesNotExist")
    return doc


async def put_back(cloud: Cloud, name: str, key: str) -> None:
    """Restore a backup into an instance."""
    doc, instance = find(cloud, name), cloud.store.peek(KIND, key)
    if instance is None:
        return
    if served(instance):
        folder = _folder(cloud, name.rpartition("/")[2])
        server = plane(cloud).server(instance)
        server.folder.joinpath("admin.pgpass").write_bytes(folder.joinpath("admin.pgpass").read_bytes())
        await plane(cloud).restore(key, folder / "dump.sql")
    put_inside(cloud, doc["_inside"], doc["_source"], key)


def _name(call: Call) -> str:
    return f"projects/{call.project_id}/backups/{call.params['name'].rpartition('/')[2]}"


@SERVICE.method("sql.Backups.GetBackup", permission="cloudsql.backupRuns.get")
def get(call: Call) -> Doc:
    return common.shown(call, find(call.cloud, _name(call)))


@SERVICE.method("sql.Backups.ListBackups", permission="cloudsql.backupRuns.list")
def list_(call: Call) -> Doc:
    if call.params.get("filter"):
        raise ApiError(501, "The sandbox does not filter backups.", reason="notImplemented")
    found = [doc for _, doc in call.cloud.store.list(BACKUPS, f"projects/{call.project_id}/backups/")]
    backups: list[Any] = [common.shown(call, doc) for doc in found if doc["expiryTime"] > now()]
    return {"backups": backups} if backups else {}


@SERVICE.method("sql.Backups.DeleteBackup", permission="cloudsql.backupRuns.delete")
def delete(call: Call) -> Doc:
    name = _name(call)
    doc = find(call.cloud, name)
    for file in ("dump.sql", "admin.pgpass"):
        (_folder(call.cloud, name.rpartition("/")[2]) / file).unlink(missing_ok=True)
    call.cloud.store.delete(BACKUPS, name)
    return common.finished(call, "DELETE_BACKUP", doc["instance"])
