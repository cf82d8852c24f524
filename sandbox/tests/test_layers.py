"""The contracts on imports in pyproject.toml: layers in one direction, no circles, annotations included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "layer, line, kept",
    [
        ("core/paging.py", "", True),
        ("core/paging.py", "from gcp_sandbox.services import run", False),
        ("services/dns/common.py", "from gcp_sandbox.services.dns import zones", False),
        ("core/paging.py", "if TYPE_CHECKING:\n    from gcp_sandbox.gateway.server import Server", False),
    ],
)
def test_layers_import_downwards_only(tmp_path, layer, line, kept):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    with (tmp_path / "src" / "gcp_sandbox" / layer).open("a") as file:
        file.write(f"\n\n{line}\n")
    command = [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml", "--no-cache"]
    env = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is kept, done.stdout
