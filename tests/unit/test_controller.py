# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pattern for AWX and Automation Platform: its files, checked against the arguments of awx.awx's own modules."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.answers import options

ROOT = Path(__file__).resolve().parents[2]
PATTERN = ROOT / "extensions" / "patterns" / "mlflow_gcp"
GIVEN = {
    "mlflow_controller_image": "quay.io/example/mlflow-gcp-ee:1",
    "mlflow_controller_inventory": "MLflow",
    "mlflow_controller_credentials": ["Google"],
    "mlflow_controller_notification": {
        "notification_type": "webhook",
        "notification_configuration": {"url": "https://chat.example.com/hook", "headers": {}, "http_method": "POST"},
    },
}


def tool() -> Any:
    """tools/surveys.py as a module."""
    spec = importlib.util.spec_from_file_location("surveys", ROOT / "tools" / "surveys.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(name: str) -> dict[str, Any]:
    """A file of the pattern; its text is templates, which ansible-core 2.19 and newer has to be told."""
    trusted = (
        {"trusted_as_template": True}
        if "trusted_as_template" in signature(DataLoader.load_from_file).parameters
        else {}
    )
    return DataLoader().load_from_file(str(PATTERN / name), **trusted)


@pytest.fixture(scope="module")
def controller() -> dict[str, Any]:
    """The variables of controller.yml and surveys.yml, evaluated."""
    variables = {**GIVEN, **load("controller.yml"), **load("surveys.yml")}
    return Templar(DataLoader(), variables=variables).template(variables)


@pytest.fixture(scope="module")
def setup() -> list[dict[str, Any]]:
    """The tasks of setup.yml."""
    return yaml.safe_load((PATTERN / "setup.yml").read_text())[0]["tasks"]


class Captured(Exception):
    """The argument specification of a module."""


def argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of a module of awx.awx, as its main() has them."""
    api = pytest.importorskip("ansible_collections.awx.awx.plugins.module_utils.controller_api")

    def capture(self: Any, argument_spec: dict[str, Any], **_others: Any) -> None:
        raise Captured({**api.ControllerAPIModule.AUTH_ARGSPEC, **argument_spec})

    monkeypatch.setattr(api.ControllerAPIModule, "__init__", capture)
    with pytest.raises(Captured) as captured:
        importlib.import_module(f"ansible_collections.awx.awx.plugins.modules.{name}").main()
    return captured.value.args[0]


def test_the_generated_files_are_up_to_date():
    for path, text in tool().files().items():
        assert path.read_text() == text, f"run python tools/surveys.py for {path.name}"


def test_surveys_ask_for_every_variable_of_a_deployment_once(controller):
    asked = [question for survey in controller["mlflow_surveys"].values() for question in survey["spec"]]
    names = [question["variable"] for question in asked]
    deployment = {name for name in options() if name.startswith("mlflow_")}
    assert len(names) == len({*names})
    assert deployment - {*names} == {*tool().CREDENTIALS, *tool().PLAN}
    for question in asked:
        spec = options()[question["variable"]]
        assert question.get("choices", spec.get("choices")) == (
            ["true", "false"] if spec["type"] == "bool" else spec.get("choices")
        )
        assert not re.search(r"\b[COVI]\(", question["question_description"]), question
        assert question["type"] != "password" and not spec.get("no_log"), "secrets are credentials"


def test_every_argument_is_one_of_the_modules(controller, setup, monkeypatch):
    seen = []
    for task in setup:
        ((action, arguments),) = ((key, value) for key, value in task.items() if key.startswith("awx.awx."))
        validator = ArgumentSpecValidator(argument_spec(action.rpartition(".")[2], monkeypatch))
        variables = re.fullmatch(r"\{\{ (\w+) \}\}", task["loop"])[1]
        assert controller[variables]
        for item in controller[variables]:
            # setup.yml passes on all that controller.yml has.
            assert item.keys() <= arguments.keys(), (action, item.keys() - arguments.keys())
            result = validator.validate(item)
            assert not result.error_messages, (action, item["name"], result.error_messages)
            seen.append(variables)
    assert {*seen} == {name for name in controller if re.fullmatch(r"controller_\w+", name)}


def test_what_refers_to_something_names_what_exists(controller):
    def names(kind: str) -> set[str]:
        return {item["name"] for item in controller[f"controller_{kind}"]}

    for template in controller["controller_templates"]:
        assert (ROOT / template["playbook"]).is_file()
        assert {template["project"]} <= names("projects")
        assert {template["execution_environment"]} <= names("execution_environments")
        assert {*template["notification_templates_error"]} <= names("notifications")
        (play,) = yaml.safe_load((ROOT / template["playbook"]).read_text())
        assert (ROOT / "playbooks" / f"{play['ansible.builtin.import_playbook'].rpartition('.')[2]}.yml").is_file()
    (workflow,) = controller["controller_workflows"]
    nodes = {node["identifier"]: node for node in workflow["workflow_nodes"]}
    order, at = [], "plan"
    while at:
        order.append(at)
        following = nodes[at].get("related", {}).get("success_nodes", [])
        at = following[0]["identifier"] if following else ""
    assert order == ["plan", "approve", "deploy", "verify"] and {*order} == nodes.keys()
    assert nodes["approve"]["unified_job_template"]["type"] == "workflow_approval"
    jobs = {node["unified_job_template"]["name"] for name, node in nodes.items() if name != "approve"}
    assert jobs <= names("templates")
    (schedule,) = controller["controller_schedules"]
    (drift,) = (each for each in controller["controller_templates"] if each["name"] == schedule["unified_job_template"])
    assert drift["extra_vars"] == {"mlflow_plan_fail_on_changes": True} and drift["playbook"].endswith("/plan.yml")
    assert re.fullmatch(r"DTSTART:\d{8}T\d{6}Z RRULE:FREQ=DAILY;INTERVAL=1", schedule["rrule"])


def test_without_a_notification_there_is_none():
    variables = load("controller.yml")
    templar = Templar(DataLoader(), variables={**variables, "mlflow_controller_notification": {}})
    assert templar.template(variables["controller_notifications"]) == []
    assert templar.template(variables["mlflow_controller_notified"]) == []


def test_the_credential_type_gives_the_variables_of_the_oauth_client(controller):
    (kind,) = controller["controller_credential_types"]
    injected = kind["injectors"]["extra_vars"]
    assert injected.keys() == {"mlflow_oauth", *tool().CREDENTIALS} and injected["mlflow_oauth"] == "custom"
    fields = {field["id"]: field for field in kind["inputs"]["fields"]}
    assert {re.fullmatch(r"\{\{ (\w+) \}\}", injected[name])[1] for name in tool().CREDENTIALS} == fields.keys()
    assert fields["client_secret"]["secret"] is True


def test_the_pattern_is_as_galaxy_importer_wants_it():
    meta = json.loads((PATTERN / "meta" / "pattern.json").read_text())
    assert meta["name"] == PATTERN.name and (PATTERN / "README.md").is_file()
    templates = meta["aap_resources"]["controller_job_templates"]
    assert [template["playbook"] for template in templates if template["primary"]] == ["deploy.yml"]
    assert {template["playbook"] for template in templates} == {file.name for file in (PATTERN / "playbooks").iterdir()}
    assert {"controller_project", "controller_execution_environment", "controller_labels"} <= meta[
        "aap_resources"
    ].keys()


def published() -> dict[str, str]:
    """What the playbooks publish with set_stats, which are extra variables of the jobs that follow in a workflow."""
    outputs = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())[1]["vars"]["outputs"]
    assert "outputs if" in (ROOT / "playbooks/site.yml").read_text()
    return outputs


def test_what_is_published_has_no_secrets_and_hides_no_variable():
    assert "password" not in " ".join(name for name in published() if name != "database_password_secret")
    assert published()["database_password_secret"] == "{{ deployed_cloudsql.password_secret }}", "its name"
    registered = {
        word
        for folder in ("playbooks", "roles")
        for file in (ROOT / folder).rglob("*.yml")
        for word in re.findall(r"^ *register: (\w+)$", file.read_text(), re.M)
    }
    set_by_plays = {"settings", "outputs", "dry_run", "logger", "front_door_role", "plan_only"}
    assert not published().keys() & (registered | set_by_plays | options().keys())
