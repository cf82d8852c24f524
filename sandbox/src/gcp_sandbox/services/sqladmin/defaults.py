"""What Cloud SQL fills into an instance: versions, zones, settings."""

from __future__ import annotations

import re
from typing import Any

Doc = dict[str, Any]
_RELEASE = "R20260108.01_01"
# The minor version that runs for each major one.
_POSTGRES_MINOR = {"9_6": 24, "10": 23, "11": 22, "12": 22, "13": 23, "14": 20, "15": 15, "16": 11, "17": 7, "18": 1}
_MYSQL_80 = ("18", "26", "27", "28", "29", "30", "31", "32", "33", "34", "35", "36", "37")
_MYSQL_INSTALLED = {
    "MYSQL_5_6": ("51", "R20220628.00_00"), "MYSQL_5_7": ("44", "R20231105.01_03"), "MYSQL_8_0": ("44", _RELEASE),
    "MYSQL_8_4": ("7", _RELEASE),
}  # fmt: skip
# https://cloud.google.com/sql/docs/postgres/locations
REGIONS = frozenset([
    "africa-south1", "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3",
    "asia-south1", "asia-south2", "asia-southeast1", "asia-southeast2", "asia-southeast3", "australia-southeast1",
    "australia-southeast2", "europe-central2", "europe-north1", "europe-north2", "europe-southwest1", "europe-west1",
    "europe-west10", "europe-west12", "europe-west2", "europe-west3", "europe-west4", "europe-west6", "europe-west8",
    "europe-west9", "me-central1", "me-central2", "me-west1", "northamerica-northeast1", "northamerica-northeast2",
    "northamerica-south1", "southamerica-east1", "southamerica-west1", "us-central1", "us-east1", "us-east4",
    "us-east5", "us-south1", "us-west1", "us-west2", "us-west3", "us-west4",
])  # fmt: skip


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
    kind = engine(version)
    if kind == "POSTGRES":
        major = version.removeprefix("POSTGRES_")
        minor = _POSTGRES_MINOR.get(major, 0)
        upgrades = [n for n in _POSTGRES_MINOR if n != "9_6" and float(n) > float(major.replace("_", ".")) and int(n) >= 14]
        listed = [{"displayName": f"PostgreSQL {n}", "majorVersion": f"POSTGRES_{n}", "name": f"POSTGRES_{n}"} for n in upgrades]
        release = f"{version}_{minor}"
    elif kind == "MYSQL":
        base = re.match(r"MYSQL_\d+_\d+", version)[0]  # type: ignore[index]
        minor_text, when = _MYSQL_INSTALLED.get(base, ("0", _RELEASE))
        release = version if version != base else f"{version}_{minor_text}"
        listed = []
        if base == "MYSQL_5_7":
            listed = [{"displayName": "MySQL 8.0", "majorVersion": "MYSQL_8_0", "name": "MYSQL_8_0"}] + [
                {"displayName": f"MySQL 8.0.{n}", "majorVersion": "MYSQL_8_0", "name": f"MYSQL_8_0_{n}"} for n in _MYSQL_80
            ]
        elif base == "MYSQL_8_0":
            listed = [{"displayName": "MySQL 8.4", "majorVersion": "MYSQL_8_4", "name": "MYSQL_8_4"}]
        return _versioned(release, f"{release}.{when}", listed)
    else:
        release, listed = version, []
    return _versioned(release, f"{release}.{_RELEASE}", listed)


def _versioned(installed: str, maintenance: str, upgrades: list[Doc]) -> Doc:
    out: Doc = {"databaseInstalledVersion": installed, "maintenanceVersion": maintenance}
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
    filled = settings(body.get("settings", {}), version, region, replica=replica)
    doc: Doc = {
        "kind": "sql#instance", "name": name, "project": project_id, "region": region, "backendType": "SECOND_GEN",
        "instanceType": "READ_REPLICA_INSTANCE" if replica else "CLOUD_SQL_INSTANCE",
        "connectionName": f"{project_id}:{region}:{name}", "databaseVersion": version, "state": "PENDING_CREATE",
        "gceZone": filled["locationPreference"]["zone"], "satisfiesPzi": True,
        "includeReplicasForMajorVersionUpgrade": False, "sqlNetworkArchitecture": "NEW_NETWORK_ARCHITECTURE",
        "selfLink": f"https://sqladmin.googleapis.com/sql/v1beta4/projects/{project_id}/instances/{name}",
        "settings": filled,
    }  # fmt: skip
    for key in ("masterInstanceName", "diskEncryptionConfiguration", "maintenanceVersion"):
        if key in body:
            doc[key] = body[key]
    if replica:
        doc["replicaConfiguration"] = body.get("replicaConfiguration", {}) | {"kind": "sql#replicaConfiguration"}
    return doc | of_version(version)


