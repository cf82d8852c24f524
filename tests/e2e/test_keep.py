"""Maintenance: persistent keys, backups before schema changes, garbage collection."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from .conftest import IMAGE_PYTHON, LOGGER, PROJECT, ROOT, URL, Cloud, Play
from .scripts import Client, scripts
from .test_mlflow_client import token

RUN = f"run.googleapis.com/v2/projects/{PROJECT}/locations/europe-west2"
SECRETS = f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"
INSTANCE = f"sqladmin.googleapis.com/v1/projects/{PROJECT}/instances/mlflow"
BACKUPS = f"{INSTANCE}/backupRuns"
BUCKET = f"storage.googleapis.com/storage/v1/b/{PROJECT}-mlflow-artifacts"
SERVER = f"serviceAccount:mlflow-server@{PROJECT}.iam.gserviceaccount.com"
IMAGE = f"europe-west2-docker.pkg.dev/{PROJECT}/mlflow/server"
KEYS = {
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "mlflow-webhook-key",
    "MLFLOW_CRYPTO_KEK_PASSPHRASE": "mlflow-kek-passphrase",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "mlflow-session-key",
}
DOWNGRADE = "downgrade by one migration"
Sql = Callable[[str], str]


@pytest.fixture(scope="module")
def cloud(own_cloud: Cloud) -> Cloud:
    """A deployment that only the tests of this file change."""
    return own_cloud


def service(cloud: Cloud) -> dict:
    return cloud.call("GET", f"{RUN}/services/mlflow")


@contextmanager
def statements(cloud: Cloud, folder: Path) -> Iterator[Sql]:
    """
    Run one statement in the private database, or MLflow's own downgrade by one migration, as an operator can: with a job
    in the server's network.
    """
    (folder / "Containerfile").write_text('FROM python:3\nCOPY sql.py /opt/\nENTRYPOINT ["python", "/opt/sql.py"]\n')
    (folder / "sql.py").write_text(
        dedent("""\
        import os, sys
        import psycopg2
        where = {name: os.environ["MLFLOW_DB_" + name.upper()] for name in ("host", "user", "password")}
        if sys.argv[1] == DOWNGRADE:
            import alembic.command
            from mlflow.store.db.utils import _get_alembic_config
            url = "postgresql+psycopg2://{user}:{password}@{host}/mlflow".format(**where)
            alembic.command.downgrade(_get_alembic_config(url), "-1")
            sys.exit(print("rows 0"))
        with psycopg2.connect(dbname="mlflow", **where) as connection, connection.cursor() as cursor:
            cursor.execute(sys.argv[1])
            print("rows", cursor.fetchall() if cursor.description else cursor.rowcount)
    """).replace("DOWNGRADE", repr(DOWNGRADE))
    )
    image = f"{IMAGE}-sql:1"
    cloud.command("image", "add", image, str(folder), "--python", IMAGE_PYTHON)
    template = service(cloud)["template"]
    (container,) = template["containers"]
    task = {
        "containers": [{"image": image, "env": container["env"]}],
        "maxRetries": 0,
        **{key: template[key] for key in ("serviceAccount", "vpcAccess")},
    }
    body = {"template": {"template": task}}
    cloud.call("POST", f"{RUN}/jobs?jobId=sql", body)

    def run(statement: str) -> str:
        body = {"overrides": {"containerOverrides": [{"args": [statement]}]}}
        execution = cloud.call("POST", f"{RUN}/jobs/sql:run", body)["response"]["name"].rpartition("/")[2]
        chosen = f'resource.type="cloud_run_job" AND labels."run.googleapis.com/execution_name"="{execution}"'
        query = {"resourceNames": [f"projects/{PROJECT}"], "filter": chosen}
        entries = cloud.call("POST", "logging.googleapis.com/v2/entries:list", query)["entries"]
        (rows,) = [text for entry in entries if (text := entry.get("textPayload", "")).startswith("rows ")]
        return rows.removeprefix("rows ")

    yield run
    cloud.call("DELETE", f"{RUN}/jobs/sql")


@pytest.fixture(scope="module")
def sql(cloud: Cloud, deployed: Play, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sql]:
    """See statements()."""
    with statements(cloud, tmp_path_factory.mktemp("sql")) as run:
        yield run


@pytest.fixture(scope="module")
def client(cloud: Cloud, deployed: Play, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """See scripts()."""
    with scripts(cloud, tmp_path_factory.mktemp("client")) as run:
        yield run


def roll_out(cloud: Cloud, **variables: object) -> Play:
    """Run only the role cloudrun, with further variables."""
    instance = cloud.call("GET", INSTANCE)
    (address,) = [entry["ipAddress"] for entry in instance["ipAddresses"] if entry["type"] == "PRIVATE"]
    (container,) = service(cloud)["template"]["containers"]
    variables = {"database_address": address, "mlflow_image": container["image"], **variables}
    return cloud.playbook("../tests/e2e/rollout.yml", "--extra-vars", json.dumps(variables))


@pytest.fixture
def other_image(cloud: Cloud, request: pytest.FixtureRequest) -> str:
    """The same image under a different name, which causes a rollout."""
    name = f"{IMAGE}:{request.node.name.replace('_', '-')}"
    cloud.command("image", "add", name, str(ROOT / "image"), "--python", IMAGE_PYTHON)
    return name


def backups(cloud: Cloud) -> list[str]:
    """The descriptions of the on-demand backups."""
    found = cloud.call("GET", BACKUPS).get("items", [])
    return [entry.get("description", "") for entry in found if entry["type"] == "ON_DEMAND"]


def revision(sql: Sql) -> str:
    """The revision of the database's schema."""
    (found,) = re.findall(r"\w{12}", sql("SELECT version_num FROM alembic_version"))
    return found


