# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules compute_network, compute_subnetwork and compute_firewall."""

from __future__ import annotations

import pytest

PROJECT = "https://compute.googleapis.com/compute/v1/projects/demo"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo"
DONE = {"kind": "compute#operation", "name": "op", "status": "DONE", "selfLink": f"{LINKS}/global/operations/op"}

NETWORKS, NETWORK = f"{PROJECT}/global/networks", f"{PROJECT}/global/networks/mlflow"
LIVE_NETWORK = {
    "name": "mlflow",
    "autoCreateSubnetworks": False,
    "description": "of others",
    "mtu": 1500,
    "routingConfig": {"routingMode": "GLOBAL", "bgpBestPathSelectionMode": "STANDARD"},
    "networkFirewallPolicyEnforcementOrder": "BEFORE_CLASSIC_FIREWALL",
    "selfLink": f"{LINKS}/global/networks/mlflow",
}

SUBNETWORKS = f"{PROJECT}/regions/europe-west2/subnetworks"
SUBNETWORK = f"{SUBNETWORKS}/mlflow"
SUBNETWORK_OPTIONS = {
    "name": "mlflow",
    "region": "europe-west2",
    "network": "mlflow",
    "ip_cidr_range": "10.10.0.0/24",
    "private_ip_google_access": True,
}
LIVE_SUBNETWORK = {
    "name": "mlflow",
    "network": f"{LINKS}/global/networks/mlflow",
    "ipCidrRange": "10.10.0.0/24",
    "privateIpGoogleAccess": True,
    "purpose": "PRIVATE",
    "stackType": "IPV4_IPV6",
    "secondaryIpRanges": [{"rangeName": "pods", "ipCidrRange": "10.20.0.0/16"}],
    "logConfig": {"enable": True, "flowSampling": 1.0},
    "fingerprint": "f1",
    "selfLink": f"{LINKS}/regions/europe-west2/subnetworks/mlflow",
}

FIREWALLS, FIREWALL = f"{PROJECT}/global/firewalls", f"{PROJECT}/global/firewalls/internal"
FIREWALL_OPTIONS = {
    "name": "internal",
    "network": "mlflow",
    "source_ranges": ["10.10.0.0/24"],
    "allowed": [{"ip_protocol": "icmp"}, {"ip_protocol": "tcp", "ports": ["0-65535"]}],
}
ALLOWED = [{"IPProtocol": "tcp", "ports": ["0-65535"]}, {"IPProtocol": "icmp"}]
LIVE_FIREWALL = {
    "name": "internal",
    "network": f"{LINKS}/global/networks/mlflow",
    "direction": "INGRESS",
    "sourceRanges": ["10.10.0.0/24"],
    "allowed": ALLOWED,
    "priority": 900,
    "disabled": True,
    "description": "of others",
    "targetTags": ["mlflow"],
    "logConfig": {"enable": True, "metadata": "INCLUDE_ALL_METADATA"},
}


def absent(google):
    return google.old_error(404, "notFound", "The resource was not found")


def denied(google, permission):
    return google.old_error(403, "forbidden", f"Required '{permission}' permission for 'projects/demo'")


# ---- networks


def test_creates_a_network_in_custom_mode(google, run_module):
    sent = {"name": "mlflow", "autoCreateSubnetworks": False}
    google.expect("GET", NETWORK, absent(google)).expect("POST", NETWORKS, DONE, body=sent)
    google.expect("GET", NETWORK, LIVE_NETWORK)
    result = run_module("compute_network", name="mlflow")
    assert (result["changed"], result["path"]) == (True, "projects/demo/global/networks/mlflow")


def test_a_network_stays_as_others_have_set_it(google, run_module):
    google.expect("GET", NETWORK, LIVE_NETWORK)
    assert not run_module("compute_network", name="mlflow", auto_create_subnetworks=False)["changed"]


def test_changes_only_the_routing_mode(google, run_module):
    google.expect("GET", NETWORK, LIVE_NETWORK)
    google.expect("PATCH", NETWORK, DONE, body={"routingConfig": {"routingMode": "REGIONAL"}})
    google.expect("GET", NETWORK, LIVE_NETWORK)
    assert run_module("compute_network", name="mlflow", auto_create_subnetworks=False, routing_mode="REGIONAL")[
        "changed"
    ]


