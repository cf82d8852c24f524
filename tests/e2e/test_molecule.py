"""The scenarios of molecule: one for each role, and the stories."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import BIN, ROOT

SCENARIOS = {path.parent.name for path in (ROOT / "extensions/molecule").glob("*/molecule.yml")}
STORIES = {"default", "existing_network", "custom_oauth", "direct_iap", "two_deployments", "destroy"}


def molecule(tmp_path: Path, *words: str) -> str:
    """The output of ``molecule test`` in this checkout, with a port and a folder for its state that nobody else has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "GCP_", "MOLECULE_"))
    }
    env = plain | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "GCP_SANDBOX_PORT": str(port),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path),
    }
    done = subprocess.run(
        [BIN / "molecule", "test", *words],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=880,
    )
    assert done.returncode == 0, done.stdout[-20000:]
    return done.stdout


def test_each_role_and_each_story_has_a_scenario():
    roles = {path.parent.name for path in (ROOT / "roles").glob("*/tasks")}
    assert roles | STORIES == SCENARIOS


def test_one_scenario_by_itself(tmp_path):
    assert "verify" in molecule(tmp_path, "--scenario-name", "bucket")


@pytest.mark.long
def test_all_scenarios(tmp_path):
    molecule(tmp_path, "--all", "--workers", "3")
