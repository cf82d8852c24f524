"""Artifact Registry repositories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

Api = Callable[..., requests.Response]
Done = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def url(project: str, enable: Callable[..., None]) -> str:
    enable(project, "artifactregistry.googleapis.com")
    return f"https://artifactregistry.googleapis.com/v1/projects/{project}/locations/europe-west2/repositories"


@pytest.fixture(scope="module")
def make(api: Api, url: str, done: Done) -> Callable[..., dict[str, Any]]:
    """``make(name, **fields)``: a new repository."""

    def call(name: str, **fields: Any) -> dict[str, Any]:
        return done(api("POST", url, params={"repositoryId": name}, json={"format": "DOCKER"} | fields))["response"]

    return call


def test_repository(api: Api, project: str, url: str, make: Callable[..., dict[str, Any]], done: Done) -> None:
    made = make("images")
    assert made["mode"] == "STANDARD_REPOSITORY"
    assert made["registryUri"] == f"europe-west2-docker.pkg.dev/{project}/images"
    assert api("POST", url, params={"repositoryId": "images"}, json={"format": "DOCKER"}).status_code == 409
    assert api("POST", url, params={"repositoryId": "Bad"}, json={"format": "DOCKER"}).status_code == 400
    one = f"{url}/images"
    assert api("PATCH", one, params={"updateMask": "labels"}, json={"labels": {"a": "b"}}).json()["labels"] == {
        "a": "b"
    }
    assert api("PATCH", one, params={"updateMask": "format"}, json={"format": "NPM"}).status_code == 400
    assert [r["name"].rpartition("/")[2] for r in api("GET", url).json()["repositories"]] == ["images"]
    done(api("DELETE", one))
    assert api("GET", one).status_code == 404


def test_cleanup_policies_have_their_name_as_id(api: Api, url: str, make: Callable[..., dict[str, Any]]) -> None:
    # So does gcloud write what stands in a policy file.
    policy = {"action": "Delete", "condition": {"tagState": "any", "olderThan": "2592000.0s"}}
    assert make("clean", cleanupPolicies={"old": policy})["cleanupPolicies"] == {
        "old": {"id": "old", "action": "DELETE", "condition": {"tagState": "ANY", "olderThan": "2592000s"}}
    }
    assert "cleanupPolicies" not in api("PATCH", f"{url}/clean", json={"cleanupPolicies": {}}).json()


def test_kinds_of_repositories(api: Api, url: str, make: Callable[..., dict[str, Any]]) -> None:
    policy = {"id": "a", "priority": 1, "repository": "projects/p/locations/europe-west2/repositories/r"}
    virtual = make("virtual", mode="VIRTUAL_REPOSITORY", virtualRepositoryConfig={"upstreamPolicies": [policy]})
    assert virtual["vulnerabilityScanningConfig"]["enablementStateReason"] == (
        "Repository mode VIRTUAL_REPOSITORY is not supported."
    )
    hub = {"dockerRepository": {"publicRepository": "DOCKER_HUB"}}
    assert make("hub", mode="REMOTE_REPOSITORY", remoteRepositoryConfig=hub)["remoteRepositoryConfig"] == hub
    maven = make("maven", format="MAVEN", mavenConfig={"versionPolicy": "RELEASE"})
    assert maven["registryUri"].startswith("europe-west2-maven.pkg.dev/")
    for wrong in (
        {"mode": "REMOTE_REPOSITORY"},
        {"remoteRepositoryConfig": hub},
        {"format": "NPM", "mode": "REMOTE_REPOSITORY", "remoteRepositoryConfig": hub},
        {"mavenConfig": {"versionPolicy": "RELEASE"}},
        {"disallowUnspecifiedMode": True},
    ):
        answer = api("POST", url, params={"repositoryId": "wrong"}, json={"format": "DOCKER"} | wrong)
        assert answer.status_code == 400, wrong


def test_the_beta_version_knows_less(api: Api, url: str, done: Done) -> None:
    beta = url.replace("/v1/", "/v1beta2/")
    operation = done(
        api("POST", beta, params={"repositoryId": "beta"}, json={"format": "DOCKER", "labels": {"a": "b"}})
    )
    assert (
        operation["metadata"]["@type"]
        == "type.googleapis.com/google.devtools.artifactregistry.v1beta2.OperationMetadata"
    )
    assert api("GET", f"{url}/beta").json()["mode"] == "STANDARD_REPOSITORY"
    seen = api("GET", f"{beta}/beta").json()
    assert seen["labels"] == {"a": "b"} and not seen.keys() & {"mode", "registryUri", "vulnerabilityScanningConfig"}
    assert "europe-west2" in [
        place["locationId"] for place in api("GET", beta.rpartition("/europe")[0]).json()["locations"]
    ]


def test_images_that_were_added(
    api: Api, project: str, url: str, make: Callable[..., Any], done: Done, sandbox: Any, tmp_path: Path
) -> None:
    make("docker")
    (tmp_path / "Containerfile").write_text('FROM scratch\nENTRYPOINT ["true"]\n')
    for name in ("app:1", "app:latest", "team/app:2"):
        sandbox.command("image", "add", f"europe-west2-docker.pkg.dev/{project}/docker/{name}", str(tmp_path))
    found = api("GET", f"{url}/docker/dockerImages").json()["dockerImages"]
    assert [image["tags"] for image in found] == [["1"], ["latest"], ["2"]]
    assert found[-1]["uri"].startswith(f"europe-west2-docker.pkg.dev/{project}/docker/team/app@sha256:")
    assert found[-1] == api("GET", f"{url}/{found[-1]['name'].partition('/repositories/')[2]}").json()
    packages = api("GET", f"{url}/docker/packages").json()["packages"]
    assert [package["name"].rpartition("/")[2] for package in packages] == ["app", "team%2Fapp"]
    tag = api("GET", f"{url}/docker/packages/team%2Fapp/tags/2").json()
    (version,) = api("GET", f"{url}/docker/packages/team%2Fapp/versions").json()["versions"]
    assert tag["version"] == version["name"]
    assert api("GET", f"{url}/docker/packages/app/tags/none").status_code == 404
    done(api("DELETE", f"{url}/docker"))
    assert api("GET", f"{url}/docker").status_code == 404, "the images are gone, and do not bring their repository back"
