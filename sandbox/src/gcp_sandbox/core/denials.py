"""Whether a deny policy takes a permission away: https://cloud.google.com/iam/docs/deny-overview."""

from __future__ import annotations

import fnmatch
from typing import Any

from gcp_sandbox.core import conditions
from gcp_sandbox.core.auth import Principal

_EVERYBODY = "principalSet://goog/public:all"
# What a permission begins with -> name of its service in deny policies, where that differs.
_SERVICES = {"resourcemanager": "cloudresourcemanager", "billing": "cloudbilling"}


def denies(policy: dict[str, Any], principal: Principal | None, permission: str, attributes: dict[str, Any]) -> bool:
    """Whether one of a policy's rules denies a permission to a caller (None: nobody signed in)."""
    service, _, rest = permission.partition(".")
    name = f"{_SERVICES.get(service, service)}.googleapis.com/{rest}"
    me = {_EVERYBODY}
    if principal is not None and principal.email:
        me |= {
            f"principal://goog/subject/{principal.email}",
            f"principal://iam.googleapis.com/projects/-/serviceAccounts/{principal.email}",
        }
    for rule in (r.get("denyRule", {}) for r in policy.get("rules", ())):
        if (
            _among(name, rule.get("deniedPermissions", ()))
            and not _among(name, rule.get("exceptionPermissions", ()))
            and not me.isdisjoint(rule.get("deniedPrincipals", ()))
            and me.isdisjoint(rule.get("exceptionPrincipals", ()))
            and _applies(rule.get("denialCondition", {}).get("expression", ""), attributes)
        ):
            return True
    return False


def _among(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _applies(expression: str, attributes: dict[str, Any]) -> bool:
    """A rule whose condition cannot be evaluated applies."""
    if not expression:
        return True
    try:
        return conditions.evaluate(expression, attributes)
    except conditions.ConditionError:
        return True
