# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IAM policies of all the kinds of resource that this collection grants access to."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import full_path
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import BASE as SECRETMANAGER
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import secret_path

RESOURCE_TYPES = (
    "bucket",
    "iap_backend_service",
    "iap_run_service",
    "project",
    "run_service",
    "secret",
    "service_account",
)
# https://cloud.google.com/iam/docs/principal-identifiers
MEMBER = re.compile(
    r"(user|group|serviceAccount):[^@\s:]+@[^@\s]+\.[^@\s.]+"
    r"|serviceAccount:[^\s]+\.svc\.id\.goog\[[^\s]+\]"
    r"|domain:[^@\s:]+\.[^@\s.]+"
    r"|project(Owner|Editor|Viewer):\S+"
    r"|deleted:(user|group|serviceAccount|principal):\S+"
    r"|principal(Set)?://\S+"
    r"|allUsers|allAuthenticatedUsers"
)
# A policy that does not ask for version 3 comes back without its conditions, and writing it back would drop them.
VERSION = 3


@dataclass(frozen=True)
class PolicyOf:
    """Where the policy of one resource is read and written."""

    label: str
    """For messages, such as "secret db-password"."""
    url: str
    dialect: str
    """How the version is asked for: "get" in the query, "query" in that of a POST, "body" in one's body, "storage"."""

    def read(self, task: Task) -> dict[str, Any]:
        """The policy, etag included; without "bindings" when nobody has been granted anything."""
        if self.dialect == "storage":
            return task.client.get(self.url, params={"optionsRequestedPolicyVersion": VERSION}) or {}
        method = "GET" if self.dialect == "get" else "POST"
        options = {"options": {"requestedPolicyVersion": VERSION}} if self.dialect == "body" else None
        query = None if options else {"options.requestedPolicyVersion": VERSION}
        return task.client.request(method, f"{self.url}:getIamPolicy", options, params=query, safe=True)

    def write(self, task: Task, policy: dict[str, Any]) -> dict[str, Any]:
        """The policy as Google has it then; refused (409, 412) when its etag is no longer the latest."""
        policy = {**policy, "version": VERSION}
        if self.dialect == "storage":
            return task.client.request("PUT", self.url, policy)
        # The etag makes repeating safe.
        return task.client.post(f"{self.url}:setIamPolicy", {"policy": policy}, safe=True)


def policy_of(task: Task, resource_type: str, name: str, region: str | None = None) -> PolicyOf:
    """
    The policy of a resource: project id, secret's name or path, service account's e-mail, Cloud Run service (with
    REGION), bucket, or for IAP the backend service or Cloud Run service (with REGION) behind it.
    """
    label = f"{resource_type.replace('_', ' ')} {name}"
    if resource_type == "project":
        return PolicyOf(label, f"https://cloudresourcemanager.googleapis.com/v1/projects/{name}", "body")
    if resource_type == "secret":
        return PolicyOf(label, SECRETMANAGER + secret_path(task.project, name, "resource"), "get")
    if resource_type == "service_account":
        home = re.search(r"@([^.]+)\.iam\.gserviceaccount\.com$", name)
        path = f"projects/{home[1] if home else task.project}/serviceAccounts/{name}"
        return PolicyOf(label, f"https://iam.googleapis.com/v1/{path}", "query")
    if resource_type == "run_service":
        path = full_path(task.project, f"locations/{region}/services", name)
        return PolicyOf(label, f"https://run.googleapis.com/v2/{path}", "get")
    if resource_type == "bucket":
        return PolicyOf(label, f"https://storage.googleapis.com/storage/v1/b/{name}/iam", "storage")
    web = "compute" if resource_type == "iap_backend_service" else f"cloud_run-{region}"
    base = f"https://iap.googleapis.com/v1/projects/{task.project_number}/iap_web"
    return PolicyOf(label, f"{base}/{web}/services/{name.rpartition('/')[2]}", "body")


def check_members(option: str, members: list[str]) -> None:
    """Raise InvalidInput, naming OPTION, for the first that is no member."""
    for member in members:
        if not MEMBER.fullmatch(member):
            kinds = "write its kind before it: user:, group:, serviceAccount: (with an e-mail address) or domain:"
            raise InvalidInput(option, member, f"{kinds}, such as user:jane@example.com")


def canonical(member: str) -> str:
    """MEMBER in the spelling that Google compares: e-mail addresses and domains in lower case."""
    kind, colon, address = member.partition(":")
    return f"{kind}{colon}{address.lower()}" if kind in ("user", "group", "serviceAccount", "domain") else member


def exactly(members: list[str]) -> Callable[[list[str]], list[str]]:
    """
    From those that hold a role to MEMBERS, each once.

    Google's own spelling of those it has already is kept, so that case alone is no change.
    """
    named = {canonical(member): member for member in members}

    def wish(held: list[str]) -> list[str]:
        known = {canonical(member): member for member in held}
        return [known.get(key, member) for key, member in named.items()]

    return wish


def members_of(policy: dict[str, Any], role: str) -> list[str]:
    """Who holds ROLE without a condition, sorted."""
    return sorted(
        {
            member
            for binding in policy.get("bindings") or ()
            if binding.get("role") == role and not binding.get("condition")
            for member in binding.get("members") or ()
        }
    )


def with_members(policy: dict[str, Any], role: str, members: list[str]) -> dict[str, Any]:
    """POLICY in which exactly MEMBERS hold ROLE without a condition; every other binding as it was."""
    policy = copy.deepcopy(policy)
    policy["bindings"] = [
        binding for binding in policy.get("bindings") or () if binding.get("role") != role or binding.get("condition")
    ]
    if members:
        policy["bindings"].append({"role": role, "members": sorted(members)})
    return policy


def change(
    task: Task, target: PolicyOf, role: str, wish: Callable[[list[str]], list[str]], *, timeout: float = 120
) -> tuple[list[str], list[str]]:
    """
    Members of ROLE before and after WISH (members it has -> members it shall have); writes unless in check mode.

    Somebody else's write in between (409, 412) and a service account so new that IAM does not know it yet (400, 404)
    make it start over for up to TIMEOUT seconds.
    """

    def once() -> tuple[list[str], list[str]]:
        policy = task.read(f"the IAM policy of {target.label}", lambda: _read(task, target)) or {}
        before = members_of(policy, role)
        after = sorted(wish(before))
        if after != before and not task.check_mode:
            with task.client.attempt(f"change who has {role} on {target.label}"):
                target.write(task, with_members(policy, role, after))
        return before, after

    return task.client.patiently(once, _passing, timeout=timeout)


def _read(task: Task, target: PolicyOf) -> dict[str, Any]:
    try:
        return target.read(task)
    except ApiError as error:
        if error.status != 404 or not task.check_mode:
            raise
        # In a first --check of a whole deployment the resource is still to be made.
        task.warn(f"Check mode takes the IAM policy of {target.label} as empty: it is not there yet")
        return {}


def _passing(error: ApiError) -> bool:
    return error.status in (409, 412) or error.status in (400, 404) and error.spreading
