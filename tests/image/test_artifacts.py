"""Artifacts through the image's server, with MLflow's own client and the sandbox's Cloud Storage."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psutil
import pytest
import requests

from tests.conftest import PROJECT, Cloud

from .conftest import ROOT, Postgres
from .test_server import PYTHON, Server, start

MIB = 2**20
# Larger than Cloud Run accepts over HTTP/1.
LARGE = 33 * MIB
GROWTH = 64 * MIB
SECONDS = 30
BUCKET = f"{PROJECT}-artifacts-of-the-image"


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Repeat the check until it succeeds."""
    give_up = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < give_up, f"not within {SECONDS} s: {what}"
        time.sleep(0.05)


class Memory:
    """The maximum growth of a server's memory and its /tmp."""

    def __init__(self, process: int, tmp: Path) -> None:
        self._process = psutil.Process(process)
        self._tmp = tmp
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def now(self) -> int:
        """Bytes."""
        files = sum(file.stat().st_size for file in self._tmp.rglob("*") if file.is_file())
        return self._process.memory_info().rss + files

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self._most = max(self._most, self.now())

    def __enter__(self) -> Memory:
        self._idle = self._most = self.now()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.grown = self._most - self._idle


@dataclass
class Tracking:
    """A running server with a bucket, and helpers for its clients."""

    server: Server
    tmp: Path
    cloud: Cloud
    experiment: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def client(self, code: str, *arguments: str, **env: str) -> str:
        """Run a program with MLflow's own client; returns its output."""
        done = subprocess.run(
            [
                PYTHON,
                "-c",
                f"import hashlib, os, sys\nimport mlflow\nclient = mlflow.MlflowClient()\n{code}",
                *arguments,
            ],
            env=self.cloud.env | {"MLFLOW_TRACKING_URI": self.url, "MLFLOW_DISABLE_TELEMETRY": "true"} | env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def run(self) -> str:
        """The ID of a new run."""
        return self.call("POST", "runs/create", experiment_id=self.experiment)["run"]["info"]["run_id"]

    def call(self, method: str, what: str, **body: object) -> dict:
        answer = requests.request(method, f"{self.url}/api/2.0/mlflow/{what}", json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def file(self, path: str) -> str:
        """The URL of an artifact, from its path in the bucket."""
        return f"{self.url}/api/2.0/mlflow-artifacts/artifacts/{quote(path)}"

    def stored(self, prefix: str) -> list[str]:
        """The names of the objects in the bucket."""
        url = f"storage.googleapis.com/storage/v1/b/{BUCKET}/o?{urlencode({'prefix': prefix})}"
        return [item["name"] for item in self.cloud.call("GET", url).get("items", [])]

    def memory(self) -> Memory:
        return Memory(self.server.process.pid, self.tmp)


@pytest.fixture(scope="module")
def tracking(cloud: Cloud, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services/storage.googleapis.com:enable")
    bucket = {
        "name": BUCKET,
        "location": "europe-west2",
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
    }
    cloud.call("POST", f"storage.googleapis.com/storage/v1/b?project={PROJECT}", bucket)
    postgres.sql("CREATE DATABASE artifacts")
    folder = tmp_path_factory.mktemp("artifacts")
    tmp = folder / "tmp"
    tmp.mkdir()
    names = ("HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
    env = {name: cloud.env[name] for name in names if name in cloud.env}
    env["GOOGLE_APPLICATION_CREDENTIALS"] = cloud.env["GCP_SERVICE_ACCOUNT_FILE"]
    # The image's settings of the allocator.
    env |= dict(re.findall(r"(MALLOC_\w+)=(\S+)", (ROOT / "image" / "Containerfile").read_text()))
    server = start(postgres, "artifacts", folder, MLFLOW_ARTIFACTS_BUCKET=BUCKET, TMPDIR=str(tmp), **env)
    try:
        server.wait_until_ready()
        body = {"name": "artifacts"}
        experiment = json.loads(server.request("/api/2.0/mlflow/experiments/create", body))["experiment_id"]
        tracking = Tracking(server, tmp, cloud, experiment)
        # MLflow's imports for the first artifact do not count as memory of a transfer.
        requests.put(tracking.file("first.txt"), b"x", timeout=60).raise_for_status()
        assert requests.get(tracking.file("first.txt"), timeout=60).content == b"x"
        yield tracking
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def large(tracking: Tracking) -> tuple[str, bytes]:
    """An artifact of a run (its path in the bucket), and its bytes."""
    data = os.urandom(LARGE)
    path = f"{tracking.experiment}/{tracking.run()}/artifacts/large.bin"
    requests.put(tracking.file(path), data, timeout=60).raise_for_status()
    return path, data


UP_AND_DOWN = """
run, path = sys.argv[1:]
client.log_artifact(run, path, "model")
copy = client.download_artifacts(run, "model/" + os.path.basename(path), os.environ["COPY"])
print(hashlib.file_digest(open(copy, "rb"), "sha256").hexdigest())
"""


@pytest.mark.long
def test_eight_large_files_at_once_come_back_in_little_memory(tracking, tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(os.urandom(LARGE))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    def one(number: int) -> str:
        copy = tmp_path / str(number)
        copy.mkdir()
        return tracking.client(UP_AND_DOWN, tracking.run(), str(file), COPY=str(copy)).split()[-1]

    with tracking.memory() as memory, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(8))) == {digest}
    assert memory.grown < GROWTH, f"{memory.grown / MIB:.0f} MiB"


@pytest.mark.long
def test_large_files_go_directly_once_urls_can_be_signed(tracking, tmp_path):
    eventually(lambda: info(tracking)["multipart_uploads_enabled"], "signed URLs are offered")
    assert info(tracking)["multipart_downloads_enabled"]
    file = tmp_path / "weights of a model.bin"
    file.write_bytes(os.urandom(101 * MIB))
    least = {"MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(32 * MIB)}
    run = tracking.run()
    process = psutil.Process(tracking.server.process.pid)
    before = process.io_counters().read_chars
    digest = tracking.client(UP_AND_DOWN, run, str(file), COPY=str(tmp_path), **least).split()[-1]
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert process.io_counters().read_chars - before < 10 * MIB, "the bytes went through the server"


def test_a_missing_multipart_upload_is_reported_as_missing(tracking):
    eventually(lambda: info(tracking)["multipart_uploads_enabled"], "signed URLs are offered")
    path = quote(f"{tracking.experiment}/{tracking.run()}/artifacts")

    def parts(what: str, **body: object) -> requests.Response:
        url = f"{tracking.url}/api/2.0/mlflow-artifacts/mpu/{what}/{path}"
        return requests.post(url, json={"path": "model.bin", **body}, timeout=30)

    begun = parts("create", num_parts=1).json()
    assert parts("abort", upload_id=begun["upload_id"]).ok
    answer = parts("complete", upload_id=begun["upload_id"], parts=[{"part_number": 1, "etag": "of-no-part"}])
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_folder_of_many_files(tracking, tmp_path):
    code = """
run, folder = sys.argv[1:]
for number in range(90):
    os.makedirs(f"{folder}/in/{number % 3}", exist_ok=True)
    with open(f"{folder}/in/{number % 3}/{number}.txt", "w") as file:
        file.write(str(number))
client.log_artifacts(run, folder + "/in", "many")
copy = client.download_artifacts(run, "many", folder)
for number in range(90):
    assert open(f"{copy}/{number % 3}/{number}.txt").read() == str(number)
print(*(f.path for f in client.list_artifacts(run, "many")), *(f.file_size for f in client.list_artifacts(run, "many/1")[:2]))
"""
    assert tracking.client(code, tracking.run(), str(tmp_path)).split() == ["many/0", "many/1", "many/2", "1", "2"]


def test_a_folder_is_deleted_and_not_its_neighbour(tracking):
    folder = f"{tracking.experiment}/{tracking.run()}/artifacts"
    for name in ("model/1.bin", "model/deep/2.bin", "models.txt"):
        requests.put(tracking.file(f"{folder}/{name}"), b"x", timeout=60).raise_for_status()
    requests.delete(tracking.file(f"{folder}/model"), timeout=60).raise_for_status()
    assert tracking.stored(folder) == [f"{folder}/models.txt"]


@pytest.fixture(scope="module")
def ways(tracking: Tracking, large: tuple[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All URLs for downloading one file from the server, with the file's bytes for each."""
    path, data = large
    _, run, _, name = path.split("/")
    code = """
run, data = sys.argv[1:]
source = f"mlflow-artifacts:/{client.get_run(run).info.experiment_id}/{run}/artifacts"
client.create_registered_model("large")
client.create_model_version("large", source, run)
model = client.create_logged_model(client.get_run(run).info.experiment_id, "large")
os.rename(data, os.path.join(os.path.dirname(data), "large.bin"))
client.log_model_artifact(model.model_id, os.path.join(os.path.dirname(data), "large.bin"))
with mlflow.start_span("s") as span:
    pass
print(model.model_id)
"""
    file = tmp_path_factory.mktemp("ways") / "data"
    file.write_bytes(data)
    model = tracking.client(code, run, str(file), MLFLOW_EXPERIMENT_ID=tracking.experiment).split()[-1]
    return {
        "api": tracking.file(path),
        "ajax-api": tracking.file(path).replace("/api/", "/ajax-api/"),
        "get-artifact": f"{tracking.url}/get-artifact?{urlencode({'path': name, 'run_uuid': run})}",
        "model version": f"{tracking.url}/model-versions/get-artifact?{urlencode({'path': name, 'name': 'large', 'version': 1})}",
        "logged model": f"{tracking.url}/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files?artifact_file_path={name}",
    }


WAYS = ("api", "ajax-api", "get-artifact", "model version", "logged model")


@pytest.mark.parametrize("way", WAYS)
def test_a_download_and_its_headers(tracking, large, ways, way):
    with tracking.memory() as memory:
        answer = requests.get(ways[way], timeout=60)
    assert answer.content == large[1]
    assert answer.headers["Content-Length"] == str(LARGE)
    assert answer.headers["Content-Type"].startswith("application/octet-stream")
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=large.bin")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert memory.grown < GROWTH / 2, f"{memory.grown / MIB:.0f} MiB"


@pytest.mark.parametrize("way", WAYS)
def test_ranges_and_conditions(large, ways, way):
    url, data = ways[way], large[1]

    def get(**headers: str) -> requests.Response:
        return requests.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()}, timeout=60)

    head = requests.head(url, timeout=60)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(LARGE), b"")
    part = get(Range="bytes=1000000-1000999")
    assert (part.status_code, part.content) == (206, data[1000000:1001000])
    assert part.headers["Content-Range"] == f"bytes 1000000-1000999/{LARGE}"
    assert get(Range="bytes=-5").content == data[-5:]
    assert get(Range=f"bytes={LARGE - 3}-").content == data[-3:]
    beyond = get(Range=f"bytes={LARGE}-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{LARGE}")
    assert get(Range="bytes=0-9", If_Range=head.headers["ETag"]).content == data[:10]
    assert get(Range="bytes=0-9", If_Range=head.headers["Last-Modified"]).content == data[:10]
    assert get(Range="bytes=0-9", If_Range='"another"').status_code == 200
    same = get(If_None_Match=head.headers["ETag"])
    assert (same.status_code, same.content) == (304, b"")


def test_paths_that_are_not_files(tracking, large):
    missing = requests.get(tracking.file(large[0] + ".none"), timeout=60)
    assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    folder = requests.get(tracking.file(large[0].rpartition("/")[0]), timeout=60)
    assert (folder.status_code, folder.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def open_download(tracking: Tracking, path: str) -> socket.socket:
    """A client that has sent its request but does not read the response yet."""
    client = socket.create_connection(("127.0.0.1", tracking.server.port), timeout=60)
    client.sendall(
        f"GET /api/2.0/mlflow-artifacts/artifacts/{quote(path)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    )
    return client


def test_slow_readers_hold_neither_memory_nor_threads(tracking, large):
    path, data = large
    with tracking.memory() as memory:
        slow = [open_download(tracking, path) for _ in range(8)]
        for client in slow:
            assert client.recv(12) == b"HTTP/1.1 200"
        assert requests.get(tracking.file(path), timeout=60).content == data
    assert memory.grown < GROWTH, f"{memory.grown / MIB:.0f} MiB"
    for client in slow:
        with client, client.makefile("rb") as answer:
            while answer.readline().strip():
                pass
            assert answer.read(LARGE) == data


def upstream(tracking: Tracking) -> int:
    """The server's open connections to the sandbox's proxy."""
    proxy = int(tracking.cloud.env["HTTPS_PROXY"].rpartition(":")[2])
    found = psutil.Process(tracking.server.process.pid).net_connections("tcp")
    return sum(1 for one in found if one.raddr and one.raddr.port == proxy and one.status == "ESTABLISHED")


def test_a_client_that_leaves_ends_its_download(tracking, large):
    requests.get(tracking.file(large[0]), timeout=60)
    idle = upstream(tracking)
    leaving = [open_download(tracking, large[0]) for _ in range(8)]
    for client in leaving:
        assert client.recv(12) == b"HTTP/1.1 200"
    eventually(lambda: upstream(tracking) >= 8, "each has its own connection")
    for client in leaving:
        client.close()
    eventually(lambda: upstream(tracking) <= idle, "the downloads have ended")


CUT = ["curl", "--silent", "--show-error", "--max-time", "1", "--limit-rate", "5M", "--output", "/dev/null"]


@pytest.mark.parametrize("length", [True, False], ids=["announced", "not announced"])
@pytest.mark.parametrize("protocol", ["--http1.1", "--http2-prior-knowledge"])
def test_an_interrupted_upload_leaves_nothing(tracking, tmp_path, protocol, length):
    file = tmp_path / "cut.bin"
    file.write_bytes(os.urandom(LARGE))
    folder = f"{tracking.experiment}/{tracking.run()}/artifacts"
    before = len(tracking.server.log.read_text())
    with file.open("rb") as body:
        source = str(file) if length else "-"
        done = subprocess.run(
            [*CUT, protocol, "--upload-file", source, tracking.file(f"{folder}/cut.bin")],
            stdin=body,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 28, done.stderr  # out of time
    requests.put(tracking.file(f"{folder}/after.bin"), file.read_bytes(), timeout=60).raise_for_status()
    assert tracking.stored(folder) == [f"{folder}/after.bin"]
    assert "Traceback" not in tracking.server.log.read_text()[before:]


@pytest.mark.parametrize("name", ["a b.txt", "ümläut 日本.txt", "100%.txt", "a+b&c=d;[e]'f'.txt", "~tilde.txt"])
def test_names_come_back(tracking, tmp_path, name):
    (tmp_path / name).write_text("x")
    code = "client.log_artifact(*sys.argv[1:]); print([f.path for f in client.list_artifacts(sys.argv[1])])"
    run = tracking.run()
    assert tracking.client(code, run, str(tmp_path / name)) == f"{[name]}\n"
    assert tracking.stored(f"{tracking.experiment}/{run}/") == [f"{tracking.experiment}/{run}/artifacts/{name}"]


@pytest.mark.parametrize("name", ["q?x#y.txt", "q?1.txt", "per%cent.txt"])
def test_names_that_would_change_are_refused(tracking, tmp_path, name):
    (tmp_path / name).write_text("x")
    code = """
try:
    client.log_artifact(*sys.argv[1:])
except Exception as error:
    print(error)
"""
    run = tracking.run()
    assert "An artifact's name must not contain ?" in tracking.client(code, run, str(tmp_path / name))
    assert tracking.stored(f"{tracking.experiment}/{run}/") == []


def info(tracking: Tracking) -> dict:
    return requests.get(f"{tracking.url}/api/3.0/mlflow/server-info", timeout=60).json()
