# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow_gcp.plugins.filter.domains import domains

ONE, TWO = "mlflow.example.com", "models.example.org"


@pytest.mark.parametrize(
    "value, expected",
    [
        ([ONE, TWO], [ONE, TWO]),
        (f"{ONE}, {TWO}", [ONE, TWO]),
        (f"{ONE}\n{TWO}\n", [ONE, TWO]),
        ([ONE, TWO, ONE], [ONE, TWO]),
        ("", []),
        ([], []),
    ],
)
def test_lists_and_texts_become_lists(value, expected):
    assert domains(value) == expected


@pytest.mark.parametrize(
    "value", ["https://mlflow.example.com", "*.example.com", ["MLflow.example.com"], ["mlflow"], [7], 7, None]
)
def test_what_is_no_domain_is_refused_by_name(value):
    with pytest.raises(AnsibleFilterError) as refused:
        domains(value)
    named = value[0] if isinstance(value, list) else value
    assert repr(named) in str(refused.value) and ONE in str(refused.value)
