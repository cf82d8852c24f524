"""Cloud SQL Admin API, with a real PostgreSQL server behind every PostgreSQL instance.

https://cloud.google.com/sql/docs/postgres/admin-api/rest
"""

from __future__ import annotations

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.sqladmin import backups, contents, copies, instances, others
from gcp_sandbox.services.sqladmin.common import SERVICE
from gcp_sandbox.services.sqladmin.plane.servers import plane

__all__ = ["SERVICE", "backups", "contents", "copies", "instances", "others"]


@SERVICE.starts
async def start(cloud: Cloud) -> None:
    """Restart the servers with their data."""
    await plane(cloud).start()


@SERVICE.stops
async def stop(cloud: Cloud) -> None:
    """Stop the servers; their data is kept."""
    await plane(cloud).stop()
