"""Make what another MLflow server has, or print what a server has; run with the image's Python.

Usage: another_server.py make|show URI
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, RunTag

SIZES = (0, 10, 3_000_000)
RUNS = 3


def make(client: MlflowClient) -> None:
    """Nested runs with metrics, parameters, tags and files; a logged model; a registered model with a gap, stage and alias."""
    experiment = client.create_experiment("churn", tags={"team": "ml", "mlflow.note.content": "why people leave"})
    parent = client.create_run(experiment, start_time=1000, run_name="search", tags={"kind": "parent"})
    for number in range(RUNS):
        tags = {"mlflow.parentRunId": parent.info.run_id, "mlflow.user": "jane", "odd": "ü\n'\""}
        run = client.create_run(experiment, start_time=2000 + number, run_name=f"trial {number}", tags=tags)
        run_id = run.info.run_id
        losses = [Metric("loss", value, 10 + step, step) for step, value in enumerate((3.5, float("nan"), 0.25))]
        many = [Metric("steps", float(step), step, step) for step in range(1200)]
        client.log_batch(run_id, losses, [Param("depth", str(number)), Param("text", "x" * 400)], [RunTag("late", "1")])
        client.log_batch(run_id, many[:1000])
        client.log_batch(run_id, many[1000:])
        with tempfile.TemporaryDirectory() as folder:
            for position, size in enumerate(SIZES):
                file = Path(folder) / f"file {position}.bin"
                file.write_bytes(bytes([number]) * size)
                client.log_artifact(run_id, str(file), "model/deep" if position else None)
        client.set_terminated(run_id, ("FINISHED", "FAILED", "KILLED")[number], 5000 + number)
    client.set_terminated(parent.info.run_id, "FINISHED", 9000)
    client.create_experiment("empty")

    name = "churn-model"
    client.create_registered_model(name, tags={"owner": "jane"}, description="the best")
    source = f"{run.info.artifact_uri}/model"
    for _number in range(3):
        client.create_model_version(name, source, run_id, tags={"checked": "yes"}, description="a try")
    client.delete_model_version(name, "2")
    client.set_registered_model_alias(name, "champion", "3")

    # As MLflow 3 logs models: they have files and IDs of their own.
    model = client.create_logged_model(
        experiment, name="net", source_run_id=run_id, tags={"kind": "torch"}, params={"layers": "3"}, model_type="agent"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "MLmodel").write_text(f"model_id: {model.model_id}\nrun_id: {run_id}\n")
        Path(folder, "data").mkdir()
        Path(folder, "data", "net.bin").write_bytes(b"net" * 1000)
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, models=[LoggedModelOutput(model.model_id, 7)])
    client.create_registered_model("net")
    client.create_model_version("net", f"models:/{model.model_id}", run_id, model_id=model.model_id)


def content(folder: str, ids: dict[str, str]) -> dict[str, str]:
    """The files of a folder: MLmodel with names for IDs, the digest of all others."""
    found = {}
    for file in sorted(Path(folder).rglob("*")):
        if not file.is_file():
            continue
        text = hashlib.sha256(file.read_bytes()).hexdigest()
        if file.name == "MLmodel":
            text = file.read_text()
            for key, name in ids.items():
                text = text.replace(key, name)
        found[str(file.relative_to(folder))] = text
    return found


def files_at(uri: str, ids: dict[str, str]) -> dict[str, str]:
    """The files of a model."""
    with tempfile.TemporaryDirectory() as folder:
        mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
        return content(folder, ids)


def show(client: MlflowClient) -> dict[str, Any]:
    """All of it, without IDs, times of writing and the tags of an import."""
    names: dict[str, str] = {}
    experiments: dict[str, Any] = {}
    runs = []
    for experiment in client.search_experiments():
        if experiment.name == "Default":
            continue
        tags = {key: value for key, value in experiment.tags.items() if not key.startswith("mlflow.experiment")}
        experiments[experiment.name] = {"tags": tags, "runs": {}}
        for run in client.search_runs([experiment.experiment_id]):
            names[run.info.run_id] = run.info.run_name
            runs.append((experiment.name, run))
        logged = client.search_logged_models([experiment.experiment_id])
        names |= {model.model_id: f"model {model.name}" for model in logged}
        experiments[experiment.name]["models"] = {
            model.name: {
                "status": str(model.status),
                "type": model.model_type,
                "params": dict(model.params),
                "run": names.get(model.source_run_id),
                "tags": {
                    key: value for key, value in model.tags.items() if not key.startswith(("mlflow_iap.", "mlflow."))
                },
                "files": files_at(f"models:/{model.model_id}", names),
            }
            for model in logged
        }
    for experiment_name, run in runs:
        tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow_iap.")}
        if parent := tags.pop("mlflow.parentRunId", None):
            tags["parent"] = names[parent]
        with tempfile.TemporaryDirectory() as folder:
            client.download_artifacts(run.info.run_id, "", folder)
            files = content(folder, names)
        history = {}
        for key in sorted(run.data.metrics):
            found = client.get_metric_history(run.info.run_id, key)
            history[key] = [[repr(metric.value), metric.timestamp, metric.step] for metric in found]
        outputs = [[names[entry.model_id], entry.step] for entry in (run.outputs.model_outputs if run.outputs else ())]
        experiments[experiment_name]["runs"][run.info.run_name] = {
            "status": run.info.status,
            "times": [run.info.start_time, run.info.end_time],
            "params": run.data.params,
            "tags": tags,
            "metrics": {key: sorted(values) for key, values in history.items()},
            "files": files,
            "outputs": outputs,
        }
    models = {}
    for model in client.search_registered_models():
        versions = client.search_model_versions(f"name='{model.name}'")
        models[model.name] = {
            "tags": dict(model.tags),
            "description": model.description,
            "aliases": {alias: str(number) for alias, number in model.aliases.items()},
            "versions": {
                str(version.version): {
                    "description": version.description,
                    "tags": {key: value for key, value in version.tags.items() if not key.startswith("mlflow_iap.")},
                    "run": names.get(version.run_id, version.run_id),
                    "files": files_at(f"models:/{model.name}/{version.version}", names),
                }
                for version in versions
            },
        }
    return {"experiments": experiments, "models": models}


if __name__ == "__main__":
    what, uri = sys.argv[1:]
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    if what == "make":
        make(MlflowClient())
    else:
        print(json.dumps(show(MlflowClient()), sort_keys=True))
