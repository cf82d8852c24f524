"""DNS authorizations: the CNAME record that proves the control of a domain, whoever its address belongs to.

https://cloud.google.com/certificate-manager/docs/domain-authorization#dns-auth
"""

from __future__ import annotations

import hashlib
import uuid

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.resources import serve
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.certificatemanager.common import (
    AUTHORIZATIONS,
    BASE,
    CERTIFICATES,
    Doc,
    Resources,
    begin,
    ident,
    in_use,
    invalid,
    stamped,
)
from gcp_sandbox.services.dns import resolver


def _prepare(call: Call, key: str, new: Doc, old: Doc | None) -> Doc:
    if old is not None:
        return stamped(new, old)
    domain = new.get("domain", "").lower().removesuffix(".")
    if "." not in domain or "*" in domain:
        raise invalid("domain", "invalid domain name")
    kind = new.setdefault("type", "FIXED_RECORD")
    for _, other in call.cloud.store.list(AUTHORIZATIONS, f"projects/{call.project_id}/"):
        if (other["domain"], other["type"]) == (domain, kind):
            raise ApiError(400, "DNS authorization for the tuple (project, domain, FIXED_OR_FLEXIBLE) already exists")
    own = f"_{hashlib.sha256(call.project_number.encode()).hexdigest()[:16]}" if kind == "PER_PROJECT_RECORD" else ""
    record = {
        "name": f"_acme-challenge{own}.{domain}.",
        "type": "CNAME",
        "data": f"{uuid.uuid4()}.{call.project_number[-1]}.authorize.certificatemanager.goog.",
    }
    return stamped(new | {"domain": domain, "dnsResourceRecord": record}, None)


def _in_use(call: Call, key: str) -> None:
    for _, doc in call.cloud.store.list(CERTIFICATES):
        if key in doc.get("managed", {}).get("dnsAuthorizations", ()):
            raise in_use(key, "can't delete DnsAuthorization that is referenced by a Certificate or other resources")


def _operation(call: Call, method: str, key: str) -> Doc:
    if method == "delete":
        _in_use(call, key)
    return begin(call, method, key)


def covered(doc: Doc, domain: str) -> bool:
    """Whether an authorization is for a domain, or for the one that it is a wildcard of."""
    return bool(doc["domain"] == domain.removeprefix("*."))


def resolved(cloud: Cloud, doc: Doc) -> list[str]:
    """What the record of an authorization leads to now."""
    zone = resolver.zone_of(cloud, doc["dnsResourceRecord"]["name"])
    found = cloud.store.peek("dns.resourceRecordSets", f"{zone}/rrsets/{doc['dnsResourceRecord']['name']}/CNAME")
    return list(found["rrdatas"]) if found else []


serve(
    Resources(
        f"{BASE}.dnsAuthorizations",
        AUTHORIZATIONS,
        permission="certificatemanager.dnsauthorizations",
        type="google.cloud.certificatemanager.v1.DnsAuthorization",
        mutable=("description", "labels"),
        ident=ident("dnsAuthorizationId"),
        prepare=_prepare,
        operation=_operation,
    ),
    "create get list patch delete",
)
