# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a first deployment meets one after another: credentials, billing, permissions, quotas and APIs, looked at together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import caller, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.permissions import roles_of
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight import needs, policies
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight.site import Site

PROJECTS = "https://cloudresourcemanager.googleapis.com/v1/projects"
PER_CALL = 100  # permissions that one call can test
SHORT = 1800  # seconds for which a token should be good: a database takes up to 25 minutes
SHOWN = 4  # permissions that a finding names; the role has all of them
NEARLY = 0.8  # of a quota, from where on it is worth a note
# Metrics of Compute Engine, each with what a first deployment takes of it. https://cloud.google.com/compute/resource-usage
GLOBAL_QUOTAS = {
    "BACKEND_SERVICES": 1,
    "FORWARDING_RULES": 2,
    "NETWORKS": 1,
    "SSL_CERTIFICATES": 1,
    "STATIC_ADDRESSES": 1,
    "SUBNETWORKS": 1,
    "TARGET_HTTP_PROXIES": 1,
    "TARGET_HTTPS_PROXIES": 1,
    "URL_MAPS": 2,
}
NETWORK_QUOTAS = {"NETWORKS": 1, "STATIC_ADDRESSES": 1, "SUBNETWORKS": 1}
"""Without an external load balancer. The address is the range of private services access."""
REGION_QUOTAS = {"NETWORK_ENDPOINT_GROUPS": 1}
INSTANCES = 100
"""Cloud SQL instances that a project may have by default. https://cloud.google.com/sql/docs/quotas"""

Reader = Callable[[], Any]


def survey(site: Site) -> dict[str, Any]:
    """Add all findings and notes to SITE; returns the caller."""
    facts = caller.described(site.task)
    who = facts["member"]
    project = site.text("services_project_id")
    reads: dict[str, Reader] = {
        "billing": partial(site.client.get, f"https://cloudbilling.googleapis.com/v1/projects/{project}/billingInfo"),
        "apis": partial(_enabled, site, project),
        "quotas": partial(site.client.get, f"{API}/projects/{site.text('iap_lb_project_id')}"),
        "regional quotas": partial(
            site.client.get, f"{API}/projects/{site.text('iap_lb_project_id')}/regions/{site.text('iap_lb_region')}"
        ),
        "instances": partial(_instances, site),
        "policy": partial(site.client.post, f"{PROJECTS}/{project}:getIamPolicy", {}, idempotent=True),
    }
    wanted = needs.by_project(site)
    for name, (making, changing) in wanted.items():
        reads[f"permissions on {name}"] = partial(_granted, site, name, making | changing)
    reads |= policies.reads(site, project)
    with ThreadPoolExecutor(len(reads)) as pool:
        futures = {key: pool.submit(_try, read) for key, read in reads.items()}
        found = {key: future.result() for key, future in futures.items()}
    _credentials(site, facts)
    _billing(site, project, found["billing"])
    for name, (making, changing) in wanted.items():
        _permissions(site, who, name, making, changing, found[f"permissions on {name}"])
    policies.check(site, found)
    balanced = site.door == "load_balancer"
    _quotas(site, found["quotas"], GLOBAL_QUOTAS if balanced else NETWORK_QUOTAS, "")
    _quotas(
        site, found["regional quotas"], REGION_QUOTAS if site.door != "cloud_run" else {}, site.text("iap_lb_region")
    )
    _count_instances(site, found["instances"])
    _deleted_accounts(site, found["policy"])
    _apis(site, found["apis"])
    unread = sorted(
        f"{key} ({error.message})"
        for key, error in found.items()
        if isinstance(error, ApiError) and not key.startswith(policies.PREFIX) and not error.disabled
    )
    if unread:
        site.notes.append(f"could not find out: {'; '.join(unread)}")
    return facts


def _try(read: Reader) -> Any:
    """What READ returns, or its ApiError."""
    try:
        return read()
    except ApiError as error:
        return error


# ---- the caller


def _credentials(site: Site, who: Mapping[str, Any]) -> None:
    """Add notes about the credentials of the caller WHO."""
    seconds = _left(who["expires"])
    if not who["renewed"] and seconds is not None and seconds < SHORT:
        site.notes.append(
            f"the access token is good for {seconds // 60} more minutes, and a first run may take longer: get a new one (gcloud auth "
            "print-access-token), or use another auth_kind"
        )
    quota_project = who["quota_project"]
    if quota_project and quota_project != site.text("services_project_id"):
        site.notes.append(
            f"requests count against the quotas of project {quota_project}, where the APIs must be enabled too (mlflow_quota_project, or "
            f"gcloud auth application-default set-quota-project {site.text('services_project_id')}, changes that)"
        )


