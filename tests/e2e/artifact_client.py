"""Steps of MLflow's own client with artifacts; prints one JSON object. Run with the image's Python.

Usage: artifact_client.py STEP [ARGUMENT …]. MLFLOW_TRACKING_URI, MLFLOW_TRACKING_TOKEN and proxy variables select the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

MIB = 2**20
client = mlflow.MlflowClient()


def new_run() -> str:
    """A run of the experiment that all steps share."""
    mlflow.set_experiment("artifacts")
    found = client.get_experiment_by_name("artifacts")
    assert found
    return client.create_run(found.experiment_id).info.run_id


def random_file(path: Path, mebibytes: int) -> str:
    """Fill a file; returns the SHA-256 of its contents."""
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for _ in range(mebibytes):
            block = os.urandom(MIB)
            digest.update(block)
            stream.write(block)
    return digest.hexdigest()


def sha256(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file(folder: Path, mebibytes: str) -> Any:
    """Log a file and download it again."""
    run, source = new_run(), folder / "weights.bin"
    sent = random_file(source, int(mebibytes))
    client.log_artifact(run, str(source), "model")
    copy = client.download_artifacts(run, "model/weights.bin", str(folder))
    return {"run": run, "sent": sent, "came": sha256(copy)}


def many(folder: Path, count: str, mebibytes: str) -> Any:
    """Log and download files concurrently."""
    sizes = [(Path(tempfile.mkdtemp(dir=folder)), mebibytes) for _ in range(int(count))]
    with ThreadPoolExecutor(int(count)) as pool:
        return list(pool.map(lambda pair: file(*pair), sizes))


def tree(folder: Path, count: str) -> Any:
    """Log a folder of small files, list it and download it again."""
    run, source = new_run(), folder / "many"
    for number in range(int(count)):
        path = source / f"part-{number % 10}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    with ThreadPoolExecutor(16) as pool:
        parts = sorted(source.iterdir())
        list(pool.map(lambda part: client.log_artifacts(run, str(part), f"many/{part.name}"), parts))
    listed = sum(len(client.list_artifacts(run, f"many/part-{number}")) for number in range(10))
    copy = Path(client.download_artifacts(run, "many", str(folder / "back")))
    came = sorted(int(path.read_text()) for path in copy.rglob("*.txt"))
    return {"listed": listed, "same": came == list(range(int(count)))}


class Weights(mlflow.pyfunc.PythonModel):
    """A model with one file."""

    def load_context(self, context: Any) -> None:
        self.sum = int(np.fromfile(context.artifacts["weights"], dtype=np.uint8).sum())

    def predict(self, context: Any, model_input: list[str], params: Any = None) -> list[str]:
        return [f"{text} {self.sum}" for text in model_input]


def model(folder: Path, mebibytes: str) -> Any:
    """Log a model, register it and load it by name with an empty cache."""
    source = folder / "weights.bin"
    random_file(source, int(mebibytes))
    wanted = int(np.fromfile(source, dtype=np.uint8).sum())
    mlflow.set_experiment("artifacts")
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="weights", python_model=Weights(), artifacts={"weights": str(source)}, registered_model_name="weights"
        )
    source.unlink()
    loaded = mlflow.pyfunc.load_model("models:/weights/1")
    return {"same": loaded.predict(["sum"]) == [f"sum {wanted}"]}


def trace(_: Path, mebibytes: str) -> Any:
    """Log a trace with spans of the given size and read it back."""
    mlflow.set_experiment("artifacts")
    size = int(mebibytes) * MIB // 4
    with mlflow.start_span("root") as root:
        for number in range(4):
            with mlflow.start_span(f"child-{number}") as span:
                span.set_inputs({"text": chr(97 + number) * size})
    mlflow.flush_trace_async_logging()
    found = client.get_trace(root.trace_id)
    inputs = {span.name: len((span.inputs or {}).get("text", "")) for span in found.data.spans}
    return {"inputs": inputs, "size": size}


STEPS: dict[str, Callable[..., Any]] = {step.__name__: step for step in (file, many, tree, model, trace)}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(STEPS[sys.argv[1]](Path(scratch), *sys.argv[2:])))
