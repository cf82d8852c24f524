"""The gcloud command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from .conftest import BACKEND, BUCKET, INSTANCE, PROJECT, REGION, SECRET, SERVICE

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="there is no gcloud on this machine")


@pytest.fixture(scope="module")
def gcloud(cloud, deployed, tmp_path_factory):
    """Run gcloud with a separate configuration, signed in with the service account's key file; returns its JSON output."""
    settings = {
        "CLOUDSDK_CONFIG": str(tmp_path_factory.mktemp("gcloud")),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
    }

    def run(*words: str, form: str = "json"):
        command = ["gcloud", *words, *([f"--format={form}"] if form else [])]
        done = subprocess.run(command, env=cloud.env | settings, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return json.loads(done.stdout) if form == "json" else done.stdout

    run("auth", "activate-service-account", "--key-file", cloud.env["GOOGLE_APPLICATION_CREDENTIALS"], form="")
    return run


def test_storage(gcloud, tmp_path):
    (tmp_path / "sent").write_bytes(os.urandom(100_000))
    gcloud("storage", "cp", str(tmp_path / "sent"), f"gs://{BUCKET}/gcloud/file", form="")
    gcloud("storage", "cp", f"gs://{BUCKET}/gcloud/file", str(tmp_path / "received"), form="")
    gcloud("storage", "rm", f"gs://{BUCKET}/gcloud/file", form="")
    assert (tmp_path / "received").read_bytes() == (tmp_path / "sent").read_bytes()


@pytest.mark.long
def test_secrets(gcloud):
    assert SECRET in [secret["name"].split("/")[-1] for secret in gcloud("secrets", "list")]
    password = gcloud("secrets", "versions", "access", "latest", "--secret", SECRET, form="")
    assert len(password) >= 20


@pytest.mark.long
def test_sql(gcloud):
    gcloud("sql", "databases", "create", "gcloud", "--instance", INSTANCE, form="")
    try:
        assert {"gcloud", "mlflow"} <= {
            each["name"] for each in gcloud("sql", "databases", "list", "--instance", INSTANCE)
        }
    finally:
        gcloud("sql", "databases", "delete", "gcloud", "--instance", INSTANCE, form="")


def test_load_balancer_and_iap(gcloud):
    assert BACKEND in [backend["name"] for backend in gcloud("compute", "backend-services", "list")]
    policy = gcloud("iap", "web", "get-iam-policy", "--resource-type=backend-services", f"--service={BACKEND}")
    assert "user:jane@example.com" in policy["bindings"][0]["members"]
    assert gcloud("projects", "describe", PROJECT)["lifecycleState"] == "ACTIVE"


@pytest.mark.long
def test_artifact_registry(gcloud):
    place = f"--location={REGION}"
    gcloud("artifacts", "repositories", "create", "gcloud", "--repository-format=docker", place, form="")
    try:
        made = gcloud("artifacts", "repositories", "describe", "gcloud", place)
        assert made["registryUri"] == f"{REGION}-docker.pkg.dev/{PROJECT}/gcloud"
        # Without a location, gcloud first lists the locations, and then queries each of them.
        assert made["name"] in [each["name"] for each in gcloud("artifacts", "repositories", "list")]
    finally:
        gcloud("artifacts", "repositories", "delete", "gcloud", place, form="")


@pytest.mark.long
def test_cloud_run(gcloud):
    place = f"--region={REGION}"
    server = gcloud("run", "services", "describe", SERVICE, place)
    ready = server["status"]["latestReadyRevisionName"]
    assert [(t["revisionName"], t["percent"]) for t in server["status"]["traffic"]] == [(ready, 100)]
    assert SERVICE in [each["metadata"]["name"] for each in gcloud("run", "services", "list")]
    revisions = gcloud("run", "revisions", "list", f"--service={SERVICE}", place)
    assert revisions[0]["metadata"]["name"] == ready
    variables = {env["name"]: env for env in revisions[0]["spec"]["containers"][0]["env"]}
    assert variables["MLFLOW_DB_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == SECRET
    roles = [binding["role"] for binding in gcloud("run", "services", "get-iam-policy", SERVICE, place)["bindings"]]
    assert "roles/run.invoker" in roles
    log = gcloud("run", "services", "logs", "read", SERVICE, place, form="")
    assert "mlflow-server: serving on" in log

    container = revisions[0]["spec"]["containers"][0]
    account = f"--service-account={revisions[0]['spec']['serviceAccountName']}"
    gcloud(
        "run",
        "jobs",
        "create",
        "gcloud",
        f"--image={container['image']}",
        "--command=python",
        "--args=-c,print(6*7)",
        account,
        place,
        form="",
    )
    try:
        execution = gcloud("run", "jobs", "execute", "gcloud", "--wait", place)
        assert execution["status"]["succeededCount"] == 1
    finally:
        gcloud("run", "jobs", "delete", "gcloud", place, form="")
