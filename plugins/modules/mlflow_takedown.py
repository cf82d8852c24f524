#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_takedown
short_description: List what the takedown of a deployment deletes and keeps
description:
  - Reads what exists of an MLflow deployment and returns what the playbook C(destroy) deletes, in the order in which it does, and what
    it keeps with the reason, such as an existing network, or a network that others use too.
  - Returns what stands in the way as RV(findings), such as deletion protection, or objects in the bucket. It does not fail for them,
    so that a play can first show the lists.
  - After a takedown, the same lists say what is left.
  - Only reads, about forty requests at the same time.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
attributes:
  diff_mode:
    description: There is no diff, because nothing is changed.
    support: none
options:
  variables:
    description: The variables of all roles, as RV(mlops.mlflow_gcp.check_variables#module:variables) has them.
    type: dict
    required: true
  deployment:
    description: The name of the deployment, usually C(inventory_hostname).
    type: str
    required: true
seealso:
  - module: mlops.mlflow_gcp.check_variables
  - module: mlops.mlflow_gcp.mlflow_preflight
"""

EXAMPLES = r"""
- name: Check the variables
  mlops.mlflow_gcp.check_variables:
    roles: [services, network, cloudsql, bucket, image, cloudrun, iap_lb, iap_cloud_run, iap_internal_lb]
  register: mlflow_checked

- name: List what is deleted and what is kept
  mlops.mlflow_gcp.mlflow_takedown:
    project: my-project
    auth_kind: application
    variables: "{{ mlflow_checked.variables }}"
    deployment: "{{ inventory_hostname }}"
  register: takedown
"""

RETURN = r"""
delete:
  description: What exists and is deleted, in this order.
  returned: success
  type: list
  elements: str
  sample: [forwarding rule mlflow-lb-https, "Cloud SQL instance mlflow with the databases mlflow, after a final backup for 30 days"]
keep:
  description: What exists and is kept, with the reason.
  returned: success
  type: list
  elements: str
  sample: ["network shared: it existed before (network_name)"]
findings:
  description: What has to be decided before anything is deleted.
  returned: success
  type: list
  elements: str
  sample: ["bucket my-project-mlflow-artifacts holds 12 objects: set mlflow_destroy_data to true to delete them, or move them away"]
address:
  description: The address of the load balancer, to which DNS records lead; "" without one.
  returned: success
  type: str
  sample: 203.0.113.7
internal_address:
  description: The same of an internal load balancer.
  returned: success
  type: str
  sample: 10.10.0.9
unread:
  description: What the caller may not read, each with Google's message. It is neither in RV(delete) nor in RV(keep).
  returned: success
  type: list
  elements: str
  sample: []
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudsql, iam, secretmanager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup, relative, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.deployment import Deployment, Found
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.load_balancer import (
    Call,
    InternalLoadBalancer,
    LoadBalancer,
    several,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run

BUCKETS = "https://storage.googleapis.com/storage/v1/b"
RUN = "https://run.googleapis.com/v2"
REGISTRY = "https://artifactregistry.googleapis.com/v1"
NETWORKING = "https://servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
NETWORK_OF_INSTANCE = "settings.ipConfiguration.privateNetwork"
SERVER_ROLE = "roles/cloudsql.client"
BUILD_ROLE = "roles/logging.logWriter"
# What exists, in the order in which it is deleted; the other resources that are read tell what is kept.
ORDER = (
    "records",
    "https_rule",
    "http_rule",
    "https_proxy",
    "http_proxy",
    "url_map",
    "redirect",
    "certificate_map",
    "issued",
    "authorizations",
    "certificates",
    "backend",
    "security_policy",
    "negs",
    "address",
    "internal records",
    "internal https_rule",
    "internal http_rule",
    "internal https_proxy",
    "internal http_proxy",
    "internal url_map",
    "internal redirect",
    "internal certificates",
    "internal issued",
    "internal config",
    "internal backend",
    "internal negs",
    "internal proxies",
    "internal address",
    "logger",
    "service",
    "job",
    "binding",
    "keys",
    "server",
    "repository",
    "source",
    "log_role",
    "builder",
    "endpoint",
    "endpoint_address",
    "instance",
    "password",
    "bucket",
    "firewall",
    "subnetwork",
    "connection",
    "range",
    "network",
)


class Takedown(Deployment):
    """Reads what exists, and sorts it into what is deleted and what is kept."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.balancer, self.internal = LoadBalancer(self), InternalLoadBalancer(self)
        self.project_number = ""
        self.found: dict[str, Found] = {}
        self.databases: list[str] = []
        # As in the roles: what was there before belongs to others.
        self.own = {
            "network": not self.text("network_name"),
            "subnetwork": not self.text("network_subnetwork_name"),
            "range": self.makes_range,
            "connection": self.makes_range,
            "address": self.balancer.owns_address,
        }

    # Reading.

    def calls(self) -> Iterator[tuple[str, str, Callable[[], dict[str, Any] | None]]]:
        """Everything that is read: its key, its label, and how."""
        sql_name = self.text("cloudsql_name")
        place = f"{RUN}/projects/{self.text('cloudrun_project_id')}/locations/{self.text('cloudrun_region')}"
        endpoint = f"{API}/projects/{self.text('cloudsql_project_id')}/regions/{self.text('cloudsql_region')}"
        network = f"{API}/projects/{self.network_project}/global"
        urls = {
            "service": ("Cloud Run service", f"{place}/services/{self.text('cloudrun_name')}"),
            "job": ("Cloud Run job", f"{place}/jobs/{self.text('cloudrun_job_name')}"),
            "endpoint": ("endpoint", f"{endpoint}/forwardingRules/{sql_name}-psc"),
            "endpoint_address": ("address", f"{endpoint}/addresses/{sql_name}-psc"),
            "password": ("secret", secretmanager.BASE + self.secret),
            "firewall": ("firewall rule", f"{network}/firewalls/{self.text('network_prefix')}-allow-internal"),
            "subnetwork": ("subnetwork", f"{API}/{self.subnetwork}"),
            "network": ("network", f"{API}/{self.network}"),
        }
        if previous := self.text("iap_lb_previous_name"):
            urls["previous"] = (
                "forwarding rule",
                f"{API}/projects/{self.text('iap_lb_project_id')}/global/forwardingRules/{previous}-https",
            )
        if self.range:
            urls["range"] = ("range", f"{network}/addresses/{self.range}")
        for key, (kind, url) in urls.items():
            yield key, f"{kind} {url.rpartition('/')[2]}", partial(self.client.find, url)
        for key, project, account in (
            ("logger", self.of_door("project_id"), self.of_door("logger_account_id")),
            ("server", self.text("cloudrun_project_id"), self.text("cloudrun_account_id")),
        ):
            email = values.service_account_email(account, project)
            url = iam.account_url(email, project)
            yield key, f"service account {email}", partial(self.client.find, url)
        yield from self.balancer.calls()
        for key, label, call in self.internal_calls():
            yield f"internal {key}", label, call
        yield "keys", f"secrets {self.text('cloudrun_keys_prefix')}-*", self.read_keys
        yield self.role("binding", SERVER_ROLE, "cloudrun_project_id", "cloudrun_account_id")
        if not self.text("image_reference"):
            yield from self.image_calls()
        if self.text("iap_lb_certificate") == "certificate_manager":
            yield from self.balancer.calls_of_certificate_manager()
        instance = partial(cloudsql.find_instance, self.client, self.text("cloudsql_project_id"), sql_name)
        yield "instance", f"Cloud SQL instance {sql_name}", instance
        yield "instances", "Cloud SQL instances", self.read_instances
        yield "backups", "final backups", self.read_backups
        yield "bucket", f"bucket {self.text('bucket_name')}", self.read_bucket
        yield "deleted_bucket", "soft-deleted buckets", self.read_deleted_bucket
        if self.peered:
            yield "connection", f"private services access of {self.network.rpartition('/')[2]}", self.read_connection

    def internal_calls(self) -> Iterator[Call]:
        """What there is of an internal load balancer."""
        if self.internal.name:
            yield from self.internal.calls()
        if self.text("iap_internal_lb_certificate") == "ca_pool":
            yield from self.internal.calls_of_certificate_manager()

    def read_records(self) -> dict[str, Any] | None:
        """The A records of the domains that lead to the address; without a load balancer now, those of all names."""
        return self.balancer.read_records(
            self.address, self.domains("iap_lb") if self.door == "load_balancer" else None
        )

    def read_internal_records(self) -> dict[str, Any] | None:
        """The same for an internal load balancer."""
        names = self.domains("iap_internal_lb") if self.door == "internal" else None
        return self.internal.read_records(self.internal_address, names)

    def domains(self, role: str) -> list[str]:
        """The domains of a load balancer."""
        return [self.text(f"{role}_domain"), *(values.listed(self.variables.get(f"{role}_extra_domains")) or ())]

    @property
    def address(self) -> str:
        """The address of the load balancer, "" without one."""
        return str(self.live("address").get("address", ""))

    @property
    def internal_address(self) -> str:
        """The address of the internal load balancer, "" without one."""
        return str(self.live("internal address").get("address", ""))

    def image_calls(self) -> Iterator[tuple[str, str, Callable[[], dict[str, Any] | None]]]:
        """What builds the image."""
        project, bucket = self.text("image_project_id"), self.text("image_source_bucket")
        url = f"{REGISTRY}/projects/{project}/locations/{self.text('image_region')}/repositories/{self.text('image_repository')}"
        yield "repository", f"repository {self.text('image_repository')}", partial(self.client.find, url)
        yield "source", f"bucket {bucket}", partial(self.find_bucket, project, bucket)
        yield self.role("log_role", BUILD_ROLE, "image_project_id", "image_build_account_id")
        email = values.service_account_email(self.text("image_build_account_id"), project)
        yield "builder", f"service account {email}", partial(self.client.find, iam.account_url(email, project))

    def role(
        self, key: str, role: str, project: str, account: str
    ) -> tuple[str, str, Callable[[], dict[str, Any] | None]]:
        """A role on a project that a service account has; PROJECT and ACCOUNT are variables."""
        member = f"serviceAccount:{values.service_account_email(self.text(account), self.text(project))}"
        label = f"{role} of {member} on project {self.text(project)}"
        return key, label, partial(self.read_role, self.text(project), role, member)

    def read(self) -> None:
        """Read everything."""
        calls = list(self.calls())
        # First on its own, so that the credentials are exchanged for a token only once, and fail only once.
        url = f"https://cloudresourcemanager.googleapis.com/v1/projects/{self.network_project}"
        project = self.look(f"project {self.network_project}", "", partial(self.client.find, url))
        self.project_number = str((project.body or {}).get("projectNumber", ""))
        with ThreadPoolExecutor(len(calls)) as pool:
            futures = {key: pool.submit(self.look, label, "", call) for key, label, call in calls}
            self.found = {key: future.result() for key, future in futures.items()}
        if self.text("iap_lb_dns_zone") and self.address:
            self.found["records"] = self.look("DNS records", "", self.read_records)
        if self.text("iap_internal_lb_dns_zone") and self.internal_address:
            self.found["internal records"] = self.look("DNS records", "", self.read_internal_records)
        if instance := self.live("instance"):
            url = f"{cloudsql.instances_url(self.text('cloudsql_project_id'))}/{instance['name']}/databases"
            found = self.look("databases", "", partial(self.client.find, url)).body or {}
            self.databases = [entry["name"] for entry in found.get("items", ()) if entry["name"] != "postgres"]

    def live(self, key: str) -> dict[str, Any]:
        """The body of what was read, {} without one."""
        found = self.found.get(key)
        return (found and found.body) or {}

    def read_keys(self) -> dict[str, Any] | None:
        """The secrets with the server's keys."""
        names = [f"{self.text('cloudrun_keys_prefix')}-{key}" for key in cloudrun_keys()]
        parent = f"{secretmanager.BASE}projects/{self.text('cloudrun_project_id')}/secrets"
        return several("secret", (name for name in names if self.client.find(f"{parent}/{name}")))

    def read_role(self, project: str, role: str, member: str) -> dict[str, Any] | None:
        """A role on a project, if MEMBER has it."""
        policy = iam.policy_of(self.task, "project", project).read(self.task)
        held = map(iam.before_deletion, iam.members_of(policy, role))
        return {"role": role} if member in map(iam.canonical, held) else None

    def read_instances(self) -> dict[str, Any] | None:
        """The instances with an address in the network."""
        found = self.client.items(cloudsql.instances_url(self.text("cloudsql_project_id")), "items")
        used = (entry for entry in found if same_resource(self.network, lookup(entry, NETWORK_OF_INSTANCE)))
        return several("Cloud SQL instance", (entry["name"] for entry in used))

    def read_backups(self) -> dict[str, Any] | None:
        """The final backups of earlier instances: https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/Backups"""
        url = f"https://sqladmin.googleapis.com/v1/projects/{self.text('cloudsql_project_id')}/backups"
        pattern = re.compile(rf"{re.escape(self.text('cloudsql_name'))}(-\d+)?")
        found = [
            entry
            for entry in self.client.items(url, "backups")
            if entry.get("type") == "FINAL" and pattern.fullmatch(str(entry.get("instance")).rpartition(":")[2])
        ]
        return {"backups": found} if found else None

    def read_bucket(self) -> dict[str, Any] | None:
        """The bucket, if it is one of the project, with the key "objects": how many are in it."""
        name = self.text("bucket_name")
        if not self.find_bucket(self.text("bucket_project_id"), name):
            return None
        objects = {"versions": "true", "maxResults": "1000", "fields": "items(name),nextPageToken"}
        page = self.client.get(f"{BUCKETS}/{name}/o", params=objects)
        count = len(page.get("items", ()))
        return {"name": name, "objects": f"more than {count}" if page.get("nextPageToken") else str(count or "")}

    def find_bucket(self, project: str, name: str) -> dict[str, Any] | None:
        """A bucket, if it is one of the project."""
        query = {"project": project, "prefix": name}
        return next(
            (entry for entry in self.client.items(BUCKETS, "items", params=query) if entry["name"] == name), None
        )

    def read_deleted_bucket(self) -> dict[str, Any] | None:
        """Soft-deleted buckets of this name: https://cloud.google.com/storage/docs/use-soft-deleted-buckets"""
        name = self.text("bucket_name")
        query = {"project": self.text("bucket_project_id"), "prefix": name, "softDeleted": "true"}
        found = [entry for entry in self.client.items(BUCKETS, "items", params=query) if entry["name"] == name]
        return {"buckets": found} if found else None

    def read_connection(self) -> dict[str, Any] | None:
        """The connection with Google's managed services, if it has the range."""
        network = (
            f"projects/{self.project_number or self.network_project}/global/networks/{self.network.rpartition('/')[2]}"
        )
        try:
            found = self.client.find(NETWORKING, params={"network": network}) or {}
        except ApiError as error:
            if "not exist" not in error.message:
                raise
            return None
        for connection in found.get("connections") or ():
            if not self.own["connection"] or self.range in connection.get("reservedPeeringRanges", ()):
                return connection
        return None

    # Sorting.

    def users(self) -> dict[str, str]:
        """Who else uses what was made here, so that it cannot be deleted, by the key of the resource."""
        instance = self.live("instance").get("name")
        instances = [name for name in self.live("instances").get("names", ()) if name != instance]
        ranges = [name for name in self.live("connection").get("reservedPeeringRanges", ()) if name != self.range]
        links = map(relative, self.live("network").get("subnetworks") or ())
        other_rules = self.live("internal other_rules").get("names", ())
        own = [self.subnetwork] if self.own["subnetwork"] else []
        own += [] if other_rules else [f"{self.internal.subnetworks}/{self.internal.name}-proxies"]
        subnetworks = [path.rpartition("/")[2] for path in links if path not in own]
        peerings = [entry["name"] for entry in self.live("network").get("peerings") or ()]
        peerings = [name for name in peerings if not name.startswith("servicenetworking-")]
        users: dict[str, str] = {}
        if instances:
            shared = f"Cloud SQL {', '.join(instances)}"
            users = dict.fromkeys(("connection", "range", "network"), shared) if not ranges else {"network": shared}
        if other_rules:
            users["internal proxies"] = ", ".join(other_rules)
        if subnetworks or peerings or ranges:
            users["network"] = ", ".join([*subnetworks, *peerings, *ranges])
        return users

    def deleted(self) -> Iterator[str]:
        """What is deleted."""
        users = self.users()
        for key in ORDER:
            body = self.live(key)
            if not body or not self.own.get(key, True) or key in users:
                continue
            for name in body.get("names", ()):
                yield f"{body['kind']} {name}"
            if "names" not in body:
                yield self.found[key].label + self.details(key, body)

    def details(self, key: str, body: dict[str, Any]) -> str:
        """What else goes with a resource."""
        if key == "connection" and len(body.get("reservedPeeringRanges", ())) > 1:
            return f": only the range {self.range}"
        if key == "bucket" and body["objects"]:
            return f" with {body['objects']} objects"
        if key != "instance":
            return ""
        renamed = f", named {body['name']}" if body["name"] != self.text("cloudsql_name") else ""
        databases = f" with the databases {', '.join(self.databases)}" if self.databases else ""
        days = self.number("cloudsql_final_backup_days")
        backup = f", after a final backup for {days} days" if self.flag("cloudsql_final_backup") else ""
        return f"{renamed}{databases}{backup}"

    def kept(self) -> Iterator[str]:
        """What is kept, and why."""
        users = self.users()
        variable = {
            "network": "network_name",
            "subnetwork": "network_subnetwork_name",
            "range": "network_reserved_range",
            "connection": "network_reserved_range",
            "address": "iap_lb_address_name",
        }
        for key, body in ((key, self.live(key)) for key in ORDER):
            if body and not self.own.get(key, True):
                yield f"{self.found[key].label}: it existed before ({variable[key]})"
            elif body and key in users:
                yield f"{self.found[key].label}: others use it ({users[key]})"
        for backup in self.live("backups").get("backups", ()):
            until = str(backup.get("expiryTime"))[:10]
            yield f"final backup {backup['name']} of Cloud SQL instance {backup['instance']}: until {until}, billed until then"
        for bucket in self.live("deleted_bucket").get("buckets", ()):
            until = str(bucket.get("hardDeleteTime"))[:10]
            yield f"soft-deleted bucket {bucket['name']}: until {until}, billed until then"
        if self.of_door("oauth") == "brand":
            yield "brand and OAuth client: Google's API cannot delete a brand, and others of the project may use it"
        yield "APIs: other parts of the project may use them; they cost nothing"
        if self.door != "cloud_run" and not self.of_door("dns_zone"):
            yield f"DNS records of {self.of_door('domain')}: remove them, the address is no longer yours"

    def findings(self) -> Iterator[str]:
        """What has to be decided first."""
        name, confirmed = self.params["deployment"], self.text("mlflow_confirm_destroy")
        if confirmed != name:
            yield (
                f"mlflow_confirm_destroy is {confirmed!r}, and this deployment is called {name!r} in the inventory: "
                f"set it to {name} to delete what is listed"
            )
        if self.live("previous"):
            yield (
                f"the load balancer {self.text('iap_lb_previous_name')} (iap_lb_previous_name) still exists: run site with "
                "iap_lb_delete_previous first"
            )
        if self.flag("mlflow_destroy_data"):
            return
        advice = "set mlflow_destroy_data to true to delete"
        if lookup(self.live("instance"), "settings.deletionProtectionEnabled"):
            yield f"Cloud SQL instance {self.live('instance')['name']} has deletion protection: {advice} it with its data"
        if self.live("repository") and (readers := self.text("image_readers")) not in ("", "[]"):
            yield f"repository {self.text('image_repository')} has images that {readers} may run: {advice} them"
        if objects := self.live("bucket").get("objects"):
            yield f"bucket {self.text('bucket_name')} holds {objects} objects: {advice} them, or move them away"


def cloudrun_keys() -> tuple[str, ...]:
    """The last parts of the names of the secrets with the server's keys."""
    return tuple(name.pattern.partition("}-")[2] for name in values.NAMES if name.what == "the secret of a key")


def examine(task: Task) -> dict[str, Any]:
    """The work of the module."""
    takedown = Takedown(task)
    takedown.read()
    return {
        "changed": False,
        "delete": list(takedown.deleted()),
        "keep": list(takedown.kept()),
        "findings": list(takedown.findings()),
        "address": takedown.address,
        "internal_address": takedown.internal_address,
        "unread": sorted(takedown.unread),
    }


def main() -> None:
    run(
        examine,
        argument_spec={
            "variables": {"type": "dict", "required": True},
            "deployment": {"type": "str", "required": True},
        },
    )


if __name__ == "__main__":
    main()
