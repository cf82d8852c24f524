# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing what is declared with what Google returns."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import (
    LABEL_RECORD,
    Rules,
    differences,
    mask,
    overlay,
    patch,
    replacement,
    same_link,
    same_resource,
    with_record,
)

RECORD = LABEL_RECORD
LINK = "https://www.googleapis.com/compute/v1/projects/demo/global/networks/n"


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        ({"size": 10}, {"size": "10"}),
        ({"rate": 1.0}, {"rate": 1}),
        ({"on": False, "text": "", "items": [], "map": {}}, {}),
        ({"on": True}, {"on": "true"}),
        ({"a": None}, {"a": "of the server"}),
        ({"a": {"b": 1}}, {"a": {"b": 1, "filled": "in"}, "kind": "thing"}),
        ({"list": [{"a": 1}]}, {"list": [{"a": 1, "filled": "in"}]}),
    ],
)
def test_equal(wanted, live):
    assert differences(wanted, live, Rules()) == []


@pytest.mark.parametrize(
    ("wanted", "live", "paths"),
    [
        ({"on": True}, {"on": 1}, ["on"]),
        ({"on": True}, {}, ["on"]),
        ({"on": False}, {"on": True}, ["on"]),
        ({"zero": "0"}, {}, ["zero"]),
        ({"a": {"b": 1}}, {}, ["a.b"]),
        ({"list": ["a"]}, {"list": ["a", "b"]}, ["list"]),
        ({"list": []}, {"list": ["a"]}, ["list"]),
        ({"list": ["a", "b"]}, {"list": ["b", "a"]}, ["list"]),
        ({"list": [{"a": 1}]}, {"list": [{"a": 2}]}, ["list.a"]),
    ],
)
def test_different(wanted, live, paths):
    assert differences(wanted, live, Rules()) == paths


def test_an_exact_map_is_declared_completely_except_what_google_sets():
    rules = Rules(exact=frozenset({"notes"}))
    live = {"notes": {"team": "ml", "old": "x", "run.googleapis.com/y": "y"}}
    assert differences({"notes": {"team": "ml"}}, live, rules) == ["notes.old"]
    assert differences({"notes": None}, live, rules) == []
    assert patch({"notes": {"team": "ml"}}, live, rules) == {"notes": {"team": "ml", "old": None}}
    assert overlay(live, {"notes": {"team": "ml"}}, rules) == {"notes": {"team": "ml", "run.googleapis.com/y": "y"}}


@pytest.mark.parametrize(
    ("wanted", "live", "sent", "after"),
    [
        # Nothing is wanted, nothing is ours.
        ({}, {"cost": "1"}, None, {"cost": "1"}),
        # A label of somebody else stays; the value of ours replaces theirs.
        (
            {"team": "ml"},
            {"cost": "1", "team": "it"},
            {"team": "ml", RECORD: "team"},
            {"cost": "1", "team": "ml", RECORD: "team"},
        ),
        # Set by somebody else, it is ours from now on.
        ({"team": "ml"}, {"team": "ml"}, {"team": "ml", RECORD: "team"}, {"team": "ml", RECORD: "team"}),
        # Ours goes when it is not wanted any more, and the record with the last one.
        (
            {"team": "ml"},
            {"team": "ml", "old": "1", "cost": "1", RECORD: "old--team"},
            {"team": "ml", RECORD: "team", "old": None},
            {"team": "ml", "cost": "1", RECORD: "team"},
        ),
        ({}, {"team": "ml", "cost": "1", RECORD: "team"}, {"team": None, RECORD: None}, {"cost": "1"}),
        # An empty value is a value.
        ({"note": ""}, {}, {"note": "", RECORD: "note"}, {"note": "", RECORD: "note"}),
        # Recorded, but already removed by somebody.
        ({}, {RECORD: "team"}, {RECORD: None}, {}),
        # Keys that the record cannot contain are never removed.
        ({"a--b": "1", "c-": "1"}, {}, {"a--b": "1", "c-": "1"}, {"a--b": "1", "c-": "1"}),
        ({}, {"a--b": "1", "c-": "1"}, None, {"a--b": "1", "c-": "1"}),
    ],
)
def test_labels_of_ours_are_merged_with_those_of_others(wanted, live, sent, after):
    rules = Rules(labels=frozenset({"labels"}))
    body = {"labels": with_record(wanted)}
    changes = differences(body, {"labels": live}, rules)
    assert {path.removeprefix("labels.") for path in changes} == {
        key for key, value in (sent or {}).items() if live.get(key) != value
    }
    assert patch(body, {"labels": live}, rules) == {"labels": sent or {}}
    assert overlay({"labels": live}, body, rules) == {"labels": after}
    # It settles.
    assert differences(body, {"labels": after}, rules) == []


