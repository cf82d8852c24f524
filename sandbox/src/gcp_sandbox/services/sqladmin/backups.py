"""Methods of sql.backupRuns, and restoring from them: a backup is a dump of roles and databases.

https://cloud.google.com/sql/docs/postgres/backup-recovery/backups
"""

from __future__ import annotations

import time
from pathlib import Path

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.sqladmin import common, final, refusals
from gcp_sandbox.services.sqladmin.common import SERVICE, Doc
from gcp_sandbox.services.sqladmin.plane import postgres
from gcp_sandbox.services.sqladmin.plane.servers import KIND, plane, served
from gcp_sandbox.services.sqladmin.records import inside, put_inside

RUNS = "sqladmin.backupRuns"


def _file(cloud: Cloud, uid: str, run: str) -> Path:
    return cloud.folder / "sql" / uid / "backups" / f"{run}.sql"


def _run(call: Call) -> tuple[str, Doc]:
    common.instance(call)
    key = f"{common.instance_key(call)}/backupRuns/{call.params['id']}"
    doc = call.cloud.store.get(RUNS, key)
    if doc is None:
        raise ApiError(404, "The backup run does not exist.", reason="backupRunDoesNotExist")
    return key, doc


@SERVICE.method("sql.backupRuns.insert", permission="cloudsql.backupRuns.create")
def insert(call: Call) -> Doc:
    instance = common.runnable(call)
    ident, stamp = str(int(time.time() * 1000)), now(digits=3)
    key = f"{common.instance_key(call)}/backupRuns/{ident}"
    call.cloud.store.put(
        RUNS,
        key,
        {
            "kind": "sql#backupRun",
            "id": ident,
            "instance": instance["name"],
            "status": "ENQUEUED",
            "type": "ON_DEMAND",
            "backupKind": "SNAPSHOT",
            "databaseVersion": instance["databaseVersion"],
            "enqueuedTime": stamp,
            "windowStartTime": stamp,
            "location": call.body.get("location", instance["region"].partition("-")[0][:2]),
            "selfLink": f"{instance['selfLink']}/backupRuns/{ident}",
            "_uid": instance["_uid"],
        }
        | ({"description": call.body["description"]} if call.body.get("description") else {}),
    )
    return common.start(
        call,
        "BACKUP_VOLUME",
        instance["name"],
        "backup",
        args={"key": key, "instance": common.instance_key(call)},
        latency="sqladmin.backupRuns",
        extra={"backupContext": {"kind": "sql#backupContext", "backupId": ident}},
    )


@SERVICE.action("backup")
async def back_up(cloud: Cloud, op: Doc) -> None:
    """Create the backup, with the records of its users and databases."""
    doc, instance = cloud.store.get(RUNS, op["args"]["key"]), cloud.store.peek(KIND, op["args"]["instance"])
    if doc is None or instance is None:
        return
    doc["startTime"] = now(digits=3)
    if served(instance):
        try:
            await plane(cloud).server(instance).dump(_file(cloud, instance["_uid"], doc["id"]))
        except postgres.SqlError as error:
            cloud.store.put(RUNS, op["args"]["key"], doc | {"status": "FAILED"})
            raise ApiError(500, f"Backup failed: {error.message}", reason="INTERNAL_ERROR") from error
    done = {"status": "SUCCESSFUL", "endTime": now(digits=3), "_inside": inside(cloud, op["args"]["instance"])}
    cloud.store.put(RUNS, op["args"]["key"], doc | done)


@SERVICE.method("sql.backupRuns.get", permission="cloudsql.backupRuns.get")
def get(call: Call) -> Doc:
    return common.shown(call, _run(call)[1])


@SERVICE.method("sql.backupRuns.list", permission="cloudsql.backupRuns.list")
def list_(call: Call) -> Doc:
    common.instance(call)
    found = [doc for _, doc in call.cloud.store.list(RUNS, f"{common.instance_key(call)}/backupRuns/")]
    return common.items(call, "sql#backupRunsList", found[::-1])


@SERVICE.method("sql.backupRuns.delete", permission="cloudsql.backupRuns.delete")
def delete(call: Call) -> Doc:
    instance = common.idle(call)
    key, doc = _run(call)
    _file(call.cloud, doc["_uid"], doc["id"]).unlink(missing_ok=True)
    call.cloud.store.delete(RUNS, key)
    context = {"backupContext": {"kind": "sql#backupContext", "backupId": doc["id"]}}
    return common.finished(call, "DELETE_BACKUP", instance["name"], extra=context)


@SERVICE.method("sql.instances.restoreBackup", permission="cloudsql.instances.restoreBackup")
def restore(call: Call) -> Doc:
    instance = common.runnable(call)
    if call.body.get("backup"):
        name = call.body["backup"]
        _check_version(instance, final.find(call.cloud, name))
        return _start_restore(call, instance, {"backup": name})
    context = call.body.get("restoreBackupContext", {})
    source = context.get("instanceId") or instance["name"]
    key = f"projects/{context.get('project') or call.project_id}/instances/{source}/backupRuns/{context.get('backupRunId', '')}"
    run = call.cloud.store.peek(RUNS, key)
    if run is None or run["status"] != "SUCCESSFUL":
        raise ApiError(404, "The backup run does not exist.", reason="backupRunDoesNotExist")
    _check_version(instance, run)
    return _start_restore(call, instance, {"run": key})


def _check_version(instance: Doc, backup: Doc) -> None:
    if served(instance) and postgres.installed(backup["databaseVersion"]) > postgres.installed(
        instance["databaseVersion"]
    ):
        raise refusals.invalid("A backup of a newer database version cannot be restored.")


def _start_restore(call: Call, instance: Doc, source: Doc) -> Doc:
    return common.start(
        call,
        "RESTORE_VOLUME",
        instance["name"],
        "restore",
        args={**source, "instance": common.instance_key(call)},
        latency="sqladmin.instances.restoreBackup",
    )


@SERVICE.action("restore")
async def put_back(cloud: Cloud, op: Doc) -> None:
    """Restore the backup into the instance."""
    key = op["args"]["instance"]
    if name := op["args"].get("backup"):
        return await final.put_back(cloud, name, key)
    run, instance = cloud.store.peek(RUNS, op["args"]["run"]), cloud.store.peek(KIND, key)
    if run is None or instance is None:
        return
    if served(instance):
        await plane(cloud).restore(key, _file(cloud, run["_uid"], run["id"]))
    source = op["args"]["run"].rpartition("/backupRuns/")[0]
    put_inside(cloud, run["_inside"], source, key)
