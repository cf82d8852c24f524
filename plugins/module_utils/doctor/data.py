# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the data: the bucket for artifacts and the database."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.cloudsql import (
    find_instance,
    instances_url,
    password_problem,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup, relative
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.report import Reader, Report, has_role, rerun
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.server import Server, grant
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import secret_path

STORAGE = "https://storage.googleapis.com/storage/v1/b/"
# Conditions of a lifecycle rule that no live object meets.
NONCURRENT = ("daysSinceNoncurrentTime", "noncurrentTimeBefore", "numNewerVersions")
# From the weakest to the strongest.
SSL_MODES = ("ALLOW_UNENCRYPTED_AND_ENCRYPTED", "ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED")
ANYWHERE = ("0.0.0.0/0", "::/0")


def deletes_live_objects(rule: dict[str, Any]) -> bool:
    """
    Whether a lifecycle rule deletes objects that are neither overwritten nor deleted.
    https://cloud.google.com/storage/docs/lifecycle#conditions
    """
    condition = rule.get("condition") or {}
    noncurrent = condition.get("isLive") is False or any(condition.get(key) for key in NONCURRENT)
    return lookup(rule, "action.type") == "Delete" and not noncurrent


class Bucket(Reader):
    """The checks of the bucket."""

    def check(self, server: Server, project_policy: dict[str, Any] | None) -> None:
        """Check the bucket's settings, that nobody else gets in, and that the server may use it."""
        if not self.params["bucket"]:
            return
        name = self.params["bucket"].removeprefix("gs://").partition("/")[0]
        where = f"bucket {name}"
        used = server.value("MLFLOW_ARTIFACTS_BUCKET")
        if used and used.removeprefix("gs://").partition("/")[0] != name:
            service = f"Cloud Run service {self.params['run_service']}"
            self.report.add(service, f"stores artifacts in bucket {used} instead of {name}", rerun("cloudrun"))
        bucket = self.get(where, f"{STORAGE}{name}", rerun("bucket"))
        if bucket:
            self.settings(where, name, bucket)
        if bucket or self.report.denied:
            role, account = "roles/storage.objectUser", f"serviceAccount:{server.account}"
            if server.exists:
                grant(self, where, ("bucket", name), role, account, "the server", "cloudrun", project_policy)
            else:
                self.policy(where, ("bucket", name), rerun("cloudrun"))

    def settings(self, where: str, name: str, bucket: dict[str, Any]) -> None:
        """Check the settings that protect the objects, or that keep MLflow from deleting them."""
        add, fix = self.report.add, rerun("bucket")
        prevention = lookup(bucket, "iamConfiguration.publicAccessPrevention")
        if self.params["public_access_prevention"] == "enforced" and prevention != "enforced":
            add(
                where,
                f"may be made public: its public access prevention is {prevention or 'inherited'}, not enforced",
                fix,
            )
        if self.params["uniform_access"] and not lookup(bucket, "iamConfiguration.uniformBucketLevelAccess.enabled"):
            add(where, "uniform bucket-level access is off, so objects may be open to others by their own ACLs", fix)
        if self.params["versioning"] and not lookup(bucket, "versioning.enabled"):
            add(where, "versioning is off, so what MLflow overwrites or deletes cannot be restored", fix)
        for rule in lookup(bucket, "lifecycle.rule") or ():
            if deletes_live_objects(rule):
                add(
                    where,
                    f"a lifecycle rule deletes artifacts that are in use (condition {rule.get('condition')})",
                    fix,
                )
        seconds = int(lookup(bucket, "retentionPolicy.retentionPeriod") or 0)
        if seconds:
            locked = lookup(bucket, "retentionPolicy.isLocked")
            add(
                where,
                f"has a retention policy of {seconds} seconds, during which MLflow can neither delete nor overwrite artifacts",
                "it is locked and cannot be removed: move the artifacts to another bucket (bucket_name)"
                if locked
                else f"gcloud storage buckets update gs://{name} --clear-retention-period",
            )
        if bucket.get("defaultEventBasedHold"):
            add(
                where,
                "puts every new object on hold, so MLflow can neither delete nor overwrite artifacts",
                f"gcloud storage buckets update gs://{name} --no-default-event-based-hold, and release the held objects",
            )


