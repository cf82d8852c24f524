# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module cloud_build, and the archive that it uploads."""

from __future__ import annotations

import io
import os
import re
import tarfile

import pytest
import requests
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.source import Archive

BUILDS = "https://cloudbuild.googleapis.com/v1/projects/demo/locations/global/builds"
REPOSITORY = "projects/demo/locations/europe-west2/repositories/mlflow"
PACKAGE = f"https://artifactregistry.googleapis.com/v1/{REPOSITORY}/packages/server"
UPLOAD = "https://storage.googleapis.com/upload/storage/v1/b/demo-source/o"
LOG = "https://logging.googleapis.com/v2/entries:list"
NAME = "europe-west2-docker.pkg.dev/demo/mlflow/server"
DIGEST = "sha256:" + "a" * 64
EMAIL = "mlflow-build@demo.iam.gserviceaccount.com"
BUILD = {
    "id": "b1",
    "createTime": "2026-01-01T00:00:00Z",
    "status": "QUEUED",
    "logUrl": "https://console.example.com/b1",
}
DENIED = "could not resolve source: googleapi: Error 403: it does not have storage.objects.get access"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "image"
    (folder / "src").mkdir(parents=True)
    (folder / "Containerfile").write_text("FROM python:3\nCOPY extra-requirements.txt src /app/\n")
    (folder / "src" / "app.py").write_text("print('x')\n")
    return folder


@pytest.fixture
def options(source):
    return {
        "source": str(source),
        "repository": REPOSITORY,
        "name": "server",
        "bucket": "demo-source",
        "service_account": EMAIL,
    }


@pytest.fixture
def tag(source):
    return f"source-{Archive(source).digest[:16]}"


def missing(google):
    return google.error(404, "NOT_FOUND", "Requested entity was not found.")


def lines(*texts, start=0):
    return {"entries": [{"insertId": str(start + at), "textPayload": text} for at, text in enumerate(texts)]}


def running(tag, **more):
    return {**BUILD, "images": [f"{NAME}:{tag}"], **more}


def success(tag):
    return running(tag, status="SUCCESS", results={"images": [{"name": f"{NAME}:{tag}", "digest": DIGEST}]})


def new_source(google, tag):
    """The requests before a build is created."""
    google.expect("GET", f"{PACKAGE}/tags/{tag}", missing(google))
    google.expect("POST", UPLOAD, {"name": "x"})
    return google


def created(google, tag):
    new_source(google, tag).expect("GET", BUILDS, {})
    return google.expect("POST", BUILDS, {"name": "operations/build/demo/x", "metadata": {"build": running(tag)}})


def test_builds_and_returns_the_digest(google, run_module, options, source, tag, tmp_path):
    created(google, tag)
    google.expect("GET", f"{BUILDS}/b1", running(tag, status="WORKING")).expect(
        "POST", LOG, lines("starting", "Step 1")
    )
    google.expect("GET", f"{BUILDS}/b1", success(tag)).expect("POST", LOG, lines("starting", "Step 1", "PUSH"))
    google.expect("POST", LOG, lines("starting", "Step 1", "PUSH", "DONE"))
    result = run_module("cloud_build", **options, log_file=str(tmp_path / "log"))
    assert result["changed"] and result["image"] == f"{NAME}@{DIGEST}" and result["tag"] == tag
    assert result["log"] == ["starting", "Step 1", "PUSH", "DONE"]
    # Every line once, as it arrives.
    assert (tmp_path / "log").read_text() == "starting\nStep 1\nPUSH\nDONE\n"
    upload, build = google.writes[0], google.writes[1]
    archive = f"server/{Archive(source).digest}.tar.gz"
    assert upload.params == {"uploadType": "media", "name": archive, "ifGenerationMatch": "0"}
    assert upload.headers["Content-Type"] == "application/gzip"
    with tarfile.open(fileobj=io.BytesIO(upload.content)) as tar:
        assert tar.getnames() == ["Containerfile", "src/app.py"]
    assert build.body == {
        "source": {"storageSource": {"bucket": "demo-source", "object": archive}},
        "steps": [
            {
                "name": "gcr.io/cloud-builders/docker",
                "args": ["build", "--tag", f"{NAME}:{tag}", "--file", "Containerfile", "."],
            }
        ],
        "images": [f"{NAME}:{tag}"],
        "tags": [tag],
        "serviceAccount": f"projects/demo/serviceAccounts/{EMAIL}",
        "options": {"logging": "CLOUD_LOGGING_ONLY"},
        "timeout": "3600s",
    }


