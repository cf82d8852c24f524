# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The zone of the domains, their records, and the certificates of others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import certificate_manager, dns
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import covers
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight import front_doors
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight.site import Site

HOST = "dns.googleapis.com"


def reads(site: Site) -> dict[str, tuple[str, str, Callable[[], dict[str, Any] | None]]]:
    """What to read, as of existing.read(): the zone, the record sets of the domains and of the names above them in it, and
    the certificates of others."""
    calls: dict[str, tuple[str, str, Callable[[], dict[str, Any] | None]]] = {}
    external = site.door == "load_balancer"
    for certificate in site.listed("iap_lb_certificates") if external else ():
        url = f"{API}/projects/{site.text('iap_lb_project_id')}/global/sslCertificates/{certificate}"
        label = f"certificate {certificate}"
        calls[label] = (label, "compute.googleapis.com", partial(site.client.find, url))
    if external and (given := site.text("iap_lb_certificate_map")):
        url = f"{certificate_manager.API}/{certificate_manager.map_path(site.text('iap_lb_project_id'), given)}"
        calls["map"] = (f"certificate map {given}", "certificatemanager.googleapis.com", partial(site.client.find, url))
    if not site.zone:
        return calls
    name = site.zone.rpartition("/")[2]
    calls["zone"] = (f"zone {name}", HOST, partial(site.client.find, f"{dns.API}/{site.zone}"))
    for record in sorted({record for domain in site.domains for record in dns.names_to_apex(domain, "")}):
        calls[f"records of {record}"] = (
            f"records of {record} in zone {name}",
            HOST,
            partial(read_records, site, record),
        )
    return calls


def read_records(site: Site, name: str) -> dict[str, Any] | None:
    """The record sets of a name; None if there is no such zone."""
    return site.client.find(f"{dns.API}/{site.zone}/rrsets", params={"name": name})


def check(site: Site) -> None:
    """Check the certificates of others, and that records in the zone can lead the domains to the load balancer."""
    external, role = site.door == "load_balancer", site.balancer
    if external:
        _existing_certificates(site)
    if not site.zone or site.found["zone"].body == {}:
        return
    zone = site.live("zone")
    own = [
        site.live("address").get("address"),
        site.live("previous rule").get("IPAddress"),
        *(site.live(f"replaced rule {name}").get("IPAddress") for name in site.listed("iap_lb_replaces") if external),
        *front_doors.addresses(site),
    ]
    accepted = list(filter(None, [*own, *site.listed(f"{role}_dns_replaces")]))
    for domain in site.domains:
        if problem := dns.zone_problem(site.zone, zone or None, domain, public=external):
            site.refuse(f"{role}_dns_zone", problem)
            if not zone or external and zone.get("visibility") == "private":
                return
            continue
        names = [*dns.names_to_apex(domain, zone["dnsName"]), dns.absolute(zone["dnsName"])]
        sets = [entry for name in names for entry in site.live(f"records of {name}").get("rrsets") or ()]
        variable = f"{role}_domain" if domain == site.text(f"{role}_domain") else f"{role}_extra_domains"
        for problem in dns.record_problem(domain, sets, accepted):
            site.refuse(
                variable,
                f"{problem}; delete what is in the way in zone {site.zone.rpartition('/')[2]}, or list what it leads to in "
                f"{role}_dns_replaces",
                domain,
            )
        nearest = next((found for name in names if (found := of_type(site, name, "CAA"))), [])
        if external and site.text("iap_lb_certificate") != "existing" and (issuers := dns.forbidding(nearest)):
            site.refuse(
                variable,
                f"its CAA records ({issuers}) forbid Google to issue a certificate; add one with {dns.ALLOWING}",
                domain,
            )


def of_type(site: Site, name: str, kind: str) -> list[dict[str, Any]]:
    """The record sets of one type that a name has."""
    return [entry for entry in site.live(f"records of {name}").get("rrsets") or () if entry["type"] == kind]


def _existing_certificates(site: Site) -> None:
    """Check that the certificates of others exist, and have a name for every domain."""
    names = site.listed("iap_lb_certificates")
    absent = [name for name in names if site.found[f"certificate {name}"].body is None]
    for name in absent:
        site.refuse("iap_lb_certificates", f"project {site.text('iap_lb_project_id')} has no SSL certificate {name}")
    if "map" in site.found and site.found["map"].body is None:
        site.refuse(
            "iap_lb_certificate_map", "there is no certificate map of that name; set the name of an existing one"
        )
    bodies = [site.live(f"certificate {name}") for name in names]
    if not names or absent or not all(bodies):
        return
    hosts = [
        host
        for body in bodies
        for host in (body.get("managed") or {}).get("domains") or body.get("subjectAlternativeNames") or ()
    ]
    if missing := [domain for domain in site.domains if not any(covers(host, domain) for host in hosts)]:
        site.refuse("iap_lb_certificates", f"none of them is for {', '.join(missing)}; they are for {', '.join(hosts)}")
