"""The image's server with a database whose schema is older or newer than its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Postgres
from .test_server import Server, end, serving, start

# Three migrations back from MLflow 3.17.2: two of them add no table, so MLflow itself would refuse to start.
OLD = "17e22815139b"
DOWNGRADE = f"""
import os, alembic.command
from mlflow.store.db.utils import _get_alembic_config
from mlflow_gcp_server.settings import Settings
alembic.command.downgrade(_get_alembic_config(Settings(os.environ).backend_uri), {OLD!r})
"""


def revision(postgres: Postgres, database: str) -> str:
    return postgres.sql("SELECT version_num FROM alembic_version", database)


def stored(server: Server, run: str) -> list[float]:
    answer = json.loads(server.request(f"/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss"))
    return [metric["value"] for metric in answer["metrics"]]


@pytest.fixture(scope="module")
def run(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with a metric, in the databases `current` and `old`; the latter has the schema of an older MLflow."""
    folder = tmp_path_factory.mktemp("schema")
    postgres.sql("CREATE DATABASE current")
    with serving(start(postgres, "current", folder)) as server:
        made = json.loads(server.request("/api/2.0/mlflow/runs/create", {"experiment_id": "0"}))["run"]["info"][
            "run_id"
        ]
        metric = {"run_id": made, "key": "loss", "value": 0.5, "timestamp": 1, "step": 1}
        server.request("/api/2.0/mlflow/runs/log-metric", metric)
    postgres.sql("CREATE DATABASE old TEMPLATE current")
    server = start(postgres, "old", folder, code=DOWNGRADE)
    assert server.process.wait(60) == 0, server.log.read_text()
    assert revision(postgres, "old") == OLD
    return made


@pytest.fixture
def old(run: str, postgres: Postgres) -> Iterator[str]:
    """The name of a database with the old schema, for one test."""
    postgres.sql("CREATE DATABASE one TEMPLATE old")
    yield "one"
    postgres.sql("DROP DATABASE one WITH (FORCE)")


@pytest.mark.long
def test_an_empty_database_is_not_outdated(postgres, tmp_path):
    postgres.sql("CREATE DATABASE nothing")
    status, message = end(start(postgres, "nothing", tmp_path, "schema"))
    assert (status, "the database is empty" in message) == (0, True)
    assert postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", "nothing") == "0"


def test_the_command_schema_shows_both_revisions(postgres, run, tmp_path):
    head = revision(postgres, "current")
    status, message = end(start(postgres, "current", tmp_path, "schema"))
    assert (status, f"at revision {head}, as " in message) == (0, True)
    status, message = end(start(postgres, "old", tmp_path, "schema"))
    assert (status, f"at revision {OLD}, " in message, message.endswith(f"needs {head}")) == (3, True, True)
    assert revision(postgres, "old") == OLD


def test_a_start_upgrades_and_keeps_the_data(postgres, run, old, tmp_path):
    with serving(start(postgres, old, tmp_path)) as server:
        assert stored(server, run) == [0.5]
        assert f"from revision {OLD} to {revision(postgres, 'current')}" in server.log.read_text()
    assert revision(postgres, old) == revision(postgres, "current")


@pytest.mark.long
def test_of_two_that_start_at_once_one_upgrades(postgres, run, old, tmp_path):
    with serving(start(postgres, old, tmp_path)) as one, serving(start(postgres, old, tmp_path)) as other:
        assert stored(one, run) == stored(other, run) == [0.5]
        assert sum("upgraded the database's schema" in server.log.read_text() for server in (one, other)) == 1


@pytest.mark.long
def test_a_server_that_must_not_upgrade_waits_for_the_command(postgres, run, old, tmp_path):
    status, message = end(start(postgres, old, tmp_path, MLFLOW_DB_UPGRADE="never"))
    assert (status, "run this image's command `upgrade` first" in message) == (1, True)
    assert revision(postgres, old) == OLD
    status, message = end(start(postgres, old, tmp_path, "upgrade", MLFLOW_DB_UPGRADE="never"))
    assert (status, "as this image" in message) == (0, True)
    with serving(start(postgres, old, tmp_path, MLFLOW_DB_UPGRADE="never")) as server:
        assert stored(server, run) == [0.5]


def test_a_newer_schema_is_rejected_with_the_image_to_use(postgres, run, old, tmp_path):
    head = revision(postgres, "current")
    postgres.sql("UPDATE alembic_version SET version_num = 'ffff00001111'", old)
    expected = {(): 1, ("upgrade",): 1, ("schema",): 4}
    started = {command: start(postgres, old, tmp_path, *command) for command in expected}
    for command, server in started.items():
        status, message = end(server)
        assert status == expected[command]
        assert "ffff00001111" in message and head in message and "image that was deployed before" in message
    assert revision(postgres, old) == "ffff00001111"


def test_a_migration_that_was_killed_is_done_again(postgres, run, old, tmp_path):
    """The second of the three migrations waits for a locked table, after the first one has finished."""
    with postgres.locked(old, "trace_info"):
        server = start(postgres, old, tmp_path)
        try:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'one' AND wait_event_type = 'Lock'"
            give_up = time.monotonic() + 60
            while postgres.sql(waiting) == "0":
                assert server.process.poll() is None and time.monotonic() < give_up, server.log.read_text()
                time.sleep(0.05)
        finally:
            server.process.kill()
            server.process.wait()
    with serving(start(postgres, old, tmp_path)) as server:
        assert stored(server, run) == [0.5]
    assert revision(postgres, old) == revision(postgres, "current")


def test_a_database_that_refuses_is_one_line(postgres, tmp_path: Path):
    server = start(postgres, "postgres", tmp_path, "schema", MLFLOW_DB_PASSWORD="not-this")
    status, message = end(server)
    assert (status, len(server.log.read_text().splitlines())) == (1, 1)
    assert 'password authentication failed for user "mlflow"' in message and "not-this" not in message
