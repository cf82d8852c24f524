"""Customer-supplied encryption keys: who reads an object must bring the key it was written with.  Bytes stay as they are.

https://cloud.google.com/storage/docs/encryption/customer-supplied-keys
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services.storage.common import Doc

OWN, SOURCE = "x-goog-encryption", "x-goog-copy-source-encryption"


def supplied(headers: Mapping[str, str], prefix: str = OWN) -> Doc:
    """{"customerEncryption": …} of the key that a request brings, or {}.  Raises ApiError 400."""
    algorithm, key = headers.get(f"{prefix}-algorithm", ""), headers.get(f"{prefix}-key", "")
    if not algorithm and not key:
        return {}
    if algorithm != "AES256":
        raise _bad("customerEncryptionAlgorithmIsInvalid", f"Unsupported encryption algorithm: {algorithm}.")
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise _bad("customerEncryptionKeyFormatIsInvalid", "Missing an encryption key, or it is not base64 encoded.")
    digest = base64.b64encode(hashlib.sha256(raw).digest()).decode()
    if headers.get(f"{prefix}-key-sha256") != digest:
        raise _bad(
            "customerEncryptionKeySha256IsInvalid", "Missing a SHA256 hash of the encryption key, or it is not correct."
        )
    return {"customerEncryption": {"encryptionAlgorithm": "AES256", "keySha256": digest}}


def unlock(doc: Doc, headers: Mapping[str, str], prefix: str = OWN) -> None:
    """Refuse to read an object without its key, or with another.  Raises ApiError 400."""
    given, wanted = supplied(headers, prefix).get("customerEncryption"), doc.get("customerEncryption")
    if given == wanted:
        return
    if not given:
        text = "The target object is encrypted by a customer-supplied encryption key."
        raise _bad("resourceIsEncryptedWithCustomerEncryptionKey", text)
    if not wanted:
        text = "The target object is not encrypted by a customer-supplied encryption key."
        raise _bad("resourceNotEncryptedWithCustomerEncryptionKey", text)
    raise _bad("customerEncryptionKeyIsIncorrect", "The provided encryption key is incorrect.")


def hidden(doc: Doc, headers: Mapping[str, str]) -> Doc:
    """A record without its checksums, unless the request brings the key of its object."""
    wanted = doc.get("customerEncryption")
    if not wanted or supplied(headers).get("customerEncryption") == wanted:
        return doc
    return {k: v for k, v in doc.items() if k not in ("md5Hash", "crc32c")}


def _bad(reason: str, text: str) -> ApiError:
    return ApiError(400, text, reason=reason)
