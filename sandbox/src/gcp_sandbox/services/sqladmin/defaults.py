"""What Cloud SQL fills into an instance: versions, zones, settings."""

from __future__ import annotations

import re
from typing import Any

Doc = dict[str, Any]
_RELEASE = "R20260108.01_01"
# What runs for each version: minor version, and maintenance release where it is another.
_POSTGRES_MINOR = {"9_6": 24, "10": 23, "11": 22, "12": 22, "13": 23, "14": 20, "15": 15, "16": 11, "17": 7, "18": 1}
_POSTGRES_RELEASE = {"9_6": "R20250302.00_31", "16": "R20251004.01_26"}
_MYSQL_80 = (18, *range(26, 38), 39, 40, 41, 42, 43)
_MYSQL_INSTALLED = {
    "MYSQL_5_6": ("51", "R20220628.00_00"),
    "MYSQL_5_7": ("44", "R20231105.01_03"),
    "MYSQL_8_0": ("41", "R20251004.01_07"),
    "MYSQL_8_4": ("7", "R20251004.01_24"),
}
_SQLSERVER_INSTALLED = {
    "2017": ("CU31_GDR", "R20231029.00_02"),
    "2019": ("CU26", "R20240501.00_05"),
    "2022": ("CU19_GDR", "R20251019.02_03"),
}
# Editions of SQL Server as the API lists them, with what each can become: itself and what is above.
_SQLSERVER_RANK = {"STANDARD": 2, "ENTERPRISE": 3, "EXPRESS": 0, "WEB": 1}
# https://cloud.google.com/sql/docs/postgres/locations
REGIONS = frozenset(
    [
        "africa-south1",
        "asia-east1",
        "asia-east2",
        "asia-northeast1",
        "asia-northeast2",
        "asia-northeast3",
        "asia-south1",
        "asia-south2",
        "asia-southeast1",
        "asia-southeast2",
        "asia-southeast3",
        "australia-southeast1",
        "australia-southeast2",
        "europe-central2",
        "europe-north1",
        "europe-north2",
        "europe-southwest1",
        "europe-west1",
        "europe-west10",
        "europe-west12",
        "europe-west2",
        "europe-west3",
        "europe-west4",
        "europe-west6",
        "europe-west8",
        "europe-west9",
        "me-central1",
        "me-central2",
        "me-west1",
        "northamerica-northeast1",
        "northamerica-northeast2",
        "northamerica-south1",
        "southamerica-east1",
        "southamerica-west1",
        "us-central1",
        "us-east1",
        "us-east4",
        "us-east5",
        "us-south1",
        "us-west1",
        "us-west2",
        "us-west3",
        "us-west4",
    ]
)


def engine(version: str) -> str:
    """POSTGRES, MYSQL or SQLSERVER."""
    return version.partition("_")[0]


def zones(region: str) -> list[str]:
    """Zones of a region: a, b and c, but for the two regions that begin at b."""
    letters = "bcd" if region in ("europe-west1", "us-east1") else "abc"
    return [f"{region}-{letter}" for letter in letters]


def edition(version: str) -> str:
    """The edition that an instance gets when none is asked for."""
    number = re.sub(r"^[A-Z]+_", "", version).replace("_", ".")
    newer = {"POSTGRES": 16.0, "MYSQL": 8.4}.get(engine(version))
    try:
        return "ENTERPRISE_PLUS" if newer and float(re.match(r"\d+(\.\d+)?", number)[0]) >= newer else "ENTERPRISE"  # type: ignore[index]
    except TypeError:
        return "ENTERPRISE"


def _versions(version: str) -> Doc:
    return {"POSTGRES": _postgres, "MYSQL": _mysql, "SQLSERVER": _sqlserver}[engine(version)](version)


def _postgres(version: str) -> Doc:
    major = version.removeprefix("POSTGRES_")
    upgrades = [n for n in _POSTGRES_MINOR if n != "9_6" and float(n) > float(major.replace("_", ".")) and int(n) >= 14]
    listed = [_upgrade(f"PostgreSQL {n}", f"POSTGRES_{n}") for n in upgrades]
    return _versioned(f"{version}_{_POSTGRES_MINOR.get(major, 0)}", _POSTGRES_RELEASE.get(major, _RELEASE), listed)


def _mysql(version: str) -> Doc:
    base = "_".join(version.split("_")[:3])
    minor, release = _MYSQL_INSTALLED.get(base, ("0", _RELEASE))
    installed = version if version != base else f"{version}_{minor}"
    listed = []
    if base == "MYSQL_5_7":
        # A jump to the next major version leads to the minor versions that were there when 5.7 was closed.
        listed = [_upgrade("MySQL 8.0", "MYSQL_8_0")] + [_mysql_80(n) for n in _MYSQL_80 if n <= 37]
    elif base == "MYSQL_8_0":
        listed = [_mysql_80(n) for n in _MYSQL_80 if f"{base}_{n}" != installed] + [_upgrade("MySQL 8.4", "MYSQL_8_4")]
    return _versioned(installed, release, listed)


def _mysql_80(minor: int) -> Doc:
    return _upgrade(f"MySQL 8.0.{minor}", f"MYSQL_8_0_{minor}", "MYSQL_8_0")


