# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions for Secret Manager that several modules use."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import full_path, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.immutable import locations

BASE = "https://secretmanager.googleapis.com/v1/"


def secret_path(project: str, name: str, option: str = "name") -> str:
    """projects/P/secrets/S for a short name or such a path; raises InvalidInput for OPTION."""
    path = full_path(project, "secrets", name)
    parts = path.split("/")
    if len(parts) != 4 or parts[2] != "secrets" or not all(parts):
        raise InvalidInput(option, name, "give the name of a secret or projects/PROJECT/secrets/NAME")
    return path


def newest_enabled(client: Client, path: str) -> dict[str, Any] | None:
    """The newest enabled version of secret PATH, None without one."""
    return newest(client, path, "ENABLED")


def newest(client: Client, path: str, state: str) -> dict[str, Any] | None:
    """
    The newest version of secret PATH in STATE, None without one.
    https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/list
    """
    versions = client.items(f"{BASE}{path}/versions", "versions", params={"filter": f"state:{state}"})
    return max((v for v in versions if v.get("state") == state), key=version_number, default=None)


def has_version(client: Client, path: str) -> bool:
    """Whether secret PATH has a version in any state."""
    return any(client.items(f"{BASE}{path}/versions", "versions", params={"pageSize": 1}))


def is_stale(error: ApiError) -> bool:
    """The secret has been changed since its etag was read; the change can be repeated with the new one."""
    return error.reason == "ABORTED" or error.reason == "FAILED_PRECONDITION" and "etag" in error.message.lower()


def version_number(version: dict[str, Any]) -> int:
    """3 for …/versions/3."""
    return int(version["name"].rpartition("/")[2])


def payload(client: Client, version: str) -> bytes:
    """
    The value of VERSION, a resource name.
    https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
    """
    return base64.b64decode(client.get(f"{BASE}{version}:access")["payload"].get("data", ""))


def replication(regions: list[str], key: str) -> dict[str, Any]:
    """
    The replication of a new secret: in REGIONS, otherwise in the region of KEY; automatic if there is neither, or with a
    global KEY.
    """
    places = regions or [place for place in (values.location_of(key),) if place not in ("", "global")]
    bare = {"userManaged": {"replicas": [{"location": place} for place in places]}} if places else {"automatic": {}}
    return encrypted(bare, key)


def encrypted(replication: Mapping[str, Any], key: str) -> dict[str, Any]:
    """REPLICATION with KEY for all copies; unchanged without one."""
    if not key:
        return dict(replication)
    own = {"customerManagedEncryption": {"kmsKeyName": key}}
    if "automatic" in replication:
        return {"automatic": own}
    return {"userManaged": {"replicas": [{**copy, **own} for copy in replication["userManaged"]["replicas"]]}}


def keys(replication: Mapping[str, Any]) -> set[str]:
    """The keys of all copies, "" for a copy without one."""
    copies = replication.get("userManaged", {}).get("replicas") or [replication.get("automatic") or {}]
    return {copy.get("customerManagedEncryption", {}).get("kmsKeyName", "") for copy in copies}


def same_replication(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """The same regions, and the same keys unless none are wanted."""
    if locations(wanted) != locations(live):
        return False
    asked = keys(wanted)
    return asked == {""} or all(same_resource(key, found) for key in asked for found in keys(live))


def misplaced(replication: Mapping[str, Any], key: str) -> str:
    """Why the copies of a secret cannot be encrypted with KEY, and what to do instead; "" if they can."""
    place, regions = values.location_of(key), locations(replication)
    if regions == ([] if place == "global" else [place]):
        return ""
    where = ", ".join(regions) if regions else "regions that Google has chosen, for which the key must be global"
    return f"the secret is stored in {where}, and this cannot be changed; leave the key of this secret empty, or give it another name"
