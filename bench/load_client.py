"""One process of bench/load.py: concurrent clients that log and read everything back. Run with the image's Python.

Usage: load_client.py EXPERIMENT_ID PROCESS CLIENTS.  Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag

BATCHES, KEYS, STEPS, FILES = 10, 10, 10, 3


class Clients:
    """The given number of clients, each a training job with its own run."""

    def __init__(self, experiment: str, process: int, count: int) -> None:
        self.experiment, self.process, self.count = experiment, process, count
        self.client = mlflow.MlflowClient()
        self.seconds: list[float] = []
        self.failed: Counter[str] = Counter()
        self.lost: list[str] = []

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Make one call of the client and record its seconds; None if it fails."""
        begin = time.monotonic()
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self.failed[f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"] += 1
            return None
        finally:
            self.seconds.append(time.monotonic() - begin)

    def log(self, number: int) -> str | None:
        """Log 1,000 metrics in 10 batches with a parameter and a tag each, and 3 small files; returns the run's ID."""
        run = self.call(self.client.create_run, self.experiment, run_name=f"job-{self.process}-{number}")
        if run is None:
            return None
        run_id: str = run.info.run_id
        for batch in range(BATCHES):
            now = int(time.time() * 1000)
            metrics = [
                Metric(f"m{key}", batch + key / 100, now, batch * STEPS + step)
                for key in range(KEYS)
                for step in range(STEPS)
            ]
            params, tags = [Param(f"p{batch}", str(batch))], [RunTag(f"t{batch}", str(batch))]
            self.call(self.client.log_batch, run_id, metrics=metrics, params=params, tags=tags)
        with tempfile.TemporaryDirectory() as folder:
            for number in range(FILES):
                file = Path(folder, f"file-{number}.txt")
                file.write_text(f"{run_id} {number}")
                self.call(self.client.log_artifact, run_id, str(file), "out")
        self.call(self.client.set_terminated, run_id)
        return run_id

    def check(self, run_id: str | None) -> None:
        """Read the run back; missing parts are recorded in `lost`."""
        if run_id is None:
            self.lost.append("a run that was not made")
            return
        run = self.client.get_run(run_id)
        found = {
            "status": run.info.status,
            "points": sum(len(self.client.get_metric_history(run_id, f"m{key}")) for key in range(KEYS)),
            "params": len(run.data.params),
            "tags": sum(name.startswith("t") for name in run.data.tags),
            "files": len(self.client.list_artifacts(run_id, "out")),
        }
        wanted = {
            "status": "FINISHED",
            "points": BATCHES * KEYS * STEPS,
            "params": BATCHES,
            "tags": BATCHES,
            "files": FILES,
        }
        if found != wanted:
            self.lost.append(f"run {run_id}: {found}")

    def run(self) -> dict[str, Any]:
        """Log with all clients at once, then read everything back."""
        begin = time.time()
        with ThreadPoolExecutor(self.count) as pool:
            runs = list(pool.map(self.log, range(self.count)))
        end = time.time()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.check, runs))
        return {
            "begin": begin,
            "end": end,
            "seconds": self.seconds,
            "failed": self.failed,
            "lost": self.lost,
        }


if __name__ == "__main__":
    print(json.dumps(Clients(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).run()))
