# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all checks of mlflow_doctor use: reading resources, and collecting the problems."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import full_path, relative
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iam import EVERYBODY, members_of, policy_of
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task

COMPUTE = "https://compute.googleapis.com/compute/v1/"
# Roles that include the required role, except roles/owner, which nobody should rely on here.
ROLES = {
    "roles/run.invoker": ("roles/run.invoker", "roles/run.servicesInvoker", "roles/run.admin"),
    "roles/secretmanager.secretAccessor": ("roles/secretmanager.secretAccessor", "roles/secretmanager.admin"),
    "roles/storage.objectUser": ("roles/storage.objectUser", "roles/storage.objectAdmin", "roles/storage.admin"),
    "roles/iam.serviceAccountTokenCreator": ("roles/iam.serviceAccountTokenCreator",),
    "roles/cloudsql.client": ("roles/cloudsql.client", "roles/cloudsql.editor", "roles/cloudsql.admin"),
}


def rerun(role: str) -> str:
    """The advice to run the playbook again, for ROLE of the collection."""
    return f"run mlops.mlflow_gcp.site again (role {role})"


def has_role(policy: dict[str, Any], role: str, member: str) -> bool:
    """Whether MEMBER has ROLE, or a role that includes it, in POLICY."""
    return any(member in members_of(policy, name) for name in ROLES[role])


@dataclass
class Report:
    """
    What one part of the checks has found: problems, the resources that were read, and the reads that were denied.

    policies: those that were read, by the arguments of policy_of(). notes: as those of module_utils/access.py.
    """

    findings: list[dict[str, str]] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    denied: list[tuple[str, ApiError]] = field(default_factory=list)
    policies: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    notes: list[dict[str, str]] = field(default_factory=list)

    def add(self, where: str, problem: str, fix: str) -> None:
        """Add a problem of resource WHERE."""
        self.findings.append({"where": where, "problem": " ".join(problem.split()), "fix": fix})

    def join(self, other: Report) -> None:
        """Append everything of another report."""
        self.findings += other.findings
        self.checked += other.checked
        self.denied += other.denied
        self.policies |= other.policies
        self.notes += other.notes

    def add_denied(self) -> None:
        """Add a single problem for all reads that were denied for the same permission."""
        groups: dict[str, list[tuple[str, ApiError]]] = {}
        for where, error in self.denied:
            groups.setdefault(error.hint or error.message, []).append((where, error))
        for group in groups.values():
            where, error = group[0]
            others = f", nor {', '.join(name for name, _error in group[1:])}" if len(group) > 1 else ""
            self.add(
                where,
                f"cannot be read{others}: {error.message} ({error.status} {error.reason})",
                error.hint or "see Google's message",
            )


class Reader:
    """Reads the resources of one deployment for a report."""

    def __init__(self, task: Task, report: Report) -> None:
        self.task, self.params, self.report = task, task.params, report

    def look(self, where: str, call: Callable[[], Any], fix: str) -> Any:
        """The result of CALL; None, and a problem with FIX, if there is none."""
        self.report.checked.append(where)
        try:
            with self.task.client.action(f"read {where}"):
                return call()
        except ApiError as error:
            if error.status in (0, 401):
                raise  # nothing else can be read either
            if error.status == 404:
                self.report.add(where, "does not exist", fix)
            else:
                self.report.denied.append((where, error))
            return None

    def get(self, where: str, url: str, fix: str) -> Any:
        """The resource at URL, as look()."""
        return self.look(where, lambda: self.task.client.get(url), fix)

    def link(self, where: str, link: str | None, fix: str) -> Any:
        """The resource of compute at LINK, as look()."""
        return self.get(where, COMPUTE + relative(link), fix)

    def policy(self, where: str, resource: tuple[str, ...], fix: str) -> dict[str, Any] | None:
        """The IAM policy of a resource, as look(); a problem if it lets everybody in."""
        policy = self.look(f"IAM policy of {where}", lambda: policy_of(self.task, *resource).read(self.task), fix)
        # Also if it cannot be read, which is a finding already.
        self.report.policies[resource] = policy or {}
        for binding in (policy or {}).get("bindings") or ():
            for member in sorted(set(binding.get("members") or ()).intersection(EVERYBODY)):
                whom = "everybody on the internet" if member == "allUsers" else "everybody with a Google account"
                self.report.add(where, f"is open to {whom}: {member} has {binding['role']}", fix)
        return policy

    def network_path(self, link: Any) -> str:
        """projects/ID/global/networks/NAME for a network as a name, path or link, with project ID or number."""
        return self.with_id(full_path(self.task.project, "global/networks", str(link)))

    def with_id(self, path: str) -> str:
        """PATH with the ID of the task's project instead of its number."""
        if re.match(r"projects/\d+/", path) and path.split("/")[1] == self.task.project_number:
            path = re.sub(r"\d+", self.task.project, path, count=1)
        return path
