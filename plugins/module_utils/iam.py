# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IAM policies of the kinds of resource that this collection grants access to, and service accounts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import full_path
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import BASE as SECRETMANAGER
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import secret_path
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.values import project_of

RESOURCE_TYPES = (
    "artifact_registry_repository",
    "bucket",
    "ca_pool",
    "iap_backend_service",
    "iap_run_service",
    "kms_key",
    "project",
    "run_service",
    "secret",
    "service_account",
)
# Reading a policy without requesting version 3 omits its conditions, and writing it back would remove them.
VERSION = 3
RESOURCE_MANAGER = "https://cloudresourcemanager.googleapis.com"
EVERYBODY = frozenset({"allUsers", "allAuthenticatedUsers"})
Binding = dict[str, Any]


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


def label_of(resource_type: str, name: str) -> str:
    """A resource with a policy, in messages."""
    return f"{resource_type.replace('_', ' ')} {name}"


def policy_of(task: Task, resource_type: str, name: str, region: str | None = None) -> PolicyTarget:
    """
    The policy of an Artifact Registry repository (with REGION), project (by ID), secret (by name or path), service account
    (by e-mail address), Cloud Run service (with REGION), bucket, key of Cloud KMS or CA pool (by path), or the IAP policy of a
    backend service (with REGION that of a regional one) or Cloud Run service (with REGION).
    """
    label = label_of(resource_type, name)
    if resource_type == "project":
        return PolicyTarget(label, f"{RESOURCE_MANAGER}/v1/projects/{name}", "body")
    if resource_type == "secret":
        return PolicyTarget(label, SECRETMANAGER + secret_path(task.project, name, "resource"), "get")
    if resource_type == "service_account":
        return PolicyTarget(label, account_url(name, task.project), "query")
    if resource_type == "artifact_registry_repository":
        path = full_path(task.project, f"locations/{region}/repositories", name)
        return PolicyTarget(label, f"https://artifactregistry.googleapis.com/v1/{path}", "get")
    if resource_type == "run_service":
        path = full_path(task.project, f"locations/{region}/services", name)
        return PolicyTarget(label, f"https://run.googleapis.com/v2/{path}", "get")
    if resource_type == "kms_key":
        return PolicyTarget(label, f"https://cloudkms.googleapis.com/v1/{name}", "get")
    if resource_type == "ca_pool":
        return PolicyTarget(label, f"https://privateca.googleapis.com/v1/{name}", "get")
    if resource_type == "bucket":
        return PolicyTarget(label, f"https://storage.googleapis.com/storage/v1/b/{name}/iam", "storage")
    web = "cloud_run" if resource_type == "iap_run_service" else "compute"
    web = f"{web}-{region}" if region else web
    number = task.project_number
    path = f"projects/{number}/iap_web/{web}/services/{name.rpartition('/')[2]}"
    return PolicyTarget(label, f"https://iap.googleapis.com/v1/{path}" if number else None, "body")


def account_url(email: str, project: str) -> str:
    """The service account in the IAM API; PROJECT is used if the e-mail address does not contain one."""
    path = f"projects/{project_of(email) or project}/serviceAccounts/{email}"
    return f"https://iam.googleapis.com/v1/{path}"


def canonical(member: str) -> str:
    """MEMBER as Google stores it: with e-mail address or domain in lower case."""
    kind, colon, address = member.partition(":")
    return f"{kind}{colon}{address.lower()}" if kind in ("user", "group", "serviceAccount", "domain") else member


def before_deletion(member: str) -> str:
    """The member that a deleted one was: of deleted:user:jane@example.com?uid=1, user:jane@example.com."""
    return canonical(member.removeprefix("deleted:").partition("?")[0]) if member.startswith("deleted:") else member


def exactly(members: Iterable[str]) -> Callable[[list[str]], list[str]]:
    """A function from the current members of a role to MEMBERS, without duplicates, spelled as Google spells them."""
    wanted = dict.fromkeys(map(canonical, members))

    def desired(current: list[str]) -> list[str]:
        known = {canonical(member): member for member in current}
        return [known.get(member, member) for member in wanted]

    return desired


def bindings_of(policy: dict[str, Any]) -> list[Binding]:
    """The bindings of a policy."""
    return policy.get("bindings") or []


def members_of(policy: dict[str, Any], role: str) -> list[str]:
    """The members that have ROLE without a condition, sorted."""
    return sorted(
        {
            member
            for binding in bindings_of(policy)
            if binding.get("role") == role and not binding.get("condition")
            for member in binding.get("members") or ()
        }
    )


def conditional_of(policy: dict[str, Any], role: str) -> list[Binding]:
    """The bindings of ROLE with a condition."""
    return [binding for binding in bindings_of(policy) if binding.get("role") == role and binding.get("condition")]


