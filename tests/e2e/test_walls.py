"""Dependency rules between the parts of the repository, and requirements for each part."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.conftest import BIN

from .conftest import ROOT

# in_process documents how the others run.
NO_TASK = {"__init__", "in_process"}
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if path.stem not in NO_TASK)
# Plugins that run on the controller.
ACTIONS = {path.stem for path in (ROOT / "plugins" / "action").glob("*.py")}
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir())


def grep(pattern: str, *folders: str) -> list[str]:
    """Matching lines of text files, with their locations."""
    command = ["grep", "-rniIE", "--exclude-dir=__pycache__", "--exclude-dir=*.egg-info", pattern, *folders]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()


def test_the_product_does_not_know_where_it_is_tested():
    assert grep(r"sandbox|127\.0\.0\.1|localhost[:/]|//localhost", "plugins", "roles", "playbooks") == []


def test_the_sandbox_does_not_know_the_product():
    assert grep(r"mlops|mlflow", "sandbox/src") == []


def test_the_action_group_has_every_module_that_signs_in():
    groups = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]
    modules = {name: (ROOT / "plugins" / "modules" / f"{name}.py").read_text() for name in MODULES}
    signing_in = [name for name, text in modules.items() if "  - google.cloud.gcp\n" in text]
    assert [entry for entry in groups["all"] if isinstance(entry, str)] == signing_in
    assert set(MODULES) - set(signing_in) <= set(ACTIONS)


def ansible_doc(kind: str, names: list[str]) -> dict:
    command = [BIN / "ansible-doc", "--json", "-t", kind, *(f"mlops.mlflow_gcp.{name}" for name in names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.removeprefix("mlops.mlflow_gcp."): doc for name, doc in json.loads(done.stdout).items()}


def described(options: dict, where: str) -> list[str]:
    """The options, at any depth, that have no description or no type."""
    missing = []
    for name, option in options.items():
        if not option.get("description") or not option.get("type"):
            missing.append(f"{where}.{name}")
        missing += described(option.get("suboptions") or option.get("options") or {}, f"{where}.{name}")
    return missing


def test_every_module_is_documented_in_full():
    docs = ansible_doc("module", MODULES)
    assert sorted(docs) == MODULES
    for name, doc in docs.items():
        assert doc["doc"]["short_description"] and doc["examples"].strip() and doc["return"], name
        assert {"check_mode", "diff_mode", "idempotent"} <= doc["doc"]["attributes"].keys(), name
        assert described(doc["doc"]["options"], name) == []
        assert yaml.safe_load(doc["examples"]), f"{name}: the examples are no YAML"


def test_every_role_is_documented_in_full():
    docs = ansible_doc("role", ROLES)
    assert sorted(docs) == ROLES
    for name, doc in docs.items():
        options = doc["entry_points"]["main"]["options"]
        assert doc["entry_points"]["main"]["short_description"], name
        assert described(options, name) == []
        defaults = yaml.safe_load((ROOT / "roles" / name / "defaults" / "main.yml").read_text()) or {}
        public = {variable for variable in defaults if not variable.startswith("_") and f"{name}__" not in variable}
        assert public <= options.keys(), f"{name}: defaults that argument_specs does not describe"
        assert all(option.startswith((f"{name}_", "mlflow_")) for option in options), name
        assert (ROOT / "roles" / name / "README.md").exists(), name


def test_the_readme_example_passes_every_check(cloud, tmp_path):
    (example,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(example)
    play = cloud.playbook("site.yml", inventory=inventory, GCP_SERVICE_ACCOUNT_FILE="/nonexistent")
    assert play.status != 0 and "/nonexistent" in play.error, play.output


@pytest.fixture(scope="module")
def tarball(tmp_path_factory) -> tarfile.TarFile:
    folder = tmp_path_factory.mktemp("build")
    command = [BIN / "ansible-galaxy", "collection", "build", "--output-path", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("mlops-mlflow_gcp-*.tar.gz")
    return tarfile.open(file)


def test_links_in_the_built_collection_are_not_broken(tarball):
    names = set(tarball.getnames())
    for page in (name for name in names if name.endswith(".md")):
        text = tarball.extractfile(page).read().decode()
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            target = os.path.normpath(Path(page).parent / link)
            assert target in names, f"{page}: {link}"
