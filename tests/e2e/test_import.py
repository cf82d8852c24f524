"""Everything of another MLflow server is imported: from a database, a file store and a server, with MLflow's own client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import IMAGE_PYTHON, URL, Cloud

SCRIPT = Path(__file__).parent / "another_server.py"
COUNTS = {"experiments": 2, "runs": 4, "logged_models": 1, "registered_models": 2, "versions": 3}
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def cloud(own_cloud: Cloud) -> Cloud:
    """A deployment that only the tests of this file change."""
    return own_cloud


@pytest.fixture
def run(package: Path, tmp_path: Path) -> Command:
    """``run("-m", "mlflow_iap.cli", …)``: Python with MLflow and the package."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GOOGLE_"))}
    env = plain | {"PYTHONPATH": str(package), "MLFLOW_DISABLE_TELEMETRY": "true"}

    def start(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [IMAGE_PYTHON, *words], env=env | more, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )

    start.env = env
    return start


def made(run: Command, uri: str) -> None:
    done = run(str(SCRIPT), "make", uri)
    assert done.returncode == 0, done.stderr


def shown(run: Command, uri: str, **env: str) -> dict[str, Any]:
    done = run(str(SCRIPT), "show", uri, **env)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def imported(run: Command, source: str, target: str, status: int = 0, **env: str) -> dict[str, Any]:
    done = run("-m", "mlflow_iap.cli", "import", source, "--uri", target, **env)
    assert done.returncode == status, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def stores(kind: str, folder: Path) -> str:
    """The URI of a source."""
    return f"sqlite:///{folder}/source.db" if kind == "database" else str(folder / "mlruns-old")


@pytest.mark.parametrize("kind", ["files", pytest.param("database", marks=pytest.mark.long)])
def test_a_store_is_imported_once(run: Command, tmp_path: Path, kind: str) -> None:
    source, target = stores(kind, tmp_path), f"sqlite:///{tmp_path}/target.db"
    made(run, source)
    before = (tmp_path / "source.db").read_bytes() if kind == "database" else b""
    first = imported(run, source, target)
    assert first["source"] == first["after"] == COUNTS and first["before"] == dict.fromkeys(COUNTS, 0)
    assert first["copied"].items() >= {"runs": 4, "params": 6, "metrics": 3609, "files": 11, "versions": 3}.items()
    again = imported(run, source, target)
    assert (again["before"], again["after"], again["changed"]) == (COUNTS, COUNTS, False)
    assert kind == "files" or (tmp_path / "source.db").read_bytes() == before


@pytest.mark.long
@pytest.mark.parametrize("kind", ["database", "files"])
def test_an_import_goes_on_where_it_was(run: Command, tmp_path: Path, kind: str) -> None:
    """After a file that could not be read, and after it was killed at several moments."""
    source = stores(kind, tmp_path)
    target = f"sqlite:///{tmp_path}/target.db"
    made(run, source)
    whole = shown(run, source)
    for moment in (0.2, 1.0, 2.0):
        words = [IMAGE_PYTHON, "-m", "mlflow_iap.cli", "import", source, "--uri", target]
        process = subprocess.Popen(words, env=run.env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        assert any(line.startswith("source:") for line in process.stderr)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    lost = next(path for path in tmp_path.rglob("file 2.bin") if "target" not in str(path))
    content = lost.read_bytes()
    lost.unlink()
    lost.symlink_to("nowhere")
    broken = run("-m", "mlflow_iap.cli", "import", source, "--uri", target)
    lost.unlink()
    lost.write_bytes(content)
    assert broken.returncode in (0, 1), broken.stderr
    last = imported(run, source, target)
    assert last["after"] == COUNTS and last["problems"] == []
    assert shown(run, target) == whole


@contextmanager
def server(run: Command, store: str, folder: Path) -> Iterator[str]:
    """MLflow's own server for a store; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["-m", "mlflow", "server", "--workers", "1", "--port", str(port), "--backend-store-uri", store]
    env = run.env | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [IMAGE_PYTHON, *words, "--artifacts-destination", str(folder / "files")],
            env=env,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < end, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.long
@pytest.mark.usefixtures("deployed")
def test_another_server_is_imported_through_the_front_door(
    cloud: Cloud, run: Command, client: Command, package: Path, tmp_path: Path
) -> None:
    mlflow = {"PYTHONPATH": str(package), "MLFLOW_DISABLE_TELEMETRY": "true"}

    def adopt(source: str, **variables: Any) -> Any:
        given = {"mlflow_import_from": source, "mlflow_import_python": IMAGE_PYTHON} | variables
        return cloud.playbook("adopt.yml", "--extra-vars", json.dumps(given), **mlflow)

    with server(run, f"sqlite:///{tmp_path}/old.db", tmp_path) as source:
        made(run, source)
        whole = shown(run, source)
        # Only with a confirmation.
        plan = adopt(source)
        assert (plan.status, plan.recap("changed")) == (0, 0), plan.output
        assert "runs: 4" in plan.output and "mlflow_adopt_confirm=demo" in plan.output
        assert "churn" not in shown_by(client)["experiments"]
        wrong = adopt(source, mlflow_adopt_confirm="prod")
        assert wrong.status != 0 and "mlflow_adopt_confirm is 'prod'; allowed: demo" in " ".join(wrong.error.split())

        play = adopt(source, mlflow_adopt_confirm="demo")
        assert (play.status, play.changed) == (0, ["Import the other server"]), play.output
        again = adopt(source, mlflow_adopt_confirm="demo")
        assert (again.status, again.recap("changed")) == (0, 0), again.output
    assert shown_by(client) == whole
    absent = adopt(str(tmp_path / "no-such-folder"), mlflow_adopt_confirm="demo")
    assert absent.status != 0 and absent.recap("changed") == 0 and "does not exist" in absent.error


def shown_by(client: Command) -> dict[str, Any]:
    """What the deployment has."""
    done = client(str(SCRIPT), "show", URL)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))
