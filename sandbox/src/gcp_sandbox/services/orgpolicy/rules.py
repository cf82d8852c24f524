"""Which calls a constraint concerns, and how each API refuses them.

A call is looked at once its caller is known to have the permission (see Call.guard).  README.md says for which refusals no
published text was found.
https://cloud.google.com/resource-manager/docs/organization-policy/org-policy-constraints
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from gcp_sandbox.core import masks, orgpolicy, projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.resources import name_of
from gcp_sandbox.core.service import Call

Doc = dict[str, Any]
_LOCATIONS = "gcp.resourceLocations"
_CMEK = "gcp.restrictNonCmekServices"
_MEMBERS = "iam.allowedPolicyMemberDomains"
_MORE = "For more information, see https://cloud.google.com/resource-manager/docs/organization-policy"


def check(call: Call, resource: str) -> None:
    """Refuse a call that violates a policy.  resource: full name of what a setIamPolicy call is about."""
    ident = call.method.id
    for rule in _of(ident):
        rule(call)
    if ident.endswith(".setIamPolicy") and resource:
        _members(call, resource)


@functools.cache
def _of(ident: str) -> list[Callable[[Call], None]]:
    return [rule for pattern, rule in _RULES if re.fullmatch(pattern, ident)]


def _enforced(call: Call, constraint: str) -> bool:
    return orgpolicy.enforced(call.cloud, call.project_id, constraint)


def _location(call: Call, place: str) -> bool:
    return orgpolicy.permits(call.cloud, call.project_id, _LOCATIONS, *orgpolicy.location(place))


def _without_key(call: Call) -> bool:
    """Whether the API may create resources that are not encrypted with a customer's key."""
    return orgpolicy.permits(call.cloud, call.project_id, _CMEK, call.service.host)


def _subject(call: Call) -> str:
    return f"orgpolicy:projects/{call.project_id}"


def _cmek(call: Call) -> ApiError:
    text = (
        f"Constraint `constraints/{_CMEK}` violated for `projects/{call.project_id}` attempting to create a resource "
        "without specifying a KMS CryptoKey."
    )
    return orgpolicy.refused(_CMEK, _subject(call), text)


def _unmet(text: str) -> ApiError:
    return ApiError(412, text, reason="conditionNotMet", location="If-Match", location_type="header")


# -- Compute Engine --------------------------------------------------------


def _compute_location(call: Call) -> None:
    place = call.params.get("region") or call.params.get("zone")
    if place and not _location(call, place):
        kind = "regions" if "region" in call.params else "zones"
        name = f"{kind}/{place}/{call.method.id.split('.')[1]}/{call.body.get('name', '')}"
        text = (
            f"Location {place} violates constraint constraints/{_LOCATIONS} on the resource "
            f"projects/{call.project_id}/{name}."
        )
        raise ApiError(412, text, reason="conditionNotMet")


def _balancer(call: Call) -> None:
    kind = _balancer_type(call)
    group = "in:INTERNAL" if kind.startswith("INTERNAL") else "in:EXTERNAL"
    constraint = "compute.restrictLoadBalancerCreationForTypes"
    if kind and not orgpolicy.permits(call.cloud, call.project_id, constraint, kind, group):
        region = call.params.get("region")
        where = f"regions/{region}" if region else "global"
        name = f"projects/{call.project_id}/{where}/forwardingRules/{call.body.get('name', '')}"
        text = (
            f"Constraint constraints/{constraint} violated for projects/{call.project_id}. Forwarding Rule {name} of "
            f"type {kind} is not allowed."
        )
        raise ApiError(412, text, reason="conditionNotMet")


def _balancer_type(call: Call) -> str:
    """The type of the load balancer that a forwarding rule is for; "" if it is for none.

    https://cloud.google.com/load-balancing/docs/org-policy-constraints
    """
    target = call.body.get("target", "")
    collection = next((part for part in reversed(target.split("/")) if part.startswith("target")), "")
    scheme = call.body.get("loadBalancingScheme", "EXTERNAL")
    regional = "region" in call.params
    if target and not collection:
        return ""  # an endpoint of Private Service Connect
    if collection in ("targetHttpProxies", "targetHttpsProxies", "targetGrpcProxies"):
        if scheme == "EXTERNAL_MANAGED":
            return f"{'REGIONAL' if regional else 'GLOBAL'}_EXTERNAL_MANAGED_HTTP_HTTPS"
        if scheme == "INTERNAL_MANAGED":
            return "INTERNAL_HTTP_HTTPS" if regional else "GLOBAL_INTERNAL_MANAGED_HTTP_HTTPS"
        return "EXTERNAL_HTTP_HTTPS"
    if collection in ("targetTcpProxies", "targetSslProxies"):
        return f"EXTERNAL_{'TCP' if collection == 'targetTcpProxies' else 'SSL'}_PROXY"
    return "INTERNAL_TCP_UDP" if scheme == "INTERNAL" else "EXTERNAL_NETWORK_TCP_UDP"


