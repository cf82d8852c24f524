"""Clients that go on while a deployment is changed: what fails, and whether all that was acknowledged is there."""

from __future__ import annotations

import base64
import hashlib
import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from .conftest import LOGGER, PROJECT, URL, Cloud
from .test_mlflow_client import token

API = "/api/2.0/mlflow"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
CLIENTS = 8
PAUSE = 0.1
"""Seconds between two requests of a client: without one, the clients take the processor from what they watch."""


@dataclass(frozen=True)
class Failure:
    """A request that was not answered with 200: when it was sent and answered (seconds since the epoch), and what came of it."""

    sent: float
    answered: float
    status: int
    """0 if there was no answer."""
    text: str


class From(HTTPAdapter):
    """Connections from one of this machine's addresses."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        return super().proxy_manager_for(*args, **options, source_address=(self.address, 0))


class Client:
    """One client, which sends one request after another; none is sent again if it fails."""

    def __init__(self, traffic: Traffic, number: int) -> None:
        self.traffic, self.number = traffic, number
        self.session = traffic.cloud.session(anonymous=True)
        self.session.mount("https://", From(traffic.address))
        self.sent, self.gap, self.answered = 0, 0.0, time.time()
        self.failed: list[Failure] = []

    def send(self, method: str, path: str, **options: Any) -> requests.Response | None:
        """The answer, None if it is not 200."""
        self.traffic.pause()
        begin, status, text = time.time(), 0, ""
        self.sent += 1
        try:
            answer = self.session.request(
                method, self.traffic.url + path, headers=self.traffic.headers, timeout=60, **options
            )
            status, text = answer.status_code, answer.text[:200]
        except requests.RequestException as error:
            text = str(error)
        now = time.time()
        if status != 200:
            self.failed.append(Failure(begin, now, status, text))
            return None
        self.gap, self.answered = max(self.gap, now - self.answered), now
        return answer

    def post(self, method: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of a method of MLflow."""
        answer = self.send("POST", f"{API}/{method}", json=body)
        return answer.json() if answer is not None else None


@dataclass
class Run:
    """What MLflow has acknowledged of a run."""

    steps: list[int] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """MD5 by name."""
    finished: bool = False


Work = Callable[[Client, "Traffic"], None]


def ask(client: Client, traffic: Traffic) -> None:
    """One request over a connection of its own."""
    client.send("GET", "/")
    client.session.close()


def log(client: Client, traffic: Traffic, *, files: bool = True) -> None:
    """A run with metrics, parameters and, where the server passes them on, a file."""
    begun = client.post("runs/create", {"experiment_id": traffic.experiment, "start_time": int(time.time() * 1000)})
    if begun is None:
        return
    run_id = begun["run"]["info"]["run_id"]
    run = traffic.runs[run_id] = Run()
    for step in range(3):
        now = int(time.time() * 1000)
        metrics = [{"key": "loss", "value": 1 / (step + 1), "timestamp": now, "step": step}]
        body = {"run_id": run_id, "metrics": metrics, "params": [{"key": f"p{step}", "value": str(step)}]}
        if client.post("runs/log-batch", body) is not None:
            run.steps.append(step)
    if files:
        content = uuid.uuid4().bytes * 1000
        if client.send("PUT", f"{FILES}/{traffic.experiment}/{run_id}/artifacts/weights.bin", data=content) is not None:
            run.files["weights.bin"] = base64.b64encode(hashlib.md5(content).digest()).decode()
    body = {"run_id": run_id, "status": "FINISHED", "end_time": int(time.time() * 1000)}
    run.finished = client.post("runs/update", body) is not None


