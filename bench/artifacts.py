"""Artifact transfers through the load balancer compared with Cloud Storage directly: seconds, ratio, and server memory.

Usage: artifacts.py [MEBIBYTES …].  Exits with 1 if a transfer fails, bytes differ, or a target is missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import IMAGE_PYTHON, Cloud, local_cloud  # noqa: E402
from tests.e2e.test_mlflow_client import token  # noqa: E402

URL = "https://mlflow.example.com"
AT_ONCE = 8
SHARE = 0.8  # of the speed of direct access, for the largest file
GROWTH = 64.0  # MiB above the idle server


class Server:
    """The only instance of the deployed server, and its peak memory."""

    def __init__(self, pid: int) -> None:
        self._sandbox = psutil.Process(pid)
        self._over = threading.Event()
        self.peak = 0.0

    def memory(self) -> float:
        """MiB of the server's processes and of the files in its /tmp."""
        total = 0
        for process in self._sandbox.children(recursive=True):
            try:
                if "-m mlflow_gcp_server" in " ".join(process.cmdline()):
                    total += process.memory_full_info().pss
                    folder = Path(process.environ().get("TMPDIR", "/nowhere"))
                    total += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            except (psutil.Error, OSError):
                continue
        return total / 2**20

    def watch(self) -> None:
        """Track the peak until unwatch()."""
        self._over.clear()
        self.peak = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.peak = max(self.peak, self.memory())

    def unwatch(self) -> float:
        """The peak in MiB since watch()."""
        self._over.set()
        self._thread.join()
        return self.peak


def transfer(env: dict[str, str], count: int, *words: str) -> list[dict[str, float]]:
    """The results of this number of concurrent clients."""
    program = str(Path(__file__).with_name("artifact_client.py"))
    started = [
        subprocess.Popen(
            [IMAGE_PYTHON, program, *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    results = []
    for process in started:
        output, errors = process.communicate()
        if process.returncode:
            sys.exit(f"a client exited with status {process.returncode}:\n{errors[-3000:]}")
        results.append(json.loads(output.splitlines()[-1]))
        if not results[-1]["same"]:
            sys.exit(f"{' '.join(words)}: the downloaded bytes differ")
    return results


def measure(cloud: Cloud, sizes: list[int], folder: Path) -> int:
    project = cloud.env["GCP_PROJECT"]
    env = cloud.env | {
        "MLFLOW_TRACKING_URI": URL,
        "MLFLOW_TRACKING_TOKEN": token(cloud, f"mlflow-logger@{project}.iam.gserviceaccount.com"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GOOGLE_APPLICATION_CREDENTIALS": cloud.env["GCP_SERVICE_ACCOUNT_FILE"],
    }
    create = "import mlflow; print(mlflow.MlflowClient().create_experiment('artifacts'))"
    made = subprocess.run([IMAGE_PYTHON, "-c", create], env=env, capture_output=True, text=True, check=True)
    experiment = made.stdout.split()[-1]
    bucket = f"gs://{project}-direct-{time.time_ns()}"
    cloud.call("POST", f"storage.googleapis.com/storage/v1/b?project={project}", {"name": bucket.removeprefix("gs://")})
    server = Server(json.loads((cloud.state / "run.json").read_text())["pid"])
    small = folder / "warm.bin"
    small.write_bytes(b"x" * 1024)
    transfer(env, 1, "server", experiment, str(small))
    idle = server.memory()
    missed = 0
    print(f"idle server: {idle:.0f} MiB")
    print(
        "   MiB clients     up s direct s ratio    down s direct s ratio    down s ranges s ratio  memory above idle, MiB"
    )
    for size, count in [*((size, 1) for size in sizes), (max(sizes), AT_ONCE)]:
        file = folder / f"{size}.bin"
        if not file.exists():
            with file.open("wb") as stream:
                for _ in range(size):
                    stream.write(os.urandom(2**20))
        direct = transfer(env, count, "storage", bucket, str(file))
        server.watch()
        through = transfer(env, count, "server", experiment, str(file))
        above = server.unwatch() - idle
        figures = []
        for key, base in (("up", "up"), ("down", "down"), ("down", "ranges")):
            ours, theirs = (max(result[k] for result in results) for results, k in ((through, key), (direct, base)))
            figures.append(f"{ours:8.1f} {theirs:8.1f} {theirs / ours:5.2f}")
            missed += size == max(sizes) and count == 1 and base != "down" and theirs / ours < SHARE
        missed += above > GROWTH
        print(f"{size:6} {count:7} {'  '.join(figures)}  {above:5.0f}", flush=True)
    print(
        "direct: MLflow's client with Cloud Storage itself; ranges: with a signed URL, as for files of 500 MiB and more"
    )
    print(f"targets: up, and down in ranges, at least {SHARE:g} for the largest file with one client; {GROWTH:g} MiB")
    return 1 if missed else 0


def main(sizes: list[int]) -> int:
    with local_cloud() as cloud, tempfile.TemporaryDirectory(prefix="mlflow-artifacts-") as folder:
        play = cloud.playbook("site.yml")
        if play.status:
            sys.exit(play.output)
        return measure(cloud, sizes, Path(folder))


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]] or [33, 200, 1024]))
