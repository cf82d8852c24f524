"""Who is not named does not get in: not by a condition, a wider grant, an unanswered question or a deleted account."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from .conftest import LOGGER, PROJECT, URL, Cloud, Play

EVE, OPS = "user:eve@example.com", "user:ops@example.com"
CONDITION = {"title": "until 2030", "expression": 'request.time < timestamp("2030-01-01T00:00:00Z")'}
MANAGER = "cloudresourcemanager.googleapis.com"
SERVER = f"mlflow-server@{PROJECT}.iam.gserviceaccount.com"
ACCESSOR = "roles/iap.httpsResourceAccessor"
CHANGES = "TASK [mlops.mlflow_gcp.iap_lb : Reserve the address"


def web(cloud: Cloud) -> str:
    """IAP's resource for all web services of the project."""
    number = cloud.call("GET", f"{MANAGER}/v1/projects/{PROJECT}")["projectNumber"]
    return f"iap.googleapis.com/v1/projects/{number}/iap_web"


def account(email: str) -> str:
    return f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts/{email}"


def read(cloud: Cloud, url: str) -> dict:
    """The policy of a resource, with its conditions."""
    if url.endswith("/iam"):
        return cloud.call("GET", url, params={"optionsRequestedPolicyVersion": 3})
    if url.startswith(("run.", "secretmanager.")):
        return cloud.call("GET", f"{url}:getIamPolicy", params={"options.requestedPolicyVersion": 3})
    if url.startswith("iam."):
        return cloud.call("POST", f"{url}:getIamPolicy", params={"options.requestedPolicyVersion": 3})
    return cloud.call("POST", f"{url}:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})


def write(cloud: Cloud, url: str, bindings: list[dict]) -> None:
    """Replace the bindings of a resource's policy."""
    policy = {"bindings": bindings, "version": 3}
    if url.endswith("/iam"):
        cloud.call("PUT", url, policy)
    else:
        cloud.call("POST", f"{url}:setIamPolicy", {"policy": policy})


def guarded(cloud: Cloud) -> dict[str, str]:
    """The role that this collection grants, by the URL of each resource."""
    secrets = f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"
    return {
        f"{web(cloud)}/compute/services/mlflow-lb-backend": ACCESSOR,
        f"run.googleapis.com/v2/projects/{PROJECT}/locations/europe-west2/services/mlflow": "roles/run.invoker",
        f"{secrets}/mlflow-db-password": "roles/secretmanager.secretAccessor",
        f"{secrets}/mlflow-session-key": "roles/secretmanager.secretAccessor",
        f"storage.googleapis.com/storage/v1/b/{PROJECT}-mlflow-artifacts/iam": "roles/storage.objectUser",
        account(SERVER): "roles/iam.serviceAccountTokenCreator",
        account(LOGGER): "roles/iam.serviceAccountTokenCreator",
    }


@contextmanager
def granted(cloud: Cloud, grants: dict[str, list[dict]]) -> Iterator[None]:
    """Add bindings to policies by URL, and restore all of them at the end."""
    before = {url: read(cloud, url).get("bindings", []) for url in grants}
    try:
        for url, bindings in grants.items():
            write(cloud, url, before[url] + bindings)
        yield
    finally:
        for url, bindings in before.items():
            write(cloud, url, bindings)


def let_eve_in_under_a_condition(cloud: Cloud) -> Callable[[], object]:
    """Grant her every role of this collection under a condition; returns what takes them from her again."""
    before = {url: read(cloud, url).get("bindings", []) for url in guarded(cloud)}
    for url, role in guarded(cloud).items():
        write(cloud, url, [*before[url], {"role": role, "members": [EVE], "condition": CONDITION}])
    return lambda: [write(cloud, url, bindings) for url, bindings in before.items()]


def sign_in(cloud: Cloud, member: str) -> int:
    """The status of MLflow's page for a user who signs in with a browser."""
    browser = cloud.session(anonymous=True)
    page = browser.get(URL, timeout=60)
    return browser.post(page.url, data={"email": member.partition(":")[2]}, timeout=90).status_code


@pytest.mark.usefixtures("deployed")
def test_conditional_access_can_be_refused(cloud):
    url = f"{web(cloud)}/compute/services/mlflow-lb-backend"
    with granted(cloud, {url: [{"role": ACCESSOR, "members": [EVE], "condition": CONDITION}]}):
        assert sign_in(cloud, EVE) == 200
        play = cloud.playbook("../tests/e2e/front_door.yml", "--extra-vars", "mlflow_iam_on_conditional=refuse")
        assert play.status != 0 and play.recap("changed") == 0, play.output
        assert f"it is held by {EVE} under the condition 'until 2030'" in " ".join(play.error.split())
        assert CHANGES not in play.output, "stopped before the first change"


@pytest.mark.usefixtures("deployed")
def test_inherited_access_is_found_and_can_be_accepted(cloud):
    organization = cloud.call("GET", f"{MANAGER}/v3/organizations:search")["organizations"][0]["name"]
    grants = {
        f"{MANAGER}/v3/{organization}": [{"role": ACCESSOR, "members": [EVE]}],
        f"{MANAGER}/v1/projects/{PROJECT}": [
            {"role": "roles/storage.objectViewer", "members": [EVE], "condition": CONDITION},
            {"role": "roles/secretmanager.admin", "members": [OPS]},
        ],
        web(cloud): [{"role": ACCESSOR, "members": [OPS]}],
    }
    with granted(cloud, grants):
        assert [sign_in(cloud, member) for member in (EVE, OPS)] == [200, 200]
        play = cloud.playbook("verify.yml")
        told = " ".join(play.error.split())
        assert play.status != 0 and "3 findings" in told, play.output
        for part in (
            f"organization {organization.partition('/')[2]}: {EVE} has {ACCESSOR}",
            f"project {PROJECT}: {EVE} has roles/storage.objectViewer under the condition 'until 2030'",
            f"IAP of all web services: {OPS} has {ACCESSOR}",
        ):
            assert part in told, play.output
        accepted = json.dumps({"mlflow_accepted_members": [EVE, OPS]})
        play = cloud.playbook("verify.yml", "--extra-vars", accepted)
        assert play.status == 0 and OPS not in play.output and "roles/owner" in play.output, play.output


@pytest.mark.parametrize(
    ("variables", "lost"),
    [
        ({"mlflow_webapp_users": []}, "group:ml-team@example.com, user:jane@example.com"),
        ({"mlflow_logger_token_creators": []}, f"serviceAccount:deployer@{PROJECT}.iam.gserviceaccount.com"),
    ],
)
def test_an_unanswered_question_locks_nobody_out(cloud, deployed: Play, variables, lost):
    before = {url: read(cloud, url)["bindings"] for url in guarded(cloud)}
    play = cloud.playbook("../tests/e2e/front_door.yml", "--extra-vars", json.dumps(variables))
    assert play.status != 0 and play.recap("changed") == 0, play.output
    assert CHANGES not in play.output, "stopped before the first change"
    told = " ".join(play.error.split())
    assert f"{lost} would lose it" in told and "mlflow_allow_nobody" in told, play.output
    assert {url: read(cloud, url)["bindings"] for url in guarded(cloud)} == before


@pytest.mark.long
@pytest.mark.usefixtures("deployed")
def test_nobody_can_be_decided_and_pods_may_use_the_service_account(cloud):
    url = f"{web(cloud)}/compute/services/mlflow-lb-backend"
    creators = [
        f"serviceAccount:{PROJECT}.svc.id.goog[mlflow/trainer]",
        "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/ci/attribute.repository/org/repo",
        "user:Jane@Example.com",
    ]
    with granted(cloud, {url: [], account(LOGGER): []}):
        variables = {"mlflow_webapp_users": [], "mlflow_allow_nobody": True, "mlflow_logger_token_creators": creators}
        play = cloud.playbook("../tests/e2e/front_door.yml", "--extra-vars", json.dumps(variables))
        assert play.status == 0 and play.recap("changed") == 2, play.output
        assert read(cloud, url)["bindings"] == [{"role": ACCESSOR, "members": [f"serviceAccount:{LOGGER}"]}]
        (binding,) = read(cloud, account(LOGGER))["bindings"]
        assert set(binding["members"]) == {*creators[:2], "user:jane@example.com"}
        assert sign_in(cloud, "user:jane@example.com") == 403
