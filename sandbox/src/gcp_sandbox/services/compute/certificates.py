"""SSL certificates: self-managed ones are stored as given, Google-managed ones are provisioned in the background.

A managed certificate becomes ACTIVE some time after a forwarding rule first leads to a proxy that uses it, if its domains lead
there; those that are in no public zone of this cloud are assumed to.  https://cloud.google.com/load-balancing/docs/ssl-certificates/google-managed-certs
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services.compute.base import SERVICE, Doc, invalid, key_of, missing
from gcp_sandbox.services.compute.kinds import Draft
from gcp_sandbox.services.dns import resolver

KIND = "compute.sslCertificates"
_UNFINISHED = ("PROVISIONING", "PROVISIONING_FAILED")
_RETRY_SECONDS = 0.5  # until domains that failed are looked at again
_PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo


def prepare(draft: Draft) -> None:
    doc = draft.doc
    managed = doc.get("type") == "MANAGED" or "managed" in doc and "type" not in doc
    doc["type"] = "MANAGED" if managed else "SELF_MANAGED"
    if managed:
        _managed(doc)
    else:
        _self_managed(doc)


def _managed(doc: Doc) -> None:
    domains = doc.get("managed", {}).get("domains", [])
    if not domains:
        raise invalid("managed.domains", "", "At least one domain must be specified.")
    if len(domains) > 100:
        raise invalid("managed.domains", len(domains), "At most 100 domains can be specified.")
    for i, domain in enumerate(domains):
        labels = domain.removesuffix(".").split(".")
        if domain.startswith("*."):
            raise invalid(f"managed.domains[{i}]", domain, "Wildcard domains are not supported.")
        if len(domain) > 64 or len(labels) < 2 or not all(_label(part) for part in labels):
            raise invalid(f"managed.domains[{i}]", domain, "Must be a valid domain name of at most 64 characters.")
        if domains.count(domain) > 1:
            raise invalid(f"managed.domains[{i}]", domain, "Duplicate domain.")
    status = "PROVISIONING"
    doc["managed"] = {"domains": domains, "status": status, "domainStatus": dict.fromkeys(domains, status)}


def _label(text: str) -> bool:
    return (
        0 < len(text) <= 63 and text.replace("-", "a").isalnum() and not text.startswith("-") and not text.endswith("-")
    )


def _self_managed(doc: Doc) -> None:
    own = doc.get("selfManaged", {})
    pem = doc.get("certificate") or own.get("certificate")
    key = doc.pop("privateKey", None) or own.get("privateKey")
    if not pem:
        raise missing("resource.certificate")
    if not key:
        raise missing("resource.privateKey")
    try:
        certificate = x509.load_pem_x509_certificates(pem.encode())[0]
    except ValueError:
        raise ApiError(
            400, "The SSL certificate could not be parsed.", reason="sslCertificateCouldNotParseCert"
        ) from None
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError):
        raise ApiError(400, "The SSL key could not be parsed.", reason="sslCertificateCouldNotParseKey") from None
    ours, theirs = (
        k.public_bytes(serialization.Encoding.DER, _PUBLIC) for k in (private.public_key(), certificate.public_key())
    )
    if ours != theirs:
        text = "The SSL certificate and the private key do not match."
        raise ApiError(400, text, reason="sslCertificateKeyMismatch")
    doc |= {
        "certificate": pem,
        "selfManaged": {"certificate": pem},
        "_privateKey": key,
        "expireTime": _stamp(certificate.not_valid_after_utc),
    }
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        doc["subjectAlternativeNames"] = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        pass


def _stamp(when: datetime) -> str:
    return when.astimezone(ZoneInfo("America/Los_Angeles")).isoformat(timespec="milliseconds")


def reached(cloud: Cloud) -> dict[str, set[str]]:
    """Keys of the certificates that are used by a forwarding rule, each with the addresses of these."""
    out: dict[str, set[str]] = {}
    for _, rule in cloud.store.list("compute.forwardingRules"):
        proxy = cloud.store.peek("compute.targetHttpsProxies", key_of(rule.get("target", "")))
        for link in (proxy or {}).get("sslCertificates", ()):
            out.setdefault(key_of(link), set()).add(rule.get("IPAddress", ""))
    return out


def _leads_elsewhere(cloud: Cloud, cert: str, domain: str) -> bool:
    """Whether the records of a domain do not have the address at which a certificate is served."""
    found = resolver.lookup(cloud, domain, "A")
    return found is not None and not reached(cloud).get(cert, set()) & set(found)


def _state(cloud: Cloud, cert: str, domain: str) -> str:
    """The state of a domain of a certificate that is due."""
    if forced := cloud.restrictions.certificate(domain):
        return forced
    return "FAILED_NOT_VISIBLE" if _leads_elsewhere(cloud, cert, domain) else "ACTIVE"


def review(cloud: Cloud, key: str = "", event: str = "") -> None:
    """Start, continue or cancel the provisioning of managed certificates after a change of the resources that use them."""
    wired = reached(cloud)
    for cert, doc in cloud.store.list(KIND):
        if doc.get("managed", {}).get("status") not in _UNFINISHED:
            continue
        if cert not in wired:
            if "_due" in doc:
                cloud.store.put(KIND, cert, {k: v for k, v in doc.items() if k != "_due"})
        elif "_due" not in doc:
            due = time.time() + cloud.latency("compute.certificate")
            cloud.store.put(KIND, cert, dict(doc) | {"_due": due})
            _wait(cloud, cert, due)


def _wait(cloud: Cloud, cert: str, due: float) -> None:
    if due <= time.time() and _provision(cloud, cert):
        return

    async def later() -> None:
        while (left := due - time.time()) > 0:
            await asyncio.sleep(left)
        while not _provision(cloud, cert):
            await asyncio.sleep(_RETRY_SECONDS)

    cloud.keep(asyncio.get_running_loop().create_task(later()))


def _provision(cloud: Cloud, cert: str) -> bool:
    """Note the states of a certificate's domains, once it is due; returns whether there is nothing left to try."""
    doc = cloud.store.get(KIND, cert)
    if doc is None or doc.get("_due", time.time() + 1) > time.time():
        return True
    domains = doc["managed"]["domains"]
    states = {domain: _state(cloud, cert, domain) for domain in domains}
    failed = {state for state in states.values() if state != "ACTIVE"}
    # A domain that does not lead to the load balancer may do so soon; Google keeps trying.
    status = "PROVISIONING" if failed == {"FAILED_NOT_VISIBLE"} else "PROVISIONING_FAILED" if failed else "ACTIVE"
    changed = doc["managed"] | {"status": status, "domainStatus": states}
    if not failed:
        del doc["_due"]
        doc |= {"expireTime": _stamp(datetime.now(UTC) + timedelta(days=90)), "subjectAlternativeNames": domains}
    if changed != doc["managed"]:
        cloud.store.put(KIND, cert, doc | {"managed": changed})
    return not failed


@SERVICE.starts
async def _resume(cloud: Cloud) -> None:
    for cert, doc in cloud.store.list(KIND):
        if "_due" in doc:
            _wait(cloud, cert, doc["_due"])
