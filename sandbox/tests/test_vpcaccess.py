"""Serverless VPC Access: connectors, as a client meets them."""

from __future__ import annotations

from typing import Any

import pytest

Doc = dict[str, Any]


@pytest.fixture(scope="module")
def base(enable: Any, project: str) -> str:
    enable(project, "compute.googleapis.com", "vpcaccess.googleapis.com")
    return f"https://vpcaccess.googleapis.com/v1/projects/{project}/locations/us-central1"


def test_a_connector_has_a_machine_for_every_100_mbps(api: Any, done: Any, base: str) -> None:
    body = {"network": "default", "ipCidrRange": "10.8.0.0/28", "minThroughput": 200, "maxThroughput": 300}
    made = done(api("POST", f"{base}/connectors?connectorId=one", json=body))
    shown = body | {"machineType": "e2-micro", "minInstances": 2, "maxInstances": 3, "state": "READY"}
    assert made["response"].items() >= shown.items() and made["metadata"]["method"].endswith(".CreateConnector")
    connector = api("GET", f"{base}/connectors/one").json()
    assert connector.items() >= shown.items() and connector["name"].endswith("/connectors/one")
    done(api("PATCH", f"{base}/connectors/one?updateMask=maxInstances", json={"maxInstances": 5}))
    connector = api("GET", f"{base}/connectors/one").json()
    assert (connector["maxInstances"], connector["maxThroughput"]) == (5, 500)
    assert [c["name"] for c in api("GET", f"{base}/connectors").json()["connectors"]] == [connector["name"]]
    done(api("DELETE", f"{base}/connectors/one"))
    assert api("GET", f"{base}/connectors/one").json()["error"]["status"] == "NOT_FOUND"


def test_connectors_that_cannot_be_are_refused(api: Any, base: str) -> None:
    body = {"network": "default", "ipCidrRange": "10.8.0.0/28"}
    for wrong in (
        {"ipCidrRange": "10.8.0.0/24"},
        {"network": "none"},
        {"minThroughput": 250},
        {"minInstances": 1},
        {"minInstances": 4, "maxInstances": 3},
        {"subnet": {"name": "default"}},
    ):
        answer = api("POST", f"{base}/connectors?connectorId=two", json=body | wrong).json()
        assert answer["error"]["status"] == "INVALID_ARGUMENT", wrong
    assert api("POST", f"{base}/connectors?connectorId=Two", json=body).json()["error"]["code"] == 400
