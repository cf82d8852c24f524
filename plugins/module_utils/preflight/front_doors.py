# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The front door that the deployment has, where mlflow_front_door asks for another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.load_balancer import InternalLoadBalancer, LoadBalancer
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight.site import Site

COMPUTE, CERTIFICATE_MANAGER = "compute.googleapis.com", "certificatemanager.googleapis.com"
TOGETHER = {"image", "front_door"}
"""The parts of a run that changes the front door: the service and what leads to it."""


def others(site: Site) -> list[LoadBalancer]:
    """The load balancers that the deployment does not ask for."""
    kinds = {"load_balancer": LoadBalancer, "internal": InternalLoadBalancer}
    return [kind(site) for door, kind in kinds.items() if door != site.door and site.text(f"{kind.role}_name")]


def key(balancer: LoadBalancer, name: str) -> str:
    """The key of what is read of a load balancer."""
    return f"{balancer.role}: {name}"


def reads(site: Site) -> dict[str, tuple[str, str, Callable[[], dict[str, Any] | None]]]:
    """What to read, as of existing.read(): everything that a load balancer has left, also by a run that was interrupted."""
    calls = {}
    for balancer in others(site):
        if isinstance(balancer, InternalLoadBalancer):
            name, label, call = balancer.address_call()
            calls[key(balancer, name)] = (label, COMPUTE, call)
            continue
        for name, label, call in balancer.calls():
            calls[key(balancer, name)] = (label, COMPUTE, call)
        for name, label, call in balancer.calls_of_certificate_manager():
            calls[key(balancer, name)] = (label, CERTIFICATE_MANAGER, call)
    return calls


def address(site: Site, balancer: LoadBalancer) -> str:
    """The address of a load balancer that goes, "" without one."""
    return str(site.live(key(balancer, "address")).get("address", ""))


def addresses(site: Site) -> list[str]:
    """The addresses of the load balancers that go."""
    return [found for balancer in others(site) if (found := address(site, balancer))]


def read_more(site: Site) -> None:
    """Read which records lead to a load balancer that goes, and what Certificate Manager has of an internal one."""
    for balancer in others(site):
        if not address(site, balancer):
            continue
        if zone := balancer.text("dns_zone"):
            read = partial(balancer.read_records, address(site, balancer))
            site.found[key(balancer, "records")] = site.look(f"records of zone {zone}", "dns.googleapis.com", read)
        if isinstance(balancer, InternalLoadBalancer):
            for name, label, call in balancer.calls_of_certificate_manager():
                site.found[key(balancer, name)] = site.look(label, CERTIFICATE_MANAGER, call)


def left(site: Site, balancer: LoadBalancer) -> Iterator[str]:
    """What is left of a load balancer that the deployment does not ask for."""
    for name, found in site.found.items():
        if not name.startswith(key(balancer, "")) or name == key(balancer, "records") or not found.body:
            continue
        if name == key(balancer, "address") and not balancer.owns_address:
            continue
        names = found.body.get("names") or ()
        yield from (f"{found.body['kind']} {name}" for name in names)
        if not names:
            yield found.label


def changes(site: Site) -> bool:
    """Whether the deployment has another front door than the one that it asks for, or a part of it."""
    service = site.live("service")
    other = bool(service) and bool(service.get("iapEnabled")) != (site.door == "cloud_run")
    return other or any(any(left(site, balancer)) for balancer in others(site))


def check(site: Site) -> None:
    """Check that a change of the front door is made as a whole, and leaves somebody who can sign in."""
    if not changes(site) or not site.parts & {*TOGETHER, "users"}:
        return
    if not site.parts >= TOGETHER:
        site.refuse(
            "mlflow_front_door",
            "the deployment has another front door; change it by a run without --tags, which takes the other one away",
        )
    if not site.listed_of_door("users") and not site.flag("mlflow_allow_nobody"):
        site.refuse(
            "mlflow_webapp_users",
            "the front door changes, and nobody could sign in at the new one; name the members, or set mlflow_allow_nobody to true",
        )


def result(site: Site) -> dict[str, Any]:
    """What the play needs to take the other front doors away."""
    each = {kind.role: result_of(site, kind(site)) for kind in (LoadBalancer, InternalLoadBalancer)}
    return {
        "changes": changes(site),
        "closes": bool(site.live("service").get("iapEnabled")) and site.door != "cloud_run",
        "remove": [label for found in each.values() for label in found["remove"]],
        "addresses": addresses(site),
        **each,
    }


def result_of(site: Site, balancer: LoadBalancer) -> dict[str, Any]:
    """The same of one load balancer, as it is named by its role; nothing to remove of the one that is asked for."""
    records = site.live(key(balancer, "records")).get("names", [])
    manager = [name for name, _label, _call in balancer.calls_of_certificate_manager()]
    return {
        "remove": list(left(site, balancer)),
        "address": address(site, balancer),
        "records": [name.removesuffix(".") for name in records],
        "certificate_manager": any(site.live(key(balancer, name)) for name in manager),
    }
