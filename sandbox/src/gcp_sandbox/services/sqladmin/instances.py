"""Methods of sql.instances, and the actions of their operations."""

from __future__ import annotations

import secrets
import time
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.masks import patched
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.sqladmin import certificates, common, defaults, final, refusals
from gcp_sandbox.services.sqladmin.common import SERVICE, Doc
from gcp_sandbox.services.sqladmin.plane import postgres
from gcp_sandbox.services.sqladmin.plane.servers import KIND, plane, recoverable, served

DELETED = "sqladmin.deletedNames"
_KEPT = ("tier", "edition", "dataDiskType", "dataDiskSizeGb", "locationPreference", "settingsVersion")
_RESTARTING = ("tier", "databaseFlags", "activationPolicy", "availabilityType")
_OUTPUT_ONLY = (
    "kind",
    "state",
    "backendType",
    "connectionName",
    "project",
    "selfLink",
    "serverCaCert",
    "ipAddresses",
    "etag",
    "serviceAccountEmailAddress",
    "gceZone",
    "secondaryGceZone",
    "databaseInstalledVersion",
    "createTime",
    "upgradableDatabaseVersions",
    "sqlNetworkArchitecture",
    "satisfiesPzi",
    "geminiConfig",
    "currentDiskSize",
    "diskEncryptionStatus",
    "pscServiceAttachmentLink",
    "failoverReplica",
    "replicaNames",
    "name",
)


# -- reading ---------------------------------------------------------------


@SERVICE.method("sql.instances.get", permission="cloudsql.instances.get")
def get(call: Call) -> Doc:
    return common.shown(call, common.instance(call))


@SERVICE.method("sql.instances.list", permission="cloudsql.instances.list")
def list_(call: Call) -> Doc:
    found = [doc for _, doc in call.cloud.store.list(KIND, f"projects/{call.project_id}/instances/")]
    if "filter" in call.params:
        found = [doc for doc in found if _matches(doc, call.params["filter"])]
    out = common.items(call, "sql#instancesList", found)
    return out if "items" in out else {}


def _matches(doc: Doc, text: str) -> bool:
    """Terms such as ``state:RUNNABLE`` and ``settings.userLabels.env:prod``, joined by spaces or AND."""
    for term in text.split():
        if term.upper() == "AND":
            continue
        path, separator, wanted = term.partition("=" if "=" in term else ":")
        value: Any = doc
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not separator or value is None or str(value).lower() != wanted.strip('"').lower():
            return False
    return True


# -- creating --------------------------------------------------------------


@SERVICE.method("sql.instances.insert", permission="cloudsql.instances.create")
def insert(call: Call) -> Doc:
    body = call.body
    name = body.get("name", "")
    refusals.name(call.project_id, name)
    key = f"projects/{call.project_id}/instances/{name}"
    free(call.cloud, key)
    quota = call.cloud.restrictions.quota("sql.instances", call.project_id)
    if quota and len(call.cloud.store.list(KIND, f"projects/{call.project_id}/instances/")) >= quota[0]:
        text = (
            "Failed to create instance because the project or creator has reached the max instance per project/creator"
        )
        raise ApiError(403, f"{text} limit.", reason="errorMaxInstancePerLabel")
    if "maintenanceVersion" in body:
        raise refusals.invalid(f"Maintenance version ({body['maintenanceVersion']}) must not be set.")
    assert call.project is not None
    primary = _primary(call, body)
    refusals.engine(body.get("databaseVersion", "MYSQL_5_7"))
    doc = defaults.instance(call.project, body)
    refusals.instance(call.cloud, doc)
    if "diskEncryptionConfiguration" in doc:
        doc |= refusals.encryption(call.cloud, doc)
    if not primary:
        refusals.root_password(doc, body.get("rootPassword", ""))
    ca, ca_key = certificates.authority()
    uid = secrets.token_hex(8)
    doc |= {
        "createTime": now(digits=3),
        "etag": "",
        "serverCaCert": certificates.described(ca, name),
        "serviceAccountEmailAddress": f"p{call.project_number}-{secrets.token_hex(3)}@gcp-sa-cloud-sql.iam.gserviceaccount.com",
        "_uid": uid,
        "_caKey": ca_key,
    }
    _placed(doc)
    stamped(doc, 1)
    call.cloud.store.put(KIND, key, doc)
    root = body.get("rootPassword", "")
    verifier = postgres.verifier(root) if root and served(doc) else ""
    # A replica is created by an operation of its primary.
    verb, target = ("CREATE_REPLICA", primary["name"]) if primary else ("CREATE", name)
    return common.start(
        call,
        verb,
        target,
        "create",
        args={"key": key, "verifier": verifier},
        latency="sqladmin.instances.insert",
    )


