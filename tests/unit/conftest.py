# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scripted Google: modules run from main(), only the HTTP transport is replaced."""

from __future__ import annotations

import importlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from ansible.module_utils import basic
from ansible.module_utils.common import warnings
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder
from gcp_sandbox.testing import Sandbox

CHECKOUT = Path(__file__).resolve().parents[2]
LINK = CHECKOUT / ".collections" / "ansible_collections" / "mlops" / "mlflow_gcp"
if not LINK.exists():
    LINK.parent.mkdir(parents=True, exist_ok=True)
    LINK.symlink_to("../../..")
_AnsibleCollectionFinder(paths=[str(CHECKOUT / ".collections")])._install()

COLLECTION = "ansible_collections.mlops.mlflow_gcp.plugins"
PROJECT = "demo"
NUMBER = "123456789012"
AUTH = {"project": PROJECT, "auth_kind": "accesstoken", "access_token": "ya29.not-to-be-seen"}


class Request:
    """A request that the module sent."""

    def __init__(self, prepared: requests.PreparedRequest) -> None:
        parts = urlsplit(prepared.url)
        self.method = prepared.method
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self.params = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.headers = prepared.headers
        self.content = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body

    @property
    def body(self) -> Any:
        """The JSON body, None without one."""
        return json.loads(self.content) if self.content else None

    def __repr__(self) -> str:
        return f"{self.method} {self.url} {self.params or ''}"


class Google:
    """
    Returns the scripted responses in order, and fails for any other request.

    google.expect("GET", "https://run.googleapis.com/v2/…", {"name": …})           one response
    google.expect("POST", url, {…}, body={…}, params={…})                           and asserts what was sent
    google.expect("GET", url, google.error(404, "NOT_FOUND", "…"))                  an error
    google.expect("GET", url, google.old_error(404, "notFound", "…"))               one of compute, sqladmin, storage
    google.expect("GET", url, requests.exceptions.ConnectionError("reset"))         no response
    google.sent are all requests, google.writes those that are not GET.
    """

    def __init__(self) -> None:
        self.script: list[tuple[str, str, Any, dict[str, Any]]] = []
        self.sent: list[Request] = []

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.sent if request.method != "GET"]

    @staticmethod
    def answer(status: int, content: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """A response other than a JSON body with status 200."""
        return Answer(status, content, headers)

    @staticmethod
    def error(status: int, reason: str, message: str, **more: Any) -> Answer:
        """An error of the newer services (run, secretmanager, iam, …); MORE such as details=[…]."""
        return Answer(status, {"error": {"code": status, "message": message, "status": reason, **more}})

    @staticmethod
    def old_error(status: int, reason: str, message: str) -> Answer:
        """An error of compute, sqladmin and storage."""
        entry = {"domain": "global", "reason": reason, "message": message}
        return Answer(status, {"error": {"code": status, "message": message, "errors": [entry]}})

    def expect(self, method: str, url: str, answer: Any = None, **asserted: Any) -> Google:
        self.script.append((method, url, answer, asserted))
        return self

    def send(self, _adapter: Any, prepared: requests.PreparedRequest, **_kwargs: Any) -> requests.Response:
        request = Request(prepared)
        self.sent.append(request)
        assert self.script, f"unexpected {request}"
        method, url, answer, asserted = self.script.pop(0)
        assert (request.method, request.url) == (method, url), f"{request} instead of {method} {url}"
        for what, value in asserted.items():
            assert getattr(request, what) == value, f"{what} of {request}"
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.request, response.url = prepared, prepared.url
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Answer):
            response.status_code = answer.status
            response.headers.update(answer.headers)
            content = answer.content
        else:
            response.status_code, content = 200, answer
        data = content if isinstance(content, bytes) else json.dumps({} if content is None else content).encode()
        response.raw = io.BytesIO(data)
        response.headers.setdefault("Content-Type", "application/json; charset=UTF-8")
        return response


class Answer:
    """Status, content and headers; see Google.answer."""

    def __init__(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        self.status, self.content, self.headers = status, content, headers or {}


class Clock:
    """Stands in for the module time: sleeping takes no time and moves the clock."""

    def __init__(self) -> None:
        self.now, self.slept = 1_000_000.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now

    time = monotonic


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """The scripted Google; at the end all scripted requests must have been sent."""
    google = Google()
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", lambda *args, **kwargs: google.send(*args, **kwargs))
    yield google
    assert not google.script, f"not asked for: {[entry[:2] for entry in google.script]}"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Nothing in module_utils waits in real time."""
    clock = Clock()
    for name in ("client", "credentials", "operations"):
        monkeypatch.setattr(importlib.import_module(f"{COLLECTION}.module_utils.{name}"), "time", clock)
    return clock


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the credentials and proxy of the environment, and without tokens that another test has fetched."""
    monkeypatch.setattr(importlib.import_module(f"{COLLECTION}.module_utils.client").TokenAuth, "shared", None)
    for name in list(os.environ):
        if name.startswith(("GCP_", "GOOGLE_", "HTTPS_PROXY", "https_proxy", "REQUESTS_CA_BUNDLE")):
            monkeypatch.delenv(name)


class Failed(Exception):
    """The module called fail_json; its text is msg, result all it returned."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result
        super().__init__(result["msg"])


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """run_module("secret_manager_secret", name="s", check=True) -> what the module returns; raises Failed. Diff is on."""
    # Tests of filters bring the controller into this process, where warnings would be displayed and not returned.
    core = importlib.import_module(f"{COLLECTION}.plugin_utils.core")
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", None)
    if core.HAS_PROFILES:
        monkeypatch.setattr("ansible.module_utils._internal.is_controller", False)

    def run_module(name: str, /, *, check: bool = False, auth: dict[str, Any] = AUTH, **options: Any) -> dict[str, Any]:
        module = importlib.import_module(f"{COLLECTION}.modules.{name}")
        arguments = {**auth, **options, "_ansible_check_mode": check, "_ansible_diff": True}
        warnings._global_warnings.clear()
        core.give_arguments(arguments)
        with pytest.raises(SystemExit):
            module.main()
        printed = capsys.readouterr().out
        assert "not-to-be-seen" not in printed
        result = json.loads(printed)
        if diff := result.get("diff"):
            label = diff.pop("after_header")
            assert label and diff.pop("before_header") == label
        if result.get("failed"):
            assert "\n" not in result["msg"]
            raise Failed(result)
        return result

    return run_module


@pytest.fixture
def sandbox_module(
    run_module: Callable[..., dict[str, Any]], gcp_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Like run_module, against a real sandbox instead of the scripted Google: sandbox_module("storage_bucket", project=…, …)."""
    exports = gcp_sandbox.exports
    for name in ("HTTPS_PROXY", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, exports[name])
    for name in ("client", "credentials", "operations"):
        monkeypatch.setattr(importlib.import_module(f"{COLLECTION}.module_utils.{name}"), "time", time)
    auth = {"auth_kind": "serviceaccount", "service_account_file": exports["GCP_SERVICE_ACCOUNT_FILE"]}
    return partial(run_module, auth={**auth, "project": exports["GCP_PROJECT"]})
