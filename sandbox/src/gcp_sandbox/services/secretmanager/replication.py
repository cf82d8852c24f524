"""Where copies of a secret are kept, and the keys of Cloud KMS that they are encrypted with.

https://cloud.google.com/secret-manager/docs/choosing-replication, https://cloud.google.com/secret-manager/docs/cmek
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services import cloudkms

Doc = dict[str, Any]


def check(secret: Doc, region: str) -> None:
    """Refuse a new secret (of a region, or of none) whose replication Google refuses.  Raises ApiError 400."""
    given = secret.get("replication", {})
    if region:
        if given:
            raise ApiError(400, "Secret.replication must not be specified for a regional secret.")
        _check_key(secret, region)
        return
    if "customerManagedEncryption" in secret:
        raise ApiError(400, "Secret.customer_managed_encryption is of regional secrets: use Secret.replication.")
    if len(given) != 1:
        raise ApiError(400, "Secret.replication must be specified: automatic or user_managed.")
    if "automatic" in given:
        _check_key(given["automatic"], "global")
        return
    replicas = given["userManaged"].get("replicas", [])
    places = [replica.get("location", "") for replica in replicas]
    if not places:
        raise ApiError(400, "At least one replica must be specified for user managed replication.")
    for place in places:
        if not re.fullmatch(r"[a-z]+(-[a-z]+)+\d+", place):
            raise ApiError(400, f"Invalid location [{place}].")
    if len(set(places)) != len(places):
        raise ApiError(400, "Replica locations must be unique.")
    if len({"customerManagedEncryption" in replica for replica in replicas}) == 2:
        raise ApiError(400, "Customer-managed encryption must be specified for all replicas or for none.")
    for replica in replicas:
        _check_key(replica, replica["location"])


def _check_key(holder: Doc, place: str) -> None:
    if "customerManagedEncryption" not in holder:
        return
    name = holder["customerManagedEncryption"].get("kmsKeyName", "")
    found = cloudkms.location(name)
    if not found:
        raise ApiError(400, f"Invalid Cloud KMS key name [{name}].")
    if found != place:
        raise ApiError(400, f"The Cloud KMS key [{name}] must be in the location [{place}].")


def _keys(secret: Doc) -> Iterator[str]:
    """The keys that the copies of a secret are encrypted with."""
    given = secret.get("replication", {})
    for holder in (secret, given.get("automatic", {}), *given.get("userManaged", {}).get("replicas", ())):
        if "customerManagedEncryption" in holder:
            yield holder["customerManagedEncryption"]["kmsKeyName"]


def use_keys(cloud: Cloud, project_id: str, secret: Doc, permission: str = "useToEncrypt") -> None:
    """Refuse where Secret Manager's agent in a project may not use the keys of a secret.  Raises ApiError."""
    for name in dict.fromkeys(_keys(secret)):
        cloudkms.use(cloud, project_id, "secretmanager", name, permission)


def same_places(left: Doc, right: Doc) -> bool:
    """Whether two replications are alike but for their keys."""

    def places(replication: Doc) -> list[str] | None:
        if "automatic" in replication:
            return None
        return sorted(r.get("location", "") for r in replication.get("userManaged", {}).get("replicas", []))

    return places(left) == places(right)


def of_version(secret: Doc) -> Doc:
    """What a new version of a secret says of its copies."""
    given = secret.get("replication")
    if given is None:
        return _encrypted(secret)
    if "automatic" in given:
        return {"replicationStatus": {"automatic": _encrypted(given["automatic"])}}
    replicas = [{"location": r["location"]} | _encrypted(r) for r in given["userManaged"]["replicas"]]
    return {"replicationStatus": {"userManaged": {"replicas": replicas}}}


def _encrypted(holder: Doc) -> Doc:
    key = holder.get("customerManagedEncryption", {}).get("kmsKeyName")
    return {"customerManagedEncryption": {"kmsKeyVersionName": f"{key}/cryptoKeyVersions/1"}} if key else {}
