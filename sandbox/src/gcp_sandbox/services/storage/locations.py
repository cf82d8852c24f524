"""Locations of buckets.

https://cloud.google.com/storage/docs/locations
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gcp_sandbox.services.storage import common

_MULTI = ("ASIA", "EU", "US")
_DUAL = {
    "ASIA1": ("ASIA-NORTHEAST1", "ASIA-NORTHEAST2"),
    "EUR4": ("EUROPE-NORTH1", "EUROPE-WEST4"),
    "EUR5": ("EUROPE-WEST1", "EUROPE-WEST2"),
    "EUR7": ("EUROPE-WEST2", "EUROPE-WEST3"),
    "EUR8": ("EUROPE-WEST3", "EUROPE-WEST6"),
    "NAM4": ("US-CENTRAL1", "US-EAST1"),
}
_REGIONS = frozenset(
    [
        "AFRICA-SOUTH1",
        "ASIA-EAST1",
        "ASIA-EAST2",
        "ASIA-NORTHEAST1",
        "ASIA-NORTHEAST2",
        "ASIA-NORTHEAST3",
        "ASIA-SOUTH1",
        "ASIA-SOUTH2",
        "ASIA-SOUTHEAST1",
        "ASIA-SOUTHEAST2",
        "ASIA-SOUTHEAST3",
        "AUSTRALIA-SOUTHEAST1",
        "AUSTRALIA-SOUTHEAST2",
        "EUROPE-CENTRAL2",
        "EUROPE-NORTH1",
        "EUROPE-NORTH2",
        "EUROPE-SOUTHWEST1",
        "EUROPE-WEST1",
        "EUROPE-WEST10",
        "EUROPE-WEST12",
        "EUROPE-WEST2",
        "EUROPE-WEST3",
        "EUROPE-WEST4",
        "EUROPE-WEST6",
        "EUROPE-WEST8",
        "EUROPE-WEST9",
        "ME-CENTRAL1",
        "ME-CENTRAL2",
        "ME-WEST1",
        "NORTHAMERICA-NORTHEAST1",
        "NORTHAMERICA-NORTHEAST2",
        "NORTHAMERICA-SOUTH1",
        "SOUTHAMERICA-EAST1",
        "SOUTHAMERICA-WEST1",
        "US-CENTRAL1",
        "US-EAST1",
        "US-EAST4",
        "US-EAST5",
        "US-EAST7",
        "US-SOUTH1",
        "US-WEST1",
        "US-WEST2",
        "US-WEST3",
        "US-WEST4",
    ]
)


@dataclasses.dataclass(frozen=True)
class Place:
    """A location: its name, "region", "dual-region" or "multi-region", and the regions of a chosen dual region."""

    name: str
    kind: str
    regions: tuple[str, ...] = ()


def find(name: str, placement: dict[str, Any] | None = None) -> Place:
    """The location of a name; placement: customPlacementConfig.  Raises ApiError 400."""
    upper = name.upper() or "US"
    if placement and placement.get("dataLocations"):
        regions = tuple(r.upper() for r in placement["dataLocations"])
        if upper not in _MULTI or len(regions) != 2 or not _REGIONS.issuperset(regions):
            raise common.invalid("Invalid custom placement config: two regions of the bucket's location are needed.")
        return Place(upper, "dual-region", regions)
    if upper in _MULTI:
        return Place(upper, "multi-region")
    if upper in _DUAL:
        return Place(upper, "dual-region")
    if upper in _REGIONS:
        return Place(upper, "region")
    raise common.invalid("The specified location constraint is not valid.")
