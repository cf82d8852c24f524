# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's HTTP side, seen through a module that makes one GET and one POST: retries, errors, sign-in."""

from __future__ import annotations

import http.client
import json
import ssl

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import exceptions
from urllib3 import HTTPSConnectionPool
from urllib3.exceptions import (
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
)

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


SECRET = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/s"
VERSION = {"name": "projects/123456789012/secrets/s/versions/1", "state": "ENABLED"}
HOST = "secretmanager.googleapis.com"
PROXY = HTTPSConnectionPool(HOST, 443)


def proxied(error):
    """The error as requests raises it for a connection through a proxy."""
    return requests.exceptions.ProxyError(MaxRetryError(PROXY, "/", ProxyError("Unable to connect to proxy", error)))


EOF = requests.exceptions.SSLError(
    MaxRetryError(PROXY, "/", SSLError(ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:2427)")))
)
LOST = {
    "a lost connection through the proxy's tunnel": proxied(http.client.RemoteDisconnected("Remote end closed")),
    "a lost connection": requests.exceptions.ConnectionError(
        ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer"))
    ),
    "a response that ended early": requests.exceptions.ChunkedEncodingError("Response ended prematurely"),
    "a TLS connection that was closed": EOF,
    "a timeout": requests.exceptions.ReadTimeout("timed out"),
}
UNSENT = {
    "no connection in time": requests.exceptions.ConnectTimeout("timed out"),
    "no connection to the proxy": proxied(NewConnectionError(PROXY, "Connection refused")),
    "an unknown host": requests.exceptions.ConnectionError(
        MaxRetryError(PROXY, "/", NameResolutionError(HOST, PROXY, OSError("Name or service not known")))
    ),
    "no tunnel through the proxy": proxied(OSError("Tunnel connection failed: 503 Service Unavailable")),
}


@pytest.fixture
def empty(google):
    """A secret without a version."""
    google.expect("GET", SECRET, {"name": "projects/123456789012/secrets/s"}).expect("GET", f"{SECRET}/versions", {})
    return google.expect("GET", f"{SECRET}/versions", {}, params={"filter": "state:DISABLED"})


@pytest.fixture
def added(run_module):
    """Adds a version, and returns its number."""
    return lambda **options: run_module("secret_manager_secret", name="s", **(options or {"generate_length": 16}))[
        "version"
    ]


@pytest.mark.parametrize("error", LOST.values(), ids=LOST)
def test_a_post_that_would_create_twice_is_not_repeated_if_it_was_carried_out(empty, added, error):
    empty.expect("POST", f"{SECRET}:addVersion", error).expect("GET", f"{SECRET}/versions", {"versions": [VERSION]})
    assert added() == "1"


@pytest.mark.parametrize("error", LOST.values(), ids=LOST)
def test_it_is_repeated_if_it_was_not(empty, added, error):
    empty.expect("POST", f"{SECRET}:addVersion", error).expect("GET", f"{SECRET}/versions", {})
    empty.expect("POST", f"{SECRET}:addVersion", VERSION)
    assert added() == "1"
    assert empty.writes[0].body == empty.writes[1].body


def test_the_same_value_is_looked_for(google, added):
    """Another run has added another value in between."""
    google.expect("GET", SECRET, {"name": "projects/123456789012/secrets/s"}).expect("GET", f"{SECRET}/versions", {})
    google.expect("POST", f"{SECRET}:addVersion", google.error(503, "UNAVAILABLE", "Try again."))
    google.expect("GET", f"{SECRET}/versions", {"versions": [VERSION]})
    google.expect("GET", f"{SECRET}/versions/1:access", {"payload": {"data": "b3RoZXI="}})
    google.expect("POST", f"{SECRET}:addVersion", {"name": "projects/123456789012/secrets/s/versions/2"})
    assert added(value="ours") == "2"


def test_it_is_not_repeated_for_ever(empty, added):
    for _attempt in range(4):
        empty.expect("POST", f"{SECRET}:addVersion", RESET).expect("GET", f"{SECRET}/versions", {})
    empty.expect("POST", f"{SECRET}:addVersion", RESET)
    with pytest.raises(
        Exception,
        match="^Cannot update secret s: no response from secretmanager.googleapis.com: "
        ".*Connection reset by peer. Check the network and HTTPS_PROXY$",
    ):
        added()


@pytest.mark.parametrize("error", UNSENT.values(), ids=UNSENT)
def test_an_unsent_post_is_repeated_without_a_look(empty, added, error):
    empty.expect("POST", f"{SECRET}:addVersion", error).expect("POST", f"{SECRET}:addVersion", VERSION)
    assert added() == "1"


@pytest.mark.parametrize("error", [*LOST.values(), *UNSENT.values()], ids=[*LOST, *UNSENT])
def test_reading_is_retried_after_all_of_them(google, services, error):
    google.expect("GET", READ, error).expect("GET", READ, ENABLED)
    assert services()["changed"] is False


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
        "(403 forbidden). Grant the caller a role with compute.networks.get: roles/compute.viewer to verify, "
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


# A name of a class, its arguments as google-auth gives them, and what is shown.
BODY = '{"error": {"code": 403, "message": "Permission denied on the account.", "status": "PERMISSION_DENIED"}}'
CHECK = "Check the credentials of the caller: they may be expired"
REFUSED = [
    (
        "GoogleAuthError",
        ("Credentials were refused.",),
        "Credentials were refused. (",
        "Check the credentials of the caller and",
    ),
    (
        "RefreshError",
        ("Unable to acquire impersonated credentials", BODY),
        "credentials: Permission denied on the acc",
        CHECK,
    ),
    ("RefreshError", ("invalid_grant: None", {"error": "invalid_grant"}), "project demo: invalid_grant (401", CHECK),
    (
        "RefreshError",
        (ValueError("Unable to load PEM file.", ["details"]),),
        "demo: Unable to load PEM file. (401",
        CHECK,
    ),
    ("RefreshError", (KeyError("access_token"),), "demo: 'access_token' is missing (401", CHECK),
    ("RefreshError", (), "demo: RefreshError (401 UNAUTHENTICATED)", CHECK),
    (
        "UserAccessTokenError",
        ("Failed to obtain access token", OSError(2, "No such file")),
        "token: No such file (",
        "Run gcloud",
    ),
    ("DefaultCredentialsError", ("File x is not valid.", ValueError("line 1")), "not valid: line 1 (", "application_"),
    ("MutualTLSChannelError", ("No certificate.",), "No certificate. (", "GOOGLE_API_CERTIFICATE_CONFIG"),
    ("ClientCertError", ("No certificate.",), "No certificate. (", "GOOGLE_API_CERTIFICATE_CONFIG"),
    (
        "OAuthError",
        (
            "Error code unauthorized_client: The attribute condition rejects it. - https://x.example",
            '{"error": "unauthorized_client", "error_description": "The attribute condition rejects it."}',
        ),
        "demo: unauthorized_client: The attribute condition rejects it. (401 UNAUTHENTICATED). Check the credentials file",
        "workload identity pool",
    ),
    (
        "OAuthError",
        ("<html><title>Error 502</title></html>", "<html></html>"),
        "demo: Error 502 (401",
        "credentials file",
    ),
    (
        "ReauthFailError",
        ("Failed to obtain rapt token.",),
        "Reauthentication failed. Failed to obtain",
        "application-default",
    ),
    ("ReauthSamlChallengeFailError", ("SAML",), "Reauthentication failed. SAML", "application-default login"),
    ("MalformedError", ("The file has no url.", "x"), "The file has no url. (401", "contents of the credentials file"),
    (
        "InvalidResource",
        ("Invalid AWS service URL",),
        "Invalid AWS service URL (401",
        "the URLs in the credentials file",
    ),
    ("InvalidOperation", ("Not supported.",), "Not supported. (401", "auth_kind fits"),
    ("InvalidValue", ("Only one of these.",), "Only one of these. (401", "contents of the credentials file"),
    ("InvalidType", ("Not a text.",), "Not a text. (401", "contents of the credentials file"),
    (
        "OSError",
        (2, "No such file or directory", "oidc.txt"),
        "No such file or directory: oidc.txt (401",
        "exists and may be",
    ),
    ("TransportError", (RESET,), "no response from serviceusage.googleapis.com: ", "Check the network and HTTPS_PROXY"),
    ("TimeoutError", ("Timed out.",), "googleapis.com: Timed out. Check", "Check the network and HTTPS_PROXY"),
    (
        "ResponseError",
        ("Cannot read it.",),
        "googleapis.com: Cannot read it. Check",
        "Check the network and HTTPS_PROXY",
    ),
]


def test_every_exception_of_google_auth_is_tried():
    names = {
        name
        for name, kind in vars(exceptions).items()
        if isinstance(kind, type) and kind.__module__ == exceptions.__name__
    }
    assert {name for name, *_ in REFUSED} == names


@pytest.mark.parametrize(("name", "arguments", "shown", "advice"), REFUSED, ids=[entry[0] for entry in REFUSED])
def test_a_token_that_google_auth_cannot_fetch(google, failure, monkeypatch, name, arguments, shown, advice):
    def refresh(*_):
        raise getattr(exceptions, name)(*arguments)

    monkeypatch.setattr("google.oauth2.credentials.Credentials.valid", False)
    monkeypatch.setattr("google.oauth2.credentials.Credentials.refresh", refresh)
    text = failure()
    assert text.startswith("Cannot read the APIs of project demo: ")
    assert shown in text
    assert advice.replace("application_", "application-default login, or set GOOGLE_APPLICATION_CREDENTIALS") in text
    assert not any(part in text for part in ("('", "',)", "Error(", "{"))


@pytest.mark.parametrize(
    ("contents", "shown"),
    [
        ("{", "Expecting property name enclosed in double quotes"),
        ("[]", "no attribute"),
        ("{}", "missing fields"),
        ('{"client_email": "a", "token_uri": "b", "private_key": "c"}', "Unable to load PEM file"),
    ],
)
def test_a_key_that_is_none(google, failure, contents, shown):
    text = failure(auth={"project": "demo", "auth_kind": "serviceaccount", "service_account_contents": contents})
    assert text.startswith("Cannot sign in to Google Cloud with service_account_contents: ")
    assert shown in text and "('" not in text


def test_a_credentials_file_that_is_none(google, failure, monkeypatch, tmp_path):
    file = tmp_path / "wif.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    application = {"project": "demo", "auth_kind": "application"}
    assert failure(auth=application).endswith(
        "was not found. Run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to the path of a "
        "credentials file"
    )
    file.write_text("{")
    assert "is not a valid json file: Expecting property name" in failure(auth=application)
    file.write_text('{"type": "external_account", "audience": "a"}')
    assert "Check the contents" in failure(auth=application) or "Run gcloud" in failure(auth=application)


@pytest.fixture
def federated(monkeypatch, tmp_path):
    """Credentials of Workload Identity Federation, with a token in a file."""
    token, file = tmp_path / "token", tmp_path / "wif.json"
    token.write_text("not.a.token")
    source = {"file": str(token)}
    audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/github/providers/gh"
    kind, sts = "urn:ietf:params:oauth:token-type:jwt", "https://sts.googleapis.com/v1/token"
    info = {"type": "external_account", "audience": audience, "subject_token_type": kind, "token_url": sts}
    file.write_text(json.dumps({**info, "credential_source": source}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    return token


def test_a_refused_token_exchange(google, failure, federated):
    said = "The given credential is rejected by the attribute condition."
    refused = {"error": "unauthorized_client", "error_description": said}
    google.expect("POST", "https://sts.googleapis.com/v1/token", google.answer(401, refused))
    assert failure(auth={"project": "demo", "auth_kind": "application"}) == (
        f"Cannot sign in to Google Cloud with application: unauthorized_client: {said} Check the credentials file: "
        "the token it points to may have expired, or the workload identity pool's provider does not accept its audience or "
        "attributes"
    )


def test_a_token_exchange_that_is_lost(google, services, federated, monkeypatch):
    # Without the lookup of the project, which starts a thread with another request.
    looks_up = "google.auth.external_account.Credentials.get_project_id"
    monkeypatch.setattr(looks_up, lambda self, request: self.refresh(request) or "demo")
    google.expect("POST", "https://sts.googleapis.com/v1/token", RESET)
    token = {"access_token": "ya29.x", "expires_in": 3600, "token_type": "Bearer"}
    for _of in ("the sign-in", "a copy of the credentials"):
        google.expect("POST", "https://sts.googleapis.com/v1/token", token)
    google.expect("GET", READ, ENABLED)
    assert services(auth={"project": "demo", "auth_kind": "application"})["changed"] is False


def test_a_token_file_that_is_missing(google, failure, federated):
    federated.unlink()
    text = failure(auth={"project": "demo", "auth_kind": "application"})
    assert f"File '{federated}' was not found" in text and CHECK in text


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            requests.exceptions.InvalidProxyURL("Please check proxy URL."),
            "Please check proxy URL. Set HTTPS_PROXY to a URL",
        ),
        (requests.exceptions.InvalidURL("Invalid URL"), "Invalid URL. Check the network and HTTPS_PROXY"),
        (requests.exceptions.TooManyRedirects("Exceeded 30 redirects."), "Exceeded 30 redirects. Check the network"),
        (requests.exceptions.ContentDecodingError("Not gzip."), "Not gzip. Check the network"),
        (requests.exceptions.RetryError("x"), "x. Check the network"),
        (
            OSError("Could not find a suitable TLS CA certificate bundle, invalid path: /x"),
            "/x. Set REQUESTS_CA_BUNDLE",
        ),
        (
            proxied(OSError("Tunnel connection failed: 407 Proxy Authentication Required")),
            "407 Proxy Authentication Required",
        ),
        (
            requests.exceptions.SSLError(SSLError(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version"))),
            "wrong version",
        ),
    ],
)
def test_a_request_that_cannot_be_sent(google, failure, error, shown):
    google.expect("GET", READ, error)
    text = failure()
    assert text.startswith("Cannot read the APIs of project demo: no response from serviceusage.googleapis.com: ")
    assert shown in text and "('" not in text and "object at" not in text


TOKEN = "ya29.not-to-be-seen\n"


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.InvalidHeader(f"Invalid return character in header value: {TOKEN!r}"),
        ValueError(f"Invalid header value {TOKEN.encode()!r}"),
        UnicodeEncodeError("latin-1", TOKEN, 7, 8, "ordinal not in range(256)"),
    ],
)
def test_an_access_token_with_more_than_a_token(google, failure, error):
    google.expect("GET", READ, error)
    assert failure(auth={"project": "demo", "auth_kind": "accesstoken", "access_token": TOKEN}).endswith(
        "the access token contains blanks, line breaks or characters that no token has. Set access_token or "
        "GCP_ACCESS_TOKEN to the token alone"
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


def failed(code, message, **more):
    return {"name": "operations/x", "done": True, "error": {"code": code, "message": message, **more}}


def test_an_operation_that_fails_for_a_moment_is_repeated(google, services):
    google.expect("GET", READ, DISABLED)
    for code in (13, 14):
        google.expect("POST", ENABLE, failed(code, "An internal error has occurred."))
    google.expect("POST", ENABLE, {"name": "operations/y", "done": True, "response": ENABLED})
    for _ in range(2):
        google.expect("GET", "https://run.googleapis.com/v2/projects/demo/locations/us-central1/services", {})
    assert services()["enabled"] == ["run.googleapis.com"]


@pytest.mark.parametrize(
    ("code", "message", "attempts", "text"),
    [
        (13, "An internal error has occurred.", 3, "(INTERNAL). Run again later; https://status.cloud.google.com"),
        (8, "Quota exceeded for CPUS.", 1, "(RESOURCE_EXHAUSTED). Wait and run again, or request an increase"),
        (7, "Permission 'x.y.get' denied.", 1, "(PERMISSION_DENIED). Grant the caller a role with x.y.get"),
        (9, "Constraint constraints/gcp.resourceLocations violated.", 1, "(FAILED_PRECONDITION). "),
    ],
)
def test_an_error_of_an_operation_is_explained(google, failure, code, message, attempts, text):
    google.expect("GET", READ, DISABLED)
    for _attempt in range(attempts):
        google.expect("POST", ENABLE, failed(code, message))
    shown = failure()
    assert shown.startswith(f"Cannot enable run.googleapis.com in project demo: {message.rstrip('.')}")
    assert text in shown


def test_an_operation_that_takes_too_long(google, failure):
    google.expect("GET", READ, DISABLED).expect("POST", ENABLE, {"name": "operations/x"})
    for _ in range(99):
        google.expect("GET", "https://serviceusage.googleapis.com/v1/operations/x", {"name": "operations/x"})
    assert failure(timeout=3).startswith(
        "Cannot enable run.googleapis.com in project demo within 3 s: operation operations/x is still running."
    )
    google.script.clear()


@pytest.mark.parametrize("seconds", [2, 20, 200, 2000])
def test_an_operation_is_noticed_soon_after_its_end(google, services, clock, seconds):
    began, ended = clock.now, []

    def answer(_request):
        done = clock.now - began >= seconds
        ended.extend([clock.now - began] if done else [])
        return google.answer(200, {"name": "operations/x", "done": done, "response": ENABLED})

    google.expect("GET", READ, DISABLED).expect("POST", ENABLE, {"name": "operations/x"})
    for _ in range(999):
        google.expect("GET", "https://serviceusage.googleapis.com/v1/operations/x", answer)
    with pytest.raises(AssertionError, match="instead of"):
        services(timeout=3000)
    late = ended[0] - seconds
    assert late <= max(0.3, min(5, seconds * 0.1)) + 0.01
    google.script.clear()


def test_a_short_name_is_refused(google, run_module):
    with pytest.raises(
        Exception, match="^option names: 'run' is not allowed; give the full name of an API such as run.goog"
    ):
        run_module("service_usage_services", names=["run"])
