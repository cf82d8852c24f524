"""One sandbox for all tests of the package, and a separate project for every module."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from gcp_sandbox.testing import Sandbox, wait

Api = Callable[..., requests.Response]


@pytest.fixture(scope="session")
def sandbox(gcp_sandbox: Sandbox) -> Sandbox:
    """A running sandbox, shared."""
    return gcp_sandbox


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Sandbox]:
    """A separate sandbox for one test, not started; it is stopped afterwards."""
    running = Sandbox(tmp_path / "state")
    yield running
    running.command("down", check=False)


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sandbox]]:
    """``launch("--latency", "realistic:0.01", …)``: a separate sandbox for the module, started with these arguments of `up`."""
    started: list[Sandbox] = []

    def call(*words: str) -> Sandbox:
        started.append(Sandbox(tmp_path_factory.mktemp("launched")))
        started[-1].up(*words)
        return started[-1]

    yield call
    for running in started:
        running.command("down")


@pytest.fixture(scope="session")
def sessions(sandbox: Sandbox) -> Callable[[str | None], requests.Session]:
    """HTTP clients by account, created once."""
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
    """ID of a new project, with only the default APIs enabled."""
    name = f"test-{secrets.token_hex(4)}"
    operation = done(api("POST", "https://cloudresourcemanager.googleapis.com/v1/projects", json={"projectId": name}))
    assert "error" not in operation, operation
    return name


@pytest.fixture(scope="session")
def done(sessions: Callable[[str | None], requests.Session]) -> Callable[[requests.Response], dict[str, Any]]:
    """``done(response)``: wait for the operation in a response; returns it, whether it succeeded or failed."""

    def call(answer: requests.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        return wait(sessions(None), answer)

    return call


@pytest.fixture(scope="session")
def enable(api: Api, done: Callable[[requests.Response], dict[str, Any]]) -> Callable[..., None]:
    """``enable(project, "run.googleapis.com", …)``: enable APIs and wait."""

    def call(project: str, *services: str) -> None:
        url = f"https://serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable"
        operation = done(api("POST", url, json={"serviceIds": list(services)}))
        assert "error" not in operation, operation

    return call


@pytest.fixture(scope="session")
def kms_key(sandbox: Sandbox) -> Callable[..., str]:
    """``kms_key(project, "europe-west2", "storage", …)``: a new key of Cloud KMS that the agents of these services may use."""

    def call(project: str, place: str, *services: str) -> str:
        return sandbox.kms_key(project, place, *services, ring=f"r-{secrets.token_hex(4)}")

    return call