def executions(cloud: Cloud) -> int:
    return cloud.call("GET", f"{RUN}/jobs/mlflow-admin").get("executionCount", 0)


def test_the_server_gets_its_keys_by_reference_and_nobody_else(cloud, deployed):
    (container,) = service(cloud)["template"]["containers"]
    by_name = {entry["name"]: entry for entry in container["env"]}
    for variable, name in KEYS.items():
        reference = by_name[variable]["valueSource"]["secretKeyRef"]
        assert (reference["secret"].rpartition("/")[2], reference["version"]) == (name, "1")
        policy = cloud.call("GET", f"{SECRETS}/{name}:getIamPolicy")
        assert [(entry["role"], entry["members"]) for entry in policy["bindings"]] == [
            ("roles/secretmanager.secretAccessor", [SERVER])
        ]


@pytest.mark.long
def test_encrypted_values_survive_a_rollout(cloud, deployed, client):
    made = client("""
        import json
        hook = client.create_webhook(name="keep", url="https://8.8.8.8/hook", events=["model_version.created"], secret="hush")
        print(hook.webhook_id)
    """)
    before = service(cloud)["latestReadyRevision"]
    play = roll_out(cloud, cloudrun_concurrency=81)
    assert (play.status, play.recap("changed")) == (0, 1), play.output
    assert service(cloud)["latestReadyRevision"] != before
    for name in KEYS.values():
        assert len(cloud.call("GET", f"{SECRETS}/{name}/versions")["versions"]) == 1
    assert made in client("print([hook.webhook_id for hook in client.list_webhooks()])")
    assert client(f"client.delete_webhook({made!r}); print(len(client.list_webhooks()))") == "0"


@pytest.mark.long
def test_a_deployment_without_keys_gets_them(cloud, deployed, client):
    body = service(cloud)
    (container,) = body["template"]["containers"]
    container["env"] = [entry for entry in container["env"] if entry["name"] not in KEYS]
    body["template"].pop("revision", None)
    cloud.call("PATCH", f"{RUN}/services/mlflow", {key: body[key] for key in ("template", "ingress")})
    for name in KEYS.values():
        cloud.call("DELETE", f"{SECRETS}/{name}")
    run_id = client("print(client.create_run('0').info.run_id)")
    play = roll_out(cloud)
    assert play.status == 0, play.output
    test_the_server_gets_its_keys_by_reference_and_nobody_else(cloud, deployed)
    assert client(f"print(client.get_run({run_id!r}).info.status)") == "RUNNING"


