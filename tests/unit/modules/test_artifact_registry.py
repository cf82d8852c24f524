# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules artifact_registry_repository and artifact_registry_image."""

from __future__ import annotations

import pytest

API = "https://artifactregistry.googleapis.com/v1"
PATH = "projects/demo/locations/europe-west2/repositories/mlflow"
URL = f"{API}/{PATH}"
OPTIONS = {
    "name": "mlflow",
    "location": "europe-west2",
    "labels": {"team": "ml"},
    "cleanup_policies": [
        {"name": "newest", "action": "keep", "keep_count": 10},
        {"name": "deployed", "action": "keep", "tag_state": "tagged", "tag_prefixes": ["deployed"]},
        {"name": "others", "action": "delete", "older_than_days": 1},
    ],
}
SENT = {
    "format": "DOCKER",
    "mode": "STANDARD_REPOSITORY",
    "labels": {"team": "ml", "mlflow-gcp-labels": "team"},
    "cleanupPolicies": {
        "newest": {"id": "newest", "action": "KEEP", "mostRecentVersions": {"keepCount": 10}},
        "deployed": {
            "id": "deployed",
            "action": "KEEP",
            "condition": {"tagState": "TAGGED", "tagPrefixes": ["deployed"]},
        },
        "others": {"id": "others", "action": "DELETE", "condition": {"tagState": "ANY", "olderThan": "86400s"}},
    },
}
LIVE = {
    **SENT,
    "name": PATH,
    "createTime": "2026-01-01T00:00:00Z",
    "satisfiesPzi": True,
    "vulnerabilityScanningConfig": {"enablementState": "SCANNING_DISABLED"},
}
DIGEST = "sha256:" + "a" * 64
IMAGE = "europe-west2-docker.pkg.dev/demo/mlflow/team/server"
PACKAGE = f"{URL}/packages/team%2Fserver"
VERSION = f"{PATH}/packages/team%2Fserver/versions/{DIGEST}"


def missing(google):
    return google.error(404, "NOT_FOUND", "Requested entity was not found.")


def test_creates_a_repository(google, run_module):
    google.expect("GET", URL, missing(google))
    operation = {"name": "projects/demo/locations/europe-west2/operations/o", "done": True, "response": LIVE}
    google.expect("POST", URL.rpartition("/")[0], operation, params={"repositoryId": "mlflow"}, body=SENT)
    google.expect("GET", URL, LIVE)
    result = run_module("artifact_registry_repository", **OPTIONS)
    assert result["changed"] and result["name"] == PATH
    assert result["uri"] == "europe-west2-docker.pkg.dev/demo/mlflow"


def test_second_run_changes_nothing(google, run_module):
    google.expect("GET", URL, LIVE)
    assert not run_module("artifact_registry_repository", **OPTIONS)["changed"]


def test_cleanup_policies_are_replaced_and_labels_of_others_stay(google, run_module):
    others = {"cleanupPolicies": {"all": {"id": "all", "action": "DELETE", "condition": {"tagState": "ANY"}}}}
    google.expect("GET", URL, {**LIVE, **others, "labels": {"cost-center": "1"}})
    google.expect("PATCH", URL, LIVE, params={"updateMask": "cleanupPolicies,labels"})
    assert run_module("artifact_registry_repository", **OPTIONS)["changed"]
    assert google.writes[0].body == {
        "cleanupPolicies": SENT["cleanupPolicies"],
        "labels": {"cost-center": "1", **SENT["labels"]},
    }


def test_a_repository_for_something_else(google, run_module):
    google.expect("GET", URL, {**LIVE, "format": "NPM"})
    with pytest.raises(Exception, match="format is 'NPM' and cannot be changed to 'DOCKER'; give another name"):
        run_module("artifact_registry_repository", **OPTIONS)


def test_deletes_a_repository(google, run_module):
    google.expect("GET", URL, LIVE).expect(
        "DELETE", URL, {"name": "projects/demo/locations/l/operations/o", "done": True}
    )
    assert run_module("artifact_registry_repository", name="mlflow", location="europe-west2", state="absent")["changed"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"location": "europe-west"}, "or asia, europe or us"),
        ({"name": "Mlflow"}, "lower-case letters"),
        (
            {"cleanup_policies": [{"name": "a", "action": "keep", "keep_count": 1, "tag_state": "any"}]},
            "keep_count excludes the other conditions",
        ),
        (
            {"cleanup_policies": [{"name": "a", "action": "keep", "tag_prefixes": ["x"]}]},
            "tag_prefixes require tag_state=tagged",
        ),
    ],
)
def test_invalid_options(google, run_module, change, message):
    with pytest.raises(Exception, match=message):
        run_module("artifact_registry_repository", **OPTIONS | change)


# -- images ----------------------------------------------------------------


