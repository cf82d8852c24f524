#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_doctor
short_description: Find configuration errors in an MLflow deployment
description:
  - Checks the path of a request - forwarding rule, HTTPS proxy and certificate, URL map, backend service with
    Identity-Aware Proxy (IAP), serverless network endpoint group, Cloud Run service - and of its data - VPC, private
    services access, Cloud SQL instance, secret, bucket - including the roles that each step requires.
  - Fails if there is any problem, and lists all problems, each with the resource and what to do.
  - Also finds everybody who gets in without being named, through roles on these resources, on Identity-Aware Proxy's own
    hierarchy, on the project, its folders and its organization, also under an IAM condition. A role that lets its members
    in is a problem; the members of a role that could let themselves in or read the data, such as owners, are a note.
  - Only reads, with about thirty requests; a resource that it may not read is a problem as well, but a policy above the
    project, or of a custom role, that it may not read is a note.
  - A role is recognised if it is granted on the resource itself or on the project, without a condition. Roles granted on
    a folder or the organization, or to a group, are not recognised.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
attributes:
  diff_mode:
    description: There is no diff, because nothing is changed.
    support: none
options:
  region:
    description: Region of the Cloud Run service and of its network endpoint group.
    type: str
    required: true
  domain:
    description: Domain name of MLflow.
    type: str
    required: true
  extra_domains:
    description: Additional domain names of MLflow.
    type: list
    elements: str
    default: []
  lb_name:
    description: Prefix of the names of the load balancer's forwarding rules.
    type: str
    default: mlflow-lb
  run_service:
    description: Name of the Cloud Run service.
    type: str
    default: mlflow
  sql_instance:
    description: Name of the Cloud SQL instance. Not checked without this option.
    type: str
  secret:
    description: Name of the secret with the database password, or C(projects/PROJECT/secrets/NAME). Not checked without this option.
    type: str
  bucket:
    description: Name of the bucket for artifacts, with or without C(gs://). Not checked without this option.
    type: str
  network:
    description: Name, path or link of the VPC network that connects Cloud Run with Cloud SQL. Not checked without this option.
    type: str
  members:
    description:
      - All members that IAP must give access, such as V(user:jane@example.com), including the logger service account. Not
        checked without this option.
    type: list
    elements: str
  logger:
    description:
      - E-mail address of the service account for programs. Who may sign in as it is not checked without this option.
    type: str
  logger_token_creators:
    description: All members who may sign in as O(logger).
    type: list
    elements: str
  accepted_members:
    description:
      - Members who are not reported, although they get in without being named, such as V(group:platform@example.com).
      - A member is accepted for all resources and roles, not for a single grant. V(domain:example.com) also accepts the
        users and groups of that domain.
    type: list
    elements: str
    default: []
seealso:
  - module: mlops.mlflow_gcp.mlflow_probe
"""

EXAMPLES = r"""
- name: Check the deployment
  mlops.mlflow_gcp.mlflow_doctor:
    project: my-project
    auth_kind: application
    region: europe-west2
    domain: mlflow.example.com
    run_service: mlflow
    sql_instance: mlflow
    secret: mlflow-db-password
    bucket: my-project-mlflow-artifacts
    network: mlflow
    members:
      - group:data-science@example.com
      - serviceAccount:mlflow-logger@my-project.iam.gserviceaccount.com
"""

RETURN = r"""
findings:
  description: The problems, in the order of a request's path; also returned on failure.
  returned: always
  type: list
  elements: dict
  contains:
    where:
      description: The resource.
      type: str
      sample: Cloud Run service mlflow
    problem:
      description: The problem.
      type: str
      sample: service-123456789012@gcp-sa-iap.iam.gserviceaccount.com (the IAP service agent) does not have roles/run.invoker
    fix:
      description: What to do.
      type: str
      sample: run mlops.mlflow_gcp.site again (role iap_lb)
notes:
  description: Who could let themselves in or read the data, and what could not be found out; also returned on failure.
  returned: always
  type: list
  elements: str
  sample:
    - "project my-project: user:jane@example.com could read the secrets (roles/secretmanager.admin)"
checked:
  description: The resources that were read.
  returned: always
  type: list
  elements: str
  sample: [forwarding rule mlflow-lb-https, HTTPS proxy mlflow-lb-https]
"""

import re
from collections.abc import Callable
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import access, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import full_path, lookup, relative
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iam import canonical, members_of, policy_of
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import BASE as SECRETS
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import secret_path

COMPUTE = "https://compute.googleapis.com/compute/v1/"
PEERING = "servicenetworking-googleapis-com"
# Roles that include the required role, except roles/owner, which nobody should rely on here.
ROLES = {
    "roles/run.invoker": ("roles/run.invoker", "roles/run.servicesInvoker", "roles/run.admin"),
    "roles/secretmanager.secretAccessor": ("roles/secretmanager.secretAccessor", "roles/secretmanager.admin"),
    "roles/storage.objectUser": ("roles/storage.objectUser", "roles/storage.objectAdmin", "roles/storage.admin"),
    "roles/iam.serviceAccountTokenCreator": ("roles/iam.serviceAccountTokenCreator",),
    "roles/cloudsql.client": ("roles/cloudsql.client", "roles/cloudsql.editor", "roles/cloudsql.admin"),
}


def rerun(role: str) -> str:
    """The advice to run the playbook again, for ROLE of the collection."""
    return f"run mlops.mlflow_gcp.site again (role {role})"


def short(link: Any) -> str:
    """The last part of a link or path."""
    return str(link or "").rpartition("/")[2]


def covers(pattern: str, domain: str) -> bool:
    """PATTERN, a host name of a certificate or URL map, perhaps with a wildcard, matches DOMAIN."""
    pattern = pattern.lower().removesuffix(".")
    return pattern in (domain, "*") or pattern.startswith("*.") and domain.partition(".")[2] == pattern[2:]


def has_role(policy: dict[str, Any], role: str, member: str) -> bool:
    """Whether MEMBER has ROLE, or a role that includes it, in POLICY."""
    return any(member in members_of(policy, name) for name in ROLES[role])


class Doctor:
    """Reads the deployment and collects the problems."""

    def __init__(self, task: Task) -> None:
        self.task, self.params = task, task.params
        self.domain, *self.extra_domains = (
            name.lower().removesuffix(".") for name in (self.params["domain"], *self.params["extra_domains"])
        )
        self.findings: list[dict[str, str]] = []
        self.notes: list[str] = []
        self.policies: dict[tuple[str, ...], dict[str, Any]] = {}
        self.checked: list[str] = []
        self._project_policy: dict[str, Any] | None = None
        self.network = self.network_path(self.params["network"]) if self.params["network"] else None

    def note(self, where: str, problem: str, fix: str) -> None:
        """Add a problem of resource WHERE."""
        self.findings.append({"where": where, "problem": " ".join(problem.split()), "fix": fix})

    def look(self, where: str, call: Callable[[], Any], fix: str) -> Any:
        """The result of CALL; None, and a problem with FIX, if there is none."""
        self.checked.append(where)
        try:
            with self.task.client.action(f"read {where}"):
                return call()
        except ApiError as error:
            if error.status == 404:
                self.note(where, "does not exist", fix)
            else:
                self.note(
                    where,
                    f"cannot be read: {error.message} ({error.status} {error.reason})",
                    error.hint or "see Google's message",
                )
            return None

    def get(self, where: str, url: str, fix: str) -> Any:
        """The resource at URL, as look()."""
        return self.look(where, lambda: self.task.client.get(url), fix)

    def link(self, where: str, link: str | None, fix: str) -> Any:
        """The resource of compute at LINK, as look()."""
        return self.get(where, COMPUTE + relative(link), fix)

    def examine(self) -> None:
        """Check everything."""
        backend = self.front_door()
        if backend:
            self.identity_aware_proxy(backend)
            self.endpoint_groups(backend)
        service = self.run_service()
        if service:
            self.invoker()
            account = f"serviceAccount:{lookup(service, 'template.serviceAccount')}"
            self.secret(service, account)
            self.bucket(account)
            self.signer(account)
        self.database(service)
        if self.network:
            self.peering()
        self.access((backend or {}).get("name"), service)

    def access(self, backend: str | None, service: dict[str, Any] | None) -> None:
        """Find everybody who gets in without being named."""
        try:
            found = access.examine(self.task, backend, service, self.findings, self.policies)
        except ApiError:
            return  # the number of the project cannot be read, which invoker() has reported
        self.findings += found.findings
        self.notes += found.notes

    def front_door(self) -> dict[str, Any] | None:
        """Check the path from the forwarding rule to the backend service, which is returned."""
        fix, prefix = rerun("iap_lb"), self.params["lb_name"]
        where = f"load balancer {prefix}"
        url = f"{COMPUTE}projects/{self.task.project}/global/forwardingRules"
        rules = self.look(where, lambda: list(self.task.client.items(url, "items")), fix)
        if rules is None:
            return None
        rules = [
            rule
            for rule in rules
            if rule["name"].startswith(prefix) and "/targetHttpsProxies/" in rule.get("target", "")
        ]
        rule = next((rule for rule in rules if rule.get("portRange") in ("443-443", "443")), None)
        if not rule:
            self.note(where, "no forwarding rule with this prefix directs port 443 to an HTTPS proxy", fix)
            return None
        self.checked.append(f"forwarding rule {rule['name']}")
        proxy = self.link(f"HTTPS proxy {short(rule['target'])}", rule["target"], fix)
        if not proxy:
            return None
        self.certificates(proxy, rule)
        url_map = self.link(f"URL map {short(proxy.get('urlMap'))}", proxy.get("urlMap", ""), fix)
        if not url_map:
            return None
        link = self.route(url_map)
        if "/backendServices/" not in str(link):
            self.note(f"URL map {url_map['name']}", f"does not direct {self.domain} to a backend service", fix)
            return None
        backend = self.link(f"backend service {short(link)}", link, fix)
        if backend and backend.get("loadBalancingScheme") != rule.get("loadBalancingScheme"):
            self.note(
                f"backend service {backend['name']}",
                f"has scheme {backend.get('loadBalancingScheme')}, its forwarding rule {rule.get('loadBalancingScheme')}",
                f"delete the one with the wrong scheme and {fix}",
            )
        return backend

    def certificates(self, proxy: dict[str, Any], rule: dict[str, Any]) -> None:
        """Check that the certificates of the HTTPS proxy are active and cover all domains."""
        if proxy.get("certificateMap"):
            return
        where, fix, missing = f"HTTPS proxy {proxy['name']}", rerun("iap_lb"), [self.domain, *self.extra_domains]
        for link in proxy.get("sslCertificates") or ():
            certificate = self.link(f"certificate {short(link)}", link, fix)
            managed = (certificate or {}).get("managed") or {}
            names = managed.get("domains") or (certificate or {}).get("subjectAlternativeNames") or ()
            covered = [domain for domain in missing if any(covers(name, domain) for name in names)]
            if not covered:
                continue
            missing = [domain for domain in missing if domain not in covered]
            if managed and managed.get("status", "ACTIVE") != "ACTIVE":
                states = ", ".join(f"{name} {state}" for name, state in (managed.get("domainStatus") or {}).items())
                self.note(
                    f"certificate {certificate['name']}",
                    f"is {managed['status']}, not ACTIVE" + (f" ({states})" if states else ""),
                    f"make {', '.join(covered)} resolve to {rule.get('IPAddress')} and wait for up to an hour",
                )
        if missing:
            self.note(where, f"has no certificate for {', '.join(missing)}", fix)

    def route(self, url_map: dict[str, Any]) -> str | None:
        """Link of the backend service to which the URL map directs the root of the domain."""
        matchers = {matcher["name"]: matcher for matcher in url_map.get("pathMatchers") or ()}
        for rule in url_map.get("hostRules") or ():
            if any(covers(host, self.domain) for host in rule.get("hosts") or ()):
                return matchers.get(rule.get("pathMatcher"), {}).get("defaultService")
        return url_map.get("defaultService")

    def identity_aware_proxy(self, backend: dict[str, Any]) -> None:
        """Check that IAP is enabled for exactly the given members, and requests are logged."""
        where, fix = f"backend service {backend['name']}", rerun("iap_lb")
        if not lookup(backend, "iap.enabled"):
            self.note(where, "Identity-Aware Proxy (IAP) is disabled, so users need not sign in", fix)
        if not lookup(backend, "logConfig.enable"):
            self.note(where, "requests are not logged", fix)
        wanted = self.params["members"]
        if wanted is None:
            return
        place = f"IAP of {where}"
        policy = self.look(
            place, lambda: policy_of(self.task, "iap_backend_service", backend["name"]).read(self.task), fix
        )
        if policy is None:
            return
        self.policies["iap_backend_service", backend["name"]] = policy
        role = "roles/iap.httpsResourceAccessor"
        # Google returns addresses in lower case.
        wanted, current = (
            {canonical(member): member for member in group} for group in (wanted, members_of(policy, role))
        )
        for member in [wanted[key] for key in wanted if key not in current]:
            self.note(place, f"{member} does not have {role}", fix)
        for member in [current[key] for key in current if key not in wanted]:
            self.note(place, f"{member} has {role}, but is not one of the given members", fix)

    def endpoint_groups(self, backend: dict[str, Any]) -> None:
        """Check that the network endpoint groups direct requests to the Cloud Run service."""
        fix, groups = rerun("iap_lb"), [entry.get("group", "") for entry in backend.get("backends") or ()]
        if not groups:
            self.note(f"backend service {backend['name']}", "has no serverless network endpoint group", fix)
        for group in groups:
            where = f"serverless NEG {short(group)}"
            neg = self.link(where, group, fix)
            if not neg:
                continue
            target = neg.get("cloudRun") or {}
            region, service = short(neg.get("region")), self.params["run_service"]
            if (
                neg.get("networkEndpointType") != "SERVERLESS"
                or target.get("service") != service
                or region != self.params["region"]
            ):
                actual = (
                    f"Cloud Run service {target['service']!r} in {region}"
                    if target.get("service")
                    else "no Cloud Run service"
                )
                self.note(
                    where,
                    f"directs requests to {actual} instead of {service!r} in {self.params['region']}",
                    f"detach it from backend service {backend['name']}, delete it and {fix}",
                )
            elif target.get("tag") or target.get("urlMask"):
                self.note(
                    where,
                    f"directs requests only to a part of the Cloud Run service ({target})",
                    f"detach it from backend service {backend['name']}, delete it and {fix}",
                )

    def run_service(self) -> dict[str, Any] | None:
        """Check the Cloud Run service, which is returned."""
        name, fix = self.params["run_service"], rerun("cloudrun")
        where = f"Cloud Run service {name}"
        path = f"projects/{self.task.project}/locations/{self.params['region']}/services/{name}"
        service = self.get(where, f"https://run.googleapis.com/v2/{path}", fix)
        if not service:
            return None
        state = lookup(service, "terminalCondition.state")
        if state not in (None, "CONDITION_SUCCEEDED"):
            condition = service["terminalCondition"]
            self.note(
                where,
                f"is not ready: {condition.get('message') or condition.get('reason') or state}",
                f"see the log of its newest revision, fix the cause and {fix}",
            )
        ingress = service.get("ingress")
        if ingress == "INGRESS_TRAFFIC_ALL":
            self.note(where, "can be reached without the load balancer and IAP (ingress INGRESS_TRAFFIC_ALL)", fix)
        elif ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY":
            self.note(where, "cannot be reached by the load balancer (ingress INGRESS_TRAFFIC_INTERNAL_ONLY)", fix)
        if service.get("invokerIamDisabled"):
            self.note(where, "accepts requests from callers without roles/run.invoker (invokerIamDisabled)", fix)
        if not lookup(service, "template.serviceAccount"):
            self.note(where, "uses the default service account of Compute Engine instead of its own", fix)
        access = lookup(service, "template.vpcAccess") or {}
        attached = [entry.get("network") for entry in access.get("networkInterfaces") or ()]
        if (
            self.network
            and not access.get("connector")
            and self.network not in map(self.network_path, filter(None, attached))
        ):
            actual = (
                f"attached to network {', '.join(map(str, attached))}" if attached else "attached to no VPC network"
            )
            self.note(where, f"is {actual} instead of {self.network}, and cannot reach the database", fix)
        return service

    def network_path(self, link: Any) -> str:
        """projects/ID/global/networks/NAME for a network as a name, path or link, with project ID or number."""
        path = full_path(self.task.project, "global/networks", str(link))
        if re.match(r"projects/\d+/", path) and path.split("/")[1] == self.task.project_number:
            path = re.sub(r"\d+", self.task.project, path, count=1)
        return path

    def invoker(self) -> None:
        """Check that IAP may call the Cloud Run service."""
        try:
            number = self.task.project_number
        except ApiError as error:
            self.note(f"project {self.task.project}", f"cannot be read: {error.message}", error.hint)
            return
        if number is None:
            return  # check mode has warned that the project cannot be read yet
        service = self.params["run_service"]
        self.role(
            f"Cloud Run service {service}",
            ("run_service", service, self.params["region"]),
            "roles/run.invoker",
            f"serviceAccount:service-{number}@gcp-sa-iap.iam.gserviceaccount.com",
            "the IAP service agent",
            "iap_lb",
        )

    def role(self, where: str, resource: tuple[str, ...], role: str, member: str, what: str, fixer: str) -> None:
        """Check that MEMBER, which is WHAT, has ROLE on the resource or on the project."""
        policy = self.look(
            f"IAM policy of {where}", lambda: policy_of(self.task, *resource).read(self.task), rerun(fixer)
        )
        if policy is None:
            return
        self.policies[resource] = policy
        if has_role(policy, role, member) or has_role(self.project_policy(), role, member):
            return
        self.note(where, f"{member.partition(':')[2]} ({what}) does not have {role}", rerun(fixer))

    def project_policy(self) -> dict[str, Any]:
        """The IAM policy of the project; empty if it may not be read."""
        if self._project_policy is None:
            project = self.task.project
            found = self.look(
                f"IAM policy of project {project}", lambda: policy_of(self.task, "project", project).read(self.task), ""
            )
            self._project_policy = self.policies["project", project] = found or {}
        return self._project_policy

    def environment(self, service: dict[str, Any]) -> list[dict[str, Any]]:
        """The environment variables of a Cloud Run service."""
        return [
            entry for container in lookup(service, "template.containers") or () for entry in container.get("env") or ()
        ]

    def secret(self, service: dict[str, Any], account: str) -> None:
        """Check that the Cloud Run service can read the database password."""
        if not self.params["secret"]:
            return
        path = secret_path(self.task.project, self.params["secret"], "secret")
        where = f"secret {short(path)}"
        references = [lookup(entry, "valueSource.secretKeyRef") for entry in self.environment(service)]
        reference = next((found for found in references if found and short(found.get("secret")) == short(path)), None)
        if reference is None:
            self.note(
                f"Cloud Run service {self.params['run_service']}",
                f"has no environment variable from {where}, and so no password",
                rerun("cloudrun"),
            )
        else:
            number = reference.get("version") or "latest"
            version = self.get(f"{where} version {number}", f"{SECRETS}{path}/versions/{number}", rerun("cloudsql"))
            if version and version.get("state") != "ENABLED":
                self.note(
                    where, f"version {number}, which Cloud Run uses, is {version.get('state')}", rerun("cloudsql")
                )
        self.role(where, ("secret", path), "roles/secretmanager.secretAccessor", account, "the server", "cloudrun")

    def bucket(self, account: str) -> None:
        """Check that the server may use the bucket."""
        if not self.params["bucket"]:
            return
        name = self.params["bucket"].removeprefix("gs://").partition("/")[0]
        self.role(f"bucket {name}", ("bucket", name), "roles/storage.objectUser", account, "the server", "cloudrun")

    def signer(self, account: str) -> None:
        """Check that the server may sign the URLs for direct uploads to and downloads from the bucket."""
        email = account.partition(":")[2]
        if self.params["bucket"] and email.endswith(".iam.gserviceaccount.com"):
            self.role(
                f"service account {email}",
                ("service_account", email),
                "roles/iam.serviceAccountTokenCreator",
                account,
                "the server, which signs as itself",
                "cloudrun",
            )

    def database(self, service: dict[str, Any] | None) -> None:
        """Check the Cloud SQL instance, and that the Cloud Run service connects to it."""
        name, fix = self.params["sql_instance"], rerun("cloudsql")
        if not name:
            return
        where = f"Cloud SQL instance {name}"
        instance = self.get(
            where, f"https://sqladmin.googleapis.com/v1/projects/{self.task.project}/instances/{name}", fix
        )
        if service:
            account, policy = lookup(service, "template.serviceAccount"), self.project_policy()
            if policy and not has_role(policy, "roles/cloudsql.client", f"serviceAccount:{account}"):
                self.note(
                    f"project {self.task.project}",
                    f"{account} (the server) does not have roles/cloudsql.client",
                    rerun("cloudrun"),
                )
        if not instance:
            return
        if lookup(instance, "settings.activationPolicy") == "NEVER":
            self.note(where, "is stopped", f"gcloud sql instances patch {name} --activation-policy=ALWAYS")
        elif instance.get("state") != "RUNNABLE":
            self.note(where, f"is {instance.get('state')}, not RUNNABLE", "wait, or check its operations")
        network = lookup(instance, "settings.ipConfiguration.privateNetwork")
        if self.network and (not network or self.network_path(network) != self.network):
            self.note(
                where,
                f"has its private IP address in network {relative(network) or 'none'} instead of {self.network}",
                "the network of an instance cannot be changed: see the role cloudsql",
            )
        private = [entry["ipAddress"] for entry in instance.get("ipAddresses") or () if entry.get("type") == "PRIVATE"]
        if not private:
            self.note(where, "has no private IP address", fix)
        host = next(
            (entry.get("value") for entry in self.environment(service or {}) if entry.get("name") == "MLFLOW_DB_HOST"),
            None,
        )
        if private and host and host not in private:
            self.note(
                f"Cloud Run service {self.params['run_service']}",
                f"MLFLOW_DB_HOST is {host}, but the private IP address of {where} is {private[0]}",
                rerun("cloudrun"),
            )

    def peering(self) -> None:
        """Check the peering of private services access."""
        fix = rerun("network")
        where = f"network {short(self.network)}"
        network = self.get(where, f"{COMPUTE}{self.network}", fix)
        if not network:
            return
        peering = next((entry for entry in network.get("peerings") or () if entry.get("name") == PEERING), None)
        if peering is None:
            self.note(
                where,
                f"the peering {PEERING} of private services access does not exist, so Cloud Run cannot reach the database",
                fix,
            )
        elif peering.get("state") != "ACTIVE":
            self.note(
                where,
                f"the peering {PEERING} of private services access is {peering.get('state')}: {peering.get('stateDetails', '')}",
                fix,
            )


def diagnose(task: Task) -> dict[str, Any]:
    """The work of the module."""
    doctor = Doctor(task)
    doctor.examine()
    if doctor.findings:
        summary = "; ".join(
            f"{number}) {entry['where']}: {entry['problem']} - {entry['fix']}"
            for number, entry in enumerate(doctor.findings, 1)
        )
        count = f"{len(doctor.findings)} findings" if len(doctor.findings) > 1 else "1 finding"
        task.module.fail_json(
            msg=f"{count}: {summary}", findings=doctor.findings, notes=doctor.notes, checked=doctor.checked
        )
    return {"changed": False, "findings": [], "notes": doctor.notes, "checked": doctor.checked}


def main() -> None:
    run(
        diagnose,
        argument_spec={
            "region": {"type": "str", "required": True, "kind": values.REGION},
            "domain": {"type": "str", "required": True, "kind": values.DOMAIN},
            "extra_domains": {"type": "list", "elements": "str", "default": [], "kind": values.DOMAINS},
            "lb_name": {"type": "str", "default": "mlflow-lb"},
            "run_service": {"type": "str", "default": "mlflow"},
            "sql_instance": {"type": "str"},
            "secret": {"type": "str", "no_log": False},
            "bucket": {"type": "str"},
            "network": {"type": "str"},
            "members": {"type": "list", "elements": "str"},
            "logger": {"type": "str", "kind": values.SERVICE_ACCOUNT_EMAIL},
            "logger_token_creators": {"type": "list", "elements": "str", "no_log": False},
            "accepted_members": {"type": "list", "elements": "str", "default": [], "kind": values.ANY_MEMBERS},
        },
    )


if __name__ == "__main__":
    main()
