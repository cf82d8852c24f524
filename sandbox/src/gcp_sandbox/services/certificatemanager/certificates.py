"""Certificates: self-managed ones are stored as given, managed ones are issued when their domains are authorized.

A domain is authorized by the record of its DNS authorization, or, without one, by a load balancer that serves the certificate
at the address of the domain. With an issuance config, a CA pool issues the certificate, for any domain. What has become of it
is found out whenever somebody looks.
https://cloud.google.com/certificate-manager/docs/certificates
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.resources import serve
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.certificatemanager import authorizations, issuance
from gcp_sandbox.services.certificatemanager.common import (
    AUTHORIZATIONS,
    BASE,
    CERTIFICATES,
    CONFIGS,
    ENTRIES,
    Doc,
    Resources,
    begin,
    ident,
    in_use,
    invalid,
    key_of,
    numbered,
    refer,
    stamped,
)
from gcp_sandbox.services.dns import resolver

HOST = "//certificatemanager.googleapis.com/"
_REASONS = {
    "FAILED_NOT_VISIBLE": "CONFIG",
    "FAILED_CAA_CHECKING": "CAA",
    "FAILED_CAA_FORBIDDEN": "CAA",
    "FAILED_RATE_LIMITED": "RATE_LIMITED",
}
_PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo


def _prepare(call: Call, key: str, new: Doc, old: Doc | None) -> Doc:
    if "selfManaged" in new and (old is None or new["selfManaged"].get("pemPrivateKey")):
        new = _self_managed(new)
    elif old is None:
        new = _managed(call, new)
    return stamped(new, old)


def _managed(call: Call, new: Doc) -> Doc:
    managed = dict(new.get("managed", {}))
    domains = [domain.lower().removesuffix(".") for domain in managed.get("domains", ())]
    if not domains:
        raise invalid("managed.domains", "at least one domain is required")
    if len(domains) > 100:
        raise invalid("managed.domains", "too many domains")
    due = time.time() + call.cloud.latency("certificatemanager.certificate")
    if managed.get("issuanceConfig"):
        return _by_config(call, new, managed, domains) | {"_due": due}
    names = managed.get("dnsAuthorizations", [])
    keys = refer(call, AUTHORIZATIONS, names, "managed.dns_authorizations", "certificatemanager.dnsauthorizations.use")
    found = [call.cloud.store.peek(AUTHORIZATIONS, key) for key in keys]
    for domain in domains:
        if domain.startswith("*.") and not keys:
            raise invalid("managed.domains", f"wildcard domain {domain} requires a DNS authorization")
        if keys and not any(doc and authorizations.covered(doc, domain) for doc in found):
            raise invalid("managed.dns_authorizations", f"missing DNS authorization for domain {domain}")
    managed |= {"domains": domains, "state": "PROVISIONING"} | ({"dnsAuthorizations": keys} if keys else {})
    return new | {"managed": managed, "sanDnsnames": domains, "_due": due}


def _by_config(call: Call, new: Doc, managed: Doc, domains: list[str]) -> Doc:
    if managed.get("dnsAuthorizations"):
        raise invalid("managed.issuance_config", "issuance_config and dns_authorizations can't be used together")
    names = [managed["issuanceConfig"]]
    (key,) = refer(call, CONFIGS, names, "managed.issuance_config", "certificatemanager.certissuanceconfigs.use")
    place = (call.params.get("parent") or "").rpartition("/")[2]
    if key.split("/")[3] != place:
        raise invalid("managed.issuance_config", "the certificate issuance config must be in the same location")
    managed |= {"domains": domains, "state": "PROVISIONING", "issuanceConfig": key}
    return new | {"managed": managed, "sanDnsnames": domains, "_number": call.project_number}


def _self_managed(new: Doc) -> Doc:
    given = new["selfManaged"]
    pem, key = given.get("pemCertificate", ""), given.get("pemPrivateKey", "")
    try:
        certificate = x509.load_pem_x509_certificates(pem.encode())[0]
    except (ValueError, IndexError):
        raise invalid("self_managed.pem_certificate", "failed to parse the certificate chain") from None
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError):
        raise invalid("self_managed.pem_private_key", "failed to parse the private key") from None
    ours, theirs = (
        one.public_bytes(serialization.Encoding.DER, _PUBLIC)
        for one in (private.public_key(), certificate.public_key())
    )
    if ours != theirs:
        raise invalid("self_managed.pem_private_key", "the private key does not match the certificate")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        domains = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        domains = []
    return new | {
        "selfManaged": {},
        "pemCertificate": pem,
        "_privateKey": key,
        "sanDnsnames": domains,
        "expireTime": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


# -- issuing ---------------------------------------------------------------


def current(cloud: Cloud, key: str) -> Doc | None:
    """A certificate in the state that it has by now."""
    doc = cloud.store.get(CERTIFICATES, key)
    if doc is None or doc.get("managed", {}).get("state", "ACTIVE") == "ACTIVE":
        return doc
    managed = doc["managed"]
    if "issuanceConfig" in managed:
        return doc if doc["_due"] > time.time() else _issued(cloud, key, doc)
    if doc["_due"] > time.time():
        attempts = [{"domain": domain, "state": "AUTHORIZING"} for domain in managed["domains"]]
        return doc | {"managed": managed | {"authorizationAttemptInfo": attempts}}
    attempts = [_attempt(cloud, key, managed, domain) for domain in managed["domains"]]
    failed = [attempt for attempt in attempts if attempt["state"] == "FAILED"]
    managed |= {"authorizationAttemptInfo": attempts}
    if failed:
        # Google keeps trying, except where a CAA record forbids it.
        forbidden = any(attempt["failureReason"] == "CAA" for attempt in failed)
        issue = {
            "reason": "AUTHORIZATION_ISSUE",
            "details": "Some domains are not authorized, see authorization_attempt_info.",
        }
        managed |= {"state": "FAILED" if forbidden else "PROVISIONING", "provisioningIssue": issue}
        return doc | {"managed": managed}
    managed |= {"state": "ACTIVE"}
    managed.pop("provisioningIssue", None)
    expires = (datetime.now(UTC) + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return cloud.store.put(CERTIFICATES, key, doc | {"managed": managed, "expireTime": expires})


def _issued(cloud: Cloud, key: str, doc: Doc) -> Doc:
    """A certificate that a CA pool has issued, or has refused to."""
    managed = doc["managed"]
    try:
        chain, private = issuance.issue(cloud, managed["issuanceConfig"], doc["_number"], managed["domains"])
    except ApiError as error:
        issue = {"reason": "AUTHORIZATION_ISSUE", "details": error.message}
        return doc | {"managed": managed | {"provisioningIssue": issue}}
    until = x509.load_pem_x509_certificates(chain.encode())[0].not_valid_after_utc
    done = {"pemCertificate": chain, "_privateKey": private, "expireTime": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return cloud.store.put(CERTIFICATES, key, doc | done | {"managed": managed | {"state": "ACTIVE"}})


def _attempt(cloud: Cloud, key: str, managed: Doc, domain: str) -> Doc:
    out: Doc = {"domain": domain, "attemptTime": now()}
    state = cloud.restrictions.certificate(domain)
    trouble: Doc = {}
    if not state and managed.get("dnsAuthorizations"):
        trouble = _record_trouble(cloud, managed["dnsAuthorizations"], domain)
    elif not state and not _reached(cloud, key, domain):
        trouble = {"details": f"The domain {domain} does not lead to a load balancer that serves the certificate."}
    if not state and not trouble:
        return out | {"state": "AUTHORIZED"}
    return out | {"state": "FAILED", "failureReason": _REASONS.get(state, "CONFIG")} | trouble


def _record_trouble(cloud: Cloud, names: list[str], domain: str) -> Doc:
    """What is wrong with the record of a domain's authorization; {} if it is as it must be."""
    for name in names:
        doc = cloud.store.peek(AUTHORIZATIONS, name)
        if doc is None or not authorizations.covered(doc, domain):
            continue
        record, found = doc["dnsResourceRecord"], authorizations.resolved(cloud, doc)
        if record["data"] in found:
            return {}
        cname = {"name": record["name"], "expectedData": record["data"], "resolvedData": found}
        return {
            "details": f"The CNAME record {record['name']} does not have the expected data.",
            "troubleshooting": {"cname": cname, "issues": ["CNAME_MISMATCH"]},
        }
    return {"details": f"There is no DNS authorization for {domain}."}


