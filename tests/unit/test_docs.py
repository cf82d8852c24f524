# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation says what is there: examples are valid, every variable is described, every default is the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from ansible import template
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlops.mlflow_gcp.plugins.action import check_variables
from ansible_collections.mlops.mlflow_gcp.plugins.inventory import deployments

# Before ansible-core 2.19, every text may be a template.
trust_as_template = getattr(template, "trust_as_template", str)
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
    (entry_point,) = specs["argument_specs"].values()
    return entry_point["options"]


@cache
def defaults(role: str) -> dict[str, Any]:
    """The defaults of a role, templates as they stand."""
    return yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text())


@cache
def known() -> dict[str, dict[str, Any]]:
    """Every variable of a deployment and its specification."""
    return {name: option for role in ROLES for name, option in options(role).items()}


def variables_of(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The variables of a group of an inventory, of its hosts, and of its children."""
    own = [group.get("vars", {}), *(host or {} for host in group.get("hosts", {}).values())]
    return own + [found for child in group.get("children", {}).values() for found in variables_of(child or {})]


@pytest.mark.parametrize("block", blocks())
def test_examples_use_variables_that_exist(block):
    if isinstance(block, dict) and "plugin" in block:
        assert block["plugin"] == deployments.InventoryModule.NAME
        documented = yaml.safe_load(deployments.DOCUMENTATION)["options"]
        assert block.keys() <= {*documented, "keyed_groups", "groups", "compose", "cache"}
        return
    if isinstance(block, dict):
        groups = [group for group in block.values() if isinstance(group, dict) and {"hosts", "children"} & group.keys()]
        for variables in [variables for group in groups for variables in variables_of(group)] or [block]:
            assert {name for name in variables if not name.startswith("ansible_")} <= known().keys()
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
            assert missing <= set(defaults(role))


def test_the_example_of_a_fleet_uses_variables_that_exist_and_passes_the_check():
    folder = ROOT / "inventories/fleet"
    command = [Path(sys.executable).with_name("ansible-inventory"), "-i", folder, "--list"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    hosts = listed["_meta"]["hostvars"]
    assert len(hosts) == 5 and all({*variables} <= {*known(), "team", "stage"} for variables in hosts.values())
    for name, variables in hosts.items():
        given = {key: trusted(value) for key, value in variables.items()} | {"inventory_hostname": name}
        templar = Templar(DataLoader(), variables=given)
        checked = check_variables.Check(check_variables.Variables(templar, given, ["mlflow", "iap_lb"]), set(), dict)
        assert checked.problems == {}, name
        assert checked.typed["iap_lb_domain"] == f"{name}.mlflow.example.com"


def trusted(value: Any) -> Any:
    """VALUE as an inventory gives it, whose text may be templates."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, list):
        return [trusted(part) for part in value]
    return {key: trusted(part) for key, part in value.items()} if isinstance(value, dict) else value


def test_examples_pass_the_syntax_check(tmp_path):
    plays = [play for block in blocks() if isinstance(block.values[0], list) for play in block.values[0]]
    assert len(plays) >= len(ROLES) - 1  # the role mlflow has no tasks
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
    readme = (ROOT / "roles" / role / "README.md").read_text().partition("\n## Variables\n")[0]
    for name, option in options(role).items():
        assert option.get("type") and option.get("description"), name
        assert name in readme, f"roles/{role}/README.md does not mention {name} before the table of variables"


def test_the_tables_of_variables_are_those_of_the_specifications():
    done = subprocess.run([sys.executable, ROOT / "tools/role_tables.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_a_specification_states_the_default_that_the_role_has(role):
    stated = {name: option["default"] for name, option in options(role).items() if "default" in option}
    # A required variable may derive from one of the deployment, which may be missing.
    own = {name: value for name, value in defaults(role).items() if not options(role)[name].get("required")}
    # The tools that read specifications refuse a template as the default of a number or a boolean.
    typed = ("int", "float", "bool")
    templates = {name for name, value in own.items() if options(role)[name]["type"] in typed and "{{" in str(value)}
    assert stated == {name: value for name, value in own.items() if name not in templates}
    without = {name for name, option in options(role).items() if not option.get("required")} - own.keys()
    assert without == set(), "neither required nor with a default"


@pytest.mark.parametrize("role", ROLES)
def test_a_variable_that_is_passed_on_has_one_type_and_one_rule(role):
    for name, value in defaults(role).items():
        reference = isinstance(value, str) and re.fullmatch(r"\{\{ (\w+) \}\}", value)
        if reference:
            passed, own = known()[reference[1]], options(role)[name]
            for key in ("type", "choices", "no_log"):
                assert passed.get(key) == own.get(key), f"{key} of {reference[1]} and {name}"


def test_what_can_be_text_is_read_where_it_is_used():
    """A template that looks into a list or dictionary, or gives it to a module, uses a filter that also reads text."""
    reading = r"\s*\|\s*mlops\.mlflow_gcp\.(?:dictionary|domains|entries|members)\b"
    variables = [name for name, option in known().items() if option["type"] in ("raw", "dict", "list")]
    assert len(variables) > 10
    files = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/vars/*.yml"), *ROOT.glob("playbooks/**/*.yml")]
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in files
        for line in file.read_text().splitlines()
        for name in variables
        if re.search(rf"(?<!connections\()\b{name}\b(?!{reading}|:)", line) and "{{" in line
    ]
    assert found == []


@pytest.mark.parametrize("role", ["bucket", "cloudrun", "cloudsql"])
def test_a_role_registers_nothing_in_a_file_that_may_be_left_out(role):
    """Otherwise a deployment in a loop gets what was registered for the one before. A task that is skipped registers that."""
    folder = ROOT / "roles" / role / "tasks"
    imports = (task for task in yaml.safe_load((folder / "main.yml").read_text()) if "when" not in task)
    always = {"main.yml", *(task.get("ansible.builtin.import_tasks") for task in imports)}
    files = [path for path in folder.glob("*.yml") if path.name not in always]
    assert [path.name for path in files if "register:" in path.read_text()] == []


def test_only_the_role_mlflow_has_defaults_for_a_whole_deployment():
    others = [name for role in ROLES if role != "mlflow" for name in options(role) if name.startswith("mlflow_")]
    assert others == []
    files = [file for folder in ("roles", "playbooks") for file in (ROOT / folder).rglob("*.yml")]
    assert [str(file) for file in files if re.search(r"mlflow_(?!checked)\w+ \| default", file.read_text())] == []


def test_the_example_inventory_has_every_variable_of_a_deployment_with_its_default():
    text = (ROOT / "inventories/example/hosts.yml").read_text()
    given = yaml.safe_load(text)["mlflow"]["hosts"]["prod"]
    commented = "\n".join(re.findall(r"^      # (\w+:(?: .*)?|  - .*)$", text, re.MULTILINE))
    shown = yaml.safe_load(commented)
    named = {name for name in given | shown if not name.startswith("ansible_")}
    assert options("mlflow").keys() <= named <= known().keys()
    required = {name for name, option in options("mlflow").items() if option.get("required")}
    # The default front door has a domain, and verify.yml requires that the list contains whoever runs it.
    also = {"mlflow_domain", "mlflow_logger_token_creators"}
    assert {name for name in given if name in options("mlflow")} == required | also
    values = {name: value for role in ROLES for name, value in defaults(role).items()} | given
    templar = Templar(DataLoader(), variables={name: trusted(value) for name, value in values.items()})
    wrong = {
        name: value
        for name, value in shown.items()
        # Before ansible-core 2.19, a number in a template becomes text.
        if values[name] and templar.template(trusted(values[name])) not in (value, str(value))
    }
    # Where the default is empty, the inventory shows what a value looks like.
    assert wrong == {}


# -- pages ---------------------------------------------------------------------


def test_every_page_is_in_the_list_of_pages():
    pages = {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"}
    listed = set(re.findall(r"^- \[[^]]+\]\((\w+\.md)\)", (ROOT / "docs/README.md").read_text(), re.M))
    assert listed == pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_within_the_repository_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


def test_the_reference_has_every_playbook_with_the_variables_that_only_it_reads():
    text = (ROOT / "docs/playbooks.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    playbooks = {path.stem: path.read_text() for path in ROOT.glob("playbooks/*.yml")}
    assert list(sections) == sorted(playbooks, key=list(sections).index) and sections.keys() == playbooks.keys()
    for name, section in sections.items():
        named = set(re.findall(r"`((?:mlflow|network|cloudsql|cloudrun)_\w+)", section))
        assert named <= known().keys(), name
        # site reads all of them, by their roles.
        own = [word for word in options("mlflow") if name != "site"]
        read = {word for word in own if re.search(rf"\b{word}\b", playbooks[name])}
        others = {word for other, source in playbooks.items() if other != name for word in read if word in source}
        assert read - others - {"mlflow_project_id"} <= named, name
        assert ("Writes nothing" in " ".join(section.split())) == (name in ("plan", "preflight", "verify")), name


def test_the_readme_has_the_costs_that_were_computed():
    computed = (ROOT / "docs/sizes.md").read_text()
    names = re.search(r"^\| US dollars a month \|(.*)\|$", computed, re.M)
    sums = re.search(r"^\| \*\*together\*\* \|(.*)\|$", computed, re.M)
    assert names and sums
    monthly = dict(zip(re.findall(r"\w+", names[1]), re.findall(r"\d+", sums[1]), strict=True))
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| `(\w+)`(?: \(default\))? \|.*\| `([\w-]+)` \| (\d+) \|$", readme, re.M)
    assert {name: cost for name, _, cost in rows} == monthly
    tiers = re.search(r"^\| `cloudsql_tier` \|(.*)\|$", computed, re.M)
    assert tiers and [tier for _, tier, _ in rows] == re.findall(r"`([\w-]+)`", tiers[1])
    assert f"From about {monthly['small']} US dollars a month" in readme


@pytest.mark.parametrize("name", ["architecture.svg", "demo.svg", "ui.png"])
def test_a_picture_of_the_readme_is_small_and_shows_nothing_of_the_machine_that_made_it(name):
    path = ROOT / "docs/images" / name
    assert f"/docs/images/{name})" in (ROOT / "README.md").read_text()
    assert path.stat().st_size < (150_000 if path.suffix == ".png" else 100_000)
    if path.suffix == ".svg":
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert re.findall(r"(?:/home|/root|/tmp|/work)/\S*|<script|href=\"http", path.read_text()) == []