def test_an_unchanged_source_is_not_built_again(google, run_module, options, tag):
    version = f"{REPOSITORY}/packages/server/versions/{DIGEST}"
    google.expect("GET", f"{PACKAGE}/tags/{tag}", {"name": "x", "version": version})
    result = run_module("cloud_build", **options)
    assert not result["changed"] and result["image"] == f"{NAME}@{DIGEST}" and result["build"] == ""


def test_check_mode_builds_nothing(google, run_module, options, tag):
    google.expect("GET", f"{PACKAGE}/tags/{tag}", missing(google))
    result = run_module("cloud_build", check=True, **options)
    assert result["changed"] and result["image"] == f"{NAME}:{tag}" and result["digest"] == "(known after the run)"
    assert result["diff"] == {"before": {}, "after": {"image": f"{NAME}:{tag}"}}


def test_a_running_build_of_the_same_source_is_followed(google, run_module, options, tag):
    google.expect("GET", f"{PACKAGE}/tags/{tag}", missing(google))
    google.expect(
        "POST", UPLOAD, google.error(412, "conditionNotMet", "At least one of the pre-conditions did not hold.")
    )
    others = [{**BUILD, "id": "other", "images": ["europe-west2-docker.pkg.dev/demo/mlflow/another:1"]}]
    google.expect(
        "GET", BUILDS, {"builds": [*others, running(tag, status="WORKING")]}, params={"filter": f'tags="{tag}"'}
    )
    google.expect("GET", f"{BUILDS}/b1", success(tag)).expect("POST", LOG, lines("DONE"))
    assert run_module("cloud_build", **options)["digest"] == DIGEST


def test_the_last_lines_of_a_failed_build_are_the_error(google, run_module, options, tag):
    created(google, tag)
    google.expect("GET", f"{BUILDS}/b1", running(tag, status="FAILURE", statusDetail="step 0 failed"))
    said = [
        "Step 1/2 : FROM x",
        " ---> 1",
        "",
        "No matching distribution",
        "returned a non-zero code: 1",
        "ERROR",
        "ERROR: step 0",
    ]
    google.expect("POST", LOG, lines(*said))
    with pytest.raises(Exception) as caught:
        run_module("cloud_build", **options)
    assert str(caught.value) == (
        f"Cannot build image {NAME}:{tag}: FAILURE: Step 1/2 : FROM x / No matching distribution / returned a non-zero code: 1 / "
        "ERROR: step 0. Log: https://console.example.com/b1"
    )


@pytest.mark.parametrize("status", ["TIMEOUT", "CANCELLED", "EXPIRED"])
def test_a_build_without_a_log(google, run_module, options, tag, status):
    created(google, tag).expect("GET", f"{BUILDS}/b1", running(tag, status=status, statusDetail="build timed out"))
    google.expect("POST", LOG, google.error(403, "PERMISSION_DENIED", "Permission denied for all log views"))
    with pytest.raises(Exception, match=f"{status}: build timed out. Log: https") as caught:
        run_module("cloud_build", **options)
    assert "roles/logging.viewer" in str(caught.value.result["warnings"])


def test_an_internal_error_is_built_again(google, run_module, options, tag):
    created(google, tag).expect("GET", f"{BUILDS}/b1", running(tag, status="INTERNAL_ERROR"))
    google.expect("POST", LOG, lines("ERROR"))
    google.expect("GET", BUILDS, {"builds": [running(tag, status="INTERNAL_ERROR")]})
    google.expect("POST", BUILDS, {"metadata": {"build": running(tag, id="b2")}})
    google.expect("GET", f"{BUILDS}/b2", success(tag)).expect("POST", LOG, lines("DONE"))
    assert run_module("cloud_build", **options)["digest"] == DIGEST


def test_a_lost_response_starts_no_second_build(google, run_module, options, tag):
    new_source(google, tag).expect("GET", BUILDS, {"builds": [running(tag, id="old", status="FAILURE")]})
    google.expect("POST", BUILDS, requests.exceptions.ConnectionError("reset"))
    google.expect("GET", BUILDS, {"builds": [running(tag), running(tag, id="old", status="FAILURE")]})
    google.expect("GET", f"{BUILDS}/b1", success(tag)).expect("POST", LOG, lines("DONE"))
    assert run_module("cloud_build", **options)["build"] == "b1"


