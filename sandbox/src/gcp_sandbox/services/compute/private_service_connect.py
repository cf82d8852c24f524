"""Private Service Connect: endpoints (forwarding rules) for Google's APIs and for service attachments, such as Cloud SQL's.

https://cloud.google.com/vpc/docs/private-service-connect
"""

from __future__ import annotations

from collections.abc import Callable

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.compute import shared_vpc
from gcp_sandbox.services.compute.base import Doc, find, invalid, key_of, link, missing, not_found, parse
from gcp_sandbox.services.compute.kinds import Draft

ATTACHMENTS = "serviceAttachments"


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


def prepare_attached(draft: Draft) -> None:
    """
    An endpoint for a service attachment: an internal address of a subnet in its region.

    Nothing can listen on an address of a subnet here: the reserved address becomes one of 127.0.0.0/8 with the rule.
    """
    doc, attachment = draft.doc, key_of(draft.doc["target"])
    if doc.get("loadBalancingScheme"):
        text = "The load balancing scheme must be empty for a rule whose target is a service attachment."
        raise invalid("loadBalancingScheme", doc["loadBalancingScheme"], text)
    doc.pop("loadBalancingScheme", None)
    accepted = draft.cloud.attachments.accepts(attachment, draft.project)
    if accepted is None:
        raise not_found(attachment)
    if attachment.split("/")[3] != draft.region:
        raise invalid("target", doc["target"], "The service attachment must be in the region of the forwarding rule.")
    if draft.old is not None:
        return
    if not doc.get("IPAddress"):
        raise missing("resource.IPAddress")
    key = parse(draft.cloud, doc["IPAddress"], draft.project) or f"projects/{draft.project}/{draft.scope}/addresses/-"
    address = draft.cloud.store.get("compute.addresses", key)
    if address is None:
        given = draft.cloud.store.list("compute.addresses", f"projects/{draft.project}/{draft.scope}/")
        found = [(key, other) for key, other in given if other["address"] == doc["IPAddress"]]
        if not found:
            raise invalid("IPAddress", doc["IPAddress"], "It must be a reserved internal address.")
        key, address = found[0]
    subnet = key_of(address.get("subnetwork", ""))
    network = (find(draft.cloud, subnet) or {}).get("network") if subnet else None
    doc.setdefault("network", network)
    if not network or doc["network"] != network:
        raise invalid("network", doc["network"], "It must be the network of the address.")
    shared_vpc.require_use(draft.call, subnet)
    if not address["address"].startswith("127."):
        address["address"] = draft.cloud.attachments.address()
        draft.cloud.store.put("compute.addresses", key, address)
    doc |= {
        "IPAddress": address["address"],
        "pscConnectionId": doc["id"],
        "pscConnectionStatus": "ACCEPTED" if accepted else "PENDING",
    }


def endpoints(cloud: Cloud, attachment: str) -> dict[str, tuple[str, list[str]]]:
    """The accepted endpoints of a service attachment (projects/…): address, network (store key) and the subnet's range."""
    subnets = {doc["address"]: doc.get("subnetwork", "") for _, doc in cloud.store.list("compute.addresses")}
    found = [
        doc for _, doc in cloud.store.list("compute.forwardingRules") if doc.get("pscConnectionStatus") == "ACCEPTED"
    ]
    return {
        doc["IPAddress"]: (key_of(doc["network"]), _ranges(cloud, subnets.get(doc["IPAddress"], "")))
        for doc in found
        if key_of(doc.get("target", "")) == attachment
    }


def _ranges(cloud: Cloud, subnet: str) -> list[str]:
    found = find(cloud, key_of(subnet)) if subnet else None
    return [found["ipCidrRange"]] if found else []


def rule_operation(private: str) -> Callable[[Doc], str]:
    """operationType of a method on forwarding rules; private: on an endpoint for Google's APIs."""
    usual = "delete" if private.startswith("delete") else "insert"
    return lambda doc: usual if "/" in doc.get("target", "/") else private