def _reached(cloud: Cloud, key: str, domain: str) -> bool:
    """Whether a load balancer serves a certificate, as far as is known at the address of the domain."""
    maps = {entry.split("/certificateMapEntries/")[0] for entry in users(cloud, key)}
    addresses = resolver.lookup(cloud, domain, "A")
    for _, rule in cloud.store.list("compute.forwardingRules"):
        target = rule.get("target", "")
        proxy = cloud.store.peek("compute.targetHttpsProxies", target[target.find("projects/") :])
        attached = (proxy or {}).get("certificateMap", "").partition("googleapis.com/")[2]
        if attached in maps and (addresses is None or rule.get("IPAddress") in addresses):
            return True
    return False


def users(cloud: Cloud, key: str) -> list[str]:
    """Keys of the map entries that have a certificate."""
    return [entry for entry, doc in cloud.store.list(ENTRIES) if key in doc.get("certificates", ())]


def _proxies(cloud: Cloud, key: str) -> list[str]:
    """Keys of the proxies of regional load balancers that have a certificate."""
    links = (f"{HOST}{key}", f"{HOST}{numbered(cloud, key)}")
    found = cloud.store.list("compute.targetHttpsProxies")
    return [proxy for proxy, doc in found if any(link in doc.get("sslCertificates", ()) for link in links)]


