# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module compute_security_policy."""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.modules.compute_security_policy import DENY, LAST, Steps, rule
from gcp_sandbox.testing import Sandbox

COMPUTE = "https://compute.googleapis.com/compute/v1/projects/demo/global"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo/global"
ALL = f"{COMPUTE}/securityPolicies"
URL = f"{ALL}/lb-allowed"
DONE = {"kind": "compute#operation", "name": "op", "status": "DONE", "selfLink": f"{LINKS}/operations/op"}
DEFAULT = rule(LAST, DENY, ["*"])
OFFICE, VPN, HOME = "203.0.113.0/24", "2001:db8::/48", "198.51.100.7/32"
Rule = dict[str, Any]


def policy(*rules: Rule) -> dict[str, Any]:
    """A policy as Google returns it."""
    filled = [{"kind": "compute#securityPolicyRule", "preview": False, "description": "", **entry} for entry in rules]
    body = {"name": "lb-allowed", "type": "CLOUD_ARMOR", "fingerprint": "abc=", "rules": filled}
    return body | {"selfLink": f"{LINKS}/securityPolicies/lb-allowed"}


def test_creates_the_whole_policy_at_once(google, run_module):
    rules = [rule(1000, "allow", [OFFICE, HOME]), DEFAULT]
    google.expect("GET", URL, google.old_error(404, "notFound", "not found"))
    google.expect("POST", ALL, DONE, body={"name": "lb-allowed", "rules": rules}).expect("GET", URL, policy(*rules))
    result = run_module("compute_security_policy", name="lb-allowed", allowed_ranges=[OFFICE, "198.51.100.7", HOME])
    assert result["changed"] and result["self_link"] == f"{LINKS}/securityPolicies/lb-allowed"


def test_a_second_run_changes_nothing(google, run_module):
    """In whatever order and spelling, and however they are spread over rules."""
    google.expect(
        "GET", URL, policy(rule(1000, "allow", [OFFICE]), rule(1004, "allow", ["198.51.100.7", VPN]), DEFAULT)
    )
    options = {"name": "lb-allowed", "allowed_ranges": ["2001:DB8:0::/48", "198.51.100.7", OFFICE]}
    assert not run_module("compute_security_policy", **options)["changed"]


def test_adds_before_it_removes(google, run_module):
    google.expect("GET", URL, policy(rule(1000, "allow", [OFFICE, HOME]), DEFAULT))
    google.expect(
        "POST", f"{URL}/patchRule", DONE, body=rule(1000, "allow", [OFFICE, HOME, VPN]), params={"priority": "1000"}
    )
    google.expect("POST", f"{URL}/patchRule", DONE, body=rule(1000, "allow", [HOME, VPN]), params={"priority": "1000"})
    google.expect("GET", URL, policy(rule(1000, "allow", [HOME, VPN]), DEFAULT))
    result = run_module("compute_security_policy", name="lb-allowed", allowed_ranges=[HOME, VPN])
    assert result["changed"] and HOME in str(result["diff"]["after"]) and OFFICE not in str(result["diff"]["after"])


def test_a_rule_whose_answer_was_lost_is_not_added_twice(google, run_module):
    full = [f"192.0.2.{number}/32" for number in range(10)]
    before, after = rule(1000, "allow", full), [rule(1000, "allow", full), rule(1001, "allow", [HOME]), DEFAULT]
    google.expect("GET", URL, policy(before, DEFAULT))
    google.expect("POST", f"{URL}/addRule", google.old_error(503, "backendError", "try again"), body=after[1])
    google.expect("GET", URL, policy(*after)).expect("GET", URL, policy(*after))
    assert run_module("compute_security_policy", name="lb-allowed", allowed_ranges=[*full, HOME])["changed"]


@pytest.mark.parametrize(
    ("ranges", "told"),
    [
        (["203.0.113.7/24"], "'203.0.113.7/24' is not allowed; give 203.0.113.0/24, or another range"),
        (["office"], "'office' is not allowed; give a range"),
        ([f"10.0.{number}.0/24" for number in range(101)], "these are 101 ranges, and a policy has 100"),
        ([], "it is required for state=present"),
    ],
)
def test_wrong_ranges_make_no_request(google, run_module, ranges, told):
    with pytest.raises(Exception, match=re.escape(told)):
        run_module("compute_security_policy", name="lb-allowed", allowed_ranges=ranges)
    assert google.sent == []


