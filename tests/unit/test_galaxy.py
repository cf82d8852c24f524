# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Galaxy and Red Hat's certification ask of a collection, as far as no other tool of `make lint` or `make galaxy` checks it.

https://github.com/ansible-collections/partner-certification-requirements
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text())
SHIPPED = {
    "collections",
    "execution-environment.yml",
    "CHANGELOG.rst",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "SECURITY.md",
    "changelogs",
    "docs",
    "image",
    "inventories",
    "meta",
    "playbooks",
    "plugins",
    "requirements.txt",
    "requirements.yml",
    "roles",
    "tests",
}
REQUIRED_TAGS = {
    "application",
    "cloud",
    "database",
    "eda",
    "infrastructure",
    "linux",
    "monitoring",
    "networking",
    "security",
    "storage",
    "tools",
    "windows",
}
SECTIONS = [
    "Description",
    "Requirements",
    "Installation",
    "Use cases",
    "Testing",
    "Support",
    "Release notes and roadmap",
    "Related information",
    "License information",
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all files in the archive of the collection."""
    folder = tmp_path_factory.mktemp("archive")
    galaxy = Path(sys.executable).with_name("ansible-galaxy")
    built = subprocess.run(
        [galaxy, "collection", "build", "--output-path", folder, ROOT], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        return {member.name for member in opened if member.isfile()}


def test_the_archive_has_what_is_published_and_nothing_else(archive: set[str]) -> None:
    top = {name.partition("/")[0] for name in archive}
    # An extension may be there or not.
    assert top - {"extensions"} == SHIPPED
    assert {name for name in archive if name.startswith("tests/")} == {"tests/config.yml"}
    shipped = {name for name in archive if name.startswith("inventories/")}
    assert {name.split("/")[1] for name in shipped} == {
        "example",
        "fleet",
    } and "inventories/example/hosts.yml" in shipped
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert archive - {*listed, "FILES.json", "MANIFEST.json"} == set()


def test_the_metadata_is_complete() -> None:
    for key in ("repository", "documentation", "homepage", "issues", "license", "authors", "description", "readme"):
        assert GALAXY.get(key), key
    assert set(GALAXY["tags"]) & REQUIRED_TAGS
    assert yaml.safe_load((ROOT / "tests/config.yml").read_text())["modules"]["python_requires"] == "controller"


def test_the_changelog_has_the_version() -> None:
    version = GALAXY["version"]
    assert version in yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text())["releases"]
    assert f"\nv{version}\n" in (ROOT / "CHANGELOG.rst").read_text()


def test_the_readme_has_the_sections_of_the_template_in_their_order() -> None:
    headings = re.findall(r"^## (.*)$", README, re.M)
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS


def test_the_links_of_the_readme_work_outside_the_repository_and_lead_to_files_in_it() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    own = re.compile(rf"{re.escape(GALAXY['repository'])}/(?:blob|tree)/main/([^#]*)")
    paths = [found[1] for link in links if (found := own.match(link))]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda path: path.name)
def test_a_plugin_names_its_licence(path: Path) -> None:
    text = path.read_text()
    if path.name == "__init__.py":
        assert text == "", "ansible-test asks for an empty file"
        return
    first = text.partition("from __future__")[0]
    assert "GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)" in first
    assert "SPDX-License-Identifier: GPL-3.0-or-later" in first


def test_no_checker_is_told_to_ignore_anything() -> None:
    lint = yaml.safe_load((ROOT / ".ansible-lint").read_text())
    assert lint["profile"] == "production"
    assert {"skip_list", "warn_list"} & lint.keys() == set()
    content = ("plugins", "roles", "playbooks", "meta", "extensions")
    assert [path for path in lint["exclude_paths"] if path.startswith(content)] == []
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in names if "ansible-lint-ignore" in name or "sanity/ignore" in name] == []


# -- versions ------------------------------------------------------------------


def rows_of_the_table() -> list[dict[str, Any]]:
    """The versions in the README's table, which `make versions` writes."""
    table = README.split("<!-- make versions -->\n")[1].split("<!-- end -->")[0]
    names, _line, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    return [dict(zip(names, row, strict=True)) for row in rows]


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_the_supported_versions_are_those_that_were_tested() -> None:
    rows = rows_of_the_table()
    assert [row for row in rows if "FAILED" in str(row)] == []
    oldest = min((row["ansible-core"] for row in rows), key=number)
    floor = ".".join(oldest.split(".")[:2])
    assert yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"] == f">={floor}.0"
    metas = [yaml.safe_load(path.read_text())["galaxy_info"] for path in ROOT.glob("roles/*/meta/main.yml")]
    assert {meta["min_ansible_version"] for meta in metas} == {floor}
    lowest = min((row["google.cloud"] for row in rows), key=number)
    allowed = f">={lowest},!=1.14.0"
    assert GALAXY["dependencies"] == {"google.cloud": allowed}
    (required,) = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
    assert required == {"name": "google.cloud", "version": allowed}
    assert f"| ansible-core | {floor} or newer, with Python {rows[0]['Python']} or newer" in README


def test_every_version_of_make_versions_is_in_the_table() -> None:
    program = (ROOT / "tools/versions.py").read_text()
    versions = re.findall(r'^    Version\("([\d.]+)", "([\d.]+)"', program, re.M)
    assert [(row["ansible-core"], row["Python"]) for row in rows_of_the_table()] == versions
