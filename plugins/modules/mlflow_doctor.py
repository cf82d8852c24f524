#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_doctor
short_description: Find what is wrong with the wiring of an MLflow deployment
description:
  - Follows the way of a request - forwarding rule, HTTPS proxy and certificate, URL map, backend service with
    Identity-Aware Proxy (IAP), serverless network endpoint group, Cloud Run service - and of its data - VPC, private
    services access, Cloud SQL instance, secret, bucket - with the roles that each step needs.
  - Fails when anything is wrong, and lists everything that is, each with the place and what to do.
  - It only reads, some twenty requests; what it may not read is a finding too.
  - A role counts when it is granted on the resource itself or on the project, without a condition. What a folder, the
    organisation or a group grants is not seen.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
attributes:
  diff_mode:
    description: There is nothing to show, nothing is changed.
    support: none
options:
  region:
    description: Region of the Cloud Run service and of its network endpoint group.
    type: str
    required: true
  domain:
    description: Domain name that MLflow is reached by.
    type: str
    required: true
  extra_domains:
    description: More domain names that it is reached by.
    type: list
    elements: str
    default: []
  lb_name:
    description: How the names of the load balancer's forwarding rules begin.
    type: str
    default: mlflow-lb
  run_service:
    description: Name of the Cloud Run service.
    type: str
    default: mlflow
  sql_instance:
    description: Name of the Cloud SQL instance; not looked at when this is left out.
    type: str
  secret:
    description: Name of the secret with the database's password, short or as C(projects/PROJECT/secrets/NAME); not looked at when this is left out.
    type: str
  bucket:
    description: Name of the bucket of the artifacts, with or without C(gs://); not looked at when this is left out.
    type: str
  network:
    description: Name, path or link of the VPC network that Cloud Run and Cloud SQL meet in; not looked at when this is left out.
    type: str
  members:
    description:
      - Exactly those who shall be let in by IAP, such as V(user:jane@example.com), the logger service account included;
        not looked at when this is left out.
    type: list
    elements: str
seealso:
  - module: mlops.mlflow_gcp.mlflow_probe
"""

EXAMPLES = r"""
- name: Everything is wired as it should be
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
  description: What is wrong, in the order of a request's way; returned by a failure too.
  returned: always
  type: list
  elements: dict
  contains:
    where:
      description: The resource.
      type: str
      sample: Cloud Run service mlflow
    problem:
      description: What is wrong with it.
      type: str
      sample: service-123456789012@gcp-sa-iap.iam.gserviceaccount.com (the IAP service agent) does not hold roles/run.invoker
    fix:
      description: What to do.
      type: str
      sample: run mlops.mlflow_gcp.site again (role iap_lb)
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

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import full_path, lookup, relative
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iam import members_of, policy_of
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import BASE as SECRETS
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import secret_path

COMPUTE = "https://compute.googleapis.com/compute/v1/"
PEERING = "servicenetworking-googleapis-com"
# What contains the role, besides roles/owner, which nobody should rely on here.
ROLES = {
    "roles/run.invoker": ("roles/run.invoker", "roles/run.servicesInvoker", "roles/run.admin"),
    "roles/secretmanager.secretAccessor": ("roles/secretmanager.secretAccessor", "roles/secretmanager.admin"),
    "roles/storage.objectUser": ("roles/storage.objectUser", "roles/storage.objectAdmin", "roles/storage.admin"),
    "roles/iam.serviceAccountTokenCreator": ("roles/iam.serviceAccountTokenCreator",),
    "roles/cloudsql.client": ("roles/cloudsql.client", "roles/cloudsql.editor", "roles/cloudsql.admin"),
}


def again(role: str) -> str:
    return f"run mlops.mlflow_gcp.site again (role {role})"


def short(link: Any) -> str:
    """The last part of a link or path."""
    return str(link or "").rpartition("/")[2]


def covers(pattern: str, domain: str) -> bool:
    """A certificate's or URL map's host name, which may begin with a wildcard."""
    pattern = pattern.lower().removesuffix(".")
    return pattern in (domain, "*") or pattern.startswith("*.") and domain.partition(".")[2] == pattern[2:]


def holds(policy: dict[str, Any], role: str, member: str) -> bool:
    """Whether MEMBER has ROLE, or one that contains it, by POLICY."""
    return any(member in members_of(policy, name) for name in ROLES[role])


class Doctor:
    """Reads everything once and notes what is wrong."""

    def __init__(self, task: Task) -> None:
        self.task, self.params = task, task.params
        self.domain, *self.extra_domains = (
            name.lower().removesuffix(".") for name in (self.params["domain"], *self.params["extra_domains"])
        )
        self.findings: list[dict[str, str]] = []
        self.checked: list[str] = []
        self._project_policy: dict[str, Any] | None = None
        self.network = self.network_path(self.params["network"]) if self.params["network"] else None

    def note(self, where: str, problem: str, fix: str) -> None:
        self.findings.append({"where": where, "problem": " ".join(problem.split()), "fix": fix})

    def look(self, where: str, call: Callable[[], Any], missing: str) -> Any:
        """What CALL reads; without it a finding, of which MISSING is the way out, and None."""
        self.checked.append(where)
        try:
            with self.task.client.action(f"read {where}"):
                return call()
        except ApiError as error:
            if error.status == 404:
                self.note(where, "does not exist", missing)
            else:
                self.note(
                    where,
                    f"cannot be read: {error.message} ({error.status} {error.reason})",
                    error.hint or "see Google's reason",
                )
            return None

    def get(self, where: str, url: str, missing: str) -> Any:
        return self.look(where, lambda: self.task.client.get(url), missing)

    def link(self, where: str, link: str, missing: str) -> Any:
        """A resource of compute by its link."""
        return self.get(where, COMPUTE + relative(link), missing)

    def examine(self) -> None:
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

    def front_door(self) -> dict[str, Any] | None:
        """Forwarding rule to backend service; returns the backend service."""
        fix, prefix = again("iap_lb"), self.params["lb_name"]
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
            self.note(where, "no forwarding rule whose name begins so takes port 443 to an HTTPS proxy", fix)
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
            self.note(f"URL map {url_map['name']}", f"sends {self.domain} to no backend service", fix)
            return None
        backend = self.link(f"backend service {short(link)}", link, fix)
        if backend and backend.get("loadBalancingScheme") != rule.get("loadBalancingScheme"):
            self.note(
                f"backend service {backend['name']}",
                f"has scheme {backend.get('loadBalancingScheme')}, its forwarding rule {rule.get('loadBalancingScheme')}",
                f"delete the one that is wrong and {fix}",
            )
        return backend

    def certificates(self, proxy: dict[str, Any], rule: dict[str, Any]) -> None:
        if proxy.get("certificateMap"):
            return
        where, fix, missing = f"HTTPS proxy {proxy['name']}", again("iap_lb"), [self.domain, *self.extra_domains]
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
                    f"let {', '.join(covered)} resolve to {rule.get('IPAddress')} and wait, for up to an hour",
                )
        if missing:
            self.note(where, f"presents no certificate for {', '.join(missing)}", fix)

    def route(self, url_map: dict[str, Any]) -> str | None:
        """Where the URL map sends the domain's root."""
        matchers = {matcher["name"]: matcher for matcher in url_map.get("pathMatchers") or ()}
        for rule in url_map.get("hostRules") or ():
            if any(covers(host, self.domain) for host in rule.get("hosts") or ()):
                return matchers.get(rule.get("pathMatcher"), {}).get("defaultService")
        return url_map.get("defaultService")

    def identity_aware_proxy(self, backend: dict[str, Any]) -> None:
        where, fix = f"backend service {backend['name']}", again("iap_lb")
        if not lookup(backend, "iap.enabled"):
            self.note(where, "Identity-Aware Proxy (IAP) is off, nobody is asked who they are", fix)
        if not lookup(backend, "logConfig.enable"):
            self.note(where, "its requests are not logged", fix)
        wanted = self.params["members"]
        if wanted is None:
            return
        place = f"IAP of {where}"
        policy = self.look(
            place, lambda: policy_of(self.task, "iap_backend_service", backend["name"]).read(self.task), fix
        )
        if policy is None:
            return
        role = "roles/iap.httpsResourceAccessor"
        # Google writes addresses in lower case.
        wanted, holders = ({member.lower(): member for member in group} for group in (wanted, members_of(policy, role)))
        for member in [wanted[key] for key in wanted if key not in holders]:
            self.note(place, f"{member} does not hold {role}", fix)
        for member in [holders[key] for key in holders if key not in wanted]:
            self.note(place, f"{member} holds {role} and is not among those who shall", fix)

    def endpoint_groups(self, backend: dict[str, Any]) -> None:
        fix, groups = again("iap_lb"), [entry.get("group", "") for entry in backend.get("backends") or ()]
        if not groups:
            self.note(
                f"backend service {backend['name']}", "has no serverless network endpoint group, requests end here", fix
            )
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
                leads = (
                    f"Cloud Run service {target['service']!r} in {region}"
                    if target.get("service")
                    else "no Cloud Run service"
                )
                self.note(
                    where,
                    f"leads to {leads} instead of {service!r} in {self.params['region']}",
                    f"take it off backend service {backend['name']}, delete it and {fix}",
                )
            elif target.get("tag") or target.get("urlMask"):
                self.note(
                    where,
                    f"leads to a part of the Cloud Run service only ({target})",
                    f"take it off backend service {backend['name']}, delete it and {fix}",
                )

    def run_service(self) -> dict[str, Any] | None:
        name, fix = self.params["run_service"], again("cloudrun")
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
                f"see the log of its newest revision, mend the cause and {fix}",
            )
        ingress = service.get("ingress")
        if ingress == "INGRESS_TRAFFIC_ALL":
            self.note(where, "can be reached around the load balancer and IAP (ingress INGRESS_TRAFFIC_ALL)", fix)
        elif ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY":
            self.note(where, "the load balancer cannot reach it (ingress INGRESS_TRAFFIC_INTERNAL_ONLY)", fix)
        if service.get("invokerIamDisabled"):
            self.note(where, "answers callers without roles/run.invoker (invokerIamDisabled)", fix)
        if not lookup(service, "template.serviceAccount"):
            self.note(where, "runs as the default service account of Compute Engine, not as one of its own", fix)
        access = lookup(service, "template.vpcAccess") or {}
        attached = [entry.get("network") for entry in access.get("networkInterfaces") or ()]
        if (
            self.network
            and not access.get("connector")
            and self.network not in map(self.network_path, filter(None, attached))
        ):
            what = f"attached to network {', '.join(map(str, attached))}" if attached else "attached to no VPC network"
            self.note(where, f"is {what} instead of {self.network}, and cannot reach the database", fix)
        return service

    def network_path(self, link: Any) -> str:
        """projects/ID/global/networks/NAME of a network that is given by name, path or link, with id or number."""
        path = full_path(self.task.project, "global/networks", str(link))
        if re.match(r"projects/\d+/", path) and path.split("/")[1] == self.task.project_number:
            path = re.sub(r"\d+", self.task.project, path, count=1)
        return path

    def invoker(self) -> None:
        try:
            agent = f"serviceAccount:service-{self.task.project_number}@gcp-sa-iap.iam.gserviceaccount.com"
        except ApiError as error:
            self.note(f"project {self.task.project}", f"cannot be read: {error.message}", error.hint)
            return
        service = self.params["run_service"]
        self.role(
            f"Cloud Run service {service}",
            ("run_service", service, self.params["region"]),
            "roles/run.invoker",
            agent,
            "the IAP service agent",
            "iap_lb",
        )

    def role(self, where: str, resource: tuple[str, ...], role: str, member: str, what: str, fixer: str) -> None:
        """Note it when MEMBER, who is WHAT, holds ROLE neither on the resource nor on the project."""
        policy = self.look(
            f"IAM policy of {where}", lambda: policy_of(self.task, *resource).read(self.task), again(fixer)
        )
        if policy is None:
            return
        if holds(policy, role, member) or holds(self.project_policy(), role, member):
            return
        self.note(where, f"{member.partition(':')[2]} ({what}) does not hold {role}", again(fixer))

    def project_policy(self) -> dict[str, Any]:
        """Who holds what on the whole project; empty when that may not be read."""
        if self._project_policy is None:
            project = self.task.project
            found = self.look(
                f"IAM policy of project {project}", lambda: policy_of(self.task, "project", project).read(self.task), ""
            )
            self._project_policy = found or {}
        return self._project_policy

    def environment(self, service: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            entry for container in lookup(service, "template.containers") or () for entry in container.get("env") or ()
        ]

    def secret(self, service: dict[str, Any], account: str) -> None:
        if not self.params["secret"]:
            return
        path = secret_path(self.task.project, self.params["secret"], "secret")
        where = f"secret {short(path)}"
        references = [lookup(entry, "valueSource.secretKeyRef") for entry in self.environment(service)]
        reference = next((found for found in references if found and short(found.get("secret")) == short(path)), None)
        if reference is None:
            self.note(
                f"Cloud Run service {self.params['run_service']}",
                f"takes no environment variable from {where}, so it has no password",
                again("cloudrun"),
            )
        else:
            number = reference.get("version") or "latest"
            version = self.get(f"{where} version {number}", f"{SECRETS}{path}/versions/{number}", again("cloudsql"))
            if version and version.get("state") != "ENABLED":
                self.note(
                    where, f"version {number}, which Cloud Run uses, is {version.get('state')}", again("cloudsql")
                )
        self.role(where, ("secret", path), "roles/secretmanager.secretAccessor", account, "the server", "cloudrun")

    def bucket(self, account: str) -> None:
        if not self.params["bucket"]:
            return
        name = self.params["bucket"].removeprefix("gs://").partition("/")[0]
        self.role(f"bucket {name}", ("bucket", name), "roles/storage.objectUser", account, "the server", "cloudrun")

    def signer(self, account: str) -> None:
        """The server's account signs as itself the URLs of uploads and downloads that go to the bucket directly."""
        email = account.partition(":")[2]
        if self.params["bucket"] and email.endswith(".iam.gserviceaccount.com"):
            self.role(
                f"service account {email}",
                ("service_account", email),
                "roles/iam.serviceAccountTokenCreator",
                account,
                "the server, which signs for itself",
                "cloudrun",
            )

    def database(self, service: dict[str, Any] | None) -> None:
        name, fix = self.params["sql_instance"], again("cloudsql")
        if not name:
            return
        where = f"Cloud SQL instance {name}"
        instance = self.get(
            where, f"https://sqladmin.googleapis.com/v1/projects/{self.task.project}/instances/{name}", fix
        )
        if service:
            account, policy = lookup(service, "template.serviceAccount"), self.project_policy()
            if policy and not holds(policy, "roles/cloudsql.client", f"serviceAccount:{account}"):
                self.note(
                    f"project {self.task.project}",
                    f"{account} (the server) does not hold roles/cloudsql.client",
                    again("cloudrun"),
                )
        if not instance:
            return
        if lookup(instance, "settings.activationPolicy") == "NEVER":
            self.note(where, "is stopped", f"gcloud sql instances patch {name} --activation-policy=ALWAYS")
        elif instance.get("state") != "RUNNABLE":
            self.note(where, f"is {instance.get('state')}, not RUNNABLE", "wait, or see its operations")
        network = lookup(instance, "settings.ipConfiguration.privateNetwork")
        if self.network and (not network or self.network_path(network) != self.network):
            self.note(
                where,
                f"has its private address in network {relative(network) or 'none'} instead of {self.network}",
                "the network of an instance cannot be taken back: see the role cloudsql",
            )
        private = [entry["ipAddress"] for entry in instance.get("ipAddresses") or () if entry.get("type") == "PRIVATE"]
        if not private:
            self.note(where, "has no private address", fix)
        host = next(
            (entry.get("value") for entry in self.environment(service or {}) if entry.get("name") == "MLFLOW_DB_HOST"),
            None,
        )
        if private and host and host not in private:
            self.note(
                f"Cloud Run service {self.params['run_service']}",
                f"MLFLOW_DB_HOST is {host}, the private address of {where} is {private[0]}",
                again("cloudrun"),
            )

    def peering(self) -> None:
        fix = again("network")
        where = f"network {short(self.network)}"
        network = self.get(where, f"{COMPUTE}{self.network}", fix)
        if not network:
            return
        peering = next((entry for entry in network.get("peerings") or () if entry.get("name") == PEERING), None)
        if peering is None:
            self.note(
                where,
                f"the peering {PEERING} of private services access is gone, Cloud Run cannot reach the database",
                fix,
            )
        elif peering.get("state") != "ACTIVE":
            self.note(
                where,
                f"the peering {PEERING} of private services access is {peering.get('state')}: {peering.get('stateDetails', '')}",
                fix,
            )


