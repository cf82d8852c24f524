# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: problems
short_description: Say what is wrong with the values of variables, a sentence each
version_added: 0.1.0
author: mlops.mlflow_gcp contributors (@mlops)
description:
  - Checks what the types and choices of an argument specification cannot say, so that a wrong value is refused
    before the first call to Google.
  - Each sentence names the variable, its value and what is allowed.
positional: _input
options:
  _input:
    description:
      - Variables and their values, grouped by what they have to be.
      - A value is an V(age), an V(account_id), a V(bucket_name), a V(cidr), a V(domain), V(domains), an V(email), an
        V(image), V(labels), V(members), a V(memory), a V(name), a V(project_id), a V(region) or a V(time).
      - These look at several variables, in this order. V(cloud_sql_size) at tier and edition; V(connections) at the most
        instances, the pool's size and overflow and the database's connections; V(network) at the names of network and
        subnetwork; V(oauth) at the way of signing in, the client's id and secret and the support e-mail; V(zone) at
        zone and region.
      - A variable whose name ends with C(_secret) is never shown.
      - An empty value is refused, unless it stands for none or for the default (V(domains), V(email), V(labels), V(members),
        V(zone)).
    type: dict
    required: true
  extra_regions:
    description: Regions that are newer than this release.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Check what types alone cannot say
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
    quiet: true
  vars:
    values:
      domain:
        mlflow_domain: mlflow.example.com
      region:
        mlflow_region: europe-west2
    problems: "{{ values | mlops.mlflow_gcp.problems }}"
"""

RETURN = r"""
_value:
  description: A sentence for each problem; empty when all is well.
  type: list
  elements: str
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow_gcp.plugins.filter import domains
from ansible_collections.mlops.mlflow_gcp.plugins.filter.members import EMAIL, members

# https://cloud.google.com/compute/docs/regions-zones
AREAS = {
    "africa-south": (1,),
    "asia-east": (1, 2),
    "asia-northeast": (1, 2, 3),
    "asia-south": (1, 2),
    "asia-southeast": (1, 2, 3),
    "australia-southeast": (1, 2),
    "europe-central": (2,),
    "europe-north": (1, 2),
    "europe-southwest": (1,),
    "europe-west": (1, 2, 3, 4, 6, 8, 9, 10, 12),
    "me-central": (1, 2),
    "me-west": (1,),
    "northamerica-northeast": (1, 2),
    "northamerica-south": (1,),
    "southamerica-east": (1,),
    "southamerica-west": (1,),
    "us-central": (1,),
    "us-east": (1, 4, 5),
    "us-south": (1,),
    "us-west": (1, 2, 3, 4),
}
REGIONS = frozenset(f"{area}{number}" for area, numbers in AREAS.items() for number in numbers)
TIERS = {
    "ENTERPRISE": (
        r"db-f1-micro|db-g1-small|db-custom-\d+-\d+",
        "db-f1-micro, db-g1-small or db-custom-CPUS-MEGABYTES",
    ),
    "ENTERPRISE_PLUS": (
        r"db-(perf-optimized-N|memory-optimized-N|c4a-highmem)-\d+(-lssd)?",
        "db-perf-optimized-N-CPUS, db-memory-optimized-N-CPUS or db-c4a-highmem-CPUS",
    ),
}
# Connections that Cloud SQL keeps for itself and for superusers.
RESERVED_CONNECTIONS = 6
# Connections that one execution of the administration's job opens.
JOB_CONNECTIONS = 2


def matching(pattern: str, allowed: str) -> Callable[[Any], str | None]:
    """Return a check that says what is allowed when a value does not match the whole pattern."""
    compiled = re.compile(pattern)
    return lambda value: None if isinstance(value, str) and compiled.fullmatch(value) else allowed


