"""Repositories and who may pull from them.

https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories
"""

from __future__ import annotations

import re
from typing import Any

from gcp_sandbox.core import policies, projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
SERVICE = Service("artifactregistry", "v1", "v1beta2")
KIND = "artifactregistry.repositories"
_TYPE = "type.googleapis.com/google.devtools.artifactregistry."
_R = "artifactregistry.projects.locations.repositories."
# https://cloud.google.com/artifact-registry/docs/repositories/repo-locations
LOCATIONS = (
    "africa-south1",
    "asia",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-south2",
    "asia-southeast1",
    "asia-southeast2",
    "australia-southeast1",
    "australia-southeast2",
    "europe",
    "europe-central2",
    "europe-north1",
    "europe-north2",
    "europe-southwest1",
    "europe-west1",
    "europe-west10",
    "europe-west12",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "me-central1",
    "me-central2",
    "me-west1",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "northamerica-south1",
    "southamerica-east1",
    "southamerica-west1",
    "us",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
)
_OUTPUT = {
    "name",
    "createTime",
    "updateTime",
    "sizeBytes",
    "satisfiesPzi",
    "satisfiesPzs",
    "registryUri",
    "disallowUnspecifiedMode",
}
# https://cloud.google.com/artifact-analysis/docs/scanning-types
_SCANNED = {"DOCKER"}
# The remote repositories that are made for one format of packages.
_UPSTREAMS = {
    "dockerRepository": "DOCKER",
    "mavenRepository": "MAVEN",
    "npmRepository": "NPM",
    "pythonRepository": "PYTHON",
    "aptRepository": "APT",
    "yumRepository": "YUM",
}
_MUTABLE = {
    "description",
    "labels",
    "cleanupPolicies",
    "cleanupPolicyDryRun",
    "dockerConfig",
    "mavenConfig",
    "vulnerabilityScanningConfig",
    "virtualRepositoryConfig",
    "remoteRepositoryConfig",
    "platformLogsConfig",
}


def _key(call: Call) -> str:
    name = call.params.get("name") or call.params.get("resource") or call.params["parent"]
    return re.sub(r"^projects/[^/]+", f"projects/{call.project_id}", name)


def full_name(call: Call) -> str:
    """Full resource name, for policies, of the repository a call names."""
    return "//artifactregistry.googleapis.com/" + "/".join(_key(call).split("/")[:6])


def repository(call: Call) -> Doc:
    """The repository that a call is about, or about something in it (for reading).  Raises ApiError 404."""
    doc = call.cloud.store.peek(KIND, "/".join(_key(call).split("/")[:6]))
    if doc is None:
        raise ApiError(404, "Requested entity was not found.")
    return doc


def _shown(cloud: Cloud, doc: Doc) -> Doc:
    """A repository with what is worked out when it is read."""
    _, project, _, place, _, name = doc["name"].split("/")
    out = doc | {"registryUri": f"{place}-{doc['format'].lower()}.pkg.dev/{project}/{name}", "satisfiesPzi": True}
    scan = dict(doc.get("vulnerabilityScanningConfig", {}))
    if doc["mode"] == "VIRTUAL_REPOSITORY":
        scan["enablementState"] = "SCANNING_UNSUPPORTED"
        scan["enablementStateReason"] = "Repository mode VIRTUAL_REPOSITORY is not supported."
    elif doc["format"] not in _SCANNED:
        scan["enablementState"] = "SCANNING_UNSUPPORTED"
        scan["enablementStateReason"] = f"Repository format {doc['format']} is not supported."
    elif scan.get("enablementConfig") == "DISABLED":
        scan["enablementState"] = "SCANNING_DISABLED"
        scan["enablementStateReason"] = "Vulnerability scanning is disabled in the repository's configuration."
    elif projects.enabled(cloud, project, "containerscanning.googleapis.com"):
        scan["enablementState"] = "SCANNING_ACTIVE"
    else:
        scan["enablementState"] = "SCANNING_DISABLED"
        scan["enablementStateReason"] = "API containerscanning.googleapis.com is not enabled."
    out["vulnerabilityScanningConfig"] = {"lastEnableTime": doc["createTime"]} | scan
    return out


def _answer(call: Call, doc: Doc) -> Doc:
    """A repository as the version of the API that is called knows it."""
    known = call.method.api.schemas["Repository"]["properties"]
    return {k: v for k, v in _shown(call.cloud, doc).items() if k in known}


def _operation(call: Call, verb: str, name: str, args: Doc) -> Operation:
    kind = f"{_TYPE}{call.method.api.version}."
    return call.operation(
        verb,
        name,
        scope=name.rpartition("/repositories/")[0],
        action=f"artifactregistry.{verb}",
        args=args | {"type": kind},
        metadata={"@type": f"{kind}OperationMetadata"},
        latency="artifactregistry.repositories",
    )


