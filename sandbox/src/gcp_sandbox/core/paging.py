"""Paging of lists."""

from __future__ import annotations

import base64
from typing import Any

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call


def page(
    call: Call, field: str, found: list[dict[str, Any]], *, default: int = 100, most: int = 1000, total: bool = False
) -> dict[str, Any]:
    """{field: items, nextPageToken?} for the call's pageSize and pageToken; {} if there are no items.

    default: page size if none is requested.  most: maximum page size.  total: add totalSize.
    Raises ApiError 400 for an invalid token.
    """
    size = call.params.get("pageSize", call.body.get("pageSize", 0))
    if size < 0:
        raise ApiError(400, "page_size must be non-negative.")
    token = call.params.get("pageToken", call.body.get("pageToken", ""))
    try:
        start = int(base64.urlsafe_b64decode(token)) if token else 0
    except ValueError:
        raise ApiError(400, "The page token is invalid.") from None
    end = start + min(size or default, most)
    out: dict[str, Any] = {field: found[start:end]} if found[start:end] else {}
    if end < len(found):
        out["nextPageToken"] = base64.urlsafe_b64encode(str(end).encode()).decode()
    if total and found:
        out["totalSize"] = len(found)
    return out
