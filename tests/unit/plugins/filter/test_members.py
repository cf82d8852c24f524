# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow_gcp.plugins.filter.members import members

POOL = "iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/ci"
JANE, TEAM = "user:jane@example.com", "group:ml-team@example.com"


@pytest.mark.parametrize(
    "value, expected",
    [
        ([JANE, TEAM], [JANE, TEAM]),
        (f"{JANE}, {TEAM}", [JANE, TEAM]),
        (f"{JANE}\n{TEAM}\n", [JANE, TEAM]),
        ([JANE, TEAM, JANE], [JANE, TEAM]),
        ("", []),
        ([], []),
        ("domain:example.com", ["domain:example.com"]),
        # Workload and workforce identity federation, for CI without keys.
        (
            [f"principalSet://{POOL}/*", f"principal://{POOL}/subject/x"],
            [f"principalSet://{POOL}/*", f"principal://{POOL}/subject/x"],
        ),
        ("serviceAccount:ci@p.iam.gserviceaccount.com", ["serviceAccount:ci@p.iam.gserviceaccount.com"]),
    ],
)
def test_lists_and_texts_become_lists(value, expected):
    assert members(value) == expected


@pytest.mark.parametrize(
    "value, named",
    [
        ("jane@example.com", "jane@example.com"),
        (f"{JANE}, bob@example.com", "bob@example.com"),
        (["user:jane"], "user:jane"),
        (["domain:jane@example.com"], "domain:jane@example.com"),
        (["User:jane@example.com"], "User:jane@example.com"),
        (["allUsers"], "allUsers"),
        ([JANE + " "], JANE + " "),
        ([7], "7"),
        (7, "7"),
    ],
)
def test_what_is_no_member_is_refused_by_name(value, named):
    with pytest.raises(AnsibleFilterError) as refused:
        members(value)
    assert named in str(refused.value)
    assert "user:jane@example.com" in str(refused.value)
