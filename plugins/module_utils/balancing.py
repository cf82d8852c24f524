# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the resources of a load balancer have in common: links, updates of single fields, and names that rotate."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import operations
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import relative, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API, LINKS, ComputeResource, aggregated
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task


def scope_of(region: str | None) -> str:
    """The part of a path before the collection, of a resource in REGION or, without one, of a global one."""
    return f"regions/{region}" if region else "global"


class BalancerResource(ComputeResource):
    """A resource of a load balancer: of a regional one with option region, of a global one otherwise."""

    def __init__(self, task: Task, collection: str) -> None:
        self.scope = scope_of(task.params.get("region"))
        super().__init__(task, self.scope, collection)

    def link(self, collection: str, name: str | None) -> str | None:
        """The link of another resource of the load balancer in the project, None without one."""
        if not name or "/" in name:
            return name or None
        return f"{LINKS}/projects/{self.task.project}/{self.scope}/{collection}/{name}"

    def set_field(self, method: str, **body: Any) -> None:
        """Call a method that changes one field, such as setUrlMap, and wait."""
        # These older methods of proxies are the only ones of global resources without /global/ in their path.
        old = method in ("setSslCertificates", "setUrlMap")
        url = self.url.replace("/global/target", "/target") if old else self.url
        self.wait(self.client.post(f"{url}/{method}", body, idempotent=True), self.url, "update")


class Family:
    """
    Resources that cannot be changed, and so take each other's place: the name of each is PREFIX, a hyphen, and DIGITS
    hexadecimal digits that depend on its content. The prefix alone is a member too.
    """

    def __init__(self, task: Task, prefix: str, digits: int) -> None:
        self.task, self.prefix, self.digits = task, prefix, digits
        self._name = re.compile(rf"{re.escape(prefix)}(-[0-9a-f]{{{digits}}})?")

    def member(self, content: str) -> str:
        """The name of the member with this content."""
        return f"{self.prefix}-{hashlib.sha256(content.encode()).hexdigest()[: self.digits]}"

    def has(self, name: str) -> bool:
        """Whether a name is that of a member."""
        return bool(self._name.fullmatch(name))

    def members(self, resources: Iterable[dict[str, Any]], what: str) -> list[dict[str, Any]]:
        """Those of RESOURCES that are members, the newest last. WHAT is for example "certificates"."""
        with self.task.client.action(f"list the {what} of project {self.task.project}"):
            try:
                entries = list(resources)
            except ApiError as error:
                # Nothing is there to delete; or, in a first --check of a whole deployment, the API is not enabled yet.
                if not error.disabled or not (self.task.check_mode or self.task.params.get("state") == "absent"):
                    raise
                return []
        found = [entry for entry in entries if self.has(entry["name"])]
        return sorted(found, key=lambda entry: str(entry.get("creationTimestamp") or ""))

    def absent(self, kind: str, collection: str, names: Iterable[str], **returns: Any) -> dict[str, Any]:
        """
        Delete the members with NAMES, except those in option keep (names or links); the module's result, with RETURNS. COLLECTION is
        their URL.
        """
        task, keep = self.task, {*map(short, self.task.params["keep"])}
        found = sorted(names)
        links = [f"{collection}/{name}" for name in found if name not in keep]
        left = [] if task.check_mode else list(map(short, self.delete(kind, links)))
        kept = [name for name in found if name in keep or name in left]
        return task.result(
            label=f"{kind}s {self.prefix}",
            changed=len(kept) < len(found),
            before={f"{kind}s": found},
            after={f"{kind}s": kept},
            name=self.prefix,
            self_link="",
            obsolete=left,
            resource={},
            **returns,
        )

    def delete(self, kind: str, links: Iterable[str]) -> list[str]:
        """
        Delete members. One that another resource still uses after a minute is left, with a warning, and returned: others
        may have attached it to a load balancer of theirs.
        """
        client, left = self.task.client, []
        for path in map(relative, links):
            label, url = f"{kind} {short(path)}", f"{API}/{path}"
            action = f"delete {label}"
            with client.action(action):
                try:
                    client.retry(
                        partial(operations.repeat, partial(_delete, client, url, action)),
                        lambda error: error.in_use,
                        timeout=60,
                    )
                except ApiError as error:
                    if not error.in_use:
                        raise
                    left.append(path)
                    self.task.warn(f"{label} is obsolete, but not deleted because it is in use: {error.message}")
        return left


def _delete(client: Client, url: str, action: str) -> None:
    try:
        operations.wait(client, client.request("DELETE", url), url, timeout=600, action=action)
    except ApiError as error:
        if error.status != 404:
            raise


def same_ports(wanted: str, live: Any) -> bool:
    """Whether port ranges are equal; "443" is the same as "443-443"."""
    low, _dash, high = str(live or "").partition("-")
    return wanted == f"{low}-{high or low}"


def covers(pattern: str, domain: str) -> bool:
    """Whether PATTERN, a host name of a certificate or URL map, perhaps with a wildcard, matches DOMAIN."""
    pattern = pattern.lower().removesuffix(".")
    return pattern in (domain, "*") or pattern.startswith("*.") and domain.partition(".")[2] == pattern[2:]


def other_policy(backend: Mapping[str, Any], *names: str) -> str | None:
    """A sentence about the Cloud Armor policy of a backend service, if it has another one than those called NAMES."""
    attached = short(backend.get("securityPolicy"))
    if attached in ("", *names):
        return None
    return f"backend service {backend['name']} has the Cloud Armor policy {attached} of others"


def rivals(client: Client, project: str, name: str, domains: Iterable[str]) -> Iterator[tuple[str, str]]:
    """
    External forwarding rules of PROJECT that serve one of DOMAINS for another load balancer than the one with the prefix
    NAME, each with a sentence about it. A load balancer serves the domains of its certificates; under a certificate with a wildcard, or
    a certificate map, those that its URL map names. Other projects, and names in a certificate map alone, are not seen.
    """
    wanted = {domain.lower().removesuffix(".") for domain in domains}
    own = (f"{name}-https", f"{name}-http")
    rules = [
        rule
        for rule in aggregated(client, project, "forwardingRules")
        if "/targetHttpsProxies/" in rule.get("target", "")
        # The domain may lead to another address within a network.
        and not str(rule.get("loadBalancingScheme")).startswith("INTERNAL")
        and rule["name"] not in own
        and short(rule["target"]) not in own
    ]
    if not rules:
        return
    proxies = {relative(proxy["selfLink"]): proxy for proxy in aggregated(client, project, "targetHttpsProxies")}
    certificates = {relative(entry["selfLink"]): entry for entry in aggregated(client, project, "sslCertificates")}
    for rule in rules:
        proxy = proxies.get(relative(rule["target"])) or {}
        names: set[str] = set()
        for link in proxy.get("sslCertificates") or ():
            certificate = certificates.get(relative(link)) or {}
            managed = certificate.get("managed") or {}
            names |= set(managed.get("domains") or certificate.get("subjectAlternativeNames") or ())
        names = {entry.lower().removesuffix(".") for entry in names}
        unclear = proxy.get("certificateMap") or any(
            covers(entry, domain) for entry in names for domain in wanted - names
        )
        if unclear and proxy.get("urlMap"):
            url_map = client.find(f"{API}/{relative(proxy['urlMap'])}") or {}
            names |= {host.lower() for entry in url_map.get("hostRules") or () for host in entry.get("hosts") or ()}
        if served := sorted(wanted & names):
            address = rule.get("IPAddress", "an unknown address")
            yield rule["name"], f"forwarding rule {rule['name']} ({address}) already serves {', '.join(served)}"
