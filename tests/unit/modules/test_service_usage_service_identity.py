# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module service_usage_service_identity."""

from __future__ import annotations

import pytest

HOST = "https://serviceusage.googleapis.com"
GENERATE = f"{HOST}/v1beta1/projects/demo/services/iap.googleapis.com:generateServiceIdentity"
AGENT = "service-123456789012@gcp-sa-iap.iam.gserviceaccount.com"


def test_waits_for_the_operation_and_returns_the_address(google, run_module):
    google.expect("POST", GENERATE, {"name": "operations/finegrained.p1"})
    google.expect("GET", f"{HOST}/v1beta1/operations/finegrained.p1", {"name": "operations/finegrained.p1"})
    google.expect(
        "GET",
        f"{HOST}/v1beta1/operations/finegrained.p1",
        {"name": "operations/finegrained.p1", "done": True, "response": {"email": AGENT, "uniqueId": "1"}},
    )
    result = run_module("service_usage_service_identity", service="iap.googleapis.com")
    assert (result["email"], result["changed"]) == (AGENT, False)


def test_check_mode_only_reads(google, run_module):
    project = "https://cloudresourcemanager.googleapis.com/v1/projects/demo"
    google.expect("GET", project, {"projectNumber": "123456789012"})
    assert run_module("service_usage_service_identity", service="iap.googleapis.com", check=True)["email"] == AGENT


def test_failed_operation(google, run_module):
    error = {"code": 9, "message": "Service not enabled.", "status": "FAILED_PRECONDITION"}
    google.expect("POST", GENERATE, {"name": "operations/x", "done": True, "error": error})
    with pytest.raises(
        Exception,
        match=r"^Cannot generate the service identity of iap.googleapis.com in project demo: "
        r"Service not enabled. \(FAILED_PRECONDITION\)$",
    ):
        run_module("service_usage_service_identity", service="iap.googleapis.com")
