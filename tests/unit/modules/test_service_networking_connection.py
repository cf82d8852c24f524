# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module service_networking_connection."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

HOST = "https://servicenetworking.googleapis.com/v1"
CONNECTIONS = f"{HOST}/services/servicenetworking.googleapis.com/connections"
DELETE = f"{CONNECTIONS}/servicenetworking-googleapis-com"
OPERATION = f"{HOST}/operations/op1"
PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/demo"
INSTANCES = "https://sqladmin.googleapis.com/v1/projects/demo/instances"
NETWORK = "projects/123456789012/global/networks/net"
OPTIONS = {"network": "net", "reserved_ranges": ["range-a"]}
ADDRESSES = "https://compute.googleapis.com/compute/v1/projects/demo/global/addresses"
IN_USE = "Failed to delete connection; Producer services (e.g. CloudSQL, Cloud Memstore, etc.) are still using this connection."


def connection(*ranges):
    return {
        "network": NETWORK,
        "peering": "servicenetworking-googleapis-com",
        "reservedPeeringRanges": list(ranges),
        "service": "services/servicenetworking.googleapis.com",
    }


def done(**more):
    return {"name": "operations/op1", "done": True, "response": {}, **more}


@pytest.fixture
def live(google):
    """Scripts what the module reads: the project's number, then the connections of the network."""

    def script(*ranges, number=True):
        if number:
            google.expect("GET", PROJECT, {"projectNumber": "123456789012", "projectId": "demo"})
        google.expect(
            "GET", CONNECTIONS, {"connections": [connection(*ranges)]} if ranges else {}, params={"network": NETWORK}
        )

    return script


@pytest.fixture
def reserved(google):
    """Scripts the ranges of the network; those of FRESH were reserved just now."""

    def script(*names, fresh=()):
        now = datetime.now(timezone.utc)
        items = [
            {
                "name": name,
                "purpose": "VPC_PEERING",
                "network": "https://www.googleapis.com/compute/v1/projects/demo/global/networks/net",
                "creationTimestamp": (now - timedelta(days=0 if name in fresh else 9)).isoformat(),
            }
            for name in names
        ]
        google.expect("GET", ADDRESSES, {"items": [*items, {"name": "an-ip", "addressType": "EXTERNAL"}]})

    return script


@pytest.fixture
def changes(google, live, reserved):
    """Scripts a change to RANGES, after which the connection has NOW (by default RANGES); FRESH ranges are not part of it."""

    def script(*ranges, now=None, fresh=()):
        now = now or ranges
        google.expect(
            "PATCH",
            f"{CONNECTIONS}/-",
            done(),
            params={"force": "true", "updateMask": "reservedPeeringRanges"},
            body={"network": NETWORK, "reservedPeeringRanges": list(ranges)},
        )
        live(*ranges, number=False)
        live(*now, number=False)
        reserved(*dict.fromkeys([*now, *fresh]), fresh=fresh)

    return script


def test_creates(google, run_module, live):
    live()
    google.expect(
        "POST", CONNECTIONS, {"name": "operations/op1"}, body={"network": NETWORK, "reservedPeeringRanges": ["range-a"]}
    )
    google.expect("GET", OPERATION, {"name": "operations/op1"}).expect("GET", OPERATION, done())
    live("range-a", number=False)
    result = run_module("service_networking_connection", **OPTIONS)
    assert (result["changed"], result["resource"]) == (True, connection("range-a"))


def test_waits_until_a_new_connection_is_in_place(google, run_module, live):
    live()
    google.expect("POST", CONNECTIONS, done())
    live(number=False)
    live("range-a", number=False)
    assert run_module("service_networking_connection", **OPTIONS)["resource"] == connection("range-a")


def test_check_mode_before_the_first_api_is_enabled(google, run_module):
    details = [{"reason": "SERVICE_DISABLED"}]
    google.expect("GET", PROJECT, google.error(403, "PERMISSION_DENIED", "Disabled.", details=details))
    assert run_module("service_networking_connection", check=True, **OPTIONS)["changed"] is True