def test_a_tag_is_resolved_to_its_digest(google, run_module):
    google.expect("GET", f"{PACKAGE}/tags/3.17.2", {"name": "x", "version": VERSION})
    result = run_module("artifact_registry_image", image=f"{IMAGE}:3.17.2")
    assert not result["changed"]
    assert (result["image"], result["digest"]) == (f"{IMAGE}@{DIGEST}", DIGEST)


def test_without_a_tag_it_is_latest(google, run_module):
    google.expect("GET", f"{PACKAGE}/tags/latest", {"version": VERSION})
    assert run_module("artifact_registry_image", image=IMAGE)["digest"] == DIGEST


def test_a_digest_must_exist(google, run_module):
    google.expect("GET", f"{PACKAGE}/versions/{DIGEST}", {"name": VERSION})
    assert run_module("artifact_registry_image", image=f"{IMAGE}:1@{DIGEST}")["image"] == f"{IMAGE}@{DIGEST}"
    google.expect("GET", f"{PACKAGE}/versions/{DIGEST}", missing(google))
    with pytest.raises(Exception, match=f"has no team/server with digest {DIGEST}. Correct the reference, or build"):
        run_module("artifact_registry_image", image=f"{IMAGE}@{DIGEST}")


def test_a_tag_that_does_not_exist(google, run_module):
    google.expect("GET", f"{PACKAGE}/tags/9", missing(google))
    with pytest.raises(Exception, match=f"Cannot use image {IMAGE}:9: repository {PATH} has no team/server with tag 9"):
        run_module("artifact_registry_image", image=f"{IMAGE}:9")


@pytest.mark.parametrize(
    ("image", "digest"), [("docker.io/mlflow/server:1", ""), (f"{IMAGE}:1", ""), (f"{IMAGE}@{DIGEST}", DIGEST)]
)
def test_an_image_that_cannot_be_looked_up_stays_as_given(google, run_module, image, digest):
    if image.startswith(IMAGE):
        url = f"{PACKAGE}/versions/{DIGEST}" if digest else f"{PACKAGE}/tags/1"
        google.expect("GET", url, google.error(403, "PERMISSION_DENIED", "Permission denied (or it may not exist)."))
    result = run_module("artifact_registry_image", image=image)
    assert (result["image"], result["digest"]) == (image, digest)
    assert "was not looked up" in str(result["warnings"])


@pytest.mark.parametrize("check", [False, True])
def test_tags_are_made_and_moved(google, run_module, check):
    google.expect("GET", f"{PACKAGE}/versions/{DIGEST}", {"name": VERSION})
    google.expect("GET", f"{PACKAGE}/tags/deployed", {"version": VERSION.replace("aa", "bb")})
    if not check:
        google.expect("PATCH", f"{PACKAGE}/tags/deployed", {}, body={"version": VERSION})
    google.expect("GET", f"{PACKAGE}/tags/new", missing(google))
    if not check:
        google.expect("POST", f"{PACKAGE}/tags", {}, body={"version": VERSION}, params={"tagId": "new"})
    google.expect("GET", f"{PACKAGE}/tags/kept", {"version": VERSION})
    options = {"image": f"{IMAGE}@{DIGEST}", "tags": ["deployed", "new", "kept"]}
    result = run_module("artifact_registry_image", check=check, **options)
    assert result["changed"] and result["diff"]["before"] == {"tags": ["kept"]}


def test_the_project_of_a_domain(google, run_module):
    url = f"{API}/projects/example.com:ml/locations/us/repositories/r/packages/i/tags/1"
    google.expect("GET", url, {"version": f"x/versions/{DIGEST}"})
    result = run_module("artifact_registry_image", image="us-docker.pkg.dev/example.com/ml/r/i:1")
    assert result["image"] == f"us-docker.pkg.dev/example.com/ml/r/i@{DIGEST}"


def test_check_mode_tags_an_image_that_the_run_would_build_first(google, run_module):
    disabled = google.error(403, "PERMISSION_DENIED", "Off.", details=[{"reason": "SERVICE_DISABLED"}])
    for answer in (missing(google), disabled):
        google.expect("GET", f"{PACKAGE}/tags/1", answer).expect("GET", f"{PACKAGE}/tags/deployed", answer)
        result = run_module("artifact_registry_image", check=True, image=f"{IMAGE}:1", tags=["deployed"])
        assert (result["changed"], result["digest"]) == (True, "(known after the run)")
        assert result["diff"] == {"before": {"tags": []}, "after": {"tags": ["deployed"]}}
    google.expect("GET", f"{PACKAGE}/tags/1", missing(google))
    with pytest.raises(Exception, match="Cannot use image"):
        run_module("artifact_registry_image", check=True, image=f"{IMAGE}:1")