def _peering(call: Call) -> None:
    peer = call.body.get("peerNetwork") or call.body.get("networkPeering", {}).get("network", "")
    found = re.search(r"projects/([^/]+)/global/networks/[^/]+$", peer)
    other = projects.find(call.cloud, found.group(1)) if found else call.project
    name = found.group() if found else peer
    values = (name, *(orgpolicy.under(call.cloud, other["projectId"]) if other else ()))
    constraint = "compute.restrictVpcPeering"
    if not orgpolicy.permits(call.cloud, call.project_id, constraint, *values):
        text = (
            f"Constraint constraints/{constraint} violated for project {call.project_number}. Peering the network "
            f"{name} is not allowed."
        )
        raise ApiError(412, text, reason="conditionNotMet")


# -- Cloud Storage ---------------------------------------------------------


def _new_bucket(call: Call) -> None:
    chosen = call.body.get("customPlacementConfig", {}).get("dataLocations")
    for place in chosen or [call.body.get("location") or "US"]:
        if not _location(call, place):
            raise _unmet(f"'{place.lower()}' violates constraint 'constraints/{_LOCATIONS}'")
    if not call.body.get("encryption", {}).get("defaultKmsKeyName") and not _without_key(call):
        raise _unmet(f"Request violates constraint 'constraints/{_CMEK}'")
    constraint = "storage.uniformBucketLevelAccess"
    uniform = call.body.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {})
    if not uniform.get("enabled") and _enforced(call, constraint):
        raise _unmet(f"Request violates constraint 'constraints/{constraint}'")


def _bucket(call: Call) -> None:
    constraint = "storage.uniformBucketLevelAccess"
    uniform = call.body.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {})
    if uniform.get("enabled") is False and _enforced(call, constraint):
        raise _unmet(f"Request violates constraint 'constraints/{constraint}'")


# -- Secret Manager --------------------------------------------------------


def _secret(call: Call) -> None:
    regional = call.params.get("parent", "").partition("/locations/")[2]
    replication = call.body.get("replication", {})
    if regional:
        copies = {regional: call.body}
    elif "userManaged" in replication:
        copies = {copy.get("location", ""): copy for copy in replication["userManaged"].get("replicas", ())}
    else:
        copies = {"global": replication.get("automatic", {})}
    subject = f"orgpolicy:projects/{call.project_number}"
    for place in copies:
        if not _location(call, place):
            text = (
                f"Constraint constraints/{_LOCATIONS} violated for [{subject}] attempting to create a secret in "
                f"[{place}]. {_MORE}/defining-locations."
            )
            raise orgpolicy.refused(_LOCATIONS, subject, text)
    if not all("customerManagedEncryption" in copy for copy in copies.values()) and not _without_key(call):
        raise _cmek(call)


# -- Cloud SQL -------------------------------------------------------------


def _new_instance(call: Call) -> None:
    region = call.body.get("region") or "us-central1"
    if not _location(call, region):
        text = f"'{region}' violates constraint 'constraints/{_LOCATIONS}' on the resource 'projects/{call.project_id}'"
        raise ApiError(400, f"Invalid request: {text}.", reason="invalid")
    if call.body.get("settings", {}).get("ipConfiguration", {}).get("ipv4Enabled", True):
        _public_ip(call)
    replica = call.body.get("masterInstanceName")  # which is encrypted like its primary
    key = call.body.get("diskEncryptionConfiguration", {}).get("kmsKeyName")
    if not key and not replica and not _without_key(call):
        raise ApiError(400, f"Invalid request: {_cmek(call).message}", reason="invalid")


def _instance(call: Call) -> None:
    if call.body.get("settings", {}).get("ipConfiguration", {}).get("ipv4Enabled"):
        key = f"projects/{call.project_id}/instances/{call.params['instance']}"
        old = call.cloud.store.peek("sqladmin.instances", key) or {}
        if not old.get("settings", {}).get("ipConfiguration", {}).get("ipv4Enabled"):
            _public_ip(call)


