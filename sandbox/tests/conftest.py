"""One sandbox for all tests of the package, and a project of its own for every module."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

Api = Callable[..., requests.Response]


class Running:
    """A sandbox under test, driven by its command as a person would."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def command(self, *words: str, check: bool = True) -> str:
        """Output of `gcp-sandbox WORDS --state …`; raises where it fails and check is set."""
        done = subprocess.run(
            [sys.executable, "-m", "gcp_sandbox.cli", *words, "--state", str(self.state)],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"gcp-sandbox {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    @property
    def environment(self) -> dict[str, str]:
        """The test's environment with what `gcp-sandbox env` exports."""
        lines = [line.removeprefix("export ") for line in self.command("env").splitlines()]
        pairs = (line.partition("=") for line in lines)
        return os.environ | {name: value.strip("'") for name, _, value in pairs}

    def session(self, email: str | None = None) -> requests.Session:
        """A client that trusts the sandbox and goes through its proxy, signed in as an account (default: deployer)."""
        env = self.environment
        out = requests.Session()
        out.trust_env = False
        out.proxies = {"https": env["HTTPS_PROXY"], "http": env["HTTPS_PROXY"]}
        out.verify = env["REQUESTS_CA_BUNDLE"]
        words = ["--as", email] if email else []
        out.headers["Authorization"] = "Bearer " + self.command("token", *words).strip()
        return out


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running sandbox, shared."""
    running = Running(tmp_path_factory.mktemp("gcp-sandbox"))
    running.command("up", "--detach")
    yield running
    running.command("down")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Running]:
    """A sandbox of the test's own, not started; it is stopped afterwards."""
    running = Running(tmp_path / "state")
    yield running
    running.command("down", check=False)


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """``launch("--latency", "realistic:0.01", …)``: a sandbox of the module's own, started with these words of `up`."""
    started: list[Running] = []

    def call(*words: str) -> Running:
        started.append(Running(tmp_path_factory.mktemp("launched")))
        started[-1].command("up", "--detach", *words)
        return started[-1]

    yield call
    for running in started:
        running.command("down")


@pytest.fixture(scope="session")
def sessions(sandbox: Running) -> Callable[[str | None], requests.Session]:
    """HTTP clients by account, made once."""
    made: dict[str | None, requests.Session] = {}

    def get(email: str | None = None) -> requests.Session:
        if email not in made:
            made[email] = sandbox.session(email)
        return made[email]

    return get


@pytest.fixture(scope="session")
def api(sessions: Callable[[str | None], requests.Session]) -> Api:
    """``api("GET", url, json=…, as_=email)``: one request as the deployer or another account."""

    def call(method: str, url: str, as_: str | None = None, **kwargs: Any) -> requests.Response:
        return sessions(as_).request(method, url, timeout=60, allow_redirects=False, **kwargs)

    return call


@pytest.fixture(scope="module")
def project(api: Api, done: Callable[[requests.Response], dict[str, Any]]) -> str:
    """Id of a new project, with nothing enabled beyond what every project is born with."""
    name = f"test-{secrets.token_hex(4)}"
    operation = done(api("POST", "https://cloudresourcemanager.googleapis.com/v1/projects", json={"projectId": name}))
    assert "error" not in operation, operation
    return name


@pytest.fixture(scope="session")
def enable(api: Api) -> Callable[..., None]:
    """``enable(project, "run.googleapis.com", …)``: enable APIs and wait."""

    def call(project: str, *services: str) -> None:
        url = f"https://serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable"
        answer = api("POST", url, json={"serviceIds": list(services)})
        assert answer.status_code == 200, answer.text
        operation = answer.json()
        while not operation.get("done"):
            operation = api("GET", f"https://serviceusage.googleapis.com/v1/{operation['name']}").json()
        assert "error" not in operation, json.dumps(operation)

    return call


@pytest.fixture(scope="session")
def done(api: Api) -> Callable[[requests.Response], dict[str, Any]]:
    """``done(response)``: wait for the operation that a request was answered with; returns it, whatever its end."""

    def call(answer: requests.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        operation = answer.json()
        host = answer.url.split("/")[2]
        version = answer.url.split("/")[3]
        link = operation.get("selfLink") or f"https://{host}/{version}/{operation['name']}"
        for _ in range(3000):
            if operation.get("done") or operation.get("status") == "DONE":
                return operation
            operation = api("GET", link).json()
        raise AssertionError(f"operation does not end: {operation}")

    return call
