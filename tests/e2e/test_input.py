"""Values as people and AWX give them, and roles on their own."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .conftest import PROJECT, ROOT, Cloud, Play
from .test_bad_input import assert_one_clear_line

BUCKET = f"storage.googleapis.com/storage/v1/b/{PROJECT}-mlflow-artifacts"


def bucket_alone(cloud: Cloud, folder: Path, hosts: str, *arguments: str, **env: str | None) -> Play:
    """A play that has nothing but the role bucket."""
    task = {"name": "The bucket", "ansible.builtin.include_role": {"name": "mlops.mlflow_gcp.bucket"}}
    python = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    play = {
        "name": "A role",
        "hosts": hosts,
        "connection": "local",
        "gather_facts": False,
        "vars": python,
        "tasks": [task],
    }
    (folder / "role.yml").write_text(json.dumps([play]))
    return cloud.playbook(os.path.relpath(folder / "role.yml", ROOT / "playbooks"), *arguments, **env)


def test_a_role_on_its_own_names_what_is_missing(cloud, tmp_path):
    play = bucket_alone(cloud, tmp_path, "localhost", GCP_PROJECT=None)
    assert_one_clear_line(play, "bucket_project_id (or mlflow_project_id) is not set", "GCP_PROJECT in the environment")
    play = bucket_alone(cloud, tmp_path, "localhost", "--extra-vars", "bucket_location=EU", GCP_AUTH_KIND=None)
    assert_one_clear_line(play, "GCP_AUTH_KIND", "GCP_SERVICE_ACCOUNT_FILE")


def test_labels_of_others_stay_and_ours_can_be_text(cloud, deployed, tmp_path):
    def labels() -> dict[str, str]:
        return cloud.call("GET", BUCKET).get("labels", {})

    def run(*arguments: str) -> str:
        play = bucket_alone(cloud, tmp_path, "mlflow", "--diff", *arguments)
        assert play.status == 0, play.output
        return play.output

    cloud.call("PATCH", BUCKET, {"labels": {"cost-center": "4711"}})
    assert "changed=0" in run()
    text = json.dumps({"mlflow_labels": '{"team": "ml", "prod": true}', "bucket_noncurrent_days": "30"})
    added = [line.strip() for line in run("--extra-vars", text).splitlines() if line.startswith("+")]
    assert added[1:] == ["+        mlflow-gcp-labels: prod--team", "+        prod: 'true'", "+        team: ml"]
    assert labels() == {"cost-center": "4711", "team": "ml", "prod": "true", "mlflow-gcp-labels": "prod--team"}
    assert "changed=1" in run()
    assert labels() == {"cost-center": "4711"}
