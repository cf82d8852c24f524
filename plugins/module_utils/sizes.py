# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
The sizes of a deployment: everything that grows together, so that the database always has room for the server's connections.

docs/sizes.md shows what they are for and what they cost; tools/sizes.py writes its tables from here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """The defaults of the variables of the same names in the roles cloudsql and cloudrun."""

    tier: str
    availability_type: str
    disk_size_gb: int
    cpu: str
    memory: str
    min_instances: int
    max_instances: int
    concurrency: int
    pool_size: int
    pool_overflow: int


# An instance of the server is one process, which uses little more than one CPU: beyond two, more instances help, not larger ones.
SIZES = {
    "small": Size("db-g1-small", "ZONAL", 10, "1", "2Gi", 0, 4, 80, 3, 1),
    "medium": Size("db-custom-1-3840", "ZONAL", 20, "1", "2Gi", 1, 6, 80, 5, 1),
    "large": Size("db-custom-2-7680", "REGIONAL", 50, "2", "4Gi", 2, 12, 80, 8, 4),
    "xlarge": Size("db-custom-8-30720", "REGIONAL", 200, "2", "8Gi", 3, 24, 80, 8, 3),
}


def of_size(size: str, name: str) -> Any:
    """The default of a variable in a size; raises ValueError for an unknown size."""
    if size not in SIZES:
        raise ValueError(f"size {size!r} is not allowed; give {', '.join(SIZES)}")
    return asdict(SIZES[size])[name]
