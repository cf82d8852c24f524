"""Cloud Build: builds of images from an archive in Cloud Storage, followed as far as possible without a container engine.

https://cloud.google.com/build/docs/api/reference/rest
"""

from gcp_sandbox.services.cloudbuild import builds, work
from gcp_sandbox.services.cloudbuild.builds import SERVICE

__all__ = ["SERVICE", "builds", "work"]