@pytest.mark.parametrize(
    "network",
    [
        "net",
        "projects/demo/global/networks/net",
        "https://www.googleapis.com/compute/v1/projects/demo/global/networks/net",
    ],
)
def test_second_run_changes_nothing(google, run_module, live, network):
    live("range-b", "range-a")
    result = run_module("service_networking_connection", network=network, reserved_ranges=["range-a", "range-b"])
    assert result["changed"] is False


@pytest.mark.parametrize("as_operation", [True, False])
def test_ranges_of_a_deleted_connection(google, run_module, live, changes, as_operation):
    message = "Cannot modify allocated ranges in CreateConnection. Please use UpdateConnection."
    live()
    google.expect(
        "POST",
        CONNECTIONS,
        done(error={"code": 9, "message": message})
        if as_operation
        else google.error(400, "FAILED_PRECONDITION", message),
    )
    live(number=False)
    changes("range-a")
    live("range-a", number=False)
    assert run_module("service_networking_connection", **OPTIONS)["changed"] is True


def test_other_ranges_are_kept(run_module, live, reserved, changes):
    live("theirs")
    reserved("theirs", "range-a")
    changes("theirs", "range-a")
    live("theirs", "range-a", number=False)
    assert run_module("service_networking_connection", **OPTIONS)["changed"] is True
    live("theirs", "range-a")
    assert run_module("service_networking_connection", **OPTIONS)["changed"] is False


def test_ranges_that_are_gone_are_left_out(run_module, live, reserved, changes):
    live("gone", "theirs")
    reserved("theirs", "range-a")
    changes("theirs", "range-a")
    live("theirs", "range-a", number=False)
    assert run_module("service_networking_connection", **OPTIONS)["resource"] == connection("theirs", "range-a")


def test_names_stay_as_they_are_if_the_ranges_cannot_be_listed(google, run_module, live, changes):
    live("theirs")
    google.expect("GET", ADDRESSES, google.old_error(403, "forbidden", "Required 'compute.globalAddresses.list'"))
    changes("theirs", "range-a")
    live("theirs", "range-a", number=False)
    assert run_module("service_networking_connection", **OPTIONS)["changed"] is True


def test_another_run_that_creates_the_connection_keeps_its_range(google, run_module, live, reserved, changes):
    message = "Cannot modify allocated ranges in CreateConnection. Please use UpdateConnection."
    live()
    google.expect("POST", CONNECTIONS, done(error={"code": 9, "message": message}))
    live("range-b", number=False)
    reserved("range-a", "range-b")
    changes("range-b", "range-a")
    live("range-b", "range-a", number=False)
    assert run_module("service_networking_connection", **OPTIONS)["resource"] == connection("range-b", "range-a")


def test_waits_for_another_run_and_adds_its_range_again(google, run_module, live, reserved, changes):
    """The other run has read the connection before our change and writes it afterwards, without our range."""
    live("theirs")
    reserved("theirs", "range-a", "range-b", fresh=("range-a", "range-b"))
    changes("theirs", "range-a", fresh=("range-b",))
    live("theirs", "range-b", number=False)
    reserved("theirs", "range-a", "range-b", fresh=("range-b",))
    live("theirs", "range-b", number=False)
    reserved("theirs", "range-a", "range-b")
    changes("theirs", "range-b", "range-a")
    live("theirs", "range-b", "range-a", number=False)
    result = run_module("service_networking_connection", **OPTIONS)
    assert result["resource"] == connection("theirs", "range-b", "range-a")


def test_does_not_wait_for_ever(google, run_module, live, reserved, changes, clock):
    live("theirs")
    reserved("theirs", "range-a", "spare", fresh=("spare",))
    changes("theirs", "range-a", fresh=("spare",))
    while len(google.script) < 300:
        live("theirs", "range-a", number=False)
        reserved("theirs", "range-a", "spare", fresh=("spare",))
    before = clock.now
    assert run_module("service_networking_connection", **OPTIONS)["changed"]
    assert 120 <= clock.now - before < 140
    google.script.clear()


