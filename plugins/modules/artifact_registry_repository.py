#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_registry_repository
short_description: Manage a repository of Artifact Registry
description:
  - Creates, updates or deletes a repository for container images, with its cleanup policies.
  - Settings that have no option here are left as they are.
  - C(google.cloud) has no module for this.
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
    description: Name of the repository.
    type: str
    required: true
  location:
    description: Region, or multi-region such as V(europe). Cannot be changed.
    type: str
    required: true
  description:
    description: Description.
    type: str
  cleanup_policies:
    description:
      - All cleanup policies; an empty list removes them. Google applies them about once a day.
      - A version is deleted if a policy with V(delete) applies to it and none with V(keep).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the policy.
        type: str
        required: true
      action:
        description: What the policy does.
        type: str
        required: true
        choices: [keep, delete]
      keep_count:
        description: Applies to this many newest versions of each image.
        type: int
      tag_state:
        description: Applies to versions with, without, or with or without a tag.
        type: str
        choices: [any, tagged, untagged]
      tag_prefixes:
        description: Applies to versions with a tag that begins with one of these.
        type: list
        elements: str
      older_than_days:
        description: Applies to versions that were pushed more than this many days ago.
        type: int
seealso:
  - name: Repositories
    description: The API.
    link: https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories
"""

EXAMPLES = r"""
- name: Create a repository that keeps the newest ten images, and those that are deployed
  mlops.mlflow_gcp.artifact_registry_repository:
    project: my-project
    auth_kind: application
    name: mlflow
    location: europe-west2
    cleanup_policies:
      - {name: newest, action: keep, keep_count: 10}
      - {name: deployed, action: keep, tag_state: tagged, tag_prefixes: [deployed]}
      - {name: others, action: delete, tag_state: any, older_than_days: 1}
"""

RETURN = r"""
name:
  description: Resource name of the repository.
  returned: success
  type: str
  sample: projects/my-project/locations/europe-west2/repositories/mlflow
uri:
  description: What references to its images begin with.
  returned: success
  type: str
  sample: europe-west2-docker.pkg.dev/my-project/mlflow
resource:
  description: The repository as Google returns it.
  returned: success
  type: dict
  sample:
    name: projects/my-project/locations/europe-west2/repositories/mlflow
    format: DOCKER
    mode: STANDARD_REPOSITORY
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import registry, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, overlay
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import LABELS_OPTION, STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

DAY = 24 * 60 * 60


def policy(options: dict[str, Any]) -> dict[str, Any]:
    """A cleanup policy in the API's form."""
    body = {"id": options["name"], "action": options["action"].upper()}
    if options["keep_count"] is not None:
        return {**body, "mostRecentVersions": {"keepCount": options["keep_count"]}}
    days = options["older_than_days"]
    condition = {
        "tagState": (options["tag_state"] or "any").upper(),
        "tagPrefixes": options["tag_prefixes"],
        "olderThan": None if days is None else f"{days * DAY}s",
    }
    return {**body, "condition": {key: value for key, value in condition.items() if value is not None}}


class Repository(Resource):
    """https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories"""

    kind = "Artifact Registry repository"
    rules = Rules(
        labels=frozenset({"labels"}), exact=frozenset({"cleanupPolicies"}), whole=frozenset({"cleanupPolicies"})
    )
    immutable = {"format": "give another name", "mode": "give another name"}

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.name = self.params["name"]
        self.path = f"projects/{task.project}/locations/{self.params['location']}/repositories/{self.name}"
        self.url = f"{registry.BASE}{self.path}"
        self.collection = self.url.rpartition("/")[0]
        self.create_params = {"repositoryId": self.name}
        policies = self.params["cleanup_policies"]
        self.wanted = {
            "format": "DOCKER",
            "mode": "STANDARD_REPOSITORY",
            "description": self.params["description"],
            "labels": task.labels,
            "cleanupPolicies": None if policies is None else {entry["name"]: policy(entry) for entry in policies},
        }

    def validate(self) -> None:
        for entry in self.params["cleanup_policies"] or ():
            others = {"tag_state", "tag_prefixes", "older_than_days"}
            if entry["keep_count"] is not None and any(entry[other] is not None for other in others):
                raise InvalidInput("cleanup_policies", entry["name"], "keep_count excludes the other conditions")
            if entry["tag_prefixes"] and entry["tag_state"] != "tagged":
                raise InvalidInput("cleanup_policies", entry["name"], "tag_prefixes require tag_state=tagged")

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        fields = sorted({path.partition(".")[0] for path in changes})
        # Google replaces maps as a whole.
        body = {field: overlay(live.get(field), self.wanted[field], self.rules, field) for field in fields}
        return self.client.request("PATCH", self.url, body, params={"updateMask": ",".join(fields)})

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {"name": self.path, "uri": registry.repository_reference(self.path)}


def main() -> None:
    run(
        Repository.converge,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "location": {"type": "str", "required": True, "kind": values.REGISTRY_LOCATION},
            "description": {"type": "str"},
            **LABELS_OPTION,
            "cleanup_policies": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "action": {"type": "str", "required": True, "choices": ["keep", "delete"]},
                    "keep_count": {"type": "int"},
                    "tag_state": {"type": "str", "choices": ["any", "tagged", "untagged"]},
                    "tag_prefixes": {"type": "list", "elements": "str"},
                    "older_than_days": {"type": "int"},
                },
            },
            **STATE_OPTION,
        },
    )


if __name__ == "__main__":
    main()
