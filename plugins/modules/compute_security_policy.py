#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_security_policy
short_description: Manage a Cloud Armor policy that lets only some address ranges through
description:
  - Creates, updates and deletes a global security policy of Google Cloud Armor, which allows requests from the given address ranges
    and denies all others with the status 403. M(mlops.mlflow_gcp.compute_backend_service) attaches it.
  - A rule has at most ten ranges, so there are as many rules as needed. A change adds what is new before it removes what is no
    longer allowed, a rule at a time, so that clients in a range that stays allowed are never refused, and others never let in.
  - Rules that others have added stay if they can only refuse or redirect requests, or are previews. Rules that would let others through
    are removed, and the default rule denies.
  - The collection google.cloud has no module for security policies.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state
options:
  name:
    description: Name of the policy.
    type: str
    required: true
  description:
    description: Description of the policy.
    type: str
  allowed_ranges:
    description:
      - IPv4 and IPv6 ranges, such as V(203.0.113.0/24) or V(2001:db8::/48), and single addresses, 1 to 100 of them. Required unless
        O(state=absent).
    type: list
    elements: str
seealso:
  - name: Security policies
    description: The API.
    link: https://cloud.google.com/compute/docs/reference/rest/v1/securityPolicies
"""

EXAMPLES = r"""
- name: Let only the office and its VPN through
  mlops.mlflow_gcp.compute_security_policy:
    project: my-project
    auth_kind: application
    name: mlflow-lb-allowed-ranges
    allowed_ranges:
      - 203.0.113.0/24
      - 2001:db8::/48
  register: policy

- name: Attach the policy
  mlops.mlflow_gcp.compute_backend_service:
    project: my-project
    auth_kind: application
    name: mlflow-lb-backend
    security_policy: "{{ policy.self_link }}"
"""

RETURN = r"""
self_link:
  description: Link of the policy, for backend services.
  returned: success
  type: str
  sample: https://www.googleapis.com/compute/v1/projects/my-project/global/securityPolicies/mlflow-lb-allowed-ranges
resource:
  description: The policy as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow-lb-allowed-ranges
    rules:
      - priority: 1000
        action: allow
        match: {versionedExpr: SRC_IPS_V1, config: {srcIpRanges: [203.0.113.0/24]}}
      - priority: 2147483647
        action: deny(403)
        match: {versionedExpr: SRC_IPS_V1, config: {srcIpRanges: ["*"]}}
