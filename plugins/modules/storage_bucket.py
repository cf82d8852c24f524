#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_bucket
short_description: Manage a Cloud Storage bucket
description:
  - Creates, updates and deletes a bucket. Fields not covered by an option are left unchanged.
  - Objects are deleted only with O(force_destroy=true) and O(state=absent).
  - M(google.cloud.gcp_storage_bucket) has no soft delete policy and no check mode, and does not notice entries that were
    removed from a list, such as a lifecycle rule.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.labels
  - mlops.mlflow_gcp.state
options:
  name:
    description:
      - Name of the bucket, unique across all of Google Cloud; 3 to 63 lower case letters, digits, V(-), V(_) and V(.).
    type: str
    required: true
  location:
    description:
      - Region, dual-region or multi-region, such as V(europe-west2), in any case. Required for O(state=present). Cannot be
        changed.
    type: str
  storage_class:
    description: Default storage class of new objects.
    type: str
    choices: [STANDARD, NEARLINE, COLDLINE, ARCHIVE]
  kms_key:
    description:
      - Key of Cloud KMS to encrypt new objects with, as V(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY), in the
        location of the bucket.
      - Its service agent must have the role C(roles/cloudkms.cryptoKeyEncrypterDecrypter) on the key, see
        M(mlops.mlflow_gcp.kms_key_agents).
      - If empty, an existing bucket keeps its default key.
    type: str
  uniform_access:
    description: Control access with IAM only, without object ACLs.
    type: bool
    default: true
  public_access_prevention:
    description: Whether public access is prevented; with V(inherited) the organization's policy applies.
    type: str
    choices: [enforced, inherited]
    default: enforced
  versioning:
    description: Keep replaced and deleted objects as noncurrent versions.
    type: bool
  lifecycle_rules:
    description:
      - All lifecycle rules, in any order; an empty list removes them.
      - A V(Delete) rule also applies to live objects, unless its condition is limited to noncurrent versions.
    type: list
    elements: dict
    suboptions:
      action:
        description: Action on the matching objects.
        type: dict
        required: true
        suboptions:
          type:
            description: Type of action.
            type: str
            required: true
            choices: [Delete, SetStorageClass, AbortIncompleteMultipartUpload]
          storage_class:
            description: New storage class, for V(SetStorageClass).
            type: str
            choices: [STANDARD, NEARLINE, COLDLINE, ARCHIVE]
      condition:
        description: Conditions that an object must all meet; at least one.
        type: dict
        required: true
        suboptions:
          age_days:
            description: Days since the object was created.
            type: int
          created_before:
            description: Date before which the object was created, such as V(2026-01-31).
            type: str
          custom_time_before:
            description: Date before the object's custom time.
            type: str
          days_since_custom_time:
            description: Days since the object's custom time.
            type: int
          days_since_noncurrent:
            description: Days since the version was replaced or deleted.
            type: int
          is_live:
            description: V(true) for live objects only, V(false) for noncurrent versions only.
            type: bool
          matches_prefix:
            description: Prefixes of names, at least one of which must match.
            type: list
            elements: str
          matches_storage_class:
            description: Storage classes, one of which must match.
            type: list
            elements: str
          matches_suffix:
            description: Suffixes of names, at least one of which must match.
            type: list
            elements: str
          noncurrent_time_before:
            description: Date before which the version became noncurrent.
            type: str
          num_newer_versions:
            description: Minimum number of newer versions.
            type: int
  soft_delete_retention_seconds:
    description:
      - Seconds for which deleted objects can be restored, 604800 (7 days) to 7776000 (90 days), or V(0) to disable soft
        delete. Google's default is 7 days.
    type: int
  cors:
    description: All CORS rules; an empty list removes them.
    type: list
    elements: dict
    suboptions:
      max_age_seconds:
        description: Seconds for which a browser may cache the response to a preflight request.
        type: int
      methods:
        description: HTTP methods, V(*) for all.
        type: list
        elements: str
      origins:
        description: Origins, V(*) for all.
        type: list
        elements: str
      response_headers:
        description: Response headers that scripts may read.
        type: list
        elements: str
  force_destroy:
    description:
      - With O(state=absent), first delete all objects including their versions.
      - They are kept, and billed, as long as the bucket's soft delete policy says, unless O(soft_delete_retention_seconds) is given,
        which then is set first. V(0) deletes them for good; what was deleted earlier stays until its time is over.
    type: bool
    default: false
seealso:
  - name: Buckets
    description: The API.
    link: https://cloud.google.com/storage/docs/json_api/v1/buckets
