"""The three methods of every resource with a policy: getIamPolicy, setIamPolicy, testIamPermissions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import Policy, project_resource
from gcp_sandbox.core.service import Call, Resource, Service

_FIELDS = {"bindings", "etag", "version", "auditConfigs"}


def serve(
    service: Service,
    collection: str,
    resource: Resource,
    permission: str | Callable[[Call, str], object],
    exists: Callable[[Call], object] | None = None,
    *,
    above: tuple[str, ...] = (),
    ask_first: bool = False,
) -> None:
    """Register the methods of a collection.

    collection: discovery id without the method ("secretmanager.projects.secrets").  resource(call): full name.
    permission: what getIamPolicy and setIamPolicy are appended to ("secretmanager.secrets"), or permission(call, method)
    raises ApiError.  exists(call) raises ApiError where the resource is not there.
    above: what it is in, but for its project.  ask_first: testIamPermissions answers of what is not there too.
    """

    def name(call: Call, method: str) -> str:
        full = resource(call)
        if method and callable(permission):
            permission(call, method)
        elif method:
            call.require(f"{permission}.{method}", full)
        if exists and (method or not ask_first):
            exists(call)
        return full

    @service.method(f"{collection}.getIamPolicy")
    def get(call: Call) -> Policy:
        return shown(call, call.cloud.iam.policy(name(call, "getIamPolicy")), requested_version(call))

    @service.method(f"{collection}.setIamPolicy")
    def put(call: Call) -> Policy:
        full = name(call, "setIamPolicy")
        call.guard(full)
        return shown(call, replace(call, full), 3)

    @service.method(f"{collection}.testIamPermissions")
    def test(call: Call) -> dict[str, Any]:
        return granted(call, name(call, ""), *above)


def requested_version(call: Call) -> int:
    """options.requestedPolicyVersion of a getIamPolicy call.  Raises ApiError 400."""
    version = call.params.get("options.requestedPolicyVersion")
    if version is None:
        version = call.body.get("options", {}).get("requestedPolicyVersion", 0)
    if version not in (0, 1, 3):
        raise ApiError(400, f"Invalid requested policy version {version}: it must be 0, 1 or 3.")
    return version


def shown(call: Call, policy: Policy, version: int) -> Policy:
    """A policy for a client that requested a version: below 3, conditions are not shown."""
    if version < 3 and policy.get("version") == 3:
        bindings = [
            {**{k: v for k, v in b.items() if k != "condition"}, "role": call.cloud.iam.hidden_role(b)}
            for b in policy["bindings"]
        ]
        return policy | {"version": 1, "bindings": bindings}
    return policy


def replace(call: Call, full: str) -> Policy:
    """Set the policy from a call's body (``policy``, with ``updateMask``) on a resource."""
    given = dict(call.body.get("policy", {}))
    mask = {f.strip() for f in call.body.get("updateMask", "bindings,etag,auditConfigs").split(",") if f.strip()}
    if mask - _FIELDS:
        raise ApiError(400, f"Invalid update mask: {', '.join(sorted(mask - _FIELDS))}.")
    current = call.cloud.iam.policy(full)
    if "update_mask" not in call.body and "updateMask" not in call.body:
        mask = {"bindings", "etag"}
    for field in ("bindings", "auditConfigs"):
        if field not in mask:
            given[field] = current.get(field, [])
    call.cloud.iam.check(full, given)
    return call.cloud.iam.set_policy(full, given)


def granted(call: Call, full: str, *above: str) -> dict[str, Any]:
    """The requested permissions that the caller has on a resource; above: its ancestors, except its project."""
    asked = call.body.get("permissions", [])
    if any("*" in p for p in asked):
        raise ApiError(400, "Permissions with wildcards (such as '*' or 'storage.*') are not allowed.")
    resources = [full, *above] + ([project_resource(call.project_id)] if call.project else [])
    out = [p for p in asked if call.cloud.iam.allows(call.principal, p, *resources)]
    return {"permissions": out} if out else {}