def test_uses_an_existing_connection(google, run_module, live):
    live("theirs")
    assert run_module("service_networking_connection", network="net", state="existing")["resource"] == connection(
        "theirs"
    )
    live()
    with pytest.raises(Exception, match="^Cannot use service networking connection of network net: it does not exist"):
        run_module("service_networking_connection", network="net", state="existing")


def test_an_existing_connection_must_have_the_range(run_module, live, reserved):
    live("theirs")
    reserved("theirs", "range-a")
    with pytest.raises(
        Exception, match=r"its reservedPeeringRanges is \['theirs'\] instead of \['theirs', 'range-a'\]"
    ):
        run_module("service_networking_connection", **OPTIONS, state="existing")


def test_an_existing_connection_that_may_not_be_read(google, run_module):
    denied = "Permission 'resourcemanager.projects.get' denied on resource '//x/projects/demo' (or it may not exist)."
    google.expect("GET", PROJECT, google.error(403, "PERMISSION_DENIED", denied))
    result = run_module("service_networking_connection", network="net", state="existing")
    assert not result["changed"] and "is assumed to exist as given, because it cannot be read" in str(
        result["warnings"]
    )


def test_exclusive_removes_other_ranges(run_module, live, changes):
    live("range-a", "range-b")
    changes("range-a")
    live("range-a", number=False)
    result = run_module("service_networking_connection", exclusive=True, **OPTIONS)
    assert result["diff"]["before"]["reservedPeeringRanges"] == ["range-a", "range-b"]
    assert result["diff"]["after"]["reservedPeeringRanges"] == ["range-a"]


def test_check_mode_writes_nothing(google, run_module, live):
    live()
    assert run_module("service_networking_connection", check=True, **OPTIONS)["changed"] is True
    live("range-a")
    google.expect("GET", INSTANCES, {})
    assert run_module("service_networking_connection", check=True, network="net", state="absent")["changed"] is True


def test_check_mode_before_the_network_exists(google, run_module):
    google.expect("GET", PROJECT, {"projectNumber": "123456789012"}).expect(
        "GET",
        CONNECTIONS,
        google.error(403, "PERMISSION_DENIED", f"Permission denied to get network '{NETWORK}', or it does not exist."),
    )
    result = run_module("service_networking_connection", check=True, **OPTIONS)
    assert result["changed"] is True and "service networking connection of network net is absent" in str(
        result["warnings"]
    )


def test_absent(google, run_module, live):
    live("range-a")
    google.expect("GET", INSTANCES, {}).expect("POST", DELETE, done(), body={"consumerNetwork": NETWORK})
    assert run_module("service_networking_connection", network="net", state="absent")["changed"] is True
    live()
    assert run_module("service_networking_connection", network="net", state="absent")["changed"] is False


def instance(name, address="10.20.0.3", **configuration):
    network = {"privateNetwork": "projects/demo/global/networks/net", **configuration}
    addresses = [{"type": "PRIVATE", "ipAddress": address}]
    return {"name": name, "settings": {"ipConfiguration": network}, "ipAddresses": addresses}


def test_a_connection_in_use_fails_immediately(google, run_module, live, clock):
    live("range-a")
    public = {"name": "public", "settings": {"ipConfiguration": {"ipv4Enabled": True}}}
    google.expect("GET", INSTANCES, {"items": [public, instance("mlflow")]})
    with pytest.raises(
        Exception,
        match="^Cannot delete service networking connection of network net: Cloud SQL still uses "
        "it; first delete mlflow$",
    ):
        run_module("service_networking_connection", network="net", state="absent")
    assert clock.slept == []


OWN_RANGE = {**OPTIONS, "state": "absent"}


