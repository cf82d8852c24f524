# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in Artifact Registry: references, and the digests that tags stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError

BASE = "https://artifactregistry.googleapis.com/v1/"
REFERENCE = re.compile(
    r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev/(?P<domain>[a-z0-9-]+(?:\.[a-z0-9-]+)+/)?(?P<project>[^/]+)/(?P<repository>[^/]+)/"
    r"(?P<package>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Image:
    """A reference to an image in Artifact Registry. tag, digest: "" if it has none."""

    name: str
    """The reference without tag and digest."""
    repository: str
    """projects/PROJECT/locations/LOCATION/repositories/NAME"""
    package: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, reference: str) -> Image | None:
        """The image of a reference, None if it is in another registry."""
        found = REFERENCE.fullmatch(reference)
        if found is None:
            return None
        digest, tag = found["digest"] or "", found["tag"] or ""
        project = f"{found['domain'][:-1]}:{found['project']}" if found["domain"] else found["project"]
        return cls(
            reference.partition("@")[0].removesuffix(f":{tag}" if tag else ""),
            f"projects/{project}/locations/{found['location']}/repositories/{found['repository']}",
            found["package"],
            tag or ("" if digest else "latest"),
            digest,
        )

    @property
    def url(self) -> str:
        """The package in the API."""
        return f"{BASE}{self.repository}/packages/{quote(self.package, safe='')}"

    def find(self, client: Client) -> str | None:
        """
        The digest of the image, None if there is none; raises ApiError.
        https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.packages.tags/get
        """
        if self.digest:
            return self.digest if client.find(f"{self.url}/versions/{self.digest}") else None
        found = client.find(f"{self.url}/tags/{self.tag}")
        return str(found["version"]).rpartition("/")[2] if found else None

    def pinned(self, digest: str) -> str:
        """The reference by digest."""
        return f"{self.name}@{digest}"


def repository_reference(repository: str) -> str:
    """What references to the images of a repository, projects/…, begin with, without the slash at the end."""
    _projects, project, _locations, location, _repositories, name = repository.split("/")
    return f"{location}-docker.pkg.dev/{project.replace(':', '/')}/{name}"


def same_image(client: Client, wanted: str, running: str) -> bool:
    """Whether WANTED, by tag or digest, is the image that RUNNING is; a tag that cannot be looked up may stand for it."""
    if wanted == running:
        return True
    one, other = Image.parse(wanted), Image.parse(running)
    if one is None or other is None or one.name != other.name or not other.digest or one.digest:
        return False
    try:
        return one.find(client) in (other.digest, None)
    except ApiError:
        return True


def body_of(image: Image, digest: str) -> dict[str, Any]:
    """The body of a tag that stands for DIGEST."""
    return {"version": f"{image.repository}/packages/{quote(image.package, safe='')}/versions/{digest}"}
