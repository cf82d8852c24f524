"""The real MLflow client through the load balancer and Identity-Aware Proxy."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from google.auth import jwt
from google.auth.crypt import RSASigner

from .conftest import IMAGE_PYTHON, LOGGER, PROJECT, URL

SIZE = 5 * 1024 * 1024


def claims(account: str, url: str = URL) -> dict[str, object]:
    """The claims of a JWT for the load balancer; valid for an hour."""
    now = int(time.time())
    return {"iss": account, "sub": account, "aud": f"{url}/*", "iat": now, "exp": now + 3600}


def token(cloud, account: str, audience: str = URL) -> str:
    """A JWT for the load balancer, signed by Google for `account`; retried, because a new grant takes a while to propagate."""
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:signJwt"
    headers = {"Authorization": "Bearer " + cloud.command("token").strip()}
    give_up = time.monotonic() + 20
    while True:
        answer = cloud.http("POST", url, json={"payload": json.dumps(claims(account, audience))}, headers=headers)
        if answer.status_code == 200:
            return answer.json()["signedJwt"]
        assert answer.status_code == 403 and time.monotonic() < give_up, answer.text
        time.sleep(0.5)


def run_client(cloud, bearer: str, file: Path) -> subprocess.CompletedProcess[str]:
    env = cloud.env | {"MLFLOW_TRACKING_URI": URL, "MLFLOW_TRACKING_TOKEN": bearer, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [IMAGE_PYTHON, Path(__file__).with_name("mlflow_client.py"), file]
    return subprocess.run(command, env=env, cwd=file.parent, capture_output=True, text=True, timeout=180)


@pytest.fixture(scope="module")
def logged(cloud, deployed, tmp_path_factory) -> tuple[dict, bytes]:
    """The run as read back by the client, and the artifact that it sent."""
    content = os.urandom(SIZE)
    file = tmp_path_factory.mktemp("client") / "weights.bin"
    file.write_bytes(content)
    done = run_client(cloud, token(cloud, LOGGER), file)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), content


def test_params_metrics_and_tags_come_back(logged):
    run, _ = logged
    assert run["status"] == "FINISHED"
    assert run["params"] == {"depth": "7", "solver": "lbfgs"}
    assert run["loss"] == [[0, 0.9], [1, 0.5], [2, 0.25]]
    assert run["origin"] == "e2e"


def test_the_artifact_is_downloaded_byte_for_byte(logged):
    run, content = logged
    assert run["files"] == [["model/weights.bin", SIZE]]
    assert run["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_artifact_is_an_object_in_the_bucket(cloud, logged):
    run, content = logged
    objects = cloud.call("GET", f"storage.googleapis.com/storage/v1/b/{PROJECT}-mlflow-artifacts/o")["items"]
    (object_,) = [object_ for object_ in objects if run["run_id"] in object_["name"]]
    assert object_["name"].endswith("/artifacts/model/weights.bin")
    assert int(object_["size"]) == SIZE
    assert object_["md5Hash"] == base64.b64encode(hashlib.md5(content).digest()).decode()


def test_the_model_version_is_registered(logged):
    run, _ = logged
    name, version, run_id, status = run["version"]
    assert (name, int(version), run_id, status) == ("e2e-model", 1, run["run_id"], "READY")
    assert run["found"] == [run["run_id"]]


def test_an_unknown_user_is_rejected(cloud, deployed, tmp_path):
    key = json.loads(Path(cloud.env["GCP_SERVICE_ACCOUNT_FILE"]).read_text())
    signer = RSASigner.from_service_account_info(key)
    file = tmp_path / "small.bin"
    file.write_bytes(b"x")
    done = run_client(cloud, jwt.encode(signer, claims(key["client_email"])).decode(), file)
    assert done.returncode != 0
    assert "403" in done.stderr
