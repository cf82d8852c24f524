"""Cloud SQL Admin API, with a real PostgreSQL server behind every PostgreSQL instance.

https://cloud.google.com/sql/docs/postgres/admin-api/rest
"""

from __future__ import annotations

import asyncio

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Attachments, Cloud
from gcp_sandbox.services.sqladmin import backups, contents, copies, final, instances, others
from gcp_sandbox.services.sqladmin.common import SERVICE
from gcp_sandbox.services.sqladmin.plane.servers import KIND, plane

__all__ = ["SERVICE", "backups", "contents", "copies", "final", "instances", "others", "setup"]


class _Attachments(Attachments):
    """The instances' service attachments."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def accepts(self, attachment: str, project: str) -> bool | None:
        found = projects.find(self._cloud, project) or {}
        for _, doc in self._cloud.store.list(KIND):
            if doc.get("pscServiceAttachmentLink") == attachment:
                allowed = doc["settings"]["ipConfiguration"]["pscConfig"].get("allowedConsumerProjects", ())
                return found.get("projectId") in allowed or found.get("projectNumber") in allowed
        return None

    def address(self) -> str:
        return plane(self._cloud).address()

    def changed(self) -> None:
        self._cloud.keep(asyncio.get_running_loop().create_task(plane(self._cloud).review_endpoints()))


def setup(cloud: Cloud) -> None:
    """Tell Compute Engine which service attachments there are."""
    cloud.attachments = _Attachments(cloud)


@SERVICE.starts
async def start(cloud: Cloud) -> None:
    """Restart the servers with their data."""
    await plane(cloud).start()


@SERVICE.stops
async def stop(cloud: Cloud) -> None:
    """Stop the servers; their data is kept."""
    await plane(cloud).stop()
