"""Defaults of Cloud SQL for an instance: versions, zones, settings."""

from __future__ import annotations

from typing import Any

from gcp_sandbox.services.compute import places

Doc = dict[str, Any]
_RELEASE = "R20260108.01_01"
# Minor version of each version, and maintenance release if it differs.
_POSTGRES_MINOR = {"9_6": 24, "10": 23, "11": 22, "12": 22, "13": 23, "14": 20, "15": 15, "16": 11, "17": 7, "18": 1}
_POSTGRES_RELEASE = {"9_6": "R20250302.00_31", "16": "R20251004.01_26"}
# https://cloud.google.com/sql/docs/postgres/locations
REGIONS = frozenset({*places.REGIONS, "asia-southeast3"})


def zones(region: str) -> list[str]:
    """Zones of a region: a, b and c, except for the two regions that start with b."""
    letters = "bcd" if region in ("europe-west1", "us-east1") else "abc"
    return [f"{region}-{letter}" for letter in letters]


def edition(version: str) -> str:
    """The default edition of an instance."""
    return "ENTERPRISE_PLUS" if _number(version) >= 16 else "ENTERPRISE"


def _number(version: str) -> float:
    return float(version.removeprefix("POSTGRES_").replace("_", "."))


def of_version(version: str) -> Doc:
    """Fields of an instance that follow from its databaseVersion."""
    major = version.removeprefix("POSTGRES_")
    installed = f"{version}_{_POSTGRES_MINOR.get(major, 0)}"
    out: Doc = {
        "databaseInstalledVersion": installed,
        "maintenanceVersion": f"{installed}.{_POSTGRES_RELEASE.get(major, _RELEASE)}",
        "geminiConfig": {
            "activeQueryEnabled": False,
            "entitled": False,
            "indexAdvisorEnabled": False,
            "googleVacuumMgmtEnabled": False,
            "oomSessionCancelEnabled": True,
        },
    }
    upgrades = [
        {"displayName": f"PostgreSQL {n}", "majorVersion": f"POSTGRES_{n}", "name": f"POSTGRES_{n}"}
        for n in _POSTGRES_MINOR
        if n != "9_6" and int(n) >= 14 and int(n) > _number(version)
    ]
    return out | ({"upgradableDatabaseVersions": upgrades} if upgrades else {})


def instance(project: Doc, body: Doc) -> Doc:
    """A new instance's record with complete settings, without addresses and certificate."""
    name, region, version = body["name"], body.get("region", "us-central1"), body["databaseVersion"]
    project_id = project["projectId"]
    replica = bool(body.get("masterInstanceName"))
    given = body.get("settings", {}) if replica else _new(body.get("settings", {}), version)
    filled = settings(given, version, region, replica=replica)
    doc: Doc = {
        "kind": "sql#instance",
        "name": name,
        "project": project_id,
        "region": region,
        "backendType": "SECOND_GEN",
        "instanceType": "READ_REPLICA_INSTANCE" if replica else "CLOUD_SQL_INSTANCE",
        "connectionName": f"{project_id}:{region}:{name}",
        "databaseVersion": version,
        "state": "PENDING_CREATE",
        "gceZone": filled["locationPreference"]["zone"],
        "satisfiesPzi": True,
        "includeReplicasForMajorVersionUpgrade": False,
        "sqlNetworkArchitecture": "NEW_NETWORK_ARCHITECTURE",
        "selfLink": f"https://sqladmin.googleapis.com/sql/v1beta4/projects/{project_id}/instances/{name}",
        "settings": filled,
    }
    for key in ("masterInstanceName", "diskEncryptionConfiguration"):
        if key in body:
            doc[key] = body[key]
    if replica:
        given = {"failoverTarget": False} | body.get("replicaConfiguration", {})
        doc["replicaConfiguration"] = given | {"kind": "sql#replicaConfiguration"}
    return doc | of_version(version)


def _new(given: Doc, version: str) -> Doc:
    """A new instance's settings: with Enterprise Plus, backups and point-in-time recovery are on by default."""
    config = given.get("backupConfiguration", {})
    if given.get("edition", edition(version)) != "ENTERPRISE_PLUS" or "enabled" in config:
        return given
    return given | {"backupConfiguration": {"enabled": True, "pointInTimeRecoveryEnabled": True} | config}


