"""Invalid variables and credentials: one clear line, an exit status, and no changes in the project."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .conftest import LOGGER, PROJECT, ROOT, Cloud, Play
from .test_adopt import snapshot

CLIENT = "123456789012-abc.apps.googleusercontent.com"
BAD: list[tuple[dict[str, object], list[str]]] = [
    ({"mlflow_domain": ""}, ["mlflow_domain", "domain name"]),
    ({"mlflow_domain": "https://mlflow.example.com"}, ["mlflow_domain", "without https://"]),
    ({"mlflow_extra_domains": ["https://models.example.com"]}, ["mlflow_extra_domains", "without https://"]),
    ({"mlflow_webapp_users": ["jane@example.com"]}, ["mlflow_webapp_users", "jane@example.com", "user:"]),
    ({"mlflow_webapp_users": "user:a@example.com, jane@example.com"}, ["jane@example.com", "user:"]),
    ({"mlflow_region": "europe-west99"}, ["mlflow_region", "europe-west99", "europe-west9"]),
    ({"mlflow_oauth": "custom", "mlflow_oauth_client_id": CLIENT}, ["mlflow_oauth_client_id", "secret is missing"]),
    ({"mlflow_oauth": "custom", "mlflow_oauth_client_secret": "hush"}, ["mlflow_oauth", "id is missing"]),
    ({"mlflow_oauth": "okta"}, ["mlflow_oauth", "google_managed", "custom", "brand"]),
    ({"cloudsql_tier": "db-perf-optimized-N-2"}, ["cloudsql_tier", "db-perf-optimized-N-2", "db-g1-small"]),
    (
        {"mlflow_lb_name": "data-platform-machine-learning-experiment-tracking-lb-prod"}
        | {
            "mlflow_labels": '{"Team": "ml"}',
            "cloudrun_env": "DEBUG",
            "cloudsql_database_flags": "max_connections=15",
        },
        [
            "mlflow_lb_name is 'data-platform-machine-learning-experiment-tracking-lb-prod', 58 characters, and has",
            "mlflow_labels has 'Team: ml'",
            "cloudrun_env is 'DEBUG'; allowed: a dictionary",
            "cloudrun_database_connections is 15: a rollout takes",
        ],
    ),
]
"""Variables of a host, and what one line of its error has."""


@pytest.fixture
def unchanged(cloud: Cloud, deployed: Play):
    """Fails the test if it has changed a resource or a policy."""
    before = snapshot(cloud)
    yield
    assert snapshot(cloud) == before


def assert_one_clear_line(play: Play, *parts: str) -> None:
    """The play failed, and one line of its error contains all parts."""
    assert play.status != 0 and play.recap("failed") == 1, play.output
    assert "Traceback" not in play.output, play.output
    lines = [line for line in play.error.splitlines() if all(part in line for part in parts)]
    assert lines, f"no line of the error has {parts}: {play.output}"


@pytest.fixture(scope="module")
def refused(deployed: Play, cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Play:
    """One run of site for hosts each of which has other bad variables; with credentials that do not exist, any call fails."""
    given = yaml.safe_load((ROOT / "inventories/sandbox/hosts.yml").read_text())["mlflow"]["hosts"]["demo"]
    own = [{"mlflow_name": f"team{number}", "mlflow_domain": f"team{number}.example.com"} for number in range(len(BAD))]
    hosts = {names["mlflow_name"]: given | names | variables for names, (variables, _) in zip(own, BAD, strict=True)}
    inventory = tmp_path_factory.mktemp("bad") / "hosts.yml"
    inventory.write_text(json.dumps({"mlflow": {"hosts": hosts}}))
    before = snapshot(cloud)
    play = cloud.playbook("site.yml", inventory=inventory, GCP_SERVICE_ACCOUNT_FILE="/nonexistent")
    assert snapshot(cloud) == before
    return play


def test_bad_variables_of_many_hosts_are_refused_before_the_first_call(refused):
    assert refused.status != 0 and refused.recap("failed") == len(BAD) and refused.recap("changed") == 0, refused.output
    assert "Traceback" not in refused.output and "hush" not in refused.output, refused.output


@pytest.mark.parametrize("number", range(len(BAD)), ids=lambda number: ",".join(BAD[number][0]))
def test_each_host_is_told_in_one_line_what_is_wrong(refused, number):
    (error,) = re.findall(rf"^fatal: \[team{number}\]: FAILED! => *\n(.*?)^(?=\S)", refused.output, re.M | re.S)
    (line,) = yaml.safe_load(error)["msg"].splitlines()
    assert [part for part in BAD[number][1] if part not in line] == [], line


def test_a_missing_network(cloud, unchanged):
    play = cloud.playbook("site.yml", "--extra-vars", "mlflow_network_name=no-such-network")
    assert_one_clear_line(play, "no-such-network", PROJECT)


def test_a_bucket_name_that_another_project_has(cloud, deployed):
    cloud.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": "somebody-else"})
    cloud.call("POST", "storage.googleapis.com/storage/v1/b?project=somebody-else", {"name": "taken-elsewhere"})
    play = cloud.playbook("site.yml", "--extra-vars", "bucket_name=taken-elsewhere")
    assert_one_clear_line(play, "taken-elsewhere")


def test_a_missing_key_file(cloud, unchanged):
    play = cloud.playbook("site.yml", GCP_SERVICE_ACCOUNT_FILE="/nonexistent/key.json")
    assert_one_clear_line(play, "/nonexistent/key.json")


def test_a_key_that_google_does_not_know(cloud, unchanged, tmp_path):
    key = json.loads(Path(cloud.env["GCP_SERVICE_ACCOUNT_FILE"]).read_text())
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key["private_key"] = private.private_bytes(encoding, form, plain).decode()
    file = tmp_path / "key.json"
    file.write_text(json.dumps(key))
    play = cloud.playbook("site.yml", GCP_SERVICE_ACCOUNT_FILE=str(file))
    assert_one_clear_line(play, "Invalid JWT Signature", key["client_email"])


def by_token(token: str) -> dict[str, str | None]:
    """The environment of a user with an access token and no key file."""
    return {"GCP_AUTH_KIND": "accesstoken", "GCP_ACCESS_TOKEN": token, "GCP_SERVICE_ACCOUNT_FILE": None}


def test_an_expired_token(cloud, unchanged):
    token = cloud.command("token", "--lifetime", "-1").strip()
    play = cloud.playbook("site.yml", **by_token(token))
    assert_one_clear_line(play, "401", "expired")
    assert token not in play.output


def test_an_account_without_permission(cloud, unchanged):
    token = cloud.command("token", "--as", LOGGER).strip()
    play = cloud.playbook("site.yml", **by_token(token))
    assert_one_clear_line(
        play, LOGGER, "lacks serviceusage.services.enable", "--role=roles/serviceusage.serviceUsageAdmin"
    )
    assert token not in play.output
