"""Artifact Registry repositories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests

Api = Callable[..., requests.Response]



def test_repository(api: Api, project: str, enable: Callable[..., None], done: Callable[..., dict[str, Any]]) -> None:
    enable(project, "artifactregistry.googleapis.com")
    url = f"https://artifactregistry.googleapis.com/v1/projects/{project}/locations/europe-west2/repositories"
    made = done(api("POST", url, params={"repositoryId": "images"}, json={"format": "DOCKER"}))["response"]
    assert made["mode"] == "STANDARD_REPOSITORY"
    assert made["registryUri"] == f"europe-west2-docker.pkg.dev/{project}/images"
    assert api("POST", url, params={"repositoryId": "images"}, json={"format": "DOCKER"}).status_code == 409
    assert api("POST", url, params={"repositoryId": "Bad"}, json={"format": "DOCKER"}).status_code == 400
    one = f"{url}/images"
    assert api("PATCH", one, params={"updateMask": "labels"}, json={"labels": {"a": "b"}}).json()["labels"] == {"a": "b"}
    assert api("PATCH", one, params={"updateMask": "format"}, json={"format": "NPM"}).status_code == 400
    assert [r["name"].rpartition("/")[2] for r in api("GET", url).json()["repositories"]] == ["images"]
    done(api("DELETE", one))
    assert api("GET", one).status_code == 404
