# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every variable of every role as a survey of AWX gives it; tests/e2e/test_awx.py runs site.yml with all of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.action import check_variables
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import answers

from tests.answers import DICTIONARIES, JOB, LISTS, container, options, texts
from tests.unit.plugins.action.test_check_variables import REQUIRED, ROLES, WIRING, check, new_run

__all__ = ["new_run"]  # for each check

ROLE_OF = {
    name: each.parents[1].name
    for each in check_variables.ROLES.glob("*/meta/argument_specs.yml")
    for name in check_variables.files(each.parents[1].name)[0]
}


def meaning(name: str, value: Any) -> Any:
    """What check_variables makes of a value, with the text that Google gets for the parts of a dictionary; or what it allows."""
    option = check_variables.Option(name, ROLE_OF[name], options()[name])
    try:
        found = option.coerced(value)
        if option.kind:
            option.kind.check(found)
    except values.Refused as refused:
        return refused.allowed
    return as_google_gets_it(found)


def as_google_gets_it(found: Any) -> Any:
    return {key: values.text(part) for key, part in found.items()} if isinstance(found, dict) else found


def typed(name: str, spec: dict[str, Any]) -> list[Any]:
    """Values of a variable as an inventory gives them."""
    kind = spec["type"]
    if kind == "bool":
        return [True, False]
    if kind in ("int", "float"):
        return spec.get("choices") or [8, 64, 250]
    if kind == "raw" and spec.get("no_log"):
        return []  # a key, which is one text, without entries
    if kind == "raw":
        assert container(name) is not None, f"tests/answers.py needs a value for {name}"
        return [container(name)]
    return spec.get("choices") or []


@pytest.mark.parametrize("name", sorted(ROLE_OF))
def test_text_means_what_the_typed_value_means(name):
    for value in typed(name, options()[name]):
        expected = meaning(name, value)
        if isinstance(value, (list, dict, bool)):
            assert expected == as_google_gets_it(value)
        for text in texts(value):
            assert meaning(name, text) == expected, text


def test_all_answers_at_once():
    """Each in one of the ways in which it can be given, until each has been given in all ways."""

    def found(variables: dict[str, Any]) -> dict[str, Any]:
        result = check({"roles": ROLES}, REQUIRED | WIRING | variables)["variables"]
        return {name: as_google_gets_it(value) for name, value in result.items()}

    defaults = found({})
    given = {name: container(name) or defaults[name] for name in defaults}
    # Another front door's, what only another kind of certificate or of sign-in has, and what the play sets.
    others = (
        "iap_cloud_run",
        "iap_internal_lb",
        "iap_lb_certificates",
        "mlflow_impersonate_delegates",
        "cloudrun_record",
    )
    given = {name: value for name, value in given.items() if not name.startswith(others)}
    expected = found(given)
    ways = max(len(texts(value)) for value in given.values())
    for way in range(ways):
        answered = {name: (said := texts(value))[way % len(said)] for name, value in given.items()}
        assert found(answered) == expected


def test_every_sample_belongs_to_a_variable():
    names = [name for name, spec in options().items() if spec["type"] == "raw"]
    assert {
        end for end in LISTS | DICTIONARIES if not any(container(name) is (LISTS | DICTIONARIES)[end] for name in names)
    } == set()


def test_an_unanswered_question_is_a_variable_that_is_not_set():
    answered = {
        "bucket_versioning": "false",
        "mlflow_gc_dry_run": False,
        "cloudrun_min_instances": 0,
        "mlflow_labels": {},
    }
    given = {**JOB, **dict.fromkeys(ROLE_OF, ""), "theirs": "", "mlflow_zone": " \r\n", "mlflow_size": None, **answered}
    gone = answers.take_out(ROLE_OF, given)
    assert gone.keys() == ROLE_OF.keys() - answered.keys()
    assert given == {**JOB, "theirs": "", **answered}


@pytest.mark.parametrize("job", ["awx_job_id", "tower_job_id"])
def test_what_is_given_as_empty_outside_of_a_job_stays(job):
    given = {"mlflow_domain": "", "mlflow_labels": {}}
    assert answers.take_out(ROLE_OF, given) == {} and given["mlflow_domain"] == ""
    assert answers.take_out(ROLE_OF, given | {job: 7}) == {"mlflow_domain": ""}


def test_the_first_task_of_a_run_sees_what_the_inventory_has(monkeypatch):
    """Ansible has put its variables together before it loads the file, so that they still have the empty answers."""
    monkeypatch.setattr(check_variables, "UNANSWERED", {"bucket_location": "", "bucket_versioning": ""})
    hosts = SimpleNamespace(raw_get=lambda host: {"prod": {"bucket_location": "EU"}}[host])
    early = REQUIRED | {"bucket_location": "", "bucket_versioning": "", "inventory_hostname": "prod"}
    action = object.__new__(check_variables.ActionModule)
    seen = action.answered({**early, "hostvars": hosts})
    assert seen["bucket_location"] == "EU" and "bucket_versioning" not in seen
    assert action.answered(REQUIRED) == REQUIRED
    found = check({"role": "bucket"}, early)
    assert found["variables"]["bucket_versioning"] is True and found["unanswered"] == [
        "bucket_location",
        "bucket_versioning",
    ]
    assert check({}, early) == {"changed": False, "unanswered": ["bucket_location", "bucket_versioning"]}
