"""Organization policies: the constraints that are enforced here, and what the policies on a project's ancestors come to.

A policy of the Org Policy API is stored under its name, with the project's ID: ``projects/p/policies/gcp.resourceLocations``.
https://cloud.google.com/resource-manager/docs/organization-policy/understanding-hierarchy
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import ORGANIZATION, project_resource

Doc = dict[str, Any]
KIND = "orgpolicy.policies"
# Constraint -> its display name; a list constraint has the prefixes of its values, a boolean one has none.
CONSTRAINTS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "compute.restrictLoadBalancerCreationForTypes": (
        "Restrict Load Balancer Creation Based on Load Balancer Types",
        ("is", "in"),
    ),
    "compute.restrictVpcPeering": ("Restrict VPC peering usage", ("is", "under")),
    "compute.skipDefaultNetworkCreation": ("Skip default network creation", None),
    "gcp.resourceLocations": ("Google Cloud Platform - Resource Location Restriction", ("is", "in")),
    "gcp.restrictNonCmekServices": ("Restrict which services may create resources without CMEK", ("is",)),
    "iam.allowedPolicyMemberDomains": ("Domain restricted sharing", ("is",)),
    "iam.automaticIamGrantsForDefaultServiceAccounts": (
        "Disable Automatic IAM Grants for Default Service Accounts",
        None,
    ),
    "iam.disableServiceAccountCreation": ("Disable service account creation", None),
    "iam.disableServiceAccountKeyCreation": ("Disable service account key creation", None),
    "iam.disableServiceAccountKeyUpload": ("Disable Service Account Key Upload", None),
    "run.allowedIngress": ("Allowed ingress settings (Cloud Run)", ("is",)),
    "run.allowedVPCEgress": ("Allowed VPC egress settings (Cloud Run)", ("is",)),
    "sql.restrictPublicIp": ("Restrict Public IP access on Cloud SQL instances", None),
    "storage.publicAccessPrevention": ("Enforce Public Access Prevention", None),
    "storage.uniformBucketLevelAccess": ("Enforce uniform bucket-level access", None),
}
# Value groups of locations: the beginnings of the names of regions and multi-regions that are in them.
# https://cloud.google.com/resource-manager/docs/organization-policy/defining-locations#value_groups
_GROUPS: dict[str, tuple[str, ...]] = {
    "africa": ("africa-",),
    "asia": ("asia",),
    "australia": ("australia-",),
    "canada": ("northamerica-northeast",),
    "eu": ("eu", "eur4"),
    "europe": ("europe-", "eu"),
    "me": ("me-",),
    "northamerica": ("northamerica-", "us", "nam"),
    "southamerica": ("southamerica-",),
    "us": ("us", "nam"),
}
_NOT_IN_EU = ("europe-west2", "europe-west6", "eur5", "eur7", "eur8")  # London and Zurich
_LOCATION = re.compile(r"global|[a-z]+\d?|[a-z]+-[a-z]+\d+(-[a-z])?")
_REGION = re.compile(r"[a-z]+-[a-z]+\d+")


@dataclasses.dataclass(frozen=True)
class Effective:
    """What the policies of one constraint come to on a resource.

    enforced: of a boolean constraint.  every: True if all values are allowed, False if none is, None if the values decide.
    """

    enforced: bool = False
    every: bool | None = True
    allowed: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()

    def rules(self, boolean: bool) -> list[Doc]:
        """The rules of a policy that says so."""
        if boolean:
            return [{"enforce": self.enforced}]
        if self.every is not None:
            return [{"allowAll": True} if self.every else {"denyAll": True}]
        values: Doc = {}
        if self.allowed:
            values["allowedValues"] = sorted(self.allowed)
        if self.denied:
            values["deniedValues"] = sorted(self.denied)
        return [{"values": values}]


def chain(cloud: Cloud, resource: str) -> list[str]:
    """Names of a project, folder or organization ("projects/p") and of what it is in, nearest first."""
    root = f"organizations/{projects.organization(cloud)}"
    if resource.startswith("organizations/") or not resource:
        return [root]
    start = project_resource("").removesuffix("projects/") + resource
    above = [root if name == ORGANIZATION else "/".join(name.split("/")[-2:]) for name in cloud.iam.above(start)]
    return [resource, *above]


def effective(cloud: Cloud, resource: str, constraint: str) -> Effective:
    """What applies on a project, folder or organization ("projects/p", "folders/1", "" for the organization)."""
    specs: list[Doc] = []
    for name in chain(cloud, resource):
        spec = (cloud.store.peek(KIND, f"{name}/policies/{constraint}") or {}).get("spec")
        if spec is None:
            continue
        if spec.get("reset"):
            break
        specs.append(spec)
        if not spec.get("inheritFromParent"):
            break
    out = Effective()
    for spec in reversed(specs):
        out = _merged(out, spec)
    return out


def _merged(above: Effective, spec: Doc) -> Effective:
    """A policy on top of what is inherited; rules with conditions apply to tagged resources, of which there are none."""
    rules = [rule for rule in spec.get("rules", ()) if "condition" not in rule]
    if any("enforce" in rule for rule in rules):
        return Effective(enforced=any(rule.get("enforce") for rule in rules))
    keep = bool(spec.get("inheritFromParent"))
    allowed, denied = (above.allowed, above.denied) if keep else (frozenset(), frozenset())
    for rule in rules:
        values = rule.get("values", {})
        allowed |= {v.removeprefix("is:") for v in values.get("allowedValues", ())}
        denied |= {v.removeprefix("is:") for v in values.get("deniedValues", ())}
    if any(rule.get("denyAll") for rule in rules) or keep and above.every is False:
        return Effective(every=False)
    if any(rule.get("allowAll") for rule in rules) or not allowed and not denied:
        return Effective(every=True)
    return Effective(every=None, allowed=allowed, denied=denied)


def enforced(cloud: Cloud, project_id: str, constraint: str) -> bool:
    """Whether a boolean constraint is enforced in a project ("": on the organization)."""
    return effective(cloud, f"projects/{project_id}" if project_id else "", constraint).enforced


def permits(cloud: Cloud, project_id: str, constraint: str, *names: str) -> bool:
    """Whether a list constraint permits a value in a project; names: the value, and the groups (in:, under:) it is in."""
    found = effective(cloud, f"projects/{project_id}" if project_id else "", constraint)
    if found.every is not None:
        return found.every
    return found.denied.isdisjoint(names) and (not found.allowed or not found.allowed.isdisjoint(names))


# -- values ----------------------------------------------------------------


def location(place: str) -> tuple[str, ...]:
    """A location and the value groups that it is in, as names for permits()."""
    place = place.lower()
    out = [place]
    region = re.match(_REGION, place)
    if region:
        out.append(f"in:{region.group()}-locations")
    for group, beginnings in _GROUPS.items():
        if group == "eu":
            inside = (place == "eu" or place.startswith("eur")) and not place.startswith(_NOT_IN_EU)
        else:
            inside = place.startswith(beginnings)
        if inside:
            out.append(f"in:{group}-locations")
    return tuple(out)


def under(cloud: Cloud, project_id: str) -> tuple[str, ...]:
    """The values under:… that a project is below."""
    return tuple(f"under:{name}" for name in chain(cloud, f"projects/{project_id}"))


def check(constraint: str, spec: Doc) -> None:
    """Refuse a policy as Google does.  Raises ApiError 400."""
    prefixes = CONSTRAINTS[constraint][1]
    rules = spec.get("rules", ())
    if spec.get("reset") and (rules or spec.get("inheritFromParent")):
        raise ApiError(400, "Policy spec with reset set must not have rules or inherit from its parent.")
    wrong: list[str] = []
    for rule in rules:
        kinds = [k for k in ("values", "allowAll", "denyAll", "enforce") if k in rule]
        if len(kinds) != 1:
            raise ApiError(400, "A rule must have exactly one of values, allow_all, deny_all and enforce.")
        if (kinds[0] == "enforce") is not (prefixes is None):
            kind = "boolean" if prefixes is None else "list"
            raise ApiError(400, f"The rule does not fit constraints/{constraint}, which is a {kind} constraint.")
        for value in [v for field in ("allowedValues", "deniedValues") for v in rule.get("values", {}).get(field, ())]:
            prefix, _, _ = value.partition(":")
            known = prefix in (prefixes or ()) or ":" not in value
            if not known or constraint == "gcp.resourceLocations" and not _is_location(value):
                wrong.append(value)
    if prefixes is None and spec.get("inheritFromParent"):
        raise ApiError(400, f"inherit_from_parent is not supported for constraints/{constraint}.")
    if wrong:
        text = f"The policy contains invalid list value(s): [{', '.join(wrong)}]. "
        raise ApiError(400, f"{text}Please fix the values in the policy and try again")


def _is_location(value: str) -> bool:
    if value.startswith("in:"):
        group = value.removeprefix("in:").removesuffix("-locations")
        return value.endswith("-locations") and (group in _GROUPS or bool(_REGION.fullmatch(group)))
    return bool(_LOCATION.fullmatch(value.removeprefix("is:")))


def written(constraint: str, words: list[str]) -> Doc:
    """A policy's spec from words: enforce, off, allow-all, deny-all, inherit, VALUE and deny:VALUE.  Raises ValueError."""
    if CONSTRAINTS[constraint][1] is None:
        if words not in ([], ["enforce"], ["off"]):
            raise ValueError(f"{constraint} is enforce (the default) or off")
        return {"rules": [{"enforce": words != ["off"]}]}
    spec: Doc = {"inheritFromParent": True} if "inherit" in words else {}
    rest = [word for word in words if word != "inherit"]
    if rest in (["allow-all"], ["deny-all"]):
        return {"rules": [{"allowAll" if rest == ["allow-all"] else "denyAll": True}]}
    denied = [word.removeprefix("deny:") for word in rest if word.startswith("deny:")]
    allowed = [word for word in rest if not word.startswith("deny:")]
    if not rest or {"allow-all", "deny-all"}.intersection(rest):
        raise ValueError(f"{constraint} needs values, deny:VALUE, or one of allow-all and deny-all")
    rules = [
        {"values": {field: values}}
        for field, values in (("allowedValues", allowed), ("deniedValues", denied))
        if values
    ]
    return spec | {"rules": rules}


def words(spec: Doc) -> str:
    """The words that written() makes a spec of."""
    out = ["inherit"] if spec.get("inheritFromParent") else []
    for rule in spec.get("rules", ()):
        values = rule.get("values", {})
        out += values.get("allowedValues", []) + [f"deny:{value}" for value in values.get("deniedValues", ())]
        for field, text in (("allowAll", "allow-all"), ("denyAll", "deny-all")):
            out += [text] if rule.get(field) else []
        if "enforce" in rule:
            out.append("enforce" if rule["enforce"] else "off")
    return " ".join(out) or "reset"


# -- refusals --------------------------------------------------------------


def violation(constraint: str, subject: str, description: str) -> list[Doc]:
    """The details of an error about a violated constraint."""
    entry = {"type": f"constraints/{constraint}", "subject": subject, "description": description}
    return [{"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [entry]}]


def refused(constraint: str, subject: str, text: str, description: str = "") -> ApiError:
    """The refusal of most APIs: 400 FAILED_PRECONDITION, with a violation."""
    details = violation(constraint, subject, description or text)
    return ApiError(400, text, status="FAILED_PRECONDITION", reason="failedPrecondition", details=details)