def settings(given: Doc, version: str, region: str, *, replica: bool = False) -> Doc:
    """Settings with everything that Cloud SQL fills in."""
    plus = given.get("edition", edition(version)) == "ENTERPRISE_PLUS"
    out: Doc = {
        "kind": "sql#settings", "activationPolicy": "ALWAYS", "authorizedGaeApplications": [],
        "availabilityType": "ZONAL", "connectorEnforcement": "NOT_REQUIRED", "dataDiskSizeGb": "10",
        "dataDiskType": "PD_SSD", "deletionProtectionEnabled": False, "edition": edition(version),
        "pricingPlan": "PER_USE", "replicationLagMaxSeconds": 31536000,
        "replicationType": "ASYNCHRONOUS" if replica else "SYNCHRONOUS", "storageAutoResize": True,
        "storageAutoResizeLimit": "0",
    }  # fmt: skip
    out |= {k: v for k, v in given.items() if v != {} or k not in ("userLabels",)}
    out["kind"] = "sql#settings"
    zone = given.get("locationPreference", {}).get("zone") or zones(region)[0]
    out["locationPreference"] = {"kind": "sql#locationPreference"} | given.get("locationPreference", {}) | {"zone": zone}
    out["backupConfiguration"] = backup(given.get("backupConfiguration", {}), version, plus=plus)
    out["ipConfiguration"] = ip(given.get("ipConfiguration", {}))
    if "insightsConfig" in given:
        insights = {"queryPlansPerMinute": 5, "queryStringLength": 1024} | given["insightsConfig"]
        out["insightsConfig"] = {k: v for k, v in insights.items() if v is not False}
    if "maintenanceWindow" in given:
        out["maintenanceWindow"] = {"kind": "sql#maintenanceWindow", "hour": 0} | given["maintenanceWindow"]
    for key in ("activeDirectoryConfig", "sqlServerAuditConfig"):
        if key in given:
            out[key] = given[key] | {"kind": f"sql#{key}"}
    if plus and engine(version) == "POSTGRES":
        out.setdefault("dataCacheConfig", {"dataCacheEnabled": True})
    return out


def backup(given: Doc, version: str, *, plus: bool) -> Doc:
    """backupConfiguration with what Cloud SQL fills in."""
    out: Doc = {
        "kind": "sql#backupConfiguration", "enabled": False, "startTime": "12:00", "backupTier": "STANDARD",
        "transactionLogRetentionDays": 14 if plus else 7,
    }  # fmt: skip
    out |= given
    out["kind"] = "sql#backupConfiguration"
    out["backupTier"] = "STANDARD"
    out["backupRetentionSettings"] = {"retainedBackups": 15 if plus else 7, "retentionUnit": "COUNT"} | given.get(
        "backupRetentionSettings", {}
    )
    recovery = bool(given.get("pointInTimeRecoveryEnabled") or given.get("binaryLogEnabled"))
    out["transactionalLogStorageState"] = (
        "CLOUD_STORAGE" if recovery else "TRANSACTIONAL_LOG_STORAGE_STATE_UNSPECIFIED"
    )
    if engine(version) == "POSTGRES":
        out["replicationLogArchivingEnabled"] = bool(given.get("pointInTimeRecoveryEnabled"))
    return out


def ip(given: Doc) -> Doc:
    """ipConfiguration with what Cloud SQL fills in."""
    out: Doc = {
        "authorizedNetworks": [], "ipv4Enabled": True, "requireSsl": False,
        "serverCertificateRotationMode": "SERVER_CERTIFICATE_ROTATION_MODE_UNSPECIFIED",
    }  # fmt: skip
    out |= given
    mode = "TRUSTED_CLIENT_CERTIFICATE_REQUIRED" if given.get("requireSsl") else "ALLOW_UNENCRYPTED_AND_ENCRYPTED"
    out.setdefault("sslMode", mode)
    out["authorizedNetworks"] = [{"kind": "sql#aclEntry"} | n for n in out["authorizedNetworks"]]
    link = out.get("privateNetwork", "")
    if "projects/" in link:
        out["privateNetwork"] = link[link.index("projects/") :]
    return out
