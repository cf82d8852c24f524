# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
What the Terraform module teamdatatonic/mlflow/google has made in a project, and the variables that describe it.

Everything is found from the load balancer: it leads to the Cloud Run service, whose environment names database and bucket. So it
does not matter which random suffixes they have. https://registry.terraform.io/modules/teamdatatonic/mlflow/google
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudrun, cloudsql, iam, secretmanager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup, relative, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API, aggregated
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.sizes import SIZES

ACCESS = "roles/iap.httpsResourceAccessor"
SIGN_IN = "roles/iam.serviceAccountTokenCreator"
WRITER = "roles/storage.objectAdmin"
BUCKETS = "https://storage.googleapis.com/storage/v1/b"
# Fixed names of the module's resources.
BACKEND = re.compile(r"(.+)-backend-default")
SECRET, LOGGER = "mlflow-db-pwd", "mlflow-logger"
PASSWORD = "DB_PASSWORD"
RANGE = "network_reserved_range"
# Variables of the playbook adopt, which are not part of a deployment.
ONCE = ("mlflow_adopt_", "mlflow_import_")
# A variable of the container: as the module sets it, and as the role cloudrun does.
NAMES = {
    "host": ("DB_PRIVATE_IP", "MLFLOW_DB_HOST"),
    "database": ("DB_NAME", "MLFLOW_DB_NAME"),
    "user": ("DB_USERNAME", "MLFLOW_DB_USER"),
    "bucket": ("GCP_BUCKET", "MLFLOW_ARTIFACTS_BUCKET"),
}
# The modules and resources of which everything stays, in the order in which Terraform is to forget them: data first.
KEPT = (
    "module.mlflow.module.artifacts",
    "random_id.artifacts_bucket_name_suffix",
    "module.mlflow.module.database",
    "module.mlflow.module.db_secret",
    "module.mlflow.module.logger",
    "module.mlflow.module.cloud_run.google_cloud_run_service.mlflow_service",
    "module.network",
    "module.services",
)


@dataclass(frozen=True)
class Front:
    """A load balancer of the module lb-http, and the Cloud Run service to which it leads."""

    name: str
    """The prefix of its names."""
    rule: dict[str, Any]
    backend: dict[str, Any]
    group: dict[str, Any]
    domains: list[str]

    @property
    def service(self) -> str:
        """The path of the service."""
        scope = relative(self.group["selfLink"]).split("/")
        return f"projects/{scope[1]}/locations/{scope[3]}/services/{self.group['cloudRun']['service']}"

    def __str__(self) -> str:
        region, name = self.service.split("/")[3::2]
        return f"{self.rule['name']} ({', '.join(self.domains)}), which leads to {name} in {region}"


