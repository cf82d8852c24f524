# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
What others set stays: a table that accounts for every writable field of a kind of resource, and a test of a module with it.

The fields come from Google's discovery document, so a new one cannot be forgotten. Each is owned by the module, set by
the test to a value that only others would set, or listed with the reason why it cannot be set. A test file contains:

    CASES = {"URL map": Kept("compute.v1", "UrlMap", module="compute_url_map", ...)}

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_what_others_set_stays(case, sandbox_module, gcp_sandbox):
        assert case.unaccounted() == []
        case.check(sandbox_module, gcp_sandbox, PROJECT)
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import googleapiclient
from gcp_sandbox.testing import Sandbox

Doc = dict[str, Any]
DOCUMENTS = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
# Versions of a resource, which change with every update.
VERSIONS = frozenset({"fingerprint", "labelFingerprint", "etag", "metageneration", "generation"})
OUTPUT = re.compile(r"\[?output[ -]only", re.IGNORECASE)


@cache
def schemas(api: str) -> Doc:
    """The schemas of an API, such as "compute.v1"."""
    return json.loads((DOCUMENTS / f"{api}.json").read_text())["schemas"]


def others_patch(cloud: Sandbox, url: str, body: Doc) -> None:
    """Set BODY as others would: by PATCH, with the resource's current version."""
    live = cloud.call("GET", url)
    cloud.call("PATCH", url, {**body, **{name: live[name] for name in ("fingerprint", "etag") if name in live}})


@dataclass(frozen=True)
class Kept:
    """A kind of resource: who owns which of its fields, and how its module is called. Paths are dotted, without positions."""

    api: str
    """The discovery document, such as "compute.v1"."""
    schema: str
    """The resource in it, such as "UrlMap"."""
    module: str
    url: str
    """Of the resource, without scheme; {project} is replaced here, and in all values below."""
    options: Doc
    """Options that create the resource."""
    changes: tuple[Doc, ...]
    """Further options, each of which changes an owned field; each change is made and taken back."""
    owned: tuple[str, ...]
    """Paths that the module declares, with everything below them."""
    foreign: Doc
    """A value for every other writable field, as Google returns it."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Writable fields that the test cannot set, each with the reason."""
    others: Callable[[Sandbox, str, Doc], None] = others_patch
    """How others set these values."""
    volatile: tuple[str, ...] = ()
    """Paths that Google changes with every update, besides the versions."""

    def unaccounted(self) -> list[str]:
        """Writable fields that are neither owned, set nor listed, and paths of the table that the schema does not have."""
        paths = dict(self._paths(schemas(self.api)[self.schema], ""))
        missing = {path for path, unit in paths.items() if unit and not has(self.foreign, path)}
        stale = {path for path in (*self.owned, *self.reasons) if path not in paths or has(self.foreign, path)}
        return sorted(missing | stale)

    def _paths(self, schema: Doc, path: str) -> Iterator[tuple[str, bool]]:
        """
        Each field, and whether it is a writable one that others own. The fields of an object count one by one if a part of
        it is owned or listed, otherwise the object is one field.
        """
        for name, entry in schema.get("properties", {}).items():
            below = f"{path}.{name}" if path else name
            inner = entry.get("items") or entry
            inner = schemas(self.api)[inner["$ref"]] if "$ref" in inner else inner
            listed = (*self.owned, *self.reasons)
            output = entry.get("readOnly") or OUTPUT.match(entry.get("description", ""))
            divided = any(other.startswith(f"{below}.") for other in listed)
            yield below, not (output or divided or below in listed or name in VERSIONS)
            if divided:
                yield from self._paths(inner, below)

    def check(self, run_module: Callable[..., Doc], cloud: Sandbox, project: str) -> None:
        """Create the resource, set what others set, make and take back each change with the module, and compare each time."""
        case = filled(self, project)
        options = {**case.options, "project": project}
        assert run_module(case.module, **options)["changed"]
        case.others(cloud, case.url, case.foreign)
        before = cloud.call("GET", case.url)
        assert absent(case.foreign, before) == [], "the sandbox did not keep this"
        assert not run_module(case.module, **options)["changed"], "a value of others is a difference"
        for change in case.changes:
            for wanted in (options | change, options):
                assert run_module(case.module, **wanted)["changed"], change
                after = cloud.call("GET", case.url)
                assert case._kept(after) == case._kept(before), change
            assert case._without(after) == case._without(before), change

    def _kept(self, body: Doc) -> Doc:
        """BODY without owned fields and versions."""
        return self._without(body, *self.owned)

    def _without(self, body: Doc, *paths: str) -> Doc:
        """BODY without versions and PATHS."""
        out = copy.deepcopy(body)
        for path in (*paths, *self.volatile, *VERSIONS):
            remove(out, path)
        return out


def filled(value: Any, project: str) -> Any:
    """VALUE with the project's ID in place of {project}."""
    if isinstance(value, Kept):
        parts = {name: filled(getattr(value, name), project) for name in ("url", "options", "changes", "foreign")}
        return replace(value, **parts)
    if isinstance(value, Mapping):
        return {key: filled(entry, project) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(entry, project) for entry in value]
    return value.replace("{project}", project) if isinstance(value, str) else value


def has(body: Any, path: str) -> bool:
    """Whether BODY has a value at a dotted path, in lists in any entry."""
    if not path:
        return body is not None
    if isinstance(body, (list, tuple)):
        return any(has(entry, path) for entry in body)
    name, _, rest = path.partition(".")
    return isinstance(body, Mapping) and name in body and has(body[name], rest)


def remove(body: Any, path: str) -> None:
    """Take a dotted path out of BODY, in lists out of every entry."""
    if isinstance(body, list):
        for entry in body:
            remove(entry, path)
        return
    name, _, rest = path.partition(".")
    if isinstance(body, dict) and name in body:
        if rest:
            remove(body[name], rest)
        else:
            del body[name]


def absent(wanted: Any, live: Any, path: str = "") -> list[str]:
    """Paths of values in WANTED that LIVE does not have."""
    if isinstance(wanted, Mapping):
        live = live if isinstance(live, Mapping) else {}
        return [
            name
            for key, value in wanted.items()
            for name in absent(value, live.get(key), f"{path}.{key}" if path else str(key))
        ]
    if isinstance(wanted, (list, tuple)):
        if not isinstance(live, list) or len(live) != len(wanted):
            return [path]
        return [name for value, entry in zip(wanted, live, strict=True) for name in absent(value, entry, path)]
    return [] if wanted == live or str(wanted) == str(live) else [path]