def _left(expires: str) -> int | None:
    """Seconds until a time as caller.described() has it, None for none."""
    if not expires:
        return None
    until = datetime.strptime(expires, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return int((until - datetime.now(timezone.utc)).total_seconds())


# ---- billing, permissions, APIs


def _billing(site: Site, project: str, found: Any) -> None:
    if isinstance(found, dict) and not found.get("billingEnabled"):
        site.findings.append(
            f"project {project} is not linked to an open billing account: gcloud billing projects link {project} "
            "--billing-account=ACCOUNT (gcloud billing accounts list shows them)"
        )


def _granted(site: Site, project: str, wanted: Iterable[str]) -> set[str]:
    """
    Those of WANTED that the caller has on a project, which it may ask without any permission.
    https://cloud.google.com/resource-manager/reference/rest/v1/projects/testIamPermissions
    """
    left, granted = sorted(wanted), set[str]()
    while left:
        asked = left[:PER_CALL]
        try:
            body = {"permissions": asked}
            answer = site.client.post(f"{PROJECTS}/{project}:testIamPermissions", body, idempotent=True)
            granted |= set(answer.get("permissions") or ())
        except ApiError as error:
            # One that cannot be tested on a project is not said to be missing.
            asked = [name for name in asked if re.search(rf"\b{re.escape(name)}\b", error.message)]
            if error.status != 400 or not asked:
                raise
            granted |= set(asked)
        left = [name for name in left if name not in asked]
    return granted


def _permissions(
    site: Site, who: str, project: str, making: frozenset[str], changing: frozenset[str], granted: Any
) -> None:
    if isinstance(granted, ApiError):
        return
    for missing, add in ((making - granted, site.findings.append), (changing - granted, site.notes.append)):
        for role, names in sorted(_by_role(missing).items()):
            later = "" if missing <= making else ", which later changes need"
            mend = (
                f"gcloud projects add-iam-policy-binding {project} --member={who or 'MEMBER'} --role={role}"
                if role
                else "add them to a role that it has"
            )
            add(f"{who or 'the caller'} lacks {_some(names)} on project {project}{later}: {mend}")


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= SHOWN else f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"


def _by_role(missing: Iterable[str]) -> Mapping[str, list[str]]:
    """Permissions by the smallest predefined role of the deployer that has them, "" where none is known."""
    out: dict[str, list[str]] = {}
    for permission in sorted(missing):
        roles = roles_of(permission)
        out.setdefault(roles.deployer or roles.reader, []).append(permission)
    return out


def _enabled(site: Site, project: str) -> list[str]:
    """https://cloud.google.com/service-usage/docs/reference/rest/v1/services/list"""
    url = f"https://serviceusage.googleapis.com/v1/projects/{project}/services"
    found = site.client.items(url, "services", params={"filter": "state:ENABLED", "pageSize": "200"})
    return [str(entry["name"]).rpartition("/")[2] for entry in found]


def _apis(site: Site, enabled: Any) -> None:
    if isinstance(enabled, ApiError):
        return
    off = sorted(set(site.listed("services_names")) - set(enabled))
    if off and "services" in site.parts:
        site.notes.append(f"APIs that the run enables: {', '.join(off)}")
    elif off:
        site.notes.append(f"APIs that are off, and this run does not enable: {', '.join(off)}")


def _deleted_accounts(site: Site, policy: Any) -> None:
    """Accounts of our names that were deleted: what they were granted stays theirs, and is not the new account's."""
    if isinstance(policy, ApiError):
        return
    members = {member for binding in policy.get("bindings") or () for member in binding.get("members") or ()}
    for account, project in (
        (site.text("cloudrun_account_id"), site.text("cloudrun_project_id")),
        (site.of_door("logger_account_id"), site.of_door("project_id")),
    ):
        email = values.service_account_email(account, project)
        for member in sorted(member for member in members if member.startswith(f"deleted:serviceAccount:{email}?")):
            uid = member.rpartition("uid=")[2]
            site.notes.append(
                f"a service account {email} was deleted; the run makes a new one, and {member} keeps what it was granted without "
                f"effect (gcloud iam service-accounts undelete {uid} brings the old one back within 30 days)"
            )


# ---- quotas


def _quotas(site: Site, found: Any, metrics: Mapping[str, int], region: str) -> None:
    """https://cloud.google.com/compute/docs/reference/rest/v1/projects/get"""
    if isinstance(found, ApiError) or "front_door" not in site.parts:
        return
    where = f" in {region}" if region else ""
    for quota in found.get("quotas") or ():
        metric, limit, usage = quota.get("metric"), float(quota.get("limit") or 0), float(quota.get("usage") or 0)
        if metric in metrics:
            _quota(site, f"quota {metric}{where}", limit, usage, metrics[metric], site.text("iap_lb_project_id"))


def _quota(site: Site, what: str, limit: float, usage: float, more: int, project: str) -> None:
    text = f"{what} of project {project} is used up to {usage:g} of {limit:g}"
    request = f"request more at https://console.cloud.google.com/iam-admin/quotas?project={project}"
    if usage + more > limit and site.is_new:
        site.findings.append(f"{text}, and a deployment takes {more}: {request}, or delete what is not used")
    elif limit and usage >= NEARLY * limit:
        site.notes.append(f"{text}: {request}")


def _instances(site: Site) -> list[dict[str, Any]]:
    """https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/instances/list"""
    url = f"https://sqladmin.googleapis.com/v1/projects/{site.text('cloudsql_project_id')}/instances"
    return list(site.client.items(url, "items", params={"fields": "items(name),nextPageToken"}))


def _count_instances(site: Site, found: Any) -> None:
    if not isinstance(found, ApiError) and len(found) >= NEARLY * INSTANCES:
        project = site.text("cloudsql_project_id")
        site.notes.append(
            f"project {project} has {len(found)} Cloud SQL instances, and {INSTANCES} are allowed by default: "
            f"see https://console.cloud.google.com/iam-admin/quotas?project={project}"
        )
