# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a resource to its declared state: read, compare, create, update, delete, with check mode and diff."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import operations
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import (
    Rules,
    declared,
    differences,
    lookup,
    mask,
    overlay,
    patch,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InUse
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task

# Seconds that a new service account or role grant takes to propagate.
PROPAGATION_TIMEOUT = 120


class Resource:
    """
    A declared resource. A module derives from it, sets url, collection and wanted in __init__, and overrides as needed:

        class Neg(Resource):
            kind = "serverless NEG"
            immutable = {"networkEndpointType": "give another name"}
            def __init__(self, task): ...

        def main(): run(Neg.converge, argument_spec={...})
    """

    kind: ClassVar[str] = ""
    """The kind of resource in messages, such as "Cloud SQL instance"."""
    rules: ClassVar[Rules] = Rules()
    immutable: ClassVar[Mapping[str, str]] = {}
    """Paths that Google cannot change, each with what to do instead."""

    may_be_hidden: bool = False
    """With state=existing, whether a resource that the caller may not read is assumed to exist as declared."""

    internal: ClassVar[frozenset[str]] = frozenset()
    """Keys that read() adds to the API's body; not returned."""

    name: str
    """The name in messages."""
    url: str
    """For GET, update and DELETE."""
    collection: str
    """For the POST that creates."""
    create_params: Mapping[str, Any] = {}
    """Query of that POST, such as {"serviceId": name}."""
    wanted: dict[str, Any]
    """The API's body as declared; None means "not declared" and is never sent."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.params = task.params
        self.timeout: float = task.params.get("timeout") or 600

    @property
    def client(self) -> Client:
        """The task's client."""
        return self.task.client

    # Methods that a module may override, in the order of use.

    def validate(self) -> None:
        """Raise InvalidInput for invalid options, before the first request."""

    def read(self) -> dict[str, Any] | None:
        """The live body, None when the resource does not exist."""
        return self.client.find(self.url)

    def settle(self, live: dict[str, Any]) -> dict[str, Any]:
        """The body after waiting for changes of an earlier run to finish; not called in check mode."""
        return live

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        """The declaration, completed with values that depend on LIVE (None when absent); not for state=absent."""
        return self.wanted

    def differences(self, live: dict[str, Any]) -> list[str]:
        """Paths to change; [] when LIVE is as declared."""
        return differences(self.wanted, live, self.rules)

    def check_change(self, live: dict[str, Any], changes: list[str]) -> None:
        """Raise GcpError when CHANGES cannot be made; also in check mode."""
        for path in changes:
            for fixed, instead in self.immutable.items():
                if f"{path}.".startswith(f"{fixed}."):
                    old, new = lookup(live, fixed), lookup(self.wanted, fixed)
                    raise GcpError(
                        f"Cannot update {self.label}: {fixed} is {old!r} and cannot be changed to {new!r}; {instead}"
                    )

    def create(self) -> dict[str, Any]:
        """Google's response: an operation, the body, or {} to read the body again."""
        # Idempotent because the name is given: Google rejects a second creation.
        return self.client.post(self.collection, declared(self.wanted), params=self.create_params, idempotent=True)

    def name_taken(self, error: ApiError) -> GcpError:
        """The error to raise when Google rejects the creation because the resource exists, but there is none to read."""
        return error

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        """Google's response, as create(); sends everything that is declared."""
        return self.client.request("PATCH", self.url, self.patch(live))

    def check_delete(self, live: dict[str, Any]) -> None:
        """Raise GcpError when LIVE must not be deleted (InUse when others use it); also in check mode."""

    def delete(self, live: dict[str, Any]) -> dict[str, Any]:
        """Google's response, an operation or {}."""
        return self.client.request("DELETE", self.url)

    def is_held(self, error: ApiError) -> bool:
        """Whether Google rejects the deletion only until it has released the resource itself."""
        return False

    def remains(self, live: dict[str, Any]) -> dict[str, Any]:
        """What is left of LIVE after its deletion, {} for nothing."""
        return {}

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        """The module's own return values; LIVE is {} when absent, the declaration when it would be created."""
        return {}

    def while_propagating(self, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of CALL, repeated while a new account or a new grant may be propagating."""
        timeout = min(self.timeout, PROPAGATION_TIMEOUT)
        return self.client.retry(call, self.is_propagating, timeout=timeout, pause=5)

    def is_propagating(self, error: ApiError) -> bool:
        """Whether the request that failed with ERROR may soon succeed."""
        return error.propagating

    # The engine.

    @property
    def label(self) -> str:
        """Kind and name, for messages."""
        return f"{self.kind} {self.name}"

    def patch(self, live: dict[str, Any]) -> dict[str, Any]:
        """Everything that is declared as a merge patch of LIVE."""
        return patch(self.wanted, live, self.rules)

    def wait(self, response: dict[str, Any], url: str, verb: str) -> dict[str, Any]:
        """RESPONSE, or the result of the operation if it is one; VERB is for example "create"."""
        if not operations.is_operation(response):
            return response
        return operations.wait(self.client, response, url, timeout=self.timeout, action=f"{verb} {self.label}")

    def poll(self, ready: Callable[[dict[str, Any]], bool], purpose: str) -> dict[str, Any]:
        """The live body, read until READY accepts it; PURPOSE is for example "wait for the creation"."""
        return operations.poll(
            lambda: self.read() or {}, ready, timeout=self.timeout, action=f"{purpose} of {self.label}"
        )

    @classmethod
    def converge(cls, task: Task) -> dict[str, Any]:
        """Bring the resource to option state (present without that option), or only look it up; the module's result."""
        resource = cls(task)
        resource.validate()
        try:
            live = task.read(resource.label, resource.read)
        except ApiError as error:
            if error.disabled and task.params.get("state") == "absent":
                task.warn(f"{resource.label} is taken as absent: {error.message}")
                return resource._absent(None)
            if error.status != 403 or error.disabled or not resource.is_hidden():
                raise
            task.warn(f"{resource.label} is assumed to exist as given, because it cannot be read: {error.message}")
            return resource._result(False, {}, {}, {}, frozenset())
        if live is not None and not task.check_mode:
            with task.client.action(f"wait for {resource.label}"):
                live = resource.settle(live)
        if task.params.get("state") == "absent":
            return resource._absent(live)
        resource.wanted = task.read(resource.label, lambda: resource.complete(live)) or resource.wanted
        if task.params.get("state") == "existing":
            return resource._existing(live)
        return resource._present(live)

    def _reread(self) -> dict[str, Any]:
        """The live body after a lost response or a change by another run, the declaration completed with it; {} when absent."""
        live = self.read()
        if not live:
            return {}
        live = self.settle(live)
        self.wanted = self.complete(live)
        return live

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

    def is_hidden(self) -> bool:
        """Whether this run does not depend on seeing a resource that the caller may not read."""
        return self.may_be_hidden and self.params.get("state") == "existing"

    def _existing(self, live: dict[str, Any] | None) -> dict[str, Any]:
        if live is None:
            raise GcpError(
                f"Cannot use {self.label}: it does not exist, and state=existing does not create it; correct the name, or "
                "create it first"
            )
        for path in self.differences(live):
            found, expected = lookup(mask(live, self.rules), path), lookup(mask(self.wanted, self.rules), path)
            raise GcpError(
                f"Cannot use {self.label}: its {path} is {found!r} instead of {expected!r}, "
                "and state=existing changes nothing"
            )
        return self._result(False, live, live, live, frozenset())

    def _absent(self, live: dict[str, Any] | None) -> dict[str, Any]:
        if live is None:
            return self._result(False, {}, {}, {}, frozenset())
        left = self._delete_or_leave(live)
        after = live if left else self.remains(live)
        return self._result(not left, live, after, after, frozenset())

    def _delete_or_leave(self, live: dict[str, Any]) -> bool:
        """Delete the resource, or with in_use=leave return True if it is still in use."""
        try:
            self.check_delete(live)
            if not self.task.check_mode:
                with self.client.action(f"delete {self.label}"):
                    self.client.retry(
                        lambda: operations.repeat(lambda: self._delete(live)),
                        self.is_held,
                        timeout=self.params.get("release_timeout") or 0,
                        pause=5,
                    )
        except (ApiError, InUse) as error:
            in_use = isinstance(error, InUse) or error.in_use or self.is_held(error)
            if self.params.get("in_use") != "leave" or not in_use:
                raise
            self.task.warn(f"{self.label} is left, because it is in use: {error}")
            return True
        return False

    def _delete(self, live: dict[str, Any]) -> None:
        try:
            self.wait(self.delete(live), self.url, "delete")
        except ApiError as error:
            if error.status != 404:
                raise

    def _create(self, attempt: int = 1) -> dict[str, Any]:
        with self.client.action(f"create {self.label}"):
            try:
                return self._finish(self.create(), self.collection, "create")
            except ApiError as error:
                failed = operations.may_repeat(error, attempt)
                if error.status != 409 and not failed:
                    raise
                # An earlier attempt succeeded and only its response was lost, or another run has just created it; or the
                # operation failed for a moment, and has left the resource or not.
                live = self._reread()
                if not live and failed:
                    return self._create(attempt + 1)
                if not live:
                    raise self.name_taken(error) from None
                changes = self.differences(live)
                if not changes:
                    return live
                self.check_change(live, changes)
                return self._update(live, changes)

    def _update(
        self, live: dict[str, Any], changes: list[str], again: bool = False, attempt: int = 1
    ) -> dict[str, Any]:
        with self.client.action(f"update {self.label}"):
            try:
                return self._finish(self.update(live, changes), self.url, "update")
            except ApiError as error:
                failed = operations.may_repeat(error, attempt)
                # As above; a repeated or simultaneous change is rejected because of its etag or the running operation.
                if error.status not in (409, 412) and not failed:
                    raise
                live = self._reread()
                changes = self.differences(live) if live else []
                if failed and changes:
                    return self._update(live, changes, again, attempt + 1)
                if changes and (again or error.retried):
                    raise
                return self._update(live, changes, again=True, attempt=attempt) if changes else live

    def _finish(self, response: dict[str, Any], url: str, verb: str) -> dict[str, Any]:
        """The live body after RESPONSE to a creation or update."""
        if response and not operations.is_operation(response):
            return response
        if response:
            self.wait(response, url, verb)
        return self.settle(self.read() or {})

    def _result(
        self, changed: bool, before: Any, after: Any, live: dict[str, Any], changes: frozenset[str]
    ) -> dict[str, Any]:
        return self.task.result(
            label=self.label,
            changed=changed,
            before=self.masked(before),
            after=self.masked(after, changes),
            resource=self.masked({key: value for key, value in live.items() if key not in self.internal}),
            **self.returns(live),
        )

    def masked(self, body: Any, changes: frozenset[str] = frozenset()) -> Any:
        """BODY as results and diffs show it, without its secrets; those at the paths CHANGES are marked as changed."""
        return mask(body, self.rules, changes)
