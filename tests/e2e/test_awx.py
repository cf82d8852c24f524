"""Jobs of AWX: answers of surveys, which are text, for every variable of every role; and a job in its execution environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.answers import JOB, container, options, texts
from tests.conftest import IMAGE, local_cloud

from .conftest import PROJECT, ROOT, Cloud, Play

# What playbooks set: their results, and which of them there are.
WIRED = (
    "cloudrun_database_",
    "cloudrun_password_",
    "cloudsql_allocated_ip_range",
    "cloudsql_private_",
    "cloudsql_subnetwork",
)
WIRED += (
    "cloudrun_bucket",
    "cloudrun_image",
    "cloudrun_network",
    "cloudrun_subnetwork",
    "iap_lb_service",
)
# Other values than the defaults, all of them possible together in a deployment that exists.
OTHERS: dict[str, Any] = {
    "bucket_noncurrent_days": 14,
    "bucket_soft_delete_retention_seconds": 1209600,
    "bucket_storage_class": "NEARLINE",
    "bucket_versioning": False,
    "cloudrun_concurrency": 40,
    "cloudrun_cpu": "2",
    "cloudrun_cpu_idle": False,
    "cloudrun_env": container("cloudrun_env"),
    "cloudrun_max_instances": 6,
    "cloudrun_min_instances": 1,
    "cloudrun_startup_cpu_boost": False,
    "cloudrun_timeout_seconds": 120,
    "cloudsql_backup_retained": 14,
    "cloudsql_database_flags": {"max_connections": 80, "log_min_duration_statement": "250"},
    "cloudsql_deletion_protection": False,
    "cloudsql_disk_autoresize": False,
    "cloudsql_maintenance_window": container("cloudsql_maintenance_window"),
    "cloudsql_query_insights": False,
    "iap_lb_log_sample_rate": 0.5,
    "mlflow_allowed_ranges": container("mlflow_allowed_ranges"),
    "mlflow_extra_domains": container("mlflow_extra_domains"),
    "mlflow_labels": container("mlflow_labels"),
    "mlflow_logger_token_creators": container("mlflow_logger_token_creators"),
    "mlflow_storage_uniform": True,
    "mlflow_webapp_users": container("mlflow_webapp_users"),
    "network_allow_internal": True,
    "services_names": ["pubsub.googleapis.com", "run.googleapis.com"],
}


def run(cloud: Cloud, name: str, variables: dict[str, Any], *arguments: str) -> Play:
    play = cloud.playbook(name, "--extra-vars", json.dumps(variables), *arguments)
    assert play.status == 0, play.output
    return play


def test_an_unanswered_survey_and_all_defaults_as_text_change_nothing(cloud):
    defaults = cloud.playbook("site.yml", "-v", "--tags", "none", ANSIBLE_STDOUT_CALLBACK="json")
    assert defaults.status == 0, defaults.output
    tasks = [
        task for play in json.loads(defaults.output[defaults.output.index("{") :])["plays"] for task in play["tasks"]
    ]
    (checked,) = [task["hosts"]["demo"] for task in tasks if task["task"]["name"] == "Check the variables"]
    answers = {
        name: texts(value)[0]
        for name, value in checked["variables"].items()
        if not name.startswith((*WIRED, "iap_cloud_run", "iap_internal_lb")) and "VALUE_SPECIFIED" not in str(value)
    }
    assert len(answers) > 100
    # "" for what has no value, the text of its default for what has one.
    play = run(cloud, "site.yml", JOB | dict.fromkeys(options(), "") | answers)
    assert play.recap("changed") == 0, play.output
    unanswered = run(cloud, "site.yml", JOB | dict.fromkeys(options(), "") | {"mlflow_image": IMAGE})
    assert unanswered.recap("changed") == 0, unanswered.output


@pytest.mark.long
def test_the_same_answers_as_text_and_typed_are_one_plan(cloud, tmp_path):
    def plan(name: str, variables: dict[str, Any]) -> Any:
        file = tmp_path / f"{name}.json"
        run(cloud, "plan.yml", JOB | variables | {"mlflow_plan_file": str(file)})
        return json.loads(file.read_text())

    expected = plan("typed", OTHERS)
    assert expected["counts"]["update"] >= 6, expected["counts"]
    # Each name its own way of giving text.
    text = {name: (said := texts(value))[number % len(said)] for number, (name, value) in enumerate(OTHERS.items())}
    assert plan("text", text) == expected


# -- a job ---------------------------------------------------------------------


def run_in(folder: Path, *words: str | Path, **env: str) -> str:
    """The output of a command that must succeed, with no environment but ENV and the names of proxies for packages."""
    kept = {
        name: value for name, value in os.environ.items() if name.startswith(("PATH", "HOME", "PIP_", "LANG", "TMPDIR"))
    }
    done = subprocess.run(
        words, cwd=folder, env=kept | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def execution_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment with what execution-environment.yml names, and ansible-builder beside it."""
    folder = tmp_path_factory.mktemp("ee")
    needs = yaml.safe_load((ROOT / "execution-environment.yml").read_text())["dependencies"]
    packages = [needs[name]["package_pip"] for name in ("ansible_core", "ansible_runner")]
    for name, wanted in (("job", [*packages, "-r", ROOT / needs["python"]]), ("builder", ["ansible-builder"])):
        venv.create(folder / name, with_pip=True)
        run_in(folder, folder / name / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
    return folder


@pytest.fixture(scope="module")
def project(execution_environment: Path) -> tuple[Path, Path]:
    """The checkout as AWX has it after the update of a project, and the collections that the update has installed."""
    checkout, collections = execution_environment / "project", execution_environment / "requirements_collections"
    files = run_in(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in files:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    # There is no Galaxy here: the other collection comes from the package ansible, as if it were in the image.
    image = execution_environment / "image" / "ansible_collections" / "google"
    (source,) = (Path(path) / "ansible_collections/google/cloud" for path in sys.path if path.endswith("site-packages"))
    shutil.copytree(source, image / "cloud")
    galaxy = execution_environment / "job/bin/ansible-galaxy"
    requirements = checkout / "collections" / "requirements.yml"
    paths = f"{collections}:{image.parents[1]}"
    command = ("collection", "install", "-r", requirements, "--collections-path", collections)
    run_in(checkout, galaxy, *command, ANSIBLE_COLLECTIONS_PATH=paths, ANSIBLE_HOME=str(execution_environment / "home"))
    return checkout, collections


@pytest.mark.long
def test_ansible_builder_reads_the_files(execution_environment, project, tmp_path):
    checkout, collections = project
    builder = execution_environment / "builder/bin/ansible-builder"
    found = yaml.safe_load(run_in(checkout, builder, "introspect", collections))
    wanted = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    assert [line.partition("  #")[0] for line in found["python"]] == wanted and found["system"] == []
    run_in(checkout, builder, "create", "--context", tmp_path)
    assert (
        yaml.safe_load((tmp_path / "_build/requirements.yml").read_text())["collections"][0]["name"] == "google.cloud"
    )


@pytest.mark.long
def test_a_job_deploys_and_verifies(execution_environment, project, tmp_path):
    """The folder of a job as AWX lays it out, with the file and the environment of its credential for Google."""
    checkout, collections = project
    with local_cloud() as cloud:
        for folder in ("env", "inventory"):
            (tmp_path / folder).mkdir()
        shutil.copytree(checkout, tmp_path / "project")
        key = json.loads(Path(cloud.env["GCP_SERVICE_ACCOUNT_FILE"]).read_text())
        credential = tmp_path / "env" / "tmp1x2y3z"
        injected = {name: key[name] for name in ("type", "private_key", "client_email", "project_id")}
        credential.write_text(json.dumps(injected | {"token_uri": "https://oauth2.googleapis.com/token"}))
        credential.chmod(0o400)
        files = ("GCE_CREDENTIALS_FILE_PATH", "GCP_SERVICE_ACCOUNT_FILE", "GOOGLE_APPLICATION_CREDENTIALS")
        environment = {
            **dict.fromkeys(files, str(credential)),
            "GCE_EMAIL": key["client_email"],
            "GCE_PROJECT": PROJECT,
            "GCP_AUTH_KIND": "serviceaccount",
            "GCP_PROJECT": PROJECT,
            "GCP_ENV_TYPE": "tower",
            "ANSIBLE_COLLECTIONS_PATH": f"{collections}:{execution_environment / 'image'}",
            "ANSIBLE_HOME": str(execution_environment / "home"),
            # The way to the sandbox.
            **{
                name: cloud.env[name]
                for name in ("HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
                if name in cloud.env
            },
        }
        (tmp_path / "env/envvars").write_text(json.dumps(environment))
        hosts = {
            "mlflow": {"hosts": ["prod"]},
            "_meta": {"hostvars": {"prod": {"mlflow_name": "mlflow", "mlflow_size": "small"}}},
        }
        script = tmp_path / "inventory/hosts"
        script.write_text(f"#!/usr/bin/env python3\nprint({json.dumps(json.dumps(hosts))})\n")
        script.chmod(0o700)
        asked = yaml.safe_load((ROOT / "extensions/patterns/mlflow_gcp/surveys.yml").read_text())["mlflow_surveys"][
            "deployment"
        ]
        answers = {question["variable"]: "" for question in asked["spec"]} | {
            "mlflow_project_id": PROJECT,
            "mlflow_region": "europe-west2",
            "mlflow_domain": "mlflow.example.com",
            "mlflow_image": IMAGE,
            "mlflow_labels": "team: ml\r\nprod: true",
            "mlflow_webapp_users": "user:jane@example.com\r\ngroup:ml-team@example.com",
            "mlflow_logger_token_creators": f"serviceAccount:{key['client_email']}",
        }
        # What a survey has asked is no template.
        unsafe = "".join(f"{name}: !unsafe {json.dumps(value)}\n" for name, value in answers.items())
        (tmp_path / "env/extravars").write_text(
            unsafe + json.dumps(JOB)[1:-1].replace(", ", "\n").replace('"', "") + "\n"
        )
        runner, home = execution_environment / "job/bin/ansible-runner", {"HOME": str(tmp_path / "home")}
        path = {"PATH": f"{execution_environment / 'job/bin'}:{os.environ['PATH']}"}

        def job(name: str) -> str:
            play = f"extensions/patterns/mlflow_gcp/playbooks/{name}.yml"
            return run_in(tmp_path, runner, "run", str(tmp_path), "-p", play, **home, **path)

        first = job("deploy")
        again = job("deploy")
        assert " changed=0 " in again.partition("PLAY RECAP")[2], again
        assert "Show which data paths work" in job("verify")
        assert key["private_key"][40:80] not in first + again
