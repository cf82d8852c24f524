# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all parts of the preflight use: the variables, looking at resources, and the findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import dns, immutable, secretmanager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.deployment import Deployment, Found
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.values import FRONT_DOORS

KMS = "cloudkms.googleapis.com"
REGISTRY = "artifactregistry.googleapis.com"
FIRST = "run site without --tags first"

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


class Site(Deployment):
    """One deployment as its variables ask for it: what of it exists, and what is found about it."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.findings: list[str] = []
        self.missing: list[str] = []
        self.notes: list[str] = []
        run_tags, skip_tags = set(self.params["run_tags"]), set(self.params["skip_tags"])
        self.parts = {part for part in PARTS if run_tags & {part, *EVERY_TAG} and not skip_tags & {part, *EVERY_TAG}}
        if "front_door" in skip_tags:
            # The tasks that grant access are part of the front door.
            self.parts.discard("users")
        self.partial = not run_tags & EVERY_TAG or bool(skip_tags & PARTS.keys())
        self.balancer = "iap_internal_lb" if self.door == "internal" else "iap_lb"
        """The role of the load balancer, if the front door is one."""
        zone = self.text(f"{self.balancer}_dns_zone")
        self.zone = dns.zone_path(self.text(f"{self.balancer}_project_id"), zone) if zone else ""
        self.owner = Found("", None)
        """The project of the bucket."""
        self.found: dict[str, Found] = {}

    # The variables.

    def listed_of_door(self, name: str) -> list[str]:
        """The entries of a variable of the role that makes the front door, by its name without the prefix."""
        return self.listed(f"{FRONT_DOORS[self.door]}_{name}")

    def listed(self, name: str) -> list[str]:
        """The entries of a variable that is a list, or text for one."""
        return list(map(str, values.listed(self.variables.get(name)) or ()))

    @property
    def domains(self) -> list[str]:
        """The domains of the load balancer."""
        return list(
            dict.fromkeys(
                filter(None, [self.text(f"{self.balancer}_domain"), *self.listed(f"{self.balancer}_extra_domains")])
            )
        )

    @property
    def keys(self) -> list[str]:
        """The variables of this run's parts that name a key of Cloud KMS."""
        return [name for part, names in KEYS.items() if part in self.parts for name in names if self.text(name)]

    @property
    def server_secrets(self) -> list[str]:
        """The secrets with the server's keys, if they are to be encrypted with a key of Cloud KMS."""
        if "cloudrun_keys_kms_key" not in self.keys:
            return []
        prefix, project = self.text("cloudrun_keys_prefix"), self.text("cloudrun_project_id")
        return [secretmanager.secret_path(project, f"{prefix}-{name}") for name in SERVER_KEYS]

    # Reading.

    @property
    def is_new(self) -> bool:
        """Whether nothing of the deployment exists yet."""
        return not any(self.live(key) for key in ("instance", "bucket", "service", "backend"))

    # Comparing.

    def live(self, key: str) -> dict[str, Any]:
        """The body of a resource, {} if it does not exist or was not read."""
        return self.found[key].body or {} if key in self.found else {}

    def refuse(self, name: str, problem: str, value: Any = None) -> None:
        """Add a finding about a variable."""
        shown = self.variables.get(name) if value is None else value
        self.findings.append(f"{self.said(name)} is {shown!r}, but {problem}")

    def unchangeable(self, key: str, kind: immutable.Kind, names: Mapping[str, str], wanted: dict[str, Any]) -> None:
        """Add a finding for each field that Google cannot change; NAMES are the variables of the paths."""
        for path, old, instead in kind.refused(wanted, self.live(key)):
            shown = "not set" if old in (None, "") else repr(old)
            self.refuse(names[path], f"{path} of {self.found[key].label} is {shown} and cannot be changed; {instead}")