def _sqlserver(version: str) -> Doc:
    year, _, kind = version.removeprefix("SQLSERVER_").partition("_")
    update, release = _SQLSERVER_INSTALLED.get(year, ("", _RELEASE))
    rank = _SQLSERVER_RANK.get(kind, 0)
    listed = [
        _upgrade(f"SQL Server {y} {k.capitalize()}", f"SQLSERVER_{y}_{k}")
        for y in _SQLSERVER_INSTALLED
        for k, above in _SQLSERVER_RANK.items()
        if y >= year and above >= rank and (y, k) != (year, kind)
    ]
    return _versioned(f"{version}_{update}".rstrip("_"), release, listed)


def _upgrade(shown: str, name: str, major: str = "") -> Doc:
    return {"displayName": shown, "majorVersion": major or name, "name": name}


def _versioned(installed: str, release: str, upgrades: list[Doc]) -> Doc:
    out: Doc = {"databaseInstalledVersion": installed, "maintenanceVersion": f"{installed}.{release}"}
    return out | ({"upgradableDatabaseVersions": upgrades} if upgrades else {})


def _gemini(version: str) -> Doc:
    common = {"activeQueryEnabled": False, "entitled": False, "indexAdvisorEnabled": False}
    if engine(version) == "POSTGRES":
        return {"geminiConfig": common | {"googleVacuumMgmtEnabled": False, "oomSessionCancelEnabled": True}}
    if engine(version) == "MYSQL":
        return {"geminiConfig": common | {"flagRecommenderEnabled": True}}
    return {}


def of_version(version: str) -> Doc:
    """Fields of an instance that follow from its databaseVersion."""
    return _versions(version) | _gemini(version)


def instance(project: Doc, body: Doc) -> Doc:
    """A new instance's record, settings filled in, without addresses and certificate."""
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
    """A new instance's settings: one of Enterprise Plus has backups and point-in-time recovery unless told otherwise."""
    config = given.get("backupConfiguration", {})
    if given.get("edition", edition(version)) != "ENTERPRISE_PLUS" or "enabled" in config:
        return given
    recovery = "binaryLogEnabled" if engine(version) == "MYSQL" else "pointInTimeRecoveryEnabled"
    return given | {"backupConfiguration": {"enabled": True, recovery: True} | config}


def settings(given: Doc, version: str, region: str, *, replica: bool = False) -> Doc:
    """Settings with everything that Cloud SQL fills in."""
    plus = given.get("edition", edition(version)) == "ENTERPRISE_PLUS"
    # Arm machines have Hyperdisk alone, which begins at 20 GB.
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
        "enableDataplexIntegration": True,
        "pricingPlan": "PER_USE",
        "replicationLagMaxSeconds": 31536000,
        "replicationType": "ASYNCHRONOUS" if replica else "SYNCHRONOUS",
        "storageAutoResize": True,
        "storageAutoResizeLimit": "0",
    }
    if replica:
        out["databaseReplicationEnabled"] = True
        if engine(version) == "MYSQL":
            out["crashSafeReplicationEnabled"] = True
    out |= {k: v for k, v in given.items() if v != {} or k not in ("userLabels",)}
    out["kind"] = "sql#settings"
    zone = given.get("locationPreference", {}).get("zone") or zones(region)[0]
    out["locationPreference"] = (
        {"kind": "sql#locationPreference"} | given.get("locationPreference", {}) | {"zone": zone}
    )
    out["backupConfiguration"] = backup(given.get("backupConfiguration", {}), version, plus=plus, replica=replica)
    out["ipConfiguration"] = ip(given.get("ipConfiguration", {}))
    if "insightsConfig" in given:
        insights = {"queryStringLength": 1024} | given["insightsConfig"]
        out["insightsConfig"] = {k: v for k, v in insights.items() if v is not False}
    if "maintenanceWindow" in given:
        out["maintenanceWindow"] = {"kind": "sql#maintenanceWindow", "hour": 0} | given["maintenanceWindow"]
    for key in ("activeDirectoryConfig", "sqlServerAuditConfig"):
        if key in given:
            out[key] = given[key] | {"kind": f"sql#{key}"}
    if plus and engine(version) != "SQLSERVER" and not arm:
        out.setdefault("dataCacheConfig", {"dataCacheEnabled": True})
    return out


def backup(given: Doc, version: str, *, plus: bool, replica: bool = False) -> Doc:
    """backupConfiguration with what Cloud SQL fills in."""
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
    recovery = bool(given.get("pointInTimeRecoveryEnabled") or given.get("binaryLogEnabled"))
    out["transactionalLogStorageState"] = "CLOUD_STORAGE" if recovery else "TRANSACTIONAL_LOG_STORAGE_STATE_UNSPECIFIED"
    # Each engine shows its own way of recovery alone.
    foreign = "pointInTimeRecoveryEnabled" if engine(version) == "MYSQL" else "binaryLogEnabled"
    if not out.get(foreign):
        out.pop(foreign, None)
    if engine(version) == "POSTGRES":
        out["replicationLogArchivingEnabled"] = bool(given.get("pointInTimeRecoveryEnabled"))
    elif engine(version) == "MYSQL" and replica:
        out.setdefault("binaryLogEnabled", False)
    return out


def ip(given: Doc) -> Doc:
    """ipConfiguration with what Cloud SQL fills in."""
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
    return out
