"""Projects, and the initial resources of a project."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.iam import ORGANIZATION, project_resource
from gcp_sandbox.core.operations import now

KIND = "projects"
# The APIs that are enabled in every new project.
# https://cloud.google.com/service-usage/docs/enabled-service#default
BORN_WITH = (
    "bigquery.googleapis.com",
    "cloudapis.googleapis.com",
    "cloudtrace.googleapis.com",
    "datastore.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "servicemanagement.googleapis.com",
    "serviceusage.googleapis.com",
    "sql-component.googleapis.com",
    "storage-api.googleapis.com",
    "storage-component.googleapis.com",
    "storage.googleapis.com",
)


def find(cloud: Cloud, name: str) -> dict[str, Any] | None:
    """A project by ID or number."""
    doc = cloud.store.peek(KIND, name)
    if doc is not None:
        return doc
    if re.fullmatch(r"\d+", name):
        for _, doc in cloud.store.list(KIND):
            if doc["projectNumber"] == name:
                return doc
    return None


_ACCOUNT = re.compile(
    r"[^@]+@([^.]+)(?:\.([^@]+))?\.iam\.gserviceaccount\.com|(\d+)-compute@developer\.gserviceaccount\.com"
    r"|(\d+)@cloudservices\.gserviceaccount\.com|([^@]+)@appspot\.gserviceaccount\.com"
)


def of_account(cloud: Cloud, email: str) -> dict[str, Any] | None:
    """The project in the e-mail address of a service account, or None if it is not in this sandbox."""
    found = _ACCOUNT.fullmatch(email)
    if found is None:
        return None
    name, domain, *others = found.groups()
    return find(cloud, (f"{domain}:{name}" if domain else name) if name else next(filter(None, others)))


def organization(cloud: Cloud) -> str:
    """ID of the organization of all projects; its administrator is the deployer."""
    doc = cloud.store.peek("sandbox", "organization")
    if doc is None:
        doc = cloud.store.put("sandbox", "organization", {"id": str(secrets.randbelow(9 * 10**11) + 10**11)})
        for role in (
            "resourcemanager.organizationAdmin",
            "resourcemanager.projectCreator",
            "resourcemanager.projectDeleter",
            "billing.admin",
            "orgpolicy.policyAdmin",
        ):
            cloud.iam.grant(ORGANIZATION, f"roles/{role}", f"serviceAccount:{cloud.settings.deployer}")
    return doc["id"]


def customer(cloud: Cloud) -> str:
    """The organization's customer ID of Cloud Identity, "C0…"."""
    return "C0" + base64.b32encode(hashlib.sha256(organization(cloud).encode()).digest()[:5]).decode().lower()[:7]


def create(
    cloud: Cloud,
    project_id: str,
    owner: str,
    *,
    number: str = "",
    name: str = "",
    parent: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A new project, in the format of Resource Manager v1; owner is a member string, parent {type, id} (the organization)."""
    doc: dict[str, Any] = {
        "projectNumber": number or str(secrets.randbelow(9 * 10**11) + 10**11),
        "projectId": project_id,
        "lifecycleState": "ACTIVE",
        "name": name or project_id,
        "createTime": now(digits=3),
    }
    doc["parent"] = parent or {"type": "organization", "id": organization(cloud)}
    if labels:
        doc["labels"] = labels
    cloud.store.put(KIND, project_id, doc)
    for service in BORN_WITH:
        enable(cloud, project_id, service)
    cloud.iam.grant(project_resource(project_id), "roles/owner", owner, first=True)
    return doc


def enabled(cloud: Cloud, project_id: str, service: str, seconds: float = 0) -> bool:
    """Whether the project has had the API enabled for at least `seconds`."""
    doc = cloud.store.peek("serviceusage.enabled", f"{project_id}/{service}")
    if doc is None or not seconds:
        return doc is not None
    return datetime.now(UTC) - datetime.fromisoformat(doc["time"]) >= timedelta(seconds=seconds)


def enable(cloud: Cloud, project_id: str, service: str) -> None:
    """Enable an API, and create the resources that Google then creates in the project (see Cloud.when_enabled)."""
    if enabled(cloud, project_id, service):
        return
    with cloud.store.atomic():
        cloud.store.put("serviceusage.enabled", f"{project_id}/{service}", {"time": now()})
        for hook in cloud.enable_hooks.get(service, ()):
            hook(cloud, project_id)
