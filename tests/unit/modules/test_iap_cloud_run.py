# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules iap_oauth_settings and run_service_address."""

from __future__ import annotations

import hashlib

import pytest

PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/demo"
NUMBER = {"projectNumber": "123456789012"}
URL = "https://iap.googleapis.com/v1/projects/123456789012/iap_web/cloud_run-europe-west2/services/mlflow:iapSettings"
CLIENT, SECRET = "1234-abc.apps.googleusercontent.com", "GOCSPX-not-to-be-seen"
HASH = hashlib.sha256(SECRET.encode()).hexdigest()
MASK = {
    "updateMask": "iapSettings.accessSettings.oauthSettings.clientId,iapSettings.accessSettings.oauthSettings.clientSecret"
}
OPTIONS = {"run_service": "mlflow", "region": "europe-west2"}


def live(**oauth: object) -> dict:
    return {"name": "n", "accessSettings": {"corsSettings": {"allowHttpOptions": True}, "oauthSettings": oauth}}


def sets(google, run_module, before: dict, after: dict, **options: str) -> dict:
    google.expect("GET", PROJECT, NUMBER)
    google.expect("GET", URL, before)
    google.expect("PATCH", URL, {}, params=MASK, body={"accessSettings": {"oauthSettings": after}})
    result = run_module("iap_oauth_settings", **OPTIONS, **options)
    assert result["changed"] and SECRET not in str(result)
    return result


def test_sets_the_client(google, run_module):
    client = {"clientId": CLIENT, "clientSecret": SECRET}
    result = sets(google, run_module, live(programmaticClients=["a"]), client, client_id=CLIENT, client_secret=SECRET)
    assert result["client_id"] == CLIENT


def test_sets_another_secret(google, run_module):
    client = {"clientId": CLIENT, "clientSecret": SECRET}
    before = live(clientId=CLIENT, clientSecretSha256="0" * 64)
    sets(google, run_module, before, client, client_id=CLIENT, client_secret=SECRET)


def test_removes_the_client(google, run_module):
    assert sets(google, run_module, live(clientId=CLIENT, clientSecretSha256=HASH), {})["client_id"] == ""


@pytest.mark.parametrize(
    ("before", "options"),
    [
        (live(clientId=CLIENT, clientSecretSha256=HASH), {"client_id": CLIENT, "client_secret": SECRET}),
        ({"name": "n"}, {}),
        (live(programmaticClients=["a"]), {}),
    ],
)
def test_a_second_run_changes_nothing(google, run_module, before, options):
    google.expect("GET", PROJECT, NUMBER)
    google.expect("GET", URL, before)
    assert not run_module("iap_oauth_settings", **OPTIONS, **options)["changed"]


def test_check_mode_before_the_service_exists(google, run_module):
    google.expect("GET", PROJECT, NUMBER)
    google.expect("GET", URL, google.error(404, "NOT_FOUND", "Requested entity was not found."))
    result = run_module("iap_oauth_settings", check=True, **OPTIONS, client_id=CLIENT, client_secret=SECRET)
    assert result["changed"] and SECRET not in str(result)


@pytest.mark.parametrize("options", [{"client_id": CLIENT}, {"client_secret": SECRET}])
def test_half_a_client_is_refused(google, run_module, options):
    with pytest.raises(Exception, match=r"option client_id: .* requires client_secret"):
        run_module("iap_oauth_settings", **OPTIONS, **options)


def test_the_address_of_a_service_that_does_not_exist_yet(google, run_module):
    google.expect("GET", PROJECT, NUMBER)
    result = run_module("run_service_address", name="mlflow", region="europe-west2")
    assert not result["changed"] and result["url"] == "https://mlflow-123456789012.europe-west2.run.app"
