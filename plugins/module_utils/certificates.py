# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of Google-managed certificates, of Compute Engine and of Certificate Manager, and what to do about each.

https://cloud.google.com/load-balancing/docs/ssl-certificates/troubleshooting
https://cloud.google.com/certificate-manager/docs/troubleshooting
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import certificate_manager, dns
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import covers
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import relative, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task

ACTIVE, PROVISIONING, MISSING = "ACTIVE", "PROVISIONING", "MISSING"
# States that do not pass by waiting: somebody has to change something, and Google tries again rarely or not at all.
LASTING = ("FAILED_CAA_FORBIDDEN", "PROVISIONING_FAILED_PERMANENTLY", MISSING)


class State(NamedTuple):
    """The state of one domain: Google's word for it, and what it means and what to do, "" where all is well."""

    domain: str
    state: str
    advice: str = ""


def advice(state: str, domain: str, address: str) -> str:
    """What the STATE of a domain of a certificate means, and what to do. ADDRESS is the load balancer's."""
    lead = f"the A record of {domain} must lead to {address or 'the load balancer'}, and only there"
    texts = {
        PROVISIONING: f"Google is issuing the certificate, which takes up to an hour after {domain} leads to {address}",
        "FAILED_NOT_VISIBLE": (
            f"Google does not see the load balancer at {domain}: {lead}, without an AAAA record; right after a change, "
            "old records may be cached until their TTL has passed, and Google tries again"
        ),
        "FAILED_CAA_CHECKING": f"the name servers of {domain} do not answer for its CAA records; correct them, Google tries again",
        "FAILED_CAA_FORBIDDEN": (
            f"a CAA record of {domain}, or of a domain above it, forbids Google to issue the certificate; add one with {dns.ALLOWING}"
        ),
        "FAILED_RATE_LIMITED": (
            f"the certificate authority has issued too many certificates for {domain} lately; Google tries again in hours, or "
            "up to a week"
        ),
        "FAILED": f"the certificate for {domain} could not be issued; see Google's message",
        "PROVISIONING_FAILED": f"the certificate for {domain} could not be issued; Google tries again",
        "PROVISIONING_FAILED_PERMANENTLY": (
            f"the certificate for {domain} was not issued and Google has given up: {lead}; then run site with another set of "
            "domains, or delete the certificate and run site again"
        ),
        "RENEWAL_FAILED": f"the certificate for {domain} was not renewed and will expire: {lead}",
        MISSING: f"the load balancer has no certificate for {domain}: run mlops.mlflow_gcp.site (role iap_lb)",
    }
    return texts.get(state, "")


def _of_compute(body: dict[str, Any], domains: Iterable[str], address: str) -> list[State]:
    """https://cloud.google.com/compute/docs/reference/rest/v1/sslCertificates"""
    managed = body.get("managed")
    if not managed or managed.get("status", ACTIVE) == ACTIVE:
        return [State(domain, ACTIVE) for domain in domains]
    whole, each = managed["status"], managed.get("domainStatus") or {}
    states = (
        (domain, each.get(domain, whole) if whole != "PROVISIONING_FAILED_PERMANENTLY" else whole) for domain in domains
    )
    # A domain that is fine waits for the others.
    return [
        State(domain, PROVISIONING if state == ACTIVE else state, advice(state, domain, address))
        for domain, state in states
    ]


def _of_manager(body: dict[str, Any], domains: Iterable[str], address: str) -> list[State]:
    """https://cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.certificates"""
    managed = body.get("managed")
    if not managed or managed.get("state") == ACTIVE:
        return [State(domain, ACTIVE) for domain in domains]
    if managed.get("issuanceConfig"):
        return [_by_pool(managed, domain) for domain in domains]
    attempts = {attempt.get("domain"): attempt for attempt in managed.get("authorizationAttemptInfo") or ()}
    return [_attempted(domain, attempts.get(domain) or {}, address) for domain in domains]


