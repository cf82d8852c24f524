# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module sql_backup."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
import requests

PROJECT = "https://sqladmin.googleapis.com/v1/projects/demo"
RUNS = f"{PROJECT}/instances/mlflow/backupRuns"
OPTIONS = {"instance": "mlflow", "description": "Before 3.17.2"}
RUN = {"kind": "sql#backupRun", "id": "17", "status": "SUCCESSFUL", "type": "ON_DEMAND", "description": "Before 3.17.2"}


def operation(status, **more):
    context = {"kind": "sql#backupContext", "backupId": "17"}
    return {"kind": "sql#operation", "name": "op1", "status": status, "backupContext": context, **more}


def test_backs_up_and_waits(google, run_module):
    google.expect("GET", f"{PROJECT}/operations", {}, params={"instance": "mlflow", "maxResults": "100"})
    google.expect("POST", RUNS, operation("PENDING"), body={"description": "Before 3.17.2"})
    google.expect("GET", f"{PROJECT}/operations/op1", operation("RUNNING"))
    google.expect("GET", f"{PROJECT}/operations/op1", operation("DONE")).expect("GET", f"{RUNS}/17", RUN)
    result = run_module("sql_backup", **OPTIONS)
    assert (result["changed"], result["id"], result["resource"]) == (True, "17", RUN)


def test_waits_for_another_operation(google, run_module, clock):
    busy = google.old_error(
        409, "operationInProgress", "Operation failed because another operation was already in progress."
    )
    google.expect("GET", f"{PROJECT}/operations", {})
    google.expect("POST", RUNS, busy).expect("POST", RUNS, operation("DONE")).expect("GET", f"{RUNS}/17", RUN)
    assert run_module("sql_backup", **OPTIONS)["id"] == "17"
    assert clock.slept


def test_a_backup_that_fails(google, run_module):
    """It is tried three times, because the error may be a passing one."""
    error = {"errors": [{"code": "INTERNAL_ERROR", "message": "Backup failed."}]}
    for _attempt in range(3):
        google.expect("GET", f"{PROJECT}/operations", {}).expect("POST", RUNS, operation("DONE", error=error))
    with pytest.raises(
        Exception, match="^Cannot back up Cloud SQL instance mlflow: Backup failed. .INTERNAL_ERROR.. Run again"
    ):
        run_module("sql_backup", **OPTIONS)


def test_a_backup_whose_response_is_lost(google, run_module):
    """It has begun, and no second one is made."""
    others = {"operationType": "BACKUP_VOLUME", "name": "op0"}
    google.expect("GET", f"{PROJECT}/operations", {"items": [others]})
    google.expect("POST", RUNS, requests.exceptions.ReadTimeout("timed out"))
    begun = operation("RUNNING", operationType="BACKUP_VOLUME", user="the caller")
    google.expect(
        "GET", f"{PROJECT}/operations", {"items": [{"operationType": "UPDATE", "name": "op2"}, begun, others]}
    )
    google.expect("GET", f"{PROJECT}/operations/op1", operation("DONE")).expect("GET", f"{RUNS}/17", RUN)
    assert run_module("sql_backup", **OPTIONS)["id"] == "17"


def test_check_mode_creates_no_backup(google, run_module):
    result = run_module("sql_backup", check=True, **OPTIONS)
    assert (result["changed"], result["id"], google.sent) == (True, "", [])


def test_an_instance_under_another_name(google, run_module):
    """Its own name was reserved when it was created, see option if_reserved of sql_instance."""
    instances, gone = RUNS.rpartition("/mlflow/")[0], "The Cloud SQL instance does not exist."
    other = {"name": "mlflow-2", "settings": {"userLabels": {"mlflow-gcp-instead-of": "mlflow"}}}
    runs = f"{instances}/mlflow-2/backupRuns"
    google.expect("GET", f"{PROJECT}/operations", {})
    google.expect("POST", RUNS, google.old_error(404, "instanceDoesNotExist", gone))
    google.expect("GET", instances, {"items": [other]})
    google.expect("GET", f"{PROJECT}/operations", {}, params={"instance": "mlflow-2", "maxResults": "100"})
    google.expect("POST", runs, operation("DONE")).expect("GET", f"{runs}/17", RUN)
    assert run_module("sql_backup", instance="mlflow")["id"] == "17"


def recent(seconds, **more):
    """An on-demand backup that began so long ago."""
    began = datetime.now(timezone.utc) - timedelta(seconds=seconds)
    return RUN | {"startTime": began.isoformat(timespec="milliseconds").replace("+00:00", "Z"), **more}


def test_the_backup_of_a_run_that_was_interrupted_is_used(google, run_module):
    others = [
        recent(10, id="20", description="Before 3.18.0"),
        recent(10, id="19", type="AUTOMATED"),
        recent(10, id="18", status="FAILED"),
    ]
    google.expect("GET", f"{PROJECT}/operations", {})
    google.expect("GET", RUNS, {"items": [*others, recent(60)]})
    google.expect("GET", f"{RUNS}/17", RUN)
    result = run_module("sql_backup", **OPTIONS, max_age=900)
    assert (result["changed"], result["id"], result["resource"]) == (False, "17", RUN)


@pytest.mark.parametrize("found", [[recent(901)], [RUN], []])
def test_an_older_backup_is_not_used(google, run_module, found):
    google.expect("GET", f"{PROJECT}/operations", {}).expect("GET", RUNS, {"items": found})
    google.expect("POST", RUNS, operation("DONE")).expect("GET", f"{RUNS}/17", RUN)
    assert run_module("sql_backup", **OPTIONS, max_age=900)["changed"]


def test_a_backup_that_an_interrupted_run_has_just_started_is_waited_for(google, run_module, clock):
    busy = google.old_error(409, "operationInProgress", "another operation was already in progress.")
    google.expect("GET", f"{PROJECT}/operations", {}).expect("GET", RUNS, {"items": [recent(5, status="RUNNING")]})
    google.expect("POST", RUNS, busy).expect("GET", RUNS, {"items": [recent(9)]}).expect("GET", f"{RUNS}/17", RUN)
    assert not run_module("sql_backup", **OPTIONS, max_age=900)["changed"]
    assert clock.slept
