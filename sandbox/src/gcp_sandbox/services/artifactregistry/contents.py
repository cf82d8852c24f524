"""What is in a Docker repository, who may push into it, and what its cleanup policies delete."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.images import ImageError, Images, untagged
from gcp_sandbox.services.artifactregistry.repositories import REPOSITORIES, SERVICE, repository_of

Doc = dict[str, Any]


@dataclasses.dataclass
class Version:
    """An image of a repository: its path in it, digest, tags with the times of their last change, and when it was pushed."""

    path: str
    digest: str
    uploaded: str
    tags: dict[str, str] = dataclasses.field(default_factory=dict)


def begin(repository: str) -> str:
    """What references to the images of a repository (by key) begin with."""
    _, project, _, place, _, name = repository.split("/")
    domain, _, ident = project.rpartition(":")
    return f"{place}-docker.pkg.dev/{f'{domain}/' if domain else ''}{ident}/{name}/"


def versions(cloud: Cloud, repository: str) -> list[Version]:
    """The images of a repository, by path and digest."""
    images, start = Images(cloud.folder), begin(repository)
    out: dict[tuple[str, str], Version] = {}
    for reference, entry in sorted(images.all().items()):
        if not reference.startswith(start):
            continue
        digest = entry.get("digest", "")
        if not digest:
            try:
                image = images.lookup(reference)
            except ImageError:
                continue  # its folder is gone
            digest = image.digest if image else ""
        uploaded = entry.get("uploaded") or _moment(cloud)
        path = untagged(reference).removeprefix(start)
        version = out.setdefault((path, digest), Version(path, digest, uploaded))
        if "@" not in reference:
            version.tags[reference.rpartition(":")[2]] = entry.get("updated", uploaded)
    return list(out.values())


def _moment(cloud: Cloud) -> str:
    file = cloud.folder / "images.json"
    return datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def refusal(cloud: Cloud, principal: Principal, reference: str) -> str | None:
    """Why an account may not push an image, in the words of docker push; None if it may."""
    key = repository_of(reference)
    if key is None:
        return f"denied: gcp-sandbox has no registry for {reference}"
    permission = "artifactregistry.repositories.uploadArtifacts"
    project = project_resource(key.split("/")[1])
    if not cloud.iam.allows(principal, permission, project, f"//{SERVICE.host}/{key}"):
        return f'denied: Permission "{permission}" denied on resource "{key}" (or it may not exist)'
    if REPOSITORIES.found(cloud, key) is None:
        return f'name unknown: Repository "{key.rpartition("/")[2]}" not found'
    return None


def unreadable(cloud: Cloud, principal: Principal, reference: str) -> str | None:
    """The project of an image that was built, if an account may not pull it; None if it may."""
    key = repository_of(reference)
    if key is None or not any(
        "digest" in entry for name, entry in Images(cloud.folder).all().items() if untagged(name) == untagged(reference)
    ):
        return None
    project = key.split("/")[1]
    permission = "artifactregistry.repositories.downloadArtifacts"
    allowed = cloud.iam.allows(principal, permission, project_resource(project), f"//{SERVICE.host}/{key}")
    return None if allowed else project


# -- cleanup policies ------------------------------------------------------


def clean(cloud: Cloud, reference: str) -> None:
    """Delete what the cleanup policies of an image's repository delete; Google does so within about a day.

    https://cloud.google.com/artifact-registry/docs/repositories/cleanup-policy-overview
    """
    key = repository_of(reference)
    doc = cloud.store.peek(REPOSITORIES.kind, key) if key else None
    if key is None or doc is None or doc.get("cleanupPolicyDryRun"):
        return
    present = versions(cloud, key)
    marked: dict[str, set[tuple[str, str]]] = {"KEEP": set(), "DELETE": set()}
    for policy in doc.get("cleanupPolicies", {}).values():
        marked[policy["action"]] |= {(version.path, version.digest) for version in _met(policy, present)}
    if gone := marked["DELETE"] - marked["KEEP"]:
        Images(cloud.folder).remove(*(f"{begin(key)}{path}@{digest}" for path, digest in gone))


def _met(policy: Doc, present: list[Version]) -> Iterable[Version]:
    if newest := policy.get("mostRecentVersions"):
        return _newest(newest, present)
    return [version for version in present if _fits(policy.get("condition", {}), version)]


def _newest(rule: Doc, present: list[Version]) -> Iterator[Version]:
    for path in {version.path for version in present}:
        if _begins(path, rule.get("packageNamePrefixes")):
            same = sorted((v for v in present if v.path == path), key=lambda v: v.uploaded, reverse=True)
            yield from same[: rule.get("keepCount", 0)]


def _fits(condition: Doc, version: Version) -> bool:
    state = condition.get("tagState", "ANY")
    age = datetime.now(UTC) - datetime.fromisoformat(version.uploaded)
    return (
        (state in ("ANY", "TAG_STATE_UNSPECIFIED") or (state == "TAGGED") == bool(version.tags))
        and ("tagPrefixes" not in condition or any(_begins(tag, condition["tagPrefixes"]) for tag in version.tags))
        and _begins(version.digest, condition.get("versionNamePrefixes"))
        and _begins(version.path, condition.get("packageNamePrefixes"))
        and ("olderThan" not in condition or age > _duration(condition["olderThan"]))
        and ("newerThan" not in condition or age < _duration(condition["newerThan"]))
    )


def _begins(text: str, prefixes: list[str] | None) -> bool:
    return not prefixes or text.startswith(tuple(prefixes))


def _duration(text: str) -> timedelta:
    return timedelta(seconds=float(text.removesuffix("s")))