def _by_pool(managed: dict[str, Any], domain: str) -> State:
    """https://cloud.google.com/certificate-manager/docs/troubleshooting#ca-service"""
    issue = managed.get("provisioningIssue") or {}
    if not issue:
        return State(domain, PROVISIONING, "the CA pool is issuing the certificate, which takes some minutes")
    text = (
        f"the CA pool does not issue the certificate: {str(issue.get('details') or 'no reason given').rstrip('.')}. The pool needs an "
        "enabled certificate authority, and the service agent of Certificate Manager roles/privateca.certificateRequester on it"
    )
    return State(domain, str(issue.get("reason") or "FAILED"), text)


def _attempted(domain: str, attempt: dict[str, Any], address: str) -> State:
    if attempt.get("state") != "FAILED":
        return State(domain, PROVISIONING, "Google is issuing the certificate, which takes some minutes")
    reason = attempt.get("failureReason")
    cname = (attempt.get("troubleshooting") or {}).get("cname") or {}
    if reason == "CONFIG" and cname:
        found = ", ".join(cname.get("resolvedData") or ()) or "nothing"
        text = f"the CNAME record {cname.get('name')} must lead to {cname.get('expectedData')}, and leads to {found}"
        return State(domain, "FAILED_CONFIG", text)
    state = {"CAA": "FAILED_CAA_FORBIDDEN", "RATE_LIMITED": "FAILED_RATE_LIMITED"}.get(
        str(reason), "FAILED_NOT_VISIBLE"
    )
    return State(domain, state, advice(state, domain, address) or str(attempt.get("details") or ""))


def states_of(task: Task, certificate: str, domains: Iterable[str], address: str) -> list[State]:
    """The states of DOMAINS of one certificate, given by its path or link."""
    path = relative(certificate)
    manager = "/locations/" in path
    url = f"{certificate_manager.API if manager else API}/{path}"
    body = task.read(f"certificate {short(path)}", partial(task.client.find, url))
    if body is None:
        return [State(domain, MISSING, advice(MISSING, domain, address)) for domain in domains]
    return (_of_manager if manager else _of_compute)(body, domains, address)


def served(task: Task, name: str, domains: list[str]) -> list[State]:
    """The state of each of DOMAINS at the load balancer with the prefix NAME: that of the best certificate that it has for it."""
    base = f"{API}/projects/{task.project}/global"
    proxy = task.read(f"HTTPS proxy {name}-https", lambda: task.client.find(f"{base}/targetHttpsProxies/{name}-https"))
    rule = task.read(f"forwarding rule {name}-https", lambda: task.client.find(f"{base}/forwardingRules/{name}-https"))
    address = (rule or {}).get("IPAddress", "")
    found: dict[str, list[State]] = {domain: [] for domain in domains}
    for certificate, hosts in _certificates(task, proxy or {}):
        covered = [domain for domain in domains if any(covers(host, domain) for host in hosts)]
        for state in states_of(task, certificate, covered, address) if covered else ():
            found[state.domain].append(state)
    missing = {domain: State(domain, MISSING, advice(MISSING, domain, address)) for domain in domains}
    return [
        next((state for state in states if state.state == ACTIVE), states[-1] if states else missing[domain])
        for domain, states in found.items()
    ]


def _certificates(task: Task, proxy: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """The certificates of a proxy, each with the host names that it is served for."""
    if proxy.get("certificateMap"):
        url = f"{certificate_manager.API}/{relative(proxy['certificateMap'])}/certificateMapEntries"
        entries = task.read("the certificate map", lambda: list(task.client.items(url, "certificateMapEntries"))) or []
        return [
            (certificate, [entry.get("hostname", "*")])
            for entry in sorted(entries, key=lambda entry: "hostname" not in entry)
            for certificate in entry.get("certificates") or ()
        ]
    out = []
    for link in proxy.get("sslCertificates") or ():
        body = task.read(f"certificate {short(link)}", partial(task.client.find, f"{API}/{relative(link)}")) or {}
        managed = body.get("managed") or {}
        out.append((link, list(managed.get("domains") or body.get("subjectAlternativeNames") or ())))
    return out
