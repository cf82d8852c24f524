# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing the declared with the live state, both as the API's JSON."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MASK = "********"
# Keys of annotations that only Google sets.
GOOGLE_PREFIXES = ("goog-", "run.googleapis.com/", "cloud.googleapis.com/")
# The label that tells which labels of a resource this collection has set, and that label or a continuation of it.
LABEL_RECORD = "mlflow-gcp-labels"
RECORD_KEY = re.compile(rf"{LABEL_RECORD}(?:-\d+)?")
LABEL_LENGTH = 63
# The label by which a deployment is found. Who changes a part of the deployment alone does not declare it.
DEPLOYMENT = "mlflow-gcp-deployment"


@dataclass(frozen=True)
class Rules:
    """
    How one kind of resource is compared. Paths are dotted, without list positions ("template.containers.env").

    exact: maps that are declared completely, such as annotations: undeclared keys are removed (except Google's own).
    labels: maps of labels, declared with_record(): labels of others stay, those of the live record go when they are not
        declared. Where a request replaces the whole map, overlay() of the map is what to send.
    unordered: lists whose order does not matter.
    keyed: lists of objects that are matched by this key instead of by position; declared completely.
    optional: objects that are removed when declared as {}, such as a probe.
    whole: objects and lists that are replaced when they differ, because their alternatives exclude each other.
    same: custom equality, called with (wanted, live).
    secret: values that are never shown.
    """

    exact: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    unordered: frozenset[str] = frozenset()
    keyed: Mapping[str, str] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    same: Mapping[str, Callable[[Any, Any], bool]] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()


def differences(wanted: Any, live: Any, rules: Rules, path: str = "") -> list[str]:
    """
    Paths at which LIVE differs from WANTED.

    None means "not declared". A field that only LIVE has is a server default, not a difference. A missing field equals
    false, 0, "" and empty, which Google omits; an int64 equals its string. Lists are declared completely.
    """
    if wanted is None:
        return []
    if path in rules.same:
        return [] if rules.same[path](wanted, live) else [path]
    if isinstance(wanted, Mapping):
        if not wanted and live and path in rules.optional:
            return [path]
        live = live if isinstance(live, Mapping) else {}
        if path in rules.labels:
            # Here, an empty value differs from none.
            changed = [_join(path, key) for key, value in wanted.items() if live.get(key) != value]
            return changed + [_join(path, key) for key in _surplus(wanted, live, rules, path)]
        found = [
            name for key, value in wanted.items() for name in differences(value, live.get(key), rules, _join(path, key))
        ]
        return found + [_join(path, key) for key in _surplus(wanted, live, rules, path)]
    if isinstance(wanted, (list, tuple)):
        return _list_differences(list(wanted), list(live or ()), rules, path)
    return [] if same_scalar(wanted, live) else [path]


def same_scalar(wanted: Any, live: Any) -> bool:
    """10 equals "10", False equals missing, True is not 1."""
    if not wanted and not live:
        return True
    if isinstance(wanted, bool) or isinstance(live, bool):
        return str(wanted).lower() == str(live).lower()
    return wanted == live or str(wanted) == str(live)


def same_link(wanted: Any, live: Any) -> bool:
    """Resource links are equal regardless of host and API version."""
    return relative(wanted) == relative(live)


def relative(link: Any) -> str:
    """The part of a resource link from "projects/" onwards; "" for None."""
    text = str(link or "")
    return text[text.find("projects/") :] if "projects/" in text else text


def short(link: Any) -> str:
    """The name at the end of a resource link or path; "" for None."""
    return str(link or "").rpartition("/")[2]


def same_resource(wanted: Any, live: Any) -> bool:
    """Like same_link, but one side may also be a short name or contain the project number."""
    left, right = relative(wanted).split("/"), relative(live).split("/")
    if left[0] == right[0] == "projects" and (left[1].isdigit() != right[1].isdigit()):
        return left[2:] == right[2:]
    return left == right if len(left) > 1 and len(right) > 1 else left[-1] == right[-1]


def with_record(labels: Mapping[str, str]) -> dict[str, str]:
    """
    LABELS and their record, the labels mlflow-gcp-labels, mlflow-gcp-labels-2 and so on: the keys, joined by "--".

    A key that contains "--" or ends with "-" could not be told apart there: it is not recorded, and so never removed. Neither is
    DEPLOYMENT.
    """
    values: list[str] = []
    for key in sorted(key for key in labels if "--" not in key and not key.endswith("-") and key != DEPLOYMENT):
        if values and len(f"{values[-1]}--{key}".encode()) <= LABEL_LENGTH:
            values[-1] += f"--{key}"
        else:
            values.append(key)
    record = {LABEL_RECORD if index == 1 else f"{LABEL_RECORD}-{index}": value for index, value in enumerate(values, 1)}
    return {**labels, **record}


def recorded(labels: Mapping[str, Any]) -> set[str]:
    """The keys of LABELS, live ones, that this collection has set: those in the record, and the record itself."""
    record = [key for key in labels if RECORD_KEY.fullmatch(key)]
    return {*record, *(own for key in record for own in str(labels[key]).split("--"))}


def full_path(project: str, collection: str, name: str) -> str:
    """NAME, a short name or any link, as projects/…; COLLECTION is for example "global/networks"."""
    return relative(name) if "/" in name else f"projects/{project}/{collection}/{name}"


def patch(wanted: Any, live: Any, rules: Rules, path: str = "") -> Any:
    """WANTED as a JSON merge patch: without undeclared values, with null for keys to remove."""
    if not isinstance(wanted, Mapping):
        return declared(wanted)
    live = live if isinstance(live, Mapping) else {}
    body: dict[str, Any] = {
        key: patch(value, live.get(key), rules, _join(path, key))
        for key, value in wanted.items()
        if not _undeclared(value)
    }
    return body | dict.fromkeys(_surplus(wanted, live, rules, path))