@pytest.mark.long
def test_a_password_that_somebody_else_has_changed_is_set_again(cloud, deployed, client):
    revision = service(cloud)["latestReadyRevision"]
    cloud.call("PUT", f"{INSTANCE}/users?name=mlflow", {"name": "mlflow", "password": "of-somebody-else"})
    # Nobody notices as long as the server's connections are open.
    cloud.call("POST", f"{INSTANCE}/restart")
    search = f"{URL}/api/2.0/mlflow/experiments/search?max_results=1"
    signed_in = {"Authorization": f"Bearer {token(cloud, LOGGER)}"}
    assert cloud.http("GET", search, headers=signed_in).status_code >= 500
    play = cloud.playbook("../tests/e2e/database.yml", "--diff")
    assert (play.status, play.recap("changed")) == (0, 1), play.output
    assert re.search(r"passwordChange: UPDATE_USER by \S+ at ", play.output), play.output
    assert "of-somebody-else" not in play.output
    run_id = client("print(client.create_run('0').info.run_id)")
    assert client(f"print(client.get_run({run_id!r}).info.status)") == "RUNNING"
    assert service(cloud)["latestReadyRevision"] == revision
    play = cloud.playbook("../tests/e2e/database.yml")
    assert (play.status, play.recap("changed")) == (0, 0), play.output


def test_the_role_alone_refuses_another_region_before_it_makes_a_secret(cloud, deployed):
    other = ["-e", "cloudsql_region=europe-west1", "-e", "cloudsql_password_secret=another"]
    play = cloud.playbook("../tests/e2e/database.yml", *other)
    assert "region is 'europe-west2' and cannot be changed to 'europe-west1'" in play.error, play.output
    assert play.recap("changed") == 0
    assert "another" not in [entry["name"].rpartition("/")[2] for entry in cloud.call("GET", SECRETS)["secrets"]]


@pytest.mark.long
def test_an_image_with_the_same_schema_needs_no_backup(cloud, deployed, other_image):
    before, asked = backups(cloud), executions(cloud)
    play = roll_out(cloud, mlflow_image=other_image)
    assert play.status == 0, play.output
    assert (backups(cloud), executions(cloud)) == (before, asked + 1)
    play = roll_out(cloud, mlflow_image=other_image)
    assert (play.status, play.recap("changed"), executions(cloud)) == (0, 0, asked + 1), play.output


def test_the_database_is_backed_up_before_its_schema_changes(cloud, deployed, sql, client, other_image):
    head = revision(sql)
    run_id = client("print(client.create_run('0').info.run_id)")
    before = backups(cloud)
    sql(DOWNGRADE)
    play = roll_out(cloud, mlflow_image=other_image)
    assert play.status == 0, play.output
    assert backups(cloud) == [f"Before {other_image}", *before]
    assert revision(sql) == head
    assert client(f"print(client.get_run({run_id!r}).info.status)") == "RUNNING"


@pytest.mark.long
def test_a_server_that_must_not_upgrade_waits_for_the_playbook(cloud, deployed, sql, other_image):
    head, image = revision(sql), service(cloud)["template"]["containers"][0]["image"]
    sql(DOWNGRADE)
    before = backups(cloud)
    play = roll_out(cloud, mlflow_image=other_image, mlflow_db_upgrade="never")
    assert play.status != 0 and re.search(f"'never', and .*{head}.*playbook upgrade", play.error, re.S), play.output
    assert service(cloud)["template"]["containers"][0]["image"] == image
    assert backups(cloud) == before
    play = cloud.playbook("upgrade.yml")
    assert play.status == 0, play.output
    assert backups(cloud) == ["Before the upgrade by mlflow-admin", *before]
    assert revision(sql) == head
    play = roll_out(cloud, mlflow_image=other_image, mlflow_db_upgrade="never")
    assert play.status == 0, play.output
    assert service(cloud)["template"]["containers"][0]["image"] == other_image