"""

EXAMPLES = r"""
- name: Create a bucket that keeps replaced artifacts for 30 days
  mlops.mlflow_gcp.storage_bucket:
    project: my-project
    auth_kind: application
    name: my-project-mlflow-artifacts
    location: europe-west2
    versioning: true
    lifecycle_rules:
      - action: {type: Delete}
        condition: {days_since_noncurrent: 30}
    soft_delete_retention_seconds: 604800

- name: Delete the bucket including its objects
  mlops.mlflow_gcp.storage_bucket:
    project: my-project
    auth_kind: application
    name: my-project-mlflow-artifacts
    force_destroy: true
    soft_delete_retention_seconds: 0
    state: absent
"""

RETURN = r"""
name:
  description: Name of the bucket.
  returned: success
  type: str
  sample: my-project-mlflow-artifacts
url:
  description: URL of the bucket for storage tools.
  returned: success
  type: str
  sample: gs://my-project-mlflow-artifacts
resource:
  description: The bucket as Google returns it.
  returned: success
  type: dict
  sample:
    name: my-project-mlflow-artifacts
    location: EUROPE-WEST2
    projectNumber: "123456789012"
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, differences, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.immutable import BUCKET
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import LABELS_OPTION, STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

API = "https://storage.googleapis.com/storage/v1/b"
CLASSES = ["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"]
# Options whose name in the API differs by more than camel case.
API_NAMES = {
    "age_days": "age",
    "days_since_noncurrent": "daysSinceNoncurrentTime",
    "methods": "method",
    "origins": "origin",
    "response_headers": "responseHeader",
}


def api_name(name: str) -> str:
    """The name of an option in the API."""
    first, *rest = API_NAMES.get(name, name).split("_")
    return first + "".join(part.capitalize() for part in rest)


def api_body(options: dict[str, Any] | None) -> dict[str, Any]:
    """Suboptions with their names in the API, without those that are not given."""
    return {api_name(key): value for key, value in (options or {}).items() if value is not None}


def same_entries(wanted: Any, live: Any) -> bool:
    """The same rules in any order. A missing isLive differs from false: such a rule also applies to live objects."""

    def key(entries: Any) -> Any:
        if isinstance(entries, list):
            return sorted(json.dumps(entry, sort_keys=True) for entry in entries)
        return json.dumps(entries, sort_keys=True)

    return key(wanted) == key(live or wanted.__class__())


