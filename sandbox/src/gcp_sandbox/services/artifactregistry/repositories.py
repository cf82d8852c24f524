"""Repositories and who may pull from them.

https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories
"""

from __future__ import annotations

import re
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.masks import camel
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.resources import Collection, serve, serve_locations, serve_operations
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.images import Images
from gcp_sandbox.services import cloudkms
from gcp_sandbox.services.compute.places import REGIONS

Doc = dict[str, Any]
SERVICE = Service("artifactregistry", "v1", "v1beta2")
# https://cloud.google.com/artifact-registry/docs/repositories/repo-locations
LOCATIONS = sorted({*REGIONS, "asia", "europe", "us"})
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


def _shown(cloud: Cloud, key: str, doc: Doc) -> Doc:
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


def _ident(call: Call) -> str:
    ident, place = call.params.get("repositoryId", ""), call.params["parent"].rpartition("/")[2]
    if place not in LOCATIONS:
        raise _nowhere(place)
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", ident):
        raise ApiError(
            400,
            f'invalid repository id "{ident}": it must be up to 63 lowercase letters, numbers and hyphens, begin '
            "with a letter and end with a letter or number",
        )
    if call.body.get("format", "FORMAT_UNSPECIFIED") == "FORMAT_UNSPECIFIED":
        raise ApiError(400, "repository format is required")
    return ident


def _prepared(call: Call, key: str, doc: Doc, old: Doc | None) -> Doc:
    if old is not None:
        return _checked(doc) | {"updateTime": now()}
    if "kmsKeyName" in doc:
        _encrypted(call, key, doc["kmsKeyName"])
    mode = doc.get("mode", "MODE_UNSPECIFIED")
    if mode == "MODE_UNSPECIFIED" and call.body.get("disallowUnspecifiedMode"):
        raise ApiError(400, "repository mode is required")
    doc["mode"] = mode.replace("MODE_UNSPECIFIED", "STANDARD_REPOSITORY")
    when = now()
    return _checked(doc) | {"createTime": when, "updateTime": when}


def _encrypted(call: Call, name: str, key: str) -> None:
    """Refuse a key that a repository cannot be encrypted with."""
    place = cloudkms.location(key)
    if not place:
        raise ApiError(400, f'invalid kms key name "{key}"')
    if place != name.split("/")[3]:
        raise ApiError(400, f"the kms key must be in the location of the repository, {name.split('/')[3]}")
    cloudkms.use(call.cloud, call.project_id, "artifactregistry", key)


def _find(cloud: Cloud, key: str) -> Doc | None:
    """A repository; `gcp-sandbox image add` makes that of its image, if it is not there."""
    doc = cloud.store.peek(REPOSITORIES.kind, key)
    if doc is None and any(repository_of(reference) == key for reference in Images(cloud.folder).all()):
        stamp = now()
        doc = {"name": key, "format": "DOCKER", "mode": "STANDARD_REPOSITORY", "createTime": stamp, "updateTime": stamp}
        cloud.store.put(REPOSITORIES.kind, key, doc)
    return doc


def repository_of(reference: str) -> str | None:
    """The key of the repository that an image is in, or None if it is of another registry."""
    found = re.match(r"([a-z0-9-]+)-docker\.pkg\.dev/(?:([a-z0-9-]+\.[a-z0-9.-]+)/)?([^/]+)/([^/]+)/", reference)
    if found is None:
        return None
    project = f"{found[2]}:{found[3]}" if found[2] else found[3]
    return f"projects/{project}/locations/{found[1]}/repositories/{found[4]}"


def _nowhere(name: str) -> ApiError:
    return ApiError(404, f"Location {name.rpartition('/')[2]} is not found or access is unauthorized.")


class Repositories(Collection):
    """Repositories, with which their images go."""

    def remove(self, cloud: Cloud, key: str) -> None:
        super().remove(cloud, key)
        images = Images(cloud.folder)
        images.remove(*(reference for reference in images.all() if repository_of(reference) == key))


REPOSITORIES = Repositories(
    SERVICE,
    "artifactregistry.projects.locations.repositories",
    "artifactregistry.repositories",
    output=("name", "disallowUnspecifiedMode"),
    mutable=(
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
    ),
    policy=True,
    operates="create delete",
    type="google.devtools.artifactregistry.{version}.Repository",
    ident=_ident,
    prepare=_prepared,
    find=_find,
    shown=_shown,
    taken=lambda name: ApiError(409, "the repository already exists"),
    wrong=lambda path: ApiError(400, f"{camel(path.partition('.')[0])} cannot be changed"),
)
serve(REPOSITORIES, "create get list patch delete policy")
serve_operations(SERVICE, "artifactregistry.projects.locations.operations", "get")
serve_locations(
    SERVICE, "artifactregistry.projects.locations", "get list", dict.fromkeys(LOCATIONS, {}), missing=_nowhere
)
