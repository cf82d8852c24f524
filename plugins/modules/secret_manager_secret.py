#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_manager_secret
short_description: Manage a secret in Secret Manager without revealing its value
description:
  - Creates or deletes a secret, manages its labels and accessors, and sets its value, either to O(value) or to a random
    value that is generated once and never shown.
  - Results and diffs never contain the value.
  - C(google.cloud.gcp_secret_manager) prints the value, returns the old version after a change and never updates labels.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.labels
options:
  name:
    description:
      - Name of the secret, or V(projects/PROJECT/secrets/NAME).
    type: str
    required: true
  replication_locations:
    description:
      - Regions that store the secret, for an organization policy on locations, for example. Cannot be changed.
      - If empty, Google chooses them for a new secret (automatic replication), and an existing secret keeps its own.
    type: list
    elements: str
    default: []
  kms_key:
    description:
      - Key of Cloud KMS to encrypt the secret with, as V(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY). Without
        O(replication_locations), a new secret is stored in the region of the key; with a global key, Google chooses the regions.
      - An existing secret gets the key if it is stored in the region of the key only, or with a global key, if Google has chosen the
        regions. New versions are encrypted with it.
      - If empty, an existing secret keeps its key.
    type: str
  value:
    description:
      - Value of the secret, at most 64 KiB of UTF-8. A new version is added when the newest enabled version differs.
    type: str
  value_from:
    description:
      - Take the value from a plain environment variable of a Cloud Run service, in which everybody who may see the service can read
        it. No task, result or log has the value.
    type: dict
    suboptions:
      region:
        description: Region of the service.
        type: str
        required: true
      service:
        description: Name of the service.
        type: str
        required: true
      variable:
        description: Name of the variable. It is an error if the service has no such variable.
        type: str
        required: true
  generate_length:
    description:
      - Generate a random value of this many letters and digits (8 to 1024) when the secret has no version.
      - If all its versions are disabled, the newest one is enabled again instead.
    type: int
  generate_bytes:
    description:
      - Generate a key of this many random bytes (16 to 1024), encoded as URL-safe Base64, when the secret has no version.
        V(32) generates a Fernet key.
      - If all its versions are disabled, the newest one is enabled again instead, because a new key could not decrypt what
        the old one has encrypted.
    type: int
  accessors:
    description:
      - Members that may read the value; others lose the role C(roles/secretmanager.secretAccessor) on the secret, also if
        they have it under a condition. C(allUsers) and C(allAuthenticatedUsers) lose every role on it. Roles on the project
        are not changed. Without this option the accessors are left unchanged.
    type: list
    elements: str
  on_conditional:
    description:
      - What to do with O(accessors) if somebody has the role under a condition. V(remove) revokes it, V(refuse) fails
        before anything is written, and names the members and the condition.
    type: str
    choices: [remove, refuse]
    default: remove
  state:
    description:
      - Whether the secret exists. Deleting it permanently deletes all its versions.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Create the database password
  mlops.mlflow_gcp.secret_manager_secret:
    project: my-project
    auth_kind: application
    name: mlflow-db-password
    generate_length: 32
  register: db_password

- name: Create a key that only the server may read
  mlops.mlflow_gcp.secret_manager_secret:
    project: my-project
    auth_kind: application
    name: mlflow-webhook-key
    generate_bytes: 32
    accessors:
      - serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com

- name: Store the OAuth client secret
  mlops.mlflow_gcp.secret_manager_secret:
    project: my-project
    auth_kind: application
    name: oauth-client-secret
    replication_locations: [europe-west2]
    value: "{{ oauth_client_secret }}"

- name: Move a password out of the environment of a service
  mlops.mlflow_gcp.secret_manager_secret:
    project: my-project
    auth_kind: application
    name: mlflow-db-password
    value_from:
      region: europe-west2
      service: mlflow-service
      variable: DB_PASSWORD
"""

RETURN = r"""
name:
  description: Resource name of the secret.
  returned: success
  type: str
  sample: projects/my-project/secrets/mlflow-db-password
version:
  description: Number of the newest enabled version, in check mode of the one that would be added; empty without one.
  returned: success
  type: str
  sample: "1"
version_name:
  description: Resource name of that version; empty without one.
  returned: success
  type: str
  sample: projects/my-project/secrets/mlflow-db-password/versions/1
resource:
  description: The secret as Google returns it, without its value.
  returned: success
  type: dict
  sample:
    name: projects/123456789012/secrets/mlflow-db-password
    replication:
      automatic: {}
"""

import base64
import secrets
import string
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import (
    cloudrun,
    iam,
    operations,
    secretmanager,
    times,
    values,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules, overlay
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.immutable import SECRET
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import LABELS_OPTION, STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

ALPHABET = string.ascii_letters + string.digits
ACCESSOR = "roles/secretmanager.secretAccessor"
# The options that set the value.
VALUES = ("value", "value_from", "generate_length", "generate_bytes")


def is_recent(created: str) -> bool:
    """The timestamp, in Google's format, is not older than half a minute."""
    return bool(created) and times.now() - times.moment(created) < timedelta(seconds=30)


