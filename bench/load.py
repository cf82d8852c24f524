"""Concurrent clients that log through the load balancer of a deployment of the default size; prints a table.

Usage: load.py CLIENTS ….  Each client is one training job with MLflow's own client: a run, 1,000 metrics in 10 batches, 3
small files; then everything is read back. Exits with 1 if a call finally fails or anything is missing.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import IMAGE_PYTHON, Cloud, local_cloud  # noqa: E402
from tests.e2e.test_mlflow_client import token  # noqa: E402

URL = "https://mlflow.example.com"
THREADS = 50  # clients per process


class Watch(threading.Thread):
    """The peak numbers of instances and database connections."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.instances = self.connections = 0
        self._sandbox = psutil.Process(pid)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.5):
            instances = connections = 0
            for process in self._sandbox.children(recursive=True):
                try:
                    words = " ".join(process.cmdline())
                except psutil.Error:
                    continue
                instances += "-m mlflow_gcp_server" in words
                connections += words.startswith("postgres: mlflow mlflow ")
            self.instances = max(self.instances, instances)
            self.connections = max(self.connections, connections)

    def stop(self) -> None:
        self._over.set()
        self.join()


def measure(cloud: Cloud, clients: int, experiment: str, env: dict[str, str]) -> bool:
    """Print the table's row for this number of clients; returns whether nothing failed and nothing is missing."""
    watch = Watch(json.loads((cloud.state / "run.json").read_text())["pid"])
    watch.start()
    sizes = [min(THREADS, clients - begin) for begin in range(0, clients, THREADS)]
    program = str(Path(__file__).with_name("load_client.py"))
    started = [
        subprocess.Popen(
            [IMAGE_PYTHON, program, experiment, str(number), str(size)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, size in enumerate(sizes)
    ]
    outputs = [process.communicate() for process in started]
    watch.stop()
    for process, (_, errors) in zip(started, outputs, strict=True):
        if process.returncode:
            sys.exit(f"a client process exited with status {process.returncode}:\n{errors[-3000:]}")
    results: list[dict[str, Any]] = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    seconds = sorted(value for result in results for value in result["seconds"])
    wall = max(result["end"] for result in results) - min(result["begin"] for result in results)
    failed = sum(sum(result["failed"].values()) for result in results)
    lost = [text for result in results for text in result["lost"]]
    print(
        f"{clients:7} {watch.instances:9} {len(seconds):6} {len(seconds) / wall:7.1f} {statistics.median(seconds):6.2f} "
        f"{seconds[int(len(seconds) * 0.99)]:6.2f} {seconds[-1]:6.2f} {failed:6} {len(lost):9} {watch.connections:11}",
        flush=True,
    )
    for result in results:
        for text, count in result["failed"].items():
            print(f"    {count} x {text}")
    for text in lost[:10]:
        print(f"    {text}")
    return not failed and not lost


def main(counts: list[int]) -> int:
    with local_cloud() as cloud:
        play = cloud.playbook("site.yml")
        if play.status:
            sys.exit(play.output)
        env = cloud.env | {
            "MLFLOW_TRACKING_URI": URL,
            "MLFLOW_TRACKING_TOKEN": token(cloud, f"mlflow-logger@{cloud.env['GCP_PROJECT']}.iam.gserviceaccount.com"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        print("clients instances  calls calls/s  p50 s  p99 s  max s failed incomplete connections")
        good = True
        for number in counts:
            create = "import mlflow, sys; print(mlflow.MlflowClient().create_experiment(sys.argv[1]))"
            name = f"load-{number}-{time.time_ns()}"
            made = subprocess.run(
                [IMAGE_PYTHON, "-c", create, name], env=env, capture_output=True, text=True, check=True
            )
            good &= measure(cloud, number, made.stdout.split()[-1], env)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]] or [12, 50, 500]))
