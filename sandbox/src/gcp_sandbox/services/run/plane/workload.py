"""What an instance runs, and the error where it cannot."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from gcp_sandbox.core.network import Source

# https://cloud.google.com/run/docs/configuring/services/memory-limits
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|k|M|G|)")
_BYTES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9, "": 1}


def quantity(text: str) -> float:
    """Bytes of an amount of memory ("512Mi"); 0 for what is none."""
    found = QUANTITY.fullmatch(text)
    return float(found.group(1)) * _BYTES[found.group(2)] if found else 0


def total_memory(containers: list[dict[str, Any]]) -> float:
    """Bytes that containers may use together."""
    limits = (container.get("resources", {}).get("limits", {}) for container in containers)
    return sum(quantity(each.get("memory", "512Mi")) for each in limits)


class StartError(Exception):
    """Why a container does not run, in Google's words; reason: of the revision's condition, code: google.rpc.Code."""

    def __init__(self, message: str, reason: dict[str, str] | None = None, status: str = "FAILED_PRECONDITION") -> None:
        super().__init__(message)
        self.reason = reason or {}
        self.status = status


@dataclasses.dataclass
class Workload:
    """What an instance runs: a revision, or a task of an execution.

    name: for logs.  template: containers, volumes, … in the API's shape.  networks: VPC networks (store keys) it is
    attached to.  env: what Cloud Run adds to every container's variables.  log: file its output goes to.
    """

    name: str
    project: dict[str, Any]
    region: str
    account: str
    template: dict[str, Any]
    networks: frozenset[str]
    env: dict[str, str]
    log: Path

    @property
    def source(self) -> Source:
        """Where its connections come from, with direct VPC egress or from the machines of a connector.

        https://cloud.google.com/vpc/docs/configure-serverless-vpc-access#network-tags
        """
        access = self.template.get("vpcAccess") or {}
        if connector := access.get("connector"):
            name = connector.rsplit("/", 1)[-1]
            tags = frozenset({"vpc-connector", f"vpc-connector-{self.region}-{name}"})
            return Source(self.networks, tags)
        tags = frozenset(tag for interface in access.get("networkInterfaces", ()) for tag in interface.get("tags", ()))
        return Source(self.networks, tags, self.account)

    @property
    def ingress(self) -> dict[str, Any]:
        """The container that gets the requests: the one with a port, or the only one."""
        containers = self.template["containers"]
        return next((c for c in containers if c.get("ports")), containers[0])

    @property
    def port(self) -> int:
        """Port of the ingress container."""
        return int((self.ingress.get("ports") or [{}])[0].get("containerPort", 8080))

    @property
    def http2(self) -> bool:
        """Whether the container is asked in HTTP/2 (its port is named h2c)."""
        return (self.ingress.get("ports") or [{}])[0].get("name") == "h2c"
