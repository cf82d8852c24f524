# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sizes: each is a deployment that the checks accept, and the page says what they are."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.sizes import SIZES, Size, of_size

ROOT = Path(__file__).resolve().parents[2]
NAMES = [field.name for field in fields(Size)]


def defaults(role: str) -> dict[str, str]:
    return yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text())


@pytest.mark.parametrize("name", SIZES)
def test_every_size_fits_together(name):
    size = SIZES[name]
    database = values.max_connections(size.tier)
    assert values.connections(size.max_instances, size.pool_size, size.pool_overflow, database) is None
    assert values.tier_of_edition(size.tier, defaults("cloudsql")["cloudsql_edition"]) is None
    assert values.least_of_most(size.min_instances, size.max_instances) is None
    assert values.MEMORY.valid(size.memory) and values.CPU.valid(size.cpu) and size.pool_overflow >= 1


def test_sizes_grow():
    ordered = list(SIZES.values())
    for smaller, larger in zip(ordered, ordered[1:], strict=False):
        assert values.max_connections(smaller.tier) < values.max_connections(larger.tier)
        assert smaller.disk_size_gb < larger.disk_size_gb and smaller.max_instances < larger.max_instances


def test_the_default_is_what_deployments_had_before_sizes():
    assert defaults("mlflow")["mlflow_size"] == "small"
    assert SIZES["small"] == Size("db-g1-small", "ZONAL", 10, "1", "2Gi", 0, 4, 80, 3, 1)


def test_every_value_is_the_default_of_one_variable():
    used = [
        value
        for role in ("cloudsql", "cloudrun")
        for value in defaults(role).values()
        if isinstance(value, str) and "of_size" in value and "max_connections" not in value
    ]
    assert sorted(used) == sorted(f"{{{{ mlflow_size | mlops.mlflow_gcp.of_size('{name}') }}}}" for name in NAMES)


def test_an_unknown_size():
    with pytest.raises(ValueError, match="size 'tiny' is not allowed; give small, medium, large, xlarge"):
        of_size("tiny", "tier")


def test_the_page_is_up_to_date():
    subprocess.run([sys.executable, ROOT / "tools/sizes.py", "--check"], check=True)
    prices = yaml.safe_load((ROOT / "tools/prices.yml").read_text())
    page = (ROOT / "docs/sizes.md").read_text()
    assert page.count("(**not confirmed**)") == sum(entry["date"] is None for entry in prices.values())