def test_takes_only_its_own_range_out(google, run_module, live):
    live("theirs", "range-a")
    google.expect("GET", INSTANCES, {"items": [instance("other", "10.99.0.3", allocatedIpRange="theirs")]})
    google.expect("GET", ADDRESSES, {"items": [PEERED | {"name": "range-a", "address": "10.20.0.0"}]})
    google.expect(
        "PATCH",
        f"{CONNECTIONS}/-",
        done(),
        params={"force": "true", "updateMask": "reservedPeeringRanges"},
        body={"network": NETWORK, "reservedPeeringRanges": ["theirs"]},
    )
    result = run_module("service_networking_connection", **OWN_RANGE)
    assert result["changed"] and result["resource"]["reservedPeeringRanges"] == ["theirs"]
    live("theirs")
    assert not run_module("service_networking_connection", **OWN_RANGE)["changed"]


PEERED = {
    "purpose": "VPC_PEERING",
    "network": "https://www.googleapis.com/compute/v1/projects/demo/global/networks/net",
    "prefixLength": 16,
}


@pytest.mark.parametrize("other", [instance("other"), instance("other", allocatedIpRange="range-a")])
def test_a_range_that_others_use_is_left(google, run_module, live, other):
    live("theirs", "range-a")
    google.expect("GET", INSTANCES, {"items": [other]})
    if "allocatedIpRange" not in str(other):
        google.expect("GET", ADDRESSES, {"items": [PEERED | {"name": "range-a", "address": "10.20.0.0"}]})
    result = run_module("service_networking_connection", **OWN_RANGE, in_use="leave")
    assert not result["changed"] and "first delete other" in str(result["warnings"])


GLOBAL_NETWORK = "https://compute.googleapis.com/compute/v1/projects/demo/global/networks/net"


def test_removes_the_peering_of_a_network_without_subnetworks(google, run_module, live, clock):
    live("range-a")
    google.expect("GET", INSTANCES, {}).expect("POST", DELETE, google.error(400, "FAILED_PRECONDITION", IN_USE))
    google.expect("GET", GLOBAL_NETWORK, {"name": "net"})
    link = "https://www.googleapis.com/compute/v1/projects/demo/global/operations/op2"
    running = {"kind": "compute#operation", "name": "op2", "status": "RUNNING", "selfLink": link}
    google.expect("POST", f"{GLOBAL_NETWORK}/removePeering", running, body={"name": "servicenetworking-googleapis-com"})
    google.expect("POST", f"{link.replace('www.', 'compute.')}/wait", {**running, "status": "DONE"})
    result = run_module("service_networking_connection", network="net", state="absent")
    assert result["changed"] is True and "the peering was removed from the network instead" in str(result["warnings"])
    assert not clock.slept


def test_never_removes_the_peering_from_under_others(google, run_module, live, clock):
    live("range-a")
    google.expect("GET", INSTANCES, {})
    for _attempt in range(4):
        google.expect("POST", DELETE, done(error={"code": 9, "message": IN_USE}))
        google.expect("GET", GLOBAL_NETWORK, {"name": "net", "subnetworks": ["theirs"]})
    result = run_module(
        "service_networking_connection", network="net", state="absent", release_timeout=30, in_use="leave"
    )
    assert result["changed"] is False and IN_USE.rstrip(".") in str(result["warnings"])
    assert sum(clock.slept) <= 30


def test_other_errors_are_not_retried(google, run_module, live):
    live("range-a")
    google.expect("GET", INSTANCES, {})
    google.expect("POST", DELETE, google.error(403, "PERMISSION_DENIED", "Permission denied."))
    with pytest.raises(
        Exception, match="^Cannot delete service networking connection of network net: Permission denied"
    ):
        run_module("service_networking_connection", network="net", state="absent")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"reserved_ranges": []},
            "option reserved_ranges: [] is not allowed; it is required for state=present",
        ),
        ({"network": "projects/demo/regions/r/subnetworks/s"}, "option network: "),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception) as caught:
        run_module("service_networking_connection", **{**OPTIONS, **options})
    assert str(caught.value).startswith(message)
