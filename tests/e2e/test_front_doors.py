"""The front door cloud_run, and changing the front door of a live deployment."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import pytest
import requests

from .conftest import LOGGER, PROJECT, ROOT, URL, Cloud, Play
from .test_destroy import destroy, killed, resources

RUN = f"run.googleapis.com/v2/projects/{PROJECT}/locations/europe-west2/services/mlflow"
BACKENDS = [
    f"compute.googleapis.com/compute/v1/projects/{PROJECT}/{place}/backendServices"
    for place in ("global", "regions/europe-west2")
]
PROJECT_URL = f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}"
CLOUD_RUN = {"mlflow_front_door": "cloud_run", "mlflow_domain": ""}
JANE, MALLORY = "jane@example.com", "mallory@example.com"
# Reads earlier runs back, and logs one.
LOG = """
import mlflow, sys
for run in sys.argv[2:]:
    assert mlflow.get_run(run).data.params["door"]
    assert mlflow.artifacts.load_text(f"runs:/{run}/model.txt") == "weights"
mlflow.set_experiment("front-doors")
with mlflow.start_run() as run:
    mlflow.log_param("door", sys.argv[1])
    mlflow.log_text("weights", "model.txt")
print(run.info.run_id)
"""
BALANCED = ("forwarding rule", "proxy", "URL map", "backend service", "certificate", "NEG", "address mlflow-lb")


@pytest.fixture(scope="module")
def cloud(own_cloud: Cloud) -> Cloud:
    """A deployment with a load balancer, whose front door this file changes."""
    return own_cloud


@pytest.fixture(scope="module")
def run_url(cloud: Cloud) -> str:
    """The address that Cloud Run gives the server."""
    number = cloud.call("GET", PROJECT_URL)["projectNumber"]
    return f"https://mlflow-{number}.europe-west2.run.app"


def site(cloud: Cloud, variables: dict | None = None, *arguments: str, **env: str) -> Play:
    return cloud.playbook("site.yml", "--extra-vars", json.dumps(variables or {}), *arguments, **env)


def sign_in(cloud: Cloud, url: str, email: str) -> int:
    """The status of MLflow's page for a user who signs in with a browser."""
    browser = cloud.session(anonymous=True)
    page = browser.get(url, timeout=60)
    return browser.post(page.url, data={"other": email}, timeout=90).status_code


def owners_token(cloud: Cloud, url: str) -> str:
    """A JWT for all paths of a server, of the account that deploys, which owns the project but is not named."""
    key = json.loads(Path(cloud.env["GCP_SERVICE_ACCOUNT_FILE"]).read_text())
    email, now = key["client_email"], int(time.time())
    claims = {"iss": email, "sub": email, "aud": f"{url}/*", "iat": now, "exp": now + 3600}
    return jwt.encode(claims, key["private_key"], algorithm="RS256", headers={"kid": key["private_key_id"]})


def balanced(cloud: Cloud) -> list[str]:
    """What exists of a load balancer."""
    return sorted(entry for entry in resources(cloud) if any(part in entry for part in BALANCED) and "psc" not in entry)


@contextmanager
def watched(cloud: Cloud, run_url: str, *others: requests.Session) -> Iterator[None]:
    """
    While the front door changes: nobody who is not named gets in, at neither address, without a token or with that of an owner of
    the project, nor by the sessions OTHERS; and Identity-Aware Proxy is never on in both places.
    """
    done, wrong, rounds = threading.Event(), list[str](), list[int]()
    ways: list[tuple[str, dict[str, str]]] = [
        (url, headers)
        for url in (URL, run_url)
        for headers in ({}, {"Authorization": f"Bearer {owners_token(cloud, url)}"})
    ]

    def look() -> None:
        sessions = [cloud.session(anonymous=True), *others]
        while not done.wait(0.2):
            for session, (url, headers) in itertools.product(sessions, ways):
                try:
                    answer = session.get(f"{url}/version", headers=headers, timeout=30, allow_redirects=False)
                except OSError:
                    continue  # there is no load balancer
                if answer.status_code == 200:
                    wrong.append(f"{url} {sorted(headers)} {answer.text}")
            service = cloud.call("GET", RUN)
            backends = [entry for url in BACKENDS for entry in cloud.call("GET", url).get("items", [])]
            if service.get("iapEnabled") and any(backend["iap"]["enabled"] for backend in backends):
                wrong.append("both")
            rounds.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert not wrong and rounds


