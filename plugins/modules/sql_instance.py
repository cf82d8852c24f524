#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_instance
short_description: Manage a Cloud SQL for PostgreSQL instance
description:
  - Creates, updates and deletes an instance that has only a private IP address.
  - C(google.cloud.gcp_sql_instance) has no options for edition (without one, PostgreSQL 16 and later use ENTERPRISE_PLUS,
    which rejects small tiers), deletion protection, point-in-time recovery, disk, TLS mode, maintenance window and
    query insights, and fails when an existing instance differs.
  - A stopped instance is started, and a public IP address and authorized networks are removed.
  - Fields not covered by an option are left unchanged, such as deny maintenance periods, the password policy and further
    settings of backups and query insights.
  - Changing O(tier), O(availability_type), O(zone), O(edition) or some of the O(database_flags) restarts the instance.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.labels
  - mlops.mlflow_gcp.state
options:
  name:
    description:
      - Name of the instance. The name of a deleted instance can be used again. For years it could not within a week; see O(if_reserved) for
        a project where Google still keeps it.
    type: str
    required: true
  if_reserved:
    description:
      - What to do if Google still keeps O(name) for an instance that was deleted. V(fail) fails.
      - V(number) creates O(name) with C(-2) or the next number that is free. A label of the instance records its intended name, so
        that later runs with the same O(name) find it, also when Google no longer reserves the name. RV(name) is the actual name.
    type: str
    choices: [fail, number]
    default: fail
  region:
    description:
      - Region of the instance, such as V(europe-west2); required for O(state=present). Cannot be changed.
    type: str
  zone:
    description:
      - Preferred zone, such as V(europe-west2-a).
    type: str
  database_version:
    description:
      - Version of PostgreSQL. Cannot be changed by this module.
    type: str
    default: POSTGRES_17
  edition:
    description:
      - Edition of Cloud SQL; it determines the valid values of O(tier).
    type: str
    choices: [ENTERPRISE, ENTERPRISE_PLUS]
    default: ENTERPRISE
  tier:
    description:
      - Machine type. With O(edition=ENTERPRISE) V(db-f1-micro), V(db-g1-small) or V(db-custom-CPUS-MEGABYTES); with
        O(edition=ENTERPRISE_PLUS) V(db-perf-optimized-N-*), V(db-memory-optimized-N-*) or V(db-c4a-highmem-*).
    type: str
    default: db-g1-small
  availability_type:
    description:
      - V(REGIONAL) adds a standby in a second zone, and requires O(backup_enabled) and O(point_in_time_recovery).
    type: str
    choices: [ZONAL, REGIONAL]
    default: ZONAL
  disk_size_gb:
    description:
      - Minimum size of the disk in GB, 10 to 65536. A disk cannot shrink, so a larger disk is not a change.
    type: int
  disk_type:
    description:
      - Type of the disk. Cannot be changed.
    type: str
    choices: [PD_SSD, PD_HDD, HYPERDISK_BALANCED]
  disk_autoresize:
    description:
      - Increase the disk size automatically when the disk is nearly full.
    type: bool
    default: true
  private_network:
    description:
      - Network of the private IP address, as a name, V(projects/PROJECT/global/networks/NAME) or selfLink. It must already
        be peered, see M(mlops.mlflow_gcp.service_networking_connection).
      - This or O(psc_allowed_projects) is required for O(state=present).
    type: str
  psc_allowed_projects:
    description:
      - IDs of projects whose Private Service Connect endpoints the instance accepts, see M(mlops.mlflow_gcp.compute_forwarding_rule).
        Projects that it accepts already are kept.
      - Private Service Connect can be added to an instance that has a private IP address, which it keeps.
    type: list
    elements: str
  allocated_ip_range:
    description:
      - Name of the reserved range that contains the private IP address.
    type: str
  ssl_mode:
    description:
      - Whether connections must be encrypted.
    type: str
    choices: [ALLOW_UNENCRYPTED_AND_ENCRYPTED, ENCRYPTED_ONLY, TRUSTED_CLIENT_CERTIFICATE_REQUIRED]
  backup_enabled:
    description:
      - Back up the instance every day.
    type: bool
    default: true
  point_in_time_recovery:
    description:
      - Keep the write-ahead log, so that the state at any time can be restored; requires O(backup_enabled).
    type: bool
    default: true
  backup_start_time:
    description:
      - Start time of the daily backup, HH:MM in UTC.
    type: str
  backup_retained:
    description:
      - Number of daily backups to keep, 1 to 365.
    type: int
  transaction_log_retention_days:
    description:
      - Number of days covered by point-in-time recovery, 1 to 7, or up to 35 with O(edition=ENTERPRISE_PLUS).
    type: int
  deletion_protection:
    description:
      - Prevent the deletion of the instance. With O(state=absent), V(false) first disables the protection.
    type: bool
    default: true
  final_backup:
    description:
      - With O(state=absent), let Google take a final backup, which stays for O(final_backup_days) after the instance is deleted and
        can be restored to a new one. All other backups are deleted with the instance.
    type: bool
    default: false
  final_backup_days:
    description:
      - Days for which Google keeps the final backup, 1 to 365.
    type: int
    default: 30
  database_flags:
    description:
      - Database flags by name, see U(https://cloud.google.com/sql/docs/postgres/flags). Other flags are left unchanged.
      - A flag with the value V(null) is removed, so that Google's default applies.
    type: dict
  maintenance_window:
    description:
      - Time when Google may restart the instance for maintenance.
    type: dict
    suboptions:
      day:
        description:
          - Day of the week, 1 (Monday) to 7.
        type: int
        required: true
      hour:
        description:
          - Hour of the day in UTC, 0 to 23.
        type: int
        required: true
  query_insights:
    description:
      - Collect query statistics.
    type: bool
  kms_key:
    description:
      - Key of Cloud KMS to encrypt the instance and its backups with, as V(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY), in the region of
        the instance.
      - Its service agent must have the role C(roles/cloudkms.cryptoKeyEncrypterDecrypter) on the key, see
        M(mlops.mlflow_gcp.kms_key_agents).
      - An instance keeps the key that it was created with, or none; this cannot be changed.
    type: str
  wait:
    description:
      - Whether to wait until a new instance has been created, which takes minutes. A later task with the same O(name) waits for it.
      - Everything else is always waited for.
    type: bool
    default: true
  timeout:
    description:
      - Seconds to wait for an operation.
    type: int
    default: 1800
"""

EXAMPLES = r"""
- name: Create the database server
  mlops.mlflow_gcp.sql_instance:
    project: my-project
    auth_kind: application
    name: mlflow
    region: europe-west2
    tier: db-custom-1-3840
    private_network: projects/my-project/global/networks/mlflow-network
    database_flags:
      max_connections: 100
    maintenance_window:
      day: 7
      hour: 3
  register: database

- name: Delete the database server in spite of deletion protection
  mlops.mlflow_gcp.sql_instance:
    project: my-project
    auth_kind: application
    name: mlflow
    deletion_protection: false
    final_backup: true
    state: absent
"""

RETURN = r"""
name:
  description: Name of the instance, see O(if_reserved).
  returned: success
  type: str
  sample: mlflow
private_ip_address:
  description: Private IP address; empty without one.
  returned: success
  type: str
  sample: 10.20.0.3
psc_service_attachment:
  description: Path of the service attachment for Private Service Connect endpoints; empty without one.
  returned: success
  type: str
  sample: projects/a1b2c3d4p-tp/regions/europe-west2/serviceAttachments/a-0123456789ab-psc-service-attachment-a1b2c3d4
connection_name:
  description: Name of the instance for the Cloud SQL Auth Proxy.
  returned: success
  type: str
  sample: my-project:europe-west2:mlflow
resource:
  description: The instance as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow
    state: RUNNABLE
"""

import re
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudsql, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, full_path, lookup
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.immutable import NETWORK_OF_INSTANCE, SQL_INSTANCE
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import LABELS_OPTION, STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

ALWAYS = "ALWAYS"
# How many names are tried at most.
MOST_NUMBERS = 99
# Temporary states in which an instance cannot be changed.
CREATING = "PENDING_CREATE"
BUSY_STATES = (CREATING, "MAINTENANCE", "REPAIRING")


class Instance(Resource):
    """https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/instances"""

    kind = SQL_INSTANCE.name
    rules = Rules(
        labels=frozenset({"settings.userLabels"}),
        keyed={"settings.databaseFlags": "name"},
        same={
            **SQL_INSTANCE.same,
            "settings.ipConfiguration.pscConfig.allowedConsumerProjects": lambda wanted, live: (
                set(wanted) <= set(live or ())
            ),
            # Instances that were created before editions existed have none.
            "settings.edition": lambda wanted, live: wanted == (live or "ENTERPRISE"),
            # A disk may have grown automatically, and cannot shrink.
            "settings.dataDiskSizeGb": lambda wanted, live: int(live or 0) >= int(wanted),
        },
    )
    immutable = SQL_INSTANCE.fields

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.name = self.params["name"]
        self.collection = cloudsql.instances_url(task.project)
        self.url = f"{self.collection}/{self.name}"
        self.wanted = self.declaration()

    def use(self, name: str) -> None:
        """Manage the instance with this name."""
        self.name, self.url = name, f"{self.collection}/{name}"
        self.wanted["name"] = name

    def read(self) -> dict[str, Any] | None:
        live = super().read()
        if live is None and self.params["if_reserved"] == "number":
            live = cloudsql.replacement(self.client, self.task.project, self.params["name"])
            if live is not None:
                self.use(live["name"])
        return live

    def declaration(self) -> dict[str, Any]:
        """The body for the options."""
        params = self.params
        network, flags = params["private_network"], params["database_flags"]
        backups = {
            "enabled": params["backup_enabled"],
            "pointInTimeRecoveryEnabled": params["point_in_time_recovery"],
            "startTime": params["backup_start_time"],
            "transactionLogRetentionDays": params["transaction_log_retention_days"],
            "backupRetentionSettings": {
                "retainedBackups": params["backup_retained"],
                "retentionUnit": "COUNT" if params["backup_retained"] else None,
            },
        }
        settings = {
            "activationPolicy": ALWAYS,
            "edition": params["edition"],
            "tier": params["tier"],
            "availabilityType": params["availability_type"],
            "dataDiskSizeGb": str(params["disk_size_gb"]) if params["disk_size_gb"] else None,
            "dataDiskType": params["disk_type"],
            "storageAutoResize": params["disk_autoresize"],
            "deletionProtectionEnabled": params["deletion_protection"],
            "ipConfiguration": {
                "ipv4Enabled": False,
                # Without a public IP address they have no effect, until somebody adds one.
                "authorizedNetworks": [],
                "privateNetwork": full_path(self.task.project, "global/networks", network) if network else None,
                "allocatedIpRange": params["allocated_ip_range"],
                "sslMode": params["ssl_mode"],
                "pscConfig": {
                    "pscEnabled": True if params["psc_allowed_projects"] else None,
                    "allowedConsumerProjects": params["psc_allowed_projects"] or None,
                },
            },
            "backupConfiguration": backups,
            "locationPreference": {"zone": params["zone"]},
            "databaseFlags": None if flags is None else merged_flags(flags, []),
            "maintenanceWindow": params["maintenance_window"],
            "insightsConfig": {"queryInsightsEnabled": params["query_insights"]},
            "userLabels": self.task.labels,
        }
        return {
            "name": self.name,
            "region": params["region"],
            "databaseVersion": params["database_version"],
            "diskEncryptionConfiguration": {"kmsKeyName": params["kms_key"] or None},
            "settings": settings,
        }

    def validate(self) -> None:
        params = self.params
        if params["state"] == "absent":
            return
        if not params["private_network"] and not params["psc_allowed_projects"]:
            raise InvalidInput("private_network", params["private_network"], "give it or psc_allowed_projects")
        if not re.fullmatch(r"POSTGRES_\d+(_\d+)?", params["database_version"]):
            raise InvalidInput("database_version", params["database_version"], "give POSTGRES_17 or another PostgreSQL")
        values.check_together(params, values.tier_of_edition, "tier", "edition")
        values.check_together(params, values.log_days_of_edition, "transaction_log_retention_days", "edition")
        values.check_together(params, values.logs_need_backups, "point_in_time_recovery", "backup_enabled")
        values.check_together(params, values.standby_needs_logs, "availability_type", "point_in_time_recovery")
        values.check_together(params, values.zone_of_region, "zone", "region")
        values.check_together(params, values.key_of_region, "kms_key", "region")

    def settle(self, live: dict[str, Any]) -> dict[str, Any]:
        if live.get("state") == CREATING:
            if not self.params["wait"]:
                return live
            if creation := self.creation():
                self.wait(creation, self.collection, "create")
                live = self.read() or {}
        if live.get("state") in BUSY_STATES:
            live = self.poll(lambda body: body.get("state") not in BUSY_STATES, "wait for the running operation")
        state = str(live.get("state"))
        if state in cloudsql.UNUSABLE_STATES and self.params["state"] == "present":
            raise GcpError(f"Cannot use {self.label}: it is {state}; {cloudsql.UNUSABLE_STATES[state]}")
        return live

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        wanted, flags = self.declaration(), self.params["database_flags"]
        if live and flags is not None:
            # A list is replaced as a whole.
            wanted["settings"]["databaseFlags"] = merged_flags(flags, lookup(live, "settings.databaseFlags") or [])
        psc = wanted["settings"]["ipConfiguration"]["pscConfig"]
        if psc["pscEnabled"]:
            accepted = lookup(live, "settings.ipConfiguration.pscConfig.allowedConsumerProjects") or ()
            psc["allowedConsumerProjects"] = list(dict.fromkeys([*accepted, *psc["allowedConsumerProjects"]]))
        return wanted

    def check_change(self, live: dict[str, Any], changes: list[str]) -> None:
        # An instance that has no network yet can get one.
        added = NETWORK_OF_INSTANCE if not lookup(live, NETWORK_OF_INSTANCE) else None
        super().check_change(live, [path for path in changes if path != added])

    def create(self) -> dict[str, Any]:
        name, number = self.params["name"], 2
        while True:
            try:
                return self.while_propagating(self.insert)
            except ApiError as error:
                if error.reason != "instanceAlreadyExists" or self.params["if_reserved"] == "fail":
                    raise
                if error.retried or number > MOST_NUMBERS or self.client.find(self.url):
                    raise
            # The response does not tell a reserved name from one in use, but there is no such instance.
            self.use(f"{name}-{number}")
            labels = self.wanted["settings"]["userLabels"] or {}
            self.wanted["settings"]["userLabels"] = {**labels, cloudsql.INSTEAD_OF: cloudsql.label_of(name)}
            number += 1

    def creation(self) -> dict[str, Any] | None:
        """
        The operation that creates the instance, if it is still running.
        https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/operations/list
        """
        url = f"https://sqladmin.googleapis.com/v1/projects/{self.task.project}/operations"
        found = self.client.items(url, "items", params={"instance": self.name, "maxResults": "100"})
        return next((each for each in found if each["operationType"] == "CREATE" and each["status"] != "DONE"), None)

    def wait(self, response: dict[str, Any], url: str, verb: str) -> dict[str, Any]:
        return super().wait(response, url, verb) if self.params["wait"] or verb != "create" else response

    def insert(self) -> dict[str, Any]:
        """The operation of the creation; waits while another one is running on the instance."""
        return cloudsql.retry_while_busy(self.client, super().create, self.timeout)

    def name_taken(self, error: ApiError) -> GcpError:
        if cloudsql.is_busy(error):
            return error
        return GcpError(
            f"Cannot create {self.label}: Google still keeps the name of an instance that was deleted within the last "
            f"week; wait, or give option name another value ({error.message})"
        )

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        if "settings.activationPolicy" in changes and changes != ["settings.activationPolicy"]:
            # Google rejects many other changes of an instance that does not run.
            self.wait(self.send("PATCH", {"settings": {"activationPolicy": ALWAYS}}), self.url, "start")
            live = self.settle(self.read() or {})
        body = self.patch(live)
        # Google rejects the change after a concurrent one.
        body["settings"]["settingsVersion"] = lookup(live, "settings.settingsVersion")
        if "settings.dataDiskSizeGb" not in changes:
            # The disk may have grown beyond the declared size.
            body["settings"].pop("dataDiskSizeGb", None)
        return self.send("PATCH", body)

    def check_delete(self, live: dict[str, Any]) -> None:
        if lookup(live, "settings.deletionProtectionEnabled") and self.params["deletion_protection"]:
            raise GcpError(f"Cannot delete {self.label}: it is protected; also give deletion_protection=false")

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        if lookup(live, "settings.deletionProtectionEnabled"):
            self.wait(self.send("PATCH", {"settings": {"deletionProtectionEnabled": False}}), self.url, "unprotect")
        if not self.params["final_backup"]:
            return self.send("DELETE")
        backup = {"enableFinalBackup": "true", "finalBackupTtlDays": str(self.params["final_backup_days"])}
        try:
            return self.send("DELETE", params=backup)
        except ApiError as error:
            if error.status != 400:
                raise
            # Of an instance that does not run, for example.
            raise GcpError(
                f"{error}. If no final backup is possible, give final_backup=false (variable mlflow_final_backup)"
            ) from None

    def send(self, method: str, body: Any = None, params: dict[str, str] | None = None) -> dict[str, Any]:
        """The operation; waits while another one is running on the instance."""
        return cloudsql.retry_while_busy(
            self.client, lambda: self.client.request(method, self.url, body, params=params), self.timeout
        )

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        addresses = {address.get("type"): address.get("ipAddress") for address in live.get("ipAddresses") or ()}
        return {
            "name": self.name,
            "private_ip_address": self.task.known(addresses.get("PRIVATE", "")),
            "psc_service_attachment": self.task.known(live.get("pscServiceAttachmentLink", "")),
            "connection_name": self.task.known(live.get("connectionName", "")),
        }


def merged_flags(flags: dict[str, Any], live: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The LIVE flags with FLAGS, without those whose value is None."""
    own = [{"name": name, "value": flag_text(value)} for name, value in sorted(flags.items()) if value is not None]
    return [flag for flag in live if flag.get("name") not in flags] + own


def flag_text(value: Any) -> str:
    """The value of a flag as PostgreSQL expects it: YAML's true, which may have become text, is on."""
    return {"true": "on", "false": "off"}.get(values.text(value).lower(), values.text(value))


def main() -> None:
    run(
        Instance.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.SQL_NAME},
            "if_reserved": {"type": "str", "choices": ["fail", "number"], "default": "fail"},
            "region": {"type": "str", "kind": values.REGION},
            "zone": {"type": "str"},
            "database_version": {"type": "str", "default": "POSTGRES_17"},
            "edition": {"type": "str", "choices": list(values.TIERS), "default": "ENTERPRISE"},
            "tier": {"type": "str", "default": "db-g1-small"},
            "availability_type": {"type": "str", "choices": ["ZONAL", "REGIONAL"], "default": "ZONAL"},
            "disk_size_gb": {"type": "int", "kind": values.DISK_SIZE_GB},
            "disk_type": {"type": "str", "choices": ["PD_SSD", "PD_HDD", "HYPERDISK_BALANCED"]},
            "disk_autoresize": {"type": "bool", "default": True},
            "private_network": {"type": "str"},
            "psc_allowed_projects": {"type": "list", "elements": "str"},
            "allocated_ip_range": {"type": "str"},
            "ssl_mode": {
                "type": "str",
                "choices": ["ALLOW_UNENCRYPTED_AND_ENCRYPTED", "ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"],
            },
            "backup_enabled": {"type": "bool", "default": True},
            "point_in_time_recovery": {"type": "bool", "default": True},
            "backup_start_time": {"type": "str", "kind": values.TIME},
            "backup_retained": {"type": "int", "kind": values.BACKUP_RETAINED},
            "transaction_log_retention_days": {"type": "int"},
            "deletion_protection": {"type": "bool", "default": True},
            "final_backup": {"type": "bool", "default": False},
            "final_backup_days": {"type": "int", "default": 30, "kind": values.FINAL_BACKUP_DAYS},
            "database_flags": {"type": "dict", "kind": values.FLAGS},
            "maintenance_window": {
                "type": "dict",
                "options": {
                    "day": {"type": "int", "required": True, "kind": values.DAY},
                    "hour": {"type": "int", "required": True, "kind": values.HOUR},
                },
            },
            "query_insights": {"type": "bool"},
            "kms_key": {"type": "str", "no_log": False, "kind": values.KMS_KEY},
            **LABELS_OPTION,
            "wait": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 1800},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["region"])],
    )


if __name__ == "__main__":
    main()
