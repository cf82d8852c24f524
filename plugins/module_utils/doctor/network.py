# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the network: private services access, and firewall rules between server and database."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, NamedTuple

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.report import (
    COMPUTE,
    Reader,
    Report,
    rerun,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.server import Server
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task

PEERING = "servicenetworking-googleapis-com"
POSTGRESQL = 5432
DESTINATIONS = (
    "destIpRanges",
    "destFqdns",
    "destRegionCodes",
    "destThreatIntelligences",
    "destAddressGroups",
    "destNetworkScope",
)


class Egress(NamedTuple):
    """A connection from the server: to which address, and what firewall rules can recognise it by."""

    address: str
    tags: frozenset[str]
    account: str


def has_port(entries: Iterable[dict[str, Any]], protocol: str) -> bool:
    """Whether one of the entries with PROTOCOL (the name of its field) and ports contains PostgreSQL's port."""
    for entry in entries:
        if str(entry.get(protocol)).lower() not in ("all", "tcp", "6"):
            continue
        ports = [str(port).partition("-") for port in entry.get("ports") or ()]
        if not ports or any(int(first) <= POSTGRESQL <= int(last or first) for first, _dash, last in ports):
            return True
    return False


def contains(ranges: Iterable[str], address: str) -> bool:
    """Whether one of the ranges contains ADDRESS."""
    target = ipaddress.ip_address(address)
    return any(target in ipaddress.ip_network(one, strict=False) for one in ranges)


def applies(rule: dict[str, Any], egress: Egress) -> bool:
    """Whether a VPC firewall rule or a rule of a policy is for the server's egress."""
    if rule.get("direction") != "EGRESS" or rule.get("disabled") or rule.get("targetSecureTags"):
        return False
    tags, accounts = rule.get("targetTags") or (), rule.get("targetServiceAccounts") or ()
    if not tags and not accounts:
        return True
    return not egress.tags.isdisjoint(tags) or egress.account in accounts


def firewall_verdict(rules: Iterable[dict[str, Any]], egress: Egress) -> tuple[str, str]:
    """
    What VPC firewall rules decide ("deny", "allow", or "" for nothing), and the name of the rule.
    https://cloud.google.com/firewall/docs/firewalls#priority_order_for_firewall_rules
    """
    candidates = [
        (int(rule.get("priority", 1000)), not rule.get("denied"), rule["name"])
        for rule in rules
        if applies(rule, egress)
        and contains(rule.get("destinationRanges") or ["0.0.0.0/0"], egress.address)
        and has_port((rule.get("denied") or []) + (rule.get("allowed") or []), "IPProtocol")
    ]
    if not candidates:
        return "", ""
    _priority, allowed, name = min(candidates)
    return "allow" if allowed else "deny", f"firewall rule {name}"


def policy_verdict(policy: dict[str, Any], egress: Egress) -> tuple[str, str]:
    """
    What a firewall policy decides, and its name; goto_next and inspection decide nothing.
    https://cloud.google.com/firewall/docs/firewall-policies-overview
    """
    for rule in sorted(policy.get("rules") or (), key=lambda rule: int(rule.get("priority", 2**31))):
        match = rule.get("match") or {}
        ranges = match.get("destIpRanges") or ()
        elsewhere = any(match.get(key) for key in DESTINATIONS) and not contains(ranges, egress.address)
        if not applies(rule, egress) or elsewhere or not has_port(match.get("layer4Configs") or (), "ipProtocol"):
            continue
        action = str(rule.get("action"))
        name = policy.get("displayName") or policy.get("shortName") or short(policy.get("name"))
        return action if action in ("allow", "deny") else "", f"firewall policy {name}, rule {rule.get('priority')}"
    return "", ""


def denied_by(network: dict[str, Any], effective: dict[str, Any], egress: Egress) -> str:
    """The rule that denies EGRESS, "" for none: hierarchical policies first, then those of the network."""
    policies = effective.get("firewallPolicys") or []
    hierarchical, own = (
        [policy_verdict(policy, egress) for policy in policies if (policy.get("type") == "HIERARCHY") is above]
        for above in (True, False)
    )
    classic = firewall_verdict(effective.get("firewalls") or (), egress)
    before = network.get("networkFirewallPolicyEnforcementOrder") == "BEFORE_CLASSIC_FIREWALL"
    verdicts = [*hierarchical, *own, classic] if before else [*hierarchical, classic, *own]
    return next((rule if verdict == "deny" else "" for verdict, rule in verdicts if verdict), "")


class Network(Reader):
    """The checks of the VPC network."""

    def __init__(self, task: Task, report: Report) -> None:
        super().__init__(task, report)
        self.path = self.network_path(self.params["network"])
        self.where = f"network {short(self.path)}"

    def check(self, server: Server, instance: dict[str, Any] | None) -> None:
        """Check that the server's connections reach the database."""
        network = self.get(self.where, f"{COMPUTE}{self.path}", rerun("network"))
        if not network:
            return
        if not lookup(instance or {}, "settings.ipConfiguration.pscConfig.pscEnabled"):
            self.peering(network)
        self.firewall(network, server, instance)

    def peering(self, network: dict[str, Any]) -> None:
        """Check the peering of private services access."""
        peering = next((entry for entry in network.get("peerings") or () if entry.get("name") == PEERING), None)
        if peering is None:
            problem = "does not exist, so Cloud Run cannot reach the database"
        elif peering.get("state") != "ACTIVE":
            problem = f"is {peering.get('state')}: {peering.get('stateDetails', '')}"
        else:
            return
        self.report.add(self.where, f"the peering {PEERING} of private services access {problem}", rerun("network"))

    def firewall(self, network: dict[str, Any], server: Server, instance: dict[str, Any] | None) -> None:
        """Check that no firewall rule denies the connections to the database."""
        addresses = [
            entry["ipAddress"] for entry in (instance or {}).get("ipAddresses") or () if entry.get("type") == "PRIVATE"
        ]
        address = server.value("MLFLOW_DB_HOST") or next(iter(addresses), "")
        if not is_address(address):
            return
        effective = self.get(
            f"firewall rules of {self.where}", f"{COMPUTE}{self.path}/getEffectiveFirewalls", rerun("network")
        )
        if effective is None:
            return
        rule = denied_by(network, effective, Egress(address, egress_tags(server), server.account))
        if rule:
            self.report.add(
                self.where,
                f"{rule} denies the server's connections to the database at {address}, port {POSTGRESQL}",
                "delete or change this rule, or allow them with a rule of higher priority",
            )


def egress_tags(server: Server) -> frozenset[str]:
    """
    The network tags of the server's connections.
    https://cloud.google.com/vpc/docs/configure-serverless-vpc-access#network-tags
    """
    connector = str(server.vpc.get("connector") or "")
    if connector:
        parts = connector.split("/")
        region = parts[3] if len(parts) > 4 else ""
        return frozenset({"vpc-connector", f"vpc-connector-{region}-{parts[-1]}"})
    return frozenset(tag for one in server.vpc.get("networkInterfaces") or () for tag in one.get("tags") or ())


def is_address(text: str) -> bool:
    """Whether TEXT is an IP address, and not a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
