# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module sql_database."""

from __future__ import annotations

import pytest

SQL = "https://sqladmin.googleapis.com/v1/projects/demo"
DATABASES, URL = f"{SQL}/instances/db/databases", f"{SQL}/instances/db/databases/mlflow"
OPTIONS = {"instance": "db", "name": "mlflow"}
SENT = {"name": "mlflow", "instance": "db", "charset": "UTF8"}
LIVE = {**SENT, "kind": "sql#database", "etag": "e", "project": "demo", "collation": "en_US.UTF8"}
DONE = {"kind": "sql#operation", "name": "op1", "status": "DONE"}


def absent(google):
    return google.old_error(404, "notFound", "Not Found")


def exists(google):
    message = 'Invalid request: failed to create database mlflow. Detail: pq: database "mlflow" already exists.'
    return google.old_error(400, "invalid", message)


def test_creates_and_waits(google, run_module):
    google.expect("GET", URL, absent(google))
    busy = google.old_error(409, "operationInProgress", "Another operation was already in progress.")
    google.expect("POST", DATABASES, busy).expect("POST", DATABASES, {**DONE, "status": "PENDING"}, body=SENT)
    google.expect("GET", f"{SQL}/operations/op1", DONE).expect("GET", URL, LIVE)
    result = run_module("sql_database", **OPTIONS)
    assert (result["changed"], result["resource"]) == (True, LIVE)


@pytest.mark.parametrize("options", [{}, {"charset": "utf-8"}, {"collation": "en_US.utf8"}])
def test_second_run_changes_nothing_with_one_request(google, run_module, options):
    google.expect("GET", URL, LIVE)
    assert run_module("sql_database", **OPTIONS, **options)["changed"] is False


@pytest.mark.parametrize("options", [{"charset": "LATIN1"}, {"collation": "C"}])
def test_an_existing_database_is_never_changed(google, run_module, options):
    google.expect("GET", URL, LIVE)
    with pytest.raises(Exception, match="^Cannot update Cloud SQL database mlflow: .*; create a database with another"):
        run_module("sql_database", check=True, **OPTIONS, **options)


def test_check_mode_writes_nothing(google, run_module):
    google.expect("GET", URL, google.old_error(404, "instanceDoesNotExist", "The Cloud SQL instance does not exist."))
    result = run_module("sql_database", check=True, **OPTIONS)
    assert (result["changed"], result["diff"]["after"]) == (True, SENT)


@pytest.mark.parametrize(
    "detail",
    [
        'database "mlflow" already exists.',
        'duplicate key value violates unique constraint "pg_database_datname_index".',
    ],
)
def test_two_first_runs_at_once(google, run_module, detail):
    refused = google.old_error(
        400, "invalid", f"Invalid request: failed to create database mlflow. Detail: pq: {detail}"
    )
    google.expect("GET", URL, absent(google)).expect("POST", DATABASES, refused).expect("GET", URL, LIVE)
    assert run_module("sql_database", **OPTIONS)["changed"] is True


def test_another_database_of_the_same_name_at_once(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", DATABASES, exists(google))
    google.expect("GET", URL, {**LIVE, "charset": "LATIN1"})
    with pytest.raises(Exception, match="already exists"):
        run_module("sql_database", **OPTIONS)


def test_there_is_no_way_to_delete(google, run_module):
    with pytest.raises(Exception, match="Unsupported parameters"):
        run_module("sql_database", **OPTIONS, state="absent")
