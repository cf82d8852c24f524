"""Who may do what: policies on resources, and the predefined roles.

Policies are kept under the resource's full name, for example
``//cloudresourcemanager.googleapis.com/projects/p``, ``//secretmanager.googleapis.com/projects/p/secrets/s``,
``//storage.googleapis.com/buckets/b``, ``//run.googleapis.com/projects/p/locations/l/services/s``,
``//iam.googleapis.com/projects/p/serviceAccounts/e``, ``//iap.googleapis.com/projects/NUM/iap_web/compute/services/b``.
https://cloud.google.com/iam/docs/full-resource-names
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from gcp_sandbox.auth import Principal
from gcp_sandbox.errors import ApiError, error_info
from gcp_sandbox.roles import role_has
from gcp_sandbox.store import Store

if TYPE_CHECKING:
    from gcp_sandbox.service import Call

KIND = "iam.policies"
Policy = dict[str, Any]


def project_resource(project_id: str) -> str:
    """Full name of a project."""
    return f"//cloudresourcemanager.googleapis.com/projects/{project_id}"


class Iam:
    """Reads, writes and evaluates policies."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def policy(self, resource: str) -> Policy:
        """The policy of a resource: {version, bindings?, etag}."""
        doc = self._store.get(KIND, resource) or {"bindings": []}
        out: Policy = {"version": doc.get("version", 1)}
        if doc["bindings"]:
            out["bindings"] = doc["bindings"]
        out["etag"] = self._etag(doc)
        return out

    @staticmethod
    def _etag(doc: Policy) -> str:
        if not doc["bindings"] and not doc.get("serial"):
            return "ACAB"
        digest = hashlib.sha256(json.dumps(doc, sort_keys=True).encode()).digest()
        return base64.b64encode(b"\x07" + digest[:7]).decode()

    def set_policy(self, resource: str, policy: Policy, *, conflict: int = 409) -> Policy:
        """Replace a policy; a stale etag raises ApiError (conflict is its HTTP status)."""
        current = self.policy(resource)
        if policy.get("etag") and policy["etag"] != current["etag"]:
            raise ApiError(
                conflict, "There were concurrent policy changes. Please retry the whole read-modify-write with "
                "exponential backoff.", status="ABORTED" if conflict == 409 else None, reason="aborted",
            )  # fmt: skip
        bindings = self._tidy(policy.get("bindings", []))
        serial = (self._store.get(KIND, resource) or {}).get("serial", 0) + 1
        version = 3 if any("condition" in b for b in bindings) else 1
        self._store.put(KIND, resource, {"version": version, "bindings": bindings, "serial": serial})
        return self.policy(resource)

    @staticmethod
    def _tidy(bindings: list[dict[str, Any]]) -> list[dict[str, Any]]:
        merged: dict[str, dict[str, Any]] = {}
        for binding in bindings:
            if not binding.get("members"):
                continue
            key = json.dumps([binding["role"], binding.get("condition")], sort_keys=True)
            entry = merged.setdefault(key, {k: v for k, v in binding.items() if k in ("role", "condition")})
            entry["members"] = sorted({*entry.get("members", []), *binding["members"]})
        order = sorted(merged.values(), key=lambda b: (b["role"], json.dumps(b.get("condition"))))
        return [{"role": b["role"], "members": b["members"]} | ({"condition": b["condition"]} if "condition" in b else {})
                for b in order]  # fmt: skip

    def drop(self, resource: str) -> None:
        """Forget the policy of a resource that is gone."""
        self._store.delete(KIND, resource)

    def grant(self, resource: str, role: str, member: str) -> None:
        """Add one member to one role."""
        policy = self.policy(resource)
        policy.setdefault("bindings", []).append({"role": role, "members": [member]})
        self.set_policy(resource, policy)

    def allows(self, principal: Principal | None, permission: str, *resources: str) -> bool:
        """Whether a caller (None: nobody signed in) has a permission by the policy of any of the resources."""
        everyone = {"allUsers"}
        if principal is not None:
            domain = principal.email.rsplit("@", 1)[-1]
            everyone |= {"allAuthenticatedUsers", principal.member, f"domain:{domain}"}
        for resource in resources:
            doc = self._store.peek(KIND, resource)
            for binding in doc["bindings"] if doc else ():
                if not everyone.isdisjoint(binding["members"]) and role_has(binding["role"], permission):
                    return True
        return False

    def require(self, call: Call, permission: str, resource: str = "", *, shown: str = "") -> None:
        """Raise the API's 403 unless call's principal has the permission on its project or on resource."""
        resources = [project_resource(call.project_id)] if call.project else []
        if resource:
            resources.append(resource)
        if not self.allows(call.principal, permission, *resources):
            raise self.denied(call, permission, shown or resource.removeprefix("//").partition("/")[2])

    @staticmethod
    def denied(call: Call, permission: str, shown: str) -> ApiError:
        """The 403 as the API of the call words it."""
        shown = shown or f"projects/{call.project_id}"
        if call.method.api.name == "compute":
            return ApiError(403, f"Required '{permission}' permission for '{shown}'", reason="forbidden")
        if call.method.api.name == "storage":
            text = (f"{call.principal.email} does not have {permission} access to the Google Cloud Storage "
                    f"{'object' if '.objects.' in permission else 'bucket'}. Permission '{permission}' denied on resource "
                    "(or it may not exist).")  # fmt: skip
            return ApiError(403, text, reason="forbidden")
        service = call.app.services[call.method.api.name].host
        text = f"Permission '{permission}' denied on resource '//{service}/{shown}' (or it may not exist)."
        return ApiError(
            403, text, reason="forbidden",
            details=[error_info("IAM_PERMISSION_DENIED", service, permission=permission, resource=shown)],
        )  # fmt: skip
