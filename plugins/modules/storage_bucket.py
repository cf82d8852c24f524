#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_bucket
short_description: Manage a Cloud Storage bucket
description:
  - Creates, changes and deletes a bucket. Only options that are given are compared; everything else stays as it is.
  - Objects are never deleted, unless O(force_destroy=true) together with O(state=absent).
  - M(google.cloud.gcp_storage_bucket) has no soft delete policy and no check mode, and does not see what is removed
    from lists, such as a lifecycle rule.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
options:
  name:
    description:
      - Name of the bucket, shared by all projects of Google Cloud; 3 to 63 lower case letters, digits, V(-), V(_) and
        V(.).
    type: str
    required: true
  location:
    description:
      - Region, dual-region or multi-region, such as V(europe-west2); upper and lower case are the same. Needed for
        O(state=present). Google does not move a bucket.
    type: str
  storage_class:
    description: Class of objects that are uploaded without one.
    type: str
    choices: [STANDARD, NEARLINE, COLDLINE, ARCHIVE]
  labels:
    description: All labels of the bucket; others are removed.
    type: dict
  uniform_access:
    description: Access is given by IAM alone, not by object ACLs.
    type: bool
    default: true
  public_access_prevention:
    description: Whether the bucket can be opened to everybody; V(inherited) leaves that to the organisation's policy.
    type: str
    choices: [enforced, inherited]
    default: enforced
  versioning:
    description: Whether replaced and deleted objects are kept as noncurrent versions.
    type: bool
  lifecycle_rules:
    description:
      - All lifecycle rules, in any order; an empty list removes them.
      - A V(Delete) rule reaches live objects too, unless its condition says noncurrent.
    type: list
    elements: dict
    suboptions:
      action:
        description: What is done with the objects.
        type: dict
        required: true
        suboptions:
          type:
            description: Kind of action.
            type: str
            required: true
            choices: [Delete, SetStorageClass, AbortIncompleteMultipartUpload]
          storage_class:
            description: The class to move to, for V(SetStorageClass).
            type: str
            choices: [STANDARD, NEARLINE, COLDLINE, ARCHIVE]
      condition:
        description: All that is given must hold for an object.
        type: dict
        required: true
        suboptions:
          age_days:
            description: Days since the object was created.
            type: int
          created_before:
            description: A date, such as V(2026-01-31).
            type: str
          custom_time_before:
            description: A date that is compared with the object's custom time.
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
            description: Beginnings of names, any of which must match.
            type: list
            elements: str
          matches_storage_class:
            description: Storage classes, any of which must match.
            type: list
            elements: str
          matches_suffix:
            description: Ends of names, any of which must match.
            type: list
            elements: str
          noncurrent_time_before:
            description: A date before which the version became noncurrent.
            type: str
          num_newer_versions:
            description: Number of newer versions that there must be.
            type: int
  soft_delete_retention_seconds:
    description:
      - Seconds for which deleted objects can be restored, V(0) to switch this off, else 604800 (7 days) to 7776000
        (90 days). Google's own default is 7 days.
    type: int
  cors:
    description: All cross-origin rules; an empty list removes them.
    type: list
    elements: dict
    suboptions:
      max_age_seconds:
        description: Seconds for which a browser may keep the answer to a preflight request.
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
        description: Headers that scripts may read.
        type: list
        elements: str
  force_destroy:
    description: With O(state=absent), delete all objects and their versions first.
    type: bool
    default: false
  state:
    description: Whether the bucket shall exist.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - name: Buckets
    description: The API.
    link: https://cloud.google.com/storage/docs/json_api/v1/buckets
"""

EXAMPLES = r"""
- name: A bucket that keeps replaced artifacts for 30 days
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

- name: The bucket is gone, with everything in it
  mlops.mlflow_gcp.storage_bucket:
    project: my-project
    auth_kind: application
    name: my-project-mlflow-artifacts
    force_destroy: true
    state: absent
"""

RETURN = r"""
name:
  description: Name of the bucket.
  returned: success
  type: str
  sample: my-project-mlflow-artifacts
url:
  description: Address of the bucket for storage tools.
  returned: success
  type: str
  sample: gs://my-project-mlflow-artifacts
resource:
  description: The bucket as the API returns it.
  returned: success
  type: dict
  sample:
    name: my-project-mlflow-artifacts
    location: EUROPE-WEST2
    projectNumber: "123456789012"
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

API = "https://storage.googleapis.com/storage/v1/b"
CLASSES = ["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"]
# The API calls these otherwise, all others only change their spelling.
NAMES = {
    "age_days": "age",
    "days_since_noncurrent": "daysSinceNoncurrentTime",
    "methods": "method",
    "origins": "origin",
    "response_headers": "responseHeader",
}
WEEK = 604_800
QUARTER = 7_776_000


def camel(name: str) -> str:
    """age_days as the API spells it."""
    first, *rest = NAMES.get(name, name).split("_")
    return first + "".join(part.capitalize() for part in rest)


def spelled(options: dict[str, Any] | None) -> dict[str, Any]:
    """Suboptions in the API's spelling, without those that were not given."""
    return {camel(key): value for key, value in (options or {}).items() if value is not None}


