"""The image builds itself: build_image.yml in sandboxes of their own, and the promotion of an image to another project."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import IMAGE_PYTHON, PROJECT, ROOT, Cloud, Play

BUILDS = f"cloudbuild.googleapis.com/v1/projects/{PROJECT}/locations/global/builds"
NAME = f"europe-west2-docker.pkg.dev/{PROJECT}/mlflow/server"
OPTIONS = ("--project", PROJECT, "--image-python", IMAGE_PYTHON)


@pytest.fixture(scope="module")
def empty() -> Iterator[Cloud]:
    """A new project."""
    with Cloud.running(*OPTIONS) as cloud:
        yield cloud


def build(cloud: Cloud, *arguments: str, **variables: object) -> Play:
    """Run build_image.yml."""
    return cloud.playbook("build_image.yml", *arguments, "-e", json.dumps(variables), image="")


@pytest.fixture(scope="module")
def built(empty: Cloud) -> Play:
    """The first build."""
    return build(empty)


def reference(play: Play) -> str:
    """The image that a run of build_image.yml shows."""
    return play.output.partition("mlflow_image: ")[2].split()[0]


def builds(cloud: Cloud) -> list[dict]:
    return cloud.call("GET", BUILDS).get("builds", [])


def test_builds_in_an_empty_project(built, empty):
    assert built.status == 0, built.output
    (made,) = builds(empty)
    assert made["status"] == "SUCCESS"
    assert reference(built) == f"{NAME}@{made['results']['images'][0]['digest']}"
    # The log, line by line, each once; on a slow machine, between lines that say what is awaited.
    said = [line.removeprefix("demo: ") for line in built.output.splitlines() if line.startswith("demo: ")]
    lines = [line for line in said if "still waiting: build image" not in line]
    assert lines[0].startswith("starting build") and lines[-1] == "DONE"
    (pinned,) = {line.partition("FROM ")[2].split()[0] for line in lines if " : FROM " in line}
    assert "@sha256:" in pinned
    assert any(line.startswith("Successfully installed ") and "mlflow-3" in line for line in lines)


def test_an_unchanged_source_is_not_built_again(built, empty):
    before = builds(empty)
    again = build(empty)
    assert again.status == 0 and again.recap("changed") == 0, again.output
    assert reference(again) == reference(built) and builds(empty) == before


def test_the_account_of_the_build_has_the_least_roles(built, empty):
    member = f"serviceAccount:mlflow-build@{PROJECT}.iam.gserviceaccount.com"
    policies = {
        "project": empty.call("POST", f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}:getIamPolicy", {}),
        "bucket": empty.call("GET", f"storage.googleapis.com/storage/v1/b/{PROJECT}-mlflow-source/iam"),
        "repository": empty.call(
            "GET",
            f"artifactregistry.googleapis.com/v1/projects/{PROJECT}/locations/europe-west2/repositories/mlflow:getIamPolicy",
        ),
    }
    found = {
        name: [binding["role"] for binding in policy["bindings"] if member in binding["members"]]
        for name, policy in policies.items()
    }
    assert found == {
        "project": ["roles/logging.logWriter"],
        "bucket": ["roles/storage.objectViewer"],
        "repository": ["roles/artifactregistry.writer"],
    }


def test_a_failed_build_ends_the_run_with_its_last_lines(built, empty):
    play = build(empty, image_extra_packages="no-such-package==1.0")
    said = " ".join(play.error.split())
    assert play.status != 0 and play.recap("failed") == 1
    assert "ERROR: No matching distribution found for no-such-package==1.0" in said
    assert "failed: step exited with non-zero status: 1. Log: https://console.cloud.google.com/" in said
    # Once while it runs, and in the error.
    assert play.output.count("demo: ERROR: No matching distribution") == 1 and "    log:" not in play.output


@pytest.mark.long
def test_the_source_of_the_user(built, empty, tmp_path):
    shutil.copytree(ROOT / "image", tmp_path / "mine", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    same = build(empty, image_source=str(tmp_path / "mine"))
    # The same files elsewhere are the same source.
    assert same.status == 0 and reference(same) == reference(built), same.output
    settings = tmp_path / "mine" / "src" / "mlflow_gcp_server" / "console.py"
    settings.write_text(settings.read_text() + "\n# Mine.\n")
    mine = build(empty, image_source=str(tmp_path / "mine"), image_pin=False)
    assert mine.status == 0 and reference(mine).startswith(f"{NAME}:source-"), mine.output


@pytest.mark.long
def test_a_region_without_quota_is_explained(built, empty, tmp_path):
    metric = "cloudbuild.googleapis.com/concurrent_public_pool_build_cpus"
    empty.command("policy", "set", "quota", metric, "0", "region=europe-west2")
    (tmp_path / "Containerfile").write_text('FROM python:3\nENTRYPOINT ["python"]\n')
    play = build(empty, image_build_region="europe-west2", image_source=str(tmp_path))
    said = " ".join(play.error.split())
    assert play.status != 0 and "(variable image_build_region)" in said, play.output


@pytest.mark.long
def test_a_given_image_is_pinned(built, empty):
    tag = f"{NAME}:{builds(empty)[-1]['tags'][0]}"
    pinned = build(empty, mlflow_image=tag)
    assert pinned.status == 0 and reference(pinned) == reference(built), pinned.output
    kept = build(empty, mlflow_image=tag, image_pin=False)
    assert reference(kept) == tag
    play = build(empty, mlflow_image=f"{NAME}:none")
    assert play.status != 0 and f"Cannot use image {NAME}:none" in " ".join(play.error.split())


@pytest.mark.long
def test_an_interrupted_run_leaves_a_build_that_the_next_one_follows(tmp_path: Path):
    (tmp_path / "Containerfile").write_text('FROM python:3\nENTRYPOINT ["python"]\n')
    with Cloud.running(*OPTIONS, "--latency", "realistic:0.4") as cloud:
        variables = json.dumps({"image_source": str(tmp_path), "mlflow_image": ""})
        command = [Path(IMAGE_PYTHON).parents[2] / ".venv/bin/ansible-playbook", "-i", "inventories/sandbox"]
        process = subprocess.Popen(
            [*command, "-e", variables, "playbooks/build_image.yml"],
            cwd=ROOT,
            env=cloud.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + 120
        while time.monotonic() < end and not started(cloud):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert [made["status"] for made in builds(cloud)] == ["QUEUED"]
        play = build(cloud, image_source=str(tmp_path))
        assert play.status == 0 and "demo: DONE" in play.output, play.output
        assert [made["status"] for made in builds(cloud)] == ["SUCCESS"]


def started(cloud: Cloud) -> bool:
    """Whether there is a build; the API may not be enabled yet."""
    answer = cloud.session().get(f"https://{BUILDS}")
    return answer.ok and bool(answer.json().get("builds"))


@pytest.mark.long
def test_what_was_built_for_one_project_is_deployed_in_another(tmp_path):
    """Promotion: dev builds and deploys, prod deploys the same digest, and may only after it was allowed to pull it."""
    with Cloud.running(*OPTIONS) as cloud:
        dev = cloud.playbook("site.yml", image="")
        assert dev.status == 0, dev.output
        image = reference(build(cloud))
        cloud.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": "mlflow-prod"})
        number = cloud.call("GET", "cloudresourcemanager.googleapis.com/v1/projects/mlflow-prod")["projectNumber"]
        # The front door has nothing to do with it.
        parts = ("-e", "mlflow_domain=prod.example.com", "--skip-tags", "front_door,users")
        prod = cloud.playbook("site.yml", *parts, image=image, GCP_PROJECT="mlflow-prod")
        assert prod.status != 0 and "must have permission to read the image" in " ".join(prod.error.split())
        agent = f"serviceAccount:service-{number}@serverless-robot-prod.iam.gserviceaccount.com"
        assert build(cloud, image_readers=[agent]).status == 0
        prod = cloud.playbook("site.yml", *parts, image=image, GCP_PROJECT="mlflow-prod")
        assert prod.status == 0, prod.output
        for project in (PROJECT, "mlflow-prod"):
            url = f"run.googleapis.com/v2/projects/{project}/locations/europe-west2/services/mlflow"
            assert cloud.call("GET", url)["template"]["containers"][0]["image"] == image
        verified = cloud.playbook("verify.yml", image="")
        assert verified.status == 0, verified.output
        # What is deployed is marked, so that no cleanup policy deletes it.
        repository = f"artifactregistry.googleapis.com/v1/projects/{PROJECT}/locations/europe-west2/repositories/mlflow"
        tags = cloud.call("GET", f"{repository}/packages/server/tags")["tags"]
        assert [tag["name"] for tag in tags if tag["version"].endswith(image.partition("@")[2])][0].endswith(
            "deployed-mlflow"
        )