def test_the_record_is_continued_where_it_is_too_long():
    labels = {"k" * 63: "", "a" * 31: "", "b" * 30: "", "ü" * 31: "", "z": ""}
    record = {key: value for key, value in with_record(labels).items() if key not in labels}
    assert record == {
        RECORD: f"{'a' * 31}--{'b' * 30}",
        f"{RECORD}-2": "k" * 63,
        f"{RECORD}-3": "z",
        f"{RECORD}-4": "ü" * 31,
    }
    rules = Rules(labels=frozenset({""}))
    assert set(patch({}, {**labels, **record, "other": ""}, rules)) == labels.keys() | record.keys()


def test_unordered_and_keyed_lists():
    rules = Rules(unordered=frozenset({"ranges"}), keyed={"env": "name"})
    live = {"ranges": ["b", "a"], "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]}
    wanted = {"ranges": ["a", "b"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    assert differences(wanted, live, rules) == []
    wanted["env"][0]["value"] = "3"
    assert differences(wanted, live, rules) == ["env.value"]
    assert overlay(live, wanted, rules)["ranges"] == ["b", "a"]
    wanted["env"][0]["name"] = "C"
    assert differences(wanted, live, rules) == ["env"]


def test_an_optional_object_declared_empty_is_removed():
    rules = Rules(optional=frozenset({"probe"}))
    assert differences({"probe": {}}, {"probe": {"path": "/"}}, rules) == ["probe"]
    assert overlay({"probe": {"path": "/"}}, {"probe": {}}, rules) == {"probe": {}}
    assert differences({"probe": {}}, {}, rules) == []


def test_alternatives_that_exclude_each_other_are_replaced():
    rules = Rules(whole=frozenset({"probe", "env"}))
    live = {"probe": {"tcp": {"port": 1}, "period": 5}, "env": [{"name": "A", "source": "s"}], "kept": 1}
    wanted = {"probe": {"http": {"port": 1}}, "env": [{"name": "A", "value": "1"}]}
    for function in (overlay, replacement):
        assert function(live, wanted, rules) == {**wanted, "kept": 1}
        assert function(live, {"probe": {"period": 5}}, rules) == live


def test_a_replacement_contains_what_is_declared_and_what_is_not():
    wanted = {"on": False, "size": "1Gi", "list": [{"args": []}], "probe": {}, "exact": {"a": 1}, "none": None}
    rules = Rules(
        optional=frozenset({"probe"}), exact=frozenset({"exact"}), same={"size": lambda _wanted, live: live == "1024Mi"}
    )
    live = {
        "size": "1024Mi",
        "list": [{"name": "x"}],
        "probe": {"path": "/"},
        "exact": {"a": 1, "b": 2},
        "kept": {"c": 3},
    }
    assert replacement(live, wanted, rules) == {
        "on": False,
        "size": "1024Mi",
        "list": [{"name": "x", "args": []}],
        "probe": {},
        "exact": {"a": 1},
        "kept": {"c": 3},
    }


def test_values_that_equal_a_missing_field_are_not_in_the_diff():
    wanted = {
        "containers": [{"args": [], "boost": False, "probe": {}, "image": "2", "new": {"on": False, "path": "/"}}]
    }
    rules = Rules(optional=frozenset({"containers.probe"}))
    assert overlay({"containers": [{"image": "1"}]}, wanted, rules) == {
        "containers": [{"image": "2", "new": {"path": "/"}}]
    }


def test_links():
    assert same_link(LINK, "projects/demo/global/networks/n")
    assert not same_link(LINK, "projects/demo/global/networks/m")
    assert same_resource("projects/123/secrets/s", "projects/demo/secrets/s")
    assert same_resource("s", "projects/demo/secrets/s")
    assert same_resource("s", "s")
    assert not same_resource("projects/other/secrets/s", "projects/demo/secrets/s")
    assert not same_resource("projects/123/secrets/s", "projects/124/secrets/s")
    assert not same_resource("s", None)


def test_secrets_are_masked():
    rules = Rules(secret=frozenset({"iap.secret"}))
    body = {"iap": {"secret": "x", "id": "y"}}
    assert mask(body, rules) == {"iap": {"secret": "********", "id": "y"}}
    assert mask(body, rules, frozenset({"iap.secret"}))["iap"]["secret"] == "******** (changed)"
    assert mask({"iap": {"secret": None}}, rules) == {"iap": {"secret": None}}