@pytest.fixture
def log(client: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """Logs a run with an artifact at a URL with the package mlflow-iap, after reading others back, and returns its ID."""

    def run(url: str, *others: str) -> str:
        done = client("-c", LOG, url, *others, MLFLOW_TRACKING_URI=url)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.split()[-1]

    return run


@pytest.fixture
def at_cloud_run(cloud: Cloud) -> None:
    """The deployment has this front door, also where the test that changes it was not selected."""
    if not cloud.call("GET", RUN).get("iapEnabled"):
        assert site(cloud, CLOUD_RUN).status == 0


def test_variables_of_another_front_door_are_refused(cloud):
    play = site(cloud, {**CLOUD_RUN, "mlflow_extra_domains": ["a.example.com"], "iap_lb_certificate": "existing"})
    assert play.status != 0 and play.recap("changed") == 0
    told = " ".join(play.error.split())
    for part in (
        "mlflow_extra_domains is ['a.example.com'], but the front door cloud_run (mlflow_front_door) has no use for it",
        "iap_lb_certificate is 'existing', but the front door cloud_run",
    ):
        assert part in told, told


def test_a_live_deployment_gets_another_front_door(cloud, log, run_url):
    before = log(URL)
    with watched(cloud, run_url):
        play = site(cloud, CLOUD_RUN)
    assert play.status == 0 and f"url: {run_url}" in play.output, play.output
    assert balanced(cloud) == []
    assert [sign_in(cloud, run_url, email) for email in (JANE, MALLORY)] == [200, 403]
    assert log(run_url, before)
    again = site(cloud, CLOUD_RUN)
    assert (again.status, again.recap("changed")) == (0, 0), again.output


@pytest.mark.long
@pytest.mark.usefixtures("at_cloud_run")
def test_all_data_paths_work_through_it(cloud):
    play = cloud.playbook("verify.yml", "--extra-vars", json.dumps(CLOUD_RUN))
    assert play.status == 0 and "2d" in play.output, play.output


@pytest.mark.long
@pytest.mark.usefixtures("at_cloud_run")
def test_verify_says_what_is_wrong_with_it(cloud, run_url):
    web = f"iap.googleapis.com/v1/projects/{cloud.call('GET', PROJECT_URL)['projectNumber']}/iap_web/cloud_run-europe-west2"
    policy = cloud.call("POST", f"{web}/services/mlflow:getIamPolicy", {})["bindings"]
    eve = {"role": "roles/iap.httpsResourceAccessor", "members": ["user:eve@example.com"]}
    cloud.call("POST", f"{web}/services/mlflow:setIamPolicy", {"policy": {"bindings": [*policy, eve]}})
    cloud.call("POST", f"{web}:setIamPolicy", {"policy": {"bindings": [{**eve, "members": ["user:ops@example.com"]}]}})
    cloud.call("PATCH", f"{RUN}?updateMask=iapEnabled", {"iapEnabled": False})
    try:
        play = cloud.playbook("verify.yml", "--extra-vars", json.dumps(CLOUD_RUN))
        told = " ".join(play.error.split())
        for part in (
            "Identity-Aware Proxy (IAP) is disabled (iapEnabled)",
            "user:eve@example.com has roles/iap.httpsResourceAccessor, but is not one of the given members",
            "IAP of all Cloud Run services in europe-west2: user:ops@example.com has",
        ):
            assert part in told, play.output
    finally:
        cloud.call("POST", f"{web}:setIamPolicy", {"policy": {"bindings": []}})
        assert site(cloud, CLOUD_RUN).status == 0
    assert cloud.call("GET", RUN)["iapEnabled"]


@pytest.mark.long
@pytest.mark.usefixtures("at_cloud_run")
def test_only_a_whole_run_changes_the_front_door(cloud):
    for tags in ("image", "front_door", "users"):
        play = site(cloud, {}, "--tags", tags)
        assert play.status != 0 and play.recap("changed") == 0, play.output
        assert "the deployment has another front door; change it by a run without --tags" in " ".join(
            play.error.split()
        )
    play = site(cloud, {"mlflow_webapp_users": []})
    assert play.status != 0 and play.recap("changed") == 0 and "nobody could sign in at the new one" in play.error


@pytest.mark.long
@pytest.mark.usefixtures("at_cloud_run")
def test_the_plan_shows_both_changes(cloud):
    play = cloud.playbook("plan.yml")
    assert play.status == 0, play.output
    for part in (
        "iapEnabled: true -> false",
        "+ create forwarding rule mlflow-lb-https",
        "+ create global address mlflow-lb-ip",
    ):
        assert part in play.output, play.output


@pytest.mark.long
@pytest.mark.usefixtures("at_cloud_run")
def test_the_load_balancer_comes_back_and_goes_again_after_a_crash(cloud, log, run_url, tmp_path):
    before = log(run_url)
    with watched(cloud, run_url):
        play = site(cloud)
    assert play.status == 0, play.output
    assert sign_in(cloud, URL, JANE) == 200 and sign_in(cloud, URL, MALLORY) == 403
    assert cloud.http("GET", run_url, allow_redirects=False).status_code == 404
    assert log(URL, before)
    again = site(cloud)
    assert (again.status, again.recap("changed")) == (0, 0), again.output

    plan = cloud.playbook("plan.yml", "--extra-vars", json.dumps(CLOUD_RUN))
    assert plan.status == 0 and "- delete forwarding rule mlflow-lb-https" in plan.output, plan.output
    with watched(cloud, run_url):
        for limit in (1, 5, 9, 12):
            counter = tmp_path / "writes"
            counter.unlink(missing_ok=True)
            env = {
                "PYTHONPATH": str(Path(__file__).parent / "killed"),
                "KILLED_AFTER": str(counter),
                "KILLED_LIMIT": str(limit),
            }
            assert site(cloud, CLOUD_RUN, **env).status != 0 or limit > 1
        play = site(cloud, CLOUD_RUN)
    assert play.status == 0 and balanced(cloud) == [], play.output
    assert log(run_url, before)
    again = site(cloud, CLOUD_RUN)
    assert (again.status, again.recap("changed")) == (0, 0), again.output


@pytest.mark.long
@pytest.mark.usefixtures("at_cloud_run")
def test_people_from_outside_sign_in_with_a_custom_client(cloud, run_url):
    outside = "bob@elsewhere.example"
    users = {"mlflow_webapp_users": [f"user:{JANE}", "group:ml-team@example.com", f"user:{outside}"]}
    assert site(cloud, CLOUD_RUN | users, "--tags", "users").status == 0
    assert sign_in(cloud, run_url, outside) == 403
    client = {
        "mlflow_oauth": "custom",
        "mlflow_oauth_client_id": "1234-abc.apps.googleusercontent.com",
        "mlflow_oauth_client_secret": "GOCSPX-not-to-be-seen",
    }
    play = site(cloud, CLOUD_RUN | users | client, "--diff")
    assert play.status == 0 and client["mlflow_oauth_client_secret"] not in play.output
    assert "clientIds/1234-abc.apps.googleusercontent.com:handleRedirect" in play.output
    assert [sign_in(cloud, run_url, email) for email in (outside, JANE, MALLORY)] == [200, 200, 403]
    again = site(cloud, CLOUD_RUN | users | client)
    assert (again.status, again.recap("changed")) == (0, 0), again.output
    play = site(cloud, CLOUD_RUN)
    assert play.status == 0 and sign_in(cloud, run_url, outside) == 403, play.output


@pytest.mark.long
@pytest.mark.usefixtures("at_cloud_run")
def test_it_is_taken_down_without_a_trace(cloud, tmp_path):
    variables = {**CLOUD_RUN, "mlflow_destroy_data": True, "mlflow_final_backup": False}
    assert killed(cloud, tmp_path / "writes", 3, **variables).status != 0
    play = destroy(cloud, **variables)
    assert play.status == 0, play.output
    listing = [sys.executable, ROOT / "tools/resources.py", "--billable-only", "--fail-if-billable"]
    done = subprocess.run(listing, env=cloud.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    again = destroy(cloud, **variables)
    assert (again.status, again.recap("changed")) == (0, 0), again.output


@pytest.mark.long
def test_a_new_deployment_starts_with_it(cloud, run_url, log):

    play = site(cloud, CLOUD_RUN)
    assert play.status == 0 and f"MLFLOW_TRACKING_URI={run_url}" in play.output, play.output
    assert LOGGER in play.output and balanced(cloud) == []
    again = site(cloud, CLOUD_RUN)
    assert (again.status, again.recap("changed")) == (0, 0), again.output
    assert [sign_in(cloud, run_url, email) for email in (JANE, MALLORY)] == [200, 403]
    assert log(run_url)
