"""The image's server with more clients than database connections, and during a database outage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Postgres
from .test_server import PYTHON, Server, end, serving, start

SIZE, OVERFLOW = 3, 1
POOL = {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(SIZE), "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": str(OVERFLOW)}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Postgres]:
    """A PostgreSQL server for a test that stops it."""
    server = Postgres()
    server.start()
    yield server
    server.stop()
    server.remove()


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with four connections, on the database `pool`; a request waits two seconds for one."""
    postgres.sql("CREATE DATABASE pool")
    folder = tmp_path_factory.mktemp("pool")
    env = POOL | {"MLFLOW_DB_WAIT_SECONDS": "2", "MLFLOW_ENABLE_AI_GATEWAY": "true"}
    with serving(start(postgres, "pool", folder, **env)) as server:
        yield server


class Clients:
    """A running clients.py."""

    def __init__(self, server: Server, *arguments: str, retries: int | None = None) -> None:
        env = {
            "PATH": os.environ["PATH"],
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.port}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        if retries is not None:
            env["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(retries)
        self.process = subprocess.Popen(
            [PYTHON, str(Path(__file__).with_name("clients.py")), *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ready = self.process.stdout.readline() == "ready\n"

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def result(self, seconds: float = 300) -> dict:
        output, errors = self.process.communicate(timeout=seconds)
        assert self.ready and self.process.returncode == 0, errors[-3000:]
        return json.loads(output.splitlines()[-1])


@contextmanager
def most_connections(postgres: Postgres, database: str) -> Iterator[Callable[[], int]]:
    """Count a database's connections, without the test's own, until the end; returns the maximum."""
    counts = [0]
    over = threading.Event()
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND application_name LIKE 'mlflow%'"

    def watch() -> None:
        while not over.wait(0.1):
            counts.append(int(postgres.sql(count)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: max(counts)
    finally:
        over.set()
        thread.join()


def answer(
    server: Server, path: str, body: dict | None = None, seconds: float = 30
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (in lower case) and body, for every status."""
    data = None if body is None else json.dumps(body).encode()
    url = f"http://127.0.0.1:{server.port}{path}"
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()


def experiment(name: str) -> tuple[str, dict]:
    return "/api/2.0/mlflow/experiments/create", {"name": name}


def waiting(postgres: Postgres, database: str, count: int) -> None:
    """Return as soon as this number of statements wait for a lock."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
    give_up = time.monotonic() + 30
    while int(postgres.sql(query)) < count:
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_fifty_clients_share_four_connections(postgres, tmp_path):
    """WSGI threads (batch, search) and asyncio's executors (trace) at the same time, without retries."""
    postgres.sql("CREATE DATABASE fifty")
    with (
        serving(start(postgres, "fifty", tmp_path, **POOL)) as server,
        most_connections(postgres, "fifty") as most,
    ):
        with Clients(server, "50", "4", "batch", "trace", "search", retries=0) as clients:
            result = clients.result()
        assert (result["calls"], result["failed"], result["lost"]) == (200, 0, 0), result
        assert 2 <= most() <= SIZE + OVERFLOW
        with ThreadPoolExecutor(20) as executor:
            list(executor.map(lambda number: answer(server, "/ready"), range(200)))
        assert most() <= SIZE + OVERFLOW + 1


def test_requests_that_wait_too_long_get_503(server, postgres):
    """Requests that wait for a locked table use all connections: health and readiness still answer."""
    with ThreadPoolExecutor(60) as executor:
        with postgres.locked("pool", "experiments"):
            held: list[Future] = [executor.submit(answer, server, *experiment(f"held {n}")) for n in range(SIZE)]
            waiting(postgres, "pool", SIZE)
            others = [executor.submit(answer, server, *experiment(f"other {n}")) for n in range(50)]
            begin = time.monotonic()
            assert answer(server, "/health")[0] == 200
            assert answer(server, "/ready")[0] == 200
            assert time.monotonic() - begin < 1.5
            answers = [other.result() for other in others]
        assert [one.result()[0] for one in held] == [200] * SIZE
    for status, headers, body in answers:
        assert (status, json.loads(body)["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert 1 <= int(headers["retry-after"]) <= 10
    assert answer(server, *experiment("after"))[0] == 200


def test_the_event_loop_does_not_stand_still(server, postgres):
    """The AI gateway queries the database on the event loop: it gets an error to retry, and blocks nobody."""
    path, body = "/gateway/none/mlflow/invocations", {"messages": [{"role": "user", "content": "hello"}]}
    assert answer(server, path, body)[0] == 404
    with ThreadPoolExecutor(10) as executor:
        with postgres.locked("pool", "experiments"):
            held = [executor.submit(answer, server, *experiment(f"loop {n}")) for n in range(SIZE)]
            waiting(postgres, "pool", SIZE)
            begin = time.monotonic()
            status, headers, _ = answer(server, path, body)
            assert (status, "retry-after" in headers) == (503, True)
            assert answer(server, "/health")[0] == 200
            assert time.monotonic() - begin < 1.5
        assert [one.result()[0] for one in held] == [200] * SIZE


GATE = """
import json, threading, time
from mlflow_gcp_server.pool import Gate

gate, order = Gate(1), []

def go(name, **how):
    turn = gate.enter(30, **how)
    again = gate.enter(0)  # a second session within the first
    order.append(name)
    gate.leave(again)
    gate.leave(turn)

mine = gate.enter(0)
threads = []
for name, how in (("a", {}), ("b", {}), ("c", {}), ("loop", {"first": True})):
    threads.append(threading.Thread(target=go, args=(name,), kwargs=how))
    threads[-1].start()
    while len(gate._queue) < len(threads):
        time.sleep(0.001)
refused = []
def late():
    try:
        gate.enter(0.01)
    except TimeoutError:
        refused.append("late")
threads.append(threading.Thread(target=late))
threads[-1].start()
threads[-1].join()
gate.leave(mine)
for thread in threads:
    thread.join()
print(json.dumps([order, refused, gate.deepest, len(gate._inside), len(gate._queue)]))
"""


def test_threads_are_admitted_in_the_order_of_arrival():
    """The event loop has priority; an admitted thread gets its second connection at once; threads that gave up are skipped."""
    output = subprocess.run([PYTHON, "-c", GATE], check=True, capture_output=True, text=True, timeout=60).stdout
    assert json.loads(output) == [["loop", "a", "b", "c"], ["late"], 2, 0, 0]


def test_a_repeated_batch_is_stored_once(server):
    """As by a client that lost the response to a batch that was stored."""
    made = json.loads(answer(server, "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})[2])
    run = made["run"]["info"]["run_id"]
    metrics = [{"key": "loss", "value": value, "timestamp": 7, "step": value} for value in range(3)]
    body = {
        "run_id": run,
        "metrics": metrics,
        "params": [{"key": "a", "value": "1"}],
        "tags": [{"key": "b", "value": "2"}],
    }
    for _ in range(2):
        assert answer(server, "/api/2.0/mlflow/runs/log-batch", body)[0] == 200
    history = json.loads(answer(server, f"/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss")[2])
    assert [metric["value"] for metric in history["metrics"]] == [0, 1, 2]


def test_an_unresponsive_peer_is_given_up(server, postgres):
    """Linux probes the server's connections to the database: their timers expire within five idle seconds."""
    answer(server, "/api/2.0/mlflow/experiments/get?experiment_id=0")
    timers = [
        fields[5].split(":")
        for fields in (
            line.split() for line in Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]
        )
        if fields[2] == f"0100007F:{postgres.port:04X}" and fields[3] == "01"
    ]
    assert timers
    for kind, ticks in timers:
        assert (kind, int(ticks, 16) <= 5 * os.sysconf("SC_CLK_TCK")) == ("02", True)


def test_a_lost_database_is_503_and_back_within_seconds(own, tmp_path):
    with serving(start(own, "postgres", tmp_path, **POOL)) as server:
        assert answer(server, "/ready")[0] == 200
        own.kill()
        begin = time.monotonic()
        status, headers, body = answer(server, *experiment("lost"))
        assert (status, json.loads(body)["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert int(headers["retry-after"]) >= 1
        assert time.monotonic() - begin < 15
        status, _, body = answer(server, "/ready")
        assert (status, json.loads(body)) == (503, {"ready": False, "reason": "the database cannot be used"})
        assert answer(server, "/health")[0] == 200
        with ThreadPoolExecutor(1) as executor:
            asked = executor.submit(answer, server, *experiment("waits"))
            own.start()
            assert asked.result()[0] == 200
        give_up = time.monotonic() + 5
        while answer(server, "/ready")[0] != 200:
            assert time.monotonic() < give_up
        assert re.search(r"not ready: .*\n(.*\n)*.*ready again", server.log.read_text())


@pytest.mark.parametrize(
    "end_it",
    [
        pytest.param(Postgres.kill, id="kill -9", marks=pytest.mark.long),
        pytest.param(lambda own: own.stop("fast"), id="restart", marks=pytest.mark.long),
    ],
)
def test_a_database_restart_while_clients_log_loses_nothing(own, tmp_path, end_it):
    with (
        serving(start(own, "postgres", tmp_path, **POOL)) as server,
        Clients(server, "12", "40", "batch") as clients,
    ):
        stored = "SELECT count(*) FROM metrics"
        for more in (2000, 5000):
            give_up = time.monotonic() + 60
            while int(own.sql(stored)) < more:
                assert time.monotonic() < give_up and clients.process.poll() is None
                time.sleep(0.05)
            end_it(own)
            own.start()
        result = clients.result()
    assert (result["calls"], result["failed"], result["lost"], result["doubled"]) == (480, 0, 0, 0), result
    assert result["slowest"] < 30, result


def test_a_pool_of_one_is_refused(postgres, tmp_path):
    one = {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "1", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "0"}
    status, message = end(start(postgres, "postgres", tmp_path, **one))
    assert (status, "MLflow needs at least 2" in message) == (2, True)


def test_an_incompatible_mlflow_does_not_start(postgres, tmp_path):
    code = (
        "import mlflow.store.db.utils as utils; utils.create_sqlalchemy_engine = lambda uri, options: None\n"
        "from mlflow_gcp_server import __main__; __main__.main([])"
    )
    status, message = end(start(postgres, "postgres", tmp_path, code=code))
    assert status == 1
    assert (
        "mlflow.store.db.utils.create_sqlalchemy_engine of this version of MLflow takes ('uri', 'options')" in message
    )
