"""Artifact Registry: repositories, and the images in them (which `gcp-sandbox image add` puts there).

https://cloud.google.com/artifact-registry/docs/reference/rest
"""

from gcp_sandbox.services.artifactregistry import images, repositories
from gcp_sandbox.services.artifactregistry.repositories import SERVICE

__all__ = ["SERVICE", "images", "repositories"]
