"""Operations in the format of Compute Engine.

https://cloud.google.com/compute/docs/reference/rest/v1/globalOperations
"""

from __future__ import annotations

import http
import re
import secrets
import time
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from gcp_sandbox.core.operations import Dialect, Operation


def compute_time() -> str:
    """A time in the format of Compute Engine: Pacific time with milliseconds."""
    return datetime.now(ZoneInfo("America/Los_Angeles")).isoformat(timespec="milliseconds")


def _ident() -> str:
    return f"operation-{int(time.time() * 1000)}-{secrets.token_hex(6)}-{secrets.token_hex(4)}"


def _render(op: Operation, host: str) -> dict[str, Any]:
    done = op["status"] == "DONE"
    base = f"https://www.googleapis.com/compute/v1/{op['scope']}"
    out: dict[str, Any] = {
        "kind": "compute#operation",
        "id": op["number"],
        "name": op["id"],
        "operationType": op["verb"],
        "targetLink": op["target"],
        "status": op["status"],
        "user": op["user"],
        "progress": 100 if done else 0,
        "insertTime": op["insertTime"],
        "startTime": op["startTime"],
        "selfLink": f"{base}/operations/{op['id']}",
    }
    if not op["scope"].endswith("/global"):
        out["zone" if "/zones/" in op["scope"] else "region"] = base
    if done:
        out["endTime"] = op["endTime"]
    if "error" in op:
        code = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", op["reason"]).upper()
        out["error"] = {"errors": [{"code": code, "message": op["error"]["message"]}]}
        out["httpErrorStatusCode"] = op["http"]
        out["httpErrorMessage"] = http.HTTPStatus(op["http"]).phrase.upper()
    return out | op["extra"]


COMPUTE = Dialect("compute", _render, _ident, compute_time)
