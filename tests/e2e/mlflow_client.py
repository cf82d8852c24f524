"""Log a run with the real MLflow client and read everything back; prints one JSON object. Run with the image's Python.

Usage: mlflow_client.py FILE. MLFLOW_TRACKING_URI, MLFLOW_TRACKING_TOKEN, HTTPS_PROXY and REQUESTS_CA_BUNDLE select the server.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import mlflow

source = Path(sys.argv[1])
client = mlflow.MlflowClient()
mlflow.set_experiment("client")
with mlflow.start_run(run_name="through-the-front-door", tags={"origin": "e2e"}) as run:
    mlflow.log_params({"depth": 7, "solver": "lbfgs"})
    for step, loss in enumerate((0.9, 0.5, 0.25)):
        mlflow.log_metric("loss", loss, step=step)
    mlflow.log_artifact(str(source), "model")

run_id = run.info.run_id
client.create_registered_model("e2e-model", description="made by a test")
version = client.create_model_version("e2e-model", f"{run.info.artifact_uri}/model", run_id)

seen = client.get_run(run_id)
with tempfile.TemporaryDirectory() as folder:
    copy = Path(client.download_artifacts(run_id, f"model/{source.name}", folder)).read_bytes()
print(
    json.dumps(
        {
            "experiment_id": seen.info.experiment_id,
            "run_id": run_id,
            "status": seen.info.status,
            "artifact_uri": seen.info.artifact_uri,
            "params": seen.data.params,
            "origin": seen.data.tags["origin"],
            "loss": [[metric.step, metric.value] for metric in client.get_metric_history(run_id, "loss")],
            "files": [[file.path, file.file_size] for file in client.list_artifacts(run_id, "model")],
            "sha256": hashlib.sha256(copy).hexdigest(),
            "version": [version.name, version.version, version.run_id, version.status],
            "found": [found.run_id for found in client.search_model_versions("name = 'e2e-model'")],
        }
    )
)
