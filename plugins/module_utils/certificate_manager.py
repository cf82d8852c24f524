# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the resources of Certificate Manager have in common: paths, updates by a mask, and families of names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import operations
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import Family
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

API = "https://certificatemanager.googleapis.com/v1"
DIGITS = 8


def location(task: Task) -> str:
    """What the resources of global load balancers are in, or those of regional ones, with option region."""
    return f"projects/{task.project}/locations/{task.params.get('region') or 'global'}"


def map_path(project: str, name: str) -> str:
    """The path of a certificate map, from its name in PROJECT or its path."""
    return name if "/" in name else f"projects/{project}/locations/global/certificateMaps/{name}"


def members(task: Task, collection: str, prefix: str, what: str) -> list[dict[str, Any]]:
    """The resources of COLLECTION (a path below location()) whose names belong to the family PREFIX, the newest last."""
    key, url = collection.rpartition("/")[2], f"{API}/{location(task)}/{collection}"
    found = [{**entry, "path": entry["name"], "name": short(entry["name"])} for entry in _listed(task, url, key, what)]
    return Family(task, prefix, DIGITS).members(found, what)


def _listed(task: Task, url: str, key: str, what: str) -> list[dict[str, Any]]:
    with task.client.action(f"list the {what} of project {task.project}"):
        try:
            return list(task.client.items(url, key))
        except ApiError as error:
            # No such map; nothing is there to delete; or, in a first --check of a whole deployment, the API is not enabled yet.
            if error.status == 404 or error.disabled and (task.check_mode or task.params.get("state") == "absent"):
                return []
            raise


def absent(task: Task, collection: str, kind: str, **returns: Any) -> dict[str, Any]:
    """
    Delete the family with the prefix in option name, except the resources in option keep (names or paths); the module's result, with
    RETURNS. KIND is for example "certificate".
    """
    keep = {*map(short, task.params["keep"])}
    found = members(task, collection, task.params["name"], f"{kind}s")
    obsolete = [entry for entry in found if entry["name"] not in keep]
    left = [] if task.check_mode else delete(task, kind, [entry["path"] for entry in obsolete])
    kept = [entry["name"] for entry in found if entry not in obsolete or entry["path"] in left]
    return task.result(
        label=f"{kind}s {task.params['name']}",
        changed=len(kept) < len(found),
        before={f"{kind}s": [entry["name"] for entry in found]},
        after={f"{kind}s": kept},
        name=task.params["name"],
        path="",
        obsolete=list(map(short, left)),
        resource={},
        **returns,
    )


def in_use(error: ApiError) -> bool:
    """Another resource refers to it, perhaps only until a change propagates."""
    return error.reason == "FAILED_PRECONDITION" and "referenced" in error.message


def delete(task: Task, kind: str, paths: list[str]) -> list[str]:
    """
    Delete resources by path; those that are not there are none. Returns those that another resource still uses after a
    minute; they are left, with a warning.
    """
    left = []
    for path in paths:
        url, label = f"{API}/{path}", f"{kind} {short(path)}"
        with task.client.action(f"delete {label}"):
            try:
                delete_once = _deletion(task, url, f"delete {label}")
                task.client.retry(partial(operations.repeat, delete_once), in_use, timeout=60)
            except ApiError as error:
                if not in_use(error):
                    raise
                left.append(path)
                task.warn(f"{label} is obsolete, but not deleted because it is in use: {error.message}")
    return left


def _deletion(task: Task, url: str, action: str) -> Callable[[], None]:
    def call() -> None:
        try:
            operations.wait(task.client, task.client.request("DELETE", url), url, timeout=600, action=action)
        except ApiError as error:
            if error.status != 404:
                raise

    return call


class CertificateResource(Resource):
    """A resource of Certificate Manager; COLLECTION is for example "certificates", ID_PARAM "certificateId"."""

    id_param: ClassVar[str] = ""

    def __init__(self, task: Task, collection: str, name: str) -> None:
        super().__init__(task)
        self.name = name
        self.collection = f"{API}/{location(task)}/{collection}"
        self.path = f"{location(task)}/{collection}/{name}"
        self.url = f"{API}/{self.path}"
        self.create_params = {self.id_param: name}

    @property
    def label(self) -> str:
        return f"{self.kind} {self.name} of project {self.task.project}"

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        fields = sorted({path.partition(".")[0] for path in changes})
        body = {name: value for name, value in self.patch(live).items() if name in fields}
        return self.client.request("PATCH", self.url, body, params={"updateMask": ",".join(fields)})

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {"name": self.name, "path": self.path}