def settings(given: Doc, version: str, region: str, *, replica: bool = False) -> Doc:
    """Settings with Cloud SQL's defaults."""
    plus = given.get("edition", edition(version)) == "ENTERPRISE_PLUS"
    # Arm machines support only Hyperdisk, whose minimum is 20 GB.
    arm = given.get("tier", "").startswith("db-c4a-")
    out: Doc = {
        "kind": "sql#settings",
        "activationPolicy": "ALWAYS",
        "authorizedGaeApplications": [],
        "availabilityType": "ZONAL",
        "connectorEnforcement": "NOT_REQUIRED",
        "dataDiskSizeGb": "20" if arm else "10",
        "dataDiskType": "HYPERDISK_BALANCED" if arm else "PD_SSD",
        "deletionProtectionEnabled": False,
        "edition": edition(version),
        "pricingPlan": "PER_USE",
        "replicationLagMaxSeconds": 31536000,
        "replicationType": "ASYNCHRONOUS" if replica else "SYNCHRONOUS",
        "storageAutoResize": True,
        "storageAutoResizeLimit": "0",
    }
    if replica:
        out["databaseReplicationEnabled"] = True
    out |= {k: v for k, v in given.items() if v != {} or k not in ("userLabels",)}
    out["kind"] = "sql#settings"
    zone = given.get("locationPreference", {}).get("zone") or zones(region)[0]
    out["locationPreference"] = (
        {"kind": "sql#locationPreference"} | given.get("locationPreference", {}) | {"zone": zone}
    )
    out["backupConfiguration"] = _backup(given.get("backupConfiguration", {}), plus=plus)
    out["ipConfiguration"] = ip(given.get("ipConfiguration", {}))
    if "insightsConfig" in given:
        insights = {"queryStringLength": 1024} | given["insightsConfig"]
        out["insightsConfig"] = {k: v for k, v in insights.items() if v is not False}
    if "maintenanceWindow" in given:
        out["maintenanceWindow"] = {"kind": "sql#maintenanceWindow", "hour": 0} | given["maintenanceWindow"]
    if plus and not arm:
        out.setdefault("dataCacheConfig", {"dataCacheEnabled": True})
    return out


def _backup(given: Doc, *, plus: bool) -> Doc:
    out: Doc = {
        "kind": "sql#backupConfiguration",
        "enabled": False,
        "startTime": "12:00",
        "backupTier": "STANDARD",
        "transactionLogRetentionDays": 14 if plus else 7,
    }
    out |= given
    out["kind"] = "sql#backupConfiguration"
    out["backupTier"] = "STANDARD"
    out["backupRetentionSettings"] = {"retainedBackups": 15 if plus else 7, "retentionUnit": "COUNT"} | given.get(
        "backupRetentionSettings", {}
    )
    recovery = bool(given.get("pointInTimeRecoveryEnabled"))
    out["transactionalLogStorageState"] = "CLOUD_STORAGE" if recovery else "TRANSACTIONAL_LOG_STORAGE_STATE_UNSPECIFIED"
    out["replicationLogArchivingEnabled"] = recovery
    if not out.get("binaryLogEnabled"):
        out.pop("binaryLogEnabled", None)
    return out


def ip(given: Doc) -> Doc:
    """ipConfiguration with Cloud SQL's defaults."""
    out: Doc = {
        "authorizedNetworks": [],
        "ipv4Enabled": True,
        "requireSsl": False,
        "serverCertificateRotationMode": "SERVER_CERTIFICATE_ROTATION_MODE_UNSPECIFIED",
    }
    out |= given
    mode = "TRUSTED_CLIENT_CERTIFICATE_REQUIRED" if given.get("requireSsl") else "ALLOW_UNENCRYPTED_AND_ENCRYPTED"
    out.setdefault("sslMode", mode)
    out["authorizedNetworks"] = [{"kind": "sql#aclEntry"} | n for n in out["authorizedNetworks"]]
    link = out.get("privateNetwork", "")
    if "projects/" in link:
        out["privateNetwork"] = link[link.index("projects/") :]
    if "pscConfig" in out:
        out["pscConfig"] = {"pscEnabled": False} | out["pscConfig"]
    return out
