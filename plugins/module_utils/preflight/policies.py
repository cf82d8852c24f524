# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Organization policies that would refuse a part of the deployment.

https://cloud.google.com/resource-manager/docs/organization-policy/org-policy-constraints
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import secretmanager
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight.site import Site

PREFIX = "constraints/"
URL = "https://orgpolicy.googleapis.com/v2/projects"
INGRESS = {
    "INGRESS_TRAFFIC_ALL": "all",
    "INGRESS_TRAFFIC_INTERNAL_ONLY": "internal",
    "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER": "internal-and-cloud-load-balancing",
}
EGRESS = {"ALL_TRAFFIC": "all-traffic", "PRIVATE_RANGES_ONLY": "private-ranges-only"}
BALANCERS = {
    "load_balancer": ("EXTERNAL_MANAGED_HTTP_HTTPS", "EXTERNAL", "GLOBAL_EXTERNAL_MANAGED_HTTP_HTTPS"),
    "internal": ("INTERNAL_HTTP_HTTPS", "INTERNAL"),
}
"""The type of the load balancer, with its other names. https://cloud.google.com/load-balancing/docs/org-policy-constraints"""
# What the variables of the secrets begin with.
SECRETS = ("cloudsql_password_secret", "cloudrun_keys")


class Rules(NamedTuple):
    """An effective policy: whether a boolean constraint is enforced, and what a list constraint says."""

    enforced: bool
    deny_all: bool
    allowed: frozenset[str]
    denied: frozenset[str]

    @classmethod
    def of(cls, policy: dict[str, Any]) -> Rules:
        """The rules that hold without a condition."""
        rules = [rule for rule in (policy.get("spec") or {}).get("rules") or () if "condition" not in rule]
        values = [rule.get("values") or {} for rule in rules]
        return cls(
            any(rule.get("enforce") in (True, "true", "TRUE") for rule in rules),
            any(rule.get("denyAll") for rule in rules),
            frozenset(text for value in values for text in value.get("allowedValues") or ()),
            frozenset(text for value in values for text in value.get("deniedValues") or ()),
        )

    def refuses(self, *names: str) -> bool:
        """Whether a value that has these NAMES (its own, and those of groups that surely contain it) is refused."""
        own = {prefix + name for name in names for prefix in ("", "is:", "in:")}
        return self.deny_all or bool(own & self.denied) or bool(self.allowed) and not own & self.allowed

    @property
    def restricts(self) -> bool:
        """Whether it refuses anything at all."""
        return self.deny_all or bool(self.allowed or self.denied)


def _ingress(site: Site, rules: Rules) -> str:
    wanted = INGRESS.get(site.text("cloudrun_ingress"), "")
    return f"ingress {wanted!r} of the Cloud Run service (cloudrun_ingress)" if rules.refuses(wanted) else ""


def _egress(site: Site, rules: Rules) -> str:
    wanted = EGRESS.get(site.text("cloudrun_vpc_egress"), "")
    return f"VPC egress {wanted!r} of the Cloud Run service (cloudrun_vpc_egress)" if rules.refuses(wanted) else ""


def _balancer(site: Site, rules: Rules) -> str:
    names = BALANCERS.get(site.door)
    return f"the load balancer, of type {names[0]}" if names and rules.refuses(*names) else ""


def _peering(site: Site, rules: Rules) -> str:
    if not site.peered or not rules.restricts:
        return ""
    return "the peering of private services access, unless it allows Google's network (network_private_access: psc needs none)"


def _locations(site: Site, rules: Rules) -> str:
    if not rules.restricts:
        return ""
    regions = {name: site.text(name) for name in ("cloudsql_region", "cloudrun_region", "bucket_location")}
    # Other groups, such as in:eu-locations, may contain a region or not; Google decides.
    decides = rules.deny_all or all(
        value.removeprefix("is:").count("-") <= 1 and "in:" not in value for value in rules.allowed
    )
    refused = [f"{region} ({name})" for name, region in regions.items() if decides and _place(rules, region.lower())]
    # Without locations, a secret is stored in the region of its key.
    kept = (
        secretmanager.replication(site.listed(f"{name}_locations"), site.text(f"{name}_kms_key")) for name in SECRETS
    )
    if any("automatic" in replication for replication in kept):
        refused.append("secrets without locations (set mlflow_secret_locations to regions that it allows)")
    return ", ".join(refused)


def _place(rules: Rules, region: str) -> bool:
    return rules.refuses(region, f"{region}-locations")


def _uniform(site: Site, rules: Rules) -> str:
    refused = rules.enforced and not site.flag("bucket_uniform_access")
    return "a bucket without uniform access (set mlflow_storage_uniform: true)" if refused else ""


def _public(site: Site, rules: Rules) -> str:
    refused = rules.enforced and site.text("bucket_public_access_prevention") not in ("", "enforced")
    return (
        "a bucket without public access prevention (set bucket_public_access_prevention: enforced)" if refused else ""
    )


def _accounts(site: Site, rules: Rules) -> str:
    return "the creation of the service accounts of server and logger" if rules.enforced else ""


CHECKS: dict[str, Callable[[Site, Rules], str]] = {
    "compute.restrictLoadBalancerCreationForTypes": _balancer,
    "compute.restrictVpcPeering": _peering,
    "gcp.resourceLocations": _locations,
    "iam.disableServiceAccountCreation": _accounts,
    "run.allowedIngress": _ingress,
    "run.allowedVPCEgress": _egress,
    "storage.publicAccessPrevention": _public,
    "storage.uniformBucketLevelAccess": _uniform,
}
# Whether it refuses depends on what only Google knows.
SHARING = "iam.allowedPolicyMemberDomains"


def reads(site: Site, project: str) -> dict[str, Callable[[], Any]]:
    """https://cloud.google.com/resource-manager/docs/reference/orgpolicy/rest/v2/projects.policies/getEffectivePolicy"""
    return {
        f"{PREFIX}{name}": partial(site.client.get, f"{URL}/{project}/policies/{name}:getEffectivePolicy")
        for name in (*CHECKS, SHARING)
    }


def check(site: Site, found: dict[str, Any]) -> None:
    """Check what FOUND has for the constraints; a single note if they may not be read."""
    errors = [found[f"{PREFIX}{name}"] for name in CHECKS if isinstance(found[f"{PREFIX}{name}"], ApiError)]
    if errors:
        why = "its API (orgpolicy.googleapis.com) is off" if errors[0].disabled else errors[0].message
        site.notes.append(
            f"organization policies were not looked at: {why}; roles/orgpolicy.policyViewer on the organization shows them"
        )
    for name, refused in CHECKS.items():
        policy = found[f"{PREFIX}{name}"]
        if isinstance(policy, dict) and (what := refused(site, Rules.of(policy))):
            site.findings.append(
                f"organization policy {PREFIX}{name} refuses {what}; ask its administrator for an exception"
            )
    sharing = found[f"{PREFIX}{SHARING}"]
    if isinstance(sharing, dict) and Rules.of(sharing).restricts:
        site.notes.append(
            f"organization policy {PREFIX}{SHARING} lets only members of certain organizations be granted access; others in "
            "mlflow_webapp_users will be refused"
        )
