# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this server reaches into MLflow's internals, checked before it does: an upgrade that moved one fails at the start."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping

import mlflow

from mlflow_gcp_server.console import fail


def check(seams: Mapping[str, tuple[str, ...]]) -> None:
    """End the process with one line unless each function, named `module:qualified.name`, takes just these parameters."""
    for path, parameters in seams.items():
        module, _, name = path.partition(":")
        try:
            found = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            actual = tuple(inspect.signature(found).parameters)
        except (ImportError, AttributeError, TypeError, ValueError):
            actual = None
        if actual != parameters:
            is_now = "gone" if actual is None else f"called with ({', '.join(actual)})"
            fail(
                f"this server does not fit MLflow {mlflow.__version__}: {module}.{name}({', '.join(parameters)})"
                f" is {is_now}"
            )
