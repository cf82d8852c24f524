"""DNSSEC keys of a signed zone: real ones, made when they are first asked for.

https://cloud.google.com/dns/docs/reference/rest/v1/dnsKeys, https://www.rfc-editor.org/rfc/rfc4034#section-5.1.4
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gcp_sandbox.core.operations import now
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.dns import common
from gcp_sandbox.services.dns.common import KEYS, SERVICE, Doc, zone_key, zone_of

_ALGORITHMS = {"rsasha1": 5, "rsasha256": 8, "rsasha512": 10, "ecdsap256sha256": 13, "ecdsap384sha384": 14}
_FLAGS = {"keySigning": 257, "zoneSigning": 256}


def _public(algorithm: str, length: int) -> bytes:
    """Public key field of a new key (RFC 3110, RFC 6605)."""
    if algorithm.startswith("ecdsa"):
        curve, size = (ec.SECP256R1(), 32) if algorithm == "ecdsap256sha256" else (ec.SECP384R1(), 48)
        point = ec.generate_private_key(curve).public_key().public_numbers()
        return point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big")
    numbers = rsa.generate_private_key(65537, max(length, 1024)).public_key().public_numbers()
    return b"\x03" + numbers.e.to_bytes(3, "big") + numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")


def _tag(rdata: bytes) -> int:
    total = sum(byte << 8 if at % 2 == 0 else byte for at, byte in enumerate(rdata))
    return (total + (total >> 16)) & 0xFFFF


def _new(zone: Doc, spec: Doc, ident: str) -> Doc:
    public = _public(spec["algorithm"], spec.get("keyLength", 0))
    rdata = _FLAGS[spec["keyType"]].to_bytes(2, "big") + bytes([3, _ALGORITHMS[spec["algorithm"]]]) + public
    doc: Doc = {
        "kind": "dns#dnsKey",
        "id": ident,
        "type": spec["keyType"],
        "algorithm": spec["algorithm"],
        "isActive": True,
        "keyTag": _tag(rdata),
        "creationTime": now(digits=3),
        "publicKey": base64.b64encode(public).decode(),
        "description": "",
    }
    if "keyLength" in spec:
        doc["keyLength"] = spec["keyLength"]
    if spec["keyType"] == "keySigning":  # what goes into the parent zone
        labels = [label.lower().encode() for label in zone["dnsName"].split(".") if label]
        owner = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        doc["digests"] = [
            {"type": kind, "digest": hashlib.new(kind, owner + rdata).hexdigest().upper()}
            for kind in ("sha256", "sha1")
        ]
    return doc


def _keys(call: Call) -> list[Doc]:
    zone = zone_of(call)
    config = zone.get("dnssecConfig", {})
    if config.get("state", "off") == "off":
        return []
    prefix = zone_key(call, zone["name"]) + "/dnsKeys/"
    if not call.app.store.list(KEYS, prefix):
        for number, spec in enumerate(config["defaultKeySpecs"]):
            call.app.store.put(KEYS, f"{prefix}{number}", _new(zone, spec, str(number)))
    return [doc for _, doc in call.app.store.list(KEYS, prefix)]


def _shown(call: Call, doc: Doc) -> Doc:
    wanted = call.params.get("digestType", "").split(",")
    if wanted == [""] or "digests" not in doc:
        return doc
    return doc | {"digests": [d for d in doc["digests"] if d["type"] in wanted]}


@SERVICE.method("dns.dnsKeys.list", permission="dns.dnsKeys.list")
def list_(call: Call) -> Doc:
    return common.listed(call, "dns#dnsKeysListResponse", "dnsKeys", [_shown(call, doc) for doc in _keys(call)])


@SERVICE.method("dns.dnsKeys.get", permission="dns.dnsKeys.get")
def get(call: Call) -> Doc:
    for doc in _keys(call):
        if doc["id"] == call.params["dnsKeyId"]:
            return _shown(call, doc)
    raise common.missing("parameters.dnsKeyId", call.params["dnsKeyId"])
