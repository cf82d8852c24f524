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
# Where the last record ends; each is a digest, a length and the code of one template.
END = struct.Struct("=Q")
HEADER = struct.Struct("=16sQ")


class SharedTemplates(Locked):
    """
    The code of templates, in memory that processes forked from this one share; nothing is written to disk.

    Jinja compiles a template in about a millisecond, and a task has a dozen: those of its arguments, and of the variables behind them.
    """

    def __init__(self, size: int = 1 << 24) -> None:
        super().__init__()
        self._memory = mmap.mmap(-1, size)
        END.pack_into(self._memory, 0, END.size)
        self._seen = END.size
        self._known: dict[bytes, slice] = {}
        self._own: dict[bytes, CodeType] = {}

    def load(self, key: bytes) -> CodeType | None:
        """The code that is kept under KEY."""
        if key not in self._own:
            if key not in self._known:
                self._learn()
            if key not in self._known:
                return None
            self._own[key] = marshal.loads(self._memory[self._known[key]])
        return self._own[key]

    def keep(self, key: bytes, code: CodeType) -> None:
        """Keep CODE under KEY, for other processes too as long as there is room."""
        self._own[key] = code
        data = marshal.dumps(code)
        with self.locked():
            self._learn()
            start = self._seen + HEADER.size
            end = start + len(data)
            if key in self._known or end > len(self._memory):
                return
            HEADER.pack_into(self._memory, self._seen, key, len(data))
            self._memory[start:end] = data
            # The last of all, so that a process that is killed leaves nothing half written.
            END.pack_into(self._memory, 0, end)

    def _learn(self) -> None:
        """Look what other processes have kept."""
        (end,) = END.unpack_from(self._memory)
        while self._seen < end:
            key, length = HEADER.unpack_from(self._memory, self._seen)
            start = self._seen + HEADER.size
            self._seen = start + length
            self._known[key] = slice(start, self._seen)


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
