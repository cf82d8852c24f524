"""Cloud Storage: the JSON API, and the XML API with signed URLs.

https://cloud.google.com/storage/docs/json_api, https://cloud.google.com/storage/docs/xml-api/overview
"""

from __future__ import annotations

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.storage import (
    access,
    buckets,
    lifecycle,
    methods,
    objectacl,
    operations,
    upload,
    xmlapi,
)
from gcp_sandbox.services.storage.common import SERVICE

__all__ = [
    "SERVICE",
    "access",
    "buckets",
    "lifecycle",
    "methods",
    "objectacl",
    "operations",
    "upload",
    "setup",
    "xmlapi",
]


def setup(cloud: Cloud) -> None:
    """Return faults of the XML API as XML."""
    for host in ("storage.googleapis.com", "*.storage.googleapis.com"):
        cloud.fault_pages[host] = xmlapi.fault_page
