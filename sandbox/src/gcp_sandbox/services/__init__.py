"""The services that are played, one folder each, named as their discovery document.

Each has a SERVICE (core/service.py); most of its methods come of tables of its resources (core/resources.py).
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def load() -> list[ModuleType]:
    """The modules of all services, each with its SERVICE."""
    return [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
