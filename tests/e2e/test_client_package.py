"""The package mlflow-iap as installed by a data scientist, with MLflow's own client through the load balancer."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import psutil
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from .conftest import IMAGE_PYTHON, LOGGER, PROJECT, Cloud

ACCOUNTS = f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts"

LOOP = """
import glob, json, os, sys, time, mlflow

def token():
    (file,) = glob.glob(os.environ["XDG_CACHE_HOME"] + "/mlflow-iap/*.json")
    return json.load(open(file))["value"]

mlflow.set_experiment("sign-in")
first = token()
end = time.monotonic() + float(sys.argv[1])
with mlflow.start_run() as run:
    step = 0
    while time.monotonic() < end:
        mlflow.log_metric("loss", step, step=step)
        step += 1
        time.sleep(0.25)
found = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
assert [metric.step for metric in found] == list(range(step)), found
assert token() != first
"""
ONE_RUN = "import mlflow; mlflow.set_experiment('sign-in'); mlflow.start_run(); mlflow.log_param('a', 1)"


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def cached(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "mlflow-iap").glob("*.json"))


def test_doctor_finds_nothing_wrong(client):
    give_up = time.monotonic() + 20  # a new grant takes a while to propagate
    while (done := client("-m", "mlflow_iap.cli", "doctor")).returncode and time.monotonic() < give_up:
        pass
    output = good(done)
    assert output.splitlines()[-1] == "This machine can log."
    assert "FAIL" not in output and len(output.splitlines()) <= 12


def test_a_token_that_ends_during_training_is_renewed(client):
    # Of 40 s, 30 are a margin for clock skew: each token lasts for a part of the loop.
    good(client("-c", LOOP, "12", MLFLOW_IAP_TOKEN_SECONDS="40"))


def test_a_refused_token_is_replaced_once(client, tmp_path):
    good(client("-c", ONE_RUN))
    (file,) = cached(tmp_path)
    token = json.loads(file.read_text())
    head, body, _ = token["value"].split(".")
    file.write_text(json.dumps(token | {"value": f"{head}.{body}.{'A' * 342}"}))
    good(client("-c", ONE_RUN))
    assert not json.loads(file.read_text())["value"].endswith("AAAA")


def test_processes_share_a_token_that_nobody_else_can_read(client, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda _: good(client("-m", "mlflow_iap.cli", "token")), range(24)))
    assert len(set(outputs)) == 1
    (file,) = cached(tmp_path)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_minute_without_google_costs_nothing(client, cloud, tmp_path):
    good(client("-c", ONE_RUN))
    (file,) = cached(tmp_path)
    token = json.loads(file.read_text())
    # Due for renewal, but still valid.
    file.write_text(json.dumps(token | {"expires": token["expires"] - 3300}))
    cloud.command("fault", "add", "iamcredentials.*", "503")
    try:
        good(client("-c", ONE_RUN))
    finally:
        cloud.command("fault", "clear")
    assert json.loads(file.read_text())["value"] == token["value"]


# -- identities --------------------------------------------------------------


@pytest.fixture
def jane(cloud, deployed) -> Iterator[str]:
    """A user who may sign for the logger."""
    email = "jane@example.com"
    url = f"{ACCOUNTS}/{LOGGER}"
    before = cloud.call("POST", f"{url}:getIamPolicy")
    binding = {"role": "roles/iam.serviceAccountTokenCreator", "members": [f"user:{email}"]}
    cloud.call("POST", f"{url}:setIamPolicy", {"policy": {"bindings": [*before["bindings"], binding]}})
    yield email
    cloud.call("POST", f"{url}:setIamPolicy", {"policy": {"bindings": before["bindings"]}})


def test_gcloud_user_credentials(client, cloud, jane, tmp_path):
    file = tmp_path / "adc.json"
    file.write_text(cloud.command("token", "--as", jane, "--credentials"))
    good(client("-c", ONE_RUN, GOOGLE_APPLICATION_CREDENTIALS=str(file)))


def test_a_user_gets_the_advice_to_set_the_logger(client, cloud, tmp_path):
    file = tmp_path / "adc.json"
    file.write_text(cloud.command("token", "--as", "jane@example.com", "--credentials"))
    env = {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}
    done = client("-m", "mlflow_iap.cli", "token", **env, MLFLOW_IAP_SERVICE_ACCOUNT="")
    assert done.returncode == 1 and "set MLFLOW_IAP_SERVICE_ACCOUNT to the logger's service account" in done.stderr
    done = client("-m", "mlflow_iap.cli", "token", **env)
    assert done.returncode == 1 and "needs roles/iam.serviceAccountTokenCreator on that account" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_loggers_own_key(client, cloud, tmp_path):
    key = cloud.call("POST", f"{ACCOUNTS}/{LOGGER}/keys", {})
    try:
        file = tmp_path / "key.json"
        file.write_bytes(base64.b64decode(key["privateKeyData"]))
        env = {"GOOGLE_APPLICATION_CREDENTIALS": str(file), "MLFLOW_IAP_SERVICE_ACCOUNT": ""}
        good(client("-c", ONE_RUN, **env))
    finally:
        cloud.call("DELETE", f"iam.googleapis.com/v1/{key['name']}")


def test_impersonation_in_the_credentials_file(client, cloud, jane, tmp_path):
    file = tmp_path / "adc.json"
    source = json.loads(cloud.command("token", "--as", jane, "--credentials"))
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{LOGGER}:generateAccessToken"
    document = {"type": "impersonated_service_account", "service_account_impersonation_url": url, "delegates": []}
    file.write_text(json.dumps(document | {"source_credentials": source}))
    good(client("-c", ONE_RUN, GOOGLE_APPLICATION_CREDENTIALS=str(file), MLFLOW_IAP_SERVICE_ACCOUNT=""))


def test_workload_identity_federation(client, cloud, tmp_path):
    issuer = "https://token.actions.example.com"
    pools = f"iam.googleapis.com/v1/projects/{PROJECT}/locations/global/workloadIdentityPools"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "one", "alg": "RS256", "use": "sig"}
    cloud.call("POST", f"{pools}?workloadIdentityPoolId=runners", {})
    body = {
        "oidc": {"issuerUri": issuer, "jwksJson": json.dumps({"keys": [jwk]})},
        "attributeMapping": {"google.subject": "assertion.sub"},
    }
    made = cloud.call("POST", f"{pools}/runners/providers?workloadIdentityPoolProviderId=oidc", body)
    provider = made["response"]["name"]
    now = int(time.time())
    claims = {"iss": issuer, "sub": "repo:team/app", "iat": now, "exp": now + 300}
    claims["aud"] = f"https://iam.googleapis.com/{provider}"
    (tmp_path / "oidc.txt").write_text(jwt.encode(claims, key, algorithm="RS256", headers={"kid": "one"}))
    file = tmp_path / "wif.json"
    document = {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{provider}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": str(tmp_path / "oidc.txt")},
    }
    file.write_text(json.dumps(document))
    done = client("-m", "mlflow_iap.cli", "token", GOOGLE_APPLICATION_CREDENTIALS=str(file))
    assert done.returncode == 1 and "A workload identity may not sign for" in done.stderr
    url = f"{ACCOUNTS}/{LOGGER}"
    before = cloud.call("POST", f"{url}:getIamPolicy")["bindings"]
    pool = "iam.googleapis.com/" + provider.partition("/providers/")[0]
    member = f"principal://{pool}/subject/repo:team/app"
    binding = {"role": "roles/iam.serviceAccountTokenCreator", "members": [member]}
    cloud.call("POST", f"{url}:setIamPolicy", {"policy": {"bindings": [*before, binding]}})
    try:
        good(client("-c", ONE_RUN, GOOGLE_APPLICATION_CREDENTIALS=str(file)))
        # A file that names the account, as downloaded from the console.
        named = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{LOGGER}:generateAccessToken"
        file.write_text(json.dumps(document | {"service_account_impersonation_url": named}))
        good(client("-c", ONE_RUN, GOOGLE_APPLICATION_CREDENTIALS=str(file), MLFLOW_IAP_SERVICE_ACCOUNT=""))
    finally:
        cloud.call("POST", f"{url}:setIamPolicy", {"policy": {"bindings": before}})


def metadata_server(cloud: Cloud) -> str:
    """Address of the running MLflow server's metadata server, which issues tokens for the server's account."""
    for process in psutil.Process(json.loads((cloud.state / "run.json").read_text())["pid"]).children(recursive=True):
        if "-m mlflow_gcp_server" in " ".join(process.cmdline()):
            return process.environ()["GCE_METADATA_HOST"]
    raise AssertionError("no server runs")


def test_the_metadata_server_and_an_account_that_is_not_among_the_users(client, cloud):
    good(client("-c", ONE_RUN))  # so that a server is running
    host = metadata_server(cloud)
    env = dict.fromkeys(("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"), host)
    env |= {"GOOGLE_APPLICATION_CREDENTIALS": "", "MLFLOW_IAP_SERVICE_ACCOUNT": "", "HOME": str(cloud.state)}
    done = client("-m", "mlflow_iap.cli", "doctor", **env)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert re.search(r"FAIL .* mlflow-server@\S+ is signed in, but it is not among the users of this server", last), (
        done
    )
    assert "<" not in last and "{" not in last


def test_problems_are_reported_in_one_sentence(client, tmp_path):
    (tmp_path / "none").mkdir()
    nothing = {"GOOGLE_APPLICATION_CREDENTIALS": "", "HOME": str(tmp_path / "none"), "NO_GCE_CHECK": "true"}
    for words, env, text in (
        (
            ["token"],
            nothing,
            "There are no Google credentials on this machine: run 'gcloud auth application-default login'",
        ),
        (["token"], {"MLFLOW_TRACKING_URI": "http://mlflow.example.com"}, "requires https"),
        (["token"], {"MLFLOW_TRACKING_URI": ""}, "set MLFLOW_TRACKING_URI"),
        (
            ["token"],
            {"MLFLOW_IAP_SERVICE_ACCOUNT": "jane@example.com"},
            "must be the e-mail address of a service account",
        ),
        (["token"], {"MLFLOW_IAP_SERVICE_ACCOUNT": f"nobody@{PROJECT}.iam.gserviceaccount.com"}, "nobody@"),
        (["token"], {"MLFLOW_IAP_TOKEN_SECONDS": "9999"}, "must be a number from 10 to 3600"),
        (["doctor"], {"MLFLOW_TRACKING_AUTH": ""}, "set it to iap"),
    ):
        done = client("-m", "mlflow_iap.cli", *words, **env)
        said = (done.stderr + done.stdout).splitlines()[-1]
        assert done.returncode == 1 and text in said and "Traceback" not in done.stderr, (words, env, done)


# -- the proxy ---------------------------------------------------------------


@pytest.fixture
def proxy(client) -> Iterator[str]:
    """URL of a running `mlflow-iap proxy`."""
    command = [IMAGE_PYTHON, "-m", "mlflow_iap.cli", "proxy", "--port", "0"]
    with subprocess.Popen(command, env=client.env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found
        yield found.group()
        process.terminate()


def test_clients_that_cannot_sign_in_use_the_proxy(client, cloud, proxy, tmp_path):
    file = tmp_path / "weights.bin"
    content = os.urandom(40 * 2**20)
    file.write_bytes(content)
    program = (
        "import mlflow, sys; mlflow.set_experiment('proxy'); run = mlflow.start_run();"
        "mlflow.log_artifact(sys.argv[1], 'model');"
        "copy = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path='model/weights.bin');"
        "print(open(copy, 'rb').read() == open(sys.argv[1], 'rb').read())"
    )
    env = {"MLFLOW_TRACKING_AUTH": "", "MLFLOW_TRACKING_URI": proxy, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    assert "True" in good(client("-c", program, str(file), **env)).splitlines()


@pytest.mark.parametrize("headers", [{"Host": "rebound.example.com"}, {"Origin": "https://evil.example.com"}])
def test_the_proxy_is_for_programs_of_this_machine(proxy, headers):
    session = requests.Session()
    session.trust_env = False
    assert session.get(f"{proxy}/version", timeout=20).status_code == 200
    assert session.get(f"{proxy}/version", headers=headers, timeout=20).status_code == 403
