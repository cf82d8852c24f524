"""The playbooks: which hosts they need, and what they refuse before the first change."""

from __future__ import annotations

import pytest

from .conftest import Cloud
from .test_bad_input import assert_one_clear_line, unchanged

__all__ = ["unchanged"]


def test_preflight_finds_nothing_on_a_deployment_and_says_who_deploys(cloud: Cloud, deployed):
    play = cloud.playbook("preflight.yml")
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    assert "deployer@mlflow-demo.iam.gserviceaccount.com" in play.output


@pytest.fixture
def other_hosts(tmp_path):
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("{all: {hosts: {web: {}}, children: {mlflow: {}}}}")
    return inventory


@pytest.mark.parametrize("name", ["site.yml", "verify.yml"])
def test_a_playbook_without_a_deployment_fails(cloud: Cloud, other_hosts, name):
    play = cloud.playbook(name, inventory=other_hosts)
    assert_one_clear_line(play, "The inventory has no host in the group mlflow")


def test_a_limit_without_a_deployment_fails(cloud: Cloud, tmp_path):
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("{all: {hosts: {web: {}}, children: {mlflow: {hosts: {demo: {}}}}}}")
    assert_one_clear_line(cloud.playbook("verify.yml", "--limit", "web", inventory=inventory), "--limit web")


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        (
            "mlflow_region",
            "europe-west1",
            ["region of Cloud SQL instance", "location of bucket", "subnetwork mlflow"],
        ),
        (
            "mlflow_network_name",
            "default",
            ["privateNetwork of Cloud SQL instance", "network of reserved range mlflow-services"],
        ),
    ],
)
def test_what_cannot_be_changed_is_refused_before_the_first_change(cloud, deployed, unchanged, name, value, parts):
    play = cloud.playbook("site.yml", "--extra-vars", f"{name}={value}")
    assert_one_clear_line(play, f"{name} is {value!r}, but", *parts, "docs/changes.md")


def test_a_part_of_nothing_says_what_is_missing(cloud: Cloud):
    cloud.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": "empty-project"})
    play = cloud.playbook("site.yml", "--tags", "users", "--extra-vars", "mlflow_project_id=empty-project")
    assert_one_clear_line(
        play, "limited to users", "compute.googleapis.com must be enabled", "run site without --tags first"
    )
