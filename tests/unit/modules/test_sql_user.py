# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module sql_user."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json

import pytest
import requests

USERS = "https://sqladmin.googleapis.com/v1/projects/demo/instances/db/users"
OPERATIONS = "https://sqladmin.googleapis.com/v1/projects/demo/operations"
OPERATION = f"{OPERATIONS}/op1"
SECRETMANAGER = "https://secretmanager.googleapis.com/v1"
SECRET = f"{SECRETMANAGER}/projects/demo/secrets/db-password"
NAME = "projects/123456789012/secrets/db-password"
OPTIONS = {"instance": "db", "name": "mlflow", "password_secret": "db-password"}
USER = {
    "kind": "sql#user",
    "etag": "e",
    "name": "mlflow",
    "host": "",
    "instance": "db",
    "project": "demo",
    "passwordPolicy": {"status": {}},
}
POSTGRES = {**USER, "name": "postgres"}
ANNOTATION = f"sql-user-{hashlib.sha256(b'demo/db/mlflow').hexdigest()[:40]}"
TIME = "2026-01-31T12:00:00.500Z"
DONE = {"kind": "sql#operation", "name": "op1", "status": "DONE", "operationType": "UPDATE_USER", "insertTime": TIME}
RECORD = f"2 op1 {TIME}"
BACKUP = {**DONE, "name": "op0", "operationType": "BACKUP_VOLUME", "insertTime": "2026-01-31T11:00:00Z"}


def later(kind, **more):
    """An operation after the one that set the password."""
    return {
        **DONE,
        "name": "op2",
        "operationType": kind,
        "user": "jane@example.com",
        "insertTime": "2026-01-31T12:00:01Z",
        **more,
    }


@pytest.fixture
def secretmanager(google):
    """Scripts what the module reads from the secret."""

    def script(record=None, newest=2, user=True, operations=(DONE, BACKUP)):
        annotations = {"owner": "me"} | ({ANNOTATION: record} if record else {})
        secret = {"name": NAME, "etag": '"1"', "annotations": annotations}
        versions = [{"name": f"{NAME}/versions/{newest}", "state": "ENABLED"}] if newest else []
        if user:
            google.expect("GET", SECRET, secret)
        if record and " " in record:
            query = {"instance": "db", "maxResults": "100"}
            google.expect("GET", OPERATIONS, {"items": list(operations)}, params=query)
        google.expect("GET", f"{SECRET}/versions", {"versions": versions})
        return secret

    return script


@pytest.fixture
def password(google):
    """Scripts the access to a version."""

    def script(number=2):
        data = base64.b64encode(b"s3cret").decode()
        google.expect("GET", f"{SECRET}/versions/{number}:access", {"payload": {"data": data}})

    return script


@pytest.fixture
def recorded(google):
    """Scripts the annotation of the secret; returns what was sent."""

    def script(secret):
        sent = {}
        google.expect("GET", SECRET, secret)
        google.expect(
            "PATCH", SECRET, lambda request: sent.update(request.body) or {}, params={"updateMask": "annotations"}
        )
        return sent

    return script


def test_creates_and_records_the_version(google, run_module, secretmanager, password, recorded):
    google.expect("GET", USERS, {"kind": "sql#usersList", "items": [POSTGRES]})
    secret = secretmanager(user=False)
    password()
    google.expect(
        "POST", USERS, {**DONE, "status": "PENDING"}, body={"name": "mlflow", "instance": "db", "password": "s3cret"}
    )
    google.expect("GET", OPERATION, DONE)
    sent = recorded(secret)
    google.expect("GET", USERS, {"items": [POSTGRES, USER]})
    result = run_module("sql_user", **OPTIONS)
    assert (result["changed"], result["secret_version"], result["resource"]) == (True, "2", USER)
    assert sent == {"etag": '"1"', "annotations": {"owner": "me", ANNOTATION: RECORD}}
    assert "s3cret" not in json.dumps(result)


def test_second_run_reads_no_password(google, run_module, secretmanager):
    google.expect("GET", USERS, {"items": [USER]})
    # Operations of others that change no password, and those that failed.
    harmless = [later("UPDATE"), later("RESTART"), later("CLONE"), later("UPDATE_USER", error={"errors": [{}]})]
    secretmanager(RECORD, operations=[*harmless, DONE, later("UPDATE_USER", insertTime="2026-01-31T12:00:00Z")])
    result = run_module("sql_user", **OPTIONS)
    assert (result["changed"], result["secret_version"]) == (False, "2")


