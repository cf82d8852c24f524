"""Signed requests: who signed a URL or a request's headers, when the signature is right and it has not expired.

https://cloud.google.com/storage/docs/authentication/signatures, https://cloud.google.com/storage/docs/access-control/signed-urls-v2,
https://cloud.google.com/storage/docs/migrating
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote

from aiohttp import web
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.storage import hmackeys

_LONGEST = 7 * 24 * 3600
_EARLY = 15 * 60
_FIELDS = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders")


@dataclasses.dataclass(frozen=True)
class _Scheme:
    """One family of version 4: prefix of its parameters and headers, and what ends and begins its derived keys."""

    prefix: str
    service: str
    ending: str
    secret: str


# By algorithm.  Clients that speak S3 use the last one.
_SCHEMES = {
    "GOOG4-RSA-SHA256": _Scheme("x-goog", "storage", "goog4_request", ""),
    "GOOG4-HMAC-SHA256": _Scheme("x-goog", "storage", "goog4_request", "GOOG4"),
    "AWS4-HMAC-SHA256": _Scheme("x-amz", "s3", "aws4_request", "AWS4"),
}


class BadSignature(Exception):
    """Status, code, message and details of the answer to a URL whose signature does not hold."""

    def __init__(self, status: int, code: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details


def signer(app: Cloud, request: web.BaseRequest, resource: str) -> Principal | None:
    """The service account that signed a request or its URL, or None where it is not signed.  Raises BadSignature.

    resource: "/bucket/object", percent-encoded, which version 2 signs whatever the host.
    """
    query = {name.lower(): value for name, value in request.rel_url.query.items()}
    for prefix in ("x-goog", "x-amz"):
        if f"{prefix}-signature" in query:
            return _url(app, request, prefix, query)
    if "signature" in query and "googleaccessid" in query:
        return _version_2(app, request, resource)
    header = request.headers.get("Authorization", "")
    if header.partition(" ")[0] in _SCHEMES:
        return _header(app, request, header)
    return None


def _url(app: Cloud, request: web.BaseRequest, prefix: str, query: dict[str, str]) -> Principal:
    missing = [name for name in _FIELDS if f"{prefix}-{name.lower()}" not in query]
    if missing:
        raise _malformed(f"Missing query parameter {prefix.title()}-{missing[0]}")
    algorithm, credential, stamp, expires, names = (query[f"{prefix}-{name.lower()}"] for name in _FIELDS)
    if algorithm not in _SCHEMES or _SCHEMES[algorithm].prefix != prefix:
        raise _malformed(f"{prefix.title()}-Algorithm {algorithm} is not supported")
    if not expires.isdigit() or not 1 <= int(expires) <= _LONGEST:
        raise _malformed(f"{prefix.title()}-Expires must be a number of seconds between 1 and 604800")
    principal = _version_4(app, request, algorithm, credential, stamp, names, query[f"{prefix}-signature"])
    begin = _moment(stamp)
    _in_time(begin, begin + int(expires))
    return principal


def _header(app: Cloud, request: web.BaseRequest, header: str) -> Principal:
    algorithm, _, rest = header.partition(" ")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if not {"Credential", "SignedHeaders", "Signature"} <= fields.keys():
        raise _malformed("The Authorization header needs Credential, SignedHeaders and Signature")
    stamp = request.headers.get(f"{_SCHEMES[algorithm].prefix}-date", "")
    names, signature = fields["SignedHeaders"], fields["Signature"]
    principal = _version_4(app, request, algorithm, fields["Credential"], stamp, names, signature)
    if abs(time.time() - _moment(stamp)) > _EARLY:
        text = "The difference between the request time and the current time is too large."
        raise BadSignature(403, "RequestTimeTooSkewed", text)
    return principal


def _moment(stamp: str) -> float:
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _version_4(
    app: Cloud, request: web.BaseRequest, algorithm: str, credential: str, stamp: str, names: str, signature: str
) -> Principal:
    scheme = _SCHEMES[algorithm]
    found = re.fullmatch(rf"(.+)/(\d{{8}})/([a-z0-9-]+)/{scheme.service}/{scheme.ending}", credential)
    if not found or not re.fullmatch(r"\d{8}T\d{6}Z", stamp) or found[2] != stamp[:8]:
        raise _malformed("Error parsing the Credential; it must match the date of the request")
    canonical = _canonical(request, scheme.prefix, names)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([algorithm, stamp, credential.partition("/")[2], digest])
    return _proved(app, scheme, found, text, signature, CanonicalRequest=canonical)


def form(app: Cloud, fields: dict[str, str]) -> Principal:
    """The service account that signed the policy of a form, whose fields have names in small letters.  Raises BadSignature."""
    for algorithm, scheme in _SCHEMES.items():
        if fields.get(f"{scheme.prefix}-algorithm") == algorithm:
            pattern = rf"(.+)/(\d{{8}})/([a-z0-9-]+)/{scheme.service}/{scheme.ending}"
            found = re.fullmatch(pattern, fields.get(f"{scheme.prefix}-credential", ""))
            if not found:
                raise _malformed("Error parsing the Credential")
            return _proved(app, scheme, found, fields["policy"], fields.get(f"{scheme.prefix}-signature", ""))
    raise _malformed("The form's algorithm is missing or not supported")


def _proved(app: Cloud, scheme: _Scheme, found: re.Match[str], text: str, signature: str, **details: str) -> Principal:
    """Whose signature of a text it is, by the parts of a credential.  Raises BadSignature."""
    try:
        given = binascii.unhexlify(signature)
    except binascii.Error:
        given = b""
    if not scheme.secret:
        return _signed(app, found[1], text, given, **details)

    def right(secret: str) -> bool:
        key = (scheme.secret + secret).encode()
        for part in (found[2], found[3], scheme.service, scheme.ending):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.digest(key, text.encode(), "sha256"), given)

    return _keyed(app, found[1], right, StringToSign=text, **details)


def _canonical(request: web.BaseRequest, prefix: str, signed_names: str) -> str:
    path, _, raw_query = request.raw_path.partition("?")
    pairs = sorted(
        (quote(k, safe="-_.~"), quote(v, safe="-_.~"))
        for k, v in parse_qsl(raw_query, keep_blank_values=True)
        if k.lower() != f"{prefix}-signature"
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
    payload = request.headers.get(f"{prefix}-content-sha256", "UNSIGNED-PAYLOAD")
    path = re.sub("%..", lambda found: found[0].upper(), path)
    head = [request.method, path, "&".join(f"{k}={v}" for k, v in pairs), "".join(lines)]
    return "\n".join([*head, ";".join(names), payload])


def _keyed(app: Cloud, ident: str, right: Callable[[str], bool], **details: str) -> Principal:
    """The account whose HMAC key it is, if right(its secret).  Raises BadSignature."""
    from gcp_sandbox.services.iam import accounts

    key = hmackeys.active(app, ident)
    if key is None:
        text = "The Google Cloud Storage access key you provided does not exist in our records."
        raise BadSignature(403, "InvalidAccessKeyId", text)
    account = accounts.by_email(app, key["serviceAccountEmail"])
    if account and not account.get("disabled") and right(key["_secret"]):
        return Principal(key["serviceAccountEmail"])
    raise _mismatch(**details)


def _version_2(app: Cloud, request: web.BaseRequest, resource: str) -> Principal:
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
    if query["GoogleAccessId"].startswith("GOOG"):

        def right(secret: str) -> bool:
            return hmac.compare_digest(hmac.digest(secret.encode(), text.encode(), "sha1"), signature)

        principal = _keyed(app, query["GoogleAccessId"], right, StringToSign=text)
    else:
        principal = _signed(app, query["GoogleAccessId"], text, signature)
    _in_time(0, int(expires))
    return principal


def _signed(app: Cloud, email: str, text: str, signature: bytes, **details: str) -> Principal:
    from gcp_sandbox.services.iam import accounts

    account = accounts.by_email(app, email)
    if account and not account.get("disabled"):
        for pem in accounts.certificates(app, account).values():
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
