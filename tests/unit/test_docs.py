# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation says what is there: examples are valid, and every variable of a role is described."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md"), *ROOT.glob("image/*.md")])
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def blocks() -> list[Any]:
    """Every YAML block of the pages, named after its page."""
    return [
        pytest.param(yaml.safe_load(block), id=str(page.relative_to(ROOT)))
        for page in PAGES
        for block in re.findall(r"^```ya?ml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    ]


@cache
def options(role: str) -> dict[str, Any]:
    """The variables of a role, as its argument_specs.yml has them."""
    specs = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())
    return specs["argument_specs"]["main"]["options"]


@cache
def known() -> set[str]:
    """Every variable of a deployment: those of the roles, and the mlflow_* that their defaults and playbooks read."""
    files = [*ROOT.glob("roles/*/defaults/main.yml"), *ROOT.glob("playbooks/**/*.yml")]
    public = {name for file in files for name in re.findall(r"(?<!\.)\bmlflow_\w+", file.read_text())}
    return public.union(*(options(role) for role in ROLES))


@pytest.mark.parametrize("block", blocks())
def test_examples_use_variables_that_exist(block):
    if isinstance(block, dict):
        (group,) = block.values()
        for variables in group["hosts"].values():
            assert {name for name in variables if not name.startswith("ansible_")} <= known()
        return
    for play in block:
        for task in play.get("tasks", ()):
            if "ansible.builtin.include_role" not in task:
                continue
            role = task["ansible.builtin.include_role"]["name"].removeprefix("mlops.mlflow_gcp.")
            given = set(task.get("vars", {})) | set(play.get("vars", {}))
            assert set(task.get("vars", {})) <= set(options(role))
            missing = {name for name, option in options(role).items() if option.get("required")} - given
            # Required ones that derive from mlflow_* at play level have a default.
            assert missing <= set(yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text()))


def test_examples_pass_the_syntax_check(tmp_path):
    plays = [play for block in blocks() if isinstance(block.values[0], list) for play in block.values[0]]
    assert len(plays) >= len(ROLES)
    book = tmp_path / "examples.yml"
    book.write_text(yaml.safe_dump(plays, sort_keys=False))
    command = [Path(sys.executable).with_name("ansible-playbook"), "--syntax-check", "-i", "localhost,", book]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_of_a_role_is_described(role):
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text())
    assert set(defaults) <= set(options(role))
    readme = (ROOT / "roles" / role / "README.md").read_text()
    for name, option in options(role).items():
        assert option.get("type") and option.get("description"), name
        assert name in defaults or option.get("required") or not option.get("default"), name
        assert name in readme or name == "mlflow_extra_regions", f"roles/{role}/README.md does not mention {name}"


def test_the_example_inventory_has_every_variable_of_the_playbooks():
    text = (ROOT / "inventories/example/hosts.yml").read_text()
    public = {name for name in known() if name.startswith("mlflow_") and not name.startswith("mlflow_gcp")}
    assert {name for name in public if name not in text} == set()
    named = set(
        re.findall(r"^ *(?:# )?((?:mlflow|services|network|cloudsql|bucket|cloudrun|iap_lb)_\w+):", text, re.MULTILINE)
    )
    assert named <= known()
