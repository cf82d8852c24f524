# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mlflow_import."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COUNTS = {"experiments": 1, "runs": 2, "logged_models": 0, "registered_models": 0, "versions": 0}
REPORT = {"source": COUNTS, "before": COUNTS, "after": COUNTS, "copied": {"runs": 2}, "problems": [], "changed": True}
OPTIONS = {
    "source": "http://mlflow.internal:5000",
    "url": "https://mlflow.example.com",
    "service_account": "mlflow-logger@demo.iam.gserviceaccount.com",
}
KEY = {"auth_kind": "serviceaccount", "service_account_contents": '{"type": "service_account"}', "project": "demo"}


@pytest.fixture
def command(tmp_path: Path, run_module: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """command(report, …) -> the module's result, with an interpreter that prints this; it notes how it was called."""
    python, seen = tmp_path / "python", tmp_path / "seen"

    def run(report: Any, check: bool = False, auth: dict[str, Any] = KEY, **options: Any) -> dict[str, Any]:
        text = report if isinstance(report, str) else f"echo '{json.dumps(report)}'"
        python.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >{seen}\nenv >>{seen}\ncat "$GOOGLE_APPLICATION_CREDENTIALS" >>{seen}\n{text}\n'
        )
        python.chmod(0o700)
        return dict(run_module("mlflow_import", check=check, auth=auth, python=str(python), **{**OPTIONS, **options}))

    run.seen = seen
    return run


def test_it_signs_in_as_the_logger_and_keeps_secrets_out_of_the_command(command: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-somebody-else")
    result = command(REPORT, source_token="not-to-be-seen")
    assert (result["changed"], result["after"]) == (True, COUNTS)
    lines = command.seen.read_text().splitlines()
    words = lines[: lines.index("http://mlflow.internal:5000") + 1]
    assert words[:3] == ["-m", "mlflow_iap.cli", "import"] and "not-to-be-seen" not in words
    assert {"MLFLOW_SOURCE_TOKEN=not-to-be-seen", "MLFLOW_TRACKING_AUTH=iap", KEY["service_account_contents"]} <= {
        *lines
    }
    assert f"MLFLOW_IAP_SERVICE_ACCOUNT={OPTIONS['service_account']}" in lines
    assert "MLFLOW_TRACKING_TOKEN=of-somebody-else" not in lines
    (file,) = [line.partition("=")[2] for line in lines if line.startswith("GOOGLE_APPLICATION_CREDENTIALS=")]
    assert not Path(file).exists()


def test_the_source_is_passed_on_as_it_is(command: Any) -> None:
    source = "http://mlflow.internal:5000/$HOME"
    command(REPORT, source=source)
    assert source in command.seen.read_text().splitlines()


def test_check_mode_only_counts(command: Any) -> None:
    result = command(REPORT | {"changed": False}, check=True)
    assert (result["source"], result["before"], result["changed"]) == (COUNTS, {}, False)
    assert "--dry-run" in command.seen.read_text().splitlines()


def test_problems_fail_with_all_of_them(command: Any) -> None:
    problems = [f"run {number}: lost" for number in range(25)]
    with pytest.raises(
        Exception, match="run again after mending this: run 0: lost; .*run 19: lost, and 5 more"
    ) as failed:
        command(REPORT | {"problems": problems})
    assert failed.value.result["problems"] == problems and failed.value.result["copied"] == {"runs": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "echo 'x/python: No module named mlflow_iap' >&2; exit 1",
            "No module named mlflow_iap; install both packages there",
        ),
        ("echo 'mlflow-iap: The folder x does not exist.' >&2; exit 1", "5000: The folder x does not exist"),
        ("exit 1", "it says nothing"),
    ],
)
def test_what_the_command_says(command: Any, text: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        command(text)


def test_a_token_does_not_last(command: Any) -> None:
    auth = {"auth_kind": "accesstoken", "access_token": "not-to-be-seen", "project": "demo"}
    with pytest.raises(Exception, match="longer than an access token is valid: sign in with"):
        command(REPORT, auth=auth)
    assert not command.seen.exists()


def test_it_acts_as_the_account_that_is_impersonated(command: Any, tmp_path: Path) -> None:
    file = tmp_path / "person.json"
    file.write_text('{"type": "authorized_user"}')
    auth = {"auth_kind": "application", "project": "demo", "credentials_file": str(file), "quota_project": "billed"}
    command(REPORT, auth=auth)
    assert {'{"type": "authorized_user"}', "GOOGLE_CLOUD_QUOTA_PROJECT=billed"} <= {
        *command.seen.read_text().splitlines()
    }
    command(REPORT, auth=auth | {"impersonate_service_account": "deployer@demo.iam.gserviceaccount.com"})
    (line,) = [line for line in command.seen.read_text().splitlines() if line.startswith("{")]
    found = json.loads(line)
    assert (found["type"], found["source_credentials"]) == ("impersonated_service_account", {"type": "authorized_user"})
    assert "/deployer@demo.iam.gserviceaccount.com:generateAccessToken" in found["service_account_impersonation_url"]
    with pytest.raises(Exception, match="Cannot read the credentials in /nowhere: No such file"):
        command(REPORT, auth=auth | {"credentials_file": "/nowhere"})


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        ({"auth_kind": "application", "credentials_file": __file__}, "act as deployer@demo.* are not JSON"),
        ({"auth_kind": "machineaccount"}, "cannot act as deployer@demo.* attach that service account to the machine"),
    ],
)
def test_an_account_that_cannot_be_impersonated(command: Any, auth: dict[str, Any], words: str) -> None:
    account = {"impersonate_service_account": "deployer@demo.iam.gserviceaccount.com", "project": "demo"}
    with pytest.raises(Exception, match=words):
        command(REPORT, auth=auth | account)
    assert not command.seen.exists()


@pytest.mark.parametrize("source", ["ftp://x", "https://u:p@host", "sqlite://x", "-x", "", "postgresql://a/b"])
def test_a_source_that_cannot_be_read(command: Any, source: str) -> None:
    with pytest.raises(Exception, match="source.*(the URL of an MLflow server|is required)"):
        command(REPORT, source=source)
    assert not command.seen.exists()
