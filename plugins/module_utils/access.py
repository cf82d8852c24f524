# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
Who gets in: everybody who can use a resource of a deployment without being named.

Looks at the policy of each resource and at all policies that it inherits: Identity-Aware Proxy's own hierarchy, the
project, its folders and its organization. A role that lets its members in is a finding; a role whose members administer
the resource, and so could let themselves in or read its data, is a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import times
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iam import (
    EVERYBODY,
    RESOURCE_MANAGER,
    PolicyTarget,
    bindings_of,
    canonical,
    policy_of,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import secret_path
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.values import FRONT_DOORS

# They change every policy, and so can let themselves in anywhere; editors run code as any service account of the project.
ADMINISTRATORS = frozenset(
    {
        "roles/owner",
        "roles/editor",
        "roles/admin",
        "roles/writer",
        "roles/iam.securityAdmin",
        "roles/resourcemanager.projectIamAdmin",
        "roles/resourcemanager.folderAdmin",
        "roles/resourcemanager.folderIamAdmin",
        "roles/resourcemanager.organizationAdmin",
    }
)
# Frequent roles that open none of the doors below; all other roles are looked up.
HARMLESS = frozenset(
    {
        "roles/viewer",
        "roles/reader",
        "roles/browser",
        "roles/artifactregistry.reader",
        "roles/artifactregistry.writer",
        "roles/billing.admin",
        "roles/billing.user",
        "roles/cloudsql.client",
        "roles/compute.networkUser",
        "roles/compute.viewer",
        "roles/iam.securityReviewer",
        "roles/logging.logWriter",
        "roles/logging.viewer",
        "roles/monitoring.metricWriter",
        "roles/monitoring.viewer",
        "roles/resourcemanager.projectCreator",
        "roles/resourcemanager.projectDeleter",
        "roles/serviceusage.serviceUsageAdmin",
        "roles/serviceusage.serviceUsageConsumer",
        "roles/storage.legacyBucketReader",
    }
)
ALL_POLICIES = ("resourcemanager.projects.setIamPolicy", "resourcemanager.folders.setIamPolicy")


@dataclass(frozen=True)
class Door:
    """
    A way to use a resource.

    use: what its users do, could: what administrators could do, both as "can …". role: the one that the roles of this
    collection grant. direct: predefined roles that exist to let their members in; permissions: of which a role needs one
    to do so. admin: predefined roles of administrators; control: permissions of which a role needs one to be theirs.
    https://cloud.google.com/iam/docs/roles-permissions
    """

    use: str
    could: str
    role: str
    direct: frozenset[str]
    permissions: frozenset[str]
    admin: frozenset[str]
    control: frozenset[str]


IAP = Door(
    use="pass Identity-Aware Proxy",
    could="let themselves in through Identity-Aware Proxy or turn it off",
    role="roles/iap.httpsResourceAccessor",
    direct=frozenset({"roles/iap.httpsResourceAccessor"}),
    permissions=frozenset({"iap.webServiceVersions.accessViaIAP"}),
    admin=frozenset(
        {"roles/iap.admin", "roles/compute.admin", "roles/compute.loadBalancerAdmin", "roles/compute.networkAdmin"}
    ),
    control=frozenset(
        {
            "iap.web.setIamPolicy",
            "iap.webTypes.setIamPolicy",
            "iap.webServices.setIamPolicy",
            "compute.backendServices.update",
        }
    ),
)
INVOKE = Door(
    use="call the server without Identity-Aware Proxy from inside the network",
    could="call the server without Identity-Aware Proxy or replace it",
    role="roles/run.invoker",
    direct=frozenset({"roles/run.invoker", "roles/run.servicesInvoker"}),
    permissions=frozenset({"run.routes.invoke"}),
    admin=frozenset({"roles/run.admin", "roles/run.developer", "roles/run.sourceDeveloper"}),
    control=frozenset({"run.services.setIamPolicy", "run.services.update"}),
)
SECRET = Door(
    use="read the value",
    could="read the secrets",
    role="roles/secretmanager.secretAccessor",
    direct=frozenset({"roles/secretmanager.secretAccessor"}),
    permissions=frozenset({"secretmanager.versions.access"}),
    admin=frozenset({"roles/secretmanager.admin"}),
    control=frozenset({"secretmanager.secrets.setIamPolicy"}),
)
BUCKET = Door(
    use="read or write the artifacts",
    could="read the artifacts",
    role="roles/storage.objectUser",
    direct=frozenset(
        {
            "roles/storage.objectUser",
            "roles/storage.objectAdmin",
            "roles/storage.objectViewer",
            "roles/storage.objectCreator",
            "roles/storage.legacyObjectOwner",
            "roles/storage.legacyObjectReader",
            "roles/storage.legacyBucketWriter",
            "roles/storage.legacyBucketOwner",
        }
    ),
    permissions=frozenset(
        {"storage.objects.get", "storage.objects.create", "storage.objects.update", "storage.objects.delete"}
    ),
    # The account of Cloud Build has its role in every project that uses it.
    admin=frozenset({"roles/storage.admin", "roles/cloudbuild.builds.builder", "roles/run.builder"}),
    control=frozenset({"storage.buckets.setIamPolicy"}),
)
ACCOUNT = Door(
    use="sign in as it",
    could="sign in as the service accounts",
    role="roles/iam.serviceAccountTokenCreator",
    direct=frozenset(
        {
            "roles/iam.serviceAccountTokenCreator",
            "roles/iam.serviceAccountOpenIdTokenCreator",
            "roles/iam.workloadIdentityUser",
        }
    ),
    permissions=frozenset(
        {
            "iam.serviceAccounts.getAccessToken",
            "iam.serviceAccounts.getOpenIdToken",
            "iam.serviceAccounts.implicitDelegation",
            "iam.serviceAccounts.signBlob",
            "iam.serviceAccounts.signJwt",
        }
    ),
    admin=frozenset(
        {"roles/iam.serviceAccountAdmin", "roles/iam.serviceAccountKeyAdmin", "roles/iam.serviceAccountUser"}
    ),
    control=frozenset(
        {"iam.serviceAccounts.setIamPolicy", "iam.serviceAccounts.actAs", "iam.serviceAccountKeys.create"}
    ),
)
KNOWN = (
    HARMLESS
    | ADMINISTRATORS
    | {role for door in (IAP, INVOKE, SECRET, BUCKET, ACCOUNT) for role in door.direct | door.admin}
)
# The domains of the service agents of a project: https://cloud.google.com/iam/docs/service-agents
AGENT = re.compile(
    r"serviceAccount:(?:service-)?(?P<number>\d+)@(?:cloudservices|(?:gcp-sa-[a-z0-9-]+|cloud-ml\.google\.com|cloudcomposer-accounts"
    r"|compute-system|container-engine-robot|containerregistry|dataflow-service-producer-prod|dataproc-accounts"
    r"|gae-api-prod\.google\.com|gcf-admin-robot|gs-project-accounts|serverless-robot-prod|service-networking)\.iam)"
    r"\.gserviceaccount\.com"
)
BASIC = re.compile(r"project(?:Owner|Editor|Viewer):")


@dataclass(frozen=True)
class Guard:
    """
    A resource and who is named for it.

    where: for messages. resource: arguments of policy_of(). named: canonical members. fixer: the role of this collection
    that revokes what it does not grant. path: beginning of its resource.name in IAM conditions, "" if there is none.
    """

    where: str
    door: Door
    resource: tuple[str, ...]
    named: frozenset[str]
    fixer: str
    path: str = ""


@dataclass(frozen=True)
class Level:
    """A policy that applies to a resource; own: it is the one of the resource itself."""

    where: str
    target: PolicyTarget
    permission: str = ""
    """What the caller needs to read it, for notes."""
    own: bool = False
    resource: tuple[str, ...] = ()
    """Arguments of policy_of() for it, if it has any."""


def guards(
    project: str,
    number: str | None,
    backend: str | None,
    service: Mapping[str, Any] | None,
    params: Mapping[str, Any],
) -> list[Guard]:
    """
    The resources of a deployment.

    BACKEND is the name of the backend service, SERVICE the Cloud Run service, both None if unknown. PARAMS: region,
    run_service, members, secret, bucket, logger_service_account, logger_token_creators; None is not checked.
    """
    found: list[Guard] = []
    front_door = FRONT_DOORS[params.get("front_door") or "load_balancer"]
    name, region = params["run_service"], params["region"]
    if backend and params["members"] is not None:
        found.append(
            Guard(
                f"IAP of backend service {backend}",
                IAP,
                ("iap_backend_service", backend, *([region] if front_door == "iap_internal_lb" else ())),
                _canonical(params["members"]),
                front_door,
            )
        )
    if service and front_door == "iap_cloud_run" and params["members"] is not None:
        where, resource = f"IAP of Cloud Run service {name}", ("iap_run_service", name, region)
        found.append(Guard(where, IAP, resource, _canonical(params["members"]), front_door))
    account = lookup(service, "template.serviceAccount") if service else None
    if service:
        found.append(
            Guard(
                f"Cloud Run service {params['run_service']}",
                INVOKE,
                ("run_service", params["run_service"], params["region"]),
                _canonical([f"serviceAccount:service-{number}@gcp-sa-iap.iam.gserviceaccount.com"]),
                front_door,
            )
        )
    server = _canonical([f"serviceAccount:{account}"])
    for path in _secrets(project, service, params["secret"]):
        owner, name = path.split("/")[1], path.rpartition("/")[2]
        shown = number if owner == project and number else owner
        found.append(
            Guard(f"secret {name}", SECRET, ("secret", path), server, "cloudrun", f"projects/{shown}/secrets/{name}")
        )
    if params["bucket"] and account:
        name = params["bucket"].removeprefix("gs://").partition("/")[0]
        found.append(
            Guard(f"bucket {name}", BUCKET, ("bucket", name), server, "cloudrun", f"projects/_/buckets/{name}")
        )
    if account and account.endswith(".iam.gserviceaccount.com"):
        found.append(Guard(f"service account {account}", ACCOUNT, ("service_account", account), server, "cloudrun"))
    if (logger := params["logger_service_account"]) and params["logger_token_creators"] is not None:
        creators = _canonical(params["logger_token_creators"])
        found.append(Guard(f"service account {logger}", ACCOUNT, ("service_account", logger), creators, front_door))
    return found


def _canonical(members: Iterable[str]) -> frozenset[str]:
    return frozenset(map(canonical, members))


def _secrets(project: str, service: Mapping[str, Any] | None, password: str | None) -> list[str]:
    """Paths of the password's secret and of the others that the Cloud Run service reads."""
    paths = [secret_path(project, password, "secret")] if password and service else []
    for container in lookup(service, "template.containers") or () if password else ():
        for entry in container.get("env") or ():
            if name := lookup(entry, "valueSource.secretKeyRef.secret"):
                paths.append(f"projects/{project}/secrets/{name.rpartition('/')[2]}")
    return list(dict.fromkeys(paths))


@dataclass
class Access:
    """
    Collects who gets in.

    accepted: canonical members that are never reported. policies: those that have been read already, by the arguments of
    policy_of().
    """

    task: Task
    accepted: frozenset[str] = frozenset()
    policies: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    findings: list[dict[str, str]] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.accepted = _canonical(self.accepted)
        self._read: dict[str, dict[str, Any]] = {}
        self._permissions: dict[str, frozenset[str]] = {}
        # (level, role, condition) -> members, and what they can or could do with which resources.
        self._direct: dict[tuple[str, str, str], tuple[list[str], list[str], str, str]] = {}
        self._could: dict[tuple[str, str, str], tuple[list[str], list[str]]] = {}

    def examine(self, resources: list[Guard], known: Iterable[Mapping[str, str]] = ()) -> None:
        """Find everybody who gets in; members of KNOWN findings about the same resource are not reported again."""
        told = list(known)
        above = list(self._above()) if resources else []
        for guard in resources:
            for level in [self._own(guard), *self._web(guard), *above]:
                for binding in bindings_of(self._policy(level)):
                    self._look(guard, level, binding, told)
        self._report()

    # ---- the policies

    def _own(self, guard: Guard) -> Level:
        return Level(guard.where, policy_of(self.task, *guard.resource), own=True, resource=guard.resource)

    def _web(self, guard: Guard) -> Iterator[Level]:
        """https://cloud.google.com/iap/docs/managing-access#resources"""
        number = self.task.project_number
        if guard.door is IAP and number:
            base = f"https://iap.googleapis.com/v1/projects/{number}/iap_web"
            if guard.resource[0] == "iap_run_service":
                region = guard.resource[2]
                where, web_type = f"IAP of all Cloud Run services in {region}", f"cloud_run-{region}"
            elif len(guard.resource) > 2:
                region = guard.resource[2]
                where, web_type = f"IAP of all backend services in {region}", f"compute-{region}"
            else:
                where, web_type = "IAP of all backend services", "compute"
            yield Level(where, PolicyTarget("", f"{base}/{web_type}", "body"), "iap.webTypes.getIamPolicy")
            yield Level("IAP of all web services", PolicyTarget("", base, "body"), "iap.web.getIamPolicy")

    def _above(self) -> Iterator[Level]:
        """The project, its folders and its organization."""
        project = self.task.project
        yield Level(
            f"project {project}",
            policy_of(self.task, "project", project),
            "resourcemanager.projects.getIamPolicy",
            resource=("project", project),
        )
        url = f"{RESOURCE_MANAGER}/v1/projects/{project}:getAncestry"
        try:
            chain = self.task.client.post(url, {}, idempotent=True).get("ancestor") or []
        except ApiError as error:
            self._unread(
                f"the folders and the organization of project {project}", error, "resourcemanager.projects.get"
            )
            return
        for ancestor in chain:
            kind, ident = lookup(ancestor, "resourceId.type"), lookup(ancestor, "resourceId.id")
            if kind in ("folder", "organization"):
                target = PolicyTarget("", f"{RESOURCE_MANAGER}/v3/{kind}s/{ident}", "body")
                yield Level(f"{kind} {ident}", target, f"resourcemanager.{kind}s.getIamPolicy")

    def _policy(self, level: Level) -> dict[str, Any]:
        """The policy of a level; a note if it cannot be read, and empty then."""
        if level.resource in self.policies:
            return self.policies[level.resource]
        key = level.target.url or ""
        if key not in self._read:
            try:
                self._read[key] = level.target.read(self.task)
            except ApiError as error:
                self._read[key] = {}
                if error.status != 404:
                    self._unread(level.where, error, level.permission)
        return self._read[key]

    def _unread(self, where: str, error: ApiError, permission: str) -> None:
        needs = f"; to see them, grant {self.task.client.principal} {permission}" if permission else ""
        example = ", for example with roles/iam.securityReviewer" if permission.endswith("getIamPolicy") else ""
        self.notes.append(
            {
                "where": where,
                "note": f"who gets in through this policy is unknown, because it cannot be read: {error.message}{needs}{example}",
            }
        )

    # ---- the bindings

    def _look(self, guard: Guard, level: Level, binding: Mapping[str, Any], told: list[Mapping[str, str]]) -> None:
        condition = binding.get("condition") or {}
        if excludes(str(condition.get("expression", "")), guard.path):
            return
        role, title = str(binding.get("role")), str(condition.get("title", ""))
        members = [member for member in binding.get("members") or () if self._counts(member, role, guard)]
        if level.own:
            members = [
                member
                for member in members
                if not any(entry["where"] == guard.where and member in entry["problem"].split() for entry in told)
            ]
        if not members:
            return
        everybody = [member for member in members if member in EVERYBODY]
        basic = [member for member in members if BASIC.match(member)]
        others = [member for member in members if member not in everybody and member not in basic]
        way = self._way(role, guard.door)
        if way == "direct":
            self._add_direct(guard, level, role, title, everybody + others)
            self._add_could(guard, level, role, title, basic)
        elif way == "admin":
            self._add_direct(guard, level, role, title, everybody)
            self._add_could(guard, level, role, title, basic + others)
        elif level.own:
            self._add_direct(guard, level, role, title, everybody)

    def _counts(self, member: str, role: str, guard: Guard) -> bool:
        """Whether a member is somebody who is not named, accepted or a service agent of Google in this project."""
        member = canonical(member)
        if member.startswith("deleted:") or member in guard.named | self.accepted:
            return False
        kind, _separator, address = member.partition(":")
        if kind in ("user", "group") and f"domain:{address.rpartition('@')[2]}" in guard.named | self.accepted:
            return False
        agent = AGENT.fullmatch(member)
        return not agent or agent["number"] != self.task.project_number and not role.endswith("erviceAgent")

    def _way(self, role: str, door: Door) -> str:
        """Whether a role is a "direct" way through a door, an "admin" way, or none ("")."""
        if role in door.direct:
            return "direct"
        if role in ADMINISTRATORS or role in door.admin:
            return "admin"
        if role in KNOWN:
            return ""
        permissions = self._included(role)
        if permissions & door.permissions:
            # A role that also administers is not granted in order to use it.
            return "admin" if permissions & door.control else "direct"
        return "admin" if permissions & (door.control | set(ALL_POLICIES)) else ""

    def _included(self, role: str) -> frozenset[str]:
        """The permissions of a role; a note if it cannot be read, and none then."""
        if role not in self._permissions:
            try:
                body = self.task.client.get(f"https://iam.googleapis.com/v1/{role}")
                permissions = () if body.get("deleted") else body.get("includedPermissions") or ()
            except ApiError as error:
                permissions = ()
                needs = (
                    ""
                    if role.startswith("roles/")
                    else f"; to see it, grant {self.task.client.principal} iam.roles.get"
                )
                self.notes.append(
                    {
                        "where": role,
                        "note": f"whether this role lets its members in is unknown, because it cannot be read: {error.message}{needs}",
                    }
                )
            self._permissions[role] = frozenset(permissions)
        return self._permissions[role]

    # ---- the report

    def _add_direct(self, guard: Guard, level: Level, role: str, title: str, members: list[str]) -> None:
        if not members:
            return
        fix = "revoke the role, or accept the members with mlflow_accepted_members"
        if level.own and (role == guard.door.role or EVERYBODY.issuperset(members)):
            fix = f"run mlops.mlflow_gcp.site again (role {guard.fixer})"
        key = (level.where, role, title if level.own else f"{title}\n{guard.door.use}")
        held, resources, _use, _fix = self._direct.setdefault(key, ([], [], guard.door.use, fix))
        held += [member for member in members if member not in held]
        if not level.own:
            resources.append(guard.where)

    def _add_could(self, guard: Guard, level: Level, role: str, title: str, members: list[str]) -> None:
        if members:
            held, could = self._could.setdefault((level.where, role, title), ([], []))
            held += [member for member in members if member not in held]
            could += [guard.door.could] if guard.door.could not in could else []

    def _report(self) -> None:
        for (where, role, key), (held, resources, use, fix) in self._direct.items():
            title = key.partition("\n")[0]
            problem = (
                f"{', '.join(sorted(held))} {'has' if len(held) == 1 else 'have'} {role}{_under(title)}, and so can {use}"
                f"{' (' + ', '.join(resources) + ')' if resources else ''}, but {'is' if len(held) == 1 else 'are'} not "
                f"among the members who are named"
            )
            self.findings.append({"where": where, "problem": problem, "fix": fix})
        for (where, role, title), (held, could) in self._could.items():
            note = f"{', '.join(sorted(held))} could {', '.join(could)} ({role}{_under(title)})"
            self.notes.append({"where": where, "note": note})


def _under(title: str) -> str:
    return f" under the condition {title!r}" if title else ""


_TERM = re.compile(
    r"""[(\s]*resource\.name(?:\.startsWith\(["'](?P<prefix>[^"']*)["']\)|\s*==\s*["'](?P<name>[^"']*)["'])[)\s]*"""
)
_EXPIRY = re.compile(r"""[(\s]*request\.time\s*<=?\s*timestamp\(["'](?P<time>[^"']+)["']\)[)\s]*""")


def excludes(expression: str, path: str) -> bool:
    """
    Whether an IAM condition is certainly never true for the resource whose resource.name begins with PATH.

    Understands terms joined by && that compare the name, or say until when the condition holds; whatever it does not
    understand may be true. https://cloud.google.com/iam/docs/conditions-attribute-reference
    """
    if re.search(r"\|\||\?|!", expression):
        return False
    return any(_expired(term) or bool(path) and _names_another(term, path) for term in expression.split("&&"))


def _expired(term: str) -> bool:
    found = _EXPIRY.fullmatch(term)
    try:
        return found is not None and times.moment(found["time"]) < times.now()
    except ValueError:
        return False


def _names_another(term: str, path: str) -> bool:
    found = _TERM.fullmatch(term)
    if not found:
        return False
    if found["prefix"] is not None:
        return not (found["prefix"].startswith(path) or path.startswith(found["prefix"]))
    return found["name"] != path and not found["name"].startswith(f"{path}/")
