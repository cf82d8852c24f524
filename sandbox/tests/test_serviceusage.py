"""Enabling APIs, and the service agents that come with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests

Api = Callable[..., requests.Response]
URL = "https://serviceusage.googleapis.com/v1"


def test_enable_disable_and_what_depends(api: Api, project: str, done: Callable[..., dict[str, Any]]) -> None:
    one = f"{URL}/projects/{project}/services/container.googleapis.com"
    assert api("GET", one).json()["state"] == "DISABLED"
    operation = done(api("POST", f"{one}:enable"))
    assert operation["response"]["service"]["state"] == "ENABLED"
    assert operation["metadata"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    again = api("POST", f"{one}:enable").json()
    assert (again["name"], again["done"]) == ("operations/noop.DONE_OPERATION", True)
    assert again["response"] == operation["response"]
    compute = f"{URL}/projects/{project}/services/compute.googleapis.com"
    assert api("GET", compute).json()["state"] == "ENABLED"
    refused = api("POST", f"{compute}:disable", json={})
    assert (
        refused.json()["error"]["status"] == "FAILED_PRECONDITION" and "container" in refused.json()["error"]["message"]
    )
    done(api("POST", f"{compute}:disable", json={"disableDependentServices": True}))
    assert api("GET", one).json()["state"] == "DISABLED"
    again = api("POST", f"{one}:disable", json={})
    assert again.status_code == 400


def test_batches_and_lists(api: Api, project: str, enable: Callable[..., None]) -> None:
    enable(project, "secretmanager.googleapis.com", "run.googleapis.com")
    names = [f"projects/{project}/services/{s}.googleapis.com" for s in ("run", "iap")]
    found = api("GET", f"{URL}/projects/{project}/services:batchGet", params={"names": names}).json()["services"]
    assert [s["state"] for s in found] == ["ENABLED", "DISABLED"]
    seen: list[str] = []
    params: dict[str, Any] = {"filter": "state:ENABLED", "pageSize": 5}
    while True:
        answer = api("GET", f"{URL}/projects/{project}/services", params=params).json()
        seen += [s["config"]["name"] for s in answer["services"]]
        if "nextPageToken" not in answer:
            break
        params["pageToken"] = answer["nextPageToken"]
    assert "run.googleapis.com" in seen and "iap.googleapis.com" not in seen
    many = {"serviceIds": [f"s{n}.googleapis.com" for n in range(21)]}
    assert api("POST", f"{URL}/projects/{project}/services:batchEnable", json=many).status_code == 400


def test_a_batch_tells_its_services(api: Api, project: str) -> None:
    body = {"serviceIds": ["storage.googleapis.com"]}
    metadata = api("POST", f"{URL}/projects/{project}/services:batchEnable", json=body).json()["metadata"]
    assert metadata["@type"].endswith("google.api.serviceusage.v1.OperationMetadata")
    assert metadata["resourceNames"][0].startswith("services/storage.googleapis.com/projectSettings/")


def test_unknown_service_and_stranger(api: Api, project: str) -> None:
    url = f"{URL}/projects/{project}/services/nonsense.googleapis.com"
    refused = api("POST", f"{url}:enable").json()["error"]
    assert refused["code"] == 403
    assert refused["message"].startswith("Not found or permission denied for service(s): nonsense.googleapis.com")
    stranger = api("POST", f"{URL}/projects/{project}/services/run.googleapis.com:enable", as_="stranger@example.com")
    assert stranger.json()["error"]["details"][1]["reason"] == "AUTH_PERMISSION_DENIED"


def test_disabled_api_says_how_to_enable_it(api: Api, project: str) -> None:
    answer = api("GET", f"https://sqladmin.googleapis.com/v1/projects/{project}/instances").json()["error"]
    assert answer["errors"][0]["reason"] == "accessNotConfigured"
    assert answer["details"][0]["metadata"]["service"] == "sqladmin.googleapis.com"


def test_service_agent(api: Api, project: str) -> None:
    url = f"https://serviceusage.googleapis.com/v1beta1/projects/{project}/services/iap.googleapis.com:generateServiceIdentity"
    first, second = (api("POST", url).json()["response"] for _ in range(2))
    assert first == second
    assert first["email"].endswith("@gcp-sa-iap.iam.gserviceaccount.com")
    storage = api("POST", url.replace("/iap.", "/storage.")).json()
    assert storage["done"] is True and "email" not in storage["response"]