class Database(Reader):
    """The checks of the Cloud SQL instance."""

    def __init__(self, task: Task, report: Report, instance: dict[str, Any] | None) -> None:
        super().__init__(task, report)
        self.instance = instance or {}
        self.name = self.instance.get("name") or self.params["sql_instance"]
        self.where = f"Cloud SQL instance {self.name}"
        self.settings: dict[str, Any] = self.instance.get("settings") or {}
        self.address: dict[str, Any] = self.settings.get("ipConfiguration") or {}

    def check(self, server: Server, project_policy: dict[str, Any] | None) -> None:
        """Check that the instance runs, is reachable for the server, and for nobody else."""
        if server.account and project_policy is not None:
            member = f"serviceAccount:{server.account}"
            if not has_role(project_policy, "roles/cloudsql.client", member):
                self.report.add(
                    f"project {self.task.project}",
                    f"{server.account} (the server) does not have roles/cloudsql.client",
                    rerun("cloudrun"),
                )
        if not self.instance:
            return
        self.running()
        self.exposure()
        self.connection(server)
        self.budget(server)
        self.password()

    def running(self) -> None:
        """Check that the instance is running."""
        if self.settings.get("activationPolicy") == "NEVER":
            self.report.add(
                self.where,
                "is stopped",
                f"gcloud sql instances patch {self.name} --activation-policy=ALWAYS, or {rerun('cloudsql')}",
            )
        elif self.instance.get("state") != "RUNNABLE":
            self.report.add(
                self.where, f"is {self.instance.get('state')}, not RUNNABLE", "wait, or check its operations"
            )

    def exposure(self) -> None:
        """Check that the instance cannot be reached from the internet, or without encryption."""
        add, fix = self.report.add, rerun("cloudsql")
        public = [
            str(entry.get("ipAddress"))
            for entry in self.instance.get("ipAddresses") or ()
            if entry.get("type") == "PRIMARY"
        ]
        if public or self.address.get("ipv4Enabled"):
            add(self.where, f"has a public IP address{' ' if public else ''}{', '.join(public)}", fix)
        networks = [str(entry.get("value")) for entry in self.address.get("authorizedNetworks") or ()]
        if networks:
            whole = " (the whole internet)" if any(network in ANYWHERE for network in networks) else ""
            add(self.where, f"accepts connections from authorized networks: {', '.join(networks)}{whole}", fix)
        wanted = self.params["ssl_mode"]
        mode = self.address.get("sslMode") or ("ENCRYPTED_ONLY" if self.address.get("requireSsl") else SSL_MODES[0])
        if wanted and mode in SSL_MODES and SSL_MODES.index(mode) < SSL_MODES.index(wanted):
            add(self.where, f"has sslMode {mode}, which is weaker than {wanted}", fix)

    def connection(self, server: Server) -> None:
        """Check that the server connects to the instance's private address, in the right network."""
        add = self.report.add
        private = self.private_addresses()
        if not lookup(self.address, "pscConfig.pscEnabled"):
            network, wanted = self.address.get("privateNetwork"), self.params["network"]
            if wanted and (not network or self.network_path(network) != self.network_path(wanted)):
                add(
                    self.where,
                    f"has its private IP address in network {relative(network) or 'none'} instead of "
                    f"{self.network_path(wanted)}",
                    "the network of an instance cannot be changed: see the role cloudsql",
                )
            if not private:
                add(self.where, "has no private IP address", rerun("cloudsql"))
        host = server.value("MLFLOW_DB_HOST")
        if private and host and host not in private:
            add(
                f"Cloud Run service {self.params['run_service']}",
                f"MLFLOW_DB_HOST is {host}, but the private IP address of {self.where} is {private[0]}",
                rerun("cloudrun"),
            )

    def private_addresses(self) -> list[str]:
        """The private IP addresses of the instance."""
        return [
            entry["ipAddress"] for entry in self.instance.get("ipAddresses") or () if entry.get("type") == "PRIVATE"
        ]

    def budget(self, server: Server) -> None:
        """Check that the database gives as many connections as the server may open."""
        if not server.value("MLFLOW_DB_HOST"):
            return
        flags = {flag.get("name"): flag.get("value") for flag in self.settings.get("databaseFlags") or ()}
        most = int(flags.get("max_connections") or values.max_connections(self.settings.get("tier") or ""))
        pool = server.number("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", 5)
        overflow = server.number("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", 10)
        problem = values.connections(server.max_instances, pool, overflow, most)
        if problem:
            self.report.add(
                self.where,
                f"accepts only {most} connections (max_connections): {problem}",
                "raise or remove the flag max_connections (cloudsql_database_flags), or lower cloudrun_max_instances, "
                f"cloudrun_pool_size or cloudrun_pool_overflow; then {rerun('cloudsql')}",
            )

    def password(self) -> None:
        """Check that nobody has changed the password: the server notices only when it opens the next connection."""
        user, secret = self.params["sql_user"], self.params["secret"]
        if not user or not secret:
            return
        path = secret_path(self.task.project, secret, "secret")
        where = f"password of user {user}"
        problem = self.look(
            where,
            lambda: password_problem(self.task.client, self.task.project, self.name, user, path),
            rerun("cloudsql"),
        )
        if problem:
            self.report.add(self.where, problem, rerun("cloudsql"))


def read_instance(task: Task, report: Report) -> dict[str, Any] | None:
    """The Cloud SQL instance."""
    name = task.params["sql_instance"]
    if not name:
        return None
    reader, url = Reader(task, report), f"{instances_url(task.project)}/{name}"
    # A response of 404 is a problem, also if there is no instance under another name.
    return reader.look(
        f"Cloud SQL instance {name}",
        lambda: find_instance(task.client, task.project, name) or task.client.get(url),
        rerun("cloudsql"),
    )
