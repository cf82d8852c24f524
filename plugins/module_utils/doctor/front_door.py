# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the load balancer: from the forwarding rule to the network endpoint groups, and Identity-Aware Proxy."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import certificate_manager, certificates
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import covers
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup, relative, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.report import (
    COMPUTE,
    Reader,
    Report,
    rerun,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iam import canonical, members_of, policy_of
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.values import FRONT_DOORS

ACCESSOR = "roles/iap.httpsResourceAccessor"


def members(reader: Reader, where: str, resource: tuple[str, ...], fix: str) -> None:
    """Check that exactly the given members may pass IAP; RESOURCE are the arguments of policy_of()."""
    wanted = reader.params["members"]
    if wanted is None:
        return
    place = f"IAP of {where}"
    policy = reader.look(place, lambda: policy_of(reader.task, *resource).read(reader.task), fix)
    reader.report.policies[resource] = policy or {}
    if policy is None:
        return
    # Google returns addresses in lower case.
    desired, current = (
        {canonical(member): member for member in group} for group in (wanted, members_of(policy, ACCESSOR))
    )
    for member in [desired[key] for key in desired if key not in current]:
        reader.report.add(place, f"{member} does not have {ACCESSOR}", fix)
    for member in [current[key] for key in current if key not in desired]:
        reader.report.add(place, f"{member} has {ACCESSOR}, but is not one of the given members", fix)


class CloudRunDoor(Reader):
    """Identity-Aware Proxy of the Cloud Run service itself; the checks of the service say whether it is on."""

    def check(self) -> str | None:
        """Check who may pass, and that no load balancer of the deployment is left. None: there is no backend service."""
        service, prefix = self.params["run_service"], self.params["lb_name"]
        where = f"Cloud Run service {service}"
        members(self, where, ("iap_run_service", service, self.params["region"]), rerun("iap_cloud_run"))
        url = f"{COMPUTE}projects/{self.task.project}/global/forwardingRules"
        rules = self.look(
            f"load balancer {prefix}", lambda: list(self.task.client.items(url, "items")), rerun("iap_cloud_run")
        )
        for rule in rules or ():
            if rule["name"] in (f"{prefix}-https", f"{prefix}-http"):
                self.report.add(
                    f"forwarding rule {rule['name']}",
                    "is left of the load balancer that the deployment had, and is billed",
                    "run mlops.mlflow_gcp.site again",
                )
        return None


class FrontDoor(Reader):
    """The load balancer, external or internal, read by the links from one resource to the next."""

    def __init__(self, task: Task, report: Report) -> None:
        super().__init__(task, report)
        names = (self.params["domain"], *self.params["extra_domains"])
        self.domain, *self.extra_domains = (name.lower().removesuffix(".") for name in names)
        internal = self.params["front_door"] == "internal"
        self.place = f"regions/{self.params['region']}" if internal else "global"
        self.own_region = [self.params["region"]] if internal else []
        self.fix = rerun(FRONT_DOORS[self.params["front_door"]])
        self.backend_name = self.params["backend_service"] or f"{self.params['lb_name']}-backend"

    def check(self) -> str | None:
        """Check everything. The name of the backend service, if there is one."""
        rule = self.forwarding_rule()
        if rule:
            self.proxy(rule)
        # Not the one that the URL map names: a wrong link there must not hide the state of the right one.
        path = f"projects/{self.task.project}/{self.place}/backendServices/{self.backend_name}"
        backend = self.link(f"backend service {self.backend_name}", path, self.fix)
        if not backend:
            return None
        if rule and backend.get("loadBalancingScheme") != rule.get("loadBalancingScheme"):
            self.report.add(
                f"backend service {self.backend_name}",
                f"has scheme {backend.get('loadBalancingScheme')}, its forwarding rule {rule.get('loadBalancingScheme')}",
                f"delete the one with the wrong scheme and {rerun('iap_lb')}",
            )
        self.identity_aware_proxy(backend)
        self.endpoint_groups(backend)
        return self.backend_name

    def forwarding_rule(self) -> dict[str, Any] | None:
        """The forwarding rule that directs port 443 to an HTTPS proxy."""
        fix, prefix = self.fix, self.params["lb_name"]
        where = f"load balancer {prefix}"
        url = f"{COMPUTE}projects/{self.task.project}/{self.place}/forwardingRules"
        rules = self.look(where, lambda: list(self.task.client.items(url, "items")), fix)
        if rules is None:
            return None
        for rule in rules:
            to_proxy = "/targetHttpsProxies/" in rule.get("target", "")
            if rule["name"].startswith(prefix) and to_proxy and rule.get("portRange") in ("443-443", "443"):
                self.report.checked.append(f"forwarding rule {rule['name']}")
                return rule
        self.report.add(where, "no forwarding rule with this prefix directs port 443 to an HTTPS proxy", fix)
        return None

    def proxy(self, rule: dict[str, Any]) -> None:
        """Check the HTTPS proxy, its certificates and its URL map."""
        fix = self.fix
        proxy = self.link(f"HTTPS proxy {short(rule['target'])}", rule["target"], fix)
        if not proxy:
            return
        self.certificates(proxy, rule)
        where = f"URL map {short(proxy.get('urlMap'))}"
        url_map = self.link(where, proxy.get("urlMap", ""), fix)
        if not url_map:
            return
        for paths, link in self.routes(url_map):
            if "/backendServices/" not in str(link):
                self.report.add(where, f"does not direct {self.domain}{paths} to a backend service", fix)
            elif short(link) != self.backend_name:
                self.report.add(
                    where,
                    f"directs {self.domain}{paths} to backend service {short(link)} instead of {self.backend_name}",
                    fix,
                )

    def certificates(self, proxy: dict[str, Any], rule: dict[str, Any]) -> None:
        """Check that the certificates of the HTTPS proxy are active and cover all domains."""
        if proxy.get("certificateMap"):
            self.certificate_map(proxy["certificateMap"])
            return
        where, fix, missing = f"HTTPS proxy {proxy['name']}", self.fix, [self.domain, *self.extra_domains]
        for link in proxy.get("sslCertificates") or ():
            manager = "/locations/" in link
            url = (certificate_manager.API + "/" if manager else COMPUTE) + relative(link)
            certificate = self.get(f"certificate {short(link)}", url, fix)
            managed = (certificate or {}).get("managed") or {}
            names = managed.get("domains") or (certificate or {}).get("subjectAlternativeNames") or ()
            covered = [domain for domain in missing if any(covers(name, domain) for name in names)]
            if not covered:
                continue
            missing = [domain for domain in missing if domain not in covered]
            if manager and managed.get("state") != "ACTIVE":
                self.report.add(f"certificate {short(link)}", f"is {managed.get('state')}, not ACTIVE", fix)
            elif managed and managed.get("status", "ACTIVE") != "ACTIVE":
                states = ", ".join(f"{name} {state}" for name, state in (managed.get("domainStatus") or {}).items())
                self.report.add(
                    f"certificate {certificate['name']}",
                    f"is {managed['status']}, not ACTIVE" + (f" ({states})" if states else ""),
                    f"make {', '.join(covered)} resolve to {rule.get('IPAddress')} and wait for up to an hour",
                )
        if missing:
            self.report.add(where, f"has no certificate for {', '.join(missing)}", fix)

    def certificate_map(self, link: str) -> None:
        """Check that a certificate map has an active certificate for every domain."""
        where, domains = f"certificate map {short(link)}", [self.domain, *self.extra_domains]
        fix = self.fix
        states = self.look(where, lambda: certificates.served(self.task, self.params["lb_name"], domains), fix)
        for state in states or ():
            if state.state != certificates.ACTIVE:
                self.report.add(
                    where, f"has no active certificate for {state.domain} ({state.state})", state.advice or fix
                )

    def routes(self, url_map: dict[str, Any]) -> list[tuple[str, str | None]]:
        """The links of the backend services for all paths of the domain, and for paths that a rule covers completely."""
        matchers = {matcher["name"]: matcher for matcher in url_map.get("pathMatchers") or ()}
        for rule in url_map.get("hostRules") or ():
            if any(covers(host, self.domain) for host in rule.get("hosts") or ()):
                matcher = matchers.get(rule.get("pathMatcher"), {})
                everything = [entry for entry in matcher.get("pathRules") or () if "/*" in (entry.get("paths") or ())]
                return [
                    ("", (everything[0] if everything else {"service": matcher.get("defaultService")}).get("service"))
                ]
        return [("", url_map.get("defaultService"))]

    def identity_aware_proxy(self, backend: dict[str, Any]) -> None:
        """Check that IAP is enabled for exactly the given members, and requests are logged."""
        where, fix = f"backend service {backend['name']}", self.fix
        if not lookup(backend, "iap.enabled"):
            self.report.add(where, "Identity-Aware Proxy (IAP) is disabled, so users need not sign in", fix)
        if not lookup(backend, "logConfig.enable"):
            self.report.add(where, "requests are not logged", fix)
        members(self, where, ("iap_backend_service", backend["name"], *self.own_region), fix)

    def endpoint_groups(self, backend: dict[str, Any]) -> None:
        """Check that the network endpoint groups direct requests to the Cloud Run service."""
        fix, groups = self.fix, [entry.get("group", "") for entry in backend.get("backends") or ()]
        if not groups:
            self.report.add(f"backend service {backend['name']}", "has no serverless network endpoint group", fix)
        for group in groups:
            where = f"serverless NEG {short(group)}"
            neg = self.link(where, group, fix)
            if not neg:
                continue
            replace = f"detach it from backend service {backend['name']}, delete it and {fix}"
            target = neg.get("cloudRun") or {}
            region, service = short(neg.get("region")), self.params["run_service"]
            serverless = neg.get("networkEndpointType") == "SERVERLESS"
            if not serverless or target.get("service") != service or region != self.params["region"]:
                actual = (
                    f"Cloud Run service {target['service']!r} in {region}"
                    if target.get("service")
                    else "no Cloud Run service"
                )
                self.report.add(
                    where,
                    f"directs requests to {actual} instead of {service!r} in {self.params['region']}",
                    replace,
                )
            elif target.get("tag") or target.get("urlMask"):
                self.report.add(where, f"directs requests only to a part of the Cloud Run service ({target})", replace)
