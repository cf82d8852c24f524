"""A local emulation of the Google Cloud APIs."""

from __future__ import annotations

__version__ = "0.1.0"
