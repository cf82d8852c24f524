# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module waits for, told to whoever listens in the same process; nobody does where a module runs as a program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

CALL = "call"
"""A request, until its response is there."""
PENDING = "pending"
"""An operation or another change that Google has accepted and not finished, or a pause before a request is repeated."""


class Listener(Protocol):
    """Is told when a wait begins and ends, by any thread of the module."""

    def begin(self, kind: str, what: str) -> int:
        """A wait of KIND begins, WHAT as in Client.action; returns a number for its end."""

    def end(self, number: int) -> None:
        """The wait of this number is over."""


class Ear:
    """Where the action in_process puts its listener for the time of a module."""

    listener: Listener | None = None


@contextmanager
def noted(kind: str, what: str) -> Iterator[None]:
    """Tell the listener, if there is one, that inside is nothing but waiting."""
    listener = Ear.listener
    if listener is None:
        yield
        return
    number = listener.begin(kind, what)
    try:
        yield
    finally:
        listener.end(number)