@pytest.mark.parametrize("check", [False, True])
def test_refuses_another_mode(google, run_module, check):
    google.expect("GET", NETWORK, {**LIVE_NETWORK, "autoCreateSubnetworks": True})
    with pytest.raises(Exception, match="autoCreateSubnetworks is True and cannot be changed to False; set the option"):
        run_module("compute_network", check=check, name="mlflow", auto_create_subnetworks=False)


def test_uses_an_existing_network(google, run_module):
    google.expect("GET", NETWORK, {**LIVE_NETWORK, "autoCreateSubnetworks": True})
    assert run_module("compute_network", name="mlflow", state="existing")["self_link"] == LIVE_NETWORK["selfLink"]
    google.expect("GET", NETWORK, absent(google))
    with pytest.raises(Exception, match="^Cannot use VPC network mlflow of project demo: it does not exist"):
        run_module("compute_network", name="mlflow", state="existing")


def test_an_existing_network_that_may_not_be_read(google, run_module):
    google.expect("GET", NETWORK, denied(google, "compute.networks.get"))
    result = run_module("compute_network", name="mlflow", state="existing")
    assert result["self_link"] == LIVE_NETWORK["selfLink"]
    assert "VPC network mlflow of project demo is assumed to exist as given" in str(result["warnings"])
    google.expect("GET", NETWORK, denied(google, "compute.networks.get"))
    with pytest.raises(Exception, match=r"^Cannot read VPC network mlflow .*compute\.networks\.get"):
        run_module("compute_network", name="mlflow")


def test_deletes_a_network(google, run_module):
    google.expect("GET", NETWORK, LIVE_NETWORK).expect("DELETE", NETWORK, DONE)
    assert run_module("compute_network", name="mlflow", state="absent")["changed"]


def in_use(google, kind, user):
    return google.old_error(
        400, "resourceInUseByAnotherResource", f"The {kind} resource 'mlflow' is already being used by '{user}'"
    )


def test_a_network_that_others_use(google, run_module):
    user = "projects/demo/regions/europe-west2/subnetworks/theirs"
    google.expect("GET", NETWORK, LIVE_NETWORK).expect("DELETE", NETWORK, in_use(google, "network", user))
    with pytest.raises(Exception, match=f"^Cannot delete VPC network mlflow of project demo: .*{user}"):
        run_module("compute_network", name="mlflow", state="absent")
    google.expect("GET", NETWORK, LIVE_NETWORK).expect("DELETE", NETWORK, in_use(google, "network", user))
    result = run_module("compute_network", name="mlflow", state="absent", in_use="leave")
    assert not result["changed"] and user in str(result["warnings"])


def test_a_deletion_of_an_earlier_run_is_waited_for(google, run_module):
    busy = google.old_error(400, "resourceNotReady", "The resource 'mlflow' is not ready")
    google.expect("GET", NETWORK, LIVE_NETWORK).expect("DELETE", NETWORK, busy).expect(
        "DELETE", NETWORK, absent(google)
    )
    assert run_module("compute_network", name="mlflow", state="absent")["changed"]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_without_the_api_there_is_nothing_to_delete(google, run_module, state):
    details = [{"reason": "SERVICE_DISABLED"}]
    google.expect("GET", NETWORK, google.error(403, "PERMISSION_DENIED", "Off.", details=details))
    if state == "present":
        with pytest.raises(Exception, match="^Cannot read VPC network"):
            run_module("compute_network", name="mlflow")
        return
    assert not run_module("compute_network", name="mlflow", state="absent")["changed"]


# https://github.com/nitrictech/nitric/issues/667
HELD = "projects/demo/regions/europe-west2/addresses/serverless-ipv4-1721014303789269923"


