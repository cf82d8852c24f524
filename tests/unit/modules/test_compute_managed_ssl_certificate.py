# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module compute_managed_ssl_certificate."""

from __future__ import annotations

import pytest

COMPUTE = "https://compute.googleapis.com/compute/v1/projects/demo/global"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo/global"
CERTS = f"{COMPUTE}/sslCertificates"
# The first 8 digits of the SHA-256 of the domain.
NAME, OLD, OLDER = "mlflow-lb-b7f56a26", "mlflow-lb-0123abcd", "mlflow-lb-f0123abc"
OPTIONS = {"name": "mlflow-lb", "domains": ["mlflow.example.com"]}
DONE = {"kind": "compute#operation", "name": "op", "status": "DONE", "selfLink": f"{LINKS}/operations/op"}


def live(name=NAME, **managed):
    managed = {
        "domains": ["mlflow.example.com"],
        "status": "PROVISIONING",
        "domainStatus": {"mlflow.example.com": "PROVISIONING"},
        **managed,
    }
    return {
        "kind": "compute#sslCertificate",
        "name": name,
        "type": "MANAGED",
        "selfLink": f"{LINKS}/sslCertificates/{name}",
        "managed": managed,
    }


FOREIGN = [{"name": "mlflow-lb", "type": "SELF_MANAGED"}, {"name": "mlflow-lb-of-us", "type": "MANAGED"}]


def test_creates_an_additional_certificate(google, run_module):
    google.expect("GET", f"{CERTS}/{NAME}", google.old_error(404, "notFound", "not found"))
    replaced = [
        {**live(OLD), "description": "of us", "creationTimestamp": "2026-02-01"},
        {**live(OLDER), "description": "old"},
    ]
    google.expect("GET", CERTS, {"items": [*replaced, *FOREIGN]})
    sent = {"name": NAME, "type": "MANAGED", "managed": {"domains": ["mlflow.example.com"]}, "description": "of us"}
    google.expect("POST", CERTS, DONE, body=sent)
    google.expect("GET", f"{CERTS}/{NAME}", live()).expect("GET", CERTS, {"items": [live(), live(OLD), *FOREIGN]})
    result = run_module("compute_managed_ssl_certificate", **OPTIONS)
    assert (result["changed"], result["name"], result["status"], result["obsolete"]) == (
        True,
        NAME,
        "PROVISIONING",
        [OLD],
    )
    assert result["self_link"] == f"{LINKS}/sslCertificates/{NAME}"
    assert result["domain_status"] == {"mlflow.example.com": "PROVISIONING"}


def test_second_run_changes_nothing(google, run_module):
    google.expect("GET", f"{CERTS}/{NAME}", live(status="ACTIVE", domains=["mlflow.example.com."])).expect(
        "GET", CERTS, {}
    )
    result = run_module("compute_managed_ssl_certificate", name="mlflow-lb", domains=["MLflow.example.com."])
    assert (result["changed"], result["status"], result["obsolete"]) == (False, "ACTIVE", [])


def test_order_of_domains_does_not_matter(google, run_module):
    names = []
    for domains in (["a.example.com", "b.example.com"], ["b.example.com", "a.example.com"]):
        with pytest.raises(AssertionError, match="unexpected GET"):
            run_module("compute_managed_ssl_certificate", name="m", domains=domains)
        names.append(google.sent[-1].url)
    assert names[0] == names[1]


def test_check_mode_before_compute_is_enabled(google, run_module):
    off = google.error(403, "PERMISSION_DENIED", "off", details=[{"reason": "SERVICE_DISABLED"}])
    google.expect("GET", f"{CERTS}/{NAME}", off).expect("GET", CERTS, off)
    result = run_module("compute_managed_ssl_certificate", check=True, **OPTIONS)
    assert result["changed"] and result["self_link"].endswith(NAME)


def test_deletes_the_obsolete_ones(google, run_module):
    google.expect("GET", CERTS, {"items": [live(), live(OLD), *FOREIGN]}).expect("DELETE", f"{CERTS}/{OLD}", DONE)
    result = run_module(
        "compute_managed_ssl_certificate", name="mlflow-lb", keep=[f"{LINKS}/sslCertificates/{NAME}"], state="absent"
    )
    assert result["changed"] and result["diff"] == {
        "before": {"certificates": [OLD, NAME]},
        "after": {"certificates": [NAME]},
    }


def test_deleting_in_check_mode(google, run_module):
    google.expect("GET", CERTS, {"items": [live()]})
    assert run_module("compute_managed_ssl_certificate", name="mlflow-lb", state="absent", check=True)["changed"]


def test_nothing_to_delete(google, run_module):
    google.expect("GET", CERTS, {"items": FOREIGN})
    assert not run_module("compute_managed_ssl_certificate", name="mlflow-lb", state="absent")["changed"]


def in_use(google):
    return google.old_error(400, "resourceInUseByAnotherResource", "already being used by 'proxy'")


def test_waits_until_a_certificate_is_detached(google, run_module):
    failed = {**DONE, "error": {"errors": [{"code": "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "message": "in use"}]}}
    google.expect("GET", CERTS, {"items": [live()]}).expect("DELETE", f"{CERTS}/{NAME}", in_use(google))
    google.expect("DELETE", f"{CERTS}/{NAME}", failed).expect("DELETE", f"{CERTS}/{NAME}", DONE)
    assert run_module("compute_managed_ssl_certificate", name="mlflow-lb", state="absent")["changed"]


def test_a_deletion_whose_operation_fails_for_a_moment_is_repeated(google, run_module):
    failed = {**DONE, "error": {"errors": [{"code": "INTERNAL_ERROR", "message": "An internal error has occurred."}]}}
    google.expect("GET", CERTS, {"items": [live()]}).expect("DELETE", f"{CERTS}/{NAME}", failed)
    google.expect("DELETE", f"{CERTS}/{NAME}", DONE)
    assert run_module("compute_managed_ssl_certificate", name="mlflow-lb", state="absent")["changed"]


def test_a_certificate_that_is_still_attached(google, run_module):
    def refuse(_request):
        google.expect("DELETE", f"{CERTS}/{NAME}", refuse)
        return in_use(google)

    google.expect("GET", CERTS, {"items": [live()]}).expect("DELETE", f"{CERTS}/{NAME}", refuse)
    result = run_module("compute_managed_ssl_certificate", name="mlflow-lb", state="absent")
    warning = f"certificate {NAME} is obsolete, but not deleted because it is in use: already being used by"
    assert warning in str(result["warnings"])
    assert (result["changed"], result["obsolete"]) == (False, [NAME])
    google.script.clear()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"domains": ["*.example.com"]},
            r"option domains: '\*.example.com' is not allowed; give every domain name in full, such as",
        ),
        (
            {"domains": ["https://mlflow.example.com"]},
            "is not allowed; give a domain name of at most 64 characters in lower case",
        ),
        ({"domains": []}, r"option domains: \[\] is not allowed; it is required for state=present"),
        ({"name": "m" * 60}, "1 to 54 lower-case letters"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception, match=message):
        run_module("compute_managed_ssl_certificate", **{**OPTIONS, **options})
    assert not google.sent


def test_nothing_is_there_to_delete_where_the_api_is_disabled(google, run_module):
    google.expect("GET", CERTS, google.old_error(403, "accessNotConfigured", "Compute Engine API has not been used"))
    assert not run_module("compute_managed_ssl_certificate", name="mlflow-lb", state="absent")["changed"]
