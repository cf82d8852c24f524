# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing what is declared with what Google returns, in the terms of the API's JSON."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MASK = "********"
RESERVED_LABELS = ("goog-", "run.googleapis.com/", "cloud.googleapis.com/")


@dataclass(frozen=True)
class Rules:
    """
    How one kind of resource is compared. Paths are dotted, list positions left out ("template.containers.env").

    exact: maps that are declared whole, such as labels: keys only Google has are to go (its own labels excepted).
    unordered: lists whose order means nothing.
    keyed: lists of objects matched by this key instead of by position; declared whole.
    optional: objects and lists that are to go when declared empty, such as a probe declared as {}.
    same: own notion of equality, called with (wanted, live).
    secret: values never shown.
    """

    exact: frozenset[str] = frozenset()
    unordered: frozenset[str] = frozenset()
    keyed: Mapping[str, str] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    same: Mapping[str, Callable[[Any, Any], bool]] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()


def differences(wanted: Any, live: Any, rules: Rules, path: str = "") -> list[str]:
    """
    Paths at which LIVE is not what WANTED declares.

    None is "not declared"; what only LIVE has is a default of the server, no difference. Missing equals false, 0,
    "" and empty, which Google leaves out; an int64 equals its string. Lists are declared whole.
    """
    if wanted is None:
        return []
    if path in rules.same:
        return [] if rules.same[path](wanted, live) else [path]
    if isinstance(wanted, Mapping):
        if not wanted and live and path in rules.optional:
            return [path]
        live = live if isinstance(live, Mapping) else {}
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
    """Resource links are equal whatever host and version they begin with."""
    return relative(wanted) == relative(live)


def relative(link: Any) -> str:
    """The part of a resource link from "projects/" on; "" for None."""
    text = str(link or "")
    return text[text.find("projects/") :] if "projects/" in text else text


def same_resource(wanted: Any, live: Any) -> bool:
    """As same_link, where one side may also be a short name or name the project by number."""
    ours, theirs = relative(wanted).split("/"), relative(live).split("/")
    if ours[0] == theirs[0] == "projects" and (ours[1].isdigit() != theirs[1].isdigit()):
        return ours[2:] == theirs[2:]
    return ours == theirs if len(ours) > 1 and len(theirs) > 1 else ours[-1] == theirs[-1]


def full_path(project: str, collection: str, name: str) -> str:
    """NAME, a short name or any link, as projects/…; COLLECTION such as "global/networks"."""
    return relative(name) if "/" in name else f"projects/{project}/{collection}/{name}"


def patch(wanted: Any, live: Any, rules: Rules, path: str = "") -> Any:
    """WANTED as a JSON merge patch: undeclared values left out, keys to be removed from exact maps as null."""
    if not isinstance(wanted, Mapping):
        return declared(wanted)
    live = live if isinstance(live, Mapping) else {}
    body: dict[str, Any] = {
        key: patch(value, live.get(key), rules, _join(path, key)) for key, value in wanted.items() if value is not None
    }
    return body | dict.fromkeys(_surplus(wanted, live, rules, path))


def declared(wanted: Any) -> Any:
    """WANTED without the values that are not declared (None), lists included."""
    if isinstance(wanted, Mapping):
        return {key: declared(value) for key, value in wanted.items() if value is not None}
    if isinstance(wanted, (list, tuple)):
        return [declared(value) for value in wanted]
    return wanted


def overlay(live: Any, wanted: Any, rules: Rules, path: str = "") -> Any:
    """LIVE as it will be once WANTED is applied; what is equal keeps Google's spelling."""
    if not differences(wanted, live, rules, path):
        return copy.deepcopy(live)
    if path in rules.same:
        return declared(wanted)
    if isinstance(wanted, Mapping):
        live = live if isinstance(live, Mapping) and not (not wanted and path in rules.optional) else {}
        gone = set(_surplus(wanted, live, rules, path))
        merged = {key: copy.deepcopy(value) for key, value in live.items() if key not in gone}
        for key, value in wanted.items():
            # What is as good as missing, such as false and [], stays missing.
            if value is not None and (key in live or differences(value, None, rules, _join(path, key))):
                merged[key] = overlay(live.get(key), value, rules, _join(path, key))
        return merged
    if isinstance(wanted, (list, tuple)):
        return [
            overlay(mate, value, rules, path) for value, mate in _mates(list(wanted), list(live or ()), rules, path)
        ]
    return copy.deepcopy(wanted)


def mask(body: Any, rules: Rules, changed: frozenset[str] = frozenset(), path: str = "") -> Any:
    """BODY with its secrets hidden; those at the paths CHANGED say so."""
    if path in rules.secret and body not in (None, ""):
        return f"{MASK} (changed)" if path in changed else MASK
    if isinstance(body, Mapping):
        return {key: mask(value, rules, changed, _join(path, key)) for key, value in body.items()}
    if isinstance(body, (list, tuple)):
        return [mask(value, rules, changed, path) for value in body]
    return body


def lookup(body: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    for key in path.split("."):
        body = body.get(key) if isinstance(body, Mapping) else None
    return body


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


def _surplus(wanted: Mapping[str, Any], live: Mapping[str, Any], rules: Rules, path: str) -> list[str]:
    if path not in rules.exact:
        return []
    return [key for key in live if key not in wanted and not key.startswith(RESERVED_LABELS)]


def _list_differences(wanted: list[Any], live: list[Any], rules: Rules, path: str) -> list[str]:
    if len(wanted) != len(live):
        return [path]
    pairs = _mates(wanted, live, rules, path)
    if any(mate is None for _, mate in pairs):
        return [path]
    return list(dict.fromkeys(name for value, mate in pairs for name in differences(value, mate, rules, path)))


def _mates(wanted: list[Any], live: list[Any], rules: Rules, path: str) -> list[tuple[Any, Any]]:
    """Each wanted entry with the live one it is compared with, None without one."""
    if path in rules.keyed:
        key = rules.keyed[path]
        known = {str(entry.get(key)): entry for entry in live}
        return [(entry, known.get(str(entry.get(key)))) for entry in wanted]
    if path in rules.unordered:
        rest, pairs = list(live), []
        for value in wanted:
            mate = next((entry for entry in rest if not differences(value, entry, rules, path)), None)
            if mate is not None:
                rest.remove(mate)
            pairs.append((value, mate))
        return pairs
    return [(value, live[place] if place < len(live) else None) for place, value in enumerate(wanted)]
