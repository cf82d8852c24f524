"""Which connections from a network its VPC firewall rules let out.

https://cloud.google.com/firewall/docs/firewalls
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.network import Source
from gcp_sandbox.services.compute.base import Doc, link

_TCP = ("all", "tcp", "6")


def lets_out(cloud: Cloud, network: str, source: Source, destinations: Collection[str], port: int) -> bool:
    """Whether a TCP connection from a network (store key) may leave; without a rule for it, it may.

    destinations: the address, and the ranges that it stands for (addresses of 127.0.0.0/8 are in no range of the network).
    """
    rules = [
        rule
        for _, rule in cloud.store.list("compute.firewalls", f"projects/{network.split('/')[1]}/")
        if rule["network"] == link(network) and _is_for(rule, source) and _matches(rule, destinations, port)
    ]
    # The highest priority is the lowest number; of two equal ones, the rule that denies wins.
    first = min(rules, key=lambda rule: (rule["priority"], not rule.get("denied")), default=None)
    return first is None or not first.get("denied")


def _is_for(rule: Doc, source: Source) -> bool:
    if rule["direction"] != "EGRESS" or rule.get("disabled"):
        return False
    tags, accounts = rule.get("targetTags", ()), rule.get("targetServiceAccounts", ())
    return not tags and not accounts or not source.tags.isdisjoint(tags) or source.account in accounts


def _matches(rule: Doc, destinations: Collection[str], port: int) -> bool:
    protocols = [*rule.get("allowed", ()), *rule.get("denied", ())]
    return _contains(rule.get("destinationRanges") or ["0.0.0.0/0"], destinations) and any(
        protocol["IPProtocol"].lower() in _TCP and _has(protocol.get("ports", ()), port) for protocol in protocols
    )


def _contains(ranges: Iterable[str], destinations: Collection[str]) -> bool:
    inside = [ipaddress.ip_network(text, strict=False) for text in destinations]
    outside = [ipaddress.ip_network(text, strict=False) for text in ranges]
    return any(
        isinstance(small, ipaddress.IPv4Network) and isinstance(large, ipaddress.IPv4Network) and small.subnet_of(large)
        for small in inside
        for large in outside
    )


def _has(ports: Collection[str], port: int) -> bool:
    spans = [text.partition("-") for text in ports]
    return not spans or any(int(first) <= port <= int(last or first) for first, _, last in spans)
