"""Access control of buckets and objects: by policy, and by access control list if the bucket uses them.

https://cloud.google.com/storage/docs/access-control
"""

from __future__ import annotations

from gcp_sandbox.core import orgpolicy
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.roles import role_has
from gcp_sandbox.services.storage.common import Doc, denied, full_name

OBJECT_ROLES = {"OWNER": "roles/storage.legacyObjectOwner", "READER": "roles/storage.legacyObjectReader"}


def uniform(bucket: Doc) -> bool:
    """Whether only policies apply, not access control lists."""
    return bool(bucket["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"])


def prevented(bucket: Doc) -> bool:
    """Whether the bucket itself prevents public access."""
    return bucket["iamConfiguration"].get("publicAccessPrevention") == "enforced"


def private(cloud: Cloud, bucket: Doc) -> bool:
    """Whether public access is prevented, by the bucket itself or by an organization policy."""
    return prevented(bucket) or orgpolicy.enforced(cloud, bucket["_project"], "storage.publicAccessPrevention")


def allows(
    cloud: Cloud,
    principal: Principal,
    permission: str,
    bucket: Doc,
    acl: list[Doc] | None = None,
    name: str = "",
) -> bool:
    """Whether a caller has a permission on a bucket, or on an object of this name (for conditions).

    acl: the object's, in a bucket without uniform access
    """
    context = {}
    if name:
        context = {
            "resource.type": "storage.googleapis.com/Object",
            "resource.name": f"projects/_/buckets/{bucket['name']}/objects/{name}",
        }
    resources = (project_resource(bucket["_project"]), full_name(bucket["name"]))
    if cloud.iam.allows(principal, permission, *resources, context=context, public=not private(cloud, bucket)):
        return True
    return acl is not None and acl_allows(cloud, principal, permission, bucket, acl)


def require(
    cloud: Cloud,
    principal: Principal,
    permission: str,
    bucket: Doc,
    acl: list[Doc] | None = None,
    name: str = "",
) -> None:
    """Raise the 401 or 403 unless allowed."""
    if not allows(cloud, principal, permission, bucket, acl, name):
        raise denied(principal, permission)


def acl_allows(cloud: Cloud, principal: Principal, permission: str, bucket: Doc, acl: list[Doc]) -> bool:
    """Whether an object's list grants a caller a permission."""
    return any(
        role_has(OBJECT_ROLES.get(entry["role"], ""), permission) and _is(cloud, principal, bucket, entry["entity"])
        for entry in acl
    )


def _is(cloud: Cloud, principal: Principal, bucket: Doc, entity: str) -> bool:
    if entity == "allUsers" or entity == "allAuthenticatedUsers" and principal.email:
        return not private(cloud, bucket)
    kind, _, rest = entity.partition("-")
    if kind == "project":
        # The policy of the project defines its owners, editors and viewers.
        team = rest.partition("-")[0]
        role = {"owners": "roles/owner", "editors": "roles/editor", "viewers": "roles/viewer"}.get(team, "")
        policy = cloud.iam.policy(f"//cloudresourcemanager.googleapis.com/projects/{bucket['_project']}")
        return any(b["role"] == role and principal.member in b["members"] for b in policy.get("bindings", []))
    return bool(principal.email) and (
        kind == "user" and rest == principal.email or kind == "domain" and principal.email.endswith(f"@{rest}")
    )