def test_a_subnetwork_is_released_after_a_while(google, run_module, clock):
    google.expect("GET", SUBNETWORK, LIVE_SUBNETWORK)
    for _attempt in range(3):
        google.expect("DELETE", SUBNETWORK, in_use(google, "subnetwork", HELD))
    google.expect("DELETE", SUBNETWORK, DONE)
    assert run_module("compute_subnetwork", name="mlflow", region="europe-west2", state="absent")["changed"]
    assert len(clock.slept) == 3


def test_a_subnetwork_that_is_not_released_in_time(google, run_module, clock):
    google.expect("GET", SUBNETWORK, LIVE_SUBNETWORK).expect("DELETE", SUBNETWORK, in_use(google, "subnetwork", HELD))
    options = {"name": "mlflow", "region": "europe-west2", "state": "absent", "release_timeout": 0, "in_use": "leave"}
    result = run_module("compute_subnetwork", **options)
    assert not result["changed"] and "serverless-ipv4" in str(result["warnings"]) and not clock.slept


def test_nobody_waits_for_what_others_use(google, run_module, clock):
    google.expect("GET", SUBNETWORK, LIVE_SUBNETWORK)
    google.expect("DELETE", SUBNETWORK, in_use(google, "subnetwork", "projects/demo/zones/europe-west2-a/instances/vm"))
    with pytest.raises(Exception, match="instances/vm"):
        run_module("compute_subnetwork", name="mlflow", region="europe-west2", state="absent", release_timeout=600)
    assert not clock.slept


# ---- subnetworks


def test_creates_a_subnetwork(google, run_module):
    sent = {
        "name": "mlflow",
        "network": "projects/demo/global/networks/mlflow",
        "ipCidrRange": "10.10.0.0/24",
        "privateIpGoogleAccess": True,
    }
    google.expect("GET", SUBNETWORK, absent(google)).expect("POST", SUBNETWORKS, DONE, body=sent)
    google.expect("GET", SUBNETWORK, LIVE_SUBNETWORK)
    result = run_module("compute_subnetwork", **SUBNETWORK_OPTIONS)
    assert (result["changed"], result["ip_cidr_range"]) == (True, "10.10.0.0/24")
    assert result["path"] == "projects/demo/regions/europe-west2/subnetworks/mlflow"


def test_a_subnetwork_stays_as_others_have_set_it(google, run_module):
    google.expect("GET", SUBNETWORK, LIVE_SUBNETWORK)
    assert not run_module("compute_subnetwork", **SUBNETWORK_OPTIONS)["changed"]


def test_expands_a_subnetwork_and_nothing_else(google, run_module):
    google.expect("GET", SUBNETWORK, {**LIVE_SUBNETWORK, "privateIpGoogleAccess": False})
    google.expect("POST", f"{SUBNETWORK}/expandIpCidrRange", DONE, body={"ipCidrRange": "10.10.0.0/22"})
    google.expect("POST", f"{SUBNETWORK}/setPrivateIpGoogleAccess", DONE, body={"privateIpGoogleAccess": True})
    google.expect("GET", SUBNETWORK, {**LIVE_SUBNETWORK, "ipCidrRange": "10.10.0.0/22"})
    result = run_module("compute_subnetwork", **{**SUBNETWORK_OPTIONS, "ip_cidr_range": "10.10.0.0/22"})
    assert (result["changed"], result["ip_cidr_range"]) == (True, "10.10.0.0/22")


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"ip_cidr_range": "10.10.0.0/26"},
            "ipCidrRange is '10.10.0.0/24' and cannot be changed to '10.10.0.0/26'; the",
        ),
        ({"ip_cidr_range": "10.11.0.0/16"}, "the range can only be expanded, to one that contains it"),
        ({"network": "default"}, r"network is '.*/networks/mlflow' and cannot be changed .*; Google cannot move a sub"),
    ],
)
def test_refuses_to_shrink_or_move_a_subnetwork(google, run_module, check, changed, words):
    google.expect("GET", SUBNETWORK, LIVE_SUBNETWORK)
    with pytest.raises(Exception, match=words):
        run_module("compute_subnetwork", check=check, **{**SUBNETWORK_OPTIONS, **changed})