CHANGED = "by jane@example.com at 2026-01-31T12:00:01Z"
UNKNOWN = "unknown, the operation that set the password is no longer listed"


@pytest.mark.parametrize(
    ("operations", "shown"),
    [
        *[
            ([later(kind), DONE], f"{kind} {CHANGED}")
            for kind in ("UPDATE_USER", "DELETE_USER", "CREATE_USER", "IMPORT")
        ],
        ([later("RESTORE_VOLUME"), BACKUP], f"RESTORE_VOLUME {CHANGED}"),
        # An instance of the same name.
        ([later("CREATE")], f"CREATE {CHANGED}"),
        ([later("UPDATE_USER", status="RUNNING")], f"UPDATE_USER {CHANGED}"),
        ([BACKUP], UNKNOWN),
        ([later("BACKUP_VOLUME"), BACKUP], UNKNOWN),
        ([], UNKNOWN),
    ],
)
def test_a_password_that_may_have_changed_is_set_again(
    google, run_module, secretmanager, password, recorded, operations, shown
):
    google.expect("GET", USERS, {"items": [USER]})
    secret = secretmanager(RECORD, operations=operations)
    password()
    google.expect("PUT", USERS, {**DONE, "name": "op3", "insertTime": "2026-01-31T12:00:02Z"})
    sent = recorded(secret)
    google.expect("GET", USERS, {"items": [USER]})
    result = run_module("sql_user", **OPTIONS)
    assert (result["changed"], result["secret_version"], result["resource"]) == (True, "2", USER)
    assert sent["annotations"][ANNOTATION] == "2 op3 2026-01-31T12:00:02Z"
    assert (result["diff"]["before"]["passwordChange"], result["diff"]["after"]["passwordChange"]) == (shown, "")


def test_operations_are_read_page_by_page_until_the_recorded_one(google, run_module):
    google.expect("GET", USERS, {"items": [USER]})
    google.expect("GET", SECRET, {"annotations": {ANNOTATION: RECORD}})
    google.expect("GET", OPERATIONS, {"items": [later("UPDATE")], "nextPageToken": "p2"})
    google.expect("GET", OPERATIONS, {"items": [DONE], "nextPageToken": "p3"})
    google.expect("GET", f"{SECRET}/versions", {"versions": [{"name": f"{NAME}/versions/2", "state": "ENABLED"}]})
    assert run_module("sql_user", **OPTIONS)["changed"] is False


def test_the_doctor_says_who_changed_it(google):
    client = importlib.import_module("ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client")
    cloudsql = importlib.import_module("ansible_collections.mlops.mlflow_gcp.plugins.module_utils.cloudsql")
    arguments = client.Client(requests.Session()), "demo", "db", "mlflow", "projects/demo/secrets/db-password"
    for operations, expected in (
        ([DONE], ""),
        ([BACKUP], ""),
        ([later("UPDATE_USER"), DONE], f"was changed after it had been set: UPDATE_USER {CHANGED}"),
    ):
        google.expect("GET", SECRET, {"annotations": {ANNOTATION: RECORD}})
        google.expect("GET", OPERATIONS, {"items": operations})
        problem = cloudsql.password_problem(*arguments)
        assert problem.endswith(expected) and bool(problem) == bool(expected)
    # Never set by the module.
    google.expect("GET", SECRET, google.error(404, "NOT_FOUND", "Secret not found."))
    assert cloudsql.password_problem(*arguments) == ""


# A record without an operation is that of an earlier version of the module.
@pytest.mark.parametrize("record", [f"1 op1 {TIME}", "2", None])
def test_a_new_version_is_set(google, run_module, secretmanager, password, recorded, record):
    google.expect("GET", USERS, {"items": [USER]})
    secret = secretmanager(record)
    password()
    busy = google.old_error(409, "operationInProgress", "Another operation was already in progress.")
    for answer in (busy, DONE):
        google.expect(
            "PUT",
            USERS,
            answer,
            params={"name": "mlflow", "host": ""},
            body={"name": "mlflow", "instance": "db", "password": "s3cret"},
        )
    sent = recorded(secret)
    google.expect("GET", USERS, {"items": [USER]})
    result = run_module("sql_user", **OPTIONS)
    assert (result["changed"], result["secret_version"], sent["annotations"][ANNOTATION]) == (True, "2", RECORD)
    assert result["diff"]["before"]["secretVersion"] == (record or "")[:1]
    assert result["diff"]["after"]["secretVersion"] == "2"


