# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions for the Cloud SQL Admin API that several modules use."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import secretmanager
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError

T = TypeVar("T")
# States of an instance that do not end by themselves, each with what to do.
UNUSABLE_STATES = {
    "FAILED": "its creation failed; delete it, then run again",
    "SUSPENDED": "check the project's billing account and the instance's encryption key",
    "PENDING_DELETE": "it is being deleted; give another name",
}
# The label of an instance that has another name because Google reserved the one it was to have: that name.
INSTEAD_OF = "mlflow-gcp-instead-of"
# Operations after which a user may have another password. Google does not say whose.
USER_OPERATIONS = frozenset(
    {
        "CREATE",
        "CREATE_CLONE",
        "CREATE_REPLICA",
        "CREATE_USER",
        "DELETE_USER",
        "DEMOTE_MASTER",
        "IMPORT",
        "INJECT_USER",
        "PROMOTE_REPLICA",
        "RECREATE_REPLICA",
        "RESTORE_VOLUME",
        "SWITCHOVER",
        "SWITCHOVER_TO_REPLICA",
        "UPDATE_USER",
    }
)


def instances_url(project: str) -> str:
    """https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/instances"""
    return f"https://sqladmin.googleapis.com/v1/projects/{project}/instances"


def find_instance(client: Client, project: str, name: str) -> dict[str, Any] | None:
    """The instance NAME, or the one that module sql_instance has created under another name because NAME was reserved."""
    return client.find(f"{instances_url(project)}/{name}") or replacement(client, project, name)


def replacement(client: Client, project: str, name: str) -> dict[str, Any] | None:
    """The instance that was created under another name because NAME was reserved, None without one."""
    return next(
        (
            instance
            for instance in client.items(instances_url(project), "items")
            if lookup(instance, f"settings.userLabels.{INSTEAD_OF}") == label_of(name)
            and re.fullmatch(rf"{re.escape(name)}-\d+", instance["name"])
        ),
        None,
    )


def label_of(name: str) -> str:
    """The value of label INSTEAD_OF for an instance that was to be called NAME; Google allows 63 characters."""
    return name[:63]


def is_busy(error: ApiError) -> bool:
    """Another operation is running on the instance; the request can be repeated when it has finished."""
    return error.status == 409 and error.reason == "operationInProgress"


def retry_while_busy(client: Client, call: Callable[[], T], timeout: float) -> T:
    """The result of CALL, repeated for up to TIMEOUT seconds while another operation is running on the instance."""
    return client.retry(call, is_busy, timeout=timeout, pause=3)


class PasswordRecord(NamedTuple):
    """
    Which password module sql_user has set, recorded in an annotation of the secret with the password.

    version: of the secret; operation: the name of the operation that set it; time: when Google accepted this operation.
    All are "" without a record.
    """

    version: str = ""
    operation: str = ""
    time: str = ""

    @staticmethod
    def key(project: str, instance: str, user: str) -> str:
        """The annotation of a user: keys have at most 63 characters, and few special ones."""
        return f"sql-user-{hashlib.sha256(f'{project}/{instance}/{user}'.encode()).hexdigest()[:40]}"

    @classmethod
    def of(cls, secret: Mapping[str, Any], key: str) -> PasswordRecord:
        """The record under KEY in the body of a secret."""
        parts = str((secret.get("annotations") or {}).get(key, "")).split()
        return cls(*parts) if len(parts) == 3 else cls(*parts[:1])

    def __str__(self) -> str:
        return " ".join(self)


def password_change(client: Client, project: str, instance: str, record: PasswordRecord) -> str | None:
    """
    The newest operation that may have changed the password after RECORD, such as "UPDATE_USER by jane@example.com at
    2026-01-31T12:00:00Z". None if nobody has, "" if this cannot be known, because Google has deleted the record's operation.
    https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/operations/list
    """
    if not record.operation:
        return ""
    url = f"https://sqladmin.googleapis.com/v1/projects/{project}/operations"
    # Newest first.
    for operation in client.items(url, "items", params={"instance": instance, "maxResults": 100}):
        if operation.get("name") == record.operation:
            return None
        if _instant(operation.get("insertTime")) < _instant(record.time):
            break
        if operation.get("operationType") in USER_OPERATIONS and not operation.get("error"):
            return (
                f"{operation['operationType']} by {operation.get('user') or 'Google'} at {operation.get('insertTime')}"
            )
    return ""


def _instant(time: Any) -> str:
    """A time in UTC that can be compared as text: with the Z, 12:00:00.5Z would be before 12:00:00Z."""
    return str(time or "").rstrip("Z")


def password_problem(client: Client, project: str, instance: str, user: str, secret: str) -> str:
    """
    What the doctor says about the password of USER, "" for no problem. SECRET is projects/PROJECT/secrets/NAME.

    Requires the permissions secretmanager.secrets.get and cloudsql.instances.get.
    """
    body = client.find(secretmanager.BASE + secret) or {}
    record = PasswordRecord.of(body, PasswordRecord.key(project, instance, user))
    change = password_change(client, project, instance, record) if record.operation else None
    if not change:
        return ""
    return (
        f"the password of user {user} may not be the one in secret {secret.rpartition('/')[2]}, because a user of the "
        f"instance was changed after it had been set: {change}"
    )
