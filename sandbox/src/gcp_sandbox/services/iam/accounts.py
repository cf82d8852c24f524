"""Documents of service accounts: their storage, lookup by e-mail address or unique ID, and keys."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import RSAAlgorithm

from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import EMAILS, certified_key, new_key, own_key, public_pem
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError, error_info
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.service import Call

Doc = dict[str, Any]
ACCOUNTS = "iam.serviceAccounts"
DELETED = "iam.deletedServiceAccounts"
KEYS = "iam.serviceAccountKeys"
TOKEN_URI = "https://oauth2.googleapis.com/token"
_FOR_EVER = "9999-12-31T23:59:59Z"


def create(cloud: Cloud, project: Doc, email: str, **fields: Any) -> Doc:
    """A new service account of a project (its record); fields: displayName, description."""
    unique = f"1{secrets.randbelow(10**20):020d}"
    doc: Doc = {
        "name": f"projects/{project['projectId']}/serviceAccounts/{email}",
        "projectId": project["projectId"],
        "uniqueId": unique,
        "email": email,
        "etag": "MDEwMjE5MjA=",
        "oauth2ClientId": unique,
    }
    doc |= {k: v for k, v in fields.items() if v}
    cloud.store.put(EMAILS, email, {"key": doc["name"], "uniqueId": unique})
    return cloud.store.put(ACCOUNTS, doc["name"], doc)


def agent(cloud: Cloud, email: str) -> str:
    """Record a service agent (a Google account that belongs to no project); returns its unique ID."""
    known = cloud.store.peek(EMAILS, email)
    if known is None:
        known = cloud.store.put(EMAILS, email, {"key": "", "uniqueId": f"1{secrets.randbelow(10**20):020d}"})
    return known["uniqueId"]


def by_email(cloud: Cloud, email: str) -> Doc | None:
    """The document (read-only) of a service account, enabled or not."""
    known = cloud.store.peek(EMAILS, email)
    return cloud.store.peek(ACCOUNTS, known["key"]) if known else None


def find(cloud: Cloud, name: str) -> Doc | None:
    """The document (read-only) of ``projects/P/serviceAccounts/E``; P may be -, and E an e-mail address or unique ID."""
    _, project, _, account = name.split("/")[:4]
    if account.isdigit():
        doc = next((d for _, d in cloud.store.list(ACCOUNTS) if d["uniqueId"] == account), None)
    else:
        doc = by_email(cloud, account)
    if doc is None or project == "-":
        return doc
    record = projects.find(cloud, project)
    return doc if record and record["projectId"] == doc["projectId"] else None


# -- keys --------------------------------------------------------------------


def create_key(cloud: Cloud, account: Doc, *, system: bool = False, bits: int = 2048) -> Doc:
    """Create a key of an account; the document has the private key (PEM) in ``_pem``."""
    days = 16 if system else 0
    when = datetime.now(UTC)
    doc = {
        "name": f"{account['name']}/keys/{secrets.token_hex(20)}",
        "validAfterTime": now(digits=0),
        "validBeforeTime": (when + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") if system else _FOR_EVER,
        "keyAlgorithm": f"KEY_ALG_RSA_{bits}",
        "keyOrigin": "GOOGLE_PROVIDED",
        "keyType": "SYSTEM_MANAGED" if system else "USER_MANAGED",
    }
    pem = new_key() if bits == 2048 else _small_key(bits)
    doc["_pem"], doc["_cert"] = pem, _certificate(pem, account["email"])
    return cloud.store.put(KEYS, doc["name"], doc)


def upload_key(cloud: Cloud, account: Doc, certificate: bytes) -> Doc:
    """A key with a user-held private key, from its certificate (PEM).  Raises ValueError if it is not an RSA key."""
    found = x509.load_pem_x509_certificate(certificate)
    public = found.public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        raise ValueError("not an RSA key")
    known = {1024: "KEY_ALG_RSA_1024", 2048: "KEY_ALG_RSA_2048"}
    doc = {
        "name": f"{account['name']}/keys/{secrets.token_hex(20)}",
        "validAfterTime": found.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "validBeforeTime": found.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "keyAlgorithm": known.get(public.key_size, "KEY_ALG_UNSPECIFIED"),
        "keyOrigin": "USER_PROVIDED",
        "keyType": "USER_MANAGED",
        "_cert": found.public_bytes(serialization.Encoding.PEM).decode(),
    }
    return cloud.store.put(KEYS, doc["name"], doc)


def _small_key(bits: int) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _certificate(pem: str, email: str) -> str:
    """The self-signed certificate with which a public key is published."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, email.replace("@", ".")[:64])])
    when = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(when - timedelta(minutes=5))
        .not_valid_after(when + timedelta(days=3650))
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def keys(cloud: Cloud, account: Doc) -> list[Doc]:
    """The keys of an account (read-only), oldest first."""
    return sorted((d for _, d in cloud.store.list(KEYS, account["name"] + "/keys/")), key=lambda d: d["validAfterTime"])


