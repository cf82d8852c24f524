# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module compute_global_address."""

from __future__ import annotations

import pytest

PROJECT = "https://compute.googleapis.com/compute/v1/projects/demo"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo"
ADDRESSES = f"{PROJECT}/global/addresses"
RANGE, IP = f"{ADDRESSES}/mlflow-services", f"{ADDRESSES}/mlflow-lb-ip"
NETWORK = f"{LINKS}/global/networks/mlflow"
CONNECTIONS = "https://servicenetworking.googleapis.com/v1/services/-/connections"
OPTIONS = {"name": "mlflow-services", "purpose": "VPC_PEERING", "prefix_length": 16, "network": "mlflow"}
SENT = {
    "name": "mlflow-services",
    "addressType": "INTERNAL",
    "purpose": "VPC_PEERING",
    "prefixLength": 16,
    "network": "projects/demo/global/networks/mlflow",
}
LIVE = {
    **SENT,
    "network": NETWORK,
    "address": "10.42.0.0",
    "description": "of the network team",
    "status": "RESERVED",
    "labelFingerprint": "f1",
    "selfLink": f"{LINKS}/global/addresses/mlflow-services",
}
EXTERNAL = {
    "name": "mlflow-lb-ip",
    "address": "203.0.113.7",
    "addressType": "EXTERNAL",
    "networkTier": "PREMIUM",
    "ipVersion": "IPV4",
    "status": "RESERVED",
    "labelFingerprint": "f1",
}
LABELS = {"team": "ml", "mlflow-gcp-labels": "team"}
DONE = {"kind": "compute#operation", "name": "op", "status": "DONE", "selfLink": f"{LINKS}/global/operations/op"}


def absent(google):
    return google.old_error(404, "notFound", "The resource was not found")


def test_reserves_a_range(google, run_module):
    google.expect("GET", RANGE, absent(google)).expect("POST", ADDRESSES, DONE, body=SENT).expect("GET", RANGE, LIVE)
    result = run_module("compute_global_address", **OPTIONS)
    assert (result["changed"], result["address"], result["self_link"]) == (True, "10.42.0.0", LIVE["selfLink"])


def test_reserves_an_external_address_with_labels(google, run_module):
    sent = {"name": "mlflow-lb-ip", "addressType": "EXTERNAL", "labels": LABELS}
    google.expect("GET", IP, absent(google)).expect("POST", ADDRESSES, DONE, body=sent).expect("GET", IP, EXTERNAL)
    google.expect("POST", f"{IP}/setLabels", DONE, body={"labels": LABELS, "labelFingerprint": "f1"})
    google.expect("GET", IP, {**EXTERNAL, "labels": LABELS})
    result = run_module("compute_global_address", name="mlflow-lb-ip", labels={"team": "ml"})
    assert (result["changed"], result["address"]) == (True, "203.0.113.7")


def test_waits_for_an_address_that_another_run_is_reserving(google, run_module):
    google.expect("GET", IP, absent(google))
    google.expect("POST", ADDRESSES, google.old_error(409, "alreadyExists", "The resource already exists"))
    google.expect("GET", IP, absent(google)).expect("GET", IP, {**EXTERNAL, "status": "RESERVING"})
    google.expect("GET", IP, {**EXTERNAL, "status": "RESERVING"}).expect("GET", IP, EXTERNAL)
    assert run_module("compute_global_address", name="mlflow-lb-ip")["address"] == "203.0.113.7"


def test_another_run_has_reserved_something_else(google, run_module):
    google.expect("GET", RANGE, absent(google))
    google.expect("POST", ADDRESSES, google.old_error(409, "alreadyExists", "The resource already exists"))
    google.expect("GET", RANGE, {**LIVE, "prefixLength": 20}).expect("GET", RANGE, {**LIVE, "prefixLength": 20})
    with pytest.raises(Exception, match="prefixLength is 20 and cannot be changed to 16"):
        run_module("compute_global_address", **OPTIONS)


@pytest.mark.parametrize("network", ["mlflow", NETWORK, "projects/123456789012/global/networks/mlflow"])
def test_second_run_changes_nothing(google, run_module, network):
    google.expect("GET", RANGE, LIVE)
    assert not run_module("compute_global_address", **{**OPTIONS, "network": network})["changed"]


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"network": "default"}, f"network is '{NETWORK}' and cannot be changed to"),
        ({"prefix_length": 20}, "prefixLength is 16 and cannot be changed to 20"),
        ({"address": "10.99.0.0"}, "address is '10.42.0.0' and cannot be changed to '10.99.0.0'"),
    ],
)
def test_refuses_what_google_cannot_change(google, run_module, check, changed, words):
    google.expect("GET", RANGE, LIVE)
    with pytest.raises(Exception, match=words) as failed:
        run_module("compute_global_address", check=check, **{**OPTIONS, **changed})
    assert "set the option back, or reserve another address under another name" in str(failed.value)


