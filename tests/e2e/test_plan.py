"""A plan says what a run would do, and nothing else; test_breakage.py has the plan of a deployment that others have changed."""

from __future__ import annotations

import json

import pytest

from tests.conftest import PROJECT, local_cloud

LINE = "update bucket mlflow-demo-mlflow-artifacts"


def test_the_plan_of_an_empty_project_is_what_the_first_run_does(first_plan, deployed, deployment):
    assert first_plan.status == 0, first_plan.output
    # The run starts what takes longest first.
    assert sorted(first_plan.changed) == sorted(deployed.changed)
    assert "+ create Cloud SQL instance mlflow\n" in first_plan.output
    plan = json.loads((deployment[0] / "plan.json").read_text())
    assert plan["counts"]["create"] > 20 and plan["counts"]["delete"] == 0
    (service,) = (entry for entry in plan["resources"] if entry["resource"] == "Cloud Run service mlflow")
    assert service["action"] == "create" and "template" in service["after"] and service["before"] == {}


def test_a_deployment_as_declared_has_an_empty_plan(cloud, tmp_path):
    file = tmp_path / "plan.json"
    play = cloud.playbook("plan.yml", "-e", f"mlflow_plan_file={file}", "-e", "mlflow_plan_fail_on_changes=true")
    assert play.status == 0 and play.changed == [], play.output
    plan = json.loads(file.read_text())
    assert {action: number for action, number in plan["counts"].items() if number} == {
        "unchanged": len(plan["resources"])
    }


@pytest.mark.parametrize("name", ["plan.yml", "site.yml"])
def test_the_plan_of_a_change_names_the_field(cloud, name):
    arguments = [] if name == "plan.yml" else ["--check"]
    play = cloud.playbook(name, *arguments, "-e", "bucket_versioning=false", "--tags", "bucket")
    assert play.status == 0 and play.changed == ["Create the bucket"], play.output
    assert f"~ {LINE}\n" in play.output and "versioning.enabled: true -> false\n" in play.output
    assert cloud.playbook(name, *arguments, "--tags", "bucket").changed == [], "nothing was written"


def test_a_file_that_cannot_be_written(cloud):
    play = cloud.playbook("plan.yml", "-e", "mlflow_plan_file=/no/such/folder/plan.json", "--tags", "bucket")
    assert play.status == 2
    assert (
        "Cannot write the plan to /no/such/folder/plan.json (mlflow_plan_file): No such file or directory" in play.error
    )


@pytest.mark.long
def test_a_deployment_with_everything_that_is_optional_is_made_as_planned_and_taken_down():
    """By the owner of the project: the image is built, the records are set, the certificate is from Certificate Manager."""
    options = ("-e", json.dumps({"mlflow_dns_zone": "example", "iap_lb_certificate": "certificate_manager"}))
    decided = ("-e", json.dumps({"mlflow_confirm_destroy": "demo", "mlflow_destroy_data": True}))
    with local_cloud() as cloud:
        apis = {"serviceIds": [f"{api}.googleapis.com" for api in ("cloudresourcemanager", "dns")]}
        cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", apis)
        zone = {"name": "example", "dnsName": "example.com.", "description": "zone"}
        cloud.call("POST", f"dns.googleapis.com/dns/v1/projects/{PROJECT}/managedZones", zone)
        plan, site = (cloud.playbook(name, *options, image="") for name in ("plan.yml", "site.yml"))
        assert (plan.status, site.status) == (0, 0), plan.output + site.output
        assert plan.changed == site.changed and len(site.changed) > 40
        assert cloud.playbook("plan.yml", *options, image="").changed == []
        gone, again = (cloud.playbook("destroy.yml", *options, *decided, image="") for _turn in range(2))
        assert (gone.status, again.status) == (0, 0), gone.output + again.output
        assert "still in use: []" in gone.output and again.recap("changed") == 0
        (backup,) = cloud.call("GET", f"sqladmin.googleapis.com/v1/projects/{PROJECT}/backups")["backups"]
        assert backup["type"] == "FINAL"
