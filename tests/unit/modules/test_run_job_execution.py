# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module run_job_execution."""

from __future__ import annotations

import pytest
import requests

HOST = "https://run.googleapis.com/v2"
PARENT = "projects/demo/locations/europe-west2"
JOB, SERVICE = f"{HOST}/{PARENT}/jobs/mlflow-admin", f"{HOST}/{PARENT}/services/mlflow"
EXECUTION = f"{PARENT}/jobs/mlflow-admin/executions/mlflow-admin-x7k2p"
OPERATION = f"{PARENT}/operations/op1"
LOG = "https://logging.googleapis.com/v2/entries:list"
BEGUN = "2026-01-01T00:00:00Z"
OPTIONS = {"job": "mlflow-admin", "region": "europe-west2"}
UNLESS = {"service": "mlflow", "image": "registry.example.com/mlflow:1"}
FILTER = (
    'resource.type="cloud_run_job" AND resource.labels.job_name="mlflow-admin" AND '
    f'labels."run.googleapis.com/execution_name"="mlflow-admin-x7k2p" AND timestamp>="{BEGUN}"'
)


def entry(text, log="stdout", **more):
    return {"logName": f"projects/demo/logs/run.googleapis.com%2F{log}", "textPayload": text, **more}


def ended(status, **more):
    """A task that has exited with a code."""
    result = (
        {"exitCode": status, "status": {"code": 10, "message": "The container exited with an error."}} if status else {}
    )
    state = "CONDITION_FAILED" if status else "CONDITION_SUCCEEDED"
    return {"index": 0, "lastAttemptResult": result, "conditions": [{"type": "Completed", "state": state}], **more}


def play(google, status, lines, **tasks):
    """An execution that exits with a code after writing lines."""
    operation = {"name": OPERATION, "metadata": {"name": EXECUTION, "createTime": BEGUN}}
    google.expect("GET", JOB, {"name": f"{PARENT}/jobs/mlflow-admin"}).expect("POST", f"{JOB}:run", operation)
    failed = {"error": {"code": 10, "message": f"Task x failed with exit code: {status}"}} if status else {}
    google.expect("GET", f"{HOST}/{OPERATION}", operation)
    google.expect("GET", f"{HOST}/{OPERATION}", {**operation, "done": True, **failed})
    google.expect("GET", f"{HOST}/{EXECUTION}", {"name": EXECUTION, "logUri": "https://console.example.com/log"})
    google.expect("GET", f"{HOST}/{EXECUTION}/tasks", tasks or {"tasks": [ended(status)]})
    last = entry(f"Container called exit({status}).", "varlog%2Fsystem")
    google.expect("POST", LOG, {"entries": [*lines, last]})


def test_executes_with_arguments_and_returns_the_output(google, run_module):
    play(google, 0, [entry("one"), {**entry(""), "jsonPayload": {"message": "two", "n": 2}}, entry("three", "stderr")])
    result = run_module("run_job_execution", **OPTIONS, args=["gc", "--older-than", "30d"], timeout_seconds=300)
    overrides = {"containerOverrides": [{"args": ["gc", "--older-than", "30d"]}], "timeout": "300s"}
    assert google.writes[0].body == {"overrides": overrides}
    assert google.sent[-1].body["filter"] == FILTER and google.sent[-1].body["resourceNames"] == ["projects/demo"]
    assert {key: result[key] for key in ("changed", "ran", "execution", "exit_codes", "output", "log_uri")} == {
        "changed": True,
        "ran": True,
        "execution": EXECUTION,
        "exit_codes": [0],
        "output": ["one", "two", "three"],
        "log_uri": "https://console.example.com/log",
    }


def test_an_accepted_exit_code(google, run_module):
    play(google, 3, [entry("the schema is behind")])
    result = run_module("run_job_execution", **OPTIONS, accept=[0, 3])
    assert (result["exit_codes"], result["output"]) == ([3], ["the schema is behind"])
    assert google.writes[0].body == {}


def test_an_exit_code_that_is_not_accepted(google, run_module):
    play(google, 4, [entry("looking"), entry("the schema is ahead: a > b", "stderr"), entry("", "stderr")])
    with pytest.raises(Exception) as caught:
        run_module("run_job_execution", **OPTIONS, args=["schema"], accept=[0, 3])
    assert str(caught.value) == (
        "Cannot run Cloud Run job mlflow-admin with schema: exit code 4: the schema is ahead: a > b. "
        "Log: https://console.example.com/log"
    )
    assert caught.value.result["exit_codes"] == [4]


def test_a_task_that_did_not_exit_by_itself(google, run_module):
    failed = {"index": 0, "conditions": [{"type": "Completed", "state": "CONDITION_FAILED"}]}
    play(google, 1, [entry("halfway")], tasks=[failed])
    with pytest.raises(
        Exception, match="Cannot run Cloud Run job mlflow-admin: Task x failed with exit code: 1"
    ) as caught:
        run_module("run_job_execution", **OPTIONS)
    assert caught.value.result["exit_codes"] == [-1]


