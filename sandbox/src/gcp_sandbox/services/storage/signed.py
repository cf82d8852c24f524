"""Signed URLs: validate the signature and expiry, and find the signer.

https://cloud.google.com/storage/docs/authentication/signatures, https://cloud.google.com/storage/docs/access-control/signed-urls-v2
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote

from aiohttp import web
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud

_LONGEST = 7 * 24 * 3600
_EARLY = 15 * 60
_RSA = "GOOG4-RSA-SHA256"
_FIELDS = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders")


class BadSignature(Exception):
    """Status, code, message and details of the response to a URL with an invalid signature."""

    def __init__(self, status: int, code: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details


def signer(cloud: Cloud, request: web.BaseRequest, resource: str) -> Principal | None:
    """The service account that signed a request's URL, or None if it is not signed.  Raises BadSignature.

    resource: "/bucket/object", percent-encoded, which version 2 signs regardless of the host.
    """
    query = {name.lower(): value for name, value in request.rel_url.query.items()}
    algorithms = (
        query.get("x-goog-algorithm", _RSA),
        query.get("x-amz-algorithm", _RSA),
        request.headers.get("Authorization", "").partition(" ")[0],
    )
    if any("HMAC" in name for name in algorithms) or query.get("googleaccessid", "").startswith("GOOG"):
        text = "A header or query you provided requested a function that is not implemented."
        raise BadSignature(501, "NotImplemented", text, Details="HMAC keys: not in gcp-sandbox.")
    if "x-goog-signature" in query:
        return _version_4(cloud, request, query)
    if "signature" in query and "googleaccessid" in query:
        return _version_2(cloud, request, resource)
    return None


def _version_4(cloud: Cloud, request: web.BaseRequest, query: dict[str, str]) -> Principal:
    missing = [name for name in _FIELDS if f"x-goog-{name.lower()}" not in query]
    if missing:
        raise _malformed(f"Missing query parameter X-Goog-{missing[0]}")
    algorithm, credential, stamp, expires, names = (query[f"x-goog-{name.lower()}"] for name in _FIELDS)
    if algorithm != _RSA:
        raise _malformed(f"X-Goog-Algorithm {algorithm} is not supported")
    if not expires.isdigit() or not 1 <= int(expires) <= _LONGEST:
        raise _malformed("X-Goog-Expires must be a number of seconds between 1 and 604800")
    found = re.fullmatch(r"(.+)/(\d{8})/[a-z0-9-]+/storage/goog4_request", credential)
    if not found or not re.fullmatch(r"\d{8}T\d{6}Z", stamp) or found[2] != stamp[:8]:
        raise _malformed("Error parsing the Credential; it must match the date of the request")
    canonical = _canonical(request, names)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([algorithm, stamp, credential.partition("/")[2], digest])
    try:
        signature = binascii.unhexlify(query["x-goog-signature"])
    except binascii.Error:
        signature = b""
    principal = _signed(cloud, found[1], text, signature, CanonicalRequest=canonical)
    begin = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    _in_time(begin, begin + int(expires))
    return principal


def _canonical(request: web.BaseRequest, signed_names: str) -> str:
    path, _, raw_query = request.raw_path.partition("?")
    pairs = sorted(
        (quote(k, safe="-_.~"), quote(v, safe="-_.~"))
        for k, v in parse_qsl(raw_query, keep_blank_values=True)
        if k.lower() != "x-goog-signature"
    )
    names = signed_names.lower().split(";")
    lines = []
    for name in names:
        values = request.headers.getall(name, [])
        if not values:
            text = "Header was included in signedheaders, but not in the request."
            message = "Your request has a malformed header."
            raise BadSignature(400, "MalformedSecurityHeader", message, ParameterName=name, Details=text)
        lines.append(f"{name}:{','.join(' '.join(v.split()) for v in values)}\n")
    payload = request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
    path = re.sub("%..", lambda found: found[0].upper(), path)
    head = [request.method, path, "&".join(f"{k}={v}" for k, v in pairs), "".join(lines)]
    return "\n".join([*head, ";".join(names), payload])


def _version_2(cloud: Cloud, request: web.BaseRequest, resource: str) -> Principal:
    query = request.rel_url.query
    expires = query.get("Expires", "")
    if not expires.isdigit():
        raise _malformed("Expires must be a number of seconds since 1970")
    extra = sorted(
        (k.lower(), " ".join(v.split())) for k, v in request.headers.items() if k.lower().startswith("x-goog-")
    )
    lines = "".join(f"{k}:{v}\n" for k, v in extra)
    for name in ("generation", "upload_id"):
        if name in query:
            resource += f"{'&' if '?' in resource else '?'}{name}={query[name]}"
    head = [request.method, request.headers.get("Content-MD5", ""), request.headers.get("Content-Type", ""), expires]
    text = "\n".join(head) + "\n" + lines + resource
    try:
        signature = base64.b64decode(query["Signature"])
    except binascii.Error:
        signature = b""
    principal = _signed(cloud, query["GoogleAccessId"], text, signature)
    _in_time(0, int(expires))
    return principal


def _signed(cloud: Cloud, email: str, text: str, signature: bytes, **details: str) -> Principal:
    from gcp_sandbox.services.iam import accounts

    account = accounts.by_email(cloud, email)
    if account and not account.get("disabled"):
        for pem in accounts.certificates(cloud, account).values():
            public = x509.load_pem_x509_certificate(pem.encode()).public_key()
            assert isinstance(public, rsa.RSAPublicKey)
            try:
                public.verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())
            except InvalidSignature:
                continue
            return Principal(email)
    raise _mismatch(StringToSign=text, **details)


def _mismatch(**details: str) -> BadSignature:
    text = (
        "The request signature we calculated does not match the signature you provided. Check your Google secret key and "
        "signing method."
    )
    return BadSignature(403, "SignatureDoesNotMatch", "Access denied.", **details, Details=text)


def _in_time(begin: float, end: float) -> None:
    now = time.time()
    if now > end:
        when = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
        text = f"Request signature expired at: {when}"
        raise BadSignature(400, "ExpiredToken", "The provided token has expired.", Details=text)
    if now < begin - _EARLY:
        raise BadSignature(403, "AccessDenied", "Access denied.", Details="Request is not valid yet.")


def _malformed(text: str) -> BadSignature:
    return BadSignature(
        400, "AuthorizationQueryParametersError", "Invalid query authorization parameters.", Details=text
    )