def free(cloud: Cloud, key: str) -> None:
    """Check that a name is neither in use nor held after the deletion of an instance.  Raises ApiError 409.

    https://cloud.google.com/sql/docs/postgres/delete-instance
    """
    if cloud.store.peek(KIND, key):
        raise refusals.exists(reserved=False)
    deleted = cloud.store.peek(DELETED, key)
    if deleted and time.time() - deleted["time"] < cloud.faults.held("sql.instances.insert"):
        raise refusals.exists(reserved=True)


def _primary(call: Call, body: Doc) -> Doc | None:
    """The primary of a new replica, whose version and network it uses."""
    name = body.get("masterInstanceName", "").rpartition(":")[2]
    if not name:
        return None
    primary = call.cloud.store.get(KIND, f"projects/{call.project_id}/instances/{name}")
    if primary is None:
        raise refusals.missing()
    common.check_idle(call, primary)
    if not primary["settings"]["backupConfiguration"]["enabled"]:
        raise refusals.invalid("The primary instance must have backups enabled.")
    body["masterInstanceName"] = f"{call.project_id}:{name}"
    body["databaseVersion"] = primary["databaseVersion"]
    body.setdefault("region", primary["region"])
    return primary


def _placed(doc: Doc) -> None:
    """Zones according to the settings."""
    location = doc["settings"]["locationPreference"]
    doc["gceZone"] = location["zone"]
    for gone in ("secondaryGceZone", "failoverReplica"):
        doc.pop(gone, None)
    if doc["settings"]["availabilityType"] == "REGIONAL":
        others = [z for z in defaults.zones(doc["region"]) if z != location["zone"]]
        doc["secondaryGceZone"] = location.get("secondaryZone") or others[0]
        doc["failoverReplica"] = {"available": True}


def _attachment(doc: Doc) -> None:
    """The service attachment of an instance with Private Service Connect, in a project of Google's."""
    if doc["settings"]["ipConfiguration"].get("pscConfig", {}).get("pscEnabled"):
        uid = doc["_uid"]
        doc.setdefault(
            "pscServiceAttachmentLink",
            f"projects/{uid[:8]}p-tp/regions/{doc['region']}/serviceAttachments/a-{uid[:12]}-psc-service-attachment-{uid}",
        )


def stamped(doc: Doc, version: int) -> None:
    """Set a record's settingsVersion, and with it a new etag."""
    doc["settings"]["settingsVersion"] = str(version)
    doc["etag"] = secrets.token_hex(32)


