# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's HTTP side, seen through a module that makes one GET and one POST: retries, errors, sign-in."""

from __future__ import annotations

import json

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

PARENT = "https://serviceusage.googleapis.com/v1/projects/demo/services"
READ, ENABLE = f"{PARENT}:batchGet", f"{PARENT}:batchEnable"
DISABLED = {"services": [{"name": "projects/123456789012/services/run.googleapis.com", "state": "DISABLED"}]}
ENABLED = {"services": [{"name": "projects/123456789012/services/run.googleapis.com", "state": "ENABLED"}]}
RESET = requests.exceptions.ConnectionError(
    "Connection aborted.", ConnectionResetError(104, "Connection reset by peer")
)


@pytest.fixture
def services(run_module):
    """Runs the module; keyword arguments as run_module's."""
    return lambda **options: run_module("service_usage_services", names=["run.googleapis.com"], **options)


@pytest.fixture
def failure(services):
    """The one line that the module fails with."""

    def failure(**options):
        with pytest.raises(Exception) as caught:
            services(**options)
        return str(caught.value)

    return failure


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_reading_is_retried(google, services, clock, status):
    for _ in range(3):
        google.expect("GET", READ, google.error(status, "UNAVAILABLE", "Try again."))
    google.expect("GET", READ, ENABLED)
    assert services()["changed"] is False
    # Exponential, with jitter of up to a half.
    assert [0.5 <= seconds / 2**turn <= 1 for turn, seconds in enumerate(clock.slept)] == [True] * 3


def test_a_lost_connection_is_retried(google, services):
    google.expect("GET", READ, RESET).expect("GET", READ, requests.exceptions.ReadTimeout("timed out"))
    google.expect("GET", READ, ENABLED)
    assert services()["changed"] is False


def test_gives_up_after_five_attempts(google, failure):
    for _ in range(5):
        google.expect("GET", READ, google.answer(502, b"<html><style>x</style><h1>Bad  gateway</h1></html>"))
    assert failure() == "Cannot read the APIs of project demo: Bad gateway (502)"


@pytest.mark.parametrize(("header", "pause"), [("7", 7), ("3600", 32), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)])
def test_retry_after_is_honoured(google, services, clock, header, pause):
    google.expect("GET", READ, google.answer(429, {"error": {}}, {"Retry-After": header})).expect("GET", READ, ENABLED)
    services()
    assert clock.slept == [pause]


def test_rate_limits_that_come_as_403_are_retried(google, services):
    google.expect("GET", READ, google.old_error(403, "rateLimitExceeded", "Rate Limit Exceeded"))
    google.expect("GET", READ, ENABLED)
    services()


def test_a_post_that_is_not_idempotent_is_not_repeated(google, run_module):
    """A secret's version would be there twice."""
    secret = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/s"
    google.expect("GET", secret, {"name": "projects/123456789012/secrets/s"}).expect("GET", f"{secret}/versions", {})
    google.expect("POST", f"{secret}:addVersion", RESET)
    with pytest.raises(
        Exception,
        match="^Cannot update secret s: no response from secretmanager.googleapis.com: "
        ".*Connection reset by peer. Check the network and HTTPS_PROXY$",
    ):
        run_module("secret_manager_secret", name="s", generate_length=16)


def test_an_unsent_post_is_repeated(google, run_module):
    secret = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/s"
    google.expect("GET", secret, {"name": "projects/123456789012/secrets/s"}).expect("GET", f"{secret}/versions", {})
    google.expect("POST", f"{secret}:addVersion", requests.exceptions.ConnectTimeout("timed out"))
    google.expect("POST", f"{secret}:addVersion", {"name": "projects/123456789012/secrets/s/versions/1"})
    assert run_module("secret_manager_secret", name="s", generate_length=16)["version"] == "1"


def test_permission_denied_names_permission_and_caller(google, failure):
    message = "Permission 'serviceusage.services.get' denied on resource (or it may not exist)."
    google.expect("GET", READ, google.error(403, "PERMISSION_DENIED", message))
    assert failure() == (
        f"Cannot read the APIs of project demo: {message} (403 PERMISSION_DENIED). "
        "Check that the resource exists, and grant the caller a role with serviceusage.services.get: "
        "roles/serviceusage.serviceUsageViewer to verify, roles/serviceusage.serviceUsageAdmin to deploy"
    )


def test_permission_of_an_old_error(google, failure):
    message = "Required 'compute.networks.get' permission for 'projects/demo/global/networks/n'"
    google.expect("GET", READ, google.old_error(403, "forbidden", message))
    assert failure().endswith(
        "(403 forbidden). Grant the caller a role with compute.networks.get: roles/compute.networkViewer to verify, "
        "roles/compute.networkAdmin to deploy"
    )


