"""Cloud SQL Admin API, with a real PostgreSQL server behind every PostgreSQL instance.

https://cloud.google.com/sql/docs/postgres/admin-api/rest
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcp_sandbox.services.sqladmin import backups, contents, copies, instances, others
from gcp_sandbox.services.sqladmin.common import SERVICE
from gcp_sandbox.services.sqladmin.plane import plane

if TYPE_CHECKING:
    from gcp_sandbox.app import Sandbox

__all__ = ["SERVICE", "backups", "contents", "copies", "instances", "others"]


@SERVICE.starts
async def start(app: Sandbox) -> None:
    """Servers come back with their data."""
    await plane(app).start()


@SERVICE.stops
async def stop(app: Sandbox) -> None:
    """Servers end; what is written stays."""
    await plane(app).stop()
