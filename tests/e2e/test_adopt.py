"""A stack of the Terraform module is taken over: all data stay, and no client notices."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import local_cloud

from .conftest import LOGGER, PROJECT, URL, Cloud, Play
from .terraform import CLIENT_SECRET, DEPLOYER, RUN_V2, SQL, USERS, Stack
from .test_access import sign_in
from .test_mlflow_client import token
from .traffic import API, Traffic, log

CONTENT = b"weights of a model " * 1000
STORAGE = "storage.googleapis.com"


class Adoption:
    """A stack with a run, and the playbook."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud, self.folder = cloud, folder
        self.stack = Stack(cloud)
        self.stack.apply()
        self.stack.zone()
        self.written = folder / "adopted" / "hosts.yml"
        before = {
            "mlflow_project_id": PROJECT,
            "mlflow_dns_zone": "example",
            "iap_lb_wait_for_certificate": True,
            "mlflow_oauth_client_secret": CLIENT_SECRET,
            "mlflow_adopt_inventory": str(self.written),
        }
        self.inventory = folder / "hosts.yml"
        self.inventory.write_text(json.dumps({"mlflow": {"hosts": {"prod": before}}}))

    def run(self, *words: str, book: str = "adopt.yml", **variables: Any) -> Play:
        return self.cloud.playbook(book, "--extra-vars", json.dumps(variables), *words, inventory=self.inventory)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """A request to MLflow."""
        headers = {"Authorization": f"Bearer {token(self.cloud, LOGGER)}"}
        answer = self.cloud.http(method, f"{URL}{path}", headers=headers, **options)
        assert answer.status_code == 200, answer.text
        return answer

    def log(self) -> dict[str, Any]:
        """A run as a client of Terraform's server logs it: its files go to the bucket directly."""
        made = self.ask("POST", f"{API}/experiments/create", json={"name": "churn"}).json()
        body = {"experiment_id": made["experiment_id"], "run_name": "before"}
        run = self.ask("POST", f"{API}/runs/create", json=body).json()["run"]["info"]
        metrics = [{"key": "loss", "value": 1 / step, "timestamp": step, "step": step} for step in (1, 2, 3)]
        batch = {"run_id": run["run_id"], "metrics": metrics, "params": [{"key": "depth", "value": "7"}]}
        self.ask("POST", f"{API}/runs/log-batch", json=batch)
        assert run["artifact_uri"].startswith(f"gs://{self.stack.bucket}/")
        name = run["artifact_uri"].removeprefix(f"gs://{self.stack.bucket}/") + "/model/weights.bin"
        url = f"{STORAGE}/upload/storage/v1/b/{self.stack.bucket}/o"
        sent = self.cloud.session().post(
            f"https://{url}", params={"uploadType": "media", "name": name}, data=CONTENT, timeout=60
        )
        assert sent.status_code == 200, sent.text
        return dict(run)

    def read(self, run: dict[str, Any]) -> dict[str, Any]:
        """All that was logged."""
        query = {"run_id": run["run_id"]}
        found = self.ask("GET", f"{API}/runs/get", params=query).json()["run"]
        history = self.ask("GET", f"{API}/metrics/get-history", params=query | {"metric_key": "loss"}).json()["metrics"]
        files = self.ask("GET", f"{API}/artifacts/list", params=query | {"path": "model"}).json()["files"]
        content = self.ask(
            "GET", "/get-artifact", params={"run_uuid": run["run_id"], "path": "model/weights.bin"}
        ).content
        return {"info": found["info"], "data": found["data"], "history": history, "files": files, "content": content}


@pytest.fixture(scope="module")
def adoption(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adoption]:
    with local_cloud() as cloud:
        yield Adoption(cloud, tmp_path_factory.mktemp("adopt"))


def snapshot(cloud: Cloud) -> dict[str, Any]:
    """All resources and policies."""
    status = json.loads(cloud.command("status", "--json"))
    return {"resources": status["resources"], "policies": status["policies"]}


@pytest.fixture(scope="module")
def logged(adoption: Adoption) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run, and all of it, as Terraform's server has it."""
    run = adoption.log()
    found = adoption.read(run)
    assert found["content"] == CONTENT and len(found["history"]) == 3
    return run, found


def hidden(adoption: Adoption, *texts: str) -> bool:
    """No text has a secret."""
    return not any(secret in text for secret in (adoption.stack.password, CLIENT_SECRET) for text in texts)


