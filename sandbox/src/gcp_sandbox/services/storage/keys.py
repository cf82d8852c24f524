"""Keys of Cloud KMS that buckets and objects are encrypted with.

https://cloud.google.com/storage/docs/encryption/customer-managed-keys
"""

from __future__ import annotations

from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services import cloudkms
from gcp_sandbox.services.storage import common

Doc = dict[str, Any]
_DENIED = (
    "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been authorized to "
    "use this key."
)


def check(cloud: Cloud, bucket: Doc, name: str) -> None:
    """Refuse a key that a bucket's objects cannot be encrypted with.  Raises ApiError."""
    place = cloudkms.location(name)
    if not place:
        raise common.invalid(f"Invalid Cloud KMS key name: '{name}'.")
    wanted = {"EU": "europe"}.get(bucket["location"], bucket["location"].lower())
    if place != wanted:
        text = f"Cloud KMS key location '{place}' does not match the location '{wanted}' of the bucket."
        raise common.invalid(text)
    use(cloud, bucket, name, "useToEncrypt")


def read(cloud: Cloud, doc: Doc) -> None:
    """Refuse to give out an object whose key may not be used, if it has one.  Raises ApiError 403."""
    if "kmsKeyName" in doc:
        use(cloud, common.bucket_of(cloud, doc["bucket"]), doc["kmsKeyName"], "useToDecrypt")


def write(cloud: Cloud, doc: Doc) -> None:
    """Refuse to keep an object whose key may not be used, if it has one.  Raises ApiError 403."""
    if "kmsKeyName" in doc:
        use(cloud, common.bucket_of(cloud, doc["bucket"]), doc["kmsKeyName"], "useToEncrypt")


def use(cloud: Cloud, bucket: Doc, name: str, permission: str) -> None:
    """Refuse where the project's Cloud Storage agent may not use a key, or a version of one.  Raises ApiError 403."""
    try:
        cloudkms.use(cloud, bucket["_project"], "storage", name.partition("/cryptoKeyVersions/")[0], permission)
    except ApiError as error:
        text = _DENIED if error.code == 403 else error.message
        raise ApiError(403, text, reason="forbidden") from None
