# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the resources of Compute Engine have in common: their paths and links, labels, and two runs at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import (
    Rules,
    lookup,
    overlay,
    relative,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, InUse
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.immutable import ADDRESS
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

API = "https://compute.googleapis.com/compute/v1"
LINKS = "https://www.googleapis.com/compute/v1"


def _fingerprint(live: dict[str, Any]) -> dict[str, Any]:
    return {"fingerprint": live["fingerprint"]} if "fingerprint" in live else {}


def aggregated(client: Client, project: str, collection: str) -> Iterator[dict[str, Any]]:
    """
    All resources of a collection, global and of every region and zone.
    https://cloud.google.com/compute/docs/reference/rest/v1/networkEndpointGroups/aggregatedList
    """
    url, query = f"{API}/projects/{project}/aggregated/{collection}", {"returnPartialSuccess": "true"}
    while True:
        page = client.find(url, params=query) or {}
        for scope in (page.get("items") or {}).values():
            yield from scope.get(collection) or ()
        if not page.get("nextPageToken"):
            return
        query["pageToken"] = page["nextPageToken"]


class ComputeResource(Resource):
    """A resource of Compute Engine; SCOPE is "global" or "regions/REGION", COLLECTION for example "addresses"."""

    def __init__(self, task: Task, scope: str, collection: str) -> None:
        super().__init__(task)
        self.name = self.params["name"]
        self.path = f"projects/{task.project}/{scope}/{collection}/{self.name}"
        self.url = f"{API}/{self.path}"
        self.collection = self.url.rpartition("/")[0]

    @property
    def label(self) -> str:
        return f"{self.kind} {self.name} of project {self.task.project}"

    def create(self) -> dict[str, Any]:
        try:
            return super().create()
        except ApiError as error:
            if error.reason == "alreadyExists" and not error.retried:
                # Another run is creating it at this moment; the engine then compares what that has created.
                self.poll(bool, "wait for the creation")
                error.retried = True
            raise

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        # Only what differs: some fields are refused even with the value that they have.
        return self.patch_fields(self.changed_fields(changes, live), live)

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        # Not ready while an operation of an earlier run, such as a deletion, is in progress.
        return self.client.retry(
            lambda: super(ComputeResource, self).delete(live),
            lambda error: error.reason == "resourceNotReady",
            timeout=self.timeout,
        )

    def changed_fields(self, changes: Iterable[str], live: dict[str, Any]) -> dict[str, Any]:
        """The declared fields at the paths CHANGES; an object is a merge patch with everything that is declared of it."""
        fields = {path.partition(".")[0] for path in changes}
        return {name: value for name, value in self.patch(live).items() if name in fields}

    def patch_fields(self, body: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
        """PATCH with the fingerprint of LIVE, if it has one, or with the current one after a concurrent change."""
        try:
            return self.client.request("PATCH", self.url, body | _fingerprint(live))
        except ApiError as error:
            if error.status != 412:
                raise
        return self.client.request("PATCH", self.url, body | _fingerprint(self.client.get(self.url)))

    def create_labelled(self) -> dict[str, Any]:
        """Create the resource, and set its labels if the creation has not."""
        self.wait(ComputeResource.create(self), self.collection, "create")
        live = self.read() or {}
        # Google documents that only setLabels sets labels, although a creation usually accepts them too.
        unlabelled = any(path.startswith("labels") for path in self.differences(live))
        return self.set_labels(live) if unlabelled else live

    def set_labels(self, live: dict[str, Any]) -> dict[str, Any]:
        """The labels as declared; Google sets those of most resources only by this method."""
        labels = lookup(overlay(live, self.wanted, self.rules), "labels") or {}
        body = {"labels": labels, "labelFingerprint": live.get("labelFingerprint")}
        return self.client.post(f"{self.url}/setLabels", body, idempotent=True)

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {"self_link": live.get("selfLink") or f"{LINKS}/{self.path}"}


class AddressResource(ComputeResource):
    """A reserved address, of which Google can only change the labels."""

    rules = Rules(labels=frozenset({"labels"}), same=ADDRESS.same)
    immutable = ADDRESS.fields

    def settle(self, live: dict[str, Any]) -> dict[str, Any]:
        if live.get("status") != "RESERVING":
            return live
        return self.poll(lambda body: body.get("status") != "RESERVING", "wait for the reservation")

    def create(self) -> dict[str, Any]:
        return self.create_labelled()

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        return self.set_labels(live)

    def check_delete(self, live: dict[str, Any]) -> None:
        users = [relative(user).rpartition("/")[2] for user in live.get("users") or ()]
        if users and self.task.check_mode:
            self.task.warn(f"Check mode assumes that {', '.join(users)}, which uses {self.label}, is deleted before")
        elif users:
            raise InUse(f"Cannot delete {self.label}: {', '.join(users)} uses it; delete that first")

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {**super().returns(live), "path": self.path, "address": self.task.known(live.get("address") or "")}
