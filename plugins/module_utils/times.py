# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Timestamps as Google's APIs give them."""

from __future__ import annotations

import re
from datetime import datetime, timezone


def now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(timezone.utc)


def moment(text: str) -> datetime:
    """
    The time of a timestamp in the format of RFC 3339, with any number of digits of a second; in UTC if it names no zone.

    moment("2026-11-29T12:00:00.5Z") == datetime(2026, 11, 29, 12, 0, 0, 500000, timezone.utc)
    Raises ValueError. Before Python 3.11, fromisoformat() takes neither a Z nor a fraction of other than 3 or 6 digits.
    """
    six_digits = re.sub(r"\.(\d+)", lambda fraction: f".{fraction[1][:6]:0<6}", text)
    time = datetime.fromisoformat(six_digits.replace("Z", "+00:00"))
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
