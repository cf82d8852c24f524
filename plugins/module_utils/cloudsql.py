# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions for the Cloud SQL Admin API that several modules use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError

T = TypeVar("T")
# States of an instance that do not end by themselves, each with what to do.
UNUSABLE_STATES = {
    "FAILED": "its creation failed; delete it and give another name (Google reserves this one for a week)",
    "SUSPENDED": "check the project's billing account and the instance's encryption key",
    "PENDING_DELETE": "it is being deleted; give another name",
}


def instances_url(project: str) -> str:
    """https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/instances"""
    return f"https://sqladmin.googleapis.com/v1/projects/{project}/instances"


def is_busy(error: ApiError) -> bool:
    """Another operation is running on the instance; the request can be repeated when it has finished."""
    return error.status == 409 and error.reason == "operationInProgress"


def retry_while_busy(client: Client, call: Callable[[], T], timeout: float) -> T:
    """The result of CALL, repeated for up to TIMEOUT seconds while another operation is running on the instance."""
    return client.retry(call, is_busy, timeout=timeout, pause=3)
