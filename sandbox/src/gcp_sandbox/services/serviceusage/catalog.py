"""The APIs that a project can enable, what they depend on, and the service agents that they work as."""

from __future__ import annotations

import functools
import json
from typing import Any

from gcp_sandbox.core import discovery, projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.services.iam import accounts

# Those that the index of discovery documents does not have.
_OTHERS = {
    "cloudapis": "Google Cloud APIs",
    "storage-api": "Google Cloud Storage JSON API",
    "storage-component": "Cloud Storage",
    "sql-component": "Cloud SQL",
    "datastore": "Cloud Datastore API",
    "containerregistry": "Container Registry API",
    "bigquerystorage": "BigQuery Storage API",
    "oslogin": "Cloud OS Login API",
    "cloudtrace": "Cloud Trace API",
    "stackdriver": "Stackdriver API",
    "containerfilesystem": "Container File System API",
    "anthos": "Anthos API",
    "gkehub": "GKE Hub API",
    "certificatemanager": "Certificate Manager API",
    "privateca": "Certificate Authority API",
    "vpcaccess": "Serverless VPC Access API",
}
# API -> what is enabled with it, and cannot be disabled while it is enabled.
DEPENDS = {
    "container": (
        "compute",
        "containerregistry",
        "pubsub",
        "iam",
        "iamcredentials",
        "storage-api",
        "monitoring",
        "logging",
        "oslogin",
        "autoscaling",
        "bigquerystorage",
        "containerfilesystem",
        "dns",
        "gkebackup",
    ),
    "composer": ("compute", "container", "artifactregistry", "cloudbuild", "sqladmin", "storage-api"),
    "dataproc": ("compute", "storage-api", "logging"),
    "dataflow": ("compute", "storage-api"),
    "notebooks": ("compute",),
    "compute": ("oslogin",),
    "iam": ("iamcredentials",),
    "containerregistry": ("pubsub", "storage-api"),
    "cloudfunctions": ("logging", "pubsub", "storage-api"),
    "appengineflex": ("compute",),
}
# API -> domain of its agent service-NUMBER@DOMAIN.iam.gserviceaccount.com; all others are gcp-sa-<name>.
_DOMAINS = {
    "container": "container-engine-robot",
    "run": "serverless-robot-prod",
    "sqladmin": "gcp-sa-cloud-sql",
    "servicenetworking": "service-networking",
    "compute": "compute-system",
    "cloudfunctions": "gcf-admin-robot",
    "dataflow": "dataflow-service-producer-prod",
    "dataproc": "dataproc-accounts",
    "composer": "cloudcomposer-accounts",
    "file": "cloud-filer",
    "tpu": "cloud-tpu",
    "containerregistry": "containerregistry",
    "redis": "cloud-redis",
    "cloudscheduler": "gcp-sa-cloudscheduler",
    "storage": "gs-project-accounts",
    "workflows": "gcp-sa-workflows",
}
# APIs none of whose agents is the primary one, so that Service Usage does not tell its e-mail.
WITHOUT_PRIMARY = ("logging.googleapis.com", "storage.googleapis.com")
# API -> role that its agent gets on the project when the API is enabled; agents of other APIs come when asked for.
_AGENT_ROLES = {
    "compute": "roles/compute.serviceAgent",
    "run": "roles/run.serviceAgent",
    "container": "roles/container.serviceAgent",
    "artifactregistry": "roles/artifactregistry.serviceAgent",
    "vpcaccess": "roles/vpcaccess.serviceAgent",
    "pubsub": "roles/pubsub.serviceAgent",
    "cloudbuild": "roles/cloudbuild.serviceAgent",
    "containerregistry": "roles/containerregistry.ServiceAgent",
    "cloudfunctions": "roles/cloudfunctions.serviceAgent",
}


@functools.lru_cache
def titles() -> dict[str, str]:
    """Host -> title of every API known."""
    index = json.loads((discovery.documents() / "index.json").read_text(encoding="utf-8"))
    known = {f"{name}.googleapis.com": title for name, title in _OTHERS.items()}
    for item in index["items"]:
        host = item["discoveryRestUrl"].removeprefix("https://").partition("/")[0]
        if host == "www.googleapis.com":
            host = f"{item['name']}.googleapis.com"
        known.setdefault(host, item["title"])
    for name in {d for deps in DEPENDS.values() for d in deps}:
        known.setdefault(f"{name}.googleapis.com", f"{name.capitalize()} API")
    return known


def depends(service: str) -> tuple[str, ...]:
    """APIs that an API needs, by their full names."""
    return tuple(f"{n}.googleapis.com" for n in DEPENDS.get(service.removesuffix(".googleapis.com"), ()))


def dependents(service: str) -> list[str]:
    """APIs that need an API."""
    return sorted(f"{n}.googleapis.com" for n in DEPENDS if service in depends(f"{n}.googleapis.com"))


def agent_email(service: str, number: str) -> str:
    """E-mail of an API's service agent in a project."""
    name = service.removesuffix(".googleapis.com")
    return f"service-{number}@{_DOMAINS.get(name, f'gcp-sa-{name}')}.iam.gserviceaccount.com"


def identity(cloud: Cloud, project: dict[str, Any], service: str) -> dict[str, str]:
    """The service agent of an API in a project, created when it is not there: {email, uniqueId}."""
    email = agent_email(service, project["projectNumber"])
    new = not cloud.iam.known(email)
    unique = accounts.agent(cloud, email)
    role = _AGENT_ROLES.get(service.removesuffix(".googleapis.com"))
    if new and role:
        cloud.iam.grant(project_resource(project["projectId"]), role, f"serviceAccount:{email}")
    return {"email": email, "uniqueId": unique}


def enable(cloud: Cloud, project: dict[str, Any], service: str) -> None:
    """Enable an API, those it needs, and create its agent where Google does so at once."""
    for needed in depends(service):
        if not projects.enabled(cloud, project["projectId"], needed):
            enable(cloud, project, needed)
    if projects.enabled(cloud, project["projectId"], service):
        return
    if service.removesuffix(".googleapis.com") in _AGENT_ROLES:
        identity(cloud, project, service)
    projects.enable(cloud, project["projectId"], service)