# -- no gap --------------------------------------------------------------------


@cache
def contains(network: str, address: str) -> bool:
    return network == "*" or ipaddress.ip_address(address) in ipaddress.ip_network(network)


def decided(rules: dict[int, Rule], address: str) -> str:
    """The action of the first rule that matches, as Google decides."""
    for _, entry in sorted(rules.items()):
        if any(contains(network, address) for network in entry["match"]["config"]["srcIpRanges"]):
            return str(entry["action"])
    return "allow"


def apply(rules: dict[int, Rule], method: str, entry: Rule) -> None:
    priority = entry["priority"]
    assert (priority in rules) == (method != "addRule"), (method, entry)
    assert len(entry["match"]["config"]["srcIpRanges"]) <= 10
    if method == "removeRule":
        del rules[priority]
    else:
        rules[priority] = entry


@pytest.mark.parametrize("seed", range(8))
def test_at_no_moment_is_anybody_refused_who_may_stay_or_let_in_who_may_not(seed):
    chance = random.Random(seed)
    networks = [f"10.{number}.0.0/16" for number in range(60)] + ["10.0.0.0/8", "10.3.4.0/24"]
    rules = {LAST: rule(LAST, chance.choice([DENY, "allow"]), ["*"]), 7: rule(7, "deny(404)", ["10.59.9.0/24"])}
    clients = [*(f"10.{number}.9.9" for number in range(60)), "192.0.2.1"]
    for _ in range(4):
        before = {client: decided(rules, client) for client in clients}
        wanted = chance.sample(networks, chance.randrange(1, 45))
        steps = list(Steps(list(rules.values()), wanted))
        final = dict(rules)
        for step in steps:
            apply(final, *step)
        after = {client: decided(final, client) for client in clients}
        for step in steps:
            apply(rules, *step)
            for client in clients:
                assert decided(rules, client) in (before[client], after[client]), (client, step)
        assert list(Steps(list(rules.values()), wanted)) == []
        assert decided(rules, "192.0.2.1") == DENY and decided(rules, "10.59.9.9") == "deny(404)"


# -- with a policy that others change ------------------------------------------


def test_rules_of_others_stay_if_they_only_refuse(
    sandbox_module: Callable[..., dict[str, Any]], gcp_sandbox: Sandbox
) -> None:
    apis = {"serviceIds": ["compute.googleapis.com"]}
    project = gcp_sandbox.exports["GCP_PROJECT"]
    gcp_sandbox.call("POST", f"serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable", apis)
    options = {"name": "with-others", "allowed_ranges": [OFFICE, *(f"192.0.2.{number}" for number in range(12))]}
    assert sandbox_module("compute_security_policy", **options)["changed"]
    url = sandbox_module("compute_security_policy", **options)["self_link"].replace("https://www.", "compute.")
    refuses = {"priority": 10, "action": "deny(403)", "match": {"expr": {"expression": "request.path.matches('etc')"}}}
    watches = {"priority": 20, "action": "allow", "preview": True} | {"match": rule(0, "", ["*"])["match"]}
    lets_in = {"priority": 30, "action": "allow", "match": {"expr": {"expression": "request.path == '/open'"}}}
    for entry in (refuses, watches, lets_in):
        gcp_sandbox.call("POST", f"{url}/addRule", entry)
    gcp_sandbox.call("POST", f"{url}/patchRule?priority={LAST}", {"action": "allow"})
    result = sandbox_module("compute_security_policy", **options)
    live = gcp_sandbox.call("GET", url)
    found = {entry["priority"]: entry["action"] for entry in live["rules"]}
    assert result["changed"] and found == {10: "deny(403)", 20: "allow", 1000: "allow", 1001: "allow", LAST: DENY}
    assert not sandbox_module("compute_security_policy", **options)["changed"]
    options["allowed_ranges"] = [HOME]
    assert sandbox_module("compute_security_policy", **options)["changed"]
    live = gcp_sandbox.call("GET", url)
    assert [entry["match"]["config"]["srcIpRanges"] for entry in live["rules"][2:]] == [[HOME], ["*"]]
    assert sandbox_module("compute_security_policy", name="with-others", state="absent")["changed"]