def test_the_version_is_recorded_again_after_a_concurrent_change(google, run_module, secretmanager, password, recorded):
    google.expect("GET", USERS, {"items": [USER]})
    secret = secretmanager()
    password()
    google.expect("PUT", USERS, DONE).expect("GET", SECRET, secret)
    google.expect("PATCH", SECRET, google.error(400, "FAILED_PRECONDITION", "The etag provided does not match."))
    recorded({**secret, "etag": '"2"'})
    google.expect("GET", USERS, {"items": [USER]})
    run_module("sql_user", **OPTIONS)
    assert google.sent[-2].body["etag"] == '"2"'


def test_a_record_whose_response_was_lost_is_not_written_again(google, run_module, secretmanager, password):
    google.expect("GET", USERS, {"items": [USER]})
    secret = secretmanager()
    password()
    google.expect("PUT", USERS, DONE).expect("GET", SECRET, secret)
    google.expect("PATCH", SECRET, google.error(400, "FAILED_PRECONDITION", "The etag provided does not match."))
    google.expect("GET", SECRET, {**secret, "etag": '"2"', "annotations": {ANNOTATION: RECORD}})
    google.expect("GET", USERS, {"items": [USER]})
    assert run_module("sql_user", **OPTIONS)["secret_version"] == "2"


def test_check_mode_writes_nothing(google, run_module, secretmanager):
    google.expect("GET", USERS, {"items": [USER]})
    secretmanager(f"1 op1 {TIME}")
    result = run_module("sql_user", check=True, **OPTIONS)
    assert (result["changed"], result["secret_version"]) == (True, "2")


def test_check_mode_before_anything_exists(google, run_module):
    google.expect("GET", USERS, google.old_error(404, "instanceDoesNotExist", "The Cloud SQL instance does not exist."))
    google.expect("GET", f"{SECRET}/versions", google.error(404, "NOT_FOUND", f"Secret [{NAME}] not found."))
    assert run_module("sql_user", check=True, **OPTIONS)["changed"] is True


def test_a_secret_without_a_version(google, run_module, secretmanager):
    google.expect("GET", USERS, {})
    secretmanager(newest=None, user=False)
    with pytest.raises(
        Exception,
        match="^Cannot set the password of Cloud SQL user mlflow: secret "
        "projects/demo/secrets/db-password has no enabled version; add one",
    ):
        run_module("sql_user", **OPTIONS)


def test_a_secret_that_may_not_be_read(google, run_module, secretmanager):
    google.expect("GET", USERS, {})
    secretmanager(user=False)
    google.expect(
        "GET",
        f"{SECRET}/versions/2:access",
        google.error(
            403,
            "PERMISSION_DENIED",
            "Permission 'secretmanager.versions.access' denied for resource (or it may not exist).",
        ),
    )
    with pytest.raises(
        Exception,
        match="^Cannot create Cloud SQL user mlflow: .* a role with secretmanager.versions.access: "
        "roles/secretmanager.secretAccessor$",
    ):
        run_module("sql_user", **OPTIONS)


def test_a_failed_operation(google, run_module, secretmanager, password):
    google.expect("GET", USERS, {})
    secretmanager(user=False)
    password()
    google.expect(
        "POST", USERS, {**DONE, "error": {"errors": [{"code": "INVALID_REQUEST", "message": "Invalid name."}]}}
    )
    with pytest.raises(
        Exception, match=r"^Cannot set the password of Cloud SQL user mlflow: Invalid name. \(INVALID_REQ"
    ):
        run_module("sql_user", **OPTIONS)


def test_absent(google, run_module):
    google.expect("GET", USERS, {"items": [USER]})
    google.expect("DELETE", USERS, DONE, params={"name": "mlflow", "host": ""})
    assert run_module("sql_user", instance="db", name="mlflow", state="absent")["changed"] is True
    google.expect("GET", USERS, google.old_error(404, "instanceDoesNotExist", "The Cloud SQL instance does not exist."))
    assert run_module("sql_user", instance="db", name="mlflow", state="absent")["changed"] is False


def test_a_secret_is_required(google, run_module):
    with pytest.raises(Exception, match="state is present but all of the following are missing: password_secret"):
        run_module("sql_user", instance="db", name="mlflow")
