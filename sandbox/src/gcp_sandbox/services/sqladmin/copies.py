"""Clones and replicas of instances: a clone has the data, a replica is only a record until it is promoted.

https://cloud.google.com/sql/docs/postgres/clone-instance, https://cloud.google.com/sql/docs/postgres/replication
"""

from __future__ import annotations

import copy
import secrets
from datetime import UTC, datetime

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.sqladmin import certificates, common, contents, instances, refusals
from gcp_sandbox.services.sqladmin.common import SERVICE, Doc
from gcp_sandbox.services.sqladmin.plane import postgres
from gcp_sandbox.services.sqladmin.plane.servers import KIND, plane, recoverable, served
from gcp_sandbox.services.sqladmin.records import inside, put_inside

# Roles and a database that every server has, and that the API does not show.
_OF_CLOUD_SQL = {postgres.ADMIN, "cloudsqlsuperuser", "cloudsqlreplica"}


@SERVICE.method("sql.instances.clone", permission="cloudsql.instances.clone")
def clone(call: Call) -> Doc:
    source = common.runnable(call)
    name = call.body.get("cloneContext", {}).get("destinationInstanceName", "")
    refusals.name(call.project_id, name)
    key = f"projects/{call.project_id}/instances/{name}"
    instances.free(call.cloud, key)
    if "masterInstanceName" in source:
        raise refusals.invalid("A replica cannot be cloned.")
    moment = _moment(call, source)
    doc = copy.deepcopy(source)
    ca, ca_key = certificates.authority()
    doc |= {
        "name": name,
        "connectionName": f"{call.project_id}:{doc['region']}:{name}",
        "createTime": now(digits=3),
        "selfLink": source["selfLink"].removesuffix(source["name"]) + name,
        "state": "PENDING_CREATE",
        "serverCaCert": certificates.described(ca, name),
        "_caKey": ca_key,
        "_uid": secrets.token_hex(8),
    }
    for gone in ("ipAddresses", "replicaNames"):
        doc.pop(gone, None)
    instances.stamped(doc, 1)
    call.cloud.store.put(KIND, key, doc)
    return common.start(
        call,
        "CLONE",
        name,
        "clone",
        args={"key": key, "source": common.instance_key(call), "moment": moment and moment.isoformat()},
        latency="sqladmin.instances.insert",
    )


def _recovery(call: Call, source: Doc) -> tuple[datetime, datetime]:
    """The earliest and the latest time that an instance can be cloned at.  Raises ApiError 400."""
    since = plane(call.cloud).server(source).recoverable_since if recoverable(source) else None
    if since is None:
        raise refusals.invalid("Point-in-time recovery is not enabled for the instance.")
    return since, datetime.now(UTC)


def _moment(call: Call, source: Doc) -> datetime | None:
    """The time of which a clone is to have the data, None: now.  Raises ApiError 400."""
    text = call.body.get("cloneContext", {}).get("pointInTime")
    if not text:
        return None
    earliest, latest = _recovery(call, source)
    moment = datetime.fromisoformat(text)
    if not earliest <= moment <= latest:
        said = f"The point in time {text} is not between {earliest.isoformat()} and {latest.isoformat()}"
        raise refusals.invalid(f"{said}, the earliest and the latest recovery time of the instance.")
    return moment


@SERVICE.method("sql.projects.instances.getLatestRecoveryTime", permission="cloudsql.instances.get")
def latest_recovery_time(call: Call) -> Doc:
    earliest, latest = (time.isoformat(timespec="milliseconds") for time in _recovery(call, common.runnable(call)))
    return {
        "kind": "sql#getLatestRecoveryTime",
        "earliestRecoveryTime": earliest.replace("+00:00", "Z"),
        "latestRecoveryTime": latest.replace("+00:00", "Z"),
    }