class Stack:
    """Reads what the module has made. GIVEN are variables that somebody has set, which choose and have precedence."""

    def __init__(self, task: Task, given: Mapping[str, Any], module: str) -> None:
        self.task, self.client, self.project = task, task.client, task.project
        self.given = {name: value for name, value in given.items() if not name.startswith(ONCE)}
        self.prefix = f"{module}." if module else ""
        self.notes: list[str] = []

    def find(self, what: str, url: str, **query: str) -> dict[str, Any]:
        """The resource at URL, {} if it does not exist."""
        return self.task.read(what, lambda: self.client.find(url, params=query)) or {}

    def optional(self, what: str, url: str, **query: str) -> dict[str, Any]:
        """The same of a resource that the caller need not be allowed to read."""
        try:
            return self.find(what, url, **query)
        except ApiError as error:
            if error.status != 403:
                raise
            if not error.disabled:
                self.notes.append(f"You may not read {what}, so it is not in the lists ({error.message})")
            return {}

    def every(self, what: str, call: Callable[[], Iterator[dict[str, Any]]]) -> list[dict[str, Any]]:
        """All entries that CALL yields."""
        return self.task.read(what, lambda: list(call())) or []

    def chosen(self, name: str) -> str:
        """A variable that somebody has set, "" otherwise."""
        return str(self.given.get(name) or "")

    # What leads to the service.

    def fronts(self) -> Iterator[Front]:
        """All load balancers of the module lb-http that lead to a Cloud Run service."""

        def all_of(collection: str) -> dict[str, dict[str, Any]]:
            found = self.every(collection, partial(aggregated, self.client, self.project, collection))
            return {relative(entry["selfLink"]): entry for entry in found}

        rules, proxies = all_of("forwardingRules").values(), all_of("targetHttpsProxies")
        maps, backends, groups = all_of("urlMaps"), all_of("backendServices"), all_of("networkEndpointGroups")
        certificates = all_of("sslCertificates")
        for rule in rules:
            proxy = proxies.get(relative(rule.get("target"))) or {}
            backend = backends.get(relative(maps.get(relative(proxy.get("urlMap")), {}).get("defaultService"))) or {}
            named = BACKEND.fullmatch(backend.get("name", ""))
            if not named or rule["name"] != f"{named[1]}-https":
                continue
            domains: list[str] = []
            for link in proxy.get("sslCertificates") or ():
                found = certificates.get(relative(link)) or {}
                domains += lookup(found, "managed.domains") or found.get("subjectAlternativeNames") or []
            for entry in backend.get("backends") or ():
                group = groups.get(relative(entry.get("group"))) or {}
                if lookup(group, "cloudRun.service"):
                    yield Front(named[1], rule, backend, group, list(dict.fromkeys(domains)))

    @cached_property
    def front(self) -> Front:
        """The load balancer; raises GcpError if there is none, or more than one."""
        every = list(self.fronts())
        found = [
            front
            for front in every
            if self.chosen("mlflow_domain") in ("", *front.domains)
            and self.chosen("cloudrun_name") in ("", short(front.service))
            and self.chosen("mlflow_region") in ("", front.service.split("/")[3])
        ]
        if not found:
            others = f"; there is {' and '.join(map(str, every))}" if every else ""
            raise GcpError(
                f"Project {self.project} has no load balancer of the Terraform module (a forwarding rule NAME-https that leads to a "
                f"backend service NAME-backend-default and a Cloud Run service){others}. If the deployment has been adopted before and "
                "Terraform has destroyed the load balancer, the inventory that was written then is all that is needed"
            )
        if len(found) > 1:
            differs = "mlflow_domain" if len({tuple(front.domains) for front in found}) > 1 else "mlflow_region"
            raise GcpError(
                f"More than one load balancer may be that of the Terraform module: {' and '.join(map(str, found))}. Choose with "
                f"{differs}"
            )
        return found[0]

    # The service and its data.

    @cached_property
    def region(self) -> str:
        """The region of the service."""
        return self.front.service.split("/")[3]

    @cached_property
    def service(self) -> dict[str, Any]:
        """The Cloud Run service; raises GcpError if it is none of the module's."""
        name = f"Cloud Run service {short(self.front.service)}"
        service = self.find(name, cloudrun.BASE + self.front.service)
        known = cloudrun.plain_variables(service)
        if missing := [names[0] for names in NAMES.values() if not any(known.get(name) for name in names)]:
            raise GcpError(
                f"{name} in {self.region} is not that of the Terraform module: its container has no {', '.join(missing)}"
                if service
                else f"{name}, to which {self.front.rule['name']} leads, does not exist in {self.region}"
            )
        return service

    def setting(self, key: str) -> str:
        """A setting of the server."""
        known = cloudrun.plain_variables(self.service)
        return next(known[name] for name in NAMES[key] if known.get(name))

    @cached_property
    def instance(self) -> dict[str, Any]:
        """The Cloud SQL instance that has the server's database; raises GcpError if there is none."""
        host, chosen = self.setting("host"), self.chosen("cloudsql_name")
        url = cloudsql.instances_url(self.project)
        for instance in self.every("Cloud SQL instances", partial(self.client.items, url, "items")):
            addresses = [entry.get("ipAddress") for entry in instance.get("ipAddresses") or ()]
            if instance["name"] == chosen or not chosen and host in addresses:
                return instance
        raise GcpError(
            f"Project {self.project} has no Cloud SQL instance {chosen} (cloudsql_name)"
            if chosen
            else f"No Cloud SQL instance of project {self.project} has the address {host}, at which the server has its database: "
            "choose with cloudsql_name"
        )

    @cached_property
    def bucket(self) -> dict[str, Any]:
        """The bucket of the artifacts; raises GcpError if it does not exist."""
        name, _slash, path = self.setting("bucket").removeprefix("gs://").rstrip("/").partition("/")
        name = self.chosen("bucket_name") or name
        found = self.find(f"bucket {name}", f"{BUCKETS}/{name}")
        if not found:
            raise GcpError(
                f"Bucket {name}, in which the server has its artifacts, does not exist: choose with bucket_name"
            )
        if path:
            self.notes.append(
                f"The server has put its artifacts below gs://{name}/{path}: those of new experiments go into gs://{name}"
            )
        return found

    @cached_property
    def network(self) -> str:
        """The path of the instance's network; raises GcpError without one."""
        path = relative(lookup(self.instance, "settings.ipConfiguration.privateNetwork"))
        if not path:
            raise GcpError(
                f"Cloud SQL instance {self.instance['name']} has no private address, so it is not the Terraform module's"
            )
        return path

    def subnetwork(self) -> str:
        """The name of the network's subnetwork in the region; raises GcpError if there is none, or more than one."""
        host = self.network.split("/")[1]
        url = f"{API}/projects/{host}/regions/{self.region}/subnetworks"
        every = self.every(f"subnetworks of project {host}", partial(self.client.items, url, "items"))
        names = [
            entry["name"]
            for entry in every
            if relative(entry["network"]) == self.network and entry.get("purpose", "PRIVATE") == "PRIVATE"
        ]
        if chosen := self.chosen("mlflow_subnetwork_name"):
            return chosen
        if len(names) == 1:
            return str(names[0])
        found = f"has the subnetworks {' and '.join(names)}" if names else "has no subnetwork"
        raise GcpError(f"Network {short(self.network)} {found} in {self.region}: choose with mlflow_subnetwork_name")

    @property
    def reserved_range(self) -> str:
        """The range from which the instance has its address, "" for any of the peering's: with another one, Google would move it."""
        return str(lookup(self.instance, "settings.ipConfiguration.allocatedIpRange") or "")

    # Who has access.

    def members(self, resource_type: str, name: str, role: str) -> list[str]:
        """Who has ROLE on a resource."""
        target = iam.policy_of(self.task, resource_type, name)
        return iam.members_of(self.task.read(f"policy of {target.label}", lambda: target.read(self.task)) or {}, role)

    def access(self) -> dict[str, Any]:
        """The variables of users and of the logger's service account; raises GcpError if several may be it."""
        every = self.members("iap_backend_service", self.front.backend["name"], ACCESS)
        own = f"@{values.service_account_email('x', self.project).partition('@')[2]}"
        loggers = [member for member in every if member.startswith("serviceAccount:") and member.endswith(own)]
        name = self.chosen("mlflow_logger_service_account") or LOGGER
        logger = f"serviceAccount:{name}{own}"
        if logger not in loggers and loggers:
            raise GcpError(
                f"{' and '.join(loggers)} may pass Identity-Aware Proxy, and none of them is {logger.partition(':')[2]}: choose the "
                "account that programs use with mlflow_logger_service_account"
            )
        email = logger.partition(":")[2]
        creators: list[str] = []
        if self.find(f"service account {email}", iam.account_url(email, self.project)):
            creators = self.members("service_account", email, SIGN_IN)
            self.look_at_keys(email)
        if not creators and not self.given.get("mlflow_logger_token_creators"):
            self.notes.append(
                f"Nobody may sign in as {email} without a key: name whoever runs verify and jobs in mlflow_logger_token_creators"
            )
        return {
            **self.direct_access(logger),
            "mlflow_webapp_users": [member for member in every if member != logger],
            "mlflow_logger_service_account": name,
            "mlflow_logger_token_creators": creators,
        }

    def direct_access(self, logger: str) -> dict[str, Any]:
        """The logger's access to the bucket, which programs need for the experiments that there are."""
        if logger not in self.members("bucket", self.bucket["name"], WRITER):
            return {}
        self.notes.append(
            f"Programs write the files of experiments that exist directly to gs://{self.bucket['name']}, so that "
            f"{logger.partition(':')[2]} keeps {WRITER} on it. When nobody logs to these any more, revoke it and remove "
            "mlflow_accepted_members. The files of new experiments go through the server"
        )
        return {"mlflow_accepted_members": [logger]}

    def look_at_keys(self, email: str) -> None:
        """Note the keys that somebody has made for the logger's service account."""
        found = self.optional(
            f"keys of {email}", f"{iam.account_url(email, self.project)}/keys", keyTypes="USER_MANAGED"
        )
        if count := len(found.get("keys") or ()):
            self.notes.append(
                f"{email} has {count} keys. They go on working; delete them when all programs sign in as docs/logging.md describes"
            )

    # What it comes to.

    def variables(self) -> dict[str, Any]:
        """The variables of the inventory, those that are set by somebody as they are."""
        front, instance, bucket = self.front, self.instance, self.bucket
        domain = self.chosen("mlflow_domain") or next(iter(front.domains), "")
        client = str(lookup(front.backend, "iap.oauth2ClientId") or "").strip()
        found: dict[str, Any] = {
            "mlflow_project_id": self.project,
            "mlflow_region": self.region,
            "mlflow_domain": domain,
            "mlflow_extra_domains": [name for name in front.domains if name != domain],
            **self.access(),
            "mlflow_oauth": "custom" if client else "google_managed",
            "mlflow_oauth_client_id": client,
            # The module's own forwarding rule has the name that this role would give its own.
            "mlflow_lb_name": f"{front.name}-iap",
            "iap_lb_replaces": [front.rule["name"]],
            "cloudrun_name": short(front.service),
            **self.of_network(),
            "bucket_name": bucket["name"],
            **self.of_bucket(bucket),
            "cloudsql_name": instance["name"],
            "cloudsql_database": self.setting("database"),
            "cloudsql_user": self.setting("user"),
            **self.of_instance(instance),
        }
        if self.find(f"secret {SECRET}", f"{secretmanager.BASE}projects/{self.project}/secrets/{SECRET}"):
            found["cloudsql_password_secret"] = SECRET
        # The role would make a range of its own if the variable were not set.
        said = {name: value for name, value in found.items() if name == RANGE or value not in ("", [], {}, None)}
        return {**said, **self.given}

    def of_network(self) -> dict[str, Any]:
        """The variables of the network."""
        host = self.network.split("/")[1]
        return {
            "mlflow_network_project_id": "" if host == self.project else host,
            "mlflow_network_name": short(self.network),
            "mlflow_subnetwork_name": self.subnetwork(),
            RANGE: self.reserved_range,
        }

    def of_bucket(self, bucket: Mapping[str, Any]) -> dict[str, Any]:
        """What distinguishes the bucket from one that the role would make."""
        for rule in lookup(bucket, "lifecycle.rule") or ():
            condition = rule.get("condition") or {}
            if lookup(rule, "action.type") == "Delete" and set(condition) == {"age"}:
                self.notes.append(
                    f"A lifecycle rule deletes all files {condition['age']} days after they were logged. The first run replaces it: "
                    "from then on only deleted and overwritten files are removed, after bucket_noncurrent_days"
                )
        uniform = lookup(bucket, "iamConfiguration.uniformBucketLevelAccess.enabled")
        return {
            "bucket_location": "" if bucket["location"].lower() == self.region else bucket["location"],
            "bucket_storage_class": "" if bucket.get("storageClass") == "STANDARD" else bucket.get("storageClass"),
            "mlflow_storage_uniform": None if uniform else False,
        }

    def of_instance(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        """The size of the database as it is, so that nothing restarts it, and as many servers as it has connections for."""
        settings = instance["settings"]
        flags = {entry["name"]: entry.get("value", "") for entry in settings.get("databaseFlags") or ()}
        own = {"max_connections": int(flags["max_connections"])} if flags.get("max_connections") else {}
        tier, small = settings["tier"], SIZES["small"]
        usable = values.max_connections(tier, own) - values.RESERVED_CONNECTIONS - values.JOB_CONNECTIONS
        most = max(1, usable // (2 * (small.pool_size + small.pool_overflow + 1)))
        if most < small.max_instances and not self.given.get("cloudrun_max_instances"):
            self.notes.append(
                f"{tier} has connections for {most} instance(s) of the server, so that cloudrun_max_instances is {most}; set "
                "mlflow_size or cloudsql_tier, which restarts the database, for more"
            )
        recoverable = bool(lookup(settings, "backupConfiguration.pointInTimeRecoveryEnabled"))
        # A standby needs the logs.
        if restarts := not recoverable and settings.get("availabilityType") == "REGIONAL":
            self.notes.append(
                "The first run turns point-in-time recovery on, which restarts the database: it does not answer for minutes"
            )
        elif not recoverable and "cloudsql_point_in_time_recovery" not in self.given:
            self.notes.append(
                "The database cannot be restored to a point in time, only to a backup of each day. To change that, set "
                "cloudsql_point_in_time_recovery to true at a quiet time, since Google restarts the database"
            )
        size = int(settings.get("dataDiskSizeGb") or 0)
        disk, edition = settings.get("dataDiskType"), settings.get("edition")
        return {
            "cloudsql_region": "" if instance["region"] == self.region else instance["region"],
            "cloudsql_database_version": instance["databaseVersion"],
            "cloudsql_edition": "" if edition == "ENTERPRISE" else edition,
            "cloudsql_tier": tier,
            "cloudsql_availability_type": settings.get("availabilityType"),
            "cloudsql_disk_type": "" if disk == "PD_SSD" else disk,
            "cloudsql_disk_size_gb": size if size > small.disk_size_gb else "",
            "cloudsql_backup_start_time": lookup(settings, "backupConfiguration.startTime"),
            "cloudsql_point_in_time_recovery": None if recoverable or restarts else False,
            "cloudsql_database_flags": own,
            "cloudrun_max_instances": most if most < small.max_instances else "",
        }

    @property
    def password(self) -> bool:
        """Whether everybody who may see the service can read the password of the database."""
        return bool(cloudrun.plain_variables(self.service).get(PASSWORD))

    def forget(self) -> list[str]:
        """The commands by which Terraform forgets what stays."""
        return [f"terraform state rm '{self.prefix}{address}'" for address in KEPT]

    def left(self) -> list[dict[str, str]]:
        """What nothing needs when the new load balancer serves: Terraform's address, and the resource."""
        front, inside = self.front, f"{self.prefix}module.mlflow.module.cloud_run"
        connector = str(lookup(self.service, "template.vpcAccess.connector") or "")
        named = f"projects/{self.project}/locations/{self.region}/connectors/vpc-mlflow-connector"
        path = connector if "/" in connector else named
        found = []
        if self.optional(f"connector {short(path)}", f"https://vpcaccess.googleapis.com/v1/{path}"):
            found.append(("google_vpc_access_connector.connector", f"connector {short(path)} in {self.region}"))
        account = f"serviceAccount:{self.project}@appspot.gserviceaccount.com"
        for name, role in (
            ("cloud_sql", "roles/cloudsql.client"),
            ("secret", "roles/secretmanager.secretAccessor"),
            ("gcs", "roles/storage.admin"),
        ):
            if account in self.members("project", self.project, role):
                found.append((f"google_project_iam_member.{name}", f"{role} of {account} on project {self.project}"))
        found += [
            (
                "google_compute_region_network_endpoint_group.serverless_neg",
                f"network endpoint group {front.group['name']} in {self.region}",
            ),
            ("google_iap_web_backend_service_iam_policy.policy", f"access to {front.backend['name']}"),
            ("module.lb-http", f"load balancer {front.name} with the address {front.rule['IPAddress']}"),
        ]
        return [{"address": f"{inside}.{address}", "resource": resource} for address, resource in found]


# -- the inventory ---------------------------------------------------------------

PLAIN = re.compile(r"(?!(?:true|false|yes|no|on|off|null|y|n)$)[A-Za-z][\w./@+-]*(?::[\w./@+-]+)*", re.IGNORECASE)
SECRET_VARIABLE = "mlflow_oauth_client_secret"


def scalar(value: Any) -> str:
    """A value as YAML has it in one line."""
    text = value if isinstance(value, str) else ""
    return text if PLAIN.fullmatch(text) else json.dumps(value)


def lines(variables: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Variables as YAML."""
    for name, value in variables.items():
        if isinstance(value, (list, tuple)) and value:
            yield f"{indent}{name}:"
            yield from (f"{indent}  - {scalar(entry)}" for entry in value)
        elif isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from (f"{indent}  {key}: {scalar(entry)}" for key, entry in value.items())
        else:
            yield f"{indent}{name}: {scalar(value)}"


def inventory(host: str, variables: Mapping[str, Any]) -> str:
    """An inventory with one deployment."""
    text = [
        "---",
        "# What the Terraform module teamdatatonic/mlflow/google has made, as the playbook adopt has found it.",
        "mlflow:",
        "  hosts:",
        f"    {scalar(host)}:",
        *lines(variables, " " * 6),
    ]
    if variables.get("mlflow_oauth") == "custom":
        text += [
            "      # Google does not show it; keep it in Ansible Vault.",
            f'      {SECRET_VARIABLE}: "{{{{ vault_{SECRET_VARIABLE} }}}}"',
        ]
    return "\n".join(text) + "\n"
