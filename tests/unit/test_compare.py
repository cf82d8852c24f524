# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing what is declared with what Google returns."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import (
    Rules,
    differences,
    mask,
    overlay,
    patch,
    same_link,
    same_resource,
)

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


def test_labels_are_declared_completely_except_those_of_google():
    rules = Rules(exact=frozenset({"labels"}))
    live = {"labels": {"team": "ml", "old": "x", "goog-managed-by": "y"}}
    assert differences({"labels": {"team": "ml"}}, live, rules) == ["labels.old"]
    assert differences({"labels": None}, live, rules) == []
    assert patch({"labels": {"team": "ml"}}, live, rules) == {"labels": {"team": "ml", "old": None}}
    assert overlay(live, {"labels": {"team": "ml"}}, rules) == {"labels": {"team": "ml", "goog-managed-by": "y"}}


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
