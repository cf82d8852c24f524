"""The smallest roles of docs/permissions.md: they suffice, and without each of them a run fails and names it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from tests.conftest import local_cloud

from .conftest import LOGGER, PROJECT, ROOT, Cloud, Play

PROJECT_URL = f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}"
LOGGER_URL = f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts/{LOGGER}"
TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"
SANDBOX_DEPLOYER = f"serviceAccount:deployer@{PROJECT}.iam.gserviceaccount.com"
DEPLOYER, VERIFIER = "ops@example.com", "check@example.com"


def documented(section: str) -> list[str]:
    """The roles of the first table in a section of the page."""
    page = (ROOT / "docs" / "permissions.md").read_text()
    text = page.partition(f"\n## {section}\n")[2].partition("\nIn addition")[0].partition("\n## ")[0]
    return re.findall(r"^\| `(roles/[\w.]+)` \|", text, re.M)


DEPLOYER_ROLES, VERIFIER_ROLES = documented("Deployer"), documented("Verifier")


def change_policy(cloud: Cloud, url: str, member: str, roles: list[str]) -> None:
    """Let a member have exactly these roles in a policy."""
    policy = cloud.call("POST", f"{url}:getIamPolicy", {})
    bindings = [
        {**binding, "members": [one for one in binding["members"] if one != member]}
        for binding in policy.get("bindings", ())
    ]
    bindings += [{"role": role, "members": [member]} for role in roles]
    cloud.call("POST", f"{url}:setIamPolicy", {"policy": {"etag": policy["etag"], "bindings": bindings}})


@contextmanager
def holding(cloud: Cloud, email: str, roles: list[str]) -> Iterator[dict[str, str | None]]:
    """The environment of a user who has exactly these roles on the project."""
    change_policy(cloud, PROJECT_URL, f"user:{email}", roles)
    token = cloud.command("token", "--as", email).strip()
    try:
        yield {"GCP_AUTH_KIND": "accesstoken", "GCP_ACCESS_TOKEN": token, "GCP_SERVICE_ACCOUNT_FILE": None}
    finally:
        change_policy(cloud, PROJECT_URL, f"user:{email}", [])


def creators(*members: str) -> tuple[str, str]:
    """The option that names who may sign in as the logger."""
    return "-e", json.dumps({"mlflow_logger_token_creators": [f"user:{VERIFIER}", *members]})


def verify(cloud: Cloud, roles: list[str], *others: str) -> Play:
    """Run verify as a user with these roles, who is named with others as the logger's token creator."""
    with holding(cloud, VERIFIER, roles) as env:
        return cloud.playbook("verify.yml", *creators(*others), **env)


@pytest.fixture
def verifier(cloud: Cloud, deployed: Play) -> Iterator[Cloud]:
    """The shared deployment, with the grant of the logger's token creator as site makes it."""
    change_policy(cloud, LOGGER_URL, f"user:{VERIFIER}", [TOKEN_CREATOR])
    yield cloud
    change_policy(cloud, LOGGER_URL, f"user:{VERIFIER}", [])


def test_the_page_lists_roles():
    assert len(DEPLOYER_ROLES) == 11 and len(VERIFIER_ROLES) == 7


def test_the_verifier_needs_only_these_roles(verifier):
    play = verify(verifier, VERIFIER_ROLES, SANDBOX_DEPLOYER)
    assert play.status == 0, play.output
    assert "Did not look at the object in bucket" in play.output


def test_a_missing_role_is_named(verifier):
    play = verify(verifier, [role for role in VERIFIER_ROLES if role != "roles/compute.viewer"], SANDBOX_DEPLOYER)
    assert play.status != 0 and "roles/compute.viewer" in play.error, play.output
    # Not a finding for each of the resources that it cannot read, but for each permission.
    assert re.search(r"\b[1-4] findings: ", play.error)


def test_the_missing_grant_on_the_logger_is_named_first(cloud, deployed):
    play = verify(cloud, VERIFIER_ROLES, SANDBOX_DEPLOYER)
    said = " ".join(play.error.split())
    assert play.status != 0 and f"user:{VERIFIER} may not sign in as {LOGGER}" in said, play.output
    assert f"add user:{VERIFIER} to mlflow_logger_token_creators" in said
    assert "Log a run through the front door" not in play.output


