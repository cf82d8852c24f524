# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-29T12:00:00Z", "2026-11-29T12:00:00+00:00"),
        ("2026-11-29T12:00:00.5Z", "2026-11-29T12:00:00.500000+00:00"),
        ("2026-11-29T12:00:00.123456789Z", "2026-11-29T12:00:00.123456+00:00"),
        ("2026-11-29T04:00:00.123-08:00", "2026-11-29T04:00:00.123000-08:00"),
        ("2026-11-29T12:00:00", "2026-11-29T12:00:00+00:00"),
    ],
)
def test_every_form_of_a_timestamp_is_read(text: str, expected: str) -> None:
    assert times.moment(text).isoformat() == expected


def test_what_is_no_timestamp_is_refused() -> None:
    with pytest.raises(ValueError):
        times.moment("yesterday")