@pytest.mark.long
def test_without_a_confirmation_it_describes_and_plans(adoption: Adoption, logged: Any) -> None:
    before, file = snapshot(adoption.cloud), adoption.folder / "plan.json"
    play = adoption.run("--diff", "-v", mlflow_plan_file=str(file))
    assert play.status == 0 and snapshot(adoption.cloud) == before, play.output
    assert "~ update Cloud Run service mlflow-service" in play.output and " 0 delete, " in play.output
    assert "run again with mlflow_adopt_confirm=prod" in " ".join(play.output.split())
    assert "terraform state rm 'module.mlflow.module.mlflow.module.artifacts'" in play.output
    assert hidden(adoption, play.output, file.read_text(), adoption.written.read_text())

    # An inventory that somebody has edited stays.
    adoption.written.write_text("mlflow: {}\n")
    refused = adoption.run()
    assert refused.status != 0 and "nothing was written" in refused.error
    assert adoption.written.read_text() == "mlflow: {}\n"
    adoption.written.unlink()


def test_it_is_taken_over_and_no_client_notices(
    adoption: Adoption, logged: Any, record_testsuite_property: Any
) -> None:
    cloud, stack, (run, before) = adoption.cloud, adoption.stack, logged
    traffic = Traffic(cloud, work=partial(log, files=False), clients=4)
    with traffic.running():
        play = adoption.run(mlflow_adopt_confirm="prod")
    assert play.status == 0, play.output
    record_testsuite_property("adoption", str(traffic))
    print(traffic)
    assert (traffic.failed, traffic.lost()) == ([], []), f"{traffic}: {traffic.failed[:3]}"
    assert len(traffic.runs) > len(traffic.clients)

    # All that was logged is there, and the password in no environment any more.
    assert adoption.read(run) == before
    service = cloud.call("GET", RUN_V2)
    assert stack.password not in json.dumps(service) and "connector" not in service["template"]["vpcAccess"]
    versions = f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/mlflow-db-pwd/versions"
    assert [entry["name"].rpartition("/")[2] for entry in cloud.call("GET", versions)["versions"]] == ["1"]
    assert base64.b64decode(cloud.call("GET", f"{versions}/1:access")["payload"]["data"]).decode() == stack.password
    assert [entry["name"] for entry in cloud.call("GET", f"{SQL}/instances")["items"]] == [stack.instance]
    assert [sign_in(cloud, user) for user in (USERS[1], "user:joe@example.com")] == [200, 403]

    (found,) = yaml.safe_load(adoption.written.read_text())["mlflow"]["hosts"].values()
    described = {
        "bucket_name": stack.bucket,
        "cloudsql_name": stack.instance,
        "cloudsql_database": "mlflow_db",
        "cloudsql_user": "mlflowuser",
        "cloudsql_password_secret": "mlflow-db-pwd",
        "cloudsql_database_version": "POSTGRES_13",
        "cloudsql_tier": "db-f1-micro",
        "cloudrun_name": "mlflow-service",
        "mlflow_domain": "mlflow.example.com",
        "mlflow_webapp_users": USERS,
        "mlflow_network_name": "mlflow-network",
        "network_reserved_range": "",
        "mlflow_accepted_members": [f"serviceAccount:{LOGGER}"],
        "mlflow_logger_token_creators": [f"serviceAccount:{DEPLOYER}"],
        "iap_lb_replaces": ["mlflow-lb-https"],
        "mlflow_oauth_client_secret": "{{ vault_mlflow_oauth_client_secret }}",
    }
    assert found.items() >= described.items()
    assert hidden(adoption, play.output, adoption.written.read_text())


@pytest.mark.long
def test_terraform_destroys_what_is_left(adoption: Adoption, logged: Any) -> None:
    inventory, (run, before) = adoption.written.read_text(), logged
    again = adoption.run(mlflow_adopt_confirm="prod")
    assert (again.status, again.recap("changed")) == (0, 0), again.output
    assert adoption.written.read_text() == inventory
    adoption.stack.destroy()
    assert adoption.read(run) == before
    adoption.inventory = adoption.written
    secret = {"vault_mlflow_oauth_client_secret": CLIENT_SECRET}
    last = adoption.run(book="site.yml", **secret)
    assert (last.status, last.recap("changed")) == (0, 0), last.output
    verified = adoption.run(book="verify.yml", **secret)
    assert verified.status == 0, verified.output
