"""Cloud Storage: the JSON API, and the XML API with signed URLs.

https://cloud.google.com/storage/docs/json_api, https://cloud.google.com/storage/docs/xml-api/overview
"""

from gcp_sandbox.services.storage import (
    access,
    buckets,
    folders,
    hmackeys,
    lifecycle,
    methods,
    notifications,
    objectacl,
    upload,
    xmlapi,
)  # fmt: skip
from gcp_sandbox.services.storage.common import SERVICE

__all__ = [
    "SERVICE", "access", "buckets", "folders", "hmackeys", "lifecycle", "methods", "notifications", "objectacl", "upload",
    "xmlapi",
]  # fmt: skip
