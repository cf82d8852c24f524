# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for long-running operations of compute, sqladmin and google.longrunning."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError

T = TypeVar("T")
FIRST_PAUSE, MAX_PAUSE = 0.3, 8.0


class OperationTimeout(GcpError):
    """The operation was still running at the timeout; it continues at Google."""


def is_operation(body: Mapping[str, Any] | None) -> bool:
    """BODY is an operation of compute, sqladmin or google.longrunning."""
    body = body or {}
    if str(body.get("kind", "")).endswith("#operation"):
        return True
    return bool(re.search(r"(^|/)operations/[^/]+$", str(body.get("name", "")))) and "kind" not in body


def wait(client: Client, operation: dict[str, Any], url: str, *, timeout: float, action: str) -> dict[str, Any]:
    """
    The response of the finished operation (google.longrunning), otherwise the finished operation.

    URL is the request that started it, TIMEOUT in seconds, ACTION as in Client.action. Raises ApiError for an error of
    the operation, OperationTimeout.
    https://cloud.google.com/compute/docs/reference/rest/v1/globalOperations/wait
    https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/operations
    https://google.aip.dev/151
    """
    end, pause = time.monotonic() + timeout, FIRST_PAUSE
    with client.action(action):
        while not _done(operation):
            if time.monotonic() >= end:
                raise OperationTimeout(
                    f"Cannot {action} within {timeout:g} s: operation {operation.get('name')} is still running. "
                    "It continues at Google: run again to see its result, or increase option timeout if there is one"
                )
            if operation.get("kind") == "compute#operation":
                # Returns when the operation is done, after 2 minutes at the latest, so no polling is needed.
                link = str(operation["selfLink"]).replace(
                    "https://www.googleapis.com/", "https://compute.googleapis.com/"
                )
                operation = client.request("POST", f"{link}/wait", idempotent=True, timeout=180)
                continue
            time.sleep(pause)
            pause = min(pause * 1.6, MAX_PAUSE)
            operation = client.get(_link(operation, url))
    _raise_failed(operation, action)
    return operation.get("response") or {} if "done" in operation else operation


def poll(read: Callable[[], T], ready: Callable[[T], bool], *, timeout: float, action: str) -> T:
    """The result of READ, repeated until READY accepts it; for changes without an operation. TIMEOUT in seconds."""
    end, pause = time.monotonic() + timeout, FIRST_PAUSE
    while not ready(body := read()):
        if time.monotonic() >= end:
            raise OperationTimeout(f"Cannot {action} within {timeout:g} s; run again later")
        time.sleep(pause)
        pause = min(pause * 1.6, MAX_PAUSE)
    return body


def _done(operation: Mapping[str, Any]) -> bool:
    return operation.get("done") is True or operation.get("status") == "DONE"


def _link(operation: Mapping[str, Any], url: str) -> str:
    """The URL to poll, on the host and API version of the request that started the operation."""
    name = str(operation["name"])
    if operation.get("kind") == "sql#operation":
        return re.sub(r"(/projects/[^/]+)/.*", rf"\1/operations/{name}", url)
    return re.sub(r"(https://[^/]+/v\w+/).*", rf"\1{name}", url)


def _raise_failed(operation: Mapping[str, Any], action: str) -> None:
    error = operation.get("error")
    if not error:
        return
    if error.get("errors"):
        reason = str(error["errors"][0].get("code", ""))
        message = "; ".join(str(entry.get("message") or entry.get("code")) for entry in error["errors"])
        status = int(operation.get("httpErrorStatusCode") or 0)
    else:
        info: Mapping[str, Any] = next((detail for detail in error.get("details") or () if detail.get("reason")), {})
        reason = str(info.get("reason") or error.get("status") or "")
        message, status = str(error.get("message") or "the operation failed"), 0
    raise ApiError(action, status, reason, message)
