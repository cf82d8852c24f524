# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a declaration to Google's state: read, compare, create, update, delete; check mode and diff included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import operations
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import (
    Rules,
    declared,
    differences,
    lookup,
    mask,
    overlay,
    patch,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task


class Resource:
    """
    A declaration. A module derives from it, sets url, collection and wanted in __init__ and overrides what differs:

        class Neg(Resource):
            kind = "serverless NEG"
            immutable = {"cloudRun.service": "delete it first"}
            def __init__(self, task): ...

        def main(): run(Neg.converge, argument_spec={...})
    """

    kind: ClassVar[str] = ""
    """What messages call it, such as "Cloud SQL instance"."""
    rules: ClassVar[Rules] = Rules()
    immutable: ClassVar[Mapping[str, str]] = {}
    """Paths that Google does not change, each with what to do instead."""

    name: str
    """What messages call this one."""
    url: str
    """GET, update and DELETE go here."""
    collection: str
    """Creation is a POST here."""
    create_params: Mapping[str, Any] = {}
    """Query of the creation, such as {"serviceId": name}."""
    wanted: dict[str, Any]
    """The API's body as declared; None is "not declared" and is never sent."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.params = task.params
        self.timeout: float = task.params.get("timeout") or 600

    @property
    def client(self) -> Any:
        """The task's client."""
        return self.task.client

    # What a module may override, in the order of use.

    def validate(self) -> None:
        """Raise InvalidInput for options that cannot be right; before the first call."""

    def read(self) -> dict[str, Any] | None:
        """The live body, None when there is none."""
        return self.client.get(self.url, absent=True)

    def settle(self, live: dict[str, Any]) -> dict[str, Any]:
        """Wait until LIVE has stopped changing (an earlier run's operation); the body then. Not in check mode."""
        return live

    def differences(self, live: dict[str, Any]) -> list[str]:
        """Paths to be changed; [] when LIVE is as declared."""
        return differences(self.wanted, live, self.rules)

    def check_change(self, live: dict[str, Any], changes: list[str]) -> None:
        """Raise GcpError when CHANGES cannot be made; in check mode too."""
        for path in changes:
            for fixed, instead in self.immutable.items():
                if f"{path}.".startswith(f"{fixed}."):
                    was, wish = lookup(live, fixed), lookup(self.wanted, fixed)
                    raise GcpError(
                        f"Cannot update {self.label}: {fixed} is {was!r} and cannot become {wish!r}; {instead}"
                    )

    def create(self) -> dict[str, Any]:
        """Google's answer: an operation, the body, or {} to have it read again."""
        # Repeating is safe: the name is ours, a second creation is refused.
        return self.client.post(self.collection, declared(self.wanted), params=self.create_params, safe=True)

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        """Google's answer, as create(); sends all that is declared."""
        return self.client.request("PATCH", self.url, self.patch(live))

    def check_delete(self, live: dict[str, Any]) -> None:
        """Raise GcpError when LIVE must not be deleted; in check mode too."""

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        """Google's answer, an operation or {}."""
        return self.client.request("DELETE", self.url)

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        """The module's named return values; LIVE is {} when absent, the declaration when it would be made."""
        return {}

    def shown(self, live: dict[str, Any]) -> dict[str, Any]:
        """LIVE as returned in resource; leave out here what read() added to the API's body."""
        return live

    # The engine.

    @property
    def label(self) -> str:
        """Kind and name, for messages."""
        return f"{self.kind} {self.name}"

    def patch(self, live: dict[str, Any]) -> dict[str, Any]:
        """All that is declared as a merge patch over LIVE."""
        return patch(self.wanted, live, self.rules)

    def wait(self, answer: dict[str, Any], url: str, verb: str) -> dict[str, Any]:
        """ANSWER, or what the operation that it is ends with; VERB such as "create"."""
        if not operations.is_operation(answer):
            return answer
        return operations.wait(self.client, answer, url, timeout=self.timeout, attempt=f"{verb} {self.label}")

    def poll(self, ready: Callable[[dict[str, Any]], bool], purpose: str) -> dict[str, Any]:
        """The live body once READY of it is true, read again and again; PURPOSE such as "wait for its creation"."""
        return operations.poll(
            lambda: self.read() or {}, ready, timeout=self.timeout, attempt=f"{purpose} of {self.label}"
        )

    @classmethod
    def converge(cls, task: Task) -> dict[str, Any]:
        """The work of a module: brings the resource to option state (present without one); its result."""
        resource = cls(task)
        resource.validate()
        live = resource._read()
        if task.params.get("state") == "absent":
            return resource._absent(live)
        return resource._present(live)

    def _read(self) -> dict[str, Any] | None:
        live = self.task.read(self.label, self.read)
        if live is None or self.task.check_mode:
            return live
        with self.client.attempt(f"wait for {self.label}"):
            return self.settle(live)

    def _present(self, live: dict[str, Any] | None) -> dict[str, Any]:
        if live is None:
            after = declared(self.wanted)
            if not self.task.check_mode:
                live = self._create()
            return self._result(True, {}, after, live if live is not None else after, frozenset())
        changes = self.differences(live)
        if not changes:
            return self._result(False, live, live, live, frozenset())
        self.check_change(live, changes)
        before, after = live, overlay(live, self.wanted, self.rules)
        live = after if self.task.check_mode else self._update(live, changes)
        return self._result(True, before, after, live, frozenset(changes))

    def _absent(self, live: dict[str, Any] | None) -> dict[str, Any]:
        if live is None:
            return self._result(False, {}, {}, {}, frozenset())
        self.check_delete(live)
        if not self.task.check_mode:
            with self.client.attempt(f"delete {self.label}"):
                try:
                    self.wait(self.delete(live), self.url, "delete")
                except ApiError as error:
                    if error.status != 404:
                        raise
        return self._result(True, live, {}, {}, frozenset())

    def _create(self) -> dict[str, Any]:
        with self.client.attempt(f"create {self.label}"):
            try:
                return self._outcome(self.create(), self.collection, "create")
            except ApiError as error:
                # The first try was carried out, only its answer was lost.
                if error.status != 409 or not error.retried:
                    raise
                live = self.settle(self.read() or {})
                changes = self.differences(live)
                return self._update(live, changes) if changes else live

    def _update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        with self.client.attempt(f"update {self.label}"):
            try:
                return self._outcome(self.update(live, changes), self.url, "update")
            except ApiError as error:
                # As above; a repeated change is refused because of its etag or the operation under way.
                if not error.retried or error.status not in (409, 412):
                    raise
                live = self.settle(self.read() or {})
                if self.differences(live):
                    raise
                return live

    def _outcome(self, answer: dict[str, Any], url: str, verb: str) -> dict[str, Any]:
        """The live body after ANSWER to a creation or update."""
        if answer and not operations.is_operation(answer):
            return answer
        if answer:
            self.wait(answer, url, verb)
        return self.settle(self.read() or {})

    def _result(
        self, changed: bool, before: Any, after: Any, live: dict[str, Any], changes: frozenset[str]
    ) -> dict[str, Any]:
        return self.task.result(
            changed=changed,
            before=mask(before, self.rules),
            after=mask(after, self.rules, changes),
            resource=mask(self.shown(live), self.rules),
            **self.returns(live),
        )
