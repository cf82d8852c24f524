"""The takedown: what it shows and refuses, what it leaves, how it goes on after a crash, and a deployment after it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PROJECT, ROOT, Cloud, Play, killing, kills
from .test_bad_input import assert_one_clear_line
from .test_permissions import documented, holding

COMPUTE = f"compute.googleapis.com/compute/v1/projects/{PROJECT}"
THEIRS = f"{COMPUTE}/regions/europe-west2/subnetworks/theirs"
BUCKET = f"storage.googleapis.com/storage/v1/b/{PROJECT}-mlflow-artifacts"
PROJECT_URL = f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}"
OTHER = f"serviceAccount:deployer@{PROJECT}.iam.gserviceaccount.com"
CLIENT = "roles/cloudsql.client"
DATA = {"mlflow_destroy_data": True}
DESTROYER_ROLES = documented("Destroyer")


def destroy(
    cloud: Cloud, *arguments: str, confirm: str = "demo", env: dict[str, str | None] | None = None, **variables
) -> Play:
    """Run destroy.yml."""
    given = json.dumps({"mlflow_confirm_destroy": confirm, **variables})
    return cloud.playbook("destroy.yml", "--extra-vars", given, *arguments, **(env or {}))


def killed(cloud: Cloud, folder: Path, limit: int, **variables) -> Play:
    """Run destroy.yml, which is killed (SIGKILL) when this many writes have been answered."""
    kills(folder).unlink(missing_ok=True)
    return destroy(cloud, env=killing(folder, limit), **variables)


def shown(play: Play, what: str) -> list[str]:
    """The entries of a list that the play shows, the last such list."""
    *_, listed = re.findall(
        rf"^        {what}:(?: \[\])?\n((?:        - .*\n(?:            .*\n)*)*)", play.output, re.M
    )
    return [" ".join(entry.split()).strip("'") for entry in re.split(r"^        - ", listed, flags=re.M)[1:]]


def resources(cloud: Cloud) -> set[str]:
    """All resources of the project, as tools/resources.py lists them."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools/resources.py"], env=cloud.env, capture_output=True, text=True, check=True
    )
    return {" ".join(line.split()) for line in done.stdout.splitlines()[:-1]}


def members(cloud: Cloud) -> list[str]:
    """Who has the server's role on the project."""
    bindings = cloud.call("POST", f"{PROJECT_URL}:getIamPolicy", {})["bindings"]
    return next((binding["members"] for binding in bindings if binding["role"] == CLIENT), [])


@pytest.fixture(scope="module")
def cloud(own_cloud: Cloud) -> Cloud:
    """A deployment that only this file takes down, in a project with others: a subnetwork, a member, an object."""
    body = {"name": "theirs", "ipCidrRange": "10.77.0.0/24", "network": f"projects/{PROJECT}/global/networks/mlflow"}
    own_cloud.call("POST", THEIRS.rpartition("/")[0], body)
    policy = own_cloud.call("POST", f"{PROJECT_URL}:getIamPolicy", {})
    next(binding for binding in policy["bindings"] if binding["role"] == CLIENT)["members"].append(OTHER)
    own_cloud.call("POST", f"{PROJECT_URL}:setIamPolicy", {"policy": policy})
    upload = f"storage.googleapis.com/upload/storage/v1/b/{PROJECT}-mlflow-artifacts/o?uploadType=media&name=model"
    own_cloud.call("POST", upload, "weights")
    return own_cloud


@pytest.fixture(scope="module")
def before(cloud: Cloud) -> set[str]:
    """The resources before the takedown."""
    return resources(cloud)


def test_check_mode_lists_and_asks(cloud, before):
    play = destroy(cloud, "--check", confirm="")
    assert (play.status, play.recap("changed"), resources(cloud)) == (0, 0, before), play.output
    listed = shown(play, "delete")
    assert listed[0] == "forwarding rule mlflow-lb-https" and listed[-1] == "range mlflow-services"
    assert f"bucket {PROJECT}-mlflow-artifacts with 1 objects" in listed and "Cloud Run service mlflow" in listed
    assert shown(play, "keep")[0] == "network mlflow: others use it (theirs)"
    assert len(shown(play, "before that")) == 3


def test_nothing_is_deleted_without_a_decision(cloud, before):
    play = destroy(cloud, confirm="mlflow")
    assert play.status != 0 and play.recap("changed") == 0, play.output
    said = " ".join(play.error.split())
    for part in (
        "Nothing was deleted. mlflow_confirm_destroy is",
        "set it to demo",
        "Cloud SQL instance mlflow has deletion protection: set mlflow_destroy_data to true",
        f"bucket {PROJECT}-mlflow-artifacts holds 1 objects",
    ):
        assert part in said
    assert resources(cloud) == before


def test_a_wrong_value_is_refused_before_the_first_call(cloud):
    play = destroy(cloud, cloudsql_final_backup_days=400)
    assert_one_clear_line(play, "cloudsql_final_backup_days", "400", "1 to 365")


def test_goes_on_where_a_crash_has_left_it_and_leaves_only_what_others_have(cloud, before, tmp_path):
    listed = shown(destroy(cloud, "--check", **DATA), "delete")
    for limit in (9, 12):
        play = killed(cloud, tmp_path, limit, **DATA)
        assert play.status == -signal.SIGKILL, play.output
        assert len(kills(tmp_path).read_text().splitlines()) == limit
    with holding(cloud, "cleaner@example.com", DESTROYER_ROLES) as env:
        play = destroy(cloud, env=env, **DATA)
    assert play.status == 0, play.output
    gone, left = before - resources(cloud), resources(cloud)
    # Each of them, and nothing else: the member of the project's role is not a resource, the database is part of one.
    assert len(gone) == len(listed) - 2, sorted(gone)
    assert left - before == {next(entry for entry in left if "Cloud SQL backup" in entry)}
    assert {entry for entry in left if re.search(r"network (mlflow|theirs)", entry)} == {
        "free network mlflow",
        "free subnetwork theirs (europe-west2)",
    }
    assert members(cloud) == [OTHER]
    assert shown(play, "still in use") == []


def test_a_second_run_changes_nothing(cloud):
    play = destroy(cloud)
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    assert "final backup" in " ".join(shown(play, "kept on purpose"))


@pytest.mark.long
def test_what_others_no_longer_use_is_deleted_by_a_later_run(cloud, before):
    destroy(cloud, **DATA)
    cloud.call("DELETE", THEIRS)
    play = destroy(cloud)
    assert (play.status, play.recap("changed")) == (0, 1), play.output
    assert not any(re.search(r"network mlflow", entry) for entry in resources(cloud))


@pytest.mark.long
def test_deploys_again_under_the_same_names(cloud):
    play = cloud.playbook("site.yml")
    assert play.status == 0, play.output
    assert cloud.playbook("verify.yml").status == 0
    again = cloud.playbook("site.yml")
    assert (again.status, again.recap("changed")) == (0, 0), again.output


@pytest.mark.long
def test_each_role_of_the_destroyer_is_needed(cloud):
    """In the order in which they are needed: each run gets as far as the role that is missing."""
    for role in DESTROYER_ROLES:
        with holding(cloud, "cleaner@example.com", [other for other in DESTROYER_ROLES if other != role]) as env:
            play = destroy(cloud, env=env, **DATA)
        assert play.status != 0 and role in play.error, play.output
