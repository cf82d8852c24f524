# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module compute_serverless_neg."""

from __future__ import annotations

import pytest

COMPUTE = "https://compute.googleapis.com/compute/v1/projects/demo"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo"
NEGS = f"{COMPUTE}/regions/europe-west2/networkEndpointGroups"
URL = f"{NEGS}/mlflow-neg"
LINK = f"{LINKS}/regions/europe-west2/networkEndpointGroups/mlflow-neg"
OPTIONS = {"name": "mlflow-neg", "region": "europe-west2", "cloud_run_service": "mlflow"}
SENT = {"name": "mlflow-neg", "networkEndpointType": "SERVERLESS", "cloudRun": {"service": "mlflow"}}
LIVE = {
    **SENT,
    "kind": "compute#networkEndpointGroup",
    "region": f"{LINKS}/regions/europe-west2",
    "selfLink": LINK,
    "size": 0,
}
DONE = {
    "kind": "compute#operation",
    "name": "op",
    "status": "DONE",
    "progress": 100,
    "targetLink": LINK,
    "selfLink": f"{LINKS}/regions/europe-west2/operations/op",
}


def absent(google):
    return google.old_error(404, "notFound", "The resource was not found")


def test_creates(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", NEGS, {**DONE, "status": "RUNNING"}, body=SENT)
    google.expect("POST", f"{COMPUTE}/regions/europe-west2/operations/op/wait", DONE).expect("GET", URL, LIVE)
    result = run_module("compute_serverless_neg", **OPTIONS)
    assert result["changed"] and result["self_link"] == LINK


def test_second_run_changes_nothing(google, run_module):
    google.expect("GET", URL, LIVE)
    assert not run_module("compute_serverless_neg", **OPTIONS)["changed"]


def test_check_mode_knows_the_link(google, run_module):
    google.expect("GET", URL, absent(google))
    result = run_module("compute_serverless_neg", check=True, **OPTIONS)
    assert result["changed"] and result["self_link"] == LINK


@pytest.mark.parametrize("target", [{"service": "other"}, {"service": "mlflow", "tag": "canary"}])
def test_an_unused_neg_is_recreated(google, run_module, target):
    google.expect("GET", URL, {**LIVE, "cloudRun": target})
    google.expect(
        "GET",
        f"{COMPUTE}/global/backendServices",
        {"items": [{"name": "b", "backends": [{"group": f"{LINK}-2"}]}, {"name": "c"}]},
    )
    google.expect("DELETE", URL, DONE).expect("POST", NEGS, DONE, body=SENT).expect("GET", URL, LIVE)
    result = run_module("compute_serverless_neg", **OPTIONS)
    assert result["changed"]
    assert result["diff"]["before"]["cloudRun"] == target and result["diff"]["after"]["cloudRun"] == {
        "service": "mlflow"
    }


@pytest.mark.parametrize("check", [False, True])
def test_a_neg_in_use_is_not_recreated(google, run_module, check):
    google.expect("GET", URL, {**LIVE, "cloudRun": {"service": "other"}})
    google.expect(
        "GET", f"{COMPUTE}/global/backendServices", {"items": [{"name": "mlflow-lb", "backends": [{"group": LINK}]}]}
    )
    with pytest.raises(
        Exception,
        match=r"^Cannot update serverless NEG mlflow-neg: its target \{'service': 'other'\} cannot be changed to .*"
        r"backend service mlflow-lb uses it; create a NEG with another name and attach that, or",
    ):
        run_module("compute_serverless_neg", check=check, **OPTIONS)
    assert not google.writes


def test_deletes(google, run_module):
    google.expect("GET", URL, LIVE).expect("DELETE", URL, DONE)
    assert run_module("compute_serverless_neg", name="mlflow-neg", region="europe-west2", state="absent")["changed"]
    google.expect("GET", URL, absent(google))
    assert not run_module("compute_serverless_neg", name="mlflow-neg", region="europe-west2", state="absent")["changed"]


def test_requires_a_service(google, run_module):
    with pytest.raises(Exception, match="^option cloud_run_service: '' is not allowed"):
        run_module("compute_serverless_neg", **{**OPTIONS, "cloud_run_service": ""})


def test_requires_a_region(google, run_module):
    with pytest.raises(Exception, match="^option region: 'europe' is not allowed; give a region of Google Cloud"):
        run_module("compute_serverless_neg", **{**OPTIONS, "region": "europe"})