def diagnose(task: Task) -> dict[str, Any]:
    for option, names in (("domain", [task.params["domain"]]), ("extra_domains", task.params["extra_domains"])):
        for name in names:
            if not re.fullmatch(r"[^/:\s]+\.[^/:\s]+", name):
                raise InvalidInput(option, name, "a domain name such as mlflow.example.com")
    doctor = Doctor(task)
    doctor.examine()
    if doctor.findings:
        told = "; ".join(
            f"{number}) {entry['where']}: {entry['problem']} - {entry['fix']}"
            for number, entry in enumerate(doctor.findings, 1)
        )
        count = f"{len(doctor.findings)} findings" if len(doctor.findings) > 1 else "1 finding"
        task.module.fail_json(msg=f"{count}: {told}", findings=doctor.findings, checked=doctor.checked)
    return {"changed": False, "findings": [], "checked": doctor.checked}


def main() -> None:
    run(
        diagnose,
        argument_spec={
            "region": {"type": "str", "required": True},
            "domain": {"type": "str", "required": True},
            "extra_domains": {"type": "list", "elements": "str", "default": []},
            "lb_name": {"type": "str", "default": "mlflow-lb"},
            "run_service": {"type": "str", "default": "mlflow"},
            "sql_instance": {"type": "str"},
            "secret": {"type": "str", "no_log": False},
            "bucket": {"type": "str"},
            "network": {"type": "str"},
            "members": {"type": "list", "elements": "str"},
        },
    )


if __name__ == "__main__":
    main()
