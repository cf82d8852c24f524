# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates that are compiled once in a run, instead of once in each process that Ansible forks, one for each task and host."""

from __future__ import annotations

import functools
import hashlib
import marshal
import mmap
import struct
from collections.abc import Callable
from types import CodeType
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.shared import Locked
from jinja2 import Environment

# What the code of a template depends on, apart from its source and the class of the environment.
SYNTAX = (
    "block_start_string",
    "block_end_string",
    "variable_start_string",
    "variable_end_string",
    "comment_start_string",
    "comment_end_string",
    "line_statement_prefix",
    "line_comment_prefix",
    "trim_blocks",
    "lstrip_blocks",
    "newline_sequence",
    "keep_trailing_newline",
)
COUNT = struct.Struct("=Q")
# Digest, beginning and length of one template's code.
ENTRY = struct.Struct("=16sQQ")
MANY = 1 << 13
"""Templates for which there is room."""


class SharedTemplates(Locked):
    """
    The code of templates, in memory that processes forked from this one share; nothing is written to disk.

    Jinja compiles a template in about a millisecond, and a task has a dozen: those of its arguments, and of the variables behind them.
    """

    def __init__(self, size: int = 1 << 24) -> None:
        super().__init__()
        self._memory = mmap.mmap(-1, size)
        self._known: dict[bytes, tuple[int, int]] = {}
        self._own: dict[bytes, CodeType] = {}

    def load(self, key: bytes) -> CodeType | None:
        """The code that is kept under KEY."""
        if key not in self._own:
            if key not in self._known:
                self._learn()
            if key not in self._known:
                return None
            start, length = self._known[key]
            self._own[key] = marshal.loads(self._memory[start : start + length])
        return self._own[key]

    def keep(self, key: bytes, code: CodeType) -> None:
        """Keep CODE under KEY, for other processes too as long as there is room."""
        self._own[key] = code
        data = marshal.dumps(code)
        with self.locked():
            self._learn()
            count = self._count()
            start = max((sum(place) for place in self._known.values()), default=COUNT.size + MANY * ENTRY.size)
            if key in self._known or count == MANY or start + len(data) > len(self._memory):
                return
            self._memory[start : start + len(data)] = data
            ENTRY.pack_into(self._memory, COUNT.size + count * ENTRY.size, key, start, len(data))
            # The last of all, so that a process that is killed leaves nothing half written.
            COUNT.pack_into(self._memory, 0, count + 1)

    def _count(self) -> int:
        (count,) = COUNT.unpack_from(self._memory)
        return int(count)

    def _learn(self) -> None:
        """Look what other processes have kept."""
        for number in range(len(self._known), self._count()):
            key, start, length = ENTRY.unpack_from(self._memory, COUNT.size + number * ENTRY.size)
            self._known[key] = (start, length)


def share(templates: SharedTemplates) -> None:
    """Let Jinja look into TEMPLATES before it compiles one."""
    original: Callable[..., Any] = Environment.compile

    @functools.wraps(original)
    def compiled(environment: Environment, source: Any, *args: Any, **kwargs: Any) -> Any:
        # Ansible compiles those with backslashes in two ways.
        if args or kwargs or not isinstance(source, str) or "\\" in source:
            return original(environment, source, *args, **kwargs)
        syntax = [type(environment), *(getattr(environment, name) for name in SYNTAX)]
        key = hashlib.sha256(f"{syntax}{source}".encode()).digest()[:16]
        code = templates.load(key)
        if code is None:
            code = original(environment, source)
            templates.keep(key, code)
        return code

    type.__setattr__(Environment, "compile", compiled)