def same_entries(wanted: Any, live: Any) -> bool:
    """The same rules in any order. A missing isLive is not false: it makes the rule reach live objects."""

    def key(entries: Any) -> Any:
        if isinstance(entries, list):
            return sorted(json.dumps(entry, sort_keys=True) for entry in entries)
        return json.dumps(entries, sort_keys=True)

    return key(wanted) == key(live or type(wanted)())


class Bucket(Resource):
    """https://cloud.google.com/storage/docs/json_api/v1/buckets"""

    kind = "bucket"
    rules = Rules(
        exact=frozenset({"labels"}),
        same={
            "location": lambda wanted, live: str(wanted).upper() == str(live).upper(),
            "lifecycle.rule": same_entries,
            "cors": same_entries,
            "softDeletePolicy.retentionDurationSeconds": lambda wanted, live: int(wanted) == int(live or 0),
        },
    )
    immutable = {
        "location": "Google does not move a bucket: take another name, or copy the objects and delete this one"
    }

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        params = self.params
        self.name = params["name"]
        self.url = f"{API}/{self.name}"
        self.collection = API
        self.create_params = {"project": task.project}
        versioning, rules, retention = (
            params[key] for key in ("versioning", "lifecycle_rules", "soft_delete_retention_seconds")
        )
        self.wanted = {
            "name": self.name,
            "location": (params["location"] or "").upper() or None,
            "storageClass": params["storage_class"],
            "labels": task.labels,
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": params["uniform_access"]},
                "publicAccessPrevention": params["public_access_prevention"],
            },
            "versioning": None if versioning is None else {"enabled": versioning},
            "lifecycle": None
            if rules is None
            else {
                "rule": [{"action": spelled(rule["action"]), "condition": spelled(rule["condition"])} for rule in rules]
            },
            "softDeletePolicy": None if retention is None else {"retentionDurationSeconds": str(retention)},
            "cors": None if params["cors"] is None else [spelled(entry) for entry in params["cors"]],
        }

    def validate(self) -> None:
        if (
            not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", self.name)
            or "." not in self.name
            and len(self.name) > 63
        ):
            raise InvalidInput(
                "name",
                self.name,
                "3 to 63 lower case letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
            )
        if self.params["state"] == "present" and not self.wanted["location"]:
            raise InvalidInput("location", self.params["location"], "a region such as europe-west2")
        retention = self.params["soft_delete_retention_seconds"]
        if retention is not None and retention != 0 and not WEEK <= retention <= QUARTER:
            raise InvalidInput(
                "soft_delete_retention_seconds", retention, f"0, or {WEEK} (7 days) to {QUARTER} (90 days)"
            )
        for rule in self.params["lifecycle_rules"] or ():
            if not spelled(rule["condition"]):
                raise InvalidInput("lifecycle_rules", spelled(rule["action"]), "every rule needs a condition")

    def read(self) -> dict[str, Any] | None:
        try:
            live = super().read()
        except ApiError as error:
            if error.status == 403 and not error.disabled and self._elsewhere():
                raise self._taken() from None
            raise
        if live is not None and live.get("projectNumber") and not self._is_ours(live["projectNumber"]):
            raise self._taken()
        return live

    def create(self) -> dict[str, Any]:
        try:
            return super().create()
        except ApiError as error:
            if error.status == 409 and not error.retried:
                raise self._taken() from None
            raise

    def patch(self, live: dict[str, Any]) -> dict[str, Any]:
        body = super().patch(live)
        return {key: value for key, value in body.items() if key not in ("name", "location")}

    def check_delete(self, live: dict[str, Any]) -> None:
        if self.params["force_destroy"]:
            return
        with self.client.attempt(f"list the objects of {self.label}"):
            first = self.client.get(f"{self.url}/o", params={"versions": "true", "maxResults": 1}) or {}
        if first.get("items"):
            raise GcpError(
                f"Cannot delete {self.label}: it holds objects; set force_destroy: true to delete them and their versions too"
            )

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        if self.params["force_destroy"]:
            # One request an object: eight at a time make 100,000 artifacts a matter of minutes, not of hours.
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

    def _elsewhere(self) -> bool:
        """The project's own list tells a foreign bucket from one that the caller merely may not read."""
        try:
            query = {"project": self.task.project, "prefix": self.name, "fields": "items(name),nextPageToken"}
            return self.name not in {entry["name"] for entry in self.client.items(API, "items", params=query)}
        except ApiError:
            return False

    def _is_ours(self, number: Any) -> bool:
        try:
            return self.task.project_number in (str(number), "0")
        except ApiError:
            # Not allowed to ask: the caller can read the bucket, take it for ours.
            return True

    def _taken(self) -> GcpError:
        return GcpError(
            f"Cannot use {self.label}: another project than {self.task.project} has a bucket of this name, and names are "
            "shared by all of Google Cloud; choose another name"
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
            "name": {"type": "str", "required": True},
            "location": {"type": "str"},
            "storage_class": {"type": "str", "choices": CLASSES},
            "labels": {"type": "dict"},
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
            "soft_delete_retention_seconds": {"type": "int"},
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
