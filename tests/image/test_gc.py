"""The command gc, with a real PostgreSQL and a bucket of the sandbox."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import PROJECT, Cloud
from .conftest import Postgres
from .test_server import Server, end, serving, start

BUCKET = "garbage-artifacts"
API = "/api/2.0/mlflow"
NAMES = ("HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT")


class Garbage:
    """A server's database and bucket with some deleted items."""

    def __init__(self, cloud: Cloud, postgres: Postgres, folder: Path) -> None:
        self.cloud = cloud
        self.postgres = postgres
        self.folder = folder
        self.env = {name: cloud.env[name] for name in NAMES if name in cloud.env}
        self.env["MLFLOW_ARTIFACTS_BUCKET"] = f"{BUCKET}/runs"

    def gc(self, *arguments: str, **env: str) -> tuple[int, str, list[str]]:
        """Exit status, the last line, and all lines."""
        server = start(self.postgres, "garbage", self.folder, "gc", *arguments, **self.env | env)
        status, message = end(server)
        lines = [line.removeprefix("mlflow-server: ") for line in server.log.read_text().splitlines()]
        return status, message.removeprefix("mlflow-server: "), lines

    def objects(self) -> list[str]:
        """The names of the objects in the bucket."""
        return [
            item["name"]
            for item in self.cloud.call("GET", f"storage.googleapis.com/storage/v1/b/{BUCKET}/o").get("items", [])
        ]

    def runs(self) -> set[str]:
        return set(self.postgres.sql("SELECT run_uuid FROM runs", "garbage").split())


def post(server: Server, path: str, body: dict) -> dict:
    return json.loads(server.request(f"{API}/{path}", body))


def make_run(server: Server, experiment: str) -> str:
    """A run with a metric and a file."""
    run = post(server, "runs/create", {"experiment_id": experiment})["run"]["info"]["run_id"]
    post(server, "runs/log-metric", {"run_id": run, "key": "loss", "value": 1, "timestamp": 1})
    url = f"http://127.0.0.1:{server.port}/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/model.bin"
    urllib.request.urlopen(urllib.request.Request(url, run.encode(), method="PUT"), timeout=30).close()
    return run


@pytest.fixture
def garbage(cloud: Cloud, postgres: Postgres, tmp_path: Path) -> Iterator[tuple[Garbage, dict[str, str]]]:
    """A run that is kept, two deleted ones, and a deleted experiment with a run; their IDs."""
    cloud.call("POST", f"storage.googleapis.com/storage/v1/b?project={PROJECT}", {"name": BUCKET, "location": "EU"})
    postgres.sql("CREATE DATABASE garbage")
    made = Garbage(cloud, postgres, tmp_path)
    with serving(start(postgres, "garbage", tmp_path, **made.env)) as server:
        experiment = post(server, "experiments/create", {"name": "old"})["experiment_id"]
        ids = {"experiment": experiment, "in experiment": make_run(server, experiment)}
        ids |= {name: make_run(server, "0") for name in ("kept", "deleted", "long deleted")}
        post(server, "runs/delete", {"run_id": ids["deleted"]})
        post(server, "runs/delete", {"run_id": ids["long deleted"]})
        post(server, "experiments/delete", {"experiment_id": experiment})
    days = 40 * 24 * 3600 * 1000
    postgres.sql(
        f"UPDATE runs SET deleted_time = deleted_time - {days} WHERE run_uuid = '{ids['long deleted']}'", "garbage"
    )
    assert len(made.objects()) == 4
    yield made, ids
    postgres.sql("DROP DATABASE garbage WITH (FORCE)")
    for name in made.objects():
        cloud.call("DELETE", f"storage.googleapis.com/storage/v1/b/{BUCKET}/o/{name.replace('/', '%2F')}")
    cloud.call("DELETE", f"storage.googleapis.com/storage/v1/b/{BUCKET}")


@pytest.mark.long
def test_gc_removes_what_was_deleted_and_nothing_else(garbage):
    made, ids = garbage
    everything = made.runs()

    status, last, lines = made.gc("--dry-run")
    assert (status, last) == (0, "gc: would remove 3 runs, 0 logged models, 1 experiment")
    assert {f"gc: run {ids[name]} would be removed" for name in ("deleted", "long deleted", "in experiment")} < set(
        lines
    )
    assert (made.runs(), len(made.objects())) == (everything, 4)

    assert made.gc("--older-than", "30d")[:2] == (0, "gc: removed 1 run, 0 logged models, 0 experiments")
    assert made.runs() == everything - {ids["long deleted"]}
    assert not [name for name in made.objects() if ids["long deleted"] in name]

    # If any of the named items is not deleted, none is removed.
    status, last, _ = made.gc("--run-ids", f"{ids['deleted']},{ids['kept']}")
    assert (status, last) == (1, f"gc: run {ids['kept']} was not deleted, or not that long ago; nothing was removed")
    assert len(made.objects()) == 3

    assert made.gc("--experiment-ids", ids["experiment"])[:2] == (0, "gc: removed 1 run, 0 logged models, 1 experiment")
    assert made.runs() == {ids["kept"], ids["deleted"]}

    assert made.gc("--jobs")[:2] == (0, "gc: removed 1 run, 0 logged models, 0 experiments, 0 jobs")
    assert made.runs() == {ids["kept"]}
    assert made.objects() == [f"runs/0/{ids['kept']}/artifacts/model.bin"]
    assert made.postgres.sql("SELECT name FROM experiments", "garbage") == "Default"


def test_one_failure_does_not_stop_the_others(garbage):
    """A run's artifacts are at a location that this server cannot reach: it is kept, named in the log, and retried."""
    made, ids = garbage
    made.postgres.sql(
        f"UPDATE runs SET artifact_uri = 'gs://bucket-of-somebody-else/x' WHERE run_uuid = '{ids['deleted']}'",
        "garbage",
    )
    status, last, lines = made.gc()
    assert (status, last) == (1, "gc: removed 2 runs, 0 logged models, 1 experiment; 1 failed")
    assert any(line.startswith(f"gc: run {ids['deleted']} was not removed: ") for line in lines)
    assert made.runs() == {ids["kept"], ids["deleted"]}
