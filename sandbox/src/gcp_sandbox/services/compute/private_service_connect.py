"""Private Service Connect: endpoints (forwarding rules) for Google's APIs and for published services (service attachments).

https://cloud.google.com/vpc/docs/private-service-connect
"""

from __future__ import annotations

from collections.abc import Callable

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.compute.base import Doc, find, invalid, key_of, link, missing
from gcp_sandbox.services.compute.kinds import Draft


def prepare_endpoint(draft: Draft) -> None:
    """An endpoint for Google's APIs or a published service has neither ports nor a scheme."""
    doc = draft.doc
    doc.pop("loadBalancingScheme", None)
    if not doc.get("IPAddress"):
        raise missing("resource.IPAddress")
    if "/" in doc["IPAddress"]:
        doc["IPAddress"] = (find(draft.app, key_of(doc["IPAddress"])) or {"address": doc["IPAddress"]})["address"]
    doc.setdefault("network", link(f"projects/{draft.project}/global/networks/default"))
    doc.setdefault("pscConnectionId", doc["id"])
    service, network = draft.target("target") if "/" in doc["target"] else None, draft.target("network")
    doc.setdefault("pscConnectionStatus", _status(service, draft) if service else "ACCEPTED")
    if service is None and network is not None:
        registration = {
            "namespace": f"goog-psc-{network['name']}-{network['id']}",
            "serviceDirectoryRegion": "us-central1",
        }
        doc["serviceDirectoryRegistrations"] = [
            registration | r for r in doc.get("serviceDirectoryRegistrations", [{}])
        ]


def _status(service: Doc, draft: Draft) -> str:
    """The status of an endpoint in the draft's project for a published service (a service attachment)."""
    ours = (draft.project, draft.call.project_number, draft.doc.get("network"))
    accepted, rejected = (
        {v for entry in service.get(field, ()) for v in ([entry] if isinstance(entry, str) else entry.values())}
        for field in ("consumerAcceptLists", "consumerRejectLists")
    )
    if rejected.intersection(ours):
        return "REJECTED"
    return (
        "ACCEPTED"
        if service["connectionPreference"] == "ACCEPT_AUTOMATIC" or accepted.intersection(ours)
        else "PENDING"
    )


def rule_operation(private: str) -> Callable[[Doc], str]:
    """operationType of a method on forwarding rules; private: on an endpoint for Google's APIs."""
    usual = "delete" if private.startswith("delete") else "insert"
    return lambda doc: usual if "/" in doc.get("target", "/") else private


def prepare_attachment(draft: Draft) -> None:
    """A published service: a rule of an internal load balancer, and subnets that its consumers' addresses are in."""
    doc = draft.doc
    if not doc.get("targetService") and not doc.get("producerForwardingRule"):
        raise missing("resource.targetService")
    doc.setdefault("targetService", doc.get("producerForwardingRule"))
    for i, subnet in enumerate(doc["natSubnets"]):
        if (find(draft.app, key_of(subnet)) or {}).get("purpose") != "PRIVATE_SERVICE_CONNECT":
            raise invalid(f"natSubnets[{i}]", subnet, "The subnetwork's purpose must be PRIVATE_SERVICE_CONNECT.")
    doc.setdefault("pscServiceAttachmentId", {"high": draft.call.project_number, "low": doc["id"]})


def attachment_fields(app: Cloud, key: str, doc: Doc) -> Doc:
    """The endpoints that consumers have made for a published service."""
    rules = [rule for _, rule in app.store.list("compute.forwardingRules") if rule.get("target") == link(key)]
    ends = [
        {
            "endpoint": r["selfLink"],
            "consumerNetwork": r["network"],
            "pscConnectionId": r["pscConnectionId"],
            "status": r["pscConnectionStatus"],
        }
        for r in rules
    ]
    return {"connectedEndpoints": ends} if ends else {}
