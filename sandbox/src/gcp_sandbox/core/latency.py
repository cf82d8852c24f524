"""The table of durations: how many seconds Google takes for each kind of call."""

from __future__ import annotations

import random

# A row applies to all names without a longer match: "compute" to "compute.routes.insert".
SECONDS = {
    "cloudresourcemanager.projects.create": 10.0,
    "serviceusage.enable": 20.0,
    "serviceusage.disable": 10.0,
    "compute": 8.0,
    "compute.addresses": 3.0,
    "compute.backendServices": 15.0,
    "compute.forwardingRules": 12.0,
    "compute.networks.insert": 20.0,
    "compute.sslCertificates": 3.0,
    "compute.subnetworks.insert": 15.0,
    # From when a forwarding rule first uses a managed certificate until it is active; the insert does not wait for it.
    "compute.certificate": 900.0,
    # From the creation of a managed certificate until it is active, if its records are there.
    "certificatemanager.certificate": 300.0,
    "servicenetworking.connections": 60.0,
    # For how long after an instance's deletion its network's connection is still in use, at least (up to four days).
    "servicenetworking.release": 600.0,
    "sqladmin": 3.0,
    "sqladmin.backupRuns": 60.0,
    "sqladmin.instances.insert": 420.0,
    "sqladmin.instances.update": 60.0,
    "sqladmin.instances.restart": 30.0,
    "sqladmin.instances.restoreBackup": 180.0,
    "sqladmin.instances.delete": 60.0,
    "run.services": 25.0,
    "run.jobs": 5.0,
    # For how long the subnet's addresses stay reserved after a service or job was deleted (one to two hours).
    "run.addresses": 5400.0,
    "vpcaccess.connectors": 120.0,
    "artifactregistry.repositories": 8.0,
    "cloudbuild.builds": 90.0,
    "": 2.0,
}


def base(row: str) -> float:
    """The seconds of a row, or of the longest matching one."""
    while row not in SECONDS:
        row = row.rpartition(".")[0]
    return SECONDS[row]


class Latency:
    """The durations of a sandbox: called with a row, the seconds of an operation; call: the seconds of every call.

    text: "none", "realistic" or "realistic:SCALE", "call:SECONDS", or both with a comma.  Raises ValueError.
    """

    def __init__(self, text: str) -> None:
        self._scale = self.call = 0.0
        for part in text.split(","):
            name, _, number = part.partition(":")
            if not {"none": not number, "realistic": True, "call": bool(number)}.get(name, False):
                raise ValueError(
                    f"latency {text!r}: must be none, realistic, realistic:SCALE or call:SECONDS, or two of them"
                )
            try:
                value = float(number or 1)
            except ValueError:
                raise ValueError(f"latency {text!r}: {number!r} is not a number") from None
            if name == "realistic":
                self._scale = value
            elif name == "call":
                self.call = value

    def __call__(self, row: str) -> float:
        """The seconds of an operation, different each time, 0 for none."""
        return base(row) * self._scale * random.uniform(0.8, 1.2)
