# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The front door that the deployment has, where mlflow_front_door asks for another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.load_balancer import BY_DNS, LoadBalancer
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight.site import Site

COMPUTE, CERTIFICATE_MANAGER = "compute.googleapis.com", "certificatemanager.googleapis.com"
PREFIX = "load balancer: "
TOGETHER = {"image", "front_door"}
"""The parts of a run that changes the front door: the service and what leads to it."""


def reads(site: Site) -> dict[str, tuple[str, str, Callable[[], dict[str, Any] | None]]]:
    """What to read, as of existing.read(): everything that a load balancer has left, also by a run that was interrupted."""
    balancer = LoadBalancer(site)
    calls = {PREFIX + key: (label, COMPUTE, call) for key, label, call in balancer.calls()}
    for key, label, call in balancer.calls_of_certificate_manager():
        calls[PREFIX + key] = (label, CERTIFICATE_MANAGER, call)
    return calls


def address(site: Site) -> str:
    """The address of a load balancer that goes, "" without one."""
    return str(site.live(f"{PREFIX}address").get("address", ""))


def read_records(site: Site) -> None:
    """Read which records of the zone lead to a load balancer that goes."""
    if site.zone and address(site):
        label = f"records of zone {site.text('iap_lb_dns_zone')}"
        read = partial(LoadBalancer(site).read_records, address(site))
        site.found[f"{PREFIX}records"] = site.look(label, "dns.googleapis.com", read)


def left(site: Site) -> Iterator[str]:
    """What is left of a load balancer that the deployment does not ask for."""
    for key, found in site.found.items():
        if not key.startswith(PREFIX) or not found.body:
            continue
        if key == f"{PREFIX}address" and not LoadBalancer(site).owns_address:
            continue
        names = found.body.get("names") or ()
        yield from (f"{found.body['kind']} {name}" for name in names)
        if not names:
            yield found.label


def changes(site: Site) -> bool:
    """Whether the deployment has another front door than the one that it asks for, or a part of it."""
    service = site.live("service")
    other = bool(service) and bool(service.get("iapEnabled")) != (site.door == "cloud_run")
    return other or any(left(site))


def check(site: Site) -> None:
    """Check that a change of the front door is made as a whole, and leaves somebody who can sign in."""
    if not changes(site) or not site.parts & {*TOGETHER, "users"}:
        return
    if not site.parts >= TOGETHER:
        site.refuse(
            "mlflow_front_door",
            "the deployment has another front door; change it by a run without --tags, which takes the other one away first",
        )
    if not site.listed_of_door("users") and not site.flag("mlflow_allow_nobody"):
        site.refuse(
            "mlflow_webapp_users",
            "the front door changes, and nobody could sign in at the new one; name the members, or set mlflow_allow_nobody to true",
        )


def result(site: Site) -> dict[str, Any]:
    """What the play needs to take the other front door away."""
    records = site.live(f"{PREFIX}records").get("names", [])
    return {
        "changes": changes(site),
        "remove": list(left(site)),
        "address": address(site),
        "records": [name.removesuffix(".") for name in records],
        "certificate_manager": any(site.live(PREFIX + key) for key in BY_DNS),
    }
