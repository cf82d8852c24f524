"""Compute Engine: networks and load balancing.  https://cloud.google.com/compute/docs/reference/rest/v1"""

from __future__ import annotations

from gcp_sandbox.core import orgpolicy, projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.services.compute import catalog, extras, project, vpc
from gcp_sandbox.services.compute.base import SERVICE, link
from gcp_sandbox.services.compute.dialect import compute_time

__all__ = ["SERVICE", "catalog", "extras", "project", "setup"]
# The rules that a default network starts with: https://cloud.google.com/firewall/docs/firewalls#more_rules_default_vpc
_FIREWALLS: dict[str, tuple[str, list[str], list[tuple[str, list[str]]]]] = {
    "default-allow-icmp": ("Allow ICMP from anywhere", ["0.0.0.0/0"], [("icmp", [])]),
    "default-allow-internal": (
        "Allow internal traffic on the default network",
        ["10.128.0.0/9"],
        [("tcp", ["0-65535"]), ("udp", ["0-65535"]), ("icmp", [])],
    ),
    "default-allow-rdp": ("Allow RDP from anywhere", ["0.0.0.0/0"], [("tcp", ["3389"])]),
    "default-allow-ssh": ("Allow SSH from anywhere", ["0.0.0.0/0"], [("tcp", ["22"])]),
}


def setup(cloud: Cloud) -> None:
    """Create the resources that a project gets when it enables the API."""
    cloud.when_enabled(SERVICE.host, _enabled)


def _enabled(cloud: Cloud, project_id: str) -> None:
    key = f"projects/{project_id}/global/networks/default"
    skipped = orgpolicy.enforced(cloud, project_id, "compute.skipDefaultNetworkCreation")
    first = cloud.store.peek("compute.enabled", project_id) is None
    if first and not skipped and cloud.store.peek("compute.networks", key) is None:
        vpc.default_network(cloud, project_id)
        network = link(key)
        for name, (description, sources, allowed) in _FIREWALLS.items():
            vpc.new_resource(
                cloud,
                f"projects/{project_id}/global/firewalls/{name}",
                "firewall",
                {
                    "description": description,
                    "network": network,
                    "priority": 65534,
                    "sourceRanges": sources,
                    "direction": "INGRESS",
                    "disabled": False,
                    "logConfig": {"enable": False},
                    "allowed": [{"IPProtocol": p} | ({"ports": ports} if ports else {}) for p, ports in allowed],
                },
            )
    cloud.store.put("compute.enabled", project_id, {"time": compute_time()})
    number = (projects.find(cloud, project_id) or {})["projectNumber"]
    agent = f"serviceAccount:service-{number}@compute-system.iam.gserviceaccount.com"
    cloud.iam.grant(project_resource(project_id), "roles/compute.serviceAgent", agent)
