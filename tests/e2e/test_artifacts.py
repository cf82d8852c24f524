"""Artifacts of any size with MLflow's own client through the load balancer, with constant server memory."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from .conftest import IMAGE_PYTHON, LOGGER, PROJECT, URL, Cloud
from .test_mlflow_client import token

MIB = 2**20
GROWTH = 64 * MIB


@pytest.fixture(scope="module")
def bearer(cloud, deployed) -> str:
    return token(cloud, LOGGER)


@pytest.fixture
def client(cloud, bearer):
    """``client("file", "33")``: the output of a step of artifact_client.py."""

    def run(*words: str, **env: str) -> Any:
        env = (
            cloud.env
            | {"MLFLOW_TRACKING_URI": URL, "MLFLOW_TRACKING_TOKEN": bearer, "MLFLOW_DISABLE_TELEMETRY": "true"}
            | env
        )
        command = [IMAGE_PYTHON, Path(__file__).with_name("artifact_client.py"), *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


def used(cloud: Cloud) -> int:
    """Bytes of the server's processes and of the files in its /tmp."""
    total = 0
    for process in psutil.Process(json.loads((cloud.state / "run.json").read_text())["pid"]).children(recursive=True):
        try:
            if "-m mlflow_gcp_server" in " ".join(process.cmdline()):
                total += process.memory_full_info().pss
                folder = Path(process.environ()["TMPDIR"])
                total += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        except (psutil.Error, OSError):
            continue
    return total


@pytest.fixture
def memory(cloud, client) -> Iterator[None]:
    """Fails the test if the server's memory grows much."""
    client("file", "1")  # so that a server is running, and everything is loaded
    idle, peak, over = used(cloud), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.1):
            peak = max(peak, used(cloud))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert peak > idle / 2 > 0, "nothing was measured"
    assert peak - idle <= GROWTH, f"{(peak - idle) / MIB:.0f} MiB above {idle / MIB:.0f} MiB"


def test_a_file_of_more_than_32_mib(client, memory):
    result = client("file", "40")
    assert result["sent"] == result["came"]


def test_eight_files_at_once(client, memory):
    results = client("many", "8", "40")
    assert len(results) == 8 and all(result["sent"] == result["came"] for result in results)


def test_a_direct_multipart_upload(client, cloud, memory):
    """From 500 MiB on; here the client's setting lowers the limit."""
    sizes = {"MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "10000000", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true"}
    result = client("file", "120", **sizes)
    assert result["sent"] == result["came"]
    found = cloud.call("GET", f"storage.googleapis.com/storage/v1/b/{PROJECT}-mlflow-artifacts/o")["items"]
    (stored,) = [entry for entry in found if result["run"] in entry["name"]]
    assert "md5Hash" not in stored  # Cloud Storage has no MD5 of a multipart upload


def test_direct_transfers_are_offered_for_large_files(cloud, bearer):
    answer = cloud.http("GET", f"{URL}/api/3.0/mlflow/server-info", headers={"Authorization": f"Bearer {bearer}"})
    assert {"multipart_uploads_enabled": True, "multipart_downloads_enabled": True}.items() <= answer.json().items()


def test_a_model_of_more_than_32_mib(client):
    assert client("model", "40") == {"same": True}


@pytest.mark.long
def test_a_folder_of_many_files(client):
    assert client("tree", "300") == {"listed": 300, "same": True}


def test_a_trace_of_more_than_32_mib(client):
    result = client("trace", "36")
    assert result["inputs"] == {"root": 0} | {f"child-{number}": result["size"] for number in range(4)}


@pytest.fixture(scope="module")
def stored(cloud, bearer) -> tuple[str, bytes]:
    """A run's ID, and the content of its file data.bin."""
    content = hashlib.shake_256(b"data").digest(3 * MIB)
    headers = {"Authorization": f"Bearer {bearer}"}
    body = {"experiment_id": "0"}
    run = cloud.http("POST", f"{URL}/api/2.0/mlflow/runs/create", json=body, headers=headers).json()["run"]["info"]
    path = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    url = f"{URL}/api/2.0/mlflow-artifacts/artifacts/{path}/data.bin"
    assert cloud.http("PUT", url, data=content, headers=headers).status_code == 200
    return run["run_id"], content


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        (None, 200, 0, 3 * MIB),
        ("bytes=0-9", 206, 0, 10),
        ("bytes=1048570-1048590", 206, 1048570, 1048591),
        ("bytes=-5", 206, 3 * MIB - 5, 3 * MIB),
        ("bytes=3145727-", 206, 3 * MIB - 1, 3 * MIB),
        ("bytes=9999999-", 416, 0, 0),
        ("bytes=0-1,5-6", 200, 0, 3 * MIB),
    ],
)
@pytest.mark.parametrize("way", ["get-artifact", "artifacts"])
def test_downloads_of_the_page_and_of_ranges(cloud, bearer, stored, way, asked, status, start, stop):
    run, content = stored
    url = f"{URL}/get-artifact?path=data.bin&run_uuid={run}"
    if way == "artifacts":
        url = f"{URL}/ajax-api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/data.bin"
    headers = {"Authorization": f"Bearer {bearer}"} | ({"Range": asked} if asked else {})
    answer = cloud.http("GET", url, headers=headers)
    assert (answer.status_code, answer.content) == (status, content[start:stop])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=data.bin")
    if status == 206:
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(content)}"
    again = cloud.http("GET", url, headers=headers | {"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = cloud.http("HEAD", url, headers={"Authorization": f"Bearer {bearer}"})
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))


def test_missing_resources_are_not_found(cloud, bearer, stored):
    run, _ = stored
    headers = {"Authorization": f"Bearer {bearer}"}
    for url in (
        f"get-artifact?path=no.bin&run_uuid={run}",
        f"api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/no.bin",
    ):
        answer = cloud.http("GET", f"{URL}/{url}", headers=headers)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    answer = cloud.http("GET", f"{URL}/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts", headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
