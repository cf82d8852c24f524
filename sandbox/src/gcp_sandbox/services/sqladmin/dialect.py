"""Operations in the format of Cloud SQL: https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/operations"""

from __future__ import annotations

from typing import Any

from gcp_sandbox.core.operations import Dialect, Operation


def _render(op: Operation, host: str) -> dict[str, Any]:
    base = f"https://{host}/sql/v1beta4/projects/{op['project']}"
    out: dict[str, Any] = {
        "kind": "sql#operation",
        "name": op["id"],
        "operationType": op["verb"],
        "status": op["status"],
        "user": op["user"],
        "insertTime": op["insertTime"],
        "targetId": op["target"],
        "targetProject": op["project"],
        "targetLink": f"{base}/instances/{op['target']}",
        "selfLink": f"{base}/operations/{op['id']}",
    }
    if op["status"] != "PENDING":
        out["startTime"] = op["startTime"]
    if op["status"] == "DONE":
        out["endTime"] = op["endTime"]
    if "error" in op:
        out["error"] = {
            "kind": "sql#operationErrors",
            "errors": [{"kind": "sql#operationError", "code": op["reason"], "message": op["error"]["message"]}],
        }
    return out | op["extra"]


SQL = Dialect("sql", _render, first="PENDING")
