"""Changes of a part of a document: by the paths of an updateMask, or by a JSON merge patch.

https://google.aip.dev/161, https://www.rfc-editor.org/rfc/rfc7396
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Container
from typing import Any

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call

Doc = dict[str, Any]


def refused(path: str) -> ApiError:
    """The 400 for a path that cannot be in a mask, as most APIs word it."""
    return ApiError(400, f"Invalid update mask: {path}.")


def camel(word: str) -> str:
    """snake_case as camelCase, which stays as it is."""
    return re.sub(r"_([a-z0-9])", lambda found: found.group(1).upper(), word)


def paths(call: Call) -> list[str]:
    """The paths of a call's updateMask."""
    return [path.strip() for path in call.params.get("updateMask", "").split(",") if path.strip()]


def masked(
    call: Call,
    old: Doc,
    mask: list[str],
    mutable: Container[str] | None = None,
    wrong: Callable[[str], ApiError] = refused,
) -> Doc:
    """A copy of a document with the fields that a mask names taken from the call's body, or taken away with it.

    Paths are in snake_case or camelCase and may be nested ("labels.env").  mutable: the first words that there can be
    (None: all).  Raises wrong(path) where a path is none of the message's.
    """
    out = copy.deepcopy(old)
    for path in mask:
        words = _words(call, path)
        if not words or mutable is not None and words[0] not in mutable:
            raise wrong(path)
        source: Any = call.body
        for word in words:
            source = source.get(word) if isinstance(source, dict) else None
        target: Any = out
        for word in words[:-1]:
            target = target.setdefault(word, {}) if source is not None else target.get(word, {})
        if source is not None:
            target[words[-1]] = copy.deepcopy(source)
        else:
            target.pop(words[-1], None)
    return out


def _words(call: Call, path: str) -> list[str]:
    """The fields of a mask's path, as the message of a call has them; [] where it has not.  A map's keys stay as given."""
    schemas, out = call.method.api.schemas, list[str]()
    schema: Doc = {"$ref": call.method.request}
    while path:
        schema = schemas[schema["$ref"]] if "$ref" in schema else schema
        if "additionalProperties" in schema:
            return [*out, path.strip("`")]
        word, _, path = path.partition(".")
        if camel(word) not in schema.get("properties", {}):
            return []
        out.append(camel(word))
        schema = schema["properties"][out[-1]]
    return out


async def patched(call: Call, old: Doc, given: Doc | None = None) -> Doc:
    """A document with a call's body, or what of it is given, laid over it; null in the request takes a field away."""
    raw = json.loads(await call.request.read() or b"{}")
    return _laid(old, call.body if given is None else given, raw)


def _laid(old: Doc, new: Doc, raw: Any) -> Doc:
    """old with new laid over it; raw is new as it came, with its nulls."""
    raw = raw if isinstance(raw, dict) else {}
    out = {k: v for k, v in old.items() if k not in raw or raw[k] is not None}
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _laid(out[key], value, raw.get(key)) if both else value
    return out
