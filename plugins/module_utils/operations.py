# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for Google's long-running operations, of all three dialects."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError

FIRST_PAUSE, LONGEST_PAUSE = 0.3, 8.0


class OperationTimeout(GcpError):
    """The operation was still running when the time was over; it goes on at Google."""


def is_operation(body: Mapping[str, Any] | None) -> bool:
    """BODY is an operation of compute, sqladmin or google.longrunning."""
    body = body or {}
    if str(body.get("kind", "")).endswith("#operation"):
        return True
    return bool(re.search(r"(^|/)operations/[^/]+$", str(body.get("name", "")))) and "kind" not in body


def wait(client: Client, operation: dict[str, Any], url: str, *, timeout: float, attempt: str) -> dict[str, Any]:
    """
    The finished operation's response (google.longrunning), else the finished operation.

    URL is the request that started it, TIMEOUT in seconds, ATTEMPT as in Client.attempt. Raises ApiError with the
    operation's own error, OperationTimeout.
    https://cloud.google.com/compute/docs/reference/rest/v1/globalOperations/wait
    https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/operations
    https://google.aip.dev/151
    """
    end, pause = time.monotonic() + timeout, FIRST_PAUSE
    with client.attempt(attempt):
        while not _done(operation):
            if time.monotonic() >= end:
                raise OperationTimeout(
                    f"Cannot {attempt} within {timeout:g} s: operation {operation.get('name')} is still running. "
                    "It goes on at Google: run again to find its outcome, or raise option timeout where there is one"
                )
            if operation.get("kind") == "compute#operation":
                # Answers when the operation is done, after 2 minutes at the latest: no polling.
                link = str(operation["selfLink"]).replace(
                    "https://www.googleapis.com/", "https://compute.googleapis.com/"
                )
                operation = client.request("POST", f"{link}/wait", safe=True, timeout=180)
                continue
            time.sleep(pause)
            pause = min(pause * 1.6, LONGEST_PAUSE)
            operation = client.get(_link(operation, url)) or operation
    _raise_failed(operation, attempt)
    return operation.get("response") or {} if "done" in operation else operation


def poll(
    read: Callable[[], dict[str, Any]], ready: Callable[[dict[str, Any]], bool], *, timeout: float, attempt: str
) -> dict[str, Any]:
    """What READ returns once READY of it is true; for changes that no operation is known of. TIMEOUT in seconds."""
    end, pause = time.monotonic() + timeout, FIRST_PAUSE
    while not ready(body := read()):
        if time.monotonic() >= end:
            raise OperationTimeout(f"Cannot {attempt} within {timeout:g} s; run again later")
        time.sleep(pause)
        pause = min(pause * 1.6, LONGEST_PAUSE)
    return body


def sql_busy(error: ApiError) -> bool:
    """Another operation holds the Cloud SQL instance; what was refused can be sent again when that is over."""
    return error.status == 409 and error.reason == "operationInProgress"


def _done(operation: Mapping[str, Any]) -> bool:
    return operation.get("done") is True or operation.get("status") == "DONE"


def _link(operation: Mapping[str, Any], url: str) -> str:
    """Where to poll, on the host and API version of the request that started it."""
    name = str(operation["name"])
    if operation.get("kind") == "sql#operation":
        return re.sub(r"(/projects/[^/]+)/.*", rf"\1/operations/{name}", url)
    return re.sub(r"(https://[^/]+/v\w+/).*", rf"\1{name}", url)


def _raise_failed(operation: Mapping[str, Any], attempt: str) -> None:
    error = operation.get("error")
    if not error:
        return
    if error.get("errors"):
        reason = str(error["errors"][0].get("code", ""))
        message = "; ".join(str(entry.get("message") or entry.get("code")) for entry in error["errors"])
        status = int(operation.get("httpErrorStatusCode") or 0)
    else:
        info = next((detail for detail in error.get("details") or () if detail.get("reason")), {})
        reason = str(info.get("reason") or error.get("status") or "")
        message, status = str(error.get("message") or "the operation failed"), 0
    raise ApiError(attempt, status, reason, message)
