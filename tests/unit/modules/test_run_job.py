# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module run_job."""

from __future__ import annotations

import copy

import pytest

HOST = "https://run.googleapis.com/v2"
PARENT = "projects/demo/locations/europe-west2"
JOBS, URL = f"{HOST}/{PARENT}/jobs", f"{HOST}/{PARENT}/jobs/mlflow-admin"
OPERATION = f"{PARENT}/operations/op1"
SERVER = "mlflow-server@demo.iam.gserviceaccount.com"
OPTIONS = {
    "name": "mlflow-admin",
    "region": "europe-west2",
    "image": "registry.example.com/mlflow:1",
    "service_account": SERVER,
    "env": {"DEBUG": False},
    "secret_env": {"PASSWORD": {"secret": "projects/demo/secrets/pw", "version": 2}},
    "memory": "2Gi",
    "network": "net",
    "subnetwork": "subnet",
    "timeout_seconds": 3600,
    "labels": {"team": "ml"},
}
LABELS = {"team": "ml", "mlflow-gcp-labels": "team"}
SENT = {
    "labels": LABELS,
    "template": {
        "labels": LABELS,
        "taskCount": 1,
        "template": {
            "serviceAccount": SERVER,
            "timeout": "3600s",
            "maxRetries": 0,
            "vpcAccess": {
                "networkInterfaces": [{"network": "net", "subnetwork": "subnet"}],
                "egress": "PRIVATE_RANGES_ONLY",
            },
            "containers": [
                {
                    "image": "registry.example.com/mlflow:1",
                    "command": [],
                    "args": [],
                    "env": [
                        {"name": "DEBUG", "value": "false"},
                        {
                            "name": "PASSWORD",
                            "valueSource": {"secretKeyRef": {"secret": "projects/demo/secrets/pw", "version": "2"}},
                        },
                    ],
                    "resources": {"limits": {"cpu": "1", "memory": "2Gi"}},
                }
            ],
        },
    },
}
NO_GRANT = "Permission denied on secret: projects/1/secrets/pw/versions/1 for Revision service account x@y."


def live(**more):
    """The job as Google returns it: defaults filled in, in Google's spelling."""
    body = copy.deepcopy(SENT)
    template = body["template"]["template"]
    del template["maxRetries"], template["containers"][0]["command"], template["containers"][0]["args"]
    template["containers"][0]["resources"]["limits"] = {"cpu": "1000m", "memory": "2048Mi"}
    template["containers"][0]["env"][1]["valueSource"]["secretKeyRef"]["secret"] = "projects/123456789012/secrets/pw"
    template["executionEnvironment"] = "EXECUTION_ENVIRONMENT_GEN2"
    return (
        body
        | {
            "name": f"{PARENT}/jobs/mlflow-admin",
            "generation": "1",
            "observedGeneration": "1",
            "launchStage": "GA",
            "executionCount": 3,
            "terminalCondition": {"type": "Ready", "state": "CONDITION_SUCCEEDED"},
        }
        | more
    )


def failed(message=NO_GRANT):
    return live(terminalCondition={"type": "Ready", "state": "CONDITION_FAILED", "message": message})


def absent(google):
    return google.error(
        404, "NOT_FOUND", "Resource 'mlflow-admin' of kind 'JOB' in region 'europe-west2' does not exist."
    )


def done(**more):
    return {"name": OPERATION, "done": True, "response": live(), **more}


def test_creates_and_waits(google, run_module):
    google.expect("GET", URL, absent(google))
    google.expect("POST", JOBS, {"name": OPERATION, "metadata": {}}, params={"jobId": "mlflow-admin"}, body=SENT)
    google.expect("GET", f"{HOST}/{OPERATION}", done()).expect("GET", URL, live())
    result = run_module("run_job", **OPTIONS)
    assert (result["changed"], result["resource"]["executionCount"]) == (True, 3)


def test_second_run_changes_nothing_with_one_request(google, run_module):
    google.expect("GET", URL, live())
    assert run_module("run_job", **OPTIONS)["changed"] is False


