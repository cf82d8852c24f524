"""What is in Docker repositories: the images that Cloud Build pushed or `gcp-sandbox image add` registered.

https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.dockerImages
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.resources import Collection, name_of, serve
from gcp_sandbox.core.service import Call
from gcp_sandbox.images import Images
from gcp_sandbox.services.artifactregistry import contents
from gcp_sandbox.services.artifactregistry.contents import Version
from gcp_sandbox.services.artifactregistry.repositories import REPOSITORIES, SERVICE, Doc

_MEDIA = "application/vnd.docker.distribution.manifest.v2+json"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_BASE = "artifactregistry.projects.locations.repositories"


def _base(call: Call) -> str:
    return REPOSITORIES.existing(call)["name"]


def _found(call: Call) -> list[Version]:
    return contents.versions(call.cloud, _base(call))


def _package(call: Call) -> str:
    """The package that a call is about."""
    name = call.params.get("parent") or call.params["name"]
    return re.sub("/(tags|versions)/[^/]*$", "", unquote(name.partition("/packages/")[2]))


def _package_name(base: str, path: str) -> str:
    return f"{base}/packages/{quote(path, safe='')}"


# -- images ----------------------------------------------------------------


def _images(call: Call) -> list[Doc]:
    base = _base(call)
    return [
        {
            "name": f"{base}/dockerImages/{quote(version.path, safe='')}@{version.digest}",
            "tags": sorted(version.tags),
            "mediaType": _MEDIA,
            "uri": f"{contents.begin(base)}{version.path}@{version.digest}",
            "uploadTime": version.uploaded,
            "updateTime": max([version.uploaded, *version.tags.values()]),
        }
        for version in _found(call)
    ]


# -- packages, versions and tags -------------------------------------------


def _packages(call: Call) -> list[Doc]:
    base = _base(call)
    times: dict[str, list[str]] = {}
    for version in _found(call):
        times.setdefault(version.path, []).append(version.uploaded)
    return [
        {"name": _package_name(base, path), "createTime": min(stamps), "updateTime": max(stamps)}
        for path, stamps in sorted(times.items())
    ]


def _versions(call: Call) -> list[Doc]:
    package, base = _package(call), _base(call)
    return [
        {
            "name": f"{_package_name(base, version.path)}/versions/{version.digest}",
            "createTime": version.uploaded,
            "updateTime": max([version.uploaded, *version.tags.values()]),
            "relatedTags": [_tag(base, version, tag) for tag in sorted(version.tags)],
        }
        for version in _found(call)
        if version.path == package
    ]


def _tag(base: str, version: Version, tag: str) -> Doc:
    inner = _package_name(base, version.path)
    return {"name": f"{inner}/tags/{tag}", "version": f"{inner}/versions/{version.digest}"}


def _tags(call: Call) -> list[Doc]:
    package, base = _package(call), _base(call)
    return [_tag(base, version, tag) for version in _found(call) if version.path == package for tag in version.tags]


def _permit(call: Call, permission: str) -> None:
    call.require(permission, REPOSITORIES.full_name(call))


for _ids, _docs in (
    ("dockerImages", _images),
    ("packages", _packages),
    ("packages.versions", _versions),
    ("packages.tags", _tags),
):
    _kind = f"artifactregistry.{_ids.rpartition('.')[2]}"
    serve(
        Collection(
            SERVICE,
            f"{_BASE}.{_ids}",
            _kind,
            permission=_kind.lower(),
            docs=_docs,
            key=name_of,
            permit=_permit,
        ),
        "get list",
    )


# -- changes ---------------------------------------------------------------


def _write_tag(call: Call, tag: str) -> Doc:
    """Let a tag stand for the version that the body names."""
    if not re.fullmatch(_TAG, tag):
        raise ApiError(400, f'invalid tag id "{tag}"')
    package, base = _package(call), _base(call)
    wanted = call.body.get("version", "").rpartition("/versions/")[2]
    version = next((each for each in _found(call) if each.path == package and each.digest == wanted), None)
    if version is None:
        raise ApiError(404, "Requested entity was not found.")
    reference = f"{contents.begin(base)}{package}:{tag}"
    images = Images(call.cloud.folder)
    if f"{contents.begin(base)}{package}@{wanted}" not in images.all():
        raise ApiError(501, "gcp-sandbox tags only images that were built.")
    images.tag(reference, wanted)
    return _tag(base, version, tag)


@SERVICE.method(f"{_BASE}.packages.tags.create")
def create_tag(call: Call) -> Doc:
    """https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.packages.tags/create"""
    _permit(call, "artifactregistry.tags.create")
    tag = call.params.get("tagId", "")
    if any(doc["name"].endswith(f"/tags/{tag}") for doc in _tags(call)):
        raise ApiError(409, "the tag already exists")
    return _write_tag(call, tag)


@SERVICE.method(f"{_BASE}.packages.tags.patch")
def patch_tag(call: Call) -> Doc:
    """https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.packages.tags/patch"""
    _permit(call, "artifactregistry.tags.update")
    tag = call.params["name"].rpartition("/")[2]
    if not any(doc["name"].endswith(f"/tags/{tag}") for doc in _tags(call)):
        raise ApiError(404, "Requested entity was not found.")
    return _write_tag(call, tag)


@SERVICE.method(f"{_BASE}.packages.tags.delete")
def delete_tag(call: Call) -> Doc:
    """https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.packages.tags/delete"""
    _permit(call, "artifactregistry.tags.delete")
    tag, package = call.params["name"].rpartition("/")[2], _package(call)
    if not any(doc["name"].endswith(f"/tags/{tag}") for doc in _tags(call)):
        raise ApiError(404, "Requested entity was not found.")
    Images(call.cloud.folder).remove(f"{contents.begin(_base(call))}{package}:{tag}")
    return {}


def _delete(call: Call, gone: list[Version]) -> Operation:
    start = contents.begin(_base(call))
    if not gone:
        raise ApiError(404, "Requested entity was not found.")
    Images(call.cloud.folder).remove(*(f"{start}{version.path}@{version.digest}" for version in gone))
    base = _base(call)
    empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
    about = {"@type": "type.googleapis.com/google.devtools.artifactregistry.v1.OperationMetadata"}
    return call.operation(
        "delete",
        call.params["name"],
        over=True,
        response=empty,
        scope=base.rpartition("/repositories/")[0],
        metadata=about,
    )


@SERVICE.method(f"{_BASE}.packages.versions.delete")
def delete_version(call: Call) -> Operation:
    """https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.packages.versions/delete"""
    _permit(call, "artifactregistry.versions.delete")
    digest, package = call.params["name"].rpartition("/")[2], _package(call)
    gone = [version for version in _found(call) if version.path == package and version.digest == digest]
    if any(version.tags for version in gone) and not call.params.get("force"):
        raise ApiError(
            400,
            "cannot delete version because it is tagged. Existing tags are: "
            + ", ".join(doc["name"] for doc in _tags(call) if doc["version"].endswith(digest)),
            status="FAILED_PRECONDITION",
        )
    return _delete(call, gone)


@SERVICE.method(f"{_BASE}.packages.delete")
def delete_package(call: Call) -> Operation:
    """https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.packages/delete"""
    _permit(call, "artifactregistry.packages.delete")
    package = _package(call)
    return _delete(call, [version for version in _found(call) if version.path == package])
