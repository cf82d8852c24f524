# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What exists of the load balancers of a deployment, whatever its variables say now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import certificate_manager, dns
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import Family
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import same_resource, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API, aggregated
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.deployment import Deployment


class Call(NamedTuple):
    """A resource to read: its key, its label, and how."""

    key: str
    label: str
    read: Callable[[], dict[str, Any] | None]


class LoadBalancer:
    """The names of the load balancer that the role iap_lb makes, and reading what has them."""

    role = "iap_lb"

    def __init__(self, deployment: Deployment) -> None:
        self.deployment, self.client = deployment, deployment.client
        self.project, self.name = self.text("project_id"), self.text("name")

    def text(self, name: str) -> str:
        """A variable of the role, by its name without the prefix, as text."""
        return self.deployment.text(f"{self.role}_{name}")

    @property
    def owns_address(self) -> bool:
        """Whether the address is made here; one with any other name belongs to others."""
        return self.text("address_name") == f"{self.name}-ip"

    def chain(self, base: str, more: Mapping[str, tuple[str, str]]) -> Iterator[Call]:
        """From the forwarding rules to the backend service, which are below URL BASE, and MORE: the kind and the URL by key."""
        name = self.name
        urls = {
            "https_rule": ("forwarding rule", f"{base}/forwardingRules/{name}-https"),
            "http_rule": ("forwarding rule", f"{base}/forwardingRules/{name}-http"),
            "https_proxy": ("HTTPS proxy", f"{base}/targetHttpsProxies/{name}-https"),
            "http_proxy": ("HTTP proxy", f"{base}/targetHttpProxies/{name}-http"),
            "url_map": ("URL map", f"{base}/urlMaps/{name}"),
            "redirect": ("URL map", f"{base}/urlMaps/{name}-redirect"),
            "backend": ("backend service", f"{base}/backendServices/{name}-backend"),
            **more,
        }
        for key, (kind, url) in urls.items():
            yield Call(key, f"{kind} {url.rpartition('/')[2]}", partial(self.client.find, url))

    def calls(self) -> Iterator[Call]:
        """Everything that is read."""
        base, name = f"{API}/projects/{self.project}/global", self.name
        urls = {
            "security_policy": ("Cloud Armor policy", f"{base}/securityPolicies/{name}-allowed"),
            "address": ("address", f"{base}/addresses/{self.text('address_name')}"),
        }
        yield from self.chain(base, urls)
        yield Call("certificates", f"certificates {name}", self.read_certificates)
        yield Call("negs", f"serverless NEGs {name}-neg", self.read_negs)

    def calls_of_certificate_manager(self) -> Iterator[Call]:
        """The same for what Certificate Manager has of it."""
        place = f"{certificate_manager.API}/projects/{self.project}/locations/global"
        map_url = f"{place}/certificateMaps/{self.name}"
        yield Call("certificate_map", f"certificate map {self.name}", partial(self.client.find, map_url))
        for key, kind, collection in (
            ("issued", "certificate", "certificates"),
            ("authorizations", "DNS authorization", "dnsAuthorizations"),
        ):
            yield Call(key, f"{kind}s {self.name}", partial(self.read_family, kind, f"{place}/{collection}"))

    def read_family(self, kind: str, url: str) -> dict[str, Any] | None:
        """The resources of a collection of Certificate Manager whose names are those of the load balancer."""
        entries = [{"name": short(entry["name"])} for entry in self.client.items(url, url.rpartition("/")[2])]
        family = Family(self.deployment.task, self.name, certificate_manager.DIGITS)
        return several(kind, (entry["name"] for entry in family.members(entries, f"{kind}s")))

    def read_certificates(self) -> dict[str, Any] | None:
        """The managed certificates, for any domains."""
        return self.certificates_of("global", "MANAGED")

    def certificates_of(self, place: str, type_: str) -> dict[str, Any] | None:
        """The certificates of Compute Engine whose names are those of the load balancer."""
        url = f"{API}/projects/{self.project}/{place}/sslCertificates"
        found = Family(self.deployment.task, self.name, 8).members(self.client.items(url, "items"), "certificates")
        return several("certificate", (entry["name"] for entry in found if entry.get("type") == type_))

    def read_negs(self) -> dict[str, Any] | None:
        """The serverless NEGs, for any service and region."""
        family = Family(self.deployment.task, f"{self.name}-neg", 4)
        groups = aggregated(self.client, self.project, "networkEndpointGroups")
        found = family.members(groups, "network endpoint groups")
        serverless = (entry["name"] for entry in found if entry.get("networkEndpointType") == "SERVERLESS")
        return several("serverless NEG", serverless)

    def read_records(self, address: str, names: Iterable[str] | None = None) -> dict[str, Any] | None:
        """The A records in the zone that lead to the address and nowhere else: those with NAMES, or all."""
        zone = dns.zone_path(self.project, self.text("dns_zone"))
        if names is None:
            sets = list(self.client.items(f"{dns.API}/{zone}/rrsets", "rrsets"))
        else:
            sets = [entry for name in names for entry in dns.record_sets(self.client, zone, name)]
        ours = (entry for entry in sets if entry["type"] == "A" and entry.get("rrdatas") == [address])
        return several("DNS record", (entry["name"] for entry in ours))


