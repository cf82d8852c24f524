# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others set on the bucket, the database and its secret, the Cloud Run service and its job stays."""

from __future__ import annotations

import pytest
from gcp_sandbox.testing import Sandbox

from .keep import Doc, Kept

GOOGLE = "Google writes it"
BUCKET = Kept(
    "storage.v1",
    "Bucket",
    module="storage_bucket",
    url="storage.googleapis.com/storage/v1/b/{project}-kept",
    options={
        "name": "{project}-kept",
        "location": "europe-west2",
        "storage_class": "STANDARD",
        "versioning": True,
        "lifecycle_rules": [{"action": {"type": "Delete"}, "condition": {"days_since_noncurrent": 30}}],
        "soft_delete_retention_seconds": 604800,
    },
    changes=(
        {"versioning": False},
        {"lifecycle_rules": []},
        {"soft_delete_retention_seconds": 0},
        {"public_access_prevention": "inherited"},
    ),
    owned=(
        "location",
        "name",
        "storageClass",
        "versioning",
        "lifecycle",
        "softDeletePolicy.retentionDurationSeconds",
        "softDeletePolicy.effectiveTime",
        "iamConfiguration.publicAccessPrevention",
        "iamConfiguration.uniformBucketLevelAccess",
    ),
    foreign={
        "autoclass": {"enabled": True, "terminalStorageClass": "ARCHIVE"},
        "cors": [{"origin": ["https://other.example.com"], "method": ["GET"], "maxAgeSeconds": 60}],
        "defaultEventBasedHold": True,
        "encryption": {
            "defaultKmsKeyName": "projects/{project}/locations/europe-west2/keyRings/r/cryptoKeys/k",
            "googleManagedEncryptionEnforcementConfig": {"restrictionMode": "FullyRestricted"},
        },
        "ipFilter": {"mode": "Disabled", "publicNetworkSource": {"allowedIpCidrRanges": ["203.0.113.0/24"]}},
        "labels": {"cost-center": "4711"},
        "logging": {"logBucket": "{project}-kept", "logObjectPrefix": "log"},
        "retentionPolicy": {"retentionPeriod": "3600"},
        "softDeletePolicy": {"hardDeletePause": {"enabled": True}},
        "website": {"mainPageSuffix": "index.html", "notFoundPage": "404.html"},
    },
    reasons={
        **dict.fromkeys(("acl", "defaultObjectAcl"), "excluded by uniform access"),
        **dict.fromkeys(
            ("customPlacementConfig", "hierarchicalNamespace", "objectRetention"), "fixed when a bucket is created"
        ),
        **dict.fromkeys(
            (
                "hardDeleteTime",
                "id",
                "kind",
                "locationType",
                "owner",
                "projectNumber",
                "satisfiesPZI",
                "satisfiesPZS",
                "selfLink",
                "softDeleteTime",
                "timeCreated",
                "updated",
            ),
            GOOGLE,
        ),
        "billing": "the sandbox bills nobody, and so refuses to let the caller pay",
        "iamConfiguration.bucketPolicyOnly": "the old name of uniformBucketLevelAccess",
        "rpo": "only for buckets in several regions",
    },
    volatile=("softDeletePolicy.effectiveTime", "updated"),
)
SECRET_URL = "secretmanager.googleapis.com/v1/projects/{project}/secrets/kept"
ROTATION = {"nextRotationTime": "2099-01-01T00:00:00Z", "rotationPeriod": "86400s"}


def by_mask(cloud: Sandbox, url: str, body: Doc) -> None:
    """As others set fields of a secret."""
    cloud.call("PATCH", f"{url}?updateMask={','.join(body)}", body)


SECRET = Kept(
    "secretmanager.v1",
    "Secret",
    module="secret_manager_secret",
    url=SECRET_URL,
    options={"name": "kept", "generate_length": 32, "labels": {"team": "ml"}},
    changes=({"labels": {"team": "data"}},),
    owned=("labels", "replication"),
    foreign={
        "annotations": {"owner": "somebody else"},
        "expireTime": "2099-06-01T00:00:00Z",
        "rotation": ROTATION,
        "topics": [{"name": "projects/{project}/topics/rotation"}],
        "versionAliases": {"current": "1"},
        "versionDestroyTtl": "86400s",
    },
    reasons={
        "customerManagedEncryption": "only for regional secrets, on another host",
        "name": GOOGLE,
        "secretType": "fixed when a secret is created",
        "tags": "fixed when a secret is created",
        "ttl": "another form of expireTime",
    },
    others=by_mask,
)

