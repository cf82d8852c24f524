# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks run by ansible-playbook against a sandbox: in this process or in one of their own, the outcome is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Token, TokenAuth
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.shared import SharedTokens
from gcp_sandbox.testing import Sandbox

ROOT = Path(__file__).resolve().parents[4]
BUCKET: dict[str, Any] = {"name": "{{ project }}-in-process", "location": "EU"}


@pytest.fixture
def play(gcp_sandbox: Sandbox, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """play(task, …, **environment) -> the result of each task, also of those that fail."""

    def play(*tasks: dict[str, Any], **environment: str) -> list[dict[str, Any]]:
        book = tmp_path / "play.yml"
        named = [{"name": f"task {number}", **task} for number, task in enumerate(tasks)]
        variables = {"project": gcp_sandbox.exports["GCP_PROJECT"]}
        book.write_text(
            yaml.safe_dump(
                [
                    {
                        "hosts": "localhost",
                        "gather_facts": False,
                        "vars": variables,
                        "ignore_errors": True,
                        "tasks": named,
                    }
                ]
            )
        )
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "GCP_"))}
        settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "--diff", book],
            cwd=ROOT,
            env={**plain, **gcp_sandbox.exports, **settings, **environment},
            capture_output=True,
            text=True,
        )
        assert "not-to-be-seen" not in done.stdout + done.stderr
        (run,) = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
        return [task["hosts"]["localhost"] | {"stderr": done.stderr} for task in run["tasks"]]

    return play


def essence(result: dict[str, Any]) -> dict[str, Any]:
    """RESULT without what says where it ran and when."""
    own = (
        "ansible_job_id",
        "finished",
        "started",
        "results_file",
        "stderr",
        "stdout",
        "stdout_lines",
        "stderr_lines",
        "invocation",
    )
    return {key: value for key, value in result.items() if key not in own and not key.startswith("_")}


@pytest.mark.long
def test_a_task_has_the_same_result_in_this_process_and_in_its_own(play):
    bucket, address = "mlops.mlflow_gcp.storage_bucket", "mlops.mlflow_gcp.compute_global_address"
    tasks: list[dict[str, Any]] = [
        {bucket: BUCKET, "check_mode": True},
        {bucket: BUCKET | {"name": "x"}},
        {bucket: BUCKET | {"colour": "red"}},
        {bucket: BUCKET | {"access_token": "not-to-be-seen"}},
        {
            bucket: BUCKET | {"name": "{{ item }}"},
            "check_mode": True,
            "loop": ["{{ project }}-1", "{{ project }}-2", "x"],
        },
        {bucket: {"name": "{{ project }}-3"}, "check_mode": True, "module_defaults": {bucket: {"location": "EU"}}},
        {
            address: {"name": "a"},
            "check_mode": True,
            "module_defaults": {"group/mlops.mlflow_gcp.all": {"project": "no-such-project"}},
        },
        {address: {"name": "a"}, "check_mode": True, "environment": {"GCP_PROJECT": "no-such-project"}},
        {bucket: BUCKET, "check_mode": True, "no_log": True},
        {bucket: BUCKET | {"name": "x"}, "async": 60, "poll": 1},
    ]
    here, own = play(*tasks), play(*tasks, ANSIBLE_KEEP_REMOTE_FILES="1")
    assert [essence(result) for result in here] == [essence(result) for result in own]
    assert [bool(result.get("failed")) for result in here] == [False, *[True] * 4, *[False] * 4, True]
    assert all("no-such-project" in str(essence(result)) for result in here[6:8])


def test_tasks_share_one_token(play, gcp_sandbox):
    task = {"mlops.mlflow_gcp.storage_bucket": BUCKET, "check_mode": True}
    check = {"mlops.mlflow_gcp.check_variables": {"role": "bucket"}}
    # The second token that anybody asks for is refused.
    gcp_sandbox.command("fault", "add", "oauth2*", "403", "every=2")
    try:
        shared = play(check, task, task, {**task, "loop": [1, 2]})
        each = play(check, task, task, ANSIBLE_KEEP_REMOTE_FILES="1")
    finally:
        gcp_sandbox.command("fault", "clear")
    assert [result.get("failed") for result in shared[1:]] == [None] * 3, shared
    assert [result.get("failed") for result in each[1:]] != [None] * 2, each


def test_it_is_no_task(play):
    (result,) = play({"mlops.mlflow_gcp.in_process": {}})
    assert result["msg"].endswith("in_process is no task; it runs the collection's modules")


def test_every_module_that_calls_google_runs_in_process():
    routing = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")} - {
        path.stem for path in (ROOT / "plugins/action").glob("*.py")
    }
    assert set(routing["plugin_routing"]["modules"]) == modules
    assert {entry["action_plugin"] for entry in routing["plugin_routing"]["modules"].values()} == {
        "mlops.mlflow_gcp.in_process"
    }
    assert {name for name in routing["action_groups"]["all"] if isinstance(name, str)} >= modules


# -- tokens --------------------------------------------------------------------


def token(text: str) -> Token:
    return Token({"authorization": f"Bearer {text}"}, datetime.now(timezone.utc) + timedelta(hours=1))


def test_a_token_reaches_the_processes_that_are_forked_later_and_back():
    tokens = SharedTokens()
    tokens.store("one", token("first"))
    child = os.fork()
    if not child:
        with tokens.locked():
            found = tokens.load("one")
            tokens.store("two", token(f"{found.headers['authorization'] if found else 'nothing'} and second"))
        os._exit(0)
    os.waitpid(child, 0)
    found = tokens.load("two")
    assert found and found.headers == {"authorization": "Bearer Bearer first and second"} and found.valid
    assert tokens.load("three") is None


def test_a_process_that_is_killed_leaves_no_lock():
    tokens = SharedTokens()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with tokens.locked():
            os.write(writing, b"locked")
            signal.pause()
    os.read(reading, 6)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with tokens.locked():
        tokens.store("one", token("first"))


def test_a_token_without_an_end_is_not_kept():
    tokens = SharedTokens()
    tokens.store("one", Token({"authorization": "Bearer given"}, None))
    assert tokens.load("one") is None


def test_more_tokens_than_there_is_room_for_are_not_kept():
    tokens = SharedTokens()
    tokens.store("one", token("first"))
    tokens.store("two", token("x" * (1 << 18)))
    assert tokens.load("one") and tokens.load("two") is None


def test_with_a_token_of_an_earlier_task_the_private_key_is_not_read(monkeypatch):
    tokens = SharedTokens()
    monkeypatch.setattr(TokenAuth, "shared", tokens)
    tokens.store("key", token("first"))
    auth = TokenAuth(lambda: pytest.fail("the key was read"), "key")
    assert auth(requests.Request("GET", "https://example.com").prepare()).headers["authorization"] == "Bearer first"


def test_a_token_that_is_about_to_expire_is_replaced(monkeypatch):
    tokens = SharedTokens()
    monkeypatch.setattr(TokenAuth, "shared", tokens)
    tokens.store("key", Token({"authorization": "Bearer old"}, datetime.now(timezone.utc) + timedelta(minutes=1)))
    new = SimpleNamespace(
        valid=False,
        expiry=datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(hours=1),
        refresh=lambda request: None,
        apply=lambda headers: headers.update(authorization="Bearer new"),
    )
    auth = TokenAuth(lambda: new, "key")
    assert auth(requests.Request("GET", "https://example.com").prepare()).headers["authorization"] == "Bearer new"
    kept = tokens.load("key")
    assert kept and kept.headers == {"authorization": "Bearer new"}