"""

from collections.abc import Iterator
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import BalancerResource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, lookup
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run

FIRST = 1000  # priorities
LAST = 2147483647  # that of the default rule, which is fixed
RANGES = 10  # a rule has at most
DENY = "deny(403)"
Rule = dict[str, Any]


def rule(priority: int, action: str, ranges: list[str]) -> Rule:
    """A rule for requests from these ranges."""
    match = {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ranges}}
    return {"priority": priority, "action": action, "match": match}


def ranges_of(entry: Rule) -> list[str]:
    """The ranges of a rule."""
    return list(map(values.canonical_range, lookup(entry, "match.config.srcIpRanges") or ()))


def is_default(entry: Rule) -> bool:
    """Whether a rule is the one for all requests that no other matches."""
    return entry["priority"] == LAST


def lets_through(entry: Rule) -> bool:
    """Whether a rule other than the default one can let requests through; rate limits do."""
    refuses = entry["action"].startswith("deny") or entry["action"] == "redirect"
    return not is_default(entry) and not entry.get("preview") and not refuses


def is_ours(entry: Rule) -> bool:
    """Whether a rule allows ranges and does nothing else."""
    return lets_through(entry) and entry["action"] == "allow" and "versionedExpr" in entry["match"]


class Steps:
    """The changes of rules that bring LIVE to exactly the ranges WANTED, none of which shuts out who is allowed before and after."""

    def __init__(self, live: list[Rule], wanted: list[str]) -> None:
        self.live, self.wanted = live, wanted
        self.rules = [rule for rule in live if lets_through(rule)]
        self.taken = {rule["priority"] for rule in live}

    @property
    def default(self) -> Rule:
        """The default rule."""
        return next((entry for entry in self.live if is_default(entry)), {})

    def priority(self) -> int:
        """The first priority that no rule has."""
        found = next(number for number in range(FIRST, LAST) if number not in self.taken)
        self.taken.add(found)
        return found

    def __iter__(self) -> Iterator[tuple[str, Rule]]:
        """Each change: addRule, patchRule or removeRule, and the rule."""
        ours = {entry["priority"]: ranges_of(entry) for entry in self.rules if is_ours(entry)}
        kept = {priority: [one for one in ranges if one in self.wanted] for priority, ranges in ours.items()}
        seen: set[str] = set()
        for priority, ranges in kept.items():
            kept[priority] = [one for one in ranges if one not in seen]
            seen |= set(ranges)
        new = [one for one in self.wanted if one not in seen]
        # First what is new, into rules with room and then into new ones.
        for priority, ranges in ours.items():
            room = RANGES - len(ranges)
            if kept[priority] and room and new:
                added, new = new[:room], new[room:]
                kept[priority] += added
                ours[priority] = ranges + added
                yield "patchRule", rule(priority, "allow", ours[priority])
        while new:
            added, new = new[:RANGES], new[RANGES:]
            yield "addRule", rule(self.priority(), "allow", added)
        # Then what is no longer allowed.
        if self.default.get("action") != DENY:
            yield "patchRule", rule(LAST, DENY, ["*"])
        for priority, ranges in ours.items():
            if not kept[priority]:
                yield "removeRule", rule(priority, "allow", ranges)
            elif kept[priority] != ranges:
                yield "patchRule", rule(priority, "allow", kept[priority])
        for entry in self.rules:
            if not is_ours(entry):
                yield "removeRule", entry


class SecurityPolicy(BalancerResource):
    """https://cloud.google.com/compute/docs/reference/rest/v1/securityPolicies"""

    kind = "security policy"
    rules = Rules(same={"rules": lambda wanted, live: not list(Steps(live or [], allowed(wanted)))})

    def __init__(self, task: Task) -> None:
        super().__init__(task, "securityPolicies")
        ranges = list(dict.fromkeys(map(values.canonical_range, self.params["allowed_ranges"] or ())))
        chunks = [ranges[start : start + RANGES] for start in range(0, len(ranges), RANGES)]
        self.wanted = {
            "name": self.name,
            "description": self.params["description"],
            "rules": [
                *(rule(FIRST + number, "allow", chunk) for number, chunk in enumerate(chunks)),
                rule(LAST, DENY, ["*"]),
            ],
        }

    def validate(self) -> None:
        values.check_together(self.params, values.most_client_ranges, "allowed_ranges")

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        """With the rules of others that stay."""
        if not live:
            return self.wanted
        rules = {entry["priority"]: entry for entry in live["rules"]}
        for method, entry in Steps(live["rules"], allowed(self.wanted["rules"])):
            if method == "removeRule":
                del rules[entry["priority"]]
            else:
                rules[entry["priority"]] = rules.get(entry["priority"], {}) | entry
        return self.wanted | {"rules": sorted(rules.values(), key=lambda entry: entry["priority"])}

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        if "description" in changes:
            self.wait(self.patch_fields({"description": self.wanted["description"]}, live), self.url, "update")
        # https://cloud.google.com/compute/docs/reference/rest/v1/securityPolicies/patch does not change rules.
        for method, entry in Steps(live["rules"], allowed(self.wanted["rules"])):
            self.wait(self._change_rule(method, entry), self.url, "update")
        return {}

    def _change_rule(self, method: str, entry: Rule) -> dict[str, Any]:
        """https://cloud.google.com/compute/docs/reference/rest/v1/securityPolicies/addRule, patchRule, removeRule"""
        priority = entry["priority"]
        if method == "patchRule":
            url = f"{self.url}/patchRule"
            return self.client.post(url, entry, params={"priority": priority}, idempotent=True)

        def done() -> dict[str, Any] | None:
            """The policy once it has, or no longer has, the rule."""
            live = self.client.get(self.url)
            there = any(rule["priority"] == priority for rule in live["rules"])
            return live if there == (method == "addRule") else None

        query, body = ("", entry) if method == "addRule" else (f"?priority={priority}", None)
        return self.client.post_once(f"{self.url}/{method}{query}", body, done)


def allowed(rules: list[Rule]) -> list[str]:
    """All ranges of the rules that allow some."""
    return [one for entry in rules if is_ours(entry) for one in ranges_of(entry)]


def main() -> None:
    run(
        SecurityPolicy.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "description": {"type": "str"},
            "allowed_ranges": {"type": "list", "elements": "str", "kind": values.CLIENT_RANGES},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["allowed_ranges"])],
    )


if __name__ == "__main__":
    main()
