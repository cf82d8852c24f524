"""IAP's policies, settings, brands and clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

Api = Callable[..., requests.Response]
V1 = "https://iap.googleapis.com/v1"


@pytest.fixture(scope="module")
def backend(api: Api, project: str, enable: Callable[..., None], done: Callable[..., dict[str, Any]]) -> str:
    """Name of a backend service."""
    enable(project, "iap.googleapis.com", "compute.googleapis.com")
    url = f"https://compute.googleapis.com/compute/v1/projects/{project}/global/backendServices"
    body = {"name": "web", "protocol": "HTTPS", "loadBalancingScheme": "EXTERNAL_MANAGED"}
    assert "error" not in done(api("POST", url, json=body))
    return "web"


def test_policy_of_a_backend_service(api: Api, project: str, backend: str) -> None:
    url = f"{V1}/projects/{project}/iap_web/compute/services/{backend}"
    assert api("POST", f"{url}:getIamPolicy", json={}).json() == {"etag": "ACAB"}
    binding = {"role": "roles/iap.httpsResourceAccessor", "members": ["user:jane@example.com"]}
    assert api("POST", f"{url}:setIamPolicy", json={"policy": {"bindings": [binding]}}).json()["bindings"] == [binding]
    asked = {"permissions": ["iap.webServiceVersions.accessViaIAP"]}
    assert api("POST", f"{url}:testIamPermissions", json=asked, as_="jane@example.com").json() == asked
    assert api("POST", f"{url}:testIamPermissions", json=asked).json() == {}
    missing = api("POST", f"{V1}/projects/{project}/iap_web/compute/services/none:getIamPolicy", json={})
    assert missing.status_code == 404
    assert api("POST", f"{url}:getIamPolicy", json={}, as_="jane@example.com").status_code == 403


def test_settings_by_mask(api: Api, project: str, backend: str) -> None:
    url = f"{V1}/projects/{project}/iap_web/compute/services/{backend}:iapSettings"
    assert set(api("GET", url).json()) == {"name"}
    body = {"accessSettings": {"oauthSettings": {"programmaticClients": ["a.apps.googleusercontent.com"]}}}
    mask = {"updateMask": "iapSettings.accessSettings.oauthSettings.programmaticClients"}
    new = api("PATCH", url, params=mask, json=body).json()
    assert new["accessSettings"] == body["accessSettings"]
    other = {"updateMask": "iapSettings.applicationSettings.cookieDomain"}
    new = api("PATCH", url, params=other, json={"applicationSettings": {"cookieDomain": "example.com"}}).json()
    assert (
        new["accessSettings"] == body["accessSettings"] and new["applicationSettings"]["cookieDomain"] == "example.com"
    )
    assert api("PATCH", url, params={"updateMask": "nothing"}, json={}).status_code == 400
    assert set(api("PATCH", url, json={}).json()) == {"name"}


def test_brands_are_gone_unless_asked_for(api: Api, project: str, backend: str, own: Any) -> None:
    body = {"applicationTitle": "T", "supportEmail": "a@example.com"}
    assert api("POST", f"{V1}/projects/{project}/brands", json=body).status_code == 404
    own.command("up", "--detach", "--project", "brand-project", "--iap-oauth-admin-api")
    client = own.session()
    services = {"serviceIds": ["iap.googleapis.com"]}
    client.post("https://serviceusage.googleapis.com/v1/projects/brand-project/services:batchEnable", json=services)
    brands = f"{V1}/projects/brand-project/brands"
    for _ in range(50):
        answer = client.post(brands, json=body)
        if answer.status_code == 200:
            break
    brand = answer.json()
    assert brand["orgInternalOnly"] is True
    assert client.post(brands, json=body).status_code == 409
    made = client.post(f"{V1}/{brand['name']}/identityAwareProxyClients", json={"displayName": "C"}).json()
    assert made["name"].endswith(".apps.googleusercontent.com") and made["secret"]
    assert client.post(f"{V1}/{made['name']}:resetSecret", json={}).json()["secret"] != made["secret"]
    assert client.delete(f"{V1}/{made['name']}").json() == {}
    assert client.get(f"{V1}/{made['name']}").status_code == 404
