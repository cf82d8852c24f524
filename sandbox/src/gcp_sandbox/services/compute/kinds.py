"""The declaration of a resource kind, and the draft of a resource that is about to be stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.compute.base import Doc, find, key_of

KINDS: dict[str, Kind] = {}  # by kind in the store


@dataclasses.dataclass
class Draft:
    """A resource that is about to be stored: doc is the new state, old the one it replaces (None: insert).

    given: the body of the request.  scope: "global", "regions/r" or "zones/z".
    """

    cloud: Cloud
    call: Call
    kind: Kind
    key: str
    scope: str
    given: Doc
    doc: Doc
    old: Doc | None = None

    @property
    def project(self) -> str:
        return self.call.project_id

    @property
    def region(self) -> str:
        return self.scope.partition("/")[2] if self.scope.startswith("regions/") else ""

    def changed(self, field: str) -> bool:
        """Whether this request changes the field."""
        return self.old is None or self.doc.get(field) != self.old.get(field)

    def target(self, field: str) -> Doc | None:
        """The resource that a top-level field refers to, read-only."""
        return find(self.cloud, key_of(self.doc[field])) if self.doc.get(field) else None


@dataclasses.dataclass(frozen=True)
class Kind:
    """The specifics of one resource kind.

    resources: discovery resource -> scope type, {"globalAddresses": "global", "addresses": "regions"}.
    singular: as in "compute#address".  verbs: methods in addition to insert, get, list and delete.
    refs: field -> collections it may refer to, at any depth.  output: further output-only fields.
    required, immutable: fields.  defaults: filled in if absent.
    setters: method -> (field of the resource, field of the request).
    labels: "insert" (accepted on creation), "later" (by setLabels only) or "".
    prepare(draft): checks and derived fields.  computed(cloud, key, doc): fields added to responses.
    after(cloud, key, event): side effects, when the operation is done; event is insert, change or delete.
    guard(cloud, key, doc): raises if a deletion is rejected for reasons other than references.
    types: method -> operationType if it is not the method's name, or function that returns it for a resource;
    long_types: "compute.<resource>.<method>".
    beta: fields that only the beta API shows.  quota: metric that each resource counts toward.
    """

    collection: str
    singular: str
    resources: Mapping[str, str]
    verbs: str = ""
    refs: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    output: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    immutable: tuple[str, ...] = ()
    setters: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    labels: str = ""
    fingerprint: bool = False
    with_id: bool = False
    prepare: Callable[[Draft], None] | None = None
    computed: Callable[[Cloud, str, Doc], Doc] | None = None
    after: Callable[[Cloud, str, str], None] | None = None
    guard: Callable[[Cloud, str, Doc], None] | None = None
    types: Mapping[str, str | Callable[[Doc], str]] = dataclasses.field(default_factory=dict)
    long_types: tuple[str, ...] = ()
    beta: tuple[str, ...] = ()
    quota: str = ""

    @property
    def store(self) -> str:
        return f"compute.{self.collection}"