def _public_ip(call: Call) -> None:
    constraint = "sql.restrictPublicIp"
    if _enforced(call, constraint):
        text = (
            "Invalid request: Organization Policy check failure: the external IP of this instance violates the "
            f"constraints/{constraint} enforced at the {call.project_number} project."
        )
        raise ApiError(400, text, reason="invalid")


# -- Cloud Run, Artifact Registry, Serverless VPC Access -------------------


def _violated(call: Call, constraint: str, what: str) -> ApiError:
    """The refusal of the APIs that leave what is violated to the details."""
    verb = call.method.id.rsplit(".", 1)[1].capitalize().replace("Patch", "Update")
    kind = call.method.id.split(".")[-2].capitalize().removesuffix("s").replace("ie", "y")
    description = (
        f"Constraint constraints/{constraint} violated for projects/{call.project_id} attempting {verb}{kind} with {what}. "
        "See https://cloud.google.com/resource-manager/docs/organization-policy/org-policy-constraints for more information."
    )
    text = "The request has violated one or more Org Policies. Please refer to the respective violations for more information."
    return orgpolicy.refused(constraint, _subject(call), text, description)


def _regional(call: Call) -> None:
    place = re.search(r"/locations/([^/]+)", call.params.get("parent") or call.params.get("name", ""))
    if place and not _location(call, place.group(1)):
        raise _violated(call, _LOCATIONS, f"location set to {place.group(1)}")


def _repository(call: Call) -> None:
    _regional(call)
    if not call.body.get("kmsKeyName") and not _without_key(call):
        raise _cmek(call)


_INGRESS = {
    "INGRESS_TRAFFIC_ALL": "all",
    "INGRESS_TRAFFIC_INTERNAL_ONLY": "internal",
    "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER": "internal-and-cloud-load-balancing",
}


def _asked(call: Call, collection: str) -> Doc:
    """The declaration of a service or job that a call comes to: with a mask, its fields in place of the present ones."""
    mask = [path for path in masks.paths(call) if path != "*"]
    old = call.cloud.store.peek(f"run.{collection}", name_of(call)) if mask else None
    return masks.masked(call, old, mask) if old else call.body


def _run(call: Call) -> None:
    collection = call.method.id.split(".")[-2]
    _regional(call)
    doc = _asked(call, collection)
    template = doc.get("template", {})
    if collection == "jobs":
        template = template.get("template", {})
    else:
        ingress = doc.get("ingress") or "INGRESS_TRAFFIC_ALL"
        value = _INGRESS.get(ingress, "all")
        if not orgpolicy.permits(call.cloud, call.project_id, "run.allowedIngress", value):
            raise _violated(call, "run.allowedIngress", f"ingress set to {value}")
    access = template.get("vpcAccess", {})
    egress = "none"
    if access.get("connector") or access.get("networkInterfaces"):
        egress = {"ALL_TRAFFIC": "all-traffic"}.get(access.get("egress", ""), "private-ranges-only")
    found = orgpolicy.effective(call.cloud, f"projects/{call.project_id}", "run.allowedVPCEgress")
    if found.every is not True and (
        egress == "none" or not orgpolicy.permits(call.cloud, call.project_id, "run.allowedVPCEgress", egress)
    ):
        raise _violated(call, "run.allowedVPCEgress", f"VPC egress set to {egress}")
    if not template.get("encryptionKey") and not _without_key(call):
        raise _cmek(call)


# -- IAM -------------------------------------------------------------------


def _account(call: Call) -> None:
    constraint = "iam.disableServiceAccountCreation"
    if _enforced(call, constraint):
        text = "Service account creation is not allowed on this project."
        subject = f"projects/{call.project_id}?configvalue={call.project_id}"
        raise orgpolicy.refused(constraint, subject, text)


def _key_subject(call: Call) -> tuple[str, str]:
    """The service account of a call, and the subject of a violation of it."""
    email = call.params["name"].split("/")[3]
    account = f"projects/{call.project_id}/serviceAccounts/{email}"
    return account, f"{account}?configvalue={quote(email, safe='')}"


def _key(call: Call) -> None:
    constraint = "iam.disableServiceAccountKeyCreation"
    if _enforced(call, constraint):
        text = "Key creation is not allowed on this service account."
        raise orgpolicy.refused(constraint, _key_subject(call)[1], text)


