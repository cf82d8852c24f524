# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access to MLflow's internals: each use is checked on startup, so that an incompatible MLflow fails then and not later."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def require(module: Any, name: str, parameters: tuple[str, ...] | None = None) -> Any:
    """An internal name of MLflow.  Raises RuntimeError if it does not exist or has different parameters."""
    where = f"{module.__name__}.{name}"
    if not hasattr(module, name):
        raise RuntimeError(f"this version of MLflow has no {where}")
    found = getattr(module, name)
    if parameters is not None:
        taken = tuple(inspect.signature(found).parameters)
        if taken != parameters:
            raise RuntimeError(f"{where} of this version of MLflow takes {taken} instead of {parameters}")
    return found


def replace(module: Any, name: str, new: Any) -> None:
    """Replace an internal name of MLflow.  Raises RuntimeError if it does not exist."""
    require(module, name)
    setattr(module, name, new)


def wrap(module: Any, name: str, parameters: tuple[str, ...], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Replace an internal function of MLflow by wrapper(original, …); returns it.  Raises RuntimeError."""
    original = require(module, name, parameters)
    new = functools.wraps(original)(functools.partial(wrapper, original))
    setattr(module, name, new)
    return new
