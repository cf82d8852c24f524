"""Access control: policies of resources, and the predefined roles.

Policies are stored under the resource's full name, for example
``//cloudresourcemanager.googleapis.com/projects/p``, ``//secretmanager.googleapis.com/projects/p/secrets/s``,
``//storage.googleapis.com/buckets/b``, ``//run.googleapis.com/projects/p/locations/l/services/s``,
``//iam.googleapis.com/projects/p/serviceAccounts/e``, ``//iap.googleapis.com/projects/NUM/iap_web/compute/services/b``.
https://cloud.google.com/iam/docs/full-resource-names
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gcp_sandbox.core import conditions
from gcp_sandbox.core.auth import EMAILS, Principal
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.roles import BASIC, exists, fits, role_has
from gcp_sandbox.core.store import Store

KIND = "iam.policies"
ROLES_KIND = "iam.roles"
CUSTOM = re.compile(r"(projects|organizations)/[^/]+/roles/[\w.]+")
# Members in bucket policies that represent all holders of a basic role on a project.
_CONVENIENCE = {"projectOwner": "roles/owner", "projectEditor": "roles/editor", "projectViewer": "roles/viewer"}
Policy = dict[str, Any]
# The organization of all projects.
ORGANIZATION = "//cloudresourcemanager.googleapis.com/organizations/sandbox"
_PROJECTS = "//cloudresourcemanager.googleapis.com/projects/"
_FOLDERS = "//cloudresourcemanager.googleapis.com/folders/"
FOLDERS_KIND = "folders"
SETS = "iam.principalSets"  # the principal sets of a federated identity, according to its last token
# The format of a policy's etag; a resource's own etag, sent instead, counts as none.
_ETAG = re.compile(r"ACAB|B[w-z0-9+/][A-Za-z0-9+/]{9}=")
_EVERYBODY = ("allUsers", "allAuthenticatedUsers")
_MEMBER = re.compile(
    r"(?:user|group|serviceAccount):[^@\s:]+@[^@\s:]+\.[^@\s:]+|domain:[^@\s:]+\.[^@\s:]+"
    r"|serviceAccount:(?:[^@\s:]+:)?[^@\s:]+\.svc\.id\.goog\[[^]]+\]"
    r"|deleted:(?:user|group|serviceAccount):[^?\s]+\?uid=\d+|deleted:principal(?:Set)?://\S+"
    # principal://goog/… is a member of deny policies only.
    r"|project(?:Owner|Editor|Viewer):(?:[a-z0-9.-]+:)?[^\s:]+|principal(?:Set)?://(?!goog/)\S+"
)
# Members that Google compares and stores in lower case.
_ADDRESS = re.compile(r"(?:user|group|serviceAccount|domain):")
_OWN_ACCOUNT = re.compile(
    r"[^@]+@(?P<id>[a-z0-9-]+)(?:\.(?P<domain>[a-z0-9.-]+))?\.iam\.gserviceaccount\.com|(?P<number>\d+)(?:-compute@developer|@cloudservices)"
    r"\.gserviceaccount\.com|(?P<app>[a-z0-9-]+)@appspot\.gserviceaccount\.com"
)


def folder_resource(ident: str) -> str:
    """Full name of a folder."""
    return f"{_FOLDERS}{ident}"


def project_resource(project_id: str) -> str:
    """Full name of a project."""
    return f"//cloudresourcemanager.googleapis.com/projects/{project_id}"


def _stored(member: str) -> str:
    """A member as Google stores it: e-mail addresses and domains in lower case."""
    kind, colon, rest = member.partition(":")
    return f"{kind}{colon}{rest.lower()}" if _ADDRESS.match(member) else member


class Iam:
    """Reads, writes and evaluates policies."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # For how many seconds calls are still authorized by a resource's (full name) previous policy; set by faults.
        self.delay: Callable[[str], float] = lambda resource: 0
        self._before: dict[str, list[tuple[float, Policy | None]]] = {}
        # Host of an API -> resource.type of its resources in conditions.
        self.resource_types: dict[str, str] = {}

    def _put(self, resource: str, doc: Policy | None, *, first: bool = False) -> None:
        old, seconds = self._store.peek(KIND, resource), self.delay(resource)
        if doc is None:
            self._store.delete(KIND, resource)
            self._before.pop(resource, None)
            return
        self._store.put(KIND, resource, doc)
        if seconds and not first:
            self._before.setdefault(resource, []).append((time.time() + seconds, old))

    def _in_force(self, resource: str) -> list[dict[str, Any]]:
        """The bindings that currently apply to calls."""
        doc = self._store.peek(KIND, resource)
        if resource in self._before:
            kept = [entry for entry in self._before[resource] if entry[0] > time.time()]
            if kept:
                self._before[resource], doc = kept, kept[0][1]
            else:
                del self._before[resource]
        return doc["bindings"] if doc else []

    def policy(self, resource: str) -> Policy:
        """The policy of a resource: {version, bindings?, etag}."""
        doc = self._store.get(KIND, resource) or {"bindings": []}
        out: Policy = {"version": doc["version"]} if "version" in doc else {}
        for field in ("bindings", "auditConfigs"):
            if doc.get(field):
                out[field] = doc[field]
        out["etag"] = self._etag(doc)
        return out

    @staticmethod
    def _etag(doc: Policy) -> str:
        if not doc["bindings"] and not doc.get("serial"):
            return "ACAB"
        digest = hashlib.sha256(json.dumps(doc, sort_keys=True).encode()).digest()
        return base64.b64encode(b"\x07" + digest[:7]).decode()

    def set_policy(self, resource: str, policy: Policy, *, conflict: int = 409, first: bool = False) -> Policy:
        """
        Replace a policy; an outdated etag raises ApiError (conflict is its HTTP status).

        first: the resource is new; whoever creates a project, a folder or a bucket has access at once
        """
        current = self.policy(resource)
        if _ETAG.fullmatch(policy.get("etag", "")) and policy["etag"] != current["etag"]:
            raise ApiError(
                conflict,
                "There were concurrent policy changes. Please retry the whole read-modify-write with "
                "exponential backoff.",
                status="ABORTED" if conflict == 409 else None,
                reason="aborted",
            )
        bindings = self._tidy(policy.get("bindings", []))
        serial = (self._store.get(KIND, resource) or {}).get("serial", 0) + 1
        version = 3 if any("condition" in b for b in bindings) else 1
        doc = {"version": version, "bindings": bindings, "serial": serial}
        if policy.get("auditConfigs"):
            doc["auditConfigs"] = policy["auditConfigs"]
        self._put(resource, doc, first=first)
        return self.policy(resource)

    @staticmethod
    def _tidy(bindings: list[dict[str, Any]]) -> list[dict[str, Any]]:
        merged: dict[str, dict[str, Any]] = {}
        for binding in bindings:
            if not binding.get("members"):
                continue
            key = json.dumps([binding["role"], binding.get("condition")], sort_keys=True)
            entry = merged.setdefault(key, {k: v for k, v in binding.items() if k in ("role", "condition")})
            entry["members"] = sorted({*entry.get("members", []), *map(_stored, binding["members"])})
        order = sorted(merged.values(), key=lambda b: (b["role"], json.dumps(b.get("condition"))))
        return [
            {"role": b["role"], "members": b["members"]} | ({"condition": b["condition"]} if "condition" in b else {})
            for b in order
        ]

    def check(self, resource: str, policy: Policy) -> None:
        """Validate a policy that a client sets like Google does.  Raises ApiError 400."""
        service = resource.removeprefix("//").partition(".")[0].replace("cloudresourcemanager", "")
        conditional = any(b.get("condition") for b in policy.get("bindings", ()))
        if policy.get("version", 0) not in (0, 1, 3):
            raise ApiError(400, f"Invalid policy version {policy['version']}: it must be 0, 1 or 3.")
        if conditional and policy.get("version") != 3:
            raise ApiError(400, "Policies with conditional role bindings must specify version 3.")
        for binding in policy.get("bindings", ()):
            role, condition = binding.get("role", ""), binding.get("condition")
            if not exists(role) or not fits(role, service) or (CUSTOM.fullmatch(role) and not self.role(role)):
                raise ApiError(400, f"Role {role} is not supported for this resource.")
            if condition:
                if role in BASIC:
                    raise ApiError(400, f"Conditions can't be set on primitive roles: {role}.")
                if not condition.get("expression") or not condition.get("title"):
                    raise ApiError(400, "A condition needs a title and an expression.")
                try:
                    conditions.check(condition["expression"])
                except conditions.ConditionError as error:
                    raise ApiError(400, f"Condition expression compilation failed: {error}.") from None
            for member in binding.get("members", ()):
                self._check_member(member, resource, condition is not None)

    def _check_member(self, member: str, resource: str, conditional: bool) -> None:
        if member in _EVERYBODY:
            if "/projects/" in resource and resource.startswith("//cloudresourcemanager."):
                text = "Members of type allUsers and allAuthenticatedUsers cannot be added to this resource."
                raise ApiError(400, text)
            if conditional:
                raise ApiError(400, "Conditions can't be set on bindings with allUsers or allAuthenticatedUsers.")
            return
        kind, _, email = member.partition(":")
        if not re.match(
            r"(user|group|serviceAccount|domain|deleted|projectOwner|projectEditor|projectViewer"
            r"|principal|principalSet):",
            member,
        ):
            text = f"The member {member} is of an unknown type. Please set a valid type prefix for the member."
            raise ApiError(400, text)
        if not _MEMBER.fullmatch(member):
            word = {"serviceAccount": "Service account", "user": "User", "group": "Group", "domain": "Domain"}.get(kind)
            raise ApiError(400, f"{word} {email} does not exist." if word else f"Invalid member {member}.")
        if kind == "serviceAccount" and not self.known(email.lower()):
            raise ApiError(400, f"Service account {email} does not exist.")

    def known(self, email: str) -> bool:
        """Whether a service account exists; those of projects outside this sandbox are assumed to exist."""
        if self._store.peek(EMAILS, email) is not None:
            return True
        found = _OWN_ACCOUNT.fullmatch(email)
        if found is None or email.startswith("service-") and not found["id"]:
            return True
        if found["id"]:
            if found["id"].startswith("gcp-sa-") or email.startswith("service-"):
                return not any(d["projectNumber"] in email for _, d in self._store.list("projects"))
            project = f"{found['domain']}:{found['id']}" if found["domain"] else found["id"]
            return self._store.peek("projects", project) is None
        if found["app"]:  # there is no App Engine here, which would create it
            return self._store.peek("projects", found["app"]) is None
        return not any(d["projectNumber"] == found["number"] for _, d in self._store.list("projects"))

    def rename_member(self, old: str, new: str) -> None:
        """Rename a member in all policies (when an account was deleted or restored)."""
        for key, doc in self._store.list(KIND):
            if any(old in b["members"] for b in doc["bindings"]):
                bindings = [
                    b | {"members": sorted(new if m == old else m for m in b["members"])} for b in doc["bindings"]
                ]
                self._put(key, doc | {"bindings": bindings})

    @staticmethod
    def hidden_role(binding: dict[str, Any]) -> str:
        """The role of a conditional binding as shown to clients that do not support conditions."""
        if "condition" not in binding:
            return binding["role"]
        digest = hashlib.sha256(json.dumps(binding["condition"], sort_keys=True).encode()).hexdigest()[:20]
        return f"{binding['role']}_withcond_{digest}"

    def drop(self, resource: str) -> None:
        """Delete the policy of a deleted resource."""
        self._put(resource, None)

    def grant(self, resource: str, role: str, member: str, *, first: bool = False) -> None:
        """Grant a role to a member; first: see set_policy."""
        policy = self.policy(resource)
        policy.setdefault("bindings", []).append({"role": role, "members": [member]})
        self.set_policy(resource, policy, first=first)

    def role(self, name: str) -> dict[str, Any] | None:
        """A custom role (projects/p/roles/r) that is not deleted, read-only."""
        doc = self._store.peek(ROLES_KIND, name)
        return None if doc is None or doc.get("deleted") else doc

    def _role_has(self, role: str, permission: str) -> bool:
        if role.startswith("roles/"):
            return role_has(role, permission)
        doc = self.role(role)
        return doc is not None and doc.get("stage") != "DISABLED" and permission in doc.get("includedPermissions", ())

    def _meets(self, condition: dict[str, Any], resources: tuple[str, ...], context: dict[str, Any]) -> bool:
        """Whether a condition is true for the most specific of the resources; false if it cannot be evaluated."""
        full = next((r for r in resources if not r.startswith(_PROJECTS)), resources[0])
        host, _, name = full.removeprefix("//").partition("/")
        project = self._store.peek("projects", name.split("/")[1]) if name.startswith("projects/") else None
        names = [re.sub("^buckets/", "projects/_/buckets/", name)]
        if project:
            names.append(name.replace(f"projects/{project['projectId']}", f"projects/{project['projectNumber']}", 1))
        for shown in names:
            known = {
                "request.time": datetime.now(UTC),
                "resource.name": shown,
                "resource.service": host,
                "resource.type": self.resource_types.get(host, ""),
            } | context
            try:
                if conditions.evaluate(condition["expression"], known):
                    return True
            except conditions.ConditionError:
                continue
        return False

    def allows(
        self,
        principal: Principal | None,
        permission: str,
        *resources: str,
        context: dict[str, Any] | None = None,
        public: bool = True,
    ) -> bool:
        """Whether a caller (None: unauthenticated) has a permission through the policy of any of the resources.

        context: further attributes of the request for conditions ("request.path", "request.host", a more specific
        "resource.name").  public: whether allUsers and allAuthenticatedUsers count.
        """
        everyone = {"allUsers"} if public else set()
        if principal is not None and principal.email:
            domain = principal.email.rsplit("@", 1)[-1]
            everyone |= set((self._store.peek(SETS, principal.email) or {}).get("sets", ()))
            everyone |= {principal.member, f"domain:{domain}"} | ({"allAuthenticatedUsers"} if public else set())
        for resource in self._with_parents(resources):
            for binding in self._in_force(resource):
                if (
                    self._role_has(binding["role"], permission)
                    and self._among(everyone, binding["members"])
                    and ("condition" not in binding or self._meets(binding["condition"], resources, context or {}))
                ):
                    return True
        return False

    def _among(self, everyone: set[str], members: list[str]) -> bool:
        """Whether one of a caller's identities is a member, directly or as an owner, editor or viewer of a project."""
        if not everyone.isdisjoint(members):
            return True
        for member in members:
            kind, _, project = member.partition(":")
            if kind in _CONVENIENCE:
                for binding in self._in_force(project_resource(project)):
                    if binding["role"] == _CONVENIENCE[kind] and not everyone.isdisjoint(binding["members"]):
                        return True
        return False

    def _with_parents(self, resources: tuple[str, ...]) -> tuple[str, ...]:
        """The resources, and the folders and the organization of projects and folders."""
        found = list(resources)
        for resource in resources:
            if resource.startswith((_PROJECTS, _FOLDERS)):
                found += self.above(resource)
        return tuple(dict.fromkeys(found))

    def above(self, resource: str) -> list[str]:
        """Full names of the folders and the organization that a project or folder is in, nearest first."""
        found: list[str] = []
        while True:
            kind, ident = (resource.removeprefix("//cloudresourcemanager.googleapis.com/").split("/") + [""])[:2]
            if kind == "projects":
                parent = (self._store.peek("projects", ident) or {}).get("parent", {})
                inside = parent.get("id") if parent.get("type") == "folder" else None
            else:
                # A folder that the sandbox does not manage is assumed to be in the organization.
                named = (self._store.peek(FOLDERS_KIND, f"folders/{ident}") or {}).get("parent", "")
                inside = named.removeprefix("folders/") if named.startswith("folders/") else None
            if not inside or folder_resource(inside) in found:
                return [*found, ORGANIZATION]
            resource = folder_resource(inside)
            found.append(resource)