def _uploaded(call: Call) -> None:
    constraint = "iam.disableServiceAccountKeyUpload"
    if _enforced(call, constraint):
        account, subject = _key_subject(call)
        text = f"Constraint `constraints/{constraint}` violated for service account {account} attempting to upload public key."
        raise orgpolicy.refused(constraint, subject, text)


def _members(call: Call, resource: str) -> None:
    """Domain restricted sharing: it applies to the members that a policy adds."""
    found = orgpolicy.effective(call.cloud, f"projects/{call.project_id}" if call.project_id else "", _MEMBERS)
    if found.every is True:
        return
    before = {(b["role"], m) for b in call.cloud.iam.policy(resource).get("bindings", ()) for m in b["members"]}
    wanted = call.body.get("policy", call.body).get("bindings", ())
    for role, member in ((b.get("role", ""), m) for b in wanted for m in b.get("members", ())):
        if (role, member) in before or _permitted(call, found, member):
            continue
        text = "One or more users named in the policy do not belong to a permitted customer"
        if call.service.name == "storage":
            raise _unmet(f"{text}.")
        email = member.partition(":")[2] or member
        own = f"projects/{call.project_id}" if call.project_id else f"organizations/{projects.organization(call.cloud)}"
        raise orgpolicy.refused(
            _MEMBERS,
            f"orgpolicy:{own}?configvalue={quote(email, safe='@')}",
            f"{text},  perhaps due to an organization policy." if call.service.name == "run" else f"{text}.",
            f"User {email} is not in permitted organization.",
        )


def _permitted(call: Call, found: orgpolicy.Effective, member: str) -> bool:
    kind, _, rest = member.partition(":")
    if kind in ("deleted", "projectOwner", "projectEditor", "projectViewer"):
        return True
    customers = set(_customers(call.cloud, kind, rest))
    if not customers or found.every is False or not found.denied.isdisjoint(customers):
        return False
    return not found.allowed or not found.allowed.isdisjoint(customers)


def _customers(cloud: Cloud, kind: str, name: str) -> Iterator[str]:
    """The values that stand for the organization that a member is in, if that is the one of this sandbox."""
    domain = name.rpartition("@")[2]
    if kind in ("user", "group", "domain"):
        inside = domain == cloud.settings.organization
    elif kind == "serviceAccount":
        # Service agents belong to the organization of the project that they work for.
        number = re.match(r"(?:service-|p)?(\d+)", name)
        inside = projects.of_account(cloud, name) is not None
        inside = inside or bool(number and projects.find(cloud, number.group(1)))
        inside = inside or domain.endswith(".svc.id.goog") or bool(_workload_pool(cloud, name))
    else:
        pool = re.search(r"/projects/(\d+)/", name)
        inside = bool(pool and projects.find(cloud, pool.group(1)))
    if inside:
        yield projects.customer(cloud)
        yield f"principalSet://iam.googleapis.com/organizations/{projects.organization(cloud)}"


def _workload_pool(cloud: Cloud, name: str) -> bool:
    """Whether a Kubernetes service account (project.svc.id.goog[…]) is one of a project here."""
    found = re.match(r"([^@\s]+)\.svc\.id\.goog\[", name)
    return bool(found and projects.find(cloud, found.group(1)))


# Discovery IDs (regular expressions) -> their rule.
_RULES: list[tuple[str, Callable[[Call], None]]] = [
    (r"compute\.\w+\.insert", _compute_location),
    (r"compute\.(globalF|f)orwardingRules\.insert", _balancer),
    (r"compute\.networks\.addPeering", _peering),
    (r"storage\.buckets\.insert", _new_bucket),
    (r"storage\.buckets\.(patch|update)", _bucket),
    (r"secretmanager\.projects\.(locations\.)?secrets\.create", _secret),
    (r"sql\.instances\.insert", _new_instance),
    (r"sql\.instances\.(patch|update)", _instance),
    (r"run\.projects\.locations\.(services|jobs)\.(create|patch)", _run),
    (r"artifactregistry\.projects\.locations\.repositories\.create", _repository),
    (r"vpcaccess\.projects\.locations\.connectors\.create", _regional),
    (r"iam\.projects\.serviceAccounts\.create", _account),
    (r"iam\.projects\.serviceAccounts\.keys\.create", _key),
    (r"iam\.projects\.serviceAccounts\.keys\.upload", _uploaded),
]