def test_sets_only_labels(google, run_module):
    live, after = (
        {**LIVE, "labels": {"of": "others", "old": "1", "mlflow-gcp-labels": "old"}},
        {"of": "others", **LABELS},
    )
    google.expect("GET", RANGE, live)
    google.expect("POST", f"{RANGE}/setLabels", DONE, body={"labels": after, "labelFingerprint": "f1"})
    google.expect("GET", RANGE, {**LIVE, "labels": after})
    result = run_module("compute_global_address", **OPTIONS, labels={"team": "ml"})
    assert result["changed"] and result["diff"]["after"] == {**LIVE, "labels": after}


def test_uses_an_existing_address(google, run_module):
    google.expect("GET", RANGE, LIVE)
    options = {key: OPTIONS[key] for key in ("name", "purpose", "network")}
    result = run_module("compute_global_address", **options, state="existing")
    assert (result["changed"], result["resource"]) == (False, LIVE)


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (None, "it does not exist, and state=existing does not create it"),
        ({**LIVE, "network": f"{LINKS}/global/networks/other"}, r"its network is '.*/networks/other' instead of 'proj"),
        ({**LIVE, "purpose": "PRIVATE_SERVICE_CONNECT"}, "its purpose is 'PRIVATE_SERVICE_CONNECT' instead of 'VPC_P"),
    ],
)
def test_does_not_use_what_is_not_as_expected(google, run_module, live, words):
    google.expect("GET", RANGE, live or absent(google))
    options = {key: OPTIONS[key] for key in ("name", "purpose", "network")}
    with pytest.raises(Exception, match="^Cannot use global address mlflow-services of project demo: ") as failed:
        run_module("compute_global_address", **options, state="existing")
    assert failed.match(words)


def test_an_address_in_use_is_not_deleted(google, run_module):
    rule = f"{LINKS}/global/forwardingRules/mlflow-lb-https"
    google.expect("GET", IP, {**EXTERNAL, "status": "IN_USE", "users": [rule]})
    with pytest.raises(Exception, match="^Cannot delete global address mlflow-lb-ip .*: mlflow-lb-https uses it"):
        run_module("compute_global_address", name="mlflow-lb-ip", state="absent")


def test_in_check_mode_what_uses_an_address_may_be_deleted_before(google, run_module):
    rule = f"{LINKS}/global/forwardingRules/mlflow-lb-https"
    google.expect("GET", IP, {**EXTERNAL, "status": "IN_USE", "users": [rule]})
    result = run_module("compute_global_address", check=True, name="mlflow-lb-ip", state="absent")
    assert result["changed"] and "mlflow-lb-https" in str(result["warnings"])


@pytest.fixture
def connected(google):
    """Scripts the connections of the network, with these ranges."""

    def script(*ranges):
        number = {"projectNumber": "123456789012", "projectId": "demo"}
        google.expect("GET", "https://cloudresourcemanager.googleapis.com/v1/projects/demo", number)
        connections = {"connections": [{"reservedPeeringRanges": list(ranges)}]} if ranges else {}
        network = {"network": "projects/123456789012/global/networks/mlflow"}
        google.expect("GET", CONNECTIONS, connections, params=network)

    return script


def test_a_range_in_use_is_not_deleted(google, run_module, connected):
    google.expect("GET", RANGE, LIVE)
    connected("other", "mlflow-services")
    with pytest.raises(Exception, match="the service networking connection of network mlflow uses it"):
        run_module("compute_global_address", name="mlflow-services", state="absent")


def test_deletes_a_range(google, run_module, connected):
    google.expect("GET", RANGE, LIVE)
    connected("other")
    google.expect("DELETE", RANGE, DONE)
    assert run_module("compute_global_address", name="mlflow-services", state="absent")["changed"]
    google.expect("GET", RANGE, absent(google))
    assert not run_module("compute_global_address", name="mlflow-services", state="absent")["changed"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({**OPTIONS, "network": ""}, "option network: '' is not allowed"),
        ({**OPTIONS, "prefix_length": 30}, "option prefix_length: 30 is not allowed; give 8 to 29"),
        ({"name": "a", "address_type": "INTERNAL"}, "option purpose: None is not allowed"),
        ({**OPTIONS, "address": "10.0.0.0/16"}, "option address: '10.0.0.0/16' is not allowed"),
    ],
)
def test_refuses_invalid_options(google, run_module, options, words):
    with pytest.raises(Exception, match=words):
        run_module("compute_global_address", **options)
