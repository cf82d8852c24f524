# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the Cloud Run service, and of the service accounts and secrets that it needs."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import caller
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.report import (
    ROLES,
    Reader,
    Report,
    has_role,
    rerun,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iam import canonical, members_of
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.registry import same_image
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import BASE as SECRETS
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.secretmanager import secret_path
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.values import FRONT_DOORS

RUN = "https://run.googleapis.com/v2/"
IAM = "https://iam.googleapis.com/v1/"
TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"


class Server:
    """The Cloud Run service as it is, with what the other checks ask about it."""

    def __init__(self, body: dict[str, Any] | None) -> None:
        self.body = body or {}
        self.exists = body is not None
        self.template: dict[str, Any] = self.body.get("template") or {}
        self.account: str = self.template.get("serviceAccount") or ""
        containers = self.template.get("containers") or [{}]
        # Sidecars have no port.
        self.container: dict[str, Any] = next((one for one in containers if one.get("ports")), containers[0])
        self.environment = {entry["name"]: entry for entry in self.container.get("env") or ()}
        self.secrets = [
            reference
            for entry in self.environment.values()
            if (reference := lookup(entry, "valueSource.secretKeyRef")) and reference.get("secret")
        ]
        self.vpc: dict[str, Any] = self.template.get("vpcAccess") or {}

    def value(self, name: str) -> str | None:
        """A plain environment variable."""
        return self.environment.get(name, {}).get("value")

    def number(self, name: str, default: int) -> int:
        """An environment variable as a number."""
        text = self.value(name) or ""
        return int(text) if text.isdigit() else default

    @property
    def max_instances(self) -> int:
        """The most instances of a revision; Google's default is 100."""
        limits = (lookup(self.template, "scaling.maxInstanceCount"), lookup(self.body, "scaling.maxInstanceCount"))
        return min((int(limit) for limit in limits if limit), default=100)


def read_service(task: Task, report: Report) -> Server:
    """The Cloud Run service."""
    name = task.params["run_service"]
    path = f"projects/{task.project}/locations/{task.params['region']}/services/{name}"
    return Server(Reader(task, report).get(f"Cloud Run service {name}", f"{RUN}{path}", rerun("cloudrun")))


class ServerChecks(Reader):
    """The checks of the Cloud Run service itself."""

    def __init__(self, task: Task, report: Report, server: Server) -> None:
        super().__init__(task, report)
        self.server = server
        self.where = f"Cloud Run service {self.params['run_service']}"

    def check(self) -> None:
        """Check the configuration of the service, causes first."""
        if not self.server.exists:
            return
        add, fix, body = self.report.add, rerun("cloudrun"), self.server.body
        ingress = body.get("ingress")
        direct = self.params["front_door"] == "cloud_run"
        if direct and not body.get("iapEnabled"):
            add(self.where, "Identity-Aware Proxy (IAP) is disabled (iapEnabled), so that nobody can sign in", fix)
        elif body.get("iapEnabled") and not direct:
            add(
                self.where,
                "has Identity-Aware Proxy (iapEnabled) besides the load balancer, which Google does not allow",
                fix,
            )
        if direct and ingress == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER":
            add(self.where, f"cannot be reached at its own address (ingress {ingress})", fix)
        elif direct:
            pass
        elif ingress == "INGRESS_TRAFFIC_ALL":
            add(self.where, "can be reached without the load balancer and IAP (ingress INGRESS_TRAFFIC_ALL)", fix)
        elif ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" and self.params["front_door"] == "load_balancer":
            add(self.where, "cannot be reached by the load balancer (ingress INGRESS_TRAFFIC_INTERNAL_ONLY)", fix)
        if body.get("invokerIamDisabled"):
            add(self.where, "accepts requests from callers without roles/run.invoker (invokerIamDisabled)", fix)
        wanted, image = self.params["image"], self.server.container.get("image")
        if wanted and not same_image(self.task.client, wanted, str(image)):
            add(self.where, f"runs image {image} instead of {wanted}", fix)
        if not self.server.account:
            add(self.where, "uses the default service account of Compute Engine instead of its own", fix)
        self.network(fix)
        self.traffic(fix)
        state = lookup(body, "terminalCondition.state")
        if state not in (None, "CONDITION_SUCCEEDED"):
            condition = body["terminalCondition"]
            add(
                self.where,
                f"is not ready: {condition.get('message') or condition.get('reason') or state}",
                f"fix the other findings first; otherwise see the log of its newest revision, fix the cause and {fix}",
            )

    def network(self, fix: str) -> None:
        """Check that the service reaches the network of the database."""
        given, access = self.params["network"], self.server.vpc
        if not given or access.get("connector"):
            return
        wanted = self.network_path(given)
        attached = [entry.get("network") for entry in access.get("networkInterfaces") or ()]
        if wanted in map(self.network_path, filter(None, attached)):
            return
        actual = f"attached to network {', '.join(map(str, attached))}" if attached else "attached to no VPC network"
        self.report.add(self.where, f"is {actual} instead of {wanted}, and cannot reach the database", fix)

    def traffic(self, fix: str) -> None:
        """Check that all requests go to the newest revision."""
        newest = short(self.server.body.get("latestCreatedRevision"))
        for target in self.server.body.get("traffic") or ():
            revision = short(target.get("revision"))
            if target.get("percent") and revision and revision != newest:
                self.report.add(
                    self.where,
                    f"sends {target['percent']}% of the requests to revision {revision} instead of the newest, {newest}",
                    fix,
                )

    def invoker(self, project_policy: dict[str, Any] | None) -> None:
        """Check that IAP may call the Cloud Run service."""
        number = self.look(f"project {self.task.project}", lambda: self.task.project_number, "check the project ID")
        if number is None or not self.server.exists:
            return  # check mode has warned that the project cannot be read yet
        service = self.params["run_service"]
        agent = f"serviceAccount:service-{number}@gcp-sa-iap.iam.gserviceaccount.com"
        resource = ("run_service", service, self.params["region"])
        grant(
            self, self.where, resource, "roles/run.invoker", agent, "the IAP service agent", door(self), project_policy
        )


def door(reader: Reader) -> str:
    """The role that makes the front door."""
    return FRONT_DOORS[reader.params["front_door"]]


def grant(
    reader: Reader,
    where: str,
    resource: tuple[str, ...],
    role: str,
    member: str,
    what: str,
    fixer: str,
    project_policy: dict[str, Any] | None,
) -> None:
    """Check that MEMBER, which is WHAT, has ROLE on the resource or on the project."""
    policy = reader.policy(where, resource, rerun(fixer))
    # Without the policy of the project, which is a finding already, nobody knows.
    if policy is None or project_policy is None or any(has_role(one, role, member) for one in (policy, project_policy)):
        return
    reader.report.add(where, f"{member.partition(':')[2]} ({what}) does not have {role}", rerun(fixer))


class Accounts(Reader):
    """The checks of the service accounts of server and logger."""

    def account(self, email: str, what: str, role: str) -> bool:
        """Check that a service account exists and is enabled; False if it does not work."""
        where = f"service account {email}"
        found = self.get(where, f"{IAM}projects/-/serviceAccounts/{email}", rerun(role))
        if not found:
            return False
        if found.get("disabled"):
            self.report.add(
                where, f"({what}) is disabled", f"gcloud iam service-accounts enable {email}, or {rerun(role)}"
            )
            return False
        return True

    def server(self, server: Server, project_policy: dict[str, Any] | None) -> None:
        """Check the server's account, and that it may sign the URLs for direct uploads to and downloads from the bucket."""
        email = server.account
        if not email.endswith(".iam.gserviceaccount.com"):
            return
        works = self.account(email, "the server's account", "cloudrun")
        if self.params["bucket"] and works:
            grant(
                self,
                f"service account {email}",
                ("service_account", email),
                TOKEN_CREATOR,
                f"serviceAccount:{email}",
                "the server, which signs as itself",
                "cloudrun",
                project_policy,
            )

    def logger(self) -> None:
        """Check the logger's account, and that the caller may sign in as it, as the probe does."""
        email = self.params["logger_service_account"]
        if not email or not self.account(email, "the logger's account", door(self)):
            return
        where = f"service account {email}"
        if caller.has_key_of(self.task, email):
            return
        if self.look(where, lambda: caller.may_sign_as(self.task, email), rerun(door(self))) is not False:
            return
        policy = self.policy(where, ("service_account", email), rerun(door(self)))
        member = caller.member(self.task)
        named = {canonical(one) for one in members_of(policy or {}, TOKEN_CREATOR)}
        if member and canonical(member) in named:
            return  # granted, and still propagating: the probe waits for it
        self.report.add(where, caller.missing_grant(member, email), caller.how_to_grant(member, email))


class Secrets(Reader):
    """The checks of the secrets in the server's environment."""

    def check(self, server: Server, project_policy: dict[str, Any] | None) -> None:
        """Check that the server has the password, and can read all its secrets."""
        if not self.params["secret"]:
            return
        password = secret_path(self.task.project, self.params["secret"], "secret")
        if server.exists and all(short(one["secret"]) != short(password) for one in server.secrets):
            self.report.add(
                f"Cloud Run service {self.params['run_service']}",
                f"has no environment variable from secret {short(password)}, and so no password",
                rerun("cloudrun"),
            )
        for reference in server.secrets:
            path = self.with_id(secret_path(self.task.project, reference["secret"], "secret"))
            where, number = f"secret {short(path)}", reference.get("version") or "latest"
            fixer = "cloudsql" if short(path) == short(password) else "cloudrun"
            version = self.get(f"{where} version {number}", f"{SECRETS}{path}/versions/{number}", rerun(fixer))
            if version and version.get("state") != "ENABLED":
                self.report.add(
                    where, f"version {number}, which Cloud Run uses, is {version.get('state')}", rerun(fixer)
                )
            grant(
                self,
                where,
                ("secret", path),
                "roles/secretmanager.secretAccessor",
                f"serviceAccount:{server.account}",
                "the server",
                "cloudrun",
                project_policy,
            )


__all__ = ["ROLES", "Accounts", "Secrets", "Server", "ServerChecks", "grant", "read_service"]
