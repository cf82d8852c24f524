"""The records of what is inside an instance, its users and databases."""

from __future__ import annotations

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.sqladmin.common import Doc

_INSIDE = ("sqladmin.users", "sqladmin.databases")


def inside(cloud: Cloud, key: str) -> dict[str, dict[str, Doc]]:
    """Records of the users and databases of an instance."""
    return {kind: dict(cloud.store.list(kind, f"{key}/")) for kind in _INSIDE}


def put_inside(cloud: Cloud, records: dict[str, dict[str, Doc]], source: str, key: str) -> None:
    """Copy the records of users and databases of another instance (source) to an instance."""
    with cloud.store.atomic():
        for kind in _INSIDE:
            for other, _ in cloud.store.list(kind, f"{key}/"):
                cloud.store.delete(kind, other)
            for other, doc in records[kind].items():
                cloud.store.put(kind, other.replace(source, key, 1), doc)
