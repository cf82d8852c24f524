# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pattern for AWX and Automation Platform: its files, checked against the arguments of awx.awx's own modules."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

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
    once = {name for name in deployment if name.startswith(tool().ONCE)}
    assert deployment - {*names} == {*tool().CREDENTIALS, *tool().PLAN, *once}
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


# -- setup.yml against the API -------------------------------------------------


class Api(BaseHTTPRequestHandler):
    """
    A stand-in for the API of AWX: objects that are listed by their fields, created, changed and associated with others.

    https://docs.ansible.com/automation-controller/latest/html/controllerapi/
    """

    server: Server
    unified = ("job_templates", "projects", "workflow_job_templates")

    def log_message(self, *_arguments: Any) -> None:
        """Nothing on standard error."""

    def answer(self, status: int, body: Any = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", "24.6.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def listed(self, found: list[Any]) -> None:
        self.answer(200, {"count": len(found), "next": None, "results": found})

    def body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")

    def parts(self) -> list[str]:
        assert self.headers["Authorization"] == "Bearer token"
        return urlsplit(self.path).path.removeprefix("/api/v2/").strip("/").split("/")

    def do_GET(self) -> None:
        kind, *rest = self.parts()
        if len(rest) == 2:
            found = self.server.parts.get((kind, int(rest[0]), rest[1]), [] if rest[1] != "survey_spec" else {})
            self.answer(200, found) if rest[1] == "survey_spec" else self.listed(
                [self.server.objects[one] for one in found]
            )
        elif rest:
            self.answer(200, self.server.objects[int(rest[0])])
        else:
            kinds = self.unified if kind == "unified_job_templates" else (kind,)
            asked = {name: value for name, value in parse_qsl(urlsplit(self.path).query) if name != "page_size"}
            self.listed(
                [
                    one
                    for one in self.server.objects.values()
                    if one["endpoint"] in kinds and all(str(one.get(name)) == value for name, value in asked.items())
                ]
            )

    def do_POST(self) -> None:
        kind, *rest = self.parts()
        given = self.body()
        self.server.writes.append(self.path)
        if not rest:
            self.answer(201, self.server.add(kind, given))
        elif rest[1] == "survey_spec":
            self.server.parts[kind, int(rest[0]), rest[1]] = given
            self.answer(200, {})
        elif rest[1] == "create_approval_template":
            approval = self.server.add(
                "workflow_approval_templates", {name: given.get(name) for name in ("name", "description", "timeout")}
            )
            node = self.server.objects[int(rest[0])]
            node["unified_job_template"] = approval["id"]
            node["related"]["unified_job_template"] = approval["url"]
            self.answer(201, approval)
        elif rest[1] == "update":
            self.server.writes.pop()
            done = {"status": "successful", "finished": "now", "failed": False, "scm_revision": "abc", "name": "update"}
            self.answer(202, self.server.add("project_updates", done))
        else:
            self.server.parts.setdefault((kind, int(rest[0]), rest[1]), []).append(given["id"])
            self.answer(204)

    def do_PATCH(self) -> None:
        _kind, number = self.parts()
        found = self.server.objects[int(number)]
        before = dict(found)
        found |= {name: value for name, value in self.body().items() if name in found}
        if found != before:
            self.server.writes.append(self.path)
        self.answer(200, found)


class Server(ThreadingHTTPServer):
    """The objects by their numbers, what belongs to them, and all requests that have changed something."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Api)
        self.objects: dict[int, dict[str, Any]] = {}
        self.parts: dict[tuple[str, int, str], Any] = {}
        self.writes: list[str] = []
        for kind, name in (("organizations", "Default"), ("inventories", "MLflow"), ("credentials", "Google")):
            self.add(kind, {"name": name})

    def add(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        number = len(self.objects) + 1
        url = f"/api/v2/{kind}/{number}/"
        own = {
            "id": number,
            "endpoint": kind,
            "type": kind.removesuffix("s"),
            "url": url,
            "summary_fields": {},
            "scm_revision": "abc",
        }
        related = {name: f"{url}{name}/" for name in ("survey_spec", "update", "webhook_key")}
        self.objects[number] = {**fields, **own, "related": related}
        return self.objects[number]

    def named(self, name: str) -> dict[str, Any]:
        (found,) = (
            one
            for one in self.objects.values()
            if one.get("name") == name and one["endpoint"] != "execution_environments"
        )
        return found


@pytest.mark.long
def test_setup_makes_all_of_it_once(tmp_path, controller):
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = GIVEN | {"ansible_python_interpreter": sys.executable}
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env |= {
        "CONTROLLER_HOST": f"http://127.0.0.1:{server.server_port}",
        "CONTROLLER_OAUTH_TOKEN": "token",
        "ANSIBLE_NOCOLOR": "1",
    }
    env |= {"ANSIBLE_HOME": str(tmp_path), "ANSIBLE_LOCALHOST_WARNING": "0"}

    def run() -> str:
        command = [Path(sys.executable).parent / "ansible-playbook", PATTERN / "setup.yml", "-e", json.dumps(variables)]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        # The module of a project says that it has changed nothing if its update finds the same revision.
        assert "changed=6 " in run()
        assert server.writes
        server.writes.clear()
        again = run()
        # The module of a workflow compares fields that an approval does not have.
        assert "changed=1 " in again and server.writes == [], (server.writes, again)
    finally:
        server.shutdown()
        server.server_close()
    for template in controller["controller_templates"]:
        found = server.named(template["name"])
        survey = server.parts.get(("job_templates", found["id"], "survey_spec"))
        assert survey == template.get("survey_spec") and bool(found["survey_enabled"]) == bool(survey)
        assert server.parts["job_templates", found["id"], "credentials"] == [server.named("Google")["id"]]
        assert server.parts["job_templates", found["id"], "notification_templates_error"]
    nodes = {
        one["identifier"]: one for one in server.objects.values() if one["endpoint"] == "workflow_job_template_nodes"
    }
    followed = {
        name: server.parts.get(("workflow_job_template_nodes", node["id"], "success_nodes"), [])
        for name, node in nodes.items()
    }
    assert followed == {
        "plan": [nodes["approve"]["id"]],
        "approve": [nodes["deploy"]["id"]],
        "deploy": [nodes["verify"]["id"]],
        "verify": [],
    }
    assert nodes["approve"]["unified_job_template"] == server.named("MLflow / Approve the plan")["id"]
    assert server.named("MLflow OAuth client")["injectors"] == controller["controller_credential_types"][0]["injectors"]
