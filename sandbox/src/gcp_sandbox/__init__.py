"""A private look-alike of the Google Cloud APIs on localhost."""

from __future__ import annotations

__version__ = "0.1.0"
