"""A backup restored ten times while clients log through the load balancer: every restore ends, nothing older is lost."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import copied

from .conftest import LOGGER, PROJECT, URL, Cloud
from .test_mlflow_client import token

pytestmark = pytest.mark.long

INSTANCE = f"sqladmin.googleapis.com/v1/projects/{PROJECT}/instances/mlflow"
CLIENTS, RESTORES = 4, 10
# What asyncio says of a descriptor that was closed, or given to another connection, behind a transport's back.
WRONG = re.compile(
    r".*(?:unclosed transport|is used by transport|Fatal .*error on transport|Bad file descriptor|never retrieved"
    r"|Traceback).*"
)


@pytest.fixture
def cloud(deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A copy of the deployment whose event loop reports resources that are not closed properly."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "always::ResourceWarning")
    with copied(deployment) as running:
        yield running


class Job(threading.Thread):
    """One client that logs a metric, step by step, to its own run; `acknowledged` are the steps that MLflow has answered."""

    def __init__(self, cloud: Cloud, bearer: str, experiment: str) -> None:
        super().__init__(daemon=True)
        self.session = cloud.session(anonymous=True)
        self.session.headers["Authorization"] = f"Bearer {bearer}"
        self.acknowledged: list[int] = []
        self.more, self.over = threading.Event(), threading.Event()
        body = {"experiment_id": experiment, "start_time": 1}
        self.run_id = self.ask("POST", "runs/create", json=body)["run"]["info"]["run_id"]

    def ask(self, method: str, path: str, **options: object) -> dict:
        """One call of MLflow's REST API, repeated for a minute while the database is away."""
        give_up = time.monotonic() + 60
        while True:
            try:
                answer = self.session.request(method, f"{URL}/api/2.0/mlflow/{path}", timeout=20, **options)
                answer.raise_for_status()
                return answer.json()
            except requests.RequestException:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.1)

    def run(self) -> None:
        step = 0
        while not self.over.is_set():
            body = {"run_id": self.run_id, "key": "m", "value": step, "timestamp": step, "step": step}
            self.ask("POST", "runs/log-metric", json=body)
            self.acknowledged.append(step)
            self.more.set()
            step += 1

    def go_on(self) -> None:
        """Wait until another step is acknowledged."""
        self.more.clear()
        assert self.more.wait(90), "the client is stuck"

    def stored(self) -> set[int]:
        """The steps that MLflow returns."""
        query = {"run_id": self.run_id, "metric_key": "m", "max_results": 25000}
        return {metric["step"] for metric in self.ask("GET", "metrics/get-history", params=query).get("metrics", [])}


def test_a_backup_is_restored_ten_times_while_clients_log(cloud: Cloud) -> None:
    bearer = token(cloud, LOGGER)
    jobs = [Job(cloud, bearer, "0") for _ in range(CLIENTS)]
    for job in jobs:
        job.start()
    try:
        for job in jobs:
            job.go_on()
            job.go_on()
        before = [list(job.acknowledged) for job in jobs]
        run = cloud.call("POST", f"{INSTANCE}/backupRuns")["backupContext"]["backupId"]
        for _ in range(RESTORES):
            # A restore that hangs, or leaves the instance busy, fails here.
            cloud.call("POST", f"{INSTANCE}/restoreBackup", {"restoreBackupContext": {"backupRunId": run}})
            assert [set(steps) - job.stored() for job, steps in zip(jobs, before, strict=True)] == [set()] * CLIENTS
            for job in jobs:
                job.go_on()
    finally:
        for job in jobs:
            job.over.set()
        for job in jobs:
            job.join(90)
    assert not any(job.is_alive() for job in jobs)
    cloud.command("down")
    log = Path(cloud.state / "sandbox.log").read_text()
    assert "asyncio" in log, "the event loop's own messages are not in the log"
    assert not WRONG.findall(log)
