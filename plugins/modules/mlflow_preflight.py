#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_preflight
short_description: Refuse a deployment that is not possible, before anything is written
description:
  - Reads what exists of an MLflow deployment - network, subnetwork, reserved range, Cloud SQL instance, database, secret, bucket,
    image that is given, Cloud Run service, address and backend service of the load balancer, keys of Cloud KMS - and compares it
    with what the variables ask for.
  - Fails if something cannot become what is asked, such as a database in another region, and lists all such findings, each with
    the variable to change. The modules that manage these resources would refuse the same, but each only when it is its turn, when
    others have already been changed.
  - What does not exist yet, can be changed in place, or may not be read by the caller is not refused. In a project whose APIs are
    not enabled yet, nothing exists.
  - Returns what exists in the form of the roles' results, so that a run of only some parts (option O(run_tags)) has what
    the other parts would have returned. Fails if such a run needs something that does not exist.
  - Only reads, about ten requests at the same time.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
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
  names:
    description: For each variable, the one to name in messages, as RV(mlops.mlflow_gcp.check_variables#module:names) has them.
    type: dict
    default: {}
  run_tags:
    description:
      - Tags that the run is limited to, usually C(ansible_run_tags).
      - The parts of a deployment are V(services), V(network), V(database), V(bucket), V(image), V(front_door) and V(users).
    type: list
    elements: str
    default: [all]
  skip_tags:
    description: Tags that the run leaves out, usually C(ansible_skip_tags).
    type: list
    elements: str
    default: []
seealso:
  - module: mlops.mlflow_gcp.check_variables
  - module: mlops.mlflow_gcp.mlflow_doctor
"""

EXAMPLES = r"""
- name: Check the variables
  mlops.mlflow_gcp.check_variables:
    roles: [services, network, cloudsql, bucket, image, cloudrun, iap_lb]
  register: mlflow_checked

- name: Stop before the first change if what exists cannot become what is asked
  mlops.mlflow_gcp.mlflow_preflight:
    project: my-project
    auth_kind: application
    variables: "{{ mlflow_checked.variables }}"
    names: "{{ mlflow_checked.names }}"
    run_tags: "{{ ansible_run_tags }}"
    skip_tags: "{{ ansible_skip_tags }}"
  register: mlflow_existing
"""

RETURN = r"""
findings:
  description: What cannot become what is asked, or is missing for the tags of the run; also returned on failure.
  returned: always
  type: list
  elements: str
  sample:
    - mlflow_region is 'europe-west1', but region of Cloud SQL instance mlflow is 'europe-west2'; give another name to create a new instance there
existing:
  description: The labels of the resources that exist.
  returned: success
  type: list
  elements: str
  sample: [network mlflow, Cloud SQL instance mlflow]
unread:
  description: The labels of the resources that the caller may not read, each with Google's message. They were not compared.
  returned: success
  type: list
  elements: str
  sample: []
network:
  description: What role network would return, with "" for what does not exist.
  returned: success
  type: dict
  sample:
    network: mlflow
    network_path: projects/my-project/global/networks/mlflow
    subnetwork: mlflow-europe-west2
    subnetwork_path: projects/my-project/regions/europe-west2/subnetworks/mlflow-europe-west2
    reserved_range: mlflow-services
    private_access: peering
cloudsql:
  description: What role cloudsql would return, with "" for what does not exist.
  returned: success
  type: dict
  sample:
    instance: mlflow
    private_ip_address: 10.20.0.3
    connection_name: my-project:europe-west2:mlflow
    database: mlflow
    user: mlflow
    password_secret: projects/my-project/secrets/mlflow-db-password
    password_version: "1"
    is_new: false
image:
  description: The image that the Cloud Run service runs, with "" for a service that does not exist.
  returned: success
  type: dict
  sample:
    image: europe-west2-docker.pkg.dev/my-project/mlflow/server@sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b
bucket:
  description: What role bucket would return, with "" for what does not exist.
  returned: success
  type: dict
  sample:
    name: my-project-mlflow-artifacts
    url: gs://my-project-mlflow-artifacts
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Network
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudsql, immutable, secretmanager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import rivals
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup, relative, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API, LINKS, aggregated
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.deployment import Deployment, Found
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.registry import Image

COMPUTE = f"{API}/"
BUCKETS = "https://storage.googleapis.com/storage/v1/b"
RUN = "https://run.googleapis.com/v2/"
KMS = "cloudkms.googleapis.com"
NO_IPV4 = "has no IPv4 range, which Cloud Run needs"
REGISTRY = "artifactregistry.googleapis.com"
FIRST = "run site without --tags first"
HELP = "https://github.com/mlops/mlflow_gcp/blob/main/docs/changes.md says how to make such changes"

# The parts of a deployment, which are tags of the play site, and what each needs from the others.
PARTS: dict[str, tuple[str, ...]] = {
    "services": (),
    "network": (),
    "database": ("network", "range"),
    "bucket": (),
    "image": ("network", "subnetwork", "instance", "endpoint", "database", "secret", "bucket"),
    "front_door": ("service",),
    "users": ("backend",),
}
# The part that makes each of them.
MADE_BY = {
    "network": "network",
    "subnetwork": "network",
    "range": "network",
    "instance": "database",
    "endpoint": "database",
    "database": "database",
    "secret": "database",
    "bucket": "bucket",
    "service": "image",
    "address": "front_door",
    "backend": "front_door",
}
# The APIs without which a part cannot exist.
APIS = {
    "services": (),
    "network": ("compute.googleapis.com",),
    "database": ("secretmanager.googleapis.com", "sqladmin.googleapis.com"),
    "bucket": ("storage.googleapis.com",),
    "image": ("run.googleapis.com",),
    "front_door": ("compute.googleapis.com",),
    "users": ("compute.googleapis.com",),
}
# The variables of each part that name a key of Cloud KMS.
KEYS = {
    "database": ("cloudsql_kms_key", "cloudsql_password_secret_kms_key"),
    "bucket": ("bucket_kms_key",),
    "image": ("cloudrun_kms_key", "cloudrun_keys_kms_key"),
}
# What the names of the secrets with the server's keys end with.
SERVER_KEYS = ("webhook-key", "kek-passphrase", "session-key")
# Tags of Ansible that stand for all parts.
EVERY_TAG = {"all", "tagged"}


class Preflight(Deployment):
    """Reads what exists and collects what cannot become what is asked."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.findings: list[str] = []
        self.missing: list[str] = []
        run_tags, skip_tags = set(self.params["run_tags"]), set(self.params["skip_tags"])
        self.parts = {part for part in PARTS if run_tags & {part, *EVERY_TAG} and not skip_tags & {part, *EVERY_TAG}}
        if "front_door" in skip_tags:
            # The tasks that grant access are part of the front door.
            self.parts.discard("users")
        self.partial = not run_tags & EVERY_TAG or bool(skip_tags & PARTS.keys())
        self.found: dict[str, Found] = {}

    # Reading.

    def read(self) -> None:
        """Read all resources."""
        sql_project, sql_name = self.text("cloudsql_project_id"), self.text("cloudsql_name")
        sql = f"{cloudsql.instances_url(sql_project)}/{sql_name}"
        balancer = f"{COMPUTE}projects/{self.text('iap_lb_project_id')}/global"
        region = f"projects/{self.text('cloudrun_project_id')}/locations/{self.text('cloudrun_region')}"
        lb_name = self.text("iap_lb_name")
        urls = {
            "network": ("network", COMPUTE + self.network),
            "subnetwork": ("subnetwork", COMPUTE + self.subnetwork),
            "instance": (immutable.SQL_INSTANCE.name, sql),
            "service": ("Cloud Run service", f"{RUN}{region}/services/{self.text('cloudrun_name')}"),
            "address": (immutable.ADDRESS.name, f"{balancer}/addresses/{self.text('iap_lb_address_name')}"),
            "backend": (immutable.BACKEND_SERVICE.name, f"{balancer}/backendServices/{lb_name}-backend"),
            "rule": ("forwarding rule", f"{balancer}/forwardingRules/{lb_name}-https"),
        }
        if self.range:
            urls["range"] = (
                "reserved range",
                f"{COMPUTE}projects/{self.network_project}/global/addresses/{self.range}",
            )
        if not self.peered:
            places = f"projects/{self.text('cloudsql_project_id')}/regions/{self.text('cloudsql_region')}"
            urls["endpoint"] = ("endpoint", f"{COMPUTE}{places}/addresses/{self.text('cloudsql_name')}-psc")
        calls: dict[str, tuple[str, str, Callable[[], dict[str, Any] | None]]] = {
            key: (f"{kind} {url.rpartition('/')[2]}", url.split("/")[2], partial(self.client.find, url))
            for key, (kind, url) in urls.items()
        }
        calls["instance"] = (
            *calls["instance"][:2],
            partial(cloudsql.find_instance, self.client, sql_project, sql_name),
        )
        bucket, secret = self.text("bucket_name"), self.secret.rpartition("/")[2]
        calls["bucket"] = (f"{immutable.BUCKET.name} {bucket}", "storage.googleapis.com", self.read_bucket)
        calls["secret"] = (f"secret {secret}", "secretmanager.googleapis.com", self.read_secret)
        if image := Image.parse(self.text("image_reference")):
            calls["image"] = (
                f"image {self.text('image_reference')}",
                REGISTRY,
                partial(self.read_image, image),
            )
        calls["rivals"] = ("other load balancers", "compute.googleapis.com", self.read_rivals)
        for name in self.keys():
            key = self.text(name)
            calls[key] = (f"key {key}", KMS, partial(self.client.find, f"https://{KMS}/v1/{key}"))
        for path in self.server_secrets():
            label = f"secret {path.rpartition('/')[2]}"
            calls[path] = (label, "secretmanager.googleapis.com", partial(self.client.find, secretmanager.BASE + path))
        if not self.text("network_subnetwork_name"):
            calls["subnetworks"] = ("subnetworks", "compute.googleapis.com", self.read_subnetworks)
        # First on its own, so that the credentials are exchanged for a token only once, and fail only once.
        self.owner = self.look(
            f"project {self.text('bucket_project_id')}",
            "cloudresourcemanager.googleapis.com",
            lambda: self.client.find(
                f"https://cloudresourcemanager.googleapis.com/v1/projects/{self.text('bucket_project_id')}"
            ),
        )
        with ThreadPoolExecutor(len(calls)) as pool:
            futures = {key: pool.submit(self.look, *call) for key, call in calls.items()}
            self.found = {key: future.result() for key, future in futures.items()}
        found = self.found["instance"]
        sql = f"{cloudsql.instances_url(sql_project)}/{(found.body or {}).get('name', sql_name)}"
        label, url = f"database {self.text('cloudsql_database')}", f"{sql}/databases/{self.text('cloudsql_database')}"
        # For a database of an instance that does not exist, the error may be 403.
        read = self.look(label, "sqladmin.googleapis.com", lambda: self.client.find(url)) if found.body else found
        self.found["database"] = Found(label, read.body)

    def keys(self) -> list[str]:
        """The variables of this run's parts that name a key of Cloud KMS."""
        return [name for part, names in KEYS.items() if part in self.parts for name in names if self.text(name)]

    def server_secrets(self) -> list[str]:
        """The secrets with the server's keys, if they are to be encrypted with a key of Cloud KMS."""
        if "cloudrun_keys_kms_key" not in self.keys():
            return []
        prefix, project = self.text("cloudrun_keys_prefix"), self.text("cloudrun_project_id")
        return [secretmanager.secret_path(project, f"{prefix}-{name}") for name in SERVER_KEYS]

    def read_bucket(self) -> dict[str, Any] | None:
        """The bucket; with the key "taken" if another project has it."""
        name, project = self.text("bucket_name"), self.text("bucket_project_id")
        try:
            live = self.client.find(f"{BUCKETS}/{name}")
        except ApiError as error:
            if error.status != 403 or error.disabled:
                raise
            # Another project's bucket, or one that the caller may not read.
            query = {"project": project, "prefix": name, "fields": "items(name),nextPageToken"}
            if name in {entry["name"] for entry in self.client.items(BUCKETS, "items", params=query)}:
                raise
            return {"taken": True}
        number = (self.owner.body or {}).get("projectNumber")
        taken = live is not None and number and str(live.get("projectNumber", number)) != str(number)
        return {"taken": True} if taken else live

    def read_secret(self) -> dict[str, Any] | None:
        """The secret of the database password; with the key "version", the one that the database user has."""
        live = self.client.find(secretmanager.BASE + self.secret)
        if live is None:
            return None
        key = cloudsql.PasswordRecord.key(
            self.text("cloudsql_project_id"), self.text("cloudsql_name"), self.text("cloudsql_user")
        )
        if version := cloudsql.PasswordRecord.of(live, key).version:
            return {**live, "version": version}
        newest = secretmanager.newest_enabled(self.client, self.secret)
        return {**live, "version": str(secretmanager.version_number(newest)) if newest else ""}

    def read_image(self, image: Image) -> dict[str, Any] | None:
        """The digest of the image that is given, None if there is no such image."""
        digest = image.find(self.client)
        return {"digest": digest} if digest else None

    def read_rivals(self) -> dict[str, Any]:
        """The other load balancers of the project that serve a domain of this one, by the name of the forwarding rule."""
        domains = [self.text("iap_lb_domain"), *(values.listed(self.variables.get("iap_lb_extra_domains")) or ())]
        return dict(
            rivals(self.client, self.text("iap_lb_project_id"), self.text("iap_lb_name"), filter(None, domains))
        )

    def read_subnetworks(self) -> dict[str, Any]:
        """The subnetworks of the network in all regions that have IPv4 addresses, by path."""
        return {
            relative(entry["selfLink"]): entry
            for entry in aggregated(self.client, self.network.split("/")[1], "subnetworks")
            if same_resource(self.network, entry["network"]) and entry.get("ipCidrRange")
        }

    def live(self, key: str) -> dict[str, Any]:
        """The body of a resource, {} if it does not exist or was not read."""
        return self.found[key].body or {} if key in self.found else {}

    # Comparing.

    def refuse(self, name: str, problem: str, value: Any = None) -> None:
        """Add a finding about a variable."""
        shown = self.variables.get(name) if value is None else value
        self.findings.append(f"{self.said(name)} is {shown!r}, but {problem}")

    def unchangeable(self, key: str, kind: immutable.Kind, names: Mapping[str, str], wanted: dict[str, Any]) -> None:
        """Add a finding for each field that Google cannot change; NAMES are the variables of the paths."""
        for path, old, instead in kind.refused(wanted, self.live(key)):
            shown = "not set" if old in (None, "") else repr(old)
            self.refuse(names[path], f"{path} of {self.found[key].label} is {shown} and cannot be changed; {instead}")

    def compare(self) -> None:
        """Compare what the parts of this run manage."""
        checks = {
            "network": self.check_network,
            "database": self.check_instance,
            "bucket": self.check_bucket,
            "image": self.check_image,
            "front_door": self.check_front_door,
        }
        for part, check in checks.items():
            if part in self.parts:
                check()
        self.check_keys()
        if self.partial:
            self.check_needs()

    def check_keys(self) -> None:
        """Check that the keys can encrypt, and can encrypt the secrets of the server that exist."""
        for name in self.keys():
            found = self.found[self.text(name)]
            state = lookup(found.body or {}, "primary.state") or "ENABLED"
            purpose = (found.body or {}).get("purpose", "ENCRYPT_DECRYPT")
            if found.body is None and KMS not in self.disabled:
                self.refuse(name, "there is no such key; create it first, or correct the name")
            elif purpose != "ENCRYPT_DECRYPT":
                self.refuse(name, f"the purpose of this key is {purpose}; give one with the purpose ENCRYPT_DECRYPT")
            elif state != "ENABLED":
                self.refuse(name, f"the primary version of this key is {state}; enable it first")
        for path in self.server_secrets():
            self.check_secret_key(path, "cloudrun_keys_kms_key")

    def check_secret_key(self, key: str, name: str) -> None:
        """Check that a secret that exists can be encrypted with the key that a variable names."""
        replication = self.live(key).get("replication")
        if replication and (wrong := secretmanager.misplaced(replication, self.text(name))):
            self.refuse(name, f"{self.found[key].label} cannot be encrypted with it: {wrong}")

    def check_network(self) -> None:
        """Check the network, its subnetwork and its reserved range."""
        if "compute.googleapis.com" in self.disabled:
            return
        network, subnetwork = self.found["network"], self.found["subnetwork"]
        for name, found in (("network_name", network), ("network_subnetwork_name", subnetwork)):
            if self.text(name) and found.body is None:
                where = f" in {self.text('network_region')}" if found is subnetwork else ""
                self.refuse(
                    name,
                    f"project {self.network_project} has no {found.label.split()[0]} of that name{where}; set the name of an "
                    f"existing one, or leave {self.said(name)} empty to create one",
                )
                return
        if self.range and not self.makes_range and self.found["range"].body is None:
            self.refuse(
                "network_reserved_range",
                f"project {self.network_project} has no reserved range of that name; set the name of an existing one, leave "
                "it empty for any range of an existing peering, or do not set it to create one",
            )
        self.check_subnetwork()
        names = {
            "prefixLength": "network_peering_prefix_length",
            "address": "network_peering_address",
            "network": "network_name",
        }
        wanted = {
            "prefixLength": self.number("network_peering_prefix_length") if self.makes_range else None,
            "address": self.text("network_peering_address") or None if self.makes_range else None,
            "network": self.network,
        }
        self.unchangeable("range", immutable.ADDRESS, names, wanted)

    def check_subnetwork(self) -> None:
        """Check the range of the subnetwork, unless an existing one is used."""
        live, wanted = self.live("subnetwork"), self.text("network_subnetwork_range")
        label, name = self.found["subnetwork"].label, "network_subnetwork_range"
        if self.text("network_subnetwork_name"):
            if live and not same_resource(self.network, live["network"]):
                self.refuse(
                    "network_subnetwork_name", f"{label} belongs to network {live['network'].rpartition('/')[2]}"
                )
            elif live and not live.get("ipCidrRange") and not self.text("cloudrun_vpc_connector"):
                self.refuse("network_subnetwork_name", f"{label} {NO_IPV4}; give one that has one")
            return
        asked = IPv4Network(wanted)
        if live and not same_resource(self.network, live["network"]):
            self.refuse(
                "network_name", f"{label} belongs to network {live['network'].rpartition('/')[2]} and cannot be moved"
            )
            return
        if live and not live.get("ipCidrRange"):
            self.refuse("network_prefix", f"{label} {NO_IPV4}; delete it or give another value")
        elif live and not IPv4Network(live["ipCidrRange"]).subnet_of(asked):
            self.refuse(name, f"the range of {label} is {live['ipCidrRange']!r} and can only be expanded")
        for path, other in self.live("subnetworks").items():
            if path == self.subnetwork or not IPv4Network(other["ipCidrRange"]).overlaps(asked):
                continue
            region, prefix = other["region"].rpartition("/")[2], self.text("network_prefix")
            if not live and other["name"] == f"{prefix}-{region}":
                self.refuse(
                    "network_region",
                    f"subnetwork {other['name']} of this deployment is in {region!r} and cannot be moved; give "
                    f"{self.said('network_prefix')} another value to create a deployment there",
                )
            else:
                self.refuse(
                    name,
                    f"subnetwork {other['name']} in {region} has {other['ipCidrRange']}, which overlaps; give a free range",
                )

    def check_instance(self) -> None:
        """Check the Cloud SQL instance."""
        self.check_database()
        live, label = self.live("instance"), self.found["instance"].label
        if not live:
            return
        state = str(live.get("state"))
        if state in cloudsql.UNUSABLE_STATES:
            self.refuse("cloudsql_name", f"{label} is {state}; {cloudsql.UNUSABLE_STATES[state]}")
            return
        names = {
            "region": "cloudsql_region",
            "databaseVersion": "cloudsql_database_version",
            "settings.dataDiskType": "cloudsql_disk_type",
            immutable.KEY_OF_INSTANCE: "cloudsql_kms_key",
            immutable.NETWORK_OF_INSTANCE: "cloudsql_private_network"
            if self.text("cloudsql_private_network")
            else "network_name",
        }
        wanted = {
            "region": self.text("cloudsql_region"),
            "databaseVersion": self.text("cloudsql_database_version"),
            "diskEncryptionConfiguration": {"kmsKeyName": self.text("cloudsql_kms_key") or None},
            "settings": {
                "dataDiskType": self.text("cloudsql_disk_type"),
                "ipConfiguration": {
                    "privateNetwork": (self.text("cloudsql_private_network") or self.network) if self.peered else None
                },
            },
        }
        self.unchangeable("instance", immutable.SQL_INSTANCE, names, wanted)
        size, asked = int(lookup(live, "settings.dataDiskSizeGb") or 0), self.number("cloudsql_disk_size_gb")
        # A disk that may grow on its own is expected to be larger than asked.
        grows = self.flag("cloudsql_disk_autoresize") or lookup(live, "settings.storageAutoResize") is not False
        if size > asked and not grows:
            self.refuse(
                "cloudsql_disk_size_gb", f"the disk of {label} has {size} GB and cannot shrink; give at least that"
            )
        version = live.get("databaseVersion", "").split("_")
        if self.text("cloudsql_edition") == "ENTERPRISE_PLUS" and version[1:] and int(version[1]) < 12:
            self.refuse(
                "cloudsql_edition", f"{label} has {live['databaseVersion']}, and this edition starts with POSTGRES_12"
            )

    def check_database(self) -> None:
        """Check the database, and the secret with its password."""
        self.unchangeable("database", immutable.DATABASE, {"charset": "cloudsql_database"}, {"charset": "UTF8"})
        regions = values.listed(self.variables.get("cloudsql_password_secret_locations")) or ()
        replicas = [{"location": region} for region in regions]
        wanted = {"replication": {"userManaged": {"replicas": replicas}} if replicas else None}
        self.unchangeable("secret", immutable.SECRET, {"replication": "cloudsql_password_secret_locations"}, wanted)
        if self.text("cloudsql_password_secret_kms_key"):
            self.check_secret_key("secret", "cloudsql_password_secret_kms_key")

    def check_bucket(self) -> None:
        """Check the bucket."""
        live = self.live("bucket")
        if live.get("taken"):
            self.refuse(
                "bucket_name",
                f"a project other than {self.text('bucket_project_id')} has a bucket with this name, and names are unique "
                "across all of Google Cloud; choose another name",
            )
            return
        self.unchangeable(
            "bucket", immutable.BUCKET, {"location": "bucket_location"}, {"location": self.text("bucket_location")}
        )

    def check_image(self) -> None:
        """Check that an image that is given exists; in a project whose API is not enabled yet, this is seen later."""
        image = Image.parse(self.text("image_reference"))
        if image and self.found["image"].body is None and REGISTRY not in self.disabled:
            self.refuse(
                "image_reference",
                f"{image.repository} has no such image; correct it, or leave {self.said('image_reference')} empty to build one",
            )

    def check_front_door(self) -> None:
        """Check the address and the backend service of the load balancer."""
        name, address = self.text("iap_lb_address_name"), self.found["address"]
        own = name == f"{self.text('iap_lb_name')}-ip"
        if address.body is None and not own and "compute.googleapis.com" not in self.disabled:
            self.refuse(
                "iap_lb_address_name", "there is no global address of that name; set the name of an existing one"
            )
        if self.live("address"):
            self.unchangeable(
                "address", immutable.ADDRESS, {"addressType": "iap_lb_address_name"}, {"addressType": "EXTERNAL"}
            )
        current, reserved = self.live("rule").get("IPAddress"), self.live("address").get("address", "a new one")
        if current and current != reserved and address.body != {}:
            self.refuse(
                "iap_lb_address_name",
                f"{self.found['rule'].label} has the address {current}, and Google cannot change it to that of {name}, "
                f"{reserved}; set the name of the address {current}",
            )
        for rule, sentence in self.live("rivals").items():
            if rule not in (values.listed(self.variables.get("iap_lb_replaces")) or ()):
                self.refuse(
                    "iap_lb_domain",
                    f"{sentence}, and a domain leads to one load balancer only; set another domain, remove it from that load "
                    f"balancer, or list {rule} in iap_lb_replaces to take the domain over",
                )
        wanted = {"loadBalancingScheme": "EXTERNAL_MANAGED"}
        self.unchangeable("backend", immutable.BACKEND_SERVICE, dict.fromkeys(wanted, "iap_lb_name"), wanted)

    def check_needs(self) -> None:
        """Check that what other parts make exists."""
        disabled = sorted(self.disabled & {api for part in self.parts for api in APIS[part]})
        if disabled and "services" not in self.parts:
            chosen = ", ".join(part for part in PARTS if part in self.parts)
            self.missing.append(
                f"the run is limited to {chosen}, for which {', '.join(disabled)} must be enabled; {FIRST}"
            )
            return
        for key, part in MADE_BY.items():
            wanted = [chosen for chosen in PARTS if chosen in self.parts and key in PARTS[chosen]]
            if key not in self.found:
                continue
            connector = key == "subnetwork" and self.text("cloudrun_vpc_connector")
            if wanted and part not in self.parts and self.found[key].body is None and not connector:
                self.missing.append(
                    f"{wanted[0]} needs {self.found[key].label}, which does not exist; {FIRST}, or also with --tags {part}"
                )

    # What roles would return.

    def existing(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The results of the roles as far as the resources exist."""
        # A network or subnetwork that may not be read is one of others, which exists.
        network = "" if self.found["network"].body is None else self.network
        subnetwork = "" if self.found["subnetwork"].body is None else self.subnetwork
        instance = self.live("instance")
        yield (
            "network",
            {
                "network": network.rpartition("/")[2],
                "network_path": network,
                "network_self_link": f"{LINKS}/{network}" if network else "",
                "subnetwork": subnetwork.rpartition("/")[2],
                "subnetwork_path": subnetwork,
                "subnetwork_self_link": f"{LINKS}/{subnetwork}" if subnetwork else "",
                "reserved_range": self.range,
                "private_access": self.text("network_private_access"),
            },
        )
        addresses = {address.get("type"): address.get("ipAddress") for address in instance.get("ipAddresses") or ()}
        yield (
            "cloudsql",
            {
                "instance": instance.get("name", ""),
                "private_ip_address": addresses.get("PRIVATE", "")
                if self.peered
                else self.live("endpoint").get("address", ""),
                "connection_name": instance.get("connectionName", ""),
                "database": self.live("database").get("name", ""),
                "user": self.text("cloudsql_user"),
                "password_secret": self.secret,
                "password_version": self.live("secret").get("version", ""),
                "is_new": False,
            },
        )
        containers = lookup(self.live("service"), "template.containers") or [{}]
        yield "image", {"image": containers[0].get("image", "")}
        name = self.live("bucket").get("name", "")
        yield "bucket", {"name": name, "url": f"gs://{name}" if name else ""}


def examine(task: Task) -> dict[str, Any]:
    """The work of the module."""
    preflight = Preflight(task)
    preflight.read()
    preflight.compare()
    findings = preflight.findings + preflight.missing
    if findings:
        listed = "; ".join(f"{number}) {finding}" for number, finding in enumerate(findings, 1))
        changes = f". {HELP}" if preflight.findings else ""
        task.module.fail_json(msg=f"Nothing was changed. {listed}{changes}", findings=findings)
    labels = [
        found.label for key, found in preflight.found.items() if found.body and key not in ("subnetworks", "rivals")
    ]
    unread = sorted(preflight.unread)
    return {"changed": False, "findings": [], "existing": labels, "unread": unread, **dict(preflight.existing())}


def main() -> None:
    run(
        examine,
        argument_spec={
            "variables": {"type": "dict", "required": True},
            "names": {"type": "dict", "default": {}},
            "run_tags": {"type": "list", "elements": "str", "default": ["all"]},
            "skip_tags": {"type": "list", "elements": "str", "default": []},
        },
    )


if __name__ == "__main__":
    main()