def test_an_image_older_than_the_schema_is_not_deployed(cloud, deployed, sql, other_image):
    head, latest = revision(sql), service(cloud)["latestCreatedRevision"]
    before = backups(cloud)
    sql("UPDATE alembic_version SET version_num = 'f0f0f0f0f0f0'")
    try:
        play = roll_out(cloud, mlflow_image=other_image)
    finally:
        sql(f"UPDATE alembic_version SET version_num = '{head}'")
    assert play.status != 0 and re.search("with schema: exit code 4: .*f0f0f0f0f0f0", play.error), play.output
    assert head in play.error
    assert (service(cloud)["latestCreatedRevision"], backups(cloud)) == (latest, before)


@pytest.mark.long
def test_check_mode_runs_no_job_and_takes_no_backup(cloud, deployed, other_image):
    before = executions(cloud), backups(cloud)
    play = roll_out_check(cloud, other_image)
    assert play.status == 0 and play.recap("changed") >= 2, play.output
    assert (executions(cloud), backups(cloud)) == before


def roll_out_check(cloud: Cloud, image: str) -> Play:
    """The changes that a rollout of a different image would make."""
    return cloud.playbook("site.yml", "--check", "--extra-vars", f"mlflow_image={image}")


def objects(cloud: Cloud, run_id: str) -> list[str]:
    """Names of the live objects of a run."""
    return [entry["name"] for entry in cloud.call("GET", f"{BUCKET}/o").get("items", []) if run_id in entry["name"]]


@pytest.fixture
def deleted_run(cloud: Cloud, deployed: Play, client: Client) -> str:
    """The ID of a run with an artifact that a user has deleted."""
    run_id = client("""
        with mlflow.start_run() as run:
            mlflow.log_text("weights", "model/weights.txt")
        client.delete_run(run.info.run_id)
        print(run.info.run_id)
    """)
    assert objects(cloud, run_id)
    return run_id


def collect(cloud: Cloud, *arguments: str, **variables: object) -> Play:
    """Run gc.yml."""
    return cloud.playbook("gc.yml", *arguments, "--extra-vars", json.dumps(variables))


def test_what_was_deleted_is_collected(cloud, client, deleted_run):
    play = collect(cloud, mlflow_gc_older_than="0s")
    assert (play.status, play.recap("changed")) == (0, 1), play.output
    assert re.search(r"summary: .*\b[1-9]\d* runs?\b", play.output), play.output
    assert objects(cloud, deleted_run) == []
    assert (
        client(f"""
        try:
            print(client.get_run({deleted_run!r}))
        except mlflow.MlflowException as error:
            print(error.error_code)
    """)
        == "RESOURCE_DOES_NOT_EXIST"
    )


@pytest.mark.long
def test_what_is_not_old_enough_is_kept_and_a_dry_run_only_counts(cloud, client, deleted_run):
    stage = f"print(client.get_run({deleted_run!r}).info.lifecycle_stage)"
    play = collect(cloud)
    assert play.status == 0 and client(stage) == "deleted", play.output

    play = collect(cloud, "--check", mlflow_gc_older_than="0s")
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    assert re.search(r"summary: .*\b[1-9]\d* runs?\b", play.output), play.output
    assert client(stage) == "deleted" and objects(cloud, deleted_run)

    play = collect(cloud, mlflow_gc_older_than="0s", mlflow_gc_dry_run=True)
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    assert re.search(r"summary: .*\b[1-9]\d* runs?\b", play.output), play.output
    assert client(stage) == "deleted" and objects(cloud, deleted_run)


def test_an_invalid_age(cloud, deployed):
    play = cloud.playbook(
        "gc.yml", "--extra-vars", "mlflow_gc_older_than=never", GCP_SERVICE_ACCOUNT_FILE="/nonexistent"
    )
    assert play.status != 0 and "mlflow_gc_older_than is 'never'" in play.error, play.output
