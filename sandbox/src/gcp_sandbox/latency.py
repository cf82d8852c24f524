"""How long Google takes, in seconds, by what is done: the one table of durations."""

from __future__ import annotations

import random
from collections.abc import Callable

SECONDS = {
    "serviceusage.enable": 20.0,
    "serviceusage.disable": 10.0,
    "compute.networks.insert": 20.0,
    "compute.subnetworks.insert": 15.0,
    "compute.addresses": 3.0,
    "compute.backendServices": 15.0,
    "compute.default": 8.0,
    "servicenetworking.connections": 60.0,
    "sqladmin.instances.insert": 420.0,
    "sqladmin.instances.update": 60.0,
    "sqladmin.instances.delete": 60.0,
    "sqladmin.default": 3.0,
    "run.services": 25.0,
    "run.jobs": 5.0,
    "vpcaccess.connectors": 120.0,
    "compute.certificate": 900.0,
}


def profile(text: str) -> Callable[[str], float]:
    """A function from row to seconds.  text: "none", "realistic" or "realistic:SCALE".  Raises ValueError."""
    name, _, scale = text.partition(":")
    if name == "none" and not scale:
        return lambda row: 0.0
    if name != "realistic":
        raise ValueError(f"latency {text!r}: allowed are none, realistic, realistic:SCALE")
    factor = float(scale or 1)

    def seconds(row: str) -> float:
        base = SECONDS.get(row)
        if base is None:
            base = SECONDS.get(row.split(".")[0] + ".default", 2.0)
        return base * factor * random.uniform(0.8, 1.2)

    return seconds