@SERVICE.action("create")
async def create(cloud: Cloud, op: Doc) -> None:
    """Create the instance: server, addresses, first user and database."""
    key = op["args"]["key"]
    doc = cloud.store.get(KIND, key)
    if doc is None:
        return
    doc["ipAddresses"] = plane(cloud).addresses(doc)
    _attachment(doc)
    cloud.store.put(KIND, key, doc)
    try:
        await plane(cloud).up(key, op["args"]["verifier"])
    except (OSError, RuntimeError, postgres.SqlError) as error:
        cloud.store.put(KIND, key, doc | {"state": "FAILED"})
        raise ApiError(500, f"Failed to create instance: {error}", reason="INTERNAL_ERROR") from error
    doc["state"] = "RUNNABLE"
    with cloud.store.atomic():
        cloud.store.put(KIND, key, doc)
        if "masterInstanceName" in doc:
            primary_key = f"{key.rpartition('/')[0]}/{doc['masterInstanceName'].rpartition(':')[2]}"
            primary = cloud.store.get(KIND, primary_key)
            if primary and doc["name"] not in primary.get("replicaNames", []):
                primary["replicaNames"] = [*primary.get("replicaNames", []), doc["name"]]
                cloud.store.put(KIND, primary_key, primary)
        else:
            cloud.store.put("sqladmin.users", f"{key}/users/postgres@", {"name": "postgres", "host": ""})
        cloud.store.put(
            "sqladmin.databases",
            f"{key}/databases/postgres",
            {"name": "postgres", "charset": "UTF8", "collation": "en_US.UTF8"},
        )


# -- changing --------------------------------------------------------------


@SERVICE.method("sql.instances.patch", permission="cloudsql.instances.update")
async def patch(call: Call) -> Doc:
    old = common.idle(call)
    body = {k: v for k, v in call.body.items() if k not in _OUTPUT_ONLY}
    _current(old, body)
    given = body.get("settings", {}).get("ipConfiguration", {})
    config = old["settings"]["ipConfiguration"]
    # Two equivalent fields: the given one applies.
    if "requireSsl" in given and "sslMode" not in given:
        del config["sslMode"]
    elif "sslMode" in given and "requireSsl" not in given:
        config["requireSsl"] = given["sslMode"] == "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
    if body.get("settings", {}).get("edition", old["settings"]["edition"]) != old["settings"]["edition"]:
        # A different edition has different defaults.
        old["settings"].pop("dataCacheConfig", None)
        for key in ("backupRetentionSettings", "transactionLogRetentionDays"):
            del old["settings"]["backupConfiguration"][key]
    return _update(call, old, await patched(call, old, body))


@SERVICE.method("sql.instances.update", permission="cloudsql.instances.update")
def update(call: Call) -> Doc:
    old = common.idle(call)
    body = {k: v for k, v in call.body.items() if k not in _OUTPUT_ONLY}
    _current(old, body)
    if "settings" in body:
        # Fields that a full update may omit without resetting them.
        body["settings"] = {k: old["settings"][k] for k in _KEPT} | body["settings"]
    return _update(call, old, old | body)


def _current(old: Doc, body: Doc) -> None:
    version = body.get("settings", {}).get("settingsVersion")
    if version is not None and version != old["settings"]["settingsVersion"]:
        raise refusals.stale()


def _update(call: Call, old: Doc, new: Doc) -> Doc:
    replica = "masterInstanceName" in old
    new["settings"] = defaults.settings(new["settings"], new["databaseVersion"], new["region"], replica=replica)
    refusals.change(old, new)
    refusals.instance(call.cloud, new, old)
    if new["databaseVersion"] != old["databaseVersion"]:
        new |= {"upgradableDatabaseVersions": []} | defaults.of_version(new["databaseVersion"])
        if not new["upgradableDatabaseVersions"]:
            del new["upgradableDatabaseVersions"]
    else:
        new["databaseInstalledVersion"] = new["maintenanceVersion"].partition(".")[0]
    return common.start(
        call,
        "UPDATE",
        old["name"],
        "update",
        args={"key": common.instance_key(call), "new": new},
        latency="sqladmin.instances.update",
    )


