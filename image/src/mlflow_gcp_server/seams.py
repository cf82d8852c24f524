# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this server reaches into MLflow: every place is checked at start, so that a new MLflow fails there and not in use."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def require(module: Any, name: str, parameters: tuple[str, ...] | None = None) -> Any:
    """A name of MLflow's own.  Raises RuntimeError where it is gone or takes other parameters."""
    where = f"{module.__name__}.{name}"
    if not hasattr(module, name):
        raise RuntimeError(f"this MLflow has no {where}")
    found = getattr(module, name)
    if parameters is not None:
        taken = tuple(inspect.signature(found).parameters)
        if taken != parameters:
            raise RuntimeError(f"{where} of this MLflow takes {taken}, and not {parameters}")
    return found


def replace(module: Any, name: str, new: Any) -> None:
    """Put something in the place of a name of MLflow's own.  Raises RuntimeError where it is gone."""
    require(module, name)
    setattr(module, name, new)


def wrap(module: Any, name: str, parameters: tuple[str, ...], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Put wrapper(original, …) in the place of a function of MLflow's own; returns it.  Raises RuntimeError."""
    original = require(module, name, parameters)
    new = functools.wraps(original)(functools.partial(wrapper, original))
    setattr(module, name, new)
    return new
