"""Single roles in playbooks of others, with documented arguments only, beside resources that something else has made."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import BIN, LINK, ROOT, Cloud, Play

COMPUTE = "compute.googleapis.com/compute/v1/projects"
MANAGER = "cloudresourcemanager.googleapis.com/v1/projects"
BUCKETS = "storage.googleapis.com/storage/v1/b"
REGION = "europe-west2"
PROJECT = "foreign"
APIS = (
    "cloudresourcemanager",
    "compute",
    "iam",
    "iap",
    "run",
    "secretmanager",
    "servicenetworking",
    "sqladmin",
    "storage",
)
SERVICE = f"run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/services"
OF_PROJECT = {"project": PROJECT}
START = "mlops.mlflow_gcp.iap_cloud_run : Check the variables"
PASSWORD, CLIENT_SECRET = "hunter2", "GOCSPX-not-to-be-seen"

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
BUCKET = {"bucket_project_id": PROJECT, "bucket_location": REGION}
NETWORK = {"network_project_id": PROJECT, "network_region": REGION}
CLOUDSQL = {
    "cloudsql_project_id": PROJECT,
    "cloudsql_region": REGION,
    "cloudsql_private_network": f"projects/{PROJECT}/global/networks/terraform",
}
ACCESS = {
    "iap_cloud_run_project_id": PROJECT,
    "iap_cloud_run_region": REGION,
    "iap_cloud_run_service": "theirs",
    "iap_cloud_run_users": ["user:jane@example.com"],
    "iap_cloud_run_logger_token_creators": ["user:jane@example.com"],
}


def include(role: str, how: str = "include_role", **variables: Any) -> dict[str, Any]:
    """A task that includes a role."""
    return {"name": f"Role {role}", f"ansible.builtin.{how}": {"name": f"mlops.mlflow_gcp.{role}"}, "vars": variables}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A project in which Terraform has made a network with a peering, and people a bucket, a database and a service."""
    with Cloud.running() as cloud:
        call = cloud.call
        call("POST", MANAGER, {"projectId": PROJECT})
        apis = {"serviceIds": [f"{name}.googleapis.com" for name in APIS]}
        call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", apis)
        network = {"name": "terraform", "autoCreateSubnetworks": False, "routingConfig": {"routingMode": "GLOBAL"}}
        call("POST", f"{COMPUTE}/{PROJECT}/global/networks", network | {"description": "Managed by Terraform"})
        path = f"projects/{PROJECT}/global/networks/terraform"
        subnetwork = {"name": "runs", "network": path, "ipCidrRange": "10.20.0.0/24", "enableFlowLogs": True}
        call("POST", f"{COMPUTE}/{PROJECT}/regions/{REGION}/subnetworks", subnetwork)
        range_ = {"name": "managed", "purpose": "VPC_PEERING", "addressType": "INTERNAL", "prefixLength": 20}
        call("POST", f"{COMPUTE}/{PROJECT}/global/addresses", range_ | {"network": path})
        number = call("GET", f"{MANAGER}/{PROJECT}")["projectNumber"]
        connections = "servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
        peering = {"network": path.replace(PROJECT, number), "reservedPeeringRanges": ["managed"]}
        call("POST", connections, peering)
        bucket = {
            "name": "made-by-hand",
            "location": REGION,
            "labels": {"team": "ml"},
            "cors": [{"origin": ["https://example.com"], "method": ["GET"]}],
            "versioning": {"enabled": True},
        }
        call("POST", f"{BUCKETS}?project={PROJECT}", bucket)
        service = {"iapEnabled": True, "template": {"containers": [{"image": "gcr.io/cloudrun/hello"}]}}
        call("POST", f"{SERVICE}?serviceId=theirs", service)
        yield cloud