class InternalLoadBalancer(LoadBalancer):
    """The same for the role iap_internal_lb."""

    role = "iap_internal_lb"
    owns_address = True
    """It never has one of others."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        self.region = self.text("region")
        self.subnetworks = f"projects/{self.text('network_project_id')}/regions/{self.region}/subnetworks"

    def address_call(self) -> Call:
        """The address: made first and released last, so that nothing else exists without it."""
        url = f"{API}/projects/{self.project}/regions/{self.region}/addresses/{self.name}-ip"
        return Call("address", f"address {self.name}-ip", partial(self.client.find, url))

    def calls(self) -> Iterator[Call]:
        base, name = f"{API}/projects/{self.project}/regions/{self.region}", self.name
        urls = {
            "proxies": ("proxy-only subnetwork", f"{API}/{self.subnetworks}/{name}-proxies"),
        }
        yield from self.chain(base, urls)
        yield self.address_call()
        yield Call(
            "certificates",
            f"certificates {name}",
            partial(self.certificates_of, f"regions/{self.region}", "SELF_MANAGED"),
        )
        yield Call("negs", f"serverless NEGs {name}-neg", self.read_negs)
        yield Call("other_rules", f"forwarding rules in {self.region}", self.read_other_rules)

    def calls_of_certificate_manager(self) -> Iterator[Call]:
        place = f"{certificate_manager.API}/projects/{self.project}/locations/{self.region}"
        for key, kind, collection in (
            ("issued", "certificate", "certificates"),
            ("config", "name of a CA pool", "certificateIssuanceConfigs"),
        ):
            yield Call(key, f"{kind}s {self.name}", partial(self.read_family, kind, f"{place}/{collection}"))

    def read_other_rules(self) -> dict[str, Any] | None:
        """The other forwarding rules that have proxies in the proxy-only subnetwork."""
        url = f"{API}/projects/{self.project}/regions/{self.region}/forwardingRules"
        others = (
            rule["name"]
            for rule in self.client.items(url, "items")
            if rule.get("loadBalancingScheme") in ("INTERNAL_MANAGED", "EXTERNAL_MANAGED")
            and rule["name"] not in (f"{self.name}-https", f"{self.name}-http")
            and same_resource(self.deployment.network, rule.get("network"))
        )
        return several("forwarding rule", others)


def several(kind: str, names: Iterable[str]) -> dict[str, Any] | None:
    """A body for several resources of one kind, None for none."""
    found = sorted(names)
    return {"kind": kind, "names": found} if found else None