def test_disabled_api(google, failure):
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "SERVICE_DISABLED",
            "metadata": {"service": "run.googleapis.com", "consumer": "projects/123456789012"},
        }
    ]
    message = "Cloud Run Admin API has not been used in project 123456789012 before or it is disabled."
    google.expect("GET", READ, google.error(403, "PERMISSION_DENIED", message, details=details))
    assert failure() == (
        f"Cannot read the APIs of project demo: {message} (403 SERVICE_DISABLED). Enable run.googleapis.com (module "
        "mlops.mlflow_gcp.service_usage_services); a newly enabled API takes a few minutes to become available"
    )


def test_disabled_api_is_absence_in_check_mode(google, run_module):
    details = [{"reason": "SERVICE_DISABLED", "metadata": {"service": "secretmanager.googleapis.com"}}]
    google.expect(
        "GET",
        "https://secretmanager.googleapis.com/v1/projects/demo/secrets/s",
        google.error(403, "PERMISSION_DENIED", "Disabled.", details=details),
    )
    assert run_module("secret_manager_secret", name="s", check=True)["changed"] is True


@pytest.mark.parametrize(
    ("status", "reason", "message", "hint"),
    [
        (429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Requests'.", "Quotas page"),
        (403, "BILLING_DISABLED", "This API method requires billing to be enabled.", "billing account"),
        (412, "conditionNotMet", "Constraint constraints/run.allowedIngress violated.", "organization policy"),
        (401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", "expired, revoked"),
    ],
)
def test_advice(google, failure, status, reason, message, hint):
    for _ in range({429: 5}.get(status, 1)):
        google.expect("GET", READ, google.error(status, reason, message))
    text = failure()
    assert hint in text
    if status != 401:
        assert f"{message} ({status} {reason})" in text


def test_an_expired_access_token(google, failure):
    google.expect("GET", READ, google.error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."))
    assert failure() == (
        "Cannot read the APIs of project demo: Google rejected the access token, and it cannot be refreshed "
        "(401 UNAUTHENTICATED). Check the credentials of the caller: they may be expired, revoked, or not of the kind "
        "given in auth_kind"
    )


@pytest.fixture(scope="session")
def key() -> dict[str, str]:
    """A service account's key, made here."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": "k1",
        "private_key": pem.decode(),
        "client_email": "deployer@demo.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


@pytest.fixture
def key_auth(key):
    """Authentication options with that key."""
    return {"project": "demo", "auth_kind": "serviceaccount", "service_account_contents": json.dumps(key)}


def test_signs_in_with_a_service_account(google, services, key_auth):
    google.expect(
        "POST", key_token := "https://oauth2.googleapis.com/token", {"access_token": "ya29.fresh", "expires_in": 3599}
    )
    google.expect("GET", READ, ENABLED)
    services(auth=key_auth)
    assert google.sent[0].url == key_token
    assert google.sent[1].headers["Authorization"] == "Bearer ya29.fresh"
    assert google.sent[1].headers["User-Agent"] == "mlops.mlflow_gcp"


def test_a_deleted_key(google, failure, key_auth):
    answer = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    google.expect("POST", "https://oauth2.googleapis.com/token", google.answer(400, answer))
    assert failure(auth=key_auth) == (
        "Cannot read the APIs of project demo: invalid_grant: Invalid JWT Signature. (401 UNAUTHENTICATED). Check the "
        "credentials of deployer@demo.iam.gserviceaccount.com: they may be expired, revoked, or not of the kind given in "
        "auth_kind"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"auth_kind": "serviceaccount", "service_account_file": "/nowhere/key.json"},
            "Cannot sign in to Google Cloud with /nowhere/key.json: No such file or directory",
        ),
        (
            {"auth_kind": "serviceaccount"},
            "auth_kind serviceaccount requires option service_account_file (or GCP_SERVICE_ACCOUNT_FILE in the environment) or "
            "service_account_contents (GCP_SERVICE_ACCOUNT_CONTENTS)",
        ),
        (
            {"auth_kind": "accesstoken"},
            "auth_kind accesstoken requires option access_token, or GCP_ACCESS_TOKEN in the environment",
        ),
        (
            {"auth_kind": "application", "service_account_email": "a@b.c"},
            "option service_account_email only works with auth_kind machineaccount, not application",
        ),
        (
            {"auth_kind": "application", "access_token": "ya29.x"},
            "option access_token only works with auth_kind accesstoken, not application",
        ),
    ],
)
def test_wrong_sign_in_options(google, failure, options, message):
    assert failure(auth={"project": "demo", **options}) == message


def test_without_credentials(google, run_module):
    ways = "There are no credentials for Google Cloud: set GCP_AUTH_KIND in the environment (or option auth_kind) to application"
    for options, more in (({"name": "b", "location": "EU"}, "machineaccount"), ({}, "Also missing: name")):
        with pytest.raises(Exception) as caught:
            run_module("storage_bucket", auth={"project": "demo"}, **options)
        assert str(caught.value).startswith(ways) and str(caught.value).endswith(more)
    with pytest.raises(Exception, match=r"^There are no credentials .* \(value of auth_kind must be one of"):
        run_module("storage_bucket", auth={"auth_kind": ""}, name="b")
    with pytest.raises(Exception, match="^missing required arguments: name$"):
        run_module("storage_bucket")


def test_without_a_project(google, failure):
    assert failure(auth={"auth_kind": "accesstoken", "access_token": "ya29.x"}) == (
        "option project: None is not allowed; give a project ID here or in GCP_PROJECT"
    )


def test_the_same_environment_variables_as_google_cloud(google, services, monkeypatch):
    monkeypatch.setenv("GCP_PROJECT", "demo")
    monkeypatch.setenv("GCP_AUTH_KIND", "accesstoken")
    monkeypatch.setenv("GCP_ACCESS_TOKEN", "ya29.from-environment")
    monkeypatch.setenv("GCP_ENV_TYPE", "tower")
    google.expect("GET", READ, ENABLED)
    services(auth={})
    assert google.sent[0].headers["Authorization"] == "Bearer ya29.from-environment"
    assert google.sent[0].headers["User-Agent"] == "mlops.mlflow_gcp-tower"


def test_an_untrusted_proxy_is_not_retried(google, failure):
    google.expect("GET", READ, requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer"))
    assert failure().endswith("Set REQUESTS_CA_BUNDLE to trust the proxy's certificate authority")
    assert len(google.sent) == 1


def test_a_response_that_is_not_from_google(google, failure):
    google.expect("GET", READ, google.answer(200, b"<html>Welcome", {"Content-Type": "text/html"}))
    assert "returned text/html instead of JSON" in failure()


def test_enables_what_is_missing(google, services):
    google.expect("GET", READ, DISABLED, params={"names": "projects/demo/services/run.googleapis.com"})
    google.expect("POST", ENABLE, {"name": "operations/acat.p2"}, body={"serviceIds": ["run.googleapis.com"]})
    google.expect(
        "GET",
        "https://serviceusage.googleapis.com/v1/operations/acat.p2",
        {"name": "operations/acat.p2", "done": True, "response": ENABLED},
    )
    for _ in range(2):
        google.expect("GET", "https://run.googleapis.com/v2/projects/demo/locations/us-central1/services", {})
    result = services()
    assert (result["changed"], result["enabled"]) == (True, ["run.googleapis.com"])
    assert result["diff"] == {"before": {"run.googleapis.com": "DISABLED"}, "after": {"run.googleapis.com": "ENABLED"}}


def test_enabling_in_check_mode(google, services):
    google.expect("GET", READ, DISABLED)
    assert services(check=True)["enabled"] == ["run.googleapis.com"]


def test_enables_twenty_apis_per_request(google, run_module):
    names = [f"api{number}.googleapis.com" for number in range(31)]
    google.expect("GET", READ, {}).expect("GET", READ, {})
    for start in (0, 20):
        google.expect(
            "POST",
            ENABLE,
            {"name": "operations/noop.DONE_OPERATION", "done": True, "response": {}},
            body={"serviceIds": names[start : start + 20]},
        )
    run_module("service_usage_services", names=names)


def test_an_api_that_cannot_be_enabled(google, failure):
    google.expect("GET", READ, DISABLED)
    google.expect(
        "POST",
        ENABLE,
        {
            "name": "operations/x",
            "done": True,
            "response": {"failures": [{"serviceId": "run.googleapis.com", "errorMessage": "Terms not accepted."}]},
        },
    )
    assert failure() == "Cannot enable run.googleapis.com in project demo: run.googleapis.com: Terms not accepted."


def test_an_operation_that_takes_too_long(google, failure):
    google.expect("GET", READ, DISABLED).expect("POST", ENABLE, {"name": "operations/x"})
    for _ in range(5):
        google.expect("GET", "https://serviceusage.googleapis.com/v1/operations/x", {"name": "operations/x"})
    assert failure(timeout=3).startswith(
        "Cannot enable run.googleapis.com in project demo within 3 s: operation operations/x is still running."
    )


def test_a_short_name_is_refused(google, run_module):
    with pytest.raises(
        Exception, match="^option names: 'run' is not allowed; give the full name of an API such as run.goog"
    ):
        run_module("service_usage_services", names=["run"])
