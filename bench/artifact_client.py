"""One client of bench/artifacts.py: uploads a file and downloads it again. Run with the image's Python.

Usage: artifact_client.py server EXPERIMENT_ID FILE | artifact_client.py storage gs://BUCKET/PREFIX FILE.
MLflow's own client in both cases: through the tracking server, or directly to Cloud Storage.  Prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import mlflow
from mlflow.entities.presigned_download import PresignedDownloadUrlResponse
from mlflow.environment_variables import MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE
from mlflow.store.artifact.gcs_artifact_repo import GCSArtifactRepository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def in_ranges(repository: GCSArtifactRepository, name: str, copy: Path) -> float:
    """Seconds of a download like the client's with a signed URL: eight ranges of 100 MiB at a time, held in memory."""
    bucket, prefix = repository.parse_gcs_uri(repository.artifact_uri)
    blob = repository._get_bucket(bucket).get_blob(f"{prefix}/{name}")
    begin = time.monotonic()
    url = blob.generate_signed_url(version="v4", expiration=timedelta(hours=1))
    answer = PresignedDownloadUrlResponse(url=url, headers={}, file_size=blob.size)
    client = HttpArtifactRepository("http://127.0.0.1")
    client._multipart_download(answer, name, str(copy), blob.size, MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE.get())
    return time.monotonic() - begin


def main(way: str, where: str, file: Path) -> dict[str, object]:
    """Seconds of upload and download, and whether the bytes are the same."""
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
        result = {"up": middle - begin, "down": end - middle, "same": digest(Path(copy)) == digest(file)}
        if way == "storage":
            result["ranges"] = in_ranges(repository, f"model/{file.name}", folder / "in-ranges")
        return result
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