def declared(wanted: Any) -> Any:
    """WANTED without undeclared values (None, and objects that only contain None), also inside lists."""
    if isinstance(wanted, Mapping):
        return {key: declared(value) for key, value in wanted.items() if not _undeclared(value)}
    if isinstance(wanted, (list, tuple)):
        return [declared(value) for value in wanted]
    return wanted


def without_optional(body: Any, rules: Rules, path: str = "") -> Any:
    """BODY without the optional objects declared as {}, for requests in which Google fills in empty objects."""
    if isinstance(body, Mapping):
        kept = {key: value for key, value in body.items() if value != {} or _join(path, key) not in rules.optional}
        return {key: without_optional(value, rules, _join(path, key)) for key, value in kept.items()}
    return [without_optional(entry, rules, path) for entry in body] if isinstance(body, list) else body


def overlay(live: Any, wanted: Any, rules: Rules, path: str = "") -> Any:
    """LIVE after WANTED has been applied; equal values keep Google's spelling."""
    if not differences(wanted, live, rules, path):
        return copy.deepcopy(live)
    if path in rules.same or path in rules.whole:
        return declared(wanted)
    if isinstance(wanted, Mapping):
        live = live if isinstance(live, Mapping) and not (not wanted and path in rules.optional) else {}
        gone = set(_surplus(wanted, live, rules, path))
        merged = {key: copy.deepcopy(value) for key, value in live.items() if key not in gone}
        if path in rules.labels:
            return {**merged, **wanted}
        for key, value in wanted.items():
            # Values that equal a missing field, such as false and [], stay missing.
            if value is not None and (key in live or differences(value, None, rules, _join(path, key))):
                merged[key] = overlay(live.get(key), value, rules, _join(path, key))
        return merged
    if isinstance(wanted, (list, tuple)):
        return [
            overlay(match, value, rules, path) for value, match in _matches(list(wanted), list(live or ()), rules, path)
        ]
    return copy.deepcopy(wanted)


def replacement(live: Any, wanted: Any, rules: Rules, path: str = "") -> Any:
    """
    LIVE with everything that WANTED declares, for an update that replaces the whole body.

    Unlike overlay(), it contains values that equal a missing field, because Google's default may be another one.
    """
    if isinstance(wanted, Mapping) and (wanted or path not in rules.optional) and path not in rules.whole:
        live = live if isinstance(live, Mapping) else {}
        gone = set(_surplus(wanted, live, rules, path))
        return {key: copy.deepcopy(value) for key, value in live.items() if key not in gone} | {
            key: replacement(live.get(key), value, rules, _join(path, key))
            for key, value in wanted.items()
            if not _undeclared(value)
        }
    if isinstance(wanted, (list, tuple)) and path not in rules.whole and path not in rules.same:
        pairs = _matches(list(wanted), list(live or ()), rules, path)
        return [replacement(match, value, rules, path) for value, match in pairs]
    return copy.deepcopy(live) if live is not None and not differences(wanted, live, rules, path) else declared(wanted)


def mask(body: Any, rules: Rules, changed: frozenset[str] = frozenset(), path: str = "") -> Any:
    """BODY with its secrets masked; those at the paths CHANGED are marked as changed."""
    if path in rules.secret and body not in (None, ""):
        return f"{MASK} (changed)" if path in changed else MASK
    if isinstance(body, Mapping):
        return {key: mask(value, rules, changed, _join(path, key)) for key, value in body.items()}
    if isinstance(body, (list, tuple)):
        return [mask(value, rules, changed, path) for value in body]
    return body


def lookup(body: Any, path: str) -> Any:
    """The value at a dotted path, None without one."""
    for key in path.split("."):
        body = body.get(key) if isinstance(body, Mapping) else None
    return body


def _undeclared(wanted: Any) -> bool:
    return wanted is None or isinstance(wanted, Mapping) and bool(wanted) and all(map(_undeclared, wanted.values()))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


def _surplus(wanted: Mapping[str, Any], live: Mapping[str, Any], rules: Rules, path: str) -> list[str]:
    if path in rules.labels:
        own = recorded(live)
        return [key for key in live if key not in wanted and key in own]
    if path not in rules.exact:
        return []
    return [key for key in live if key not in wanted and not key.startswith(GOOGLE_PREFIXES)]


def _list_differences(wanted: list[Any], live: list[Any], rules: Rules, path: str) -> list[str]:
    if len(wanted) != len(live):
        return [path]
    pairs = _matches(wanted, live, rules, path)
    if any(pair[1] is None for pair in pairs):
        return [path]
    return list(dict.fromkeys(name for value, match in pairs for name in differences(value, match, rules, path)))


def _matches(wanted: list[Any], live: list[Any], rules: Rules, path: str) -> list[tuple[Any, Any]]:
    """Each wanted entry with the live entry to compare it with, None without one."""
    if path in rules.keyed:
        key = rules.keyed[path]
        known = {str(entry.get(key)): entry for entry in live}
        return [(entry, known.get(str(entry.get(key)))) for entry in wanted]
    if path in rules.unordered:
        rest, pairs = list(live), []
        for value in wanted:
            match = next((entry for entry in rest if not differences(value, entry, rules, path)), None)
            if match is not None:
                rest.remove(match)
            pairs.append((value, match))
        return pairs
    return [(value, live[index] if index < len(live) else None) for index, value in enumerate(wanted)]
