# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's own log messages, one line each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


def say(message: str) -> None:
    """Write one line to stdout."""
    print(f"mlflow-server: {' '.join(str(message).split())}", flush=True)


def warn(message: str) -> None:
    """Write one line to stderr."""
    print(f"mlflow-server: {' '.join(str(message).split())}", file=sys.stderr, flush=True)


def fail(message: str, status: int = 1) -> NoReturn:
    """Exit with one line on stderr."""
    warn(message)
    sys.exit(status)


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Exit with one line instead of a traceback if the code in this context fails."""
    try:
        yield
    except Exception as error:
        fail(f"{what}: {type(error).__name__}: {error}")
