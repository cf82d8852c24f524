"""Access tokens, ID tokens and the keys they are signed with.

Access tokens contain their data, signed with the state's own key: they survive restarts without a growing table of tokens.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from gcp_sandbox.core.store import Store

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
# kind of the documents {key, uniqueId} by which the store finds the accounts that have an e-mail
EMAILS = "iam.emails"
_PREFIX = "ya29.sandbox-"
_REFRESH = "1//sandbox-"


@dataclasses.dataclass(frozen=True)
class Principal:
    """The caller: an e-mail address, and the member string of IAM policies."""

    email: str
    scopes: str = CLOUD_PLATFORM

    @property
    def is_service_account(self) -> bool:
        return self.email.endswith(".gserviceaccount.com")

    @property
    def member(self) -> str:
        """``user:…`` or ``serviceAccount:…``; for a federated identity, its ``principal://…`` identifier."""
        if self.email.startswith("principal://"):
            return self.email
        return f"{'serviceAccount' if self.is_service_account else 'user'}:{self.email}"


# A caller without credentials.
ANONYMOUS = Principal("")


def new_key() -> str:
    """A new RSA private key, PEM (PKCS 8)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@functools.lru_cache(maxsize=256)
def own_key(private_pem: str) -> rsa.RSAPrivateKey:
    """The key from a PEM that the sandbox itself generated, so its primes are not checked (which takes 50 ms)."""
    key = serialization.load_pem_private_key(private_pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def certified_key(certificate: str) -> rsa.RSAPublicKey:
    """The public key of a certificate (PEM) that the sandbox issued."""
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def public_pem(private_pem: str) -> str:
    """The public key (PEM) of a private key."""
    return (
        own_key(private_pem)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def subject_id(email: str) -> str:
    """The unique ID of an account, 21 digits as at Google."""
    number = int.from_bytes(hashlib.sha256(email.encode()).digest()[:8], "big") % 10**20
    return f"1{number:020d}"


class Tokens:
    """Issues and checks tokens."""

    def __init__(self, store: Store) -> None:
        self._store = store
        keys = store.get("sandbox", "token-keys")
        if keys is None:
            keys = {
                "seal": secrets.token_hex(32),
                "google": {"kid": secrets.token_hex(20), "pem": new_key()},
            }
            store.put("sandbox", "token-keys", keys)
        self._seal = bytes.fromhex(keys["seal"])
        self.kid: str = keys["google"]["kid"]
        self.private_key: str = keys["google"]["pem"]
        self.public_key = public_pem(self.private_key)
        self._signer = own_key(self.private_key)
        # The maximum lifetime in seconds of an account's access tokens; set by faults.
        self.longest: Callable[[str], float] = lambda email: float("inf")
        self._opened = functools.lru_cache(maxsize=1024)(self._open)

    def subject(self, email: str) -> str:
        """The unique ID of an account."""
        known = self._store.peek(EMAILS, email)
        return known["uniqueId"] if known else subject_id(email)

    def access_token(self, email: str, scopes: str = CLOUD_PLATFORM, lifetime: int = 3600) -> str:
        """A bearer token of an account; lifetime in seconds."""
        lifetime = int(min(lifetime, self.longest(email)))
        content = {"e": email, "s": scopes, "x": int(time.time()) + lifetime, "n": secrets.token_hex(4)}
        return self._sealed(_PREFIX, content)

    def refresh_token(self, email: str, scopes: str = f"openid {CLOUD_PLATFORM}") -> str:
        """A user's refresh token, which is valid for getting access tokens until it is revoked."""
        return self._sealed(_REFRESH, {"e": email, "s": scopes, "n": secrets.token_hex(4)})

    def _sealed(self, prefix: str, content: dict[str, Any]) -> str:
        body = base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")
        return f"{prefix}{body}.{self._mac(body)}"

    def _content(self, prefix: str, token: str) -> dict[str, Any] | None:
        if not token.startswith(prefix) or self._store.peek("oauth2.revoked", token) is not None:
            return None
        return self._opened(prefix, token)

    def _open(self, prefix: str, token: str) -> dict[str, Any] | None:
        body, _, mac = token.removeprefix(prefix).partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(body).encode()):
            return None
        return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))

    def _mac(self, body: str) -> str:
        return hmac.new(self._seal, body.encode(), "sha256").hexdigest()[:40]

    def check(self, token: str) -> dict[str, Any] | None:
        """The data of an access token {e: e-mail, s: scopes, x: expiry}, or None if it is not currently valid."""
        content = self._content(_PREFIX, token)
        return content if content and content["x"] > time.time() else None

    def check_refresh(self, token: str) -> dict[str, Any] | None:
        """The data of a refresh token {e: e-mail, s: scopes}, or None if it is not valid."""
        return self._content(_REFRESH, token)

    def principal(self, token: str) -> Principal | None:
        """The account of an access token, or None."""
        content = self.check(token)
        return Principal(content["e"], content["s"]) if content else None

    def id_token(self, email: str, audience: str, *, include_email: bool = True, lifetime: int = 3600) -> str:
        """An OpenID Connect ID token signed by "Google"."""
        when = int(time.time())
        claims: dict[str, Any] = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "azp": self.subject(email),
            "sub": self.subject(email),
            "iat": when,
            "exp": when + lifetime,
        }
        if include_email:
            claims |= {"email": email, "email_verified": True}
        return jwt.encode(claims, self._signer, algorithm="RS256", headers={"kid": self.kid})

    def jwks(self) -> dict[str, Any]:
        """The public keys of ID tokens (https://www.googleapis.com/oauth2/v3/certs)."""
        jwk = RSAAlgorithm.to_jwk(self._signer.public_key(), as_dict=True)
        return {"keys": [jwk | {"kid": self.kid, "alg": "RS256", "use": "sig"}]}

    def check_id_token(self, token: str) -> dict[str, Any] | None:
        """The claims of an ID token of the sandbox if signature and times are valid (the caller checks the audience)."""
        try:
            return jwt.decode(token, self.public_key, algorithms=["RS256"], options={"verify_aud": False})
        except jwt.InvalidTokenError:
            return None
