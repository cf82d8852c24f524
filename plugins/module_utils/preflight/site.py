# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all parts of the preflight use: the variables, looking at resources, and the findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import dns, immutable, secretmanager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import relative
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task

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
# Tags of Ansible that stand for all parts.
EVERY_TAG = {"all", "tagged"}


class Found(NamedTuple):
    """A resource: its label for messages, and its body; None if it does not exist, {} if the caller may not read it."""

    label: str
    body: dict[str, Any] | None


class Site:
    """One deployment as its variables ask for it: what of it exists, and what is found about it."""

    def __init__(self, task: Task) -> None:
        self.task, self.params, self.client = task, task.params, task.client
        self.variables: Mapping[str, Any] = self.params["variables"]
        self.disabled: set[str] = set()
        self.unread: list[str] = []
        self.findings: list[str] = []
        self.missing: list[str] = []
        self.notes: list[str] = []
        run_tags, skip_tags = set(self.params["run_tags"]), set(self.params["skip_tags"])
        self.parts = {part for part in PARTS if run_tags & {part, *EVERY_TAG} and not skip_tags & {part, *EVERY_TAG}}
        if "front_door" in skip_tags:
            # The tasks that grant access are part of the front door.
            self.parts.discard("users")
        self.partial = not run_tags & EVERY_TAG or bool(skip_tags & PARTS.keys())
        self.network_project = self.text("network_project_id")
        self.network = self.path(
            "network_name", f"projects/{self.network_project}/global/networks", self.text("network_prefix")
        )
        self.subnetwork = self.path(
            "network_subnetwork_name",
            f"projects/{self.network_project}/regions/{self.text('network_region')}/subnetworks",
            f"{self.text('network_prefix')}-{self.text('network_region')}",
        )
        self.peered = self.text("network_private_access") != "psc"
        # As in role network: only the range with the default name is made, any other belongs to somebody else.
        self.range = self.text("network_reserved_range") if self.peered else ""
        self.makes_range = self.range == f"{self.text('network_prefix')}-services"
        self.secret = secretmanager.secret_path(self.text("cloudsql_project_id"), self.text("cloudsql_password_secret"))
        zone = self.text("iap_lb_dns_zone")
        self.zone = dns.zone_path(self.text("iap_lb_project_id"), zone) if zone else ""
        self.owner = Found("", None)
        """The project of the bucket."""
        self.found: dict[str, Found] = {}

    # The variables.

    def text(self, name: str) -> str:
        """A variable as text, "" if it is not known."""
        value = self.variables.get(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> int:
        """A variable as a number."""
        return int(self.variables.get(name) or 0)

    def flag(self, name: str) -> bool:
        """A variable as a truth value."""
        return bool(boolean(self.variables.get(name), strict=False))

    def said(self, name: str) -> str:
        """The variable to name in messages."""
        return str(self.params["names"].get(name, name))

    def path(self, name: str, collection: str, default: str) -> str:
        """The path of the resource that a variable gives by name, path or link."""
        given = self.text(name)
        return relative(given) if "/" in given else f"{collection}/{given or default}"

    def listed(self, name: str) -> list[str]:
        """The entries of a variable that is a list, or text for one."""
        return list(map(str, values.listed(self.variables.get(name)) or ()))

    @property
    def domains(self) -> list[str]:
        """The domains of the load balancer."""
        return list(dict.fromkeys(filter(None, [self.text("iap_lb_domain"), *self.listed("iap_lb_extra_domains")])))

    # Reading.

    def look(self, label: str, api: str, call: Callable[[], dict[str, Any] | None]) -> Found:
        """What CALL reads from API."""
        try:
            with self.client.action(f"read {label}"):
                return Found(label, call())
        except ApiError as error:
            if error.disabled:
                self.disabled.add(api)
                return Found(label, None)
            if error.status != 403:
                raise
            self.unread.append(f"{label} ({error.message})")
            return Found(label, {})

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
            self.refuse(names[path], f"{path} of {self.found[key].label} is {old!r} and cannot be changed; {instead}")
