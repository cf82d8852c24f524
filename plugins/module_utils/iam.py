# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IAM policies of the kinds of resource that this collection grants access to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import full_path
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import BASE as SECRETMANAGER
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import secret_path
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.values import project_of

RESOURCE_TYPES = (
    "bucket",
    "iap_backend_service",
    "iap_run_service",
    "project",
    "run_service",
    "secret",
    "service_account",
)
# Reading a policy without requesting version 3 omits its conditions, and writing it back would remove them.
VERSION = 3


@dataclass(frozen=True)
class PolicyTarget:
    """Where to read and write the policy of one resource."""

    label: str
    """For messages, such as "secret db-password"."""
    url: str | None
    """None when check mode does not know the project's number yet; the policy then reads as empty."""
    dialect: str
    """Where the version goes: "get" query of a GET, "query" query of a POST, "body" body of a POST, or "storage"."""

    def read(self, task: Task) -> dict[str, Any]:
        """The policy with its etag; without "bindings" when there are no grants."""
        if self.url is None:
            return {}
        if self.dialect == "storage":
            return task.client.get(self.url, params={"optionsRequestedPolicyVersion": VERSION})
        method = "GET" if self.dialect == "get" else "POST"
        options = {"options": {"requestedPolicyVersion": VERSION}} if self.dialect == "body" else None
        query = None if options else {"options.requestedPolicyVersion": VERSION}
        return task.client.request(method, f"{self.url}:getIamPolicy", options, params=query, idempotent=True)

    def write(self, task: Task, policy: dict[str, Any]) -> dict[str, Any]:
        """The new policy as Google returns it; rejected (409, 412) when its etag is outdated."""
        if not self.url:
            raise AssertionError("check mode writes nothing")
        policy = {**policy, "version": VERSION}
        if self.dialect == "storage":
            return task.client.request("PUT", self.url, policy)
        # Idempotent because of the etag.
        return task.client.post(f"{self.url}:setIamPolicy", {"policy": policy}, idempotent=True)


def policy_of(task: Task, resource_type: str, name: str, region: str | None = None) -> PolicyTarget:
    """
    The policy of a project (by ID), secret (by name or path), service account (by e-mail address), Cloud Run service
    (with REGION) or bucket, or the IAP policy of a backend service or Cloud Run service (with REGION).
    """
    label = f"{resource_type.replace('_', ' ')} {name}"
    if resource_type == "project":
        return PolicyTarget(label, f"https://cloudresourcemanager.googleapis.com/v1/projects/{name}", "body")
    if resource_type == "secret":
        return PolicyTarget(label, SECRETMANAGER + secret_path(task.project, name, "resource"), "get")
    if resource_type == "service_account":
        path = f"projects/{project_of(name) or task.project}/serviceAccounts/{name}"
        return PolicyTarget(label, f"https://iam.googleapis.com/v1/{path}", "query")
    if resource_type == "run_service":
        path = full_path(task.project, f"locations/{region}/services", name)
        return PolicyTarget(label, f"https://run.googleapis.com/v2/{path}", "get")
    if resource_type == "bucket":
        return PolicyTarget(label, f"https://storage.googleapis.com/storage/v1/b/{name}/iam", "storage")
    web = "compute" if resource_type == "iap_backend_service" else f"cloud_run-{region}"
    number = task.project_number
    path = f"projects/{number}/iap_web/{web}/services/{name.rpartition('/')[2]}"
    return PolicyTarget(label, f"https://iap.googleapis.com/v1/{path}" if number else None, "body")


def canonical(member: str) -> str:
    """MEMBER as Google compares it: with e-mail address or domain in lower case."""
    kind, colon, address = member.partition(":")
    return f"{kind}{colon}{address.lower()}" if kind in ("user", "group", "serviceAccount", "domain") else member


def exactly(members: list[str]) -> Callable[[list[str]], list[str]]:
    """
    A function from the current members of a role to MEMBERS, without duplicates.

    Current members keep Google's spelling, so that a difference in case is not a change.
    """
    wanted = {canonical(member): member for member in members}

    def desired(current: list[str]) -> list[str]:
        known = {canonical(member): member for member in current}
        return [known.get(key, member) for key, member in wanted.items()]

    return desired


def members_of(policy: dict[str, Any], role: str) -> list[str]:
    """The members that have ROLE without a condition, sorted."""
    return sorted(
        {
            member
            for binding in policy.get("bindings") or ()
            if binding.get("role") == role and not binding.get("condition")
            for member in binding.get("members") or ()
        }
    )


def with_members(policy: dict[str, Any], role: str, members: list[str]) -> dict[str, Any]:
    """POLICY in which exactly MEMBERS have ROLE without a condition; all other bindings are unchanged."""
    policy = copy.deepcopy(policy)
    policy["bindings"] = [
        binding for binding in policy.get("bindings") or () if binding.get("role") != role or binding.get("condition")
    ]
    if members:
        policy["bindings"].append({"role": role, "members": sorted(members)})
    return policy


def change(
    task: Task, target: PolicyTarget, role: str, desired: Callable[[list[str]], list[str]], *, timeout: float = 120
) -> tuple[list[str], list[str]]:
    """
    The members of ROLE before and after DESIRED (current -> desired members) is applied; check mode does not write.

    Starts over for up to TIMEOUT seconds after a concurrent write (409, 412), and when a new service account has not
    propagated to IAM yet (400, 404).
    """

    def read_and_write() -> tuple[list[str], list[str]]:
        policy = task.read(f"the IAM policy of {target.label}", lambda: _read(task, target)) or {}
        before = members_of(policy, role)
        after = sorted(desired(before))
        if after != before and not task.check_mode:
            with task.client.action(f"change the members of {role} on {target.label}"):
                target.write(task, with_members(policy, role, after))
        return before, after

    return task.client.retry(read_and_write, _is_retryable, timeout=timeout)


def _read(task: Task, target: PolicyTarget) -> dict[str, Any]:
    try:
        return target.read(task)
    except ApiError as error:
        if error.status != 404 or not task.check_mode:
            raise
        # In a first --check of a whole deployment, the resource has not been created yet.
        task.warn(f"Check mode assumes that the IAM policy of {target.label} is empty: the resource does not exist yet")
        return {}


def _is_retryable(error: ApiError) -> bool:
    return error.status in (409, 412) or error.status in (400, 404) and error.propagating