@SERVICE.action("clone")
async def cloned(cloud: Cloud, op: Doc) -> None:
    """Create the clone, with all data of the source."""
    key, source = op["args"]["key"], op["args"]["source"]
    doc = cloud.store.get(KIND, key)
    if doc is None or cloud.store.peek(KIND, source) is None:
        return
    doc["ipAddresses"] = plane(cloud).addresses(doc)
    cloud.store.put(KIND, key, doc)
    try:
        moment = op["args"].get("moment")
        await plane(cloud).copy(source, key, datetime.fromisoformat(moment) if moment else None)
    except (OSError, RuntimeError, postgres.SqlError) as error:
        cloud.store.put(KIND, key, doc | {"state": "FAILED"})
        raise ApiError(500, f"Failed to create instance: {error}", reason="INTERNAL_ERROR") from error
    put_inside(cloud, inside(cloud, source), source, key)
    if moment:
        await _as_in_the_data(cloud, key)
    cloud.store.put(KIND, key, doc | {"state": "RUNNABLE"})


async def _as_in_the_data(cloud: Cloud, key: str) -> None:
    """Drop the records of users and databases that were created later, and add those of deleted ones."""
    doc = cloud.store.peek(KIND, key)
    assert doc is not None
    new_database = {"charset": "UTF8", "collation": "en_US.UTF8"}
    for kind, path, statement, new in (
        (contents.DATABASES, "databases/{}", "SELECT datname FROM pg_database WHERE NOT datistemplate", new_database),
        (contents.USERS, "users/{}@", "SELECT rolname FROM pg_roles WHERE rolcanlogin", {"host": ""}),
    ):
        there = {row[0] for row in await plane(cloud).server(doc).sql(statement)} - _OF_CLOUD_SQL
        known = {entry["name"]: at for at, entry in cloud.store.list(kind, f"{key}/")}
        for name in known.keys() - there:
            cloud.store.delete(kind, known[name])
        for name in there - known.keys():
            cloud.store.put(kind, f"{key}/{path.format(name)}", {"name": name} | new)


def _replica(call: Call) -> Doc:
    doc = common.runnable(call)
    if "masterInstanceName" not in doc:
        raise refusals.invalid("The instance is not a replica.")
    return doc


@SERVICE.method("sql.instances.startReplica", permission="cloudsql.instances.startReplica")
def start_replica(call: Call) -> Doc:
    return common.finished(call, "START_REPLICA", _replica(call)["name"])


@SERVICE.method("sql.instances.stopReplica", permission="cloudsql.instances.stopReplica")
def stop_replica(call: Call) -> Doc:
    return common.finished(call, "STOP_REPLICA", _replica(call)["name"])


@SERVICE.method("sql.instances.promoteReplica", permission="cloudsql.instances.promoteReplica")
def promote(call: Call) -> Doc:
    doc = _replica(call)
    key = common.instance_key(call)
    source = f"{key.rpartition('/')[0]}/{doc['masterInstanceName'].rpartition(':')[2]}"
    return common.start(
        call,
        "PROMOTE_REPLICA",
        doc["name"],
        "promote",
        args={"key": key, "source": source},
        latency="sqladmin.instances.update",
    )


@SERVICE.action("promote")
async def promoted(cloud: Cloud, op: Doc) -> None:
    """Make the replica a standalone instance, with the primary's current data."""
    key, source = op["args"]["key"], op["args"]["source"]
    doc = cloud.store.get(KIND, key)
    if doc is None:
        return
    for gone in ("masterInstanceName", "replicaConfiguration"):
        doc.pop(gone, None)
    doc["instanceType"] = "CLOUD_SQL_INSTANCE"
    doc["settings"]["replicationType"] = "SYNCHRONOUS"
    doc["settings"].pop("databaseReplicationEnabled", None)
    cloud.store.put(KIND, key, doc)
    primary = cloud.store.get(KIND, source)
    if primary is None:
        return
    if served(primary):
        await plane(cloud).copy(source, key)
    put_inside(cloud, inside(cloud, source), source, key)
    primary["replicaNames"] = [n for n in primary.get("replicaNames", []) if n != doc["name"]]
    cloud.store.put(KIND, source, primary)
