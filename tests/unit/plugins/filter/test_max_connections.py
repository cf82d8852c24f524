# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.filter.max_connections import FilterModule

max_connections = FilterModule().filters()["max_connections"]


@pytest.mark.parametrize(
    "tier, connections",
    [
        ("db-f1-micro", 25),
        ("db-g1-small", 50),
        ("db-custom-1-3840", 100),
        ("db-custom-2-7680", 400),
        ("db-custom-4-15360", 500),
        ("db-perf-optimized-N-2", 500),
        ("db-perf-optimized-N-16", 1000),
        ("a tier nobody knows yet", 25),
    ],
)
def test_memory_decides(tier, connections):
    assert max_connections(tier) == connections
