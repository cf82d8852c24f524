"""Projects, and what a project is born with."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from gcp_sandbox.iam import project_resource
from gcp_sandbox.operations import now

if TYPE_CHECKING:
    from gcp_sandbox.app import Sandbox

KIND = "projects"
# What every project has enabled from its first day.
# https://cloud.google.com/service-usage/docs/enabled-service#default
BORN_WITH = (
    "bigquery.googleapis.com", "cloudapis.googleapis.com", "cloudtrace.googleapis.com", "datastore.googleapis.com",
    "logging.googleapis.com", "monitoring.googleapis.com", "servicemanagement.googleapis.com",
    "serviceusage.googleapis.com", "sql-component.googleapis.com", "storage-api.googleapis.com",
    "storage-component.googleapis.com", "storage.googleapis.com",
)  # fmt: skip


def find(app: Sandbox, name: str) -> dict[str, Any] | None:
    """A project by id or number."""
    doc = app.store.peek(KIND, name)
    if doc is not None:
        return doc
    if re.fullmatch(r"\d+", name):
        for _, doc in app.store.list(KIND):
            if doc["projectNumber"] == name:
                return doc
    return None


def create(
    app: Sandbox, project_id: str, owner: str, *, number: str = "", name: str = "", parent: dict[str, str] | None = None
) -> dict[str, Any]:
    """A new project, in Resource Manager v1's shape; owner is a member string."""
    doc = {
        "projectNumber": number or str(secrets.randbelow(9 * 10**11) + 10**11), "projectId": project_id,
        "lifecycleState": "ACTIVE", "name": name or project_id, "createTime": now(digits=3),
    }  # fmt: skip
    if parent:
        doc["parent"] = parent  # type: ignore[assignment]
    app.store.put(KIND, project_id, doc)
    for service in BORN_WITH:
        enable(app, project_id, service)
    app.iam.grant(project_resource(project_id), "roles/owner", owner)
    return doc


def enabled(app: Sandbox, project_id: str, service: str) -> bool:
    """Whether the project has the API enabled."""
    return app.store.peek("serviceusage.enabled", f"{project_id}/{service}") is not None


def enable(app: Sandbox, project_id: str, service: str) -> None:
    """Enable an API, with what Google then makes in the project (see Sandbox.when_enabled)."""
    if enabled(app, project_id, service):
        return
    app.store.put("serviceusage.enabled", f"{project_id}/{service}", {"time": now()})
    for hook in app.enable_hooks.get(service, ()):
        hook(app, project_id)
