"""One client of bench/artifacts.py: sends a file and fetches it again. Run with the image's python.

Usage: artifact_client.py server EXPERIMENT_ID FILE | artifact_client.py storage gs://BUCKET/PREFIX FILE.
The stock client either way: through the tracking server, or writing to Cloud Storage itself.  Prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import mlflow
from mlflow.store.artifact.gcs_artifact_repo import GCSArtifactRepository


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(way: str, where: str, file: Path) -> dict[str, object]:
    """Seconds up and down, and whether the same bytes came back."""
    folder = Path(tempfile.mkdtemp(dir=file.parent))
    try:
        if way == "server":
            client = mlflow.MlflowClient()
            run = client.create_run(where)
            begin = time.monotonic()
            client.log_artifact(run.info.run_id, str(file), "model")
            middle = time.monotonic()
            copy = client.download_artifacts(run.info.run_id, f"model/{file.name}", str(folder))
        else:
            repository = GCSArtifactRepository(f"{where}/{time.time_ns()}")
            begin = time.monotonic()
            repository.log_artifact(str(file), "model")
            middle = time.monotonic()
            copy = repository.download_artifacts(f"model/{file.name}", str(folder))
        end = time.monotonic()
        return {"up": middle - begin, "down": end - middle, "same": digest(Path(copy)) == digest(file)}
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
