# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow_gcp.plugins.filter.problems import problems

CLIENT = "977178309684-7gcg621ahtq39p03.apps.googleusercontent.com"


@pytest.mark.parametrize(
    "group, value",
    [
        ("age", "30d"),
        ("age", "1d12h30m5s"),
        ("account_id", "mlflow-server"),
        ("bucket_name", "my-project-mlflow-artifacts"),
        ("cidr", "10.10.0.0/24"),
        ("domain", "mlflow.example.com"),
        ("domains", "mlflow.example.com, models.example.com"),
        ("domains", []),
        ("email", ""),
        ("image", "europe-west2-docker.pkg.dev/my-project/mlflow/server:3.17.2"),
        ("image", "europe-docker.pkg.dev/mlflow-gcp/mlflow:latest"),
        ("labels", {"team": "ml", "cost-centre": ""}),
        ("members", "user:jane@example.com, group:ml@example.com"),
        ("memory", "2Gi"),
        ("name", "mlflow"),
        ("project_id", "my-project-1"),
        ("region", "europe-west12"),
        ("time", "03:00"),
    ],
)
def test_good_values_raise_no_problem(group, value):
    assert problems({group: {"mlflow_it": value}}) == []


@pytest.mark.parametrize(
    "group, value, allowed",
    [
        ("age", "a month", "30d"),
        ("age", "12h1d", "1d12h"),
        ("age", "", "not set"),
        ("account_id", "ml", "6 to 30"),
        ("bucket_name", "My_Bucket", "lower-case"),
        ("bucket_name", "google-artifacts", "goog"),
        ("bucket_name", "10.0.0.1", "3 to 63"),
        ("cidr", "10.10.0.0/28", "/26"),
        ("cidr", "10.10.0.7/24", "first address"),
        ("cidr", "ten", "10.10.0.0/24"),
        ("domain", "https://mlflow.example.com/", "mlflow.example.com"),
        ("domain", "mlflow", "mlflow.example.com"),
        ("domain", "*.example.com", "mlflow.example.com"),
        ("domain", "", "not set"),
        ("domains", "https://mlflow.example.com", "without https://"),
        ("email", "jane", "ml@example.com"),
        ("image", "https://europe-docker.pkg.dev/p/mlflow", "server:3.17.2"),
        ("image", "", "not set"),
        ("labels", {"Team": "ml"}, "lower-case"),
        ("members", "jane@example.com", "user:jane@example.com"),
        ("memory", "2GB", "2Gi"),
        ("name", "MLflow", "lower-case"),
        ("project_id", "My Project", "project id"),
        ("region", "europe-west5", "europe-west"),
        ("region", "mars", "region"),
        ("region", "", "not set"),
        ("time", "3 am", "03:00"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(group, value, allowed):
    (sentence,) = problems({group: {"mlflow_it": value}})
    assert sentence.startswith("mlflow_it")
    assert str(value) in sentence
    assert allowed in sentence


def test_users_that_are_not_set_are_no_empty_list():
    assert problems({"members": {"mlflow_webapp_users": []}}) == []
    assert problems({"members": {"mlflow_webapp_users": None}}) == [
        "mlflow_webapp_users: not set; give a list of members such as user:jane@example.com, or [] for nobody."
    ]


@pytest.mark.parametrize(
    "group, values, allowed",
    [
        ("cloud_sql_size", ["db-g1-small", "ENTERPRISE"], None),
        ("cloud_sql_size", ["db-g1-small", "ENTERPRISE_PLUS"], "db-perf-optimized"),
        ("cloud_sql_size", ["db-perf-optimized-N-2", "ENTERPRISE"], "db-custom"),
        ("connections", [4, 3, 1, 50], None),
        ("connections", [4, 4, 1, 50], "= 50 connections, the database has 44"),
        ("connections", [1, 3, 1, 25], None),
        ("connections", [2, 3, 1, 25], "= 22 connections, the database has 19"),
        ("network", ["", ""], None),
        ("network", ["shared", "ml"], None),
        ("network", ["", "ml"], "network's name"),
        ("oauth", ["google_managed", "", "", ""], None),
        ("oauth", ["google_managed", CLIENT, "s3cret", ""], "choose custom"),
        ("oauth", ["custom", CLIENT, "s3cret", ""], None),
        ("oauth", ["custom", CLIENT, "", ""], "secret is missing"),
        ("oauth", ["custom", "", "s3cret", ""], "id is missing"),
        ("oauth", ["custom", "", "", ""], "id and secret"),
        ("oauth", ["custom", "my-client", "s3cret", ""], "apps.googleusercontent.com"),
        ("oauth", ["brand", "", "", "ml@example.com"], None),
        ("oauth", ["brand", "", "", ""], "support e-mail"),
        ("oauth", ["okta", "", "", ""], "google_managed"),
        ("zone", ["europe-west2-a", "europe-west2"], None),
        ("zone", ["", "europe-west2"], None),
        ("zone", ["europe-west1-b", "europe-west2"], "europe-west2-a"),
    ],
)
def test_values_that_must_fit_together(group, values, allowed):
    names = ["a", "b", "c_secret", "d"]
    found = problems({group: dict(zip(names, values, strict=False))})
    if allowed is None:
        assert found == []
    else:
        (sentence,) = found
        assert allowed in sentence
        assert all(repr(value) in sentence for value in values if value and value != "s3cret")
        assert "s3cret" not in sentence


def test_a_new_region_can_be_added():
    values = {"region": {"mlflow_region": "europe-west99"}}
    assert "mlflow_extra_regions" in problems(values)[0]
    assert problems(values, ["europe-west99"]) == []


def test_each_problem_has_its_sentence():
    assert len(problems({"domain": {"a": "x", "b": "y"}, "region": {"c": "z"}})) == 3


def test_an_unknown_group_is_an_error_of_the_role():
    with pytest.raises(AnsibleFilterError, match="colour"):
        problems({"colour": {"a": "red"}})
