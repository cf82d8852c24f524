# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for long-running operations of compute, sqladmin and google.longrunning."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import waits
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, advice, parse

T = TypeVar("T")
FIRST_PAUSE, MAX_PAUSE = 0.3, 5.0
# A pause is this part of the time that has passed, so that an end is noticed late by no more than that.
SHARE = 0.1
# How often a request is sent whose operation fails with a passing error.
ATTEMPTS = 3
# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
CODES = {
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}
HTTP_STATUSES = {"PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429, "UNAUTHENTICATED": 401}
# In lower case without "_": Compute Engine, Cloud SQL and the newer APIs spell them differently. A used-up quota does not pass.
PASSING = frozenset(
    {
        "aborted",
        "backenderror",
        "deadlineexceeded",
        "internal",
        "internalerror",
        "ratelimitexceeded",
        "resourceexhausted",
        "serviceunavailable",
        "unavailable",
    }
)
# Cloud SQL also calls errors internal that tell what to do first.
PERMANENT = re.compile(r"\bquota\b|\bplease (?!try|retry|wait)", re.I)
LATER = "Run again later; https://status.cloud.google.com lists current incidents"


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
    began = time.monotonic()
    with client.action(action), waits.noted(waits.PENDING, action):
        while not _done(operation):
            if time.monotonic() >= began + timeout:
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
            _pause(began)
            operation = client.get(_link(operation, url))
    _raise_failed(client, operation, action, url)
    return operation.get("response") or {} if "done" in operation else operation


def may_repeat(error: ApiError, attempt: int) -> bool:
    """
    Whether to send the request of number ATTEMPT (1 for the first) again, after a pause, because its operation has
    failed with a passing error; the caller looks first what the operation has left.
    """
    if not (error.operation and error.passing) or attempt >= ATTEMPTS:
        return False
    with waits.noted(waits.PENDING, "repeat the operation that failed"):
        time.sleep(random.uniform(0.75, 1.25) * 2**attempt)
    return True


def repeat(call: Callable[[], T]) -> T:
    """The result of CALL, which starts an operation and waits for it, and may be called again if that fails."""
    attempt = 1
    while True:
        try:
            return call()
        except ApiError as error:
            if not may_repeat(error, attempt):
                raise
        attempt += 1


def poll(read: Callable[[], T], ready: Callable[[T], bool], *, timeout: float, action: str) -> T:
    """The result of READ, repeated until READY accepts it; for changes without an operation. TIMEOUT in seconds."""
    began = time.monotonic()
    if ready(body := read()):
        return body
    with waits.noted(waits.PENDING, action):
        while True:
            if time.monotonic() >= began + timeout:
                raise OperationTimeout(f"Cannot {action} within {timeout:g} s; run again later")
            _pause(began)
            if ready(body := read()):
                return body


def _pause(began: float) -> None:
    """Wait before the next look at something that has been going on since BEGAN."""
    time.sleep(min(max(FIRST_PAUSE, SHARE * (time.monotonic() - began)), MAX_PAUSE))


def _done(operation: Mapping[str, Any]) -> bool:
    return operation.get("done") is True or operation.get("status") == "DONE"


def _link(operation: Mapping[str, Any], url: str) -> str:
    """The URL to poll, on the host and API version of the request that started the operation."""
    name = str(operation["name"])
    if operation.get("kind") == "sql#operation":
        return re.sub(r"(/projects/[^/]+)/.*", rf"\1/operations/{name}", url)
    return re.sub(r"(https://[^/]+/v\w+/).*", rf"\1{name}", url)


def _raise_failed(client: Client, operation: Mapping[str, Any], action: str, url: str) -> None:
    error = operation.get("error")
    if not error:
        return
    if error.get("errors"):
        entries = error["errors"]
        reason = str(entries[0].get("code", ""))
        message = "; ".join(str(entry.get("message") or entry.get("code")) for entry in entries)
        status = int(operation.get("httpErrorStatusCode") or 0)
        symbols = [{"reason": str(entry.get("code") or "")} for entry in entries]
        body = {"message": message, "errors": symbols, "details": _details(entries)}
    else:
        info: Mapping[str, Any] = next((detail for detail in error.get("details") or () if detail.get("reason")), {})
        name = str(error.get("status") or CODES.get(error.get("code"), ""))
        reason = str(info.get("reason") or name)
        message, status = str(error.get("message") or "the operation failed"), 0
        body = {"message": message, "status": name, "details": error.get("details") or []}
    passing = reason.replace("_", "").lower() in PASSING and not PERMANENT.search(message)
    # The same advice as for a refused request.
    text = json.dumps({"error": body})
    hint = advice(status or HTTP_STATUSES.get(reason, 0), text, client.principal, url=url)
    if passing:
        hint = LATER
    raise ApiError(action, status, reason, parse(text).message, hint=hint, passing=passing, operation=True)


def _details(entries: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The details of Compute Engine's errors, in the form of the newer APIs."""
    return [
        detail["errorInfo"]
        for entry in entries
        for detail in entry.get("errorDetails") or ()
        if detail.get("errorInfo")
    ]