INSTANCE_URL = "sqladmin.googleapis.com/v1/projects/{project}/instances/kept"
MYSQL, SQL_SERVER, REPLICAS = "only for MySQL", "only for SQL Server", "only for replicas and read pools"
INSTANCE = Kept(
    "sqladmin.v1",
    "DatabaseInstance",
    module="sql_instance",
    url=INSTANCE_URL,
    options={
        "name": "kept",
        "region": "europe-west2",
        "tier": "db-g1-small",
        "private_network": "kept",
        "allocated_ip_range": "kept",
        "zone": "europe-west2-a",
        "ssl_mode": "ENCRYPTED_ONLY",
        "backup_start_time": "03:00",
        "backup_retained": 7,
        "transaction_log_retention_days": 7,
        "maintenance_window": {"day": 7, "hour": 3},
        "query_insights": True,
        "database_flags": {"max_connections": None},
    },
    changes=(
        {"backup_retained": 8, "backup_start_time": "04:00"},
        {"query_insights": False},
        {"maintenance_window": {"day": 6, "hour": 4}},
        {"database_flags": {"max_connections": 60}, "ssl_mode": "ALLOW_UNENCRYPTED_AND_ENCRYPTED"},
    ),
    owned=(
        "databaseVersion",
        "name",
        "region",
        "settings.activationPolicy",
        "settings.availabilityType",
        "settings.backupConfiguration.backupRetentionSettings",
        "settings.backupConfiguration.enabled",
        "settings.backupConfiguration.pointInTimeRecoveryEnabled",
        "settings.backupConfiguration.startTime",
        "settings.backupConfiguration.transactionLogRetentionDays",
        "settings.dataDiskSizeGb",
        "settings.dataDiskType",
        "settings.databaseFlags",
        "settings.deletionProtectionEnabled",
        "settings.edition",
        "settings.insightsConfig.queryInsightsEnabled",
        "settings.ipConfiguration.allocatedIpRange",
        "settings.ipConfiguration.authorizedNetworks",
        "settings.ipConfiguration.ipv4Enabled",
        "settings.ipConfiguration.privateNetwork",
        "settings.ipConfiguration.sslMode",
        "settings.locationPreference.zone",
        "settings.maintenanceWindow.day",
        "settings.maintenanceWindow.hour",
        "settings.storageAutoResize",
        "settings.tier",
    ),
    foreign={
        "includeReplicasForMajorVersionUpgrade": True,
        "settings": {
            "backupConfiguration": {"location": "eu"},
            "connectionPoolConfig": {"connectionPoolingEnabled": False},
            "connectorEnforcement": "REQUIRED",
            "dataApiAccess": "ALLOW_DATA_API",
            "denyMaintenancePeriods": [{"startDate": "2026-12-20", "endDate": "2027-01-05", "time": "00:00:00"}],
            "enableDataplexIntegration": False,
            "enableGoogleMlIntegration": True,
            "finalBackupConfig": {"enabled": True, "retentionDays": 30},
            "insightsConfig": {
                "enhancedQueryInsightsEnabled": True,
                "queryPlansPerMinute": 10,
                "queryStringLength": 2048,
                "recordApplicationTags": True,
                "recordClientAddress": True,
            },
            "ipConfiguration": {
                "customSubjectAlternativeNames": ["db.example.com"],
                "enablePrivatePathForGoogleCloudServices": True,
                "pscConfig": {"pscEnabled": True, "allowedConsumerProjects": ["{project}"]},
                "serverCertificateRotationMode": "AUTOMATIC_ROTATION_DURING_MAINTENANCE",
            },
            "locationPreference": {"secondaryZone": "europe-west2-b"},
            "maintenanceWindow": {"updateTrack": "week5"},
            "passwordValidationPolicy": {"enablePasswordPolicy": True, "minLength": 12},
            "retainBackupsOnDelete": True,
            "storageAutoResizeLimit": "100",
            "userLabels": {"cost-center": "4711"},
        },
    },
    reasons={
        **dict.fromkeys(
            (
                "backendType",
                "connectionName",
                "currentDiskSize",
                "databaseCenterIntegration",
                "diskEncryptionStatus",
                "failoverReplica",
                "gceZone",
                "geminiConfig",
                "instanceType",
                "ipAddresses",
                "ipv6Address",
                "kind",
                "maxDiskSize",
                "outOfDiskReport",
                "project",
                "replicaNames",
                "satisfiesPzs",
                "scheduledMaintenance",
                "secondaryGceZone",
                "selfLink",
                "serverCaCert",
                "serviceAccountEmailAddress",
                "settings.backupConfiguration.kind",
                "settings.kind",
                "settings.locationPreference.kind",
                "settings.maintenanceWindow.kind",
                "settings.settingsVersion",
                "sqlNetworkArchitecture",
                "state",
                "suspensionReason",
            ),
            GOOGLE,
        ),
        **dict.fromkeys(
            (
                "settings.autoUpgradeEnabled",
                "settings.backupConfiguration.binaryLogEnabled",
                "settings.performanceCaptureConfig",
            ),
            MYSQL,
        ),
        **dict.fromkeys(
            (
                "settings.activeDirectoryConfig",
                "settings.advancedMachineFeatures",
                "settings.collation",
                "settings.entraidConfig",
                "settings.sqlServerAuditConfig",
                "settings.timeZone",
            ),
            SQL_SERVER,
        ),
        **dict.fromkeys(
            (
                "masterInstanceName",
                "nodeCount",
                "onPremisesConfiguration",
                "replicaConfiguration",
                "replicationCluster",
                "settings.acceleratedReplicaMode",
                "settings.crashSafeReplicationEnabled",
                "settings.databaseReplicationEnabled",
                "settings.readPoolAutoScaleConfig",
                "settings.replicationLagMaxSeconds",
                "settings.replicationType",
            ),
            REPLICAS,
        ),
        **dict.fromkeys(
            (
                "diskEncryptionConfiguration",
                "settings.ipConfiguration.serverCaMode",
                "settings.ipConfiguration.serverCaPool",
                "tags",
            ),
            "fixed when an instance is created",
        ),
        **dict.fromkeys(
            (
                "rootPassword",
                "skipPrecheck",
                "switchTransactionLogsToCloudStorageEnabled",
                "databaseCenterIntegrationEnabled",
            ),
            "only in requests, Google does not return it",
        ),
        **dict.fromkeys(
            ("settings.authorizedGaeApplications", "settings.locationPreference.followGaeApplication"),
            "only for the first generation of instances",
        ),
        **dict.fromkeys(
            ("settings.dataDiskProvisionedIops", "settings.dataDiskProvisionedThroughput"), "only for Hyperdisk"
        ),
        "maintenanceVersion": "an update to another one is maintenance",
        "settings.backupConfiguration.replicationLogArchivingEnabled": "the old name of pointInTimeRecoveryEnabled",
        "settings.dataCacheConfig": "only for Enterprise Plus",
        "settings.ipConfiguration.requireSsl": "the old name of sslMode",
        "settings.pricingPlan": "there is only one for instances of today",
    },
    volatile=("settings.settingsVersion", "maintenanceVersion", "databaseInstalledVersion"),
)
CASES = {"bucket": BUCKET, "secret": SECRET, "instance": INSTANCE}


