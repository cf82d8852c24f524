"""Private Service Connect: endpoints (forwarding rules) for Google's APIs.

https://cloud.google.com/vpc/docs/private-service-connect
"""

from __future__ import annotations

from collections.abc import Callable

from gcp_sandbox.services.compute.base import Doc, find, key_of, link, missing
from gcp_sandbox.services.compute.kinds import Draft


def prepare_endpoint(draft: Draft) -> None:
    """An endpoint for Google's APIs has neither ports nor a scheme."""
    doc = draft.doc
    doc.pop("loadBalancingScheme", None)
    if not doc.get("IPAddress"):
        raise missing("resource.IPAddress")
    if "/" in doc["IPAddress"]:
        doc["IPAddress"] = (find(draft.cloud, key_of(doc["IPAddress"])) or {"address": doc["IPAddress"]})["address"]
    doc.setdefault("network", link(f"projects/{draft.project}/global/networks/default"))
    doc.setdefault("pscConnectionId", doc["id"])
    doc.setdefault("pscConnectionStatus", "ACCEPTED")
    network = draft.target("network")
    if network is not None:
        registration = {
            "namespace": f"goog-psc-{network['name']}-{network['id']}",
            "serviceDirectoryRegion": "us-central1",
        }
        doc["serviceDirectoryRegistrations"] = [
            registration | r for r in doc.get("serviceDirectoryRegistrations", [{}])
        ]


def rule_operation(private: str) -> Callable[[Doc], str]:
    """operationType of a method on forwarding rules; private: on an endpoint for Google's APIs."""
    usual = "delete" if private.startswith("delete") else "insert"
    return lambda doc: usual if "/" in doc.get("target", "/") else private
