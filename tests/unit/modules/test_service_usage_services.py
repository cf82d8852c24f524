# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module service_usage_services: enabling, and waiting until all of Google knows."""

from __future__ import annotations

import pytest

PARENT = "projects/demo/services"
SERVICES = f"https://serviceusage.googleapis.com/v1/{PARENT}"
RUN, SQL = "run.googleapis.com", "sqladmin.googleapis.com"
READ_RUN = "https://run.googleapis.com/v2/projects/demo/locations/us-central1/services"
READ_SQL = "https://sqladmin.googleapis.com/v1/projects/demo/instances"
NAMES = [RUN, SQL, "cloudbuild.googleapis.com"]


@pytest.fixture
def enabled(google):
    """Scripts that NAMES are disabled and are enabled successfully."""
    google.expect("GET", f"{SERVICES}:batchGet", {})
    google.expect(
        "POST",
        f"{SERVICES}:batchEnable",
        {"name": "operations/x", "done": True, "response": {}},
        body={"serviceIds": NAMES},
    )


def disabled(google, old=False):
    message = "Cloud Run Admin API has not been used in project 1 before or it is disabled."
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED"}]
    if old:
        return google.old_error(403, "accessNotConfigured", message)
    return google.error(403, "PERMISSION_DENIED", message, details=details)


def test_waits_until_no_api_reports_that_it_is_disabled(google, run_module, enabled, clock):
    denied = google.error(403, "PERMISSION_DENIED", "Permission 'run.services.list' denied.")
    for run, sql in (
        (disabled(google), disabled(google, old=True)),
        (denied, {}),
        (disabled(google), {}),
        ({}, {}),
        ({}, {}),
    ):
        google.expect("GET", READ_RUN, run).expect("GET", READ_SQL, sql)
    result = run_module("service_usage_services", names=NAMES)
    assert (result["changed"], result["enabled"]) == (True, NAMES)
    assert len(clock.slept) == 4


def test_names_the_apis_that_did_not_become_available(google, run_module, enabled, clock):
    for _ in range(9):
        google.expect("GET", READ_RUN, disabled(google)).expect("GET", READ_SQL)
    with pytest.raises(Exception) as caught:
        run_module("service_usage_services", names=NAMES, timeout=1)
    assert str(caught.value) == (
        "Cannot wait for the newly enabled run.googleapis.com, sqladmin.googleapis.com in "
        "project demo within 1 s; run again later"
    )
    google.script.clear()


def test_does_not_wait_for_apis_that_were_already_enabled(google, run_module):
    google.expect("GET", f"{SERVICES}:batchGet", {"services": [{"name": f"{PARENT}/{RUN}", "state": "ENABLED"}]})
    assert run_module("service_usage_services", names=[RUN])["changed"] is False