@pytest.fixture
def foreign(cloud: Cloud, tmp_path: Path) -> Callable[..., Play]:
    """``foreign(*tasks, hosts=…, play=…)``: a playbook of others, in their own folder and with their own inventory."""

    def run(
        *tasks: dict[str, Any],
        words: tuple[str, ...] = (),
        hosts: dict[str, Any] | None = None,
        folder: Path = tmp_path,
        env: dict[str, str] | None = None,
        **play: Any,
    ) -> Play:
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts or {"one": LOCAL}}}))
        entry = {"name": "Theirs", "hosts": "all", "gather_facts": False, **play, "tasks": list(tasks)}
        (folder / "play.yml").write_text(yaml.safe_dump([entry], sort_keys=False))
        plain = {
            k: v for k, v in cloud.env.items() if k not in ("GCP_PROJECT", "GOOGLE_CLOUD_PROJECT", "ANSIBLE_CONFIG")
        }
        done = subprocess.run(
            [BIN / "ansible-playbook", "-i", "hosts.yml", "play.yml", *words],
            cwd=folder,
            env=plain
            | {"ANSIBLE_COLLECTIONS_PATH": str(LINK.parents[2]), "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
            | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return Play(done.returncode, done.stdout, 0)

    return run


def converges(run: Callable[..., Play], *tasks: dict[str, Any], **options: Any) -> Play:
    """The first of two runs; the second changes nothing."""
    first, second = run(*tasks, **options), run(*tasks, **options)
    assert first.status == 0, first.output
    assert (second.status, second.recap("changed")) == (0, 0), second.output
    return first


@contextmanager
def unchanged(cloud: Cloud, url: str) -> Iterator[None]:
    """The resource is the same afterwards."""
    before = cloud.call("GET", url)
    yield
    assert cloud.call("GET", url) == before


def test_a_network_of_terraform(cloud, foreign):
    names = {"network_name": "terraform", "network_subnetwork_name": "runs", "network_reserved_range": "managed"}
    with (
        unchanged(cloud, f"{COMPUTE}/{PROJECT}/global/networks/terraform"),
        unchanged(cloud, f"{COMPUTE}/{PROJECT}/regions/{REGION}/subnetworks/runs"),
    ):
        play = foreign(include("network", **NETWORK, **names), {"ansible.builtin.debug": {"var": "network_result"}})
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    assert f"network_path: projects/{PROJECT}/global/networks/terraform" in play.output


def test_a_bucket_made_by_hand(cloud, foreign):
    converges(foreign, include("bucket", **BUCKET, bucket_name="made-by-hand"))
    bucket = cloud.call("GET", f"{BUCKETS}/made-by-hand")
    assert (bucket["labels"]["team"], bucket["cors"][0]["origin"]) == ("ml", ["https://example.com"])
    assert bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced"


@pytest.mark.long
def test_a_database_that_exists(cloud, foreign):
    """What others have set stays: labels, flags, another database and its user."""
    sql = f"sqladmin.googleapis.com/v1/projects/{PROJECT}/instances"
    settings = {
        "tier": "db-g1-small",
        "edition": "ENTERPRISE",
        "userLabels": {"team": "ml"},
        "databaseFlags": [{"name": "log_min_duration_statement", "value": "500"}],
        "ipConfiguration": {"ipv4Enabled": False, "privateNetwork": CLOUDSQL["cloudsql_private_network"]},
    }
    cloud.call(
        "POST", sql, {"name": "theirs", "region": REGION, "databaseVersion": "POSTGRES_16", "settings": settings}
    )
    cloud.call("POST", f"{sql}/theirs/databases", {"name": "shop"})
    cloud.call("POST", f"{sql}/theirs/users", {"name": "shop", "password": PASSWORD})
    own = {"cloudsql_name": "theirs", "cloudsql_database_version": "POSTGRES_16"}
    converges(foreign, include("cloudsql", **CLOUDSQL, **own))
    live = cloud.call("GET", f"{sql}/theirs")["settings"]
    assert live["userLabels"]["team"] == "ml" and settings["databaseFlags"][0] in live["databaseFlags"]
    assert {entry["name"] for entry in cloud.call("GET", f"{sql}/theirs/databases")["items"]} >= {"shop", "mlflow"}
    assert {entry["name"] for entry in cloud.call("GET", f"{sql}/theirs/users")["items"]} >= {"shop", "mlflow"}


def test_under_become(cloud, foreign):
    """The modules run in a process of their own then, as the other user."""
    play = converges(foreign, include("bucket", **BUCKET, bucket_name="become"), become=True, become_method="su")
    assert play.recap("changed") == 1


def test_arguments_from_a_vault(cloud, foreign, tmp_path):
    """A name and a secret; the secret is nowhere in the output."""
    (tmp_path / "password").write_text(PASSWORD)
    secret = {"vault_name": "from-a-vault", "vault_secret": CLIENT_SECRET}
    (tmp_path / "vault.yml").write_text(yaml.safe_dump(secret))
    words = ("--vault-password-file", "password")
    command = [BIN / "ansible-vault", "encrypt", "vault.yml", *words]
    subprocess.run(command, cwd=tmp_path, env=cloud.env, check=True, capture_output=True)
    oauth = {
        "iap_cloud_run_oauth": "custom",
        "iap_cloud_run_oauth_client_id": "1234-abc.apps.googleusercontent.com",
        "iap_cloud_run_oauth_client_secret": "{{ vault_secret }}",
    }
    play = converges(
        foreign,
        include("bucket", **BUCKET, bucket_name="{{ vault_name }}"),
        include("iap_cloud_run", **ACCESS, **oauth),
        words=(*words, "--diff", "-vv"),
        vars_files=["vault.yml"],
    )
    assert cloud.call("GET", f"{BUCKETS}/from-a-vault") and CLIENT_SECRET not in play.output


def test_in_a_loop_over_two_deployments_of_one_project(cloud, foreign):
    """Nothing of the first reaches the second."""
    item = "{{ item.name }}"
    bucket = include("bucket", **BUCKET, bucket_name=f"loop-{item}", bucket_noncurrent_days="{{ item.days }}")
    seen = {"name": "See", "ansible.builtin.debug": {"msg": "bucket {{ bucket_result.name }}"}}
    converges(foreign, {**bucket, "loop": [{"name": "red", "days": 3}, {"name": "blue", "days": 0}]}, seen)
    rules = {name: cloud.call("GET", f"{BUCKETS}/loop-{name}")["lifecycle"]["rule"] for name in ("red", "blue")}
    assert [len(rules[name]) for name in ("red", "blue")] == [2, 1]


def test_delegated_from_a_host_that_is_not_reached(cloud, foreign):
    task = {**include("bucket", **BUCKET, bucket_name="{{ inventory_hostname }}-delegated")}
    task["ansible.builtin.include_role"]["apply"] = {"delegate_to": "localhost"}
    hosts = {"web": {"ansible_host": "192.0.2.1", "ansible_python_interpreter": "/nowhere/python"}}
    play = converges(
        foreign, task, {"name": "See", "ansible.builtin.debug": {"msg": "{{ bucket_result.url }}"}}, hosts=hosts
    )
    assert "gs://web-delegated" in play.output


def test_tags_limit_and_start_at_task(cloud, foreign):
    hosts = {"one": LOCAL, "two": LOCAL}
    tasks = (
        {**include("bucket", "import_role", **BUCKET, bucket_name="{{ inventory_hostname }}-tagged"), "tags": "data"},
        {**include("iap_cloud_run", "import_role", **ACCESS), "tags": "access"},
    )
    play = foreign(*tasks, hosts=hosts, words=("--tags", "data", "--limit", "one"))
    assert (play.status, play.changed) == (0, ["Create the bucket"]), play.output
    # Only the members, without the role's first task.
    assert foreign(tasks[1]).status == 0
    other = include("iap_cloud_run", "import_role", **ACCESS | {"iap_cloud_run_users": ["user:joe@example.com"]})
    play = foreign(other, words=("--tags", "users"))
    assert (play.status, play.changed) == (0, ["Grant access to exactly the users and the service account"]), (
        play.output
    )
    play = foreign(*tasks, hosts={"skipped": LOCAL}, words=("--start-at-task", START))
    assert (play.status, play.changed) == (0, ["Grant access to exactly the users and the service account"]), (
        play.output
    )
    assert "skipped-tagged" not in [bucket["name"] for bucket in cloud.call("GET", BUCKETS, params=OF_PROJECT)["items"]]


def test_any_errors_fatal_and_serial(cloud, foreign):
    """One host's bad value stops all before the first change; one host after the other works."""
    hosts = {"one": LOCAL | {"days": "many"}, "two": LOCAL | {"days": 1}}
    bucket = include(
        "bucket", **BUCKET, bucket_name="{{ inventory_hostname }}-serial", bucket_noncurrent_days="{{ days }}"
    )
    play = foreign(bucket, hosts=hosts, any_errors_fatal=True)
    assert play.status != 0 and play.recap("changed") == 0, play.output
    assert "bucket_noncurrent_days" in play.error
    hosts["one"]["days"] = 2
    play = converges(foreign, bucket, hosts=hosts, serial=1)
    assert play.recap("changed") == 2 and play.output.count("TASK [mlops.mlflow_gcp.bucket : Create the bucket]") == 2


def test_a_path_with_spaces_and_a_fact_cache(cloud, foreign, tmp_path):
    """Nothing secret, and no result of a role, stays in the cache."""
    folder = tmp_path / "my play books"
    collections = folder / "my collections" / "ansible_collections" / "mlops"
    collections.mkdir(parents=True)
    (collections / "mlflow_gcp").symlink_to(ROOT)
    env = {
        "ANSIBLE_COLLECTIONS_PATH": str(folder / "my collections"),
        "ANSIBLE_HOME": str(folder / "my home"),
        "ANSIBLE_CACHE_PLUGIN": "jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(folder / "my cache"),
    }
    tasks = (include("bucket", **BUCKET, bucket_name="cached"), include("iap_cloud_run", **ACCESS))
    converges(foreign, *tasks, folder=folder, env=env, gather_facts=True, gather_subset=["min"])
    (file,) = (folder / "my cache").glob("*one")
    text = file.read_text()
    assert "ansible_" in text and "_result" not in text and CLIENT_SECRET not in text