def system_key(cloud: Cloud, account: Doc) -> Doc:
    """The Google-managed key of an account, created when first needed, and again after it has expired."""
    mine = (k for k in keys(cloud, account) if k["keyType"] == "SYSTEM_MANAGED")
    found = next((k for k in mine if k["validBeforeTime"] > now()), None)
    return found or create_key(cloud, account, system=True)


def key_id(key: Doc) -> str:
    """The ID of a key, which is the last part of its name and the ``kid`` of its signatures."""
    return key["name"].rpartition("/")[2]


def credentials_file(account: Doc, key: Doc) -> Doc:
    """The content of a key file."""
    email = account["email"]
    return {
        "type": "service_account",
        "project_id": account["projectId"],
        "private_key_id": key_id(key),
        "private_key": key["_pem"],
        "client_email": email,
        "client_id": account["uniqueId"],
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": TOKEN_URI,
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{email.replace('@', '%40')}",
        "universe_domain": "googleapis.com",
    }


def certificates(cloud: Cloud, account: Doc) -> dict[str, str]:
    """key ID -> certificate (PEM) of an account's usable keys."""
    return {
        key_id(k): k["_cert"] for k in keys(cloud, account) if not k.get("disabled") and k["validBeforeTime"] > now()
    }


def jwks(cloud: Cloud, account: Doc) -> Doc:
    """The public keys of an account's usable keys as a JWK set."""
    out = []
    for kid, pem in certificates(cloud, account).items():
        out.append(RSAAlgorithm.to_jwk(certified_key(pem), as_dict=True) | {"kid": kid, "alg": "RS256", "use": "sig"})
    return {"keys": out}


def denied(call: Call, permission: str, shown: str) -> ApiError:
    """The 403 in IAM's wording, for all resources."""
    text = f"Permission '{permission}' denied on resource (or it may not exist)."
    details = [error_info("IAM_PERMISSION_DENIED", "iam.googleapis.com", permission=permission)]
    return ApiError(403, text, details=details)


def sign_jwt(cloud: Cloud, account: Doc, payload: str) -> tuple[str, str]:
    """(key ID, JWT) with the given claims (JSON text), signed with the account's Google-managed key."""
    key = system_key(cloud, account)
    signed = jwt.encode(json.loads(payload), own_key(key["_pem"]), algorithm="RS256", headers={"kid": key_id(key)})
    return key_id(key), signed


def sign_blob(cloud: Cloud, account: Doc, data: bytes) -> tuple[str, str]:
    """(key ID, base64 of the RSA-SHA256 signature) with the account's Google-managed key."""
    key = system_key(cloud, account)
    return key_id(key), base64.b64encode(own_key(key["_pem"]).sign(data, padding.PKCS1v15(), hashes.SHA256())).decode()


def public_key(key: Doc) -> str:
    """The public key (PEM) of a key's document."""
    if "_pem" in key:
        return public_pem(key["_pem"])
    public = x509.load_pem_x509_certificate(key["_cert"].encode()).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def self_signed(cloud: Cloud, token: str, host: str) -> str | None:
    """E-mail address of the signer of a JWT for an API's host, sent instead of an access token, or None.

    https://developers.google.com/identity/protocols/oauth2/service-account#jwt-auth
    """
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        email = jwt.decode(token, options={"verify_signature": False}).get("iss")
        account = by_email(cloud, email) if isinstance(email, str) else None
        certificate = certificates(cloud, account).get(kid or "") if account else None
        if certificate is None:
            return None
        claims = jwt.decode(
            token,
            certified_key(certificate),
            algorithms=["RS256"],
            leeway=300,
            options={"verify_aud": False, "require": ["iss", "sub", "iat", "exp"]},
        )
    except jwt.InvalidTokenError:
        return None
    meant = claims.get("scope") or str(claims.get("aud", "")).rstrip("/") == f"https://{host}"
    return email if meant and claims["sub"] == email and claims["exp"] - claims["iat"] <= 3600 else None
