"""The entry point, run as in the container, with a real PostgreSQL."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import PASSWORD, ROOT, Postgres, free_port

PYTHON = os.environ.get("IMAGE_PYTHON", str(ROOT / ".venv-image" / "bin" / "python"))
START_SECONDS = 60


@dataclass
class Server:
    process: subprocess.Popen
    port: int
    log: Path

    def request(self, path: str, body: dict | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=10).read()

    def wait_until_ready(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                self.request("/health")
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < give_up, f"not ready after {START_SECONDS} s:\n{self.log.read_text()}"
                time.sleep(0.1)


def start(
    postgres: Postgres, database: str, folder: Path, *arguments: str, code: str | None = None, **env: str
) -> Server:
    """Start the entry point with `arguments` (or `code` that imports it) on a free port, logging to `folder`."""
    port = free_port()
    log = folder / f"{port}.log"
    settings = {
        "PATH": os.environ["PATH"],
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "MLFLOW_DB_HOST": "127.0.0.1",
        "MLFLOW_DB_PORT": str(postgres.port),
        "MLFLOW_DB_NAME": database,
        "MLFLOW_DB_USER": "mlflow",
        "MLFLOW_DB_PASSWORD": PASSWORD,
        "MLFLOW_ARTIFACTS_BUCKET": "a-bucket",
        "PYTHONUNBUFFERED": "1",
    }
    command = [PYTHON, "-c", code] if code else [PYTHON, "-m", "mlflow_gcp_server", *arguments]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=settings | env,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    return Server(process, port, log)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Wait until it is ready; end it."""
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def pair(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers that were started at the same time with an empty database."""
    postgres.sql("CREATE DATABASE pair")
    folder = tmp_path_factory.mktemp("pair")
    servers = (start(postgres, "pair", folder), start(postgres, "pair", folder))
    try:
        for server in servers:
            server.wait_until_ready()
        yield servers
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()


def test_two_at_once_create_one_schema(pair, postgres):
    assert postgres.sql("SELECT count(*) FROM alembic_version", "pair") == "1"
    assert postgres.sql("SELECT name FROM experiments", "pair") == "Default"


def test_one_server_writes_and_the_other_reads(pair):
    one, other = pair
    experiment = json.loads(one.request("/api/2.0/mlflow/experiments/create", {"name": "shared"}))["experiment_id"]
    found = json.loads(other.request(f"/api/2.0/mlflow/experiments/get?experiment_id={experiment}"))["experiment"]
    assert found["name"] == "shared"
    assert found["artifact_location"].startswith("mlflow-artifacts:/")


def test_one_process_that_shows_no_password(pair):
    for server in pair:
        own = Path(f"/proc/{server.process.pid}")
        assert own.joinpath("task", str(server.process.pid), "children").read_text() == ""
        seen = own.joinpath("cmdline").read_text() + server.log.read_text()
        assert PASSWORD not in seen and "p%40ss" not in seen


def test_connections_stay_within_the_smallest_tier(pair, postgres):
    count = int(postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'pair'"))
    assert 1 <= count <= 12


@pytest.mark.parametrize(("mebibytes", "status"), [(5, 400), (201, 413)])
def test_traces_that_would_fill_the_memory_are_refused(pair, mebibytes, status):
    connection = http.client.HTTPConnection("127.0.0.1", pair[0].port, timeout=60)
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Length": str(mebibytes << 20),
        "X-MLflow-Experiment-Id": "0",
    }
    connection.request("POST", "/v1/traces", (bytes(1 << 20) for _ in range(mebibytes)), headers)
    assert connection.getresponse().status == status


def test_sigterm_lets_a_request_finish(pair):
    server = pair[0]
    body = b'{"name": "last"}'
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        head = f"POST /api/2.0/mlflow/experiments/create HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        client.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body[:5])
        time.sleep(0.5)
        server.process.terminate()
        time.sleep(0.5)
        client.sendall(body[5:])
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(10) == 0


def test_sigterm_cuts_a_request_that_does_not_finish(pair):
    server = pair[1]
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            b"POST /api/2.0/mlflow/experiments/create HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        )
        time.sleep(0.5)
        server.process.terminate()
        assert server.process.wait(10) == 0


def end(server: Server, seconds: float = START_SECONDS) -> tuple[int, str]:
    """Exit status, and the last line of the entry point's output."""
    status = server.process.wait(seconds)
    return status, [line for line in server.log.read_text().splitlines() if line.startswith("mlflow-server: ")][-1]


def test_a_wrong_password_is_reported_at_once(postgres, tmp_path):
    status, message = end(start(postgres, "postgres", tmp_path, MLFLOW_DB_PASSWORD="not-this"))
    assert status == 1
    assert 'password authentication failed for user "mlflow"' in message and "not-this" not in message


def test_an_unreachable_database_is_given_up(postgres, tmp_path):
    code = "from mlflow_gcp_server import __main__, schema; schema.CONNECT_SECONDS = 0.6; __main__.main()"
    status, message = end(start(postgres, "postgres", tmp_path, code=code, MLFLOW_DB_PORT=str(free_port())))
    assert status == 1
    assert "Connection refused" in message


def test_sigterm_while_it_waits_for_the_database(postgres, tmp_path):
    server = start(postgres, "postgres", tmp_path, MLFLOW_DB_PORT=str(free_port()))
    time.sleep(1)
    server.process.terminate()
    assert server.process.wait(10) == 0
