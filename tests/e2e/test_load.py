"""A sample of `make load`: many concurrent training jobs with MLflow's own client, none of which may lose anything."""

from __future__ import annotations

import json
import subprocess

from .conftest import IMAGE_PYTHON, LOGGER, ROOT, URL
from .test_mlflow_client import token

CLIENTS = 24


def test_jobs_at_the_same_time_lose_nothing(cloud, deployed):
    env = cloud.env | {
        "MLFLOW_TRACKING_URI": URL,
        "MLFLOW_TRACKING_TOKEN": token(cloud, LOGGER),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    create = "import mlflow; print(mlflow.MlflowClient().create_experiment('load'))"
    made = subprocess.run([IMAGE_PYTHON, "-c", create], env=env, capture_output=True, text=True, timeout=60, check=True)
    command = [IMAGE_PYTHON, ROOT / "bench" / "load_client.py", made.stdout.split()[-1], "0", str(CLIENTS)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["failed"], result["lost"]) == ({}, [])
