# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible import constants as C
from ansible_collections.mlops.mlflow_gcp.plugins.action.mlflow_plan import table
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import record

COUNTS = dict.fromkeys(("create", "update", "delete", "run", "unchanged"), 0)


def result(before: Any, after: Any, changed: bool | None = None, label: str = "bucket b") -> dict[str, Any]:
    diff = {"before": before, "after": after, "before_header": label, "after_header": label}
    return {"changed": before != after if changed is None else changed, "diff": diff}


def entry(*args: Any, **kwargs: Any) -> record.Entry | None:
    return record.entry("demo", "Create the bucket", "storage_bucket", "p", result(*args, **kwargs))


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [
        ({}, {"a": 1}, "create"),
        ({"a": 1}, {"a": 2}, "update"),
        ({"a": 1}, {}, "delete"),
        ({"a": 1}, {"a": 1}, "unchanged"),
    ],
)
def test_what_a_result_says(before, after, action):
    assert entry(before, after).action == action


def test_what_is_absent_and_to_be_absent_is_not_in_the_plan():
    assert entry({}, {}) is None


def test_a_task_without_a_resource_is_there_if_it_would_change_something():
    assert record.entry("demo", "Run the job", "run_job_execution", "p", {"changed": False}) is None
    assert record.entry("demo", "Run the job", "run_job_execution", "p", {"changed": True}).action == "run"


def test_the_table_names_the_fields_that_change():
    before = {"versioning": {"enabled": False}, "labels": {"old": "x"}, "same": 1}
    after = {"versioning": {"enabled": True}, "labels": {}, "same": 1, "long": "x" * 100}
    assert list(table([entry(before, after), entry({}, {"a": 1})], COUNTS)) == [
        "~ update bucket b",
        "    versioning.enabled: false -> true",
        '    labels.old: "x" -> (not set)',
        f'    long: (not set) -> "{"x" * 56}...',
        "+ create bucket b",
        "0 create, 0 update, 0 delete, 0 run, 0 unchanged",
    ]


def test_the_last_entry_of_a_resource_counts_for_its_host(tmp_path, monkeypatch):
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    assert record.entries("demo") == []
    record.add(entry({}, {"a": 1}))
    record.add(entry({"a": 1}, {"a": 2}))
    record.add(record.Entry("other", "", "", "p", "bucket b", "create", {}, {}))
    record.add(record.Entry("demo", "", "", "of a second deployment", "bucket b", "create", {}, {}))
    assert [each.action for each in record.entries("demo")] == ["update", "create"]
