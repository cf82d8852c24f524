"""Several deployments in one run: what fails stays alone, and an inventory finds what exists."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import BIN, IMAGE_PYTHON, PROJECT, ROOT, Cloud, Play

SANDBOX = yaml.safe_load((ROOT / "inventories/sandbox/hosts.yml").read_text())["mlflow"]["hosts"]["demo"]
STATISTICS = {"ANSIBLE_SHOW_CUSTOM_STATS": "1"}
FOUND = "mlflow.europe-west2.mlflow-demo"


def statistics(play: Play) -> Any:
    """What the run has published with set_stats."""
    text = play.output.partition("\tRUN: ")[2].partition("\n\n")[0]
    return json.loads(text)


@pytest.fixture(scope="module")
def cloud(own_cloud: Cloud) -> Cloud:
    """A deployment beside which the tests of this file make others."""
    return own_cloud


@pytest.fixture
def found(cloud: Cloud, tmp_path: Path):
    """What the inventory plugin finds: a function of its options, which returns the hosts and groups; and the file."""

    def found(name: str = "all", **options: Any) -> tuple[dict[str, Any], Path]:
        file = tmp_path / f"{name}.deployments.yml"
        file.write_text(yaml.safe_dump({"plugin": "mlops.mlflow_gcp.deployments", "projects": [PROJECT]} | options))
        listed = subprocess.run(
            [BIN / "ansible-inventory", "-i", file, "--list"],
            env=cloud.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert listed.returncode == 0 and "[WARNING]" not in listed.stderr, listed.stderr
        return plain(json.loads(listed.stdout)), file

    return found


def plain(value: Any) -> Any:
    """What ansible-inventory shows, without its marks on text that is no template."""
    if isinstance(value, dict):
        return (
            value["__ansible_unsafe"]
            if "__ansible_unsafe" in value
            else {key: plain(each) for key, each in value.items()}
        )
    return [plain(each) for each in value] if isinstance(value, list) else value


def test_what_fails_does_not_stop_the_others(cloud: Cloud, deployed, tmp_path: Path):
    hosts = {
        "a-broken": SANDBOX | {"mlflow_name": "a-broken", "mlflow_region": "london", "mlflow_domain": "a.example.com"},
        "b-locked-out": SANDBOX
        | {
            "mlflow_name": "b-locked",
            "mlflow_domain": "b.example.com",
            "mlflow_service_account_file": str(tmp_path / "none.json"),
        },
        "demo": SANDBOX,
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"mlflow": {"hosts": hosts}}))
    json_lines = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    play = cloud.playbook("site.yml", "--forks", "3", inventory=inventory, **STATISTICS, **json_lines)
    assert (play.status, play.recap("failed"), play.recap("changed")) == (2, 2, 0), play.output
    fleet = statistics(play)["mlflow_fleet"]
    assert fleet["done"] == ["demo"] and fleet["outputs"]["demo"]["url"] == "https://mlflow.example.com"
    assert list(fleet["failed"]) == ["a-broken", "b-locked-out"]
    assert fleet["failed"]["a-broken"].startswith("Check the variables: mlflow_region is 'london'; allowed:")
    assert "none.json: No such file" in fleet["failed"]["b-locked-out"]
    assert "1 of 3 deployments are done" in play.output


def test_the_inventory_finds_what_was_deployed(cloud: Cloud, deployed, found):
    listed, file = found(
        keyed_groups=[{"key": "mlflow_front_door", "prefix": "door"}], compose={"image": "mlflow_deployment.image"}
    )
    assert listed["mlflow"]["hosts"] == listed["door_load_balancer"]["hosts"] == [FOUND]
    variables = listed["_meta"]["hostvars"][FOUND]
    deployment = variables.pop("mlflow_deployment")
    assert variables.pop("image") == deployment["image"]
    assert variables == {
        "ansible_connection": "local",
        "mlflow_project_id": PROJECT,
        "mlflow_region": "europe-west2",
        "mlflow_name": "mlflow",
        "mlflow_front_door": "load_balancer",
        "mlflow_domain": "mlflow.example.com",
        "mlflow_labels": {},
        "mlflow_webapp_users": sorted(SANDBOX["mlflow_webapp_users"]),
        "mlflow_logger_token_creators": [f"serviceAccount:deployer@{PROJECT}.iam.gserviceaccount.com"],
    }
    assert deployment["ready"] and deployment["uri"].startswith("https://mlflow-")
    # A plan for the host that it has found has nothing to change: all that the playbooks need is there.
    plan = cloud.playbook("plan.yml", inventory=file)
    assert (plan.status, plan.changed) == (0, []), plan.output
    assert found("none", filters=["team=ml"])[0]["_meta"]["hostvars"] == {}


STAGES, TEAMS = ("dev", "staging", "prod"), ("ants", "bees", "cats", "dogs", "elks", "frogs", "gnus")
PROJECTS = {"one": PROJECT, "two": "fleet-two", "three": "fleet-three"}
HOSTS = [(team, stage) for team in TEAMS for stage in STAGES][:20]


def prepared(cloud: Cloud) -> str:
    """Two more projects, and an account that owns one of them, which the deployer may act as; returns its address."""
    (billing,) = cloud.call("GET", "cloudbilling.googleapis.com/v1/billingAccounts")["billingAccounts"]
    for project in PROJECTS.values():
        if project != PROJECT:
            cloud.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": project})
            linked = {"billingAccountName": billing["name"]}
            cloud.call("PUT", f"cloudbilling.googleapis.com/v1/projects/{project}/billingInfo", linked)
            manager = {"serviceIds": ["cloudresourcemanager.googleapis.com"]}
            cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable", manager)
        image = f"europe-west2-docker.pkg.dev/{project}/mlflow/server:3.17.2"
        cloud.command("image", "add", image, str(ROOT / "image"), "--python", IMAGE_PYTHON)
    apis = {"serviceIds": ["iam.googleapis.com", "iamcredentials.googleapis.com"]}
    cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", apis)
    accounts = f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts"
    account = cloud.call("POST", accounts, {"accountId": "three-deployer"})["email"]
    deployer = f"serviceAccount:deployer@{PROJECT}.iam.gserviceaccount.com"
    policy = {"bindings": [{"role": "roles/iam.serviceAccountTokenCreator", "members": [deployer]}]}
    cloud.call("POST", f"{accounts}/{account}:setIamPolicy", {"policy": policy})
    owner = {"bindings": [{"role": "roles/owner", "members": [f"serviceAccount:{account}"]}]}
    three = f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECTS['three']}"
    # From now on, the deployer has no access to it.
    cloud.call("POST", f"{three}:setIamPolicy", {"policy": owner})
    return str(account)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_deployments_in_one_run(tmp_path: Path):
    with Cloud.running("--project", PROJECT, "--image-python", IMAGE_PYTHON) as cloud:
        account = prepared(cloud)
        folder = tmp_path / "inventory"
        (folder / "group_vars").mkdir(parents=True)
        hosts: dict[str, dict[str, Any]] = {}
        groups: dict[str, Any] = {}
        for team, stage in HOSTS:
            name = f"{team}-{stage}"
            hosts[name] = {}
            groups.setdefault(f"team_{team}", {"hosts": {}})["hosts"][name] = {}
            groups.setdefault(f"stage_{stage}", {"hosts": {}})["hosts"][name] = {}
        hosts["cats-prod"] = {"mlflow_region": "london"}
        projects = {team: list(PROJECTS.values())[number % 3] for number, team in enumerate(TEAMS)}
        of_all = {
            "mlflow_region": "europe-west2",
            "mlflow_front_door": "cloud_run",
            "mlflow_name": "{{ inventory_hostname }}",
            "mlflow_labels": {"team": "{{ team }}", "stage": "{{ stage }}"},
            "mlflow_webapp_users": ["group:{{ team }}@example.com"],
            "mlflow_logger_token_creators": [
                f"serviceAccount:deployer@{PROJECT}.iam.gserviceaccount.com",
                f"serviceAccount:{account}",
            ],
        }
        files = {"mlflow": of_all} | {f"stage_{stage}": {"stage": stage} for stage in STAGES}
        files["stage_prod"]["cloudsql_deletion_protection"] = True
        for team, project in projects.items():
            files[f"team_{team}"] = {"team": team, "mlflow_project_id": project}
            if project == PROJECTS["three"]:
                files[f"team_{team}"]["mlflow_impersonate_service_account"] = account
        for name, variables in files.items():
            (folder / "group_vars" / f"{name}.yml").write_text(yaml.safe_dump(variables))
        static = {"mlflow": {"hosts": hosts, "children": groups}}
        (folder / "hosts.yml").write_text(yaml.safe_dump(static))
        image = "europe-west2-docker.pkg.dev/{{ mlflow_project_id }}/mlflow/server:3.17.2"
        run = {"image": image, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_FORKS": "10", **STATISTICS}
        play = cloud.playbook("site.yml", inventory=folder, **run)
        assert play.recap("failed") == 1, play.output[-9000:]
        fleet = statistics(play)["mlflow_fleet"]
        assert list(fleet["failed"]) == ["cats-prod"] and len(fleet["done"]) == len(fleet["outputs"]) == 19
        again = cloud.playbook("site.yml", inventory=folder, **run)
        assert (again.recap("failed"), again.recap("changed")) == (1, 0), again.output[-9000:]

        # The same names and groups, and so the same group_vars, without a list of hosts.
        groups_by_label = [{"key": f"mlflow_labels.{label}", "prefix": label} for label in ("team", "stage")]
        common = {
            "plugin": "mlops.mlflow_gcp.deployments",
            "hostname": "mlflow_labels.team ~ '-' ~ mlflow_labels.stage",
            "keyed_groups": groups_by_label,
            "access": False,
        }
        one = {"projects": [PROJECTS["one"], PROJECTS["two"]]}
        two = {"projects": [PROJECTS["three"]], "impersonate_service_account": account}
        (folder / "hosts.yml").unlink()
        (folder / "one.deployments.yml").write_text(yaml.safe_dump(common | one))
        (folder / "two.deployments.yml").write_text(yaml.safe_dump(common | two))
        plan = cloud.playbook("plan.yml", inventory=folder, **run)
        assert (plan.status, plan.recap("changed")) == (0, 0), plan.output[-9000:]
        # One of each credential.
        verify = cloud.playbook("verify.yml", "--limit", "bees-staging,cats-staging", inventory=folder, **run)
        assert statistics(verify)["mlflow_fleet"] == {"done": ["bees-staging", "cats-staging"], "failed": {}}, (
            verify.output
        )
        upgrade = cloud.playbook("upgrade.yml", "--limit", "team_cats", inventory=folder, **run)
        assert upgrade.status == 0, upgrade.output[-9000:]
        confirmed = (
            "-e",
            "mlflow_destroy_data=true",
            "-e",
            "mlflow_final_backup=false",
            "-e",
            "mlflow_confirm_destroy={{ inventory_hostname }}",
        )
        destroy = cloud.playbook("destroy.yml", "--limit", "stage_dev:&team_cats", *confirmed, inventory=folder, **run)
        assert destroy.status == 0, destroy.output[-9000:]
        left = cloud.playbook("preflight.yml", "--list-hosts", inventory=folder, **run)
        assert "ants-dev" in left.output and "cats-dev" not in left.output, left.output