@SERVICE.action("update")
async def apply(cloud: Cloud, op: Doc) -> None:
    """Apply the changed settings."""
    key, new = op["args"]["key"], op["args"]["new"]
    old = cloud.store.get(KIND, key)
    if old is None:
        return
    # Other changes in the meantime are kept (such as an added replica).
    new |= {k: old[k] for k in ("state", "replicaNames") if k in old}
    new["ipAddresses"] = plane(cloud).addresses(new)
    _attachment(new)
    _placed(new)
    if old["settings"]["settingsVersion"] == new["settings"]["settingsVersion"]:
        stamped(new, int(old["settings"]["settingsVersion"]) + 1)
    # No flags and an empty list of them are the same.
    restart = any((old["settings"].get(k) or None) != (new["settings"].get(k) or None) for k in _RESTARTING)
    restart |= [a["ipAddress"] for a in old["ipAddresses"]] != [a["ipAddress"] for a in new["ipAddresses"]]
    restart |= recoverable(old) != recoverable(new)
    moved = served(new) and postgres.installed(new["databaseVersion"]) != postgres.installed(old["databaseVersion"])
    if moved:
        await plane(cloud).upgrade(key, new["databaseVersion"])
    cloud.store.put(KIND, key, new)
    if restart or moved:
        await plane(cloud).up(key)
    cloud.attachments.changed()


@SERVICE.method("sql.instances.restart", permission="cloudsql.instances.restart")
def restart(call: Call) -> Doc:
    doc = common.runnable(call)
    return common.start(
        call,
        "RESTART",
        doc["name"],
        "restart",
        args={"key": common.instance_key(call)},
        latency="sqladmin.instances.restart",
    )


@SERVICE.method("sql.instances.failover", permission="cloudsql.instances.failover")
def failover(call: Call) -> Doc:
    doc = common.runnable(call)
    version = call.body.get("failoverContext", {}).get("settingsVersion")
    if version is not None and version != doc["settings"]["settingsVersion"]:
        raise refusals.stale()
    if doc["settings"]["availabilityType"] != "REGIONAL":
        raise refusals.invalid("The instance is not configured for high availability.")
    doc["gceZone"], doc["secondaryGceZone"] = doc["secondaryGceZone"], doc["gceZone"]
    call.cloud.store.put(KIND, common.instance_key(call), doc)
    return common.start(
        call,
        "FAILOVER",
        doc["name"],
        "restart",
        args={"key": common.instance_key(call)},
        latency="sqladmin.instances.restart",
    )


@SERVICE.action("restart")
async def again(cloud: Cloud, op: Doc) -> None:
    """Restart the server."""
    if cloud.store.peek(KIND, op["args"]["key"]):
        await plane(cloud).up(op["args"]["key"])


# -- deleting --------------------------------------------------------------


@SERVICE.method("sql.instances.delete", permission="cloudsql.instances.delete")
def delete(call: Call) -> Doc:
    doc = common.idle(call)
    if doc["settings"]["deletionProtectionEnabled"]:
        raise refusals.protected()
    if doc.get("replicaNames"):
        raise refusals.invalid("The instance has replicas: delete them first.")
    return common.start(
        call,
        "DELETE",
        doc["name"],
        "delete",
        args={"key": common.instance_key(call), "final": final.wanted(call)},
        latency="sqladmin.instances.delete",
    )


@SERVICE.action("delete")
async def gone(cloud: Cloud, op: Doc) -> None:
    """Delete the instance; its name can be used again, unless a fault holds it."""
    from gcp_sandbox.services import servicenetworking

    key = op["args"]["key"]
    doc = cloud.store.get(KIND, key)
    if doc is None:
        return
    if op["args"].get("final"):
        await final.take(cloud, key, doc, op["args"]["final"])
    await plane(cloud).remove(doc)
    with cloud.store.atomic():
        for kind in ("users", "databases", "backupRuns"):
            for other, _ in cloud.store.list(f"sqladmin.{kind}", f"{key}/"):
                cloud.store.delete(f"sqladmin.{kind}", other)
        if "masterInstanceName" in doc:
            primary_key = f"{key.rpartition('/')[0]}/{doc['masterInstanceName'].rpartition(':')[2]}"
            primary = cloud.store.get(KIND, primary_key)
            if primary:
                primary["replicaNames"] = [n for n in primary.get("replicaNames", []) if n != doc["name"]]
                cloud.store.put(KIND, primary_key, primary)
        cloud.store.put(DELETED, key, {"time": time.time()})
        cloud.store.delete(KIND, key)
        servicenetworking.released(cloud, doc)
