# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules compute_address and compute_forwarding_rule: an endpoint of Private Service Connect."""

from __future__ import annotations

import pytest

REGION = "https://compute.googleapis.com/compute/v1/projects/demo/regions/europe-west2"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo/regions/europe-west2"
DONE = {"kind": "compute#operation", "name": "op", "status": "DONE", "selfLink": f"{LINKS}/operations/op"}
SUBNETWORK = "projects/network-host/regions/europe-west2/subnetworks/shared"
NETWORK = "projects/network-host/global/networks/shared"
TARGET = "projects/a1b2p-tp/regions/europe-west2/serviceAttachments/a-1"

ADDRESSES, ADDRESS = f"{REGION}/addresses", f"{REGION}/addresses/mlflow-psc"
ADDRESS_OPTIONS = {"name": "mlflow-psc", "region": "europe-west2", "subnetwork": SUBNETWORK}
LIVE_ADDRESS = {
    "name": "mlflow-psc",
    "address": "10.20.0.7",
    "addressType": "INTERNAL",
    "purpose": "GCE_ENDPOINT",
    "description": "of others",
    "subnetwork": f"https://www.googleapis.com/compute/v1/{SUBNETWORK}",
    "status": "IN_USE",
    "users": [f"{LINKS}/forwardingRules/mlflow-psc"],
    "labelFingerprint": "f1",
}

RULES, RULE = f"{REGION}/forwardingRules", f"{REGION}/forwardingRules/mlflow-psc"
RULE_OPTIONS = {
    "name": "mlflow-psc",
    "region": "europe-west2",
    "network": NETWORK,
    "address": "projects/demo/regions/europe-west2/addresses/mlflow-psc",
    "target": TARGET,
}
SENT_RULE = {"name": "mlflow-psc", "network": NETWORK, "IPAddress": RULE_OPTIONS["address"], "target": TARGET}
LIVE_RULE = {
    "name": "mlflow-psc",
    "network": f"https://www.googleapis.com/compute/v1/{NETWORK}",
    "IPAddress": "10.20.0.7",
    "target": f"https://www.googleapis.com/compute/v1/{TARGET}",
    "labels": {"of": "others"},
    "allowPscGlobalAccess": True,
    "pscConnectionStatus": "ACCEPTED",
}


def absent(google):
    return google.old_error(404, "notFound", "The resource was not found")


def test_reserves_an_address_of_the_host_project(google, run_module):
    sent = {"name": "mlflow-psc", "addressType": "INTERNAL", "subnetwork": SUBNETWORK}
    google.expect("GET", ADDRESS, absent(google)).expect("POST", ADDRESSES, DONE, body=sent)
    google.expect("GET", ADDRESS, LIVE_ADDRESS)
    result = run_module("compute_address", **ADDRESS_OPTIONS)
    assert (result["changed"], result["address"]) == (True, "10.20.0.7")
    assert result["path"] == RULE_OPTIONS["address"]
    google.expect("GET", ADDRESS, LIVE_ADDRESS)
    assert not run_module("compute_address", **ADDRESS_OPTIONS)["changed"]


def test_an_address_is_never_moved_and_not_deleted_in_use(google, run_module):
    google.expect("GET", ADDRESS, LIVE_ADDRESS)
    with pytest.raises(Exception, match=r"subnetwork is '.*/shared' and cannot be changed to .*/other'; Google cannot"):
        run_module("compute_address", **{**ADDRESS_OPTIONS, "subnetwork": "other"})
    google.expect("GET", ADDRESS, LIVE_ADDRESS)
    with pytest.raises(Exception, match="^Cannot delete address mlflow-psc of project demo: mlflow-psc uses it"):
        run_module("compute_address", name="mlflow-psc", region="europe-west2", state="absent")


def test_creates_an_endpoint(google, run_module):
    google.expect("GET", RULE, absent(google)).expect("POST", RULES, DONE, body=SENT_RULE)
    google.expect("GET", RULE, {**LIVE_RULE, "pscConnectionStatus": "STATUS_UNSPECIFIED"})
    google.expect("GET", RULE, LIVE_RULE)
    result = run_module("compute_forwarding_rule", **RULE_OPTIONS)
    assert (result["changed"], result["address"]) == (True, "10.20.0.7")
    google.expect("GET", RULE, LIVE_RULE)
    assert not run_module("compute_forwarding_rule", **RULE_OPTIONS)["changed"]


def test_check_mode_does_not_know_the_address(google, run_module):
    google.expect("GET", RULE, absent(google))
    result = run_module("compute_forwarding_rule", check=True, **RULE_OPTIONS)
    assert (result["changed"], result["address"]) == (True, "(known after the run)")


def test_an_endpoint_that_is_not_accepted(google, run_module):
    google.expect("GET", RULE, {**LIVE_RULE, "pscConnectionStatus": "PENDING"})
    with pytest.raises(Exception, match=r"the connection is PENDING; add project demo to .*psc_allowed_projects"):
        run_module("compute_forwarding_rule", **RULE_OPTIONS)


@pytest.mark.parametrize("changed", [{"target": TARGET.replace("a-1", "a-2")}, {"network": "default"}])
def test_an_endpoint_is_never_recreated(google, run_module, changed):
    google.expect("GET", RULE, LIVE_RULE)
    with pytest.raises(Exception, match="cannot be changed to .*; Google cannot change it: set the option back"):
        run_module("compute_forwarding_rule", **{**RULE_OPTIONS, **changed})


def test_deletes_an_endpoint(google, run_module):
    google.expect("GET", RULE, {**LIVE_RULE, "pscConnectionStatus": "CLOSED"}).expect("DELETE", RULE, DONE)
    assert run_module("compute_forwarding_rule", name="mlflow-psc", region="europe-west2", state="absent")["changed"]
