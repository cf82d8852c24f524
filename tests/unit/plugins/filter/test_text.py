# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that read what an inventory, a survey of AWX or the command line gives."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow_gcp.plugins.filter.dictionary import dictionary
from ansible_collections.mlops.mlflow_gcp.plugins.filter.entries import entries
from ansible_collections.mlops.mlflow_gcp.plugins.filter.service_account_email import FilterModule
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values


@pytest.mark.parametrize(
    "value, expected",
    [
        ({"a": 1}, {"a": 1}),
        (None, {}),
        ("", {}),
        (" \r\n", {}),
        ('{"team": "ml", "n": 4, "b": true, "none": null}', {"team": "ml", "n": 4, "b": True, "none": None}),
        # As a template of Ansible prints a dictionary.
        ("{'a': True, 'b': None}", {"a": True, "b": None}),
        ("{team: ml, unit: data}", {"team": "ml", "unit": "data"}),
        ("team=ml", {"team": "ml"}),
        ("team=ml,unit=data", {"team": "ml", "unit": "data"}),
        ("a=1 b='x y'\nc=3", {"a": "1", "b": "x y", "c": "3"}),
        ("url=http://a?b=c", {"url": "http://a?b=c"}),
        ('team: ml\r\nunit: "da: ta" # note\r\n', {"team": "ml", "unit": "da: ta"}),
        (
            '---\n# note\nA: http://x:1/?a=b\nB: null\nC: ""\nD:\nE: it\'s',
            {"A": "http://x:1/?a=b", "B": None, "C": "", "D": "", "E": "it's"},
        ),
        ("  a: 1\n  b: 2\n", {"a": "1", "b": "2"}),
    ],
)
def test_what_becomes_a_dictionary(value, expected):
    assert dictionary(value) == expected


@pytest.mark.parametrize("value", ["nonsense", "[1]", '{"a": 1', "{", 5, ["a"], "a:\n  b: 1", "a='", "a=1 b"])
def test_what_is_no_dictionary(value):
    with pytest.raises(AnsibleFilterError, match="is not allowed; give a dictionary, or text such as"):
        dictionary(value)


@pytest.mark.parametrize(
    "value, expected",
    [
        (["a", "b", "a"], ["a", "b"]),
        (("a",), ["a"]),
        ("", []),
        ("a, b", ["a", "b"]),
        ("a\r\n\r\nb\n", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("[a, p.svc.id.goog[n/s]]", ["a", "p.svc.id.goog[n/s]"]),
        ('---\n- a\n- "b"\n', ["a", "b"]),
        ("\"a\", 'b'", ["a", "b"]),
    ],
)
def test_what_becomes_a_list(value, expected):
    assert entries(value) == expected


@pytest.mark.parametrize("value", [None, 5, {"a": 1}, "[", '["a"'])
def test_what_is_no_list(value):
    with pytest.raises(AnsibleFilterError, match="is not allowed; give a list, or text with commas"):
        entries(value)


@pytest.mark.parametrize(
    "project, address",
    [
        ("my-project", "mlflow@my-project.iam.gserviceaccount.com"),
        ("example.com:proj", "mlflow@proj.example.com.iam.gserviceaccount.com"),
        ("sub.example.com:proj", "mlflow@proj.sub.example.com.iam.gserviceaccount.com"),
    ],
)
def test_the_address_of_a_service_account(project, address):
    assert FilterModule().filters()["service_account_email"]("mlflow", project) == address
    assert values.project_of(address) == project


def test_other_addresses_have_no_project():
    assert values.project_of("jane@example.com") is None