def test_an_update_sends_the_whole_job_with_undeclared_fields(google, run_module):
    old = live(annotations={"note": "x"})
    old["template"]["template"]["containers"][0]["image"] = "registry.example.com/mlflow:0"
    google.expect("GET", URL, old)
    sent = copy.deepcopy(SENT) | {"annotations": {"note": "x"}, "launchStage": "GA"}
    template, now = sent["template"]["template"], old["template"]["template"]
    template["executionEnvironment"] = now["executionEnvironment"]
    for key in ("env", "resources"):
        template["containers"][0][key] = now["containers"][0][key]
    google.expect("PATCH", URL, done(), params={}, body=sent)
    google.expect("GET", URL, live())
    result = run_module("run_job", **OPTIONS)
    images = [result["diff"][side]["template"]["template"]["containers"][0]["image"] for side in ("before", "after")]
    assert images == ["registry.example.com/mlflow:0", "registry.example.com/mlflow:1"]


def test_what_others_have_set_beside_the_declaration_stays(google, run_module):
    old = live(startExecutionToken="once", client="console")
    old["template"] |= {"parallelism": 2, "annotations": {"note": "x"}}
    task = old["template"]["template"]
    helper = {"image": "registry.example.com/helper:1", "name": "helper"}
    task |= {"volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"accelerator": "nvidia-l4"}}
    task["containers"] = [task["containers"][0] | {"image": "old", "workingDir": "/srv"}, helper]
    google.expect("GET", URL, old).expect("PATCH", URL, done()).expect("GET", URL, live())
    run_module("run_job", **OPTIONS)
    body = google.writes[0].body
    # It would start an execution.
    assert "startExecutionToken" not in body and body["client"] == "console"
    assert (body["template"]["parallelism"], body["template"]["annotations"]) == (2, {"note": "x"})
    sent = body["template"]["template"]
    assert all(sent[key] == task[key] for key in ("volumes", "nodeSelector"))
    assert (sent["maxRetries"], sent["containers"][1]) == (0, helper)
    assert (sent["containers"][0]["image"], sent["containers"][0]["workingDir"]) == (OPTIONS["image"], "/srv")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("maxRetries", 3),
        ("timeout", "600s"),
        ("serviceAccount", "other@demo.iam.gserviceaccount.com"),
        ("vpcAccess", {"connector": f"{PARENT}/connectors/c", "egress": "PRIVATE_RANGES_ONLY"}),
    ],
)
def test_differences(google, run_module, path, value):
    other = live()
    other["template"]["template"][path] = value
    google.expect("GET", URL, other)
    assert run_module("run_job", check=True, **OPTIONS)["changed"] is True


def test_waits_for_the_grant_on_the_secret(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", JOBS, done(response=failed()))
    google.expect("GET", URL, failed()).expect("PATCH", URL, done()).expect("GET", URL, live())
    assert run_module("run_job", **OPTIONS)["changed"] is True


def test_a_job_that_cannot_be_executed(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", JOBS, done(response=failed("Image 'x' not found.")))
    with pytest.raises(Exception) as caught:
        run_module("run_job", **OPTIONS)
    assert str(caught.value) == "Cannot create Cloud Run job mlflow-admin: Image 'x' not found."


def test_a_failed_job_is_sent_again(google, run_module):
    google.expect("GET", URL, failed()).expect("PATCH", URL, done()).expect("GET", URL, live())
    assert run_module("run_job", **OPTIONS)["changed"] is True


def test_absent(google, run_module):
    google.expect("GET", URL, live()).expect("DELETE", URL, done())
    assert run_module("run_job", name="mlflow-admin", region="europe-west2", state="absent")["changed"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Mlflow"}, "option name: 'Mlflow' is not allowed"),
        ({"timeout_seconds": 0}, "option timeout_seconds: 0 is not allowed; give 1 to 604800"),
        ({"max_retries": 11}, "option max_retries: 11 is not allowed; give 0 to 10"),
        ({"env": {"CLOUD_RUN_JOB": "1"}}, "option env: 'CLOUD_RUN_JOB' is not allowed"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception) as caught:
        run_module("run_job", **{**OPTIONS, **options})
    assert str(caught.value).startswith(message)