@pytest.fixture(scope="module")
def smallest() -> Iterator[Cloud]:
    """A separate deployment, made by a user with exactly the documented roles."""
    with local_cloud() as cloud:
        # As the Cloud console does before it shows the page on which roles are granted.
        services = f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services"
        cloud.call("POST", f"{services}/cloudresourcemanager.googleapis.com:enable", {})
        with holding(cloud, DEPLOYER, DEPLOYER_ROLES) as env:
            play = cloud.playbook("site.yml", *creators(), **env)
        assert play.status == 0, play.output
        yield cloud


@pytest.mark.long
def test_the_deployer_needs_only_these_roles(smallest):
    play = verify(smallest, VERIFIER_ROLES)
    assert play.status == 0, play.output


@pytest.mark.long
def test_the_custom_role_of_the_deployer_suffices():
    role = yaml.safe_load((ROOT / "docs" / "deployer-role.yml").read_text())
    with local_cloud() as cloud:
        services = f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services"
        apis = [f"{api}.googleapis.com" for api in ("cloudresourcemanager", "dns", "iam")]
        cloud.call("POST", f"{services}:batchEnable", {"serviceIds": apis})
        url = f"iam.googleapis.com/v1/projects/{PROJECT}/roles"
        name = cloud.call("POST", url, {"roleId": "mlflowDeployer", "role": role})["name"]
        zone = {"name": "example", "dnsName": "example.com.", "description": "zone"}
        cloud.call("POST", f"dns.googleapis.com/dns/v1/projects/{PROJECT}/managedZones", zone)
        options = {"mlflow_dns_zone": "example", "network_allow_internal": True}
        by_dns = options | {"iap_lb_certificate": "certificate_manager"}
        changes = {
            "mlflow_extra_domains": ["models.example.com"],
            "mlflow_labels": {"team": "ml"},
            "cloudsql_disk_size_gb": 20,
        }
        with holding(cloud, DEPLOYER, [name]) as env:
            preflight = cloud.playbook("preflight.yml", *creators(), "-e", json.dumps(options), image="", **env)
            assert preflight.status == 0 and "lacks" not in preflight.output, preflight.output
            for variables in (by_dns, options | changes | {"iap_lb_wait_for_certificate": True}):
                play = cloud.playbook("site.yml", *creators(), "-e", json.dumps(variables), image="", **env)
                assert play.status == 0, play.output
            for book in ("upgrade.yml", "gc.yml"):
                play = cloud.playbook(book, *creators(), "-e", json.dumps(options), image="", **env)
                assert play.status == 0, play.output


def an_api_is_disabled(cloud: Cloud) -> None:
    number = cloud.call("GET", PROJECT_URL)["projectNumber"]
    url = f"serviceusage.googleapis.com/v1/projects/{number}/services/iap.googleapis.com:disable"
    cloud.call("POST", url, {"disableDependentServices": True})


# Roles that a run needs only when there is something to change, with the change: variables, or what was done to the project.
CHANGES = {
    "roles/serviceusage.serviceUsageAdmin": an_api_is_disabled,
    "roles/compute.loadBalancerAdmin": {"mlflow_extra_domains": ["models.example.com"]},
    "roles/iam.serviceAccountUser": {"cloudrun_env": {"MLFLOW_A_CHANGE": "1"}},
}


@pytest.mark.long
@pytest.mark.parametrize("role", DEPLOYER_ROLES)
def test_a_deployer_without_a_role_fails(smallest, role):
    change = CHANGES.get(role, {})
    if callable(change):
        change(smallest)
    with holding(smallest, DEPLOYER, [other for other in DEPLOYER_ROLES if other != role]) as env:
        more = ("-e", json.dumps(change)) if isinstance(change, dict) else ()
        play = smallest.playbook("site.yml", *creators(), *more, **env)
    assert play.status != 0 and play.recap("failed") == 1, play.output
    assert role in play.error, play.error


@pytest.mark.long
@pytest.mark.parametrize("role", VERIFIER_ROLES)
def test_a_verifier_without_a_role_fails(smallest, role):
    play = verify(smallest, [other for other in VERIFIER_ROLES if other != role])
    assert play.status != 0 and play.recap("failed") == 1, play.output
    assert role in play.error, play.error