def _checked(doc: Doc) -> Doc:
    """A repository, refused or completed."""
    for label, value in doc.get("labels", {}).items():
        if not re.fullmatch(r"[a-z][-a-z0-9_]{0,62}", label) or not re.fullmatch(r"[-a-z0-9_]{0,63}", value):
            raise ApiError(400, f"invalid label {label}: {value}")
    for field, mode in (
        ("virtualRepositoryConfig", "VIRTUAL_REPOSITORY"),
        ("remoteRepositoryConfig", "REMOTE_REPOSITORY"),
    ):
        if field in doc and doc["mode"] != mode:
            raise ApiError(400, f"{field} can only be set on a repository of mode {mode}")
    if doc["mode"] == "REMOTE_REPOSITORY" and "remoteRepositoryConfig" not in doc:
        raise ApiError(400, "remote_repository_config is required for remote repositories")
    for field, format_ in _UPSTREAMS.items():
        if field in doc.get("remoteRepositoryConfig", {}) and doc["format"] != format_:
            raise ApiError(400, f"{field} does not fit a repository of format {doc['format']}")
    if "mavenConfig" in doc and doc["format"] != "MAVEN":
        raise ApiError(400, "maven_config can only be set on a repository of format MAVEN")
    if "vulnerabilityScanningConfig" in doc:
        doc["vulnerabilityScanningConfig"] = {
            k: v for k, v in doc["vulnerabilityScanningConfig"].items() if k == "enablementConfig"
        }
    if not doc.get("cleanupPolicies"):
        return {k: v for k, v in doc.items() if k != "cleanupPolicies"}
    return doc | {"cleanupPolicies": {name: policy | {"id": name} for name, policy in doc["cleanupPolicies"].items()}}


@SERVICE.method(_R + "create", permission="artifactregistry.repositories.create")
def create(call: Call) -> Operation:
    ident, parent, body = call.params.get("repositoryId", ""), _key(call), call.body
    if parent.rpartition("/")[2] not in LOCATIONS:
        raise ApiError(404, f"Location {parent.rpartition('/')[2]} is not found or access is unauthorized.")
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", ident):
        raise ApiError(
            400,
            f'invalid repository id "{ident}": it must be up to 63 lowercase letters, numbers and hyphens, begin '
            "with a letter and end with a letter or number",
        )
    if body.get("format", "FORMAT_UNSPECIFIED") == "FORMAT_UNSPECIFIED":
        raise ApiError(400, "repository format is required")
    name = f"{parent}/repositories/{ident}"
    if call.cloud.store.peek(KIND, name) is not None:
        raise ApiError(409, "the repository already exists")
    mode = body.get("mode", "MODE_UNSPECIFIED")
    if mode == "MODE_UNSPECIFIED" and body.get("disallowUnspecifiedMode"):
        raise ApiError(400, "repository mode is required")
    mode = mode.replace("MODE_UNSPECIFIED", "STANDARD_REPOSITORY")
    doc = _checked({k: v for k, v in body.items() if k not in _OUTPUT} | {"name": name, "mode": mode})
    return _operation(call, "create", name, {"doc": doc})


@SERVICE.action("create")
async def _create(cloud: Cloud, op: Doc) -> Doc:
    doc = op["args"]["doc"]
    known = cloud.store.peek(KIND, doc["name"])
    if known is None:
        when = now()
        known = cloud.store.put(KIND, doc["name"], doc | {"createTime": when, "updateTime": when})
    return {"@type": f"{op['args']['type']}Repository"} | _shown(cloud, known)


@SERVICE.method(_R + "get", permission="artifactregistry.repositories.get", resource=full_name)
def get(call: Call) -> Doc:
    return _answer(call, repository(call))


@SERVICE.method(_R + "list", permission="artifactregistry.repositories.list")
def list_(call: Call) -> Doc:
    prefix = _key(call) + "/repositories/"
    if prefix.split("/")[3] == "-":
        prefix = f"projects/{call.project_id}/"
    return page(call, "repositories", [_answer(call, d) for _, d in call.cloud.store.list(KIND, prefix)])


@SERVICE.method(_R + "patch", permission="artifactregistry.repositories.update", resource=full_name)
def patch(call: Call) -> Doc:
    doc = dict(repository(call))
    paths = [p.strip() for p in call.params.get("updateMask", "").split(",") if p.strip()]
    fields = {re.sub(r"_(.)", lambda m: m.group(1).upper(), p.split(".")[0]) for p in paths}
    for field in fields or _MUTABLE & call.body.keys():
        if field not in _MUTABLE:
            raise ApiError(400, f"{field} cannot be changed")
        doc.pop(field, None)
        if field in call.body:
            doc[field] = call.body[field]
    return _answer(call, call.cloud.store.put(KIND, doc["name"], _checked(doc) | {"updateTime": now()}))


@SERVICE.method(_R + "delete", permission="artifactregistry.repositories.delete", resource=full_name)
def delete(call: Call) -> Operation:
    doc = repository(call)
    return _operation(call, "delete", doc["name"], {"name": doc["name"]})


@SERVICE.action("delete")
async def _delete(cloud: Cloud, op: Doc) -> Doc:
    cloud.store.delete(KIND, op["args"]["name"])
    cloud.iam.drop("//artifactregistry.googleapis.com/" + op["args"]["name"])
    return {"@type": "type.googleapis.com/google.protobuf.Empty"}


policies.serve(SERVICE, _R.removesuffix("."), full_name, "artifactregistry.repositories", exists=repository)


@SERVICE.method("artifactregistry.projects.locations.operations.get")
def operation(call: Call) -> Doc:
    op = call.cloud.operations.get(call.params["name"].rpartition("/")[2])
    if op is None or op["service"] != "artifactregistry":
        raise ApiError(404, "Requested entity was not found.")
    return call.cloud.operations.render(op, SERVICE.host)


@SERVICE.method("artifactregistry.projects.locations.list", permission="artifactregistry.locations.list")
def locations(call: Call) -> Doc:
    return {"locations": [{"name": f"projects/{call.project_id}/locations/{n}", "locationId": n} for n in LOCATIONS]}


@SERVICE.method("artifactregistry.projects.locations.get", permission="artifactregistry.locations.get")
def location(call: Call) -> Doc:
    name = call.params["name"].rpartition("/")[2]
    if name not in LOCATIONS:
        raise ApiError(404, f"Location {name} is not found or access is unauthorized.")
    return {"name": f"projects/{call.project_id}/locations/{name}", "locationId": name}
