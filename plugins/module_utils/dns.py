# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones and record sets of Cloud DNS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client

API = "https://dns.googleapis.com/dns/v1"
# The certificate authorities of which Google's certificates are, as CAA records name them.
# https://cloud.google.com/load-balancing/docs/ssl-certificates/google-managed-certs#caa
AUTHORITIES = ("pki.goog", "letsencrypt.org")
ALLOWING = '0 issue "pki.goog"'


def zone_path(project: str, zone: str) -> str:
    """The path of a managed zone, from its name in PROJECT or its path."""
    return zone if "/" in zone else f"projects/{project}/managedZones/{zone}"


def absolute(name: str) -> str:
    """NAME in lower case, with the dot at its end that names in Cloud DNS have."""
    return name.lower().rstrip(".") + "."


def record_sets(client: Client, path: str, name: str) -> list[dict[str, Any]]:
    """
    The record sets of all types that a name has in the zone PATH.
    https://cloud.google.com/dns/docs/reference/rest/v1/resourceRecordSets/list
    """
    return list(client.items(f"{API}/{path}/rrsets", "rrsets", params={"name": absolute(name)}))


def names_to_apex(domain: str, apex: str) -> list[str]:
    """DOMAIN and the names above it in the zone of APEX, without the apex itself."""
    name, names = absolute(domain), []
    while name != absolute(apex) and name.count(".") > 1:
        names.append(name)
        name = name.partition(".")[2]
    return names


def zone_problem(path: str, zone: dict[str, Any] | None, domain: str, public: bool = True) -> str | None:
    """Why a domain cannot be led by records of a zone: it is not there, not PUBLIC, or not authoritative; None if it can."""
    _projects, project, _zones, name = path.split("/")
    if zone is None:
        return (
            f"project {project} has no managed zone {name}; give the name of an existing one, projects/PROJECT/managedZones/NAME "
            "for that of another project, or none to set the records elsewhere"
        )
    if public and zone.get("visibility") == "private":
        return f"zone {name} is private, so that nobody on the internet sees its records; give a public one"
    if not f".{absolute(domain)}".endswith(f".{absolute(zone['dnsName'])}"):
        return f"zone {name} is not authoritative for {domain}: its names end with {zone['dnsName'].rstrip('.')}"
    return None


def record_problem(domain: str, sets: Iterable[dict[str, Any]], accepted: Iterable[str]) -> Iterator[str]:
    """
    What in the record sets SETS, of the domain and of the names above it in its zone, keeps an A record of the load balancer
    from leading to it. ACCEPTED are the values that an existing record may have.
    """
    by_name: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in sets:
        by_name.setdefault(entry["name"].lower(), {})[entry["type"]] = entry
    own = by_name.get(absolute(domain), {})
    for name, kinds in by_name.items():
        if "NS" in kinds and "SOA" not in kinds:
            yield f"{name.rstrip('.')} is delegated to {_values(kinds['NS'])}, so that this zone is not authoritative for it"
    for kind in ("A", "CNAME"):
        if kind in own and (taken := conflict(own[kind], accepted)):
            yield f"its {kind} record leads to {taken}"
    if "AAAA" in own:
        yield (
            f"its AAAA record leads to {_values(own['AAAA'])}, and the load balancer has no IPv6 address: Google issues no "
            "certificate then; delete that record"
        )


def conflict(live: dict[str, Any], accepted: Iterable[str]) -> str:
    """The values of a record set that must not be replaced, because not all of them are ACCEPTED; "" if it may be."""
    if live.get("routingPolicy"):
        return "several places by a routing policy"
    known = {value.lower().rstrip(".") for value in accepted}
    found = live.get("rrdatas") or ()
    return "" if all(value.lower().rstrip(".") in known for value in found) else ", ".join(found)


def forbidding(sets: Iterable[dict[str, Any]]) -> str | None:
    """The values of a CAA record set that allows none of Google's certificate authorities, or None."""
    for entry in sets:
        if entry["type"] != "CAA":
            continue
        issuers = [found[1] for value in entry["rrdatas"] if (found := re.match(r'\d+ issue "?([^";]*)', value))]
        if issuers and not any(issuer.strip() in AUTHORITIES for issuer in issuers):
            return _values(entry)
    return None


def _values(entry: dict[str, Any]) -> str:
    return ", ".join(entry.get("rrdatas") or ())
