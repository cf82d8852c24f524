"""What is in Docker repositories: the images that were registered by `gcp-sandbox image add`, to look at.

https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.dockerImages
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from gcp_sandbox.core.resources import Collection, name_of, serve
from gcp_sandbox.core.service import Call
from gcp_sandbox.images import ImageError, Images
from gcp_sandbox.services.artifactregistry.repositories import REPOSITORIES, SERVICE, Doc

_MEDIA = "application/vnd.docker.distribution.manifest.v2+json"


def _found(call: Call) -> dict[tuple[str, str], list[str]]:
    """(image, digest) -> tags, of the repository that a call names."""
    doc = REPOSITORIES.existing(call)
    _, project, _, place, _, name = doc["name"].split("/")
    begin = f"{place}-docker.pkg.dev/{project}/{name}/"
    out: dict[tuple[str, str], list[str]] = {}
    images = Images(call.cloud.folder)
    for reference in sorted(images.all()):
        if not reference.startswith(begin):
            continue
        try:
            image = images.lookup(reference)
        except ImageError:
            continue  # its folder is gone
        path, _, tag = reference.removeprefix(begin).rpartition(":")
        if image:
            out.setdefault((path, image.digest), []).append(tag)
    return out


def _base(call: Call) -> str:
    return REPOSITORIES.existing(call)["name"]


def _moment(call: Call) -> str:
    file = call.cloud.folder / "images.json"
    return datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _package(call: Call) -> str:
    """The package that a call is about."""
    name = call.params.get("parent") or call.params["name"]
    return re.sub("/(tags|versions)/[^/]*$", "", unquote(name.partition("/packages/")[2]))


# -- images ----------------------------------------------------------------


def _images(call: Call) -> list[Doc]:
    base, stamp = _base(call), _moment(call) if _found(call) else ""
    _, project, _, place, _, repo = base.split("/")
    return [
        {
            "name": f"{base}/dockerImages/{quote(path, safe='')}@{digest}",
            "tags": tags,
            "mediaType": _MEDIA,
            "uri": f"{place}-docker.pkg.dev/{project}/{repo}/{path}@{digest}",
            "uploadTime": stamp,
            "updateTime": stamp,
        }
        for (path, digest), tags in _found(call).items()
    ]


# -- packages, versions and tags -------------------------------------------


def _packages(call: Call) -> list[Doc]:
    stamp = {"createTime": _moment(call), "updateTime": _moment(call)} if _found(call) else {}
    names = sorted({path for path, _ in _found(call)})
    return [{"name": f"{_base(call)}/packages/{quote(path, safe='')}"} | stamp for path in names]


def _versions(call: Call) -> list[Doc]:
    package, base, stamp = _package(call), _base(call), _moment(call) if _found(call) else ""
    return [
        {
            "name": f"{base}/packages/{quote(path, safe='')}/versions/{digest}",
            "createTime": stamp,
            "updateTime": stamp,
            "relatedTags": [_tag(base, path, digest, tag) for tag in tags],
        }
        for (path, digest), tags in _found(call).items()
        if path == package
    ]


def _tag(base: str, path: str, digest: str, tag: str) -> Doc:
    inner = f"{base}/packages/{quote(path, safe='')}"
    return {"name": f"{inner}/tags/{tag}", "version": f"{inner}/versions/{digest}"}


def _tags(call: Call) -> list[Doc]:
    package, base = _package(call), _base(call)
    found = _found(call).items()
    return [_tag(base, path, digest, tag) for (path, digest), tags in found if path == package for tag in tags]


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
            f"artifactregistry.projects.locations.repositories.{_ids}",
            _kind,
            permission=_kind.lower(),
            docs=_docs,
            key=name_of,
            permit=lambda call, permission: call.require(permission, REPOSITORIES.full_name(call)),
        ),
        "get list",
    )