class Bucket(Resource):
    """https://cloud.google.com/storage/docs/json_api/v1/buckets"""

    kind = BUCKET.name
    rules = Rules(
        labels=frozenset({"labels"}),
        same={
            **BUCKET.same,
            "lifecycle.rule": same_entries,
            "cors": same_entries,
            "encryption.defaultKmsKeyName": lambda wanted, live: same_resource(wanted, live or ""),
            "softDeletePolicy.retentionDurationSeconds": lambda wanted, live: int(wanted) == int(live or 0),
        },
    )
    immutable = BUCKET.fields

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        params = self.params
        self.name = params["name"]
        self.url = f"{API}/{self.name}"
        self.collection = API
        self.create_params = {"project": task.project}
        rules, retention = params["lifecycle_rules"], params["soft_delete_retention_seconds"]
        self.wanted = {
            "name": self.name,
            "location": (params["location"] or "").upper() or None,
            "storageClass": params["storage_class"],
            "labels": task.labels,
            "encryption": {"defaultKmsKeyName": params["kms_key"] or None},
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": params["uniform_access"]},
                "publicAccessPrevention": params["public_access_prevention"],
            },
            "versioning": {"enabled": params["versioning"]},
            "lifecycle": {
                "rule": None
                if rules is None
                else [{key: api_body(rule[key]) for key in ("action", "condition")} for rule in rules]
            },
            "softDeletePolicy": {"retentionDurationSeconds": None if retention is None else str(retention)},
            "cors": None if params["cors"] is None else [api_body(entry) for entry in params["cors"]],
        }

    def validate(self) -> None:
        values.check_together(self.params, values.key_of_bucket, "kms_key", "location")
        for rule in self.params["lifecycle_rules"] or ():
            if not api_body(rule["condition"]):
                raise InvalidInput("lifecycle_rules", api_body(rule["action"]), "every rule requires a condition")

    def read(self) -> dict[str, Any] | None:
        try:
            live = super().read()
            of_others = live and live.get("projectNumber") and not self._is_in_project(live["projectNumber"])
        except ApiError as error:
            if error.status != 403 or error.disabled or self._is_listed():
                raise
            live, of_others = None, True
        if of_others and self.params["state"] != "absent":
            raise self._name_taken()
        return None if of_others else live

    def name_taken(self, error: ApiError) -> GcpError:
        return self._name_taken()

    def create(self) -> dict[str, Any]:
        return self.while_propagating(super().create)

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        return self.while_propagating(lambda: super(Bucket, self).update(live, changes))

    def patch(self, live: dict[str, Any]) -> dict[str, Any]:
        body = super().patch(live)
        return {key: value for key, value in body.items() if key not in ("name", "location")}

    def check_delete(self, live: dict[str, Any]) -> None:
        if self.params["force_destroy"]:
            return
        with self.client.action(f"list the objects of {self.label}"):
            first = self.client.get(f"{self.url}/o", params={"versions": "true", "maxResults": 1})
        if first.get("items"):
            raise GcpError(
                f"Cannot delete {self.label}: it contains objects; give force_destroy=true to delete them and their versions as well"
            )

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        retention = {"softDeletePolicy": self.wanted["softDeletePolicy"]}
        if differences(retention, live, self.rules):
            self.client.request("PATCH", self.url, retention)
        if self.params["force_destroy"]:
            # One request per object: with eight at a time, 100,000 objects take minutes instead of hours.
            with ThreadPoolExecutor(8) as pool:
                for _done in pool.map(
                    self._delete_object, self.client.items(f"{self.url}/o", "items", params={"versions": "true"})
                ):
                    pass
        return super().delete(live)

    def _delete_object(self, entry: dict[str, Any]) -> None:
        try:
            self.client.request(
                "DELETE", f"{self.url}/o/{quote(entry['name'], safe='')}", params={"generation": entry["generation"]}
            )
        except ApiError as error:
            if error.status != 404:
                raise

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {"name": self.name, "url": f"gs://{self.name}"}

    def _is_listed(self) -> bool:
        """Whether the project contains the bucket; also true when the caller may not list its buckets."""
        try:
            query = {"project": self.task.project, "prefix": self.name, "fields": "items(name),nextPageToken"}
            return self.name in {entry["name"] for entry in self.client.items(API, "items", params=query)}
        except ApiError:
            return True

    def _is_in_project(self, number: Any) -> bool:
        try:
            return self.task.project_number in (str(number), None)
        except ApiError:
            # The caller may not read the project, but can read the bucket: assume that it belongs to the project.
            return True

    def _name_taken(self) -> GcpError:
        return GcpError(
            f"Cannot use {self.label}: a project other than {self.task.project} has a bucket with this name, and names "
            "are unique across all of Google Cloud; choose another name"
        )


def main() -> None:
    dates = {key: {"type": "str"} for key in ("created_before", "custom_time_before", "noncurrent_time_before")}
    numbers = {
        key: {"type": "int"}
        for key in ("age_days", "days_since_custom_time", "days_since_noncurrent", "num_newer_versions")
    }
    lists = {
        key: {"type": "list", "elements": "str"}
        for key in ("matches_prefix", "matches_storage_class", "matches_suffix")
    }
    run(
        Bucket.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.BUCKET_NAME},
            "location": {"type": "str", "kind": values.BUCKET_LOCATION},
            "storage_class": {"type": "str", "choices": CLASSES},
            "kms_key": {"type": "str", "no_log": False, "kind": values.KMS_KEY},
            **LABELS_OPTION,
            "uniform_access": {"type": "bool", "default": True},
            "public_access_prevention": {"type": "str", "choices": ["enforced", "inherited"], "default": "enforced"},
            "versioning": {"type": "bool"},
            "lifecycle_rules": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "action": {
                        "type": "dict",
                        "required": True,
                        "options": {
                            "type": {
                                "type": "str",
                                "required": True,
                                "choices": ["Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"],
                            },
                            "storage_class": {"type": "str", "choices": CLASSES},
                        },
                        "required_if": [("type", "SetStorageClass", ["storage_class"])],
                    },
                    "condition": {
                        "type": "dict",
                        "required": True,
                        "options": {**dates, **numbers, **lists, "is_live": {"type": "bool"}},
                    },
                },
            },
            "soft_delete_retention_seconds": {"type": "int", "kind": values.SOFT_DELETE_SECONDS},
            "cors": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "max_age_seconds": {"type": "int"},
                    **{key: {"type": "list", "elements": "str"} for key in ("methods", "origins", "response_headers")},
                },
            },
            "force_destroy": {"type": "bool", "default": False},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["location"])],
    )


if __name__ == "__main__":
    main()
