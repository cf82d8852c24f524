# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client for MLflow's REST API behind Identity-Aware Proxy.

https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.front_door import (
    FrontDoor,
    Response,
    advice,
    describe,
    failed_in_server,
    is_transient,
)

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


class RequestError(GcpError):
    """A request failed, in MLflow (``in_server``) or in front of it."""

    def __init__(self, request: str, outcome: Response | Exception) -> None:
        self.in_server = failed_in_server(outcome)
        self.request, self.detail, self.advice = request, describe(outcome), advice(outcome)
        super().__init__(f"{request} {self.detail}")


class MlflowClient:
    """Sends requests to MLflow as service account ``account``."""

    def __init__(self, front_door: FrontDoor, account: str) -> None:
        self.front_door, self.account = front_door, account

    def send(self, method: str, path: str, *, uses_bucket: bool = False, **kwargs: Any) -> Response:
        """The successful response to a request, repeated while changes are propagating; raises RequestError."""
        idempotent = method in ("GET", "PUT", "DELETE")
        outcome = self.front_door.send_until(
            lambda outcome: not is_transient(outcome, idempotent, uses_bucket), method, path, self.account, **kwargs
        )
        if isinstance(outcome, Response) and outcome.ok:
            return outcome
        raise RequestError(f"{method} {self.front_door.url}{path}", outcome)