@pytest.fixture(scope="module")
def private_network(gcp_sandbox):
    """A network named "kept" with private services access, and the APIs of the data."""
    project = gcp_sandbox.exports["GCP_PROJECT"]
    names = ("compute", "iam", "run", "secretmanager", "servicenetworking", "sqladmin", "storage")
    services = {"serviceIds": [f"{name}.googleapis.com" for name in names]}
    gcp_sandbox.call("POST", f"serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable", services)
    compute = f"compute.googleapis.com/compute/v1/projects/{project}"
    network = f"projects/{project}/global/networks/kept"
    gcp_sandbox.call("POST", f"{compute}/global/networks", {"name": "kept", "autoCreateSubnetworks": False})
    subnetwork = {"name": "kept", "network": network, "ipCidrRange": "10.90.0.0/24"}
    gcp_sandbox.call("POST", f"{compute}/regions/europe-west2/subnetworks", subnetwork)
    reserved = {"name": "kept", "purpose": "VPC_PEERING", "addressType": "INTERNAL", "prefixLength": 24, "network": network}
    gcp_sandbox.call("POST", f"{compute}/global/addresses", reserved)
    connection = {"network": network, "reservedPeeringRanges": ["kept"]}
    gcp_sandbox.call(
        "POST", "servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections", connection
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_others_set_stays(case, sandbox_module, gcp_sandbox, private_network):
    assert case.unaccounted() == []
    case.check(sandbox_module, gcp_sandbox, gcp_sandbox.exports["GCP_PROJECT"])
