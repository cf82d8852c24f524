"""Clones and replicas of instances: a clone has the data, a replica is only a record until it is promoted.

https://cloud.google.com/sql/docs/postgres/clone-instance, https://cloud.google.com/sql/docs/postgres/replication
"""

from __future__ import annotations

import copy
import secrets

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.sqladmin import backups, certificates, common, instances, refusals
from gcp_sandbox.services.sqladmin.common import SERVICE, Doc
from gcp_sandbox.services.sqladmin.plane import postgres
from gcp_sandbox.services.sqladmin.plane.servers import KIND, plane, served


@SERVICE.method("sql.instances.clone", permission="cloudsql.instances.clone")
def clone(call: Call) -> Doc:
    source = common.runnable(call)
    name = call.body.get("cloneContext", {}).get("destinationInstanceName", "")
    refusals.name(call.project_id, name)
    key = f"projects/{call.project_id}/instances/{name}"
    instances.free(call.cloud, key)
    if "masterInstanceName" in source:
        raise refusals.invalid("A replica cannot be cloned.")
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
        args={"key": key, "source": common.instance_key(call)},
        latency="sqladmin.instances.insert",
    )


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
        await plane(cloud).copy(source, key)
    except (OSError, RuntimeError, postgres.SqlError) as error:
        cloud.store.put(KIND, key, doc | {"state": "FAILED"})
        raise ApiError(500, f"Failed to create instance: {error}", reason="INTERNAL_ERROR") from error
    backups.put_inside(cloud, backups.inside(cloud, source), source, key)
    cloud.store.put(KIND, key, doc | {"state": "RUNNABLE"})


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
    backups.put_inside(cloud, backups.inside(cloud, source), source, key)
    primary["replicaNames"] = [n for n in primary.get("replicaNames", []) if n != doc["name"]]
    cloud.store.put(KIND, source, primary)
