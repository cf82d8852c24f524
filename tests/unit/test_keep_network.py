# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others set on the network's resources stays; see keep.py."""

from __future__ import annotations

from typing import Any

import pytest
from gcp_sandbox.testing import Sandbox

from tests.unit.keep import Kept

PROJECT = "keep-network"
BASE = "compute.googleapis.com/compute/v1/projects/{project}"
CREATED = "can only be set when the resource is created"
NOT_FOR_VPC_PEERING = "not for ranges of private services access"
CASES = {
    "network": Kept(
        "compute.v1",
        "Network",
        module="compute_network",
        url=f"{BASE}/global/networks/kept",
        options={"name": "kept", "routing_mode": "REGIONAL"},
        changes=({"routing_mode": "GLOBAL"},),
        owned=("name", "autoCreateSubnetworks", "routingConfig.routingMode"),
        foreign={
            "mtu": 1500,
            "networkFirewallPolicyEnforcementOrder": "BEFORE_CLASSIC_FIREWALL",
            "enableUlaInternalIpv6": True,
            "internalIpv6Range": "fd20:1:2:0:0:0:0:0/48",
            "routingConfig": {
                "bgpBestPathSelectionMode": "STANDARD",
                "bgpAlwaysCompareMed": True,
                "bgpInterRegionCost": "ADD_COST_TO_MED",
            },
        },
        reasons={
            "IPv4Range": "only of legacy networks",
            "description": CREATED,
            "networkProfile": CREATED,
            "params": CREATED,
        },
    ),
    "subnetwork": Kept(
        "compute.v1",
        "Subnetwork",
        module="compute_subnetwork",
        url=f"{BASE}/regions/europe-west2/subnetworks/kept",
        options={
            "name": "kept",
            "region": "europe-west2",
            "network": "default",
            "ip_cidr_range": "10.77.0.0/24",
            "private_ip_google_access": False,
        },
        changes=({"private_ip_google_access": True},),
        owned=("name", "network", "ipCidrRange", "privateIpGoogleAccess"),
        foreign={
            "secondaryIpRanges": [{"rangeName": "pods", "ipCidrRange": "10.78.0.0/20"}],
            "logConfig": {
                "enable": True,
                "aggregationInterval": "INTERVAL_1_MIN",
                "flowSampling": 0.25,
                "metadata": "CUSTOM_METADATA",
                "metadataFields": ["src_instance"],
                "filterExpr": "inIpRange(connection.src_ip, '10.0.0.0/8')",
            },
            "enableFlowLogs": True,
            "allowSubnetCidrRoutesOverlap": True,
            "privateIpv6GoogleAccess": "ENABLE_OUTBOUND_VM_ACCESS_TO_GOOGLE",
            "stackType": "IPV4_IPV6",
            "ipv6AccessType": "EXTERNAL",
        },
        reasons={
            "description": CREATED,
            "purpose": CREATED,
            "ipCollection": CREATED,
            "params": CREATED,
            "reservedInternalRange": CREATED,
            "role": "only of proxy-only subnetworks",
            "resolveSubnetMask": "only of subnetworks in the migration of virtual machines",
            "region": "part of the path",
            "externalIpv6Prefix": "chosen by Google",
            "internalIpv6Prefix": "chosen by Google",
        },
    ),
    "firewall rule": Kept(
        "compute.v1",
        "Firewall",
        module="compute_firewall",
        url=f"{BASE}/global/firewalls/kept",
        options={
            "name": "kept",
            "network": "default",
            "source_ranges": ["10.77.0.0/24", "10.78.0.0/24"],
            "allowed": [{"ip_protocol": "tcp", "ports": ["22", "443"]}, {"ip_protocol": "icmp"}],
        },
        changes=({"source_ranges": ["10.77.0.0/24"]}, {"allowed": [{"ip_protocol": "tcp", "ports": ["443"]}]}),
        owned=("name", "network", "direction", "sourceRanges", "allowed"),
        foreign={
            "description": "of others",
            "priority": 900,
            "disabled": True,
            "logConfig": {"enable": True, "metadata": "EXCLUDE_ALL_METADATA"},
            "destinationRanges": ["10.79.0.0/24"],
            "sourceTags": ["bastion"],
            "targetTags": ["mlflow"],
        },
        reasons={
            "denied": "a rule allows or denies",
            "sourceServiceAccounts": "not together with tags",
            "targetServiceAccounts": "not together with tags",
            "params": CREATED,
        },
    ),
    "range": Kept(
        "compute.v1",
        "Address",
        module="compute_global_address",
        url=f"{BASE}/global/addresses/kept",
        options={
            "name": "kept",
            "purpose": "VPC_PEERING",
            "prefix_length": 24,
            "network": "default",
            "labels": {"a": "1"},
        },
        changes=({"labels": {"a": "2"}},),
        owned=("name", "addressType", "purpose", "address", "prefixLength", "network", "labels"),
        foreign={},
        reasons={
            "description": CREATED,
            "ipVersion": CREATED,
            "ipCollection": NOT_FOR_VPC_PEERING,
            "ipv6EndpointType": NOT_FOR_VPC_PEERING,
            "networkAttachment": NOT_FOR_VPC_PEERING,
            "networkTier": CREATED,
            "serviceClassId": NOT_FOR_VPC_PEERING,
            "subnetwork": NOT_FOR_VPC_PEERING,
        },
        others=lambda cloud, url, body: None,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def project(gcp_sandbox: Sandbox) -> None:
    """A project with the default network."""
    gcp_sandbox.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": PROJECT})
    url = f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services/compute.googleapis.com:enable"
    gcp_sandbox.call("POST", url, {})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_others_set_stays(case: Kept, sandbox_module: Any, gcp_sandbox: Sandbox) -> None:
    assert case.unaccounted() == []
    case.check(sandbox_module, gcp_sandbox, PROJECT)


def test_a_range_in_use_is_never_deleted(sandbox_module: Any, gcp_sandbox: Sandbox) -> None:
    """The sandbox, as Google, would delete it."""
    apis = ["servicenetworking.googleapis.com", "cloudresourcemanager.googleapis.com"]
    url = f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable"
    gcp_sandbox.call("POST", url, {"serviceIds": apis})
    options = {"name": "used", "project": PROJECT}
    range_of = {"purpose": "VPC_PEERING", "prefix_length": 24, "network": "default"}
    assert sandbox_module("compute_global_address", **options, **range_of)["changed"]
    connection = {"project": PROJECT, "network": "default"}
    assert sandbox_module("service_networking_connection", **connection, reserved_ranges=["used"])["changed"]
    with pytest.raises(Exception, match="^Cannot delete global address used of project keep-network: the service netw"):
        sandbox_module("compute_global_address", **options, state="absent")
    with pytest.raises(Exception, match="prefixLength is 24 and cannot be changed to 20"):
        sandbox_module("compute_global_address", **options, **{**range_of, "prefix_length": 20})
    assert sandbox_module("service_networking_connection", **connection, state="absent")["changed"]
    assert sandbox_module("compute_global_address", **options, state="absent")["changed"]
