"""Organization Policy: policies on projects, folders and the organization, and the checks of the calls that they concern.

https://cloud.google.com/resource-manager/docs/reference/orgpolicy/rest/v2
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from gcp_sandbox.core import orgpolicy, projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import ORGANIZATION, folder_resource, project_resource
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.resources import Collection, name_of, serve
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.orgpolicy import rules

Doc = dict[str, Any]
_PARENTS = ("projects", "folders", "organizations")
# It is the organization's API, which its administrators use from a project of their own, not that of the resource.
SERVICE = Service("orgpolicy", "v2", always_enabled=True, resource_type="orgpolicy.googleapis.com/Policy")


def setup(cloud: Cloud) -> None:
    """Have calls looked at by the policies."""
    cloud.guards.append(rules.check)


def _permit(call: Call, permission: str) -> None:
    """Refuse a caller without a permission on the project, folder or organization of a call."""
    kind, ident = name_of(call).split("/")[:2]
    if kind == "organizations":
        if ident != projects.organization(call.cloud):
            raise ApiError(403, "The caller does not have permission")
        resource = ORGANIZATION
    else:
        resource = project_resource(ident) if kind == "projects" else folder_resource(ident)
    if not call.cloud.iam.allows(call.principal, permission, resource):
        raise call.denied(permission, f"{kind}/{ident}")


def _known(constraint: str) -> str:
    if constraint.startswith("custom.") or re.fullmatch(r"[a-z]+(\.managed)?\.[A-Za-z]+", constraint) is None:
        raise ApiError(400, f"Invalid constraint name: {constraint}.")
    if constraint not in orgpolicy.CONSTRAINTS:
        raise ApiError(501, f"gcp-sandbox does not enforce constraints/{constraint}.")
    return constraint


def _ident(call: Call) -> str:
    parent, slash, constraint = call.body.get("name", "").rpartition("/policies/")
    asked = name_of(call)
    kind, _, ident = parent.partition("/")
    found = projects.find(call.cloud, ident) if kind == "projects" else None
    if not slash or (f"projects/{found['projectId']}" if found else parent) != asked:
        raise ApiError(400, f"The name of the policy must be {asked}/policies/ and the name of a constraint.")
    return _known(constraint)


def _prepared(call: Call, key: str, doc: Doc, old: Doc | None) -> Doc:
    constraint = key.rpartition("/")[2]
    for field in ("spec", "dryRunSpec"):
        if field in doc:
            orgpolicy.check(constraint, doc[field])
            content = {k: v for k, v in doc[field].items() if k not in ("etag", "updateTime")}
            if old is None or content != {
                k: v for k, v in old.get(field, {}).items() if k not in ("etag", "updateTime")
            }:
                content["updateTime"] = now()
                content["etag"] = hashlib.sha256(json.dumps([key, content]).encode()).hexdigest()[:16]
                doc[field] = content
    return doc | {"etag": hashlib.sha256(json.dumps([key, doc, now()]).encode()).hexdigest()[:16]}


def _missing(name: str) -> ApiError:
    return ApiError(404, "Requested entity was not found.")


POLICIES = Collection(
    SERVICE,
    " ".join(f"orgpolicy.{parent}.policies" for parent in _PARENTS),
    orgpolicy.KIND,
    permission="orgpolicy.policies",
    segment="policies",
    output=("name", "etag"),
    mutable=("spec", "dryRunSpec"),
    number=True,
    permit=_permit,
    ident=_ident,
    prepare=_prepared,
    missing=_missing,
    taken=lambda name: ApiError(409, "Requested entity already exists"),
    stale=lambda given, etag: ApiError(
        409, "The etag does not match that of the policy: read it again.", status="ABORTED"
    ),
)
serve(POLICIES, "create get list patch delete")


@SERVICE.method(*(f"orgpolicy.{parent}.policies.getEffectivePolicy" for parent in _PARENTS))
def get_effective(call: Call) -> Doc:
    _permit(call, "orgpolicy.policies.get")
    name = name_of(call)
    resource, _, constraint = name.rpartition("/policies/")
    boolean = orgpolicy.CONSTRAINTS[_known(constraint)][1] is None
    found = orgpolicy.effective(call.cloud, resource, constraint).rules(boolean)
    return {"name": POLICIES.public(call.cloud, name), "spec": {"rules": found}}


@SERVICE.method(*(f"orgpolicy.{parent}.constraints.list" for parent in _PARENTS))
def constraints(call: Call) -> Doc:
    _permit(call, "orgpolicy.constraints.list")
    parent = POLICIES.public(call.cloud, name_of(call))
    found: list[Doc] = []
    for name, (title, prefixes) in sorted(orgpolicy.CONSTRAINTS.items()):
        doc: Doc = {"name": f"{parent}/constraints/{name}", "displayName": title, "constraintDefault": "ALLOW"}
        if prefixes is None:
            doc["booleanConstraint"] = {}
        else:
            values = {"supportsIn": "in" in prefixes, "supportsUnder": "under" in prefixes}
            doc["listConstraint"] = {k: True for k, v in values.items() if v}
        found.append(doc)
    return page(call, "constraints", found)