def optional(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    """Return the check, passed also by an empty value."""
    return lambda value: check(value) if value else None


def cidr(value: Any) -> str | None:
    """A range that has room for direct VPC egress (https://cloud.google.com/run/docs/configuring/vpc-direct-vpc)."""
    try:
        fits = ipaddress.IPv4Network(value).prefixlen <= 26
    except (TypeError, ValueError):
        fits = False
    return None if fits else "an IPv4 range of /26 or larger, its first address before the slash, such as 10.10.0.0/24"


def bucket_name(value: Any) -> str | None:
    """A bucket's name (https://cloud.google.com/storage/docs/buckets#naming)."""
    valid = (
        isinstance(value, str)
        and re.fullmatch(r"[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9]", value)
        and all(len(part) <= 63 for part in value.split("."))
        and (len(value) <= 63 or "." in value)
        and not re.fullmatch(r"\d+\.\d+\.\d+\.\d+", value)
        and not value.startswith("goog")
        and "google" not in value
    )
    return (
        None
        if valid
        else "3 to 63 lower-case letters, digits, dashes, underscores and dots, not beginning with goog nor containing google"
    )


def labels(value: Any) -> str | None:
    """Labels (https://cloud.google.com/compute/docs/labeling-resources#requirements)."""
    valid = isinstance(value, Mapping) and all(
        re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", str(key)) and re.fullmatch(r"[a-z0-9_-]{0,63}", str(text))
        for key, text in value.items()
    )
    return (
        None
        if valid
        else "keys and values of at most 63 lower-case letters, digits, dashes and underscores, keys beginning with a letter"
    )


def no_members(value: Any) -> str | None:
    """What the filter members refuses, if anything."""
    if value is None:
        return "not set; give a list of members such as user:jane@example.com, or [] for nobody"
    try:
        members(value)
    except AnsibleFilterError as error:
        return error.message
    return None


def no_domains(value: Any) -> str | None:
    """What the filter domains refuses, if anything."""
    try:
        domains.domains(value)
    except AnsibleFilterError as error:
        return error.message
    return None


def cloud_sql_size(tier: str, edition: str) -> str | None:
    """A tier that the edition has (https://cloud.google.com/sql/docs/postgres/editions-intro)."""
    pattern, words = TIERS[edition]
    return None if re.fullmatch(pattern, tier) else f"edition {edition} has {words}"


def connections(max_instances: int, pool_size: int, pool_overflow: int, database_connections: int) -> str | None:
    """
    Instances that fit into the database: while a rollout runs there are those of two revisions, and the administration's job.

    An instance opens its pool, all overflow, and one connection by which it tells whether the database is there.
    """
    needed = 2 * max_instances * (pool_size + pool_overflow + 1) + JOB_CONNECTIONS
    room = database_connections - RESERVED_CONNECTIONS
    if needed <= room:
        return None
    return (
        f"a rollout takes 2 x max_instances x (pool_size + pool_overflow + 1) + {JOB_CONNECTIONS} = {needed} connections, "
        f"the database has {room} to give: "
        "lower them or choose a larger tier"
    )


def network(network_name: str, subnetwork_name: str) -> str | None:
    """An existing subnetwork is named together with its network."""
    return "an existing subnetwork needs its network's name too" if subnetwork_name and not network_name else None


def oauth(oauth: str, oauth_client_id: str, oauth_client_secret: str, support_email: str) -> str | None:
    """What each way of signing in needs, and nothing that it would ignore."""
    if oauth not in ("google_managed", "custom", "brand"):
        return "one of google_managed, custom and brand"
    if oauth == "custom":
        if bool(oauth_client_id) != bool(oauth_client_secret):
            return f"custom needs both, the client's {'secret' if oauth_client_id else 'id'} is missing"
        if not oauth_client_id:
            return "custom needs the client's id and secret"
        if not re.fullmatch(r"[0-9]+-[a-z0-9]+\.apps\.googleusercontent\.com", oauth_client_id):
            return "a client id looks like 123456789012-abc123.apps.googleusercontent.com"
    elif oauth_client_id or oauth_client_secret:
        return f"{oauth} takes no client id and secret: leave them out or choose custom"
    if oauth == "brand" and not support_email:
        return "brand needs the support e-mail of the consent screen"
    return None


def zone(zone: str, region: str) -> str | None:
    """A zone of the region."""
    return (
        None
        if not zone or re.fullmatch(re.escape(region) + "-[a-z]", zone)
        else f"a zone of {region} is {region}-a, -b, …"
    )


ONE: dict[str, Callable[[Any], str | None]] = {
    "age": matching(
        r"(?=.)(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?", "days, hours, minutes and seconds such as 30d or 1d12h"
    ),
    "account_id": matching(
        r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "6 to 30 lower-case letters, digits and dashes, beginning with a letter"
    ),
    "bucket_name": bucket_name,
    "cidr": cidr,
    "domain": matching(domains.NAME.pattern, domains.ALLOWED),
    "email": optional(matching(EMAIL, "an e-mail address such as ml@example.com")),
    "image": matching(
        r"(?!https?:)[a-z0-9][a-z0-9.-]*(?::\d+)?(?:/[A-Za-z0-9._-]+)+(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?",
        "an image such as europe-west2-docker.pkg.dev/my-project/mlflow/server:3.17.2",
    ),
    "labels": labels,
    "memory": matching(r"\d+(?:Mi|Gi)", "a size such as 512Mi or 2Gi"),
    "name": matching(
        r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", "1 to 63 lower-case letters, digits and dashes, beginning with a letter"
    ),
    "project_id": matching(
        r"[a-z][a-z0-9-]{4,28}[a-z0-9]",
        "a project id (not its name or number): 6 to 30 lower-case letters, digits and dashes",
    ),
    "time": matching(r"(?:[01]\d|2[0-3]):[0-5]\d", "a time in UTC such as 03:00"),
}
# What is a list or a text, and says itself which of its entries is wrong.
LISTS: dict[str, Callable[[Any], str | None]] = {"domains": no_domains, "members": no_members}
# What is checked together: the variables in the order of the function's parameters.
TOGETHER: dict[str, Callable[..., str | None]] = {
    "cloud_sql_size": cloud_sql_size,
    "connections": connections,
    "network": network,
    "oauth": oauth,
    "zone": zone,
}


def region(value: Any, extra_regions: list[str]) -> str | None:
    """A region that this release knows or the user added."""
    known = REGIONS.union(extra_regions)
    if value in known:
        return None
    near = get_close_matches(str(value), known, n=3, cutoff=0.5)
    return f"a region of Google Cloud{f', perhaps {near[0]}' if near else ' such as europe-west2'} (a new one goes into mlflow_extra_regions)"


def problems(values: Mapping[str, Mapping[str, Any]], extra_regions: list[str] | None = None) -> list[str]:
    """Return a sentence for each value that is not what its group says; AnsibleFilterError for an unknown group."""
    found = []
    for group, variables in values.items():
        if group in TOGETHER:
            if allowed := TOGETHER[group](*variables.values()):
                given = {name: value for name, value in variables.items() if value and not name.endswith("_secret")}
                found.append(f"{', '.join(f'{name} is {value!r}' for name, value in given.items())}: {allowed}.")
        elif group in LISTS:
            found += [f"{name}: {wrong}." for name, value in variables.items() if (wrong := LISTS[group](value))]
        elif group == "region" or group in ONE:
            for name, value in variables.items():
                if allowed := region(value, extra_regions or []) if group == "region" else ONE[group](value):
                    found.append(f"{name} is {repr(value) if value else 'not set'}; allowed: {allowed}.")
        else:
            raise AnsibleFilterError(f"problems knows no group {group!r}")
    return found


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, object]:
        return {"problems": problems}