def test_uses_an_existing_subnetwork(google, run_module):
    options = {"name": "mlflow", "region": "europe-west2", "network": "mlflow", "state": "existing"}
    google.expect("GET", SUBNETWORK, LIVE_SUBNETWORK)
    assert run_module("compute_subnetwork", **options)["ip_cidr_range"] == "10.10.0.0/24"
    google.expect("GET", SUBNETWORK, LIVE_SUBNETWORK)
    with pytest.raises(
        Exception, match="^Cannot use subnetwork mlflow of project demo: its network is '.*/mlflow' inst"
    ):
        run_module("compute_subnetwork", **{**options, "network": "default"})
    # Without networkUser on the subnetwork, Cloud Run could not be deployed either.
    google.expect("GET", SUBNETWORK, denied(google, "compute.subnetworks.get"))
    with pytest.raises(Exception, match="^Cannot read subnetwork mlflow of project demo"):
        run_module("compute_subnetwork", **options)


@pytest.mark.parametrize("text", ["10.10.0.1/24", "10.10.0.0", "everything"])
def test_refuses_an_invalid_range(google, run_module, text):
    with pytest.raises(Exception, match="option ip_cidr_range: .* is not allowed; give an IPv4 range"):
        run_module("compute_subnetwork", **{**SUBNETWORK_OPTIONS, "ip_cidr_range": text})


# ---- firewall rules


def test_creates_a_rule(google, run_module):
    sent = {
        "name": "internal",
        "network": "projects/demo/global/networks/mlflow",
        "direction": "INGRESS",
        "sourceRanges": ["10.10.0.0/24"],
        "allowed": [{"IPProtocol": "icmp"}, {"IPProtocol": "tcp", "ports": ["0-65535"]}],
    }
    google.expect("GET", FIREWALL, absent(google)).expect("POST", FIREWALLS, DONE, body=sent)
    google.expect("GET", FIREWALL, LIVE_FIREWALL)
    assert run_module("compute_firewall", **FIREWALL_OPTIONS)["changed"]


def test_a_rule_stays_as_others_have_set_it(google, run_module):
    google.expect("GET", FIREWALL, LIVE_FIREWALL)
    assert not run_module("compute_firewall", **FIREWALL_OPTIONS)["changed"]


@pytest.mark.parametrize(
    ("live", "sent"),
    [
        ({"sourceRanges": ["10.10.0.0/24", "0.0.0.0/0"]}, {"sourceRanges": ["10.10.0.0/24"]}),
        (
            {"allowed": [{"IPProtocol": "tcp"}, {"IPProtocol": "icmp"}]},
            {"allowed": [{"IPProtocol": "icmp"}, {"IPProtocol": "tcp", "ports": ["0-65535"]}]},
        ),
    ],
)
def test_narrows_a_rule_and_nothing_else(google, run_module, live, sent):
    google.expect("GET", FIREWALL, {**LIVE_FIREWALL, **live}).expect("PATCH", FIREWALL, DONE, body=sent)
    google.expect("GET", FIREWALL, LIVE_FIREWALL)
    assert run_module("compute_firewall", **FIREWALL_OPTIONS)["changed"]


def test_refuses_another_network_for_a_rule(google, run_module):
    google.expect("GET", FIREWALL, LIVE_FIREWALL)
    with pytest.raises(
        Exception, match="network is .* and cannot be changed .*; Google cannot change it: give another"
    ):
        run_module("compute_firewall", **{**FIREWALL_OPTIONS, "network": "default"})


def test_a_rule_that_may_not_be_read_is_not_there_to_delete(google, run_module):
    google.expect("GET", FIREWALL, denied(google, "compute.firewalls.get"))
    assert not run_module("compute_firewall", name="internal", state="absent")["changed"]
    google.expect("GET", FIREWALL, denied(google, "compute.firewalls.get"))
    with pytest.raises(Exception, match="^Cannot read firewall rule internal"):
        run_module("compute_firewall", **FIREWALL_OPTIONS)


def test_deletes_a_rule(google, run_module):
    google.expect("GET", FIREWALL, LIVE_FIREWALL).expect("DELETE", FIREWALL, DONE)
    assert run_module("compute_firewall", name="internal", state="absent")["changed"]