def test_one_task_of_several(google, run_module):
    play(google, 1, [], tasks=[ended(1, index=1), ended(0)])
    with pytest.raises(Exception, match="Task x failed") as caught:
        run_module("run_job_execution", **OPTIONS)
    assert caught.value.result["exit_codes"] == [0, 1]


def test_waits_for_lines_to_arrive(google, run_module, clock):
    play(google, 0, [])
    *first, last = google.script
    google.script = [
        *first,
        ("POST", LOG, {}, {}),
        ("POST", LOG, {"entries": [entry("one")], "nextPageToken": "t"}, {}),
        last,
    ]
    assert run_module("run_job_execution", **OPTIONS)["output"] == ["one"]
    assert google.sent[-1].body["pageToken"] == "t" and clock.slept


def test_a_log_without_a_last_message(google, run_module, clock):
    play(google, 0, [])
    *first, (method, url, _, asserted) = google.script
    google.script = [*first, *[(method, url, {"entries": [entry("one")]}, asserted)] * 99]
    result = run_module("run_job_execution", **OPTIONS)
    assert result["output"] == ["one"] and 20 <= sum(clock.slept) < 40
    google.script.clear()


def test_a_log_that_may_not_be_read(google, run_module):
    play(google, 0, [])
    *first, (method, url, _, asserted) = google.script
    denied = google.error(403, "PERMISSION_DENIED", "Permission 'logging.logEntries.list' denied.")
    google.script = [*first, (method, url, denied, asserted)]
    result = run_module("run_job_execution", **OPTIONS)
    assert (result["changed"], result["output"]) == (True, [])
    assert "Cannot read the output of Cloud Run job" in str(result["warnings"])


def test_a_start_that_fails_for_a_moment_is_repeated(google, run_module):
    """After a look: it has not begun."""
    job = {"name": f"{PARENT}/jobs/mlflow-admin", "latestCreatedExecution": {"name": "mlflow-admin-old"}}
    google.expect("GET", JOB, job).expect("POST", f"{JOB}:run", google.error(503, "UNAVAILABLE", "Try again."))
    play(google, 0, [entry("one")])
    google.script[2] = ("GET", JOB, job, {})
    assert run_module("run_job_execution", **OPTIONS)["output"] == ["one"]


def test_a_start_whose_response_is_lost(google, run_module):
    """It has begun, and the job is not executed twice."""
    job = {"name": f"{PARENT}/jobs/mlflow-admin", "latestCreatedExecution": {}}
    google.expect("GET", JOB, job).expect("POST", f"{JOB}:run", requests.exceptions.ReadTimeout("timed out"))
    begun = {"name": EXECUTION.rpartition("/")[2], "createTime": BEGUN}
    google.expect("GET", JOB, {**job, "latestCreatedExecution": begun})
    google.expect("GET", f"{HOST}/{EXECUTION}", {"name": EXECUTION})
    google.expect("GET", f"{HOST}/{EXECUTION}", {"name": EXECUTION, "completionTime": BEGUN})
    google.expect("GET", f"{HOST}/{EXECUTION}", {"name": EXECUTION})
    google.expect("GET", f"{HOST}/{EXECUTION}/tasks", {"tasks": [ended(0)]})
    google.expect("POST", LOG, {"entries": [entry("Container called exit(0).", "varlog%2Fsystem")]})
    result = run_module("run_job_execution", **OPTIONS)
    assert (result["execution"], result["exit_codes"]) == (EXECUTION, [0])


def service(image):
    return {"name": f"{PARENT}/services/mlflow", "template": {"containers": [{"image": image}]}}


def test_does_not_execute_when_the_service_uses_the_image(google, run_module):
    google.expect("GET", SERVICE, service(UNLESS["image"]))
    result = run_module("run_job_execution", **OPTIONS, unless_service_runs=UNLESS)
    assert (result["changed"], result["ran"], result["exit_codes"]) == (False, False, [])


@pytest.mark.parametrize("other", [True, False])
def test_check_mode_executes_nothing(google, run_module, other):
    missing = google.error(
        404, "NOT_FOUND", "Resource 'mlflow' of kind 'SERVICE' in region 'europe-west2' does not exist."
    )
    google.expect("GET", SERVICE, service("registry.example.com/mlflow:0") if other else missing)
    result = run_module("run_job_execution", check=True, **OPTIONS, unless_service_runs=UNLESS)
    assert (result["changed"], result["ran"]) == (True, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"job": "Admin"}, "option job: 'Admin' is not allowed"),
        (
            {"region": "europe"},
            "option region: 'europe' is not allowed; give a region of Google Cloud, perhaps europe-",
        ),
        ({"timeout_seconds": 0}, "option timeout_seconds: 0 is not allowed; give 1 to 604800"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception) as caught:
        run_module("run_job_execution", **{**OPTIONS, **options})
    assert str(caught.value).startswith(message)
