# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module iam_service_account."""

from __future__ import annotations

import pytest

EMAIL = "mlflow-server@demo.iam.gserviceaccount.com"
COLLECTION = "https://iam.googleapis.com/v1/projects/demo/serviceAccounts"
URL = f"{COLLECTION}/{EMAIL}"
OPTIONS = {"name": "mlflow-server", "display_name": "MLflow server"}
LIVE = {
    "name": f"projects/demo/serviceAccounts/{EMAIL}",
    "projectId": "demo",
    "uniqueId": "103456789012345678901",
    "email": EMAIL,
    "displayName": "MLflow server",
    "description": "Set by somebody else",
    "etag": "MDEwMjE5MjA=",
    "oauth2ClientId": "103456789012345678901",
}
BODY = {"accountId": "mlflow-server", "serviceAccount": {"displayName": "MLflow server"}}


def absent(google):
    return google.error(404, "NOT_FOUND", "Unknown service account")


def test_creates(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", COLLECTION, LIVE, body=BODY)
    result = run_module("iam_service_account", **OPTIONS)
    assert (result["changed"], result["email"], result["member"]) == (True, EMAIL, f"serviceAccount:{EMAIL}")
    assert result["unique_id"] == LIVE["uniqueId"]


@pytest.mark.parametrize("options", [OPTIONS, {"name": "mlflow-server"}])
def test_second_run_changes_nothing(google, run_module, options):
    google.expect("GET", URL, LIVE)
    assert not run_module("iam_service_account", **options)["changed"]


def test_only_declared_texts_are_sent(google, run_module):
    google.expect("GET", URL, LIVE | {"displayName": "Old"})
    body = {"serviceAccount": {"displayName": "MLflow server"}, "updateMask": "displayName"}
    google.expect("PATCH", URL, {"name": LIVE["name"]}, body=body).expect("GET", URL, LIVE)
    result = run_module("iam_service_account", **OPTIONS)
    assert result["changed"] and result["resource"]["description"] == "Set by somebody else"
    assert (result["diff"]["before"]["displayName"], result["diff"]["after"]["displayName"]) == ("Old", "MLflow server")


def test_enables_a_disabled_account(google, run_module):
    google.expect("GET", URL, LIVE | {"disabled": True}).expect("POST", f"{URL}:enable", {})
    google.expect("GET", URL, LIVE | {"disabled": True}).expect("GET", URL, LIVE)
    result = run_module("iam_service_account", **OPTIONS)
    assert result["changed"] and "disabled" not in result["resource"]
    assert (result["diff"]["before"]["disabled"], result["diff"]["after"]["disabled"]) == (True, False)


def test_an_account_that_google_has_disabled(google, run_module):
    google.expect("GET", URL, LIVE | {"disabled": True}).expect("POST", f"{URL}:enable", {})

    def still(_request):
        google.expect("GET", URL, still)
        return LIVE | {"disabled": True}

    google.expect("GET", URL, still)
    with pytest.raises(
        Exception, match=f"^Cannot enable service account {EMAIL}: it is still disabled. Google may have"
    ):
        run_module("iam_service_account", **OPTIONS)
    google.script.clear()


def test_check_mode_writes_nothing(google, run_module):
    google.expect("GET", URL, absent(google))
    result = run_module("iam_service_account", check=True, **OPTIONS)
    assert (result["changed"], result["email"], result["unique_id"]) == (True, EMAIL, "")
    google.expect("GET", URL, LIVE | {"disabled": True})
    assert run_module("iam_service_account", check=True, **OPTIONS)["changed"]


def test_another_run_creates_it_at_the_same_time(google, run_module):
    taken = google.error(409, "ALREADY_EXISTS", "Service account mlflow-server already exists.")
    google.expect("GET", URL, absent(google)).expect("POST", COLLECTION, taken).expect("GET", URL, LIVE)
    assert run_module("iam_service_account", **OPTIONS)["unique_id"] == LIVE["uniqueId"]


def test_a_lost_response_to_the_creation(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", COLLECTION, google.answer(503))
    google.expect("POST", COLLECTION, google.error(409, "ALREADY_EXISTS", "It already exists.")).expect(
        "GET", URL, LIVE
    )
    assert run_module("iam_service_account", **OPTIONS)["changed"]


def test_a_reserved_name_is_explained(google, run_module):
    taken = google.error(409, "ALREADY_EXISTS", "Service account mlflow-server already exists.")
    google.expect("GET", URL, absent(google)).expect("POST", COLLECTION, taken).expect("GET", URL, absent(google))
    with pytest.raises(Exception, match="restore it: gcloud beta iam service-accounts undelete UNIQUE_ID$"):
        run_module("iam_service_account", **OPTIONS)


def test_a_domain_scoped_project(google, run_module):
    email = "mlflow-server@proj.example.com.iam.gserviceaccount.com"
    url = f"https://iam.googleapis.com/v1/projects/example.com:proj/serviceAccounts/{email}"
    google.expect("GET", url, LIVE | {"email": email})
    auth = {"project": "example.com:proj", "auth_kind": "accesstoken", "access_token": "ya29.not-to-be-seen"}
    assert run_module("iam_service_account", auth=auth, **OPTIONS)["email"] == email


def test_absent(google, run_module):
    google.expect("GET", URL, LIVE).expect("DELETE", URL, {})
    assert run_module("iam_service_account", name="mlflow-server", state="absent")["changed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mlflow"}, None),
        ({"name": "x"}, "option name: 'x' is not allowed; give 6 to 30 lower-case letters"),
        ({"display_name": "ä" * 51}, "option display_name: '102 bytes' is not allowed; give at most 100 bytes"),
        ({"description": "x" * 257}, "option description: '257 bytes' is not allowed; give at most 256 bytes"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    if message is None:
        google.expect("GET", f"{COLLECTION}/mlflow@demo.iam.gserviceaccount.com", LIVE)
        run_module("iam_service_account", **options)
        return
    with pytest.raises(Exception) as caught:
        run_module("iam_service_account", **OPTIONS | options)
    assert str(caught.value).startswith(message)
