# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the states of Google-managed certificates mean, by module certificate_wait."""

from __future__ import annotations

from typing import Any

import pytest

Doc = dict[str, Any]
COMPUTE = "https://compute.googleapis.com/compute/v1/projects/demo/global"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo/global"
MAP = "projects/demo/locations/global/certificateMaps/lb"
MANAGER = "https://certificatemanager.googleapis.com/v1"
DOMAIN = "mlflow.example.com"


def compute_certificate(status: str, domain_status: str, domain: str = DOMAIN) -> Doc:
    return {"managed": {"domains": [domain], "status": status, "domainStatus": {domain: domain_status}}}


@pytest.fixture
def look(google: Any, run_module: Any) -> Any:
    """look(certificate of Compute Engine) -> what the module finds at the load balancer that has it."""

    def look(*certificates: Doc) -> Doc:
        links = [f"{LINKS}/sslCertificates/lb-{number}" for number in range(len(certificates))]
        google.expect("GET", f"{COMPUTE}/targetHttpsProxies/lb-https", {"sslCertificates": links})
        google.expect("GET", f"{COMPUTE}/forwardingRules/lb-https", {"IPAddress": "203.0.113.7"})
        for number, certificate in enumerate(certificates):
            google.expect("GET", f"{COMPUTE}/sslCertificates/lb-{number}", certificate)
        for number, certificate in enumerate(certificates):
            if DOMAIN in certificate["managed"]["domains"]:
                google.expect("GET", f"{COMPUTE}/sslCertificates/lb-{number}", certificate)
        return run_module("certificate_wait", name="lb", domains=[DOMAIN], timeout=0)

    return look


@pytest.mark.parametrize(
    ("status", "domain_status", "told", "lasting"),
    [
        ("PROVISIONING", "PROVISIONING", "takes up to an hour", False),
        ("PROVISIONING", "FAILED_NOT_VISIBLE", f"A record of {DOMAIN} must lead to 203.0.113.7, and only there", False),
        ("PROVISIONING_FAILED", "FAILED_CAA_CHECKING", "do not answer for its CAA records", False),
        ("PROVISIONING_FAILED", "FAILED_CAA_FORBIDDEN", 'add one with 0 issue "pki.goog"', True),
        ("PROVISIONING_FAILED", "FAILED_RATE_LIMITED", "too many certificates", False),
        ("PROVISIONING_FAILED_PERMANENTLY", "FAILED_NOT_VISIBLE", "Google has given up", True),
        ("RENEWAL_FAILED", "RENEWAL_FAILED", "was not renewed", False),
    ],
)
def test_states_of_compute_engine(look: Any, status: str, domain_status: str, told: str, lasting: bool) -> None:
    result = look(compute_certificate(status, domain_status))
    assert (result["active"], result["lasting"]) == (False, lasting) and told in result["problems"][0]


def test_the_best_certificate_of_a_domain_counts(look: Any) -> None:
    certificates = (compute_certificate("ACTIVE", "ACTIVE"), compute_certificate("PROVISIONING", "PROVISIONING"))
    result = look(*certificates)
    assert result["active"] and result["states"] == {DOMAIN: "ACTIVE"} and result["problems"] == []


def test_a_domain_without_a_certificate(look: Any) -> None:
    result = look(compute_certificate("ACTIVE", "ACTIVE", domain="other.example.com"))
    assert result["lasting"] and "MISSING" in result["problems"][0] and "role iap_lb" in result["problems"][0]


ATTEMPT = {"domain": DOMAIN, "state": "FAILED"}


@pytest.mark.parametrize(
    ("attempt", "state", "told"),
    [
        ({"state": "AUTHORIZING"}, "PROVISIONING", "takes some minutes"),
        (
            {
                "failureReason": "CONFIG",
                "troubleshooting": {"cname": {"name": "_acme.", "expectedData": "x.", "resolvedData": ["y."]}},
            },
            "FAILED_CONFIG",
            "CNAME record _acme. must lead to x., and leads to y.",
        ),
        ({"failureReason": "CAA"}, "FAILED_CAA_FORBIDDEN", "CAA record"),
        ({"failureReason": "RATE_LIMITED"}, "FAILED_RATE_LIMITED", "tries again"),
        ({"failureReason": "CONFIG"}, "FAILED_NOT_VISIBLE", "must lead to 203.0.113.7"),
    ],
)
def test_states_of_certificate_manager(google: Any, run_module: Any, attempt: Doc, state: str, told: str) -> None:
    google.expect("GET", f"{COMPUTE}/targetHttpsProxies/lb-https", {"certificateMap": f"//certificatemanager.x/{MAP}"})
    google.expect("GET", f"{COMPUTE}/forwardingRules/lb-https", {"IPAddress": "203.0.113.7"})
    path = "projects/123456789012/locations/global/certificates/lb"
    entry = {"hostname": DOMAIN, "certificates": [path]}
    google.expect("GET", f"{MANAGER}/{MAP}/certificateMapEntries", {"certificateMapEntries": [entry]})
    managed = {"domains": [DOMAIN], "state": "PROVISIONING", "authorizationAttemptInfo": [ATTEMPT | attempt]}
    google.expect("GET", f"{MANAGER}/{path}", {"managed": managed})
    result = run_module("certificate_wait", name="lb", domains=[DOMAIN], timeout=0)
    assert result["states"] == {DOMAIN: state} and told in result["problems"][0]
