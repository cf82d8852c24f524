"""JSON in Google's format: indented by two spaces."""

from __future__ import annotations

import json
from typing import Any

_scalar = json.JSONEncoder().encode
_text = json.encoder.encode_basestring_ascii


def pretty(value: Any, newline: str = "\n") -> str:
    """Like json.dumps(value, indent=2), but several times as fast (that one is not written in C); 1.0 is written as 1."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict) and value:
        inner = newline + "  "
        parts = [
            f"{_text(str(key))}: {_text(item) if type(item) is str else pretty(item, inner)}"
            for key, item in value.items()
        ]
        return "{" + inner + ("," + inner).join(parts) + newline + "}"
    if isinstance(value, list | tuple) and value:
        inner = newline + "  "
        items = [_text(item) if type(item) is str else pretty(item, inner) for item in value]
        return "[" + inner + ("," + inner).join(items) + newline + "]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _scalar(value)
