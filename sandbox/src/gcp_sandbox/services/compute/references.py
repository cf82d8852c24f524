"""References between resources, and the canonical form of links that Google stores."""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Iterator
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.compute.base import (
    PENDING,
    find,
    invalid,
    key_of,
    kind_of,
    link,
    not_found,
    not_ready,
    parse,
)
from gcp_sandbox.services.compute.kinds import KINDS, Draft, Kind

# References of recently deleted resources, with the time of deletion; for _LAG seconds they are still shown as users.
_parted: weakref.WeakKeyDictionary[Cloud, dict[str, tuple[list[str], float]]] = weakref.WeakKeyDictionary()
_LAG = 1.0
# Targets that are keywords, not links: https://cloud.google.com/vpc/docs/private-service-connect#google-apis
_BUNDLES = ("all-apis", "vpc-sc")
# References to other services, which are stored as given: service bindings, …
_FOREIGN = re.compile(r"(https:)?//(?!www\.|compute\.|content\.)[a-z]+\.googleapis\.com/.+")
# Those to Certificate Manager are stored without the version of its API (recorded).
CERTIFICATE_MANAGER = "//certificatemanager.googleapis.com/"
_VERSIONED = re.compile(r"https://certificatemanager\.googleapis\.com/(?:v\w+/)?")


def references(kind: Kind, doc: Any) -> Iterator[str]:
    """Keys of the resources that a resource refers to."""
    if isinstance(doc, list):
        for item in doc:
            yield from references(kind, item)
    elif isinstance(doc, dict):
        for field, value in doc.items():
            if field in kind.refs and isinstance(value, str):
                yield key_of(value)
            elif field in kind.refs and isinstance(value, list) and all(isinstance(v, str) for v in value):
                yield from map(key_of, value)
            elif isinstance(value, list | dict):
                yield from references(kind, value)


def users(cloud: Cloud, key: str) -> list[str]:
    """Keys of the resources that refer to a resource, including those that are being created."""
    wanted = key.rsplit("/", 2)[1]
    out = []
    for kind in KINDS.values():
        if any(wanted in allowed for allowed in kind.refs.values()):
            out += [k for k, doc in cloud.store.list(kind.store) if key in references(kind, doc)]
    for k, doc in cloud.store.list(PENDING):
        if key in references(KINDS[kind_of(k)], doc):
            out.append(k)
    return out


def part(cloud: Cloud, key: str) -> None:
    """Record the references of a resource that is being removed, and discard older records."""
    now = time.monotonic()
    notes = {k: note for k, note in _parted.get(cloud, {}).items() if now - note[1] <= _LAG}
    doc = find(cloud, key)
    _parted[cloud] = notes | ({key: (list(references(KINDS[kind_of(key)], doc)), now)} if doc else {})


def shown_users(cloud: Cloud, key: str) -> list[str]:
    """Like users, for display: Google shows a user for a moment after its deletion (recorded)."""
    out = users(cloud, key)
    now = time.monotonic()
    return out + [
        k for k, (keys, when) in _parted.get(cloud, {}).items() if key in keys and now - when <= _LAG and k not in out
    ]


def resolve(draft: Draft, value: Any, path: str = "") -> Any:
    """A value with its references as full links.  Raises ApiError for a malformed or broken one."""
    if isinstance(value, list):
        return [resolve(draft, item, f"{path}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    out = {}
    for field, item in value.items():
        where = f"{path}.{field}" if path else field
        if field not in draft.kind.refs:
            out[field] = resolve(draft, item, where)
        elif isinstance(item, list):
            out[field] = [_reference(draft, field, v, f"{where}[{i}]") for i, v in enumerate(item)]
        else:
            out[field] = _reference(draft, field, item, where)
    return out


def _reference(draft: Draft, field: str, value: Any, where: str) -> Any:
    if not isinstance(value, str):
        return resolve(draft, value, where)
    if not value or value in _BUNDLES or _FOREIGN.fullmatch(value):
        return _VERSIONED.sub(CERTIFICATE_MANAGER, value)
    key = parse(draft.cloud, value, draft.project)
    if key is None:
        raise invalid(where, value, "The URL is malformed.")
    allowed = draft.kind.refs[field]
    if key.rsplit("/", 2)[1] not in allowed:
        kinds = ", ".join(KINDS[f"compute.{c}"].singular for c in allowed if f"compute.{c}" in KINDS)
        raise invalid(where, value, f"Unexpected resource collection '{key.rsplit('/', 2)[1]}'. Expected {kinds}.")
    if kind_of(key) in KINDS:
        doc = find(draft.cloud, key)
        if doc is None and draft.cloud.store.peek(PENDING, key) is None:
            raise not_found(key)
        if doc is None or "_deleting" in doc and draft.old is None:
            raise not_ready(key)
    return link(key)