def of_link(cloud: Cloud, link: str) -> Doc | None:
    """The certificate that a proxy refers to, in the state that it has by now."""
    return current(cloud, key_of(cloud, link.removeprefix(HOST)))


# -- the collection --------------------------------------------------------


def _shown(cloud: Cloud, key: str, doc: Doc) -> Doc:
    doc = dict(current(cloud, key) or doc)
    if names := doc.get("managed", {}).get("dnsAuthorizations"):
        doc["managed"] = doc["managed"] | {"dnsAuthorizations": [numbered(cloud, name) for name in names]}
    if config := doc.get("managed", {}).get("issuanceConfig"):
        doc["managed"] = doc["managed"] | {"issuanceConfig": numbered(cloud, config)}
    used = [{"name": f"{HOST}{numbered(cloud, entry)}"} for entry in users(cloud, key)]
    used += [{"name": f"//compute.googleapis.com/{proxy}"} for proxy in _proxies(cloud, key)]
    return doc | ({"usedBy": used} if used else {})


def _operation(call: Call, method: str, key: str) -> Doc:
    if method == "delete" and (users(call.cloud, key) or _proxies(call.cloud, key)):
        text = "can't delete certificate that is referenced by a CertificateMapEntry or other resources"
        raise in_use(numbered(call.cloud, key), text)
    if method == "patch" and "managed" in call.body:
        raise ApiError(400, "managed certificates can't be updated")
    return begin(call, method, key)


serve(
    Resources(
        f"{BASE}.certificates",
        CERTIFICATES,
        permission="certificatemanager.certs",
        type="google.cloud.certificatemanager.v1.Certificate",
        mutable=("description", "labels", "selfManaged"),
        ident=ident("certificateId"),
        prepare=_prepare,
        shown=_shown,
        operation=_operation,
    ),
    "create get list patch delete",
)