def variable_of(task: Task, region: str, service: str, variable: str) -> str:
    """A plain variable of a Cloud Run service. https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services/get"""
    label = f"Cloud Run service {service}"
    found = task.read(label, lambda: task.client.find(cloudrun.service_url(task.project, region, service))) or {}
    value = cloudrun.plain_variables(found).get(variable)
    if not value:
        raise GcpError(
            f"{label} in {region} has no plain variable {variable}" if found else f"{label} does not exist in {region}"
        )
    return value


def spelled(wanted: dict[str, Any], live: dict[str, Any]) -> list[str]:
    """The WANTED members of the accessors, as LIVE spells them."""
    return sorted(iam.exactly(wanted["members"])(live["members"]))


class Secret(Resource):
    """
    https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets

    The body has additional keys: "version", the number of the newest enabled version, which is only declared when
    another one has to be added or enabled, "disabled", the number of the newest disabled version if there is no enabled
    one, and "accessors", who may read the value, as iam.access().
    """

    kind = SECRET.name
    internal = frozenset({"version", "disabled", "accessors"})
    rules = Rules(
        labels=frozenset({"labels"}),
        same={
            "replication": secretmanager.same_replication,
            "accessors": lambda wanted, live: live is not None and wanted | {"members": spelled(wanted, live)} == live,
        },
    )
    immutable = SECRET.fields

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.path = secretmanager.secret_path(task.project, self.params["name"])
        project, self.name = self.path.split("/secrets/")
        self.url = secretmanager.BASE + self.path
        self.collection = f"{secretmanager.BASE}{project}/secrets"
        self.create_params = {"secretId": self.name}
        members = self.params["accessors"]
        self.accessors_change = (
            None
            if members is None
            else iam.Change(
                ACCESSOR, iam.exactly(members), exclusive=True, on_conditional=self.params["on_conditional"]
            )
        )
        self.key = self.params["kms_key"] or ""
        regions = self.params["replication_locations"]
        self.wanted = {
            "labels": task.labels,
            "replication": secretmanager.replication(regions, self.key),
            "version": "1" if self.has_value else None,
            "accessors": self.accessors_change and {"role": ACCESSOR, "members": self.accessors_change.desired([])},
        }
        self.policy = iam.policy_of(task, "secret", self.path)

    @property
    def has_value(self) -> bool:
        """An option sets the value."""
        return any(self.params[option] is not None for option in VALUES)

    @cached_property
    def value(self) -> str | None:
        """The value that the options give, None if it is generated, or not set; raises GcpError."""
        source = self.params["value_from"]
        return variable_of(self.task, **source) if source else self.params["value"]

    def validate(self) -> None:
        values.check_together(self.params, values.key_of_secret, "kms_key", "replication_locations")
        value = self.params["value"]
        if value is not None and not 0 < len(value.encode()) <= 65536:
            raise InvalidInput("value", f"{len(value.encode())} bytes", "give 1 byte to 64 KiB")

    def read(self) -> dict[str, Any] | None:
        live = super().read()
        if live is None:
            return None
        newest = secretmanager.newest_enabled(self.client, self.path)
        version = str(secretmanager.version_number(newest)) if newest else ""
        return {**live, "version": version, **self.disabled(version), **self.accessors()}

    def settle(self, live: dict[str, Any]) -> dict[str, Any]:
        # Another run has just created the secret and is about to add its value.
        if not self.has_value or live["version"] or not is_recent(live.get("createTime", "")):
            return live
        # It has a disabled or destroyed one: nobody is about to add the first.
        if secretmanager.has_version(self.client, self.path):
            return live
        with suppress(operations.OperationTimeout):
            return operations.poll(
                lambda: self.read() or {},
                lambda body: bool(body.get("version")),
                timeout=10,
                action=f"wait for the first version of {self.label}",
            )
        return live

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        if not live:
            return self.wanted
        following = live.get("disabled") or str(int(live["version"] or 0) + 1)
        version = following if self.needs_version(live["version"]) else None
        replication = self.wanted["replication"] if self.params["replication_locations"] else None
        if self.key and replication is None:
            replication = secretmanager.encrypted(live["replication"], self.key)
        return {**self.wanted, "replication": replication, "version": version}

    def disabled(self, version: str) -> dict[str, str]:
        """The newest disabled version of a secret whose value is generated; {} if it has an enabled VERSION."""
        if version or not self.has_value or self.value is not None or self.params["state"] == "absent":
            return {}
        newest = secretmanager.newest(self.client, self.path, "DISABLED")
        return {"disabled": str(secretmanager.version_number(newest))} if newest else {}

    def accessors(self) -> dict[str, Any]:
        """Who may read the value according to the policy of the secret; {} without option accessors."""
        if self.accessors_change is None or self.params["state"] == "absent":
            return {}
        policy = self.policy.read(self.task)
        self.accessors_change.check(policy, self.policy.label)
        return {"accessors": iam.access(policy, ACCESSOR, exclusive=True)}

    def needs_version(self, version: str) -> bool:
        """The newest enabled VERSION ("" without one) does not have the value that the options set."""
        if not version:
            return self.has_value
        if self.value is None:
            return False
        return secretmanager.payload(self.client, f"{self.path}/versions/{version}") != self.value.encode()

    def check_change(self, live: dict[str, Any], changes: list[str]) -> None:
        if "replication" in changes and SECRET.same["replication"](self.wanted["replication"], live["replication"]):
            # Only the key is another one.
            if wrong := secretmanager.misplaced(live["replication"], self.key):
                raise GcpError(f"Cannot encrypt {self.label} with {self.key}: {wrong}")
            changes = [path for path in changes if path != "replication"]
        super().check_change(live, changes)

    def create(self) -> dict[str, Any]:
        body = {"labels": self.wanted["labels"] or {}, "replication": self.wanted["replication"]}
        live = self.while_propagating(
            lambda: self.client.post(self.collection, body, params=self.create_params, idempotent=True)
        )
        after = {**live, "version": self.add_version() if self.has_value else ""}
        return after | self.set_accessors() if self.params["accessors"] else after

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        after = dict(live)
        if any(path.startswith("labels") for path in changes):
            after |= self.set_labels(live)
        if "replication" in changes:
            body = {"replication": self.wanted["replication"], "etag": after.get("etag")}
            query = {"updateMask": "replication"}
            after |= self.while_propagating(lambda: self.client.request("PATCH", self.url, body, params=query))
        if "version" in changes:
            disabled, newest = live.get("disabled"), int(live["version"] or 0)
            after["version"] = self.enable(disabled) if disabled else self.add_version(newest)
        return after | self.set_accessors() if "accessors" in changes else after

    def set_labels(self, live: dict[str, Any], *, again: bool = False) -> dict[str, Any]:
        """https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/patch"""
        labels = overlay(live.get("labels"), self.wanted["labels"], self.rules, "labels")
        body = {"labels": labels, "etag": live.get("etag")}
        try:
            return self.client.request("PATCH", self.url, body, params={"updateMask": "labels"})
        except ApiError as error:
            if again or not secretmanager.is_stale(error):
                raise
        # Another run has changed it, or the response to the first attempt was lost.
        return self.set_labels(self.client.get(self.url), again=True)

    def set_accessors(self) -> dict[str, Any]:
        """Grant the role to exactly the members in option accessors."""
        if self.accessors_change is None:
            raise AssertionError("without option accessors")
        return {"accessors": iam.apply(self.task, self.policy, self.accessors_change)[1]}

    def add_version(self, newest: int = 0) -> str:
        """
        Add the value after the NEWEST enabled version.
        https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/addVersion
        """
        value = (self.value or self.generate()).encode()

        def find() -> dict[str, Any] | None:
            """The version that a request without a response has added; any other run's generated value is as good."""
            added = secretmanager.newest_enabled(self.client, self.path)
            if not added or secretmanager.version_number(added) <= newest:
                return None
            return added if self.value is None or self.holds(added, value) else None

        body = {"payload": {"data": base64.b64encode(value).decode()}}
        return str(secretmanager.version_number(self.client.post_once(f"{self.url}:addVersion", body, find)))

    def holds(self, version: dict[str, Any], value: bytes) -> bool:
        """Whether VERSION contains VALUE."""
        number = secretmanager.version_number(version)
        return secretmanager.payload(self.client, f"{self.path}/versions/{number}") == value

    def enable(self, version: str) -> str:
        """https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/enable"""
        self.client.post(f"{self.url}/versions/{version}:enable", {}, idempotent=True)
        return version

    def generate(self) -> str:
        """A random value."""
        if length := self.params["generate_bytes"]:
            return base64.urlsafe_b64encode(secrets.token_bytes(length)).decode()
        return "".join(map(secrets.choice, [ALPHABET] * self.params["generate_length"]))

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        version = live.get("version") or ""
        return {
            "name": self.path,
            "version": version,
            "version_name": f"{self.path}/versions/{version}" if version else "",
        }


def main() -> None:
    run(
        Secret.converge,
        argument_spec={
            "name": {"type": "str", "required": True},
            **LABELS_OPTION,
            "replication_locations": {"type": "list", "elements": "str", "default": [], "kind": values.LOCATIONS},
            "kms_key": {"type": "str", "no_log": False, "kind": values.KMS_KEY},
            "value": {"type": "str", "no_log": True},
            "value_from": {
                "type": "dict",
                "no_log": False,
                "options": {
                    "region": {"type": "str", "required": True, "kind": values.REGION},
                    "service": {"type": "str", "required": True, "kind": values.RUN_NAME},
                    "variable": {"type": "str", "required": True},
                },
            },
            "generate_length": {"type": "int", "kind": values.SECRET_LENGTH},
            "generate_bytes": {"type": "int", "kind": values.SECRET_BYTES},
            "accessors": {"type": "list", "elements": "str", "kind": values.ANY_MEMBERS},
            "on_conditional": {"type": "str", "choices": ["remove", "refuse"], "default": "remove"},
            **STATE_OPTION,
        },
        mutually_exclusive=[VALUES],
    )


if __name__ == "__main__":
    main()
