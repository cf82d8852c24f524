"""playbooks/site.yml and verify.yml, run as by a user."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys

import pytest

from .conftest import LOGGER, PROJECT, ROOT, URL

SECRETS = f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"


def test_site_shows_what_it_deployed(cloud, deployed):
    address = cloud.call("GET", f"compute.googleapis.com/compute/v1/projects/{PROJECT}/global/addresses")["items"]
    (lb_ip,) = [entry["address"] for entry in address if entry.get("purpose") != "VPC_PEERING"]
    summary = deployed.output[deployed.output.index("TASK [Show what was deployed]") :]
    lines = (f"export MLFLOW_TRACKING_URI={URL}", f"export MLFLOW_IAP_SERVICE_ACCOUNT={LOGGER}")
    for part in (
        *lines,
        f"mlflow.example.com. A {lb_ip}",
        "oauth_redirect_url",
        "brand_name",
        f"{PROJECT}-mlflow-artifacts",
    ):
        assert part in summary, f"{part!r} is missing in: {summary}"


def test_the_run_is_drawn_with_what_it_waited_for(deployment):
    page = (deployment[0] / "timeline.html").read_text()
    rows = {}
    for resource, began, took, pending, calls, number in re.findall(
        r"<tr><td>demo<td>[^<]*<td>([^<]+)<td>changed<td>yes" + r'<td class="n">([\d.]+)' * 5, page
    ):
        rows[resource] = [float(value) for value in (began, took, pending, calls, number)]
    for resource in ("Cloud SQL instance mlflow", f"bucket {PROJECT}-mlflow-artifacts"):
        _began, took, pending, calls, number = rows[resource]
        assert 0 < pending + calls < took and number >= 2
    # Those that have to exist before others.
    order = [rows[name][0] for name in ("VPC network mlflow of project mlflow-demo", "Cloud SQL instance mlflow")]
    assert order == sorted(order)
    assert re.search(r"^The run took .*: 1 host, \d+ tasks, \d+ calls of Google$", deployment[1].output, re.M)


def test_the_critical_path_of_the_operations(deployment):
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "critical.py", deployment[0]], capture_output=True, text=True, check=True
    )
    found = [line.split()[2] for line in done.stdout.splitlines()]
    assert found[0] == "serviceusage.enable" and found[-1] == "in"
    # Both are real processes, which take seconds here too, and the server needs the address of the database.
    assert found.index("sqladmin.instances.insert") < found.index("run.services")
    assert sum(float(line.split()[0]) for line in done.stdout.splitlines()[:-1]) == pytest.approx(
        float(done.stdout.splitlines()[-1].split()[0]), abs=0.1 * len(found)
    )


def test_no_run_shows_a_secret(cloud, deployed, deployment):
    page = (deployment[0] / "timeline.html").read_text()
    secrets = cloud.call("GET", SECRETS)["secrets"]
    names = {secret["name"].rpartition("/")[2] for secret in secrets}
    assert names == {"mlflow-db-password", "mlflow-webhook-key", "mlflow-kek-passphrase", "mlflow-session-key"}
    for secret in secrets:
        answer = cloud.call("GET", f"secretmanager.googleapis.com/v1/{secret['name']}/versions/latest:access")
        encoded = answer["payload"]["data"]
        value = base64.b64decode(encoded).decode()
        assert len(value) >= 32
        assert value not in deployed.output and encoded not in deployed.output
        assert value not in page and encoded not in page


def test_verify_proves_the_eight_data_paths(cloud, deployed):
    play = cloud.playbook("verify.yml")
    assert play.status == 0, play.output
    for path in ("1a", "1b", "1c", "1d", "2a", "2b", "2c", "2d"):
        assert path in play.output


# As surveys of AWX give variables.
TEXT = {
    "mlflow_webapp_users": "user:jane@example.com\n\n group:ml-team@example.com\n",
    "mlflow_storage_uniform": "true",
    "network_allow_internal": "no",
    "network_peering_prefix_length": "16",
    "bucket_noncurrent_days": "30",
    "bucket_versioning": "yes",
    "cloudsql_deletion_protection": "True",
    "cloudsql_disk_size_gb": "10",
    "cloudrun_cpu_idle": "true",
    "cloudrun_max_instances": "4",
    "cloudrun_startup_failure_threshold": "36",
    "iap_lb_log_sample_rate": "1.0",
}


def test_a_second_run_changes_nothing_also_with_variables_that_are_text(cloud, deployed):
    play = cloud.playbook("site.yml", "--extra-vars", json.dumps(TEXT))
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    # One check in the play, and in each role Ansible's own check and the role's, which does not repeat the former.
    checks = re.findall(r"^TASK \[(?:\S+ : )?(Validating arguments .*|Check the variables)\]", play.output, re.M)
    assert len(checks) <= 15, checks


def test_a_user_removed_from_the_list_loses_access(cloud, deployed):
    url = f"compute.googleapis.com/compute/v1/projects/{PROJECT}/global/backendServices"
    (backend,) = cloud.call("GET", url)["items"]
    number = cloud.call("GET", f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}")["projectNumber"]
    url = f"iap.googleapis.com/v1/projects/{number}/iap_web/compute/services/{backend['name']}"

    def policy() -> dict:
        return cloud.call("POST", f"{url}:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})

    before = policy()["bindings"]
    try:
        play = cloud.playbook("site.yml", "--extra-vars", "mlflow_webapp_users=group:only-these@example.com")
        assert play.status == 0, play.output
        (binding,) = [entry for entry in policy()["bindings"] if entry["role"] == "roles/iap.httpsResourceAccessor"]
        assert set(binding["members"]) == {"group:only-these@example.com", f"serviceAccount:{LOGGER}"}
    finally:
        cloud.call("POST", f"{url}:setIamPolicy", {"policy": {"bindings": before, "version": 3}})