def public_of(policy: dict[str, Any], role: str) -> list[Binding]:
    """The bindings of all roles other than ROLE that include everybody, reduced to these members."""
    found = []
    for binding in bindings_of(policy):
        everybody = sorted(EVERYBODY & set(binding.get("members") or ()))
        if everybody and binding.get("role") != role:
            found.append({**binding, "members": everybody})
    return found


def access(policy: dict[str, Any], role: str, *, exclusive: bool = False) -> dict[str, Any]:
    """
    Who has ROLE according to a policy: {role, members}.

    With EXCLUSIVE also what has to go, if there is any: "conditional" bindings of the role, and "public" bindings of
    other roles to everybody.
    """
    shown: dict[str, Any] = {"role": role, "members": members_of(policy, role)}
    if exclusive:
        more = {"conditional": conditional_of(policy, role), "public": public_of(policy, role)}
        shown |= {key: bindings for key, bindings in more.items() if bindings}
    return shown


def with_members(policy: dict[str, Any], role: str, members: list[str], *, exclusive: bool = False) -> dict[str, Any]:
    """
    POLICY in which exactly MEMBERS have ROLE without a condition.

    With EXCLUSIVE nobody has the role with a condition, and everybody (allUsers, allAuthenticatedUsers) has no role.
    All else is unchanged.
    """
    policy = copy.deepcopy(policy)
    kept = [binding for binding in bindings_of(policy) if binding.get("role") != role or binding.get("condition")]
    if exclusive:
        kept = [binding for binding in kept if binding.get("role") != role]
        for binding in kept:
            binding["members"] = [member for member in binding.get("members") or () if member not in EVERYBODY]
        kept = [binding for binding in kept if binding["members"]]
    policy["bindings"] = kept
    if members:
        policy["bindings"].append({"role": role, "members": sorted(members)})
    return policy


@dataclass(frozen=True)
class Change:
    """
    A change of the members of a role.

    desired: from the current to the desired members. exclusive: nobody else has the role, also with a condition.
    on_conditional: "remove", or "refuse" if there are conditional bindings, which exclusive would remove.
    allow_nobody: the last member may lose the role; own: members that do not count, because they always have it.
    """

    role: str
    desired: Callable[[list[str]], list[str]]
    exclusive: bool = False
    on_conditional: str = "remove"
    allow_nobody: bool = True
    own: tuple[str, ...] = ()

    def check(self, policy: dict[str, Any], label: str) -> None:
        """Raise GcpError if the change must not be made."""
        conditional = conditional_of(policy, self.role)
        if self.exclusive and self.on_conditional == "refuse" and conditional:
            held = "; ".join(
                f"{', '.join(sorted(binding['members']))} under the condition {binding['condition'].get('title')!r}"
                for binding in conditional
            )
            raise GcpError(
                f"Cannot change the members of {self.role} on {label}: it is held by {held}. Remove these bindings, or "
                f"set on_conditional=remove (variable mlflow_iam_on_conditional)"
            )
        before = members_of(policy, self.role)
        own = set(map(canonical, self.own))

        def somebody(members: Iterable[str]) -> list[str]:
            return [member for member in members if canonical(member) not in own and not member.startswith("deleted:")]

        if not self.allow_nobody and (losing := somebody(before)) and not somebody(self.desired(before)):
            raise GcpError(
                f"Cannot revoke {self.role} on {label} from everybody: {', '.join(losing)} would lose it. Name the "
                f"members who keep it, or set allow_nobody=true (variable mlflow_allow_nobody)"
            )


def check(task: Task, target: PolicyTarget, change: Change) -> dict[str, Any]:
    """
    Who has the role, as access(); raises GcpError if the change must not be made.

    Only reads. A resource that does not exist yet, or whose API is not enabled yet, has no members.
    """
    try:
        with task.client.action(f"read the IAM policy of {target.label}"):
            policy = target.read(task)
    except ApiError as error:
        if error.status != 404 and not error.disabled:
            raise
        policy = {}
    change.check(policy, target.label)
    return access(policy, change.role, exclusive=change.exclusive)


def apply(
    task: Task, target: PolicyTarget, change: Change, *, timeout: float = 120
) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Who has the role before and after the change, as access(); check mode does not write.

    Starts over for up to TIMEOUT seconds after a concurrent write (409, 412), and when a new service account has not
    propagated to IAM yet (400, 404).
    """

    def read_and_write() -> tuple[dict[str, Any], dict[str, Any]]:
        policy = task.read(f"the IAM policy of {target.label}", lambda: _read(task, target)) or {}
        change.check(policy, target.label)
        before = access(policy, change.role, exclusive=change.exclusive)
        members: list[str] = sorted(change.desired(before["members"]))
        after = {"role": change.role, "members": members}
        if after != before and not task.check_mode:
            with task.client.action(f"change the members of {change.role} on {target.label}"):
                target.write(task, with_members(policy, change.role, members, exclusive=change.exclusive))
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
    if error.constraint:  # for which Cloud Storage also has the status 412
        return False
    return error.status in (409, 412) or error.status in (400, 404) and error.propagating