@pytest.mark.parametrize(
    "refusal",
    [
        (400, "INVALID_ARGUMENT", DENIED),
        (403, "PERMISSION_DENIED", "caller does not have permission to act as service account projects/demo/x"),
    ],
)
def test_grants_that_google_does_not_know_yet(google, run_module, options, tag, refusal):
    new_source(google, tag).expect("GET", BUILDS, {})
    for _attempt in range(3):
        google.expect("POST", BUILDS, google.error(*refusal))
    google.expect("POST", BUILDS, {"metadata": {"build": running(tag)}})
    google.expect("GET", f"{BUILDS}/b1", success(tag)).expect("POST", LOG, lines("DONE"))
    assert run_module("cloud_build", **options)["digest"] == DIGEST


def test_a_region_in_which_the_project_may_not_build(google, run_module, options, tag):
    new_source(google, tag).expect("GET", BUILDS, {})
    text = "due to quota restrictions, Cloud Build cannot run builds in this region"
    google.expect("POST", BUILDS, google.error(400, "FAILED_PRECONDITION", text))
    with pytest.raises(Exception, match=r"in this region .*\(variable image_build_region\)"):
        run_module("cloud_build", **options)


def test_a_build_that_takes_too_long_goes_on(google, run_module, options, tag):
    created(google, tag)
    google.expect("GET", f"{BUILDS}/b1", running(tag)).expect("POST", LOG, {})
    with pytest.raises(Exception, match="within 0 s: build b1 is still running. It continues at Google: run again"):
        run_module("cloud_build", **options, timeout=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"source": "/nowhere"},
            "option source: '/nowhere' is not allowed; /nowhere has no Containerfile or Dockerfile",
        ),
        ({"source": None}, "give the path of a folder"),
        ({"extra_packages": ["boto3"]}, "option extra_packages: 'boto3' is not allowed; give Python packages"),
        ({"extra_packages": ["boto3==1 --index-url=https://x"]}, "is not allowed"),
        ({"repository": "mlflow"}, "give projects/PROJECT/locations/LOCATION/repositories/NAME"),
        ({"region": "europe"}, "or global"),
    ],
)
def test_invalid_options(google, run_module, options, change, message):
    with pytest.raises(Exception, match=re.escape(message)):
        run_module("cloud_build", **options | change)


# -- the archive -----------------------------------------------------------


def test_the_same_source_has_the_same_archive(source, tmp_path):
    first = Archive(source)
    copy = tmp_path / "copy"
    copy.mkdir()
    # In another order, at another time, with other permissions of groups, and with what tools leave behind.
    for name in ("src/app.py", "Containerfile"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes((source / name).read_bytes())
        os.utime(copy / name, (1, 1))
        (copy / name).chmod(0o600)
    for name in (".git/config", "src/__pycache__/app.pyc", "app.egg-info/PKG-INFO", ".venv/x", ".DS_Store"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(name)
    assert Archive(copy).digest == first.digest and Archive(copy).content == first.content


@pytest.mark.parametrize("change", ["content", "name", "mode", "link", "packages"])
def test_every_change_of_the_source_counts(source, change):
    (source / "link").symlink_to("src")
    before, packages = Archive(source).digest, []
    if change == "content":
        (source / "src/app.py").write_text("print('y')\n")
    elif change == "name":
        (source / "src/app.py").rename(source / "src/main.py")
    elif change == "mode":
        (source / "src/app.py").chmod(0o755)
    elif change == "link":
        (source / "link").unlink()
        (source / "link").symlink_to("src/app.py")
    else:
        packages = ["boto3==1.42.0"]
    assert Archive(source, packages).digest != before


def test_additional_packages_are_in_the_archive(source):
    (source / "extra-requirements.txt").write_text("# none\n")
    archive = Archive(source, ["b==2", "a==1", "b==2"])
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        assert tar.extractfile("extra-requirements.txt").read() == b"a==1\nb==2\n"
        assert {entry.uid for entry in tar} == {0} and {entry.mtime for entry in tar} == {0}
    assert Archive(source, ["a==1", "b==2"]).digest == archive.digest


def test_sources_that_cannot_be_built(source):
    (source / "Containerfile").write_text("FROM python:3\n")
    with pytest.raises(GcpError, match="does not install extra-requirements.txt"):
        Archive(source, ["a==1"])
    (source / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(GcpError, match="passwd is a link to /etc/passwd, which is outside of the source"):
        Archive(source)
    (source / "passwd").unlink()
    os.mkfifo(source / "pipe")
    with pytest.raises(GcpError, match="pipe is neither a file nor a link"):
        Archive(source)