class Traffic:
    """
    Several clients at one address, signed in as the logger, each of which sends up to ten requests a second.

        traffic = Traffic(cloud)
        with traffic.running():
            cloud.playbook("site.yml", …)
        assert traffic.failed == []
        assert traffic.lost() == []
    """

    def __init__(
        self, cloud: Cloud, url: str = URL, *, work: Work = log, clients: int = CLIENTS, address: str = "127.0.0.1"
    ) -> None:
        self.cloud, self.url, self.work, self.address = cloud, url, work, address
        self.headers = {"Authorization": f"Bearer {token(cloud, LOGGER, url)}"}
        self.runs: dict[str, Run] = {}
        self.experiment = ""
        self.clients = [Client(self, number) for number in range(clients)]
        self._end, self._warm = threading.Event(), threading.Barrier(clients + 1, timeout=120)

    def _go(self, client: Client) -> None:
        # The first round is that in which new instances start.
        self.work(client, self)
        self._warm.wait()
        client.gap, client.answered = 0.0, time.time()
        while not self._end.is_set():
            self.work(client, self)

    def pause(self) -> None:
        """Until the next request of a client; none once the end has come."""
        self._end.wait(PAUSE)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work in the background; every client has finished a round before this begins."""
        if self.work is not ask:
            made = self.clients[0].post("experiments/create", {"name": f"traffic-{uuid.uuid4()}"})
            assert made, self.clients[0].failed
            self.experiment = made["experiment_id"]
        threads = [threading.Thread(target=self._go, args=(client,)) for client in self.clients]
        for thread in threads:
            thread.start()
        self._warm.wait()
        try:
            yield
        finally:
            self._end.set()
            for thread in threads:
                thread.join()

    @property
    def sent(self) -> int:
        """All requests."""
        return sum(client.sent for client in self.clients)

    @property
    def failed(self) -> list[Failure]:
        """All failures, in the order in which they were sent."""
        found = itertools.chain.from_iterable(client.failed for client in self.clients)
        return sorted(found, key=lambda failure: failure.sent)

    @property
    def gap(self) -> float:
        """The longest time, in seconds, that a client waited from one good answer to the next."""
        return max(client.gap for client in self.clients)

    def lost(self) -> list[str]:
        """What MLflow has acknowledged and does not have."""
        lost, reader = [], Client(self, -1)
        found, page = {}, ""
        while True:
            query = {"experiment_ids": [self.experiment], "max_results": 1000}
            answer = reader.post("runs/search", query | ({"page_token": page} if page else {}))
            assert answer is not None, reader.failed
            found |= {run["info"]["run_id"]: run for run in answer.get("runs", ())}
            if not (page := answer.get("next_page_token", "")):
                break
        objects = self._objects() if any(run.files for run in self.runs.values()) else {}
        for run_id, run in self.runs.items():
            if run_id not in found:
                lost.append(f"run {run_id}")
                continue
            data = found[run_id]["data"]
            params = {entry["key"] for entry in data.get("params", ())}
            lost += [f"parameter p{step} of {run_id}" for step in run.steps if f"p{step}" not in params]
            latest = max((int(entry.get("step", 0)) for entry in data.get("metrics", ())), default=-1)
            lost += [f"step {step} of {run_id}" for step in run.steps[-1:] if step > latest]
            if run.finished and found[run_id]["info"]["status"] != "FINISHED":
                lost.append(f"end of {run_id}")
            for name, digest in run.files.items():
                if objects.get(f"{self.experiment}/{run_id}/artifacts/{name}") != digest:
                    lost.append(f"file {name} of {run_id}")
        return lost

    def _objects(self) -> dict[str, str]:
        """The MD5 of each object of the experiment."""
        url, query = f"storage.googleapis.com/storage/v1/b/{PROJECT}-mlflow-artifacts/o", {"maxResults": 1000}
        found: dict[str, str] = {}
        while True:
            page = self.cloud.call("GET", url, params=query)
            for entry in page.get("items", ()):
                name = entry["name"]
                found[name[name.find(f"{self.experiment}/") :]] = entry["md5Hash"]
            if "nextPageToken" not in page:
                return found
            query["pageToken"] = page["nextPageToken"]

    def __str__(self) -> str:
        kinds = Counter(failure.status for failure in self.failed)
        failed = f"{len(self.failed)} failed {dict(kinds) or ''}".strip()
        return f"{self.sent} requests, {failed}, longest gap {self.gap:.1f} s, {len(self.runs)} runs"
