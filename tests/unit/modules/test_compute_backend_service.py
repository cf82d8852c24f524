# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module compute_backend_service."""

from __future__ import annotations

import hashlib

import pytest

COMPUTE = "https://compute.googleapis.com/compute/v1/projects/demo/global"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo"
ALL = f"{COMPUTE}/backendServices"
URL = f"{ALL}/mlflow-lb"
NEG = f"{LINKS}/regions/europe-west2/networkEndpointGroups/mlflow-neg"
OPTIONS = {"name": "mlflow-lb", "groups": [NEG], "iap": {"enabled": True}, "log_enabled": True}
SENT = {
    "name": "mlflow-lb",
    "loadBalancingScheme": "EXTERNAL_MANAGED",
    "protocol": "HTTPS",
    "backends": [{"group": NEG}],
    "iap": {"enabled": True},
    "logConfig": {"enable": True, "sampleRate": 1.0},
}
EMPTY = hashlib.sha256(b"").hexdigest()
# As a real one comes back: defaults filled in.
LIVE = {
    **SENT,
    "kind": "compute#backendService",
    "id": "77",
    "fingerprint": "abc=",
    "description": "",
    "selfLink": f"{LINKS}/global/backendServices/mlflow-lb",
    "affinityCookieTtlSec": 0,
    "connectionDraining": {"drainingTimeoutSec": 0},
    "port": 80,
    "portName": "http",
    "sessionAffinity": "NONE",
    "timeoutSec": 30,
    "backends": [{"group": NEG, "balancingMode": "UTILIZATION", "capacityScaler": 1.0}],
    "iap": {"enabled": True, "oauth2ClientId": " ", "oauth2ClientSecretSha256": EMPTY},
    "logConfig": {"enable": True, "sampleRate": 1},
}
HALF = [{"group": NEG, "balancingMode": "UTILIZATION", "capacityScaler": 0.5}]
DONE = {"kind": "compute#operation", "name": "op", "status": "DONE", "selfLink": f"{LINKS}/global/operations/op"}
SECRET = "GOCSPX-not-to-be-seen"
CUSTOM = {"enabled": True, "oauth2_client_id": "1-a.apps.googleusercontent.com", "oauth2_client_secret": SECRET}
CUSTOM_SENT = {"enabled": True, "oauth2ClientId": "1-a.apps.googleusercontent.com", "oauth2ClientSecret": SECRET}
CUSTOM_LIVE = {
    "enabled": True,
    "oauth2ClientId": "1-a.apps.googleusercontent.com",
    "oauth2ClientSecretSha256": hashlib.sha256(SECRET.encode()).hexdigest(),
}
NO_CLIENT = {"enabled": True, "oauth2ClientId": " ", "oauth2ClientSecret": " "}


def test_creates(google, run_module):
    google.expect("GET", URL, google.old_error(404, "notFound", "not found")).expect(
        "POST", ALL, DONE, body=SENT
    ).expect("GET", URL, LIVE)
    result = run_module("compute_backend_service", **OPTIONS)
    assert result["changed"] and result["self_link"] == LIVE["selfLink"] and result["generated_id"] == "77"
    assert EMPTY not in str(result)


@pytest.mark.parametrize("client_id", ["", " ", None])
def test_second_run_changes_nothing(google, run_module, client_id):
    google.expect("GET", URL, {**LIVE, "iap": {**LIVE["iap"], "oauth2ClientId": client_id}})
    assert not run_module(
        "compute_backend_service",
        **{**OPTIONS, "iap": {"enabled": True, "oauth2_client_id": "", "oauth2_client_secret": ""}},
    )["changed"]


def test_second_run_with_a_custom_client_changes_nothing(google, run_module):
    google.expect("GET", URL, {**LIVE, "iap": CUSTOM_LIVE})
    assert not run_module("compute_backend_service", **{**OPTIONS, "iap": CUSTOM})["changed"]


@pytest.mark.parametrize(
    ("live", "options", "sent"),
    [
        ({"iap": {"enabled": False, "oauth2ClientId": ""}}, {}, {"iap": SENT["iap"]}),
        ({"iap": {**CUSTOM_LIVE, "oauth2ClientSecretSha256": EMPTY}}, {"iap": CUSTOM}, {"iap": CUSTOM_SENT}),
        ({}, {"iap": CUSTOM}, {"iap": CUSTOM_SENT}),
        ({"logConfig": {"enable": False}}, {}, {"logConfig": SENT["logConfig"]}),
        ({"backends": [*HALF, {"group": f"{NEG}-old"}]}, {}, {"backends": HALF}),
        ({"backends": [{**HALF[0], "group": f"{NEG}-old"}]}, {}, {"backends": [{"capacityScaler": 0.5, "group": NEG}]}),
        ({"protocol": "HTTP"}, {}, {"protocol": "HTTPS"}),
        ({}, {"custom_request_headers": ["X-A:1"]}, {"customRequestHeaders": ["X-A:1"]}),
    ],
    ids=[
        "IAP off",
        "other secret",
        "custom client",
        "logs off",
        "surplus backend",
        "other backend",
        "protocol",
        "headers",
    ],
)
def test_patches_only_what_differs_with_the_fingerprint(google, run_module, live, options, sent):
    google.expect("GET", URL, {**LIVE, **live}).expect("PATCH", URL, DONE, body={**sent, "fingerprint": "abc="}).expect(
        "GET", URL, LIVE
    )
    result = run_module("compute_backend_service", **{**OPTIONS, **options})
    assert result["changed"] and result["diff"]["before"] != result["diff"]["after"]


def test_a_different_secret_is_masked_in_the_diff(google, run_module):
    google.expect("GET", URL, {**LIVE, "iap": {**CUSTOM_LIVE, "oauth2ClientSecretSha256": EMPTY}})
    result = run_module("compute_backend_service", check=True, **{**OPTIONS, "iap": CUSTOM})
    assert result["changed"] and result["diff"]["after"]["iap"]["oauth2ClientSecret"] == "******** (changed)"


def test_reads_the_secret_of_the_client(google, run_module):
    name = "projects/1/brands/1/identityAwareProxyClients/1-a.apps.googleusercontent.com"
    google.expect("GET", URL, LIVE).expect(
        "GET", f"https://iap.googleapis.com/v1/{name}", {"name": name, "secret": SECRET, "displayName": "mlflow"}
    )
    google.expect("PATCH", URL, DONE, body={"iap": CUSTOM_SENT, "fingerprint": "abc="}).expect(
        "GET", URL, {**LIVE, "iap": CUSTOM_LIVE}
    )
    assert run_module("compute_backend_service", **{**OPTIONS, "iap": {"enabled": True, "oauth2_client": name}})[
        "changed"
    ]


def test_removes_a_custom_client(google, run_module):
    google.expect("GET", URL, {**LIVE, "iap": CUSTOM_LIVE})
    google.expect("PATCH", URL, DONE, body={"iap": NO_CLIENT, "fingerprint": "abc="}).expect("GET", URL, LIVE)
    assert run_module("compute_backend_service", **OPTIONS)["changed"]


@pytest.mark.parametrize("refused", [True, False])
def test_removes_a_custom_client_with_the_other_empty_value(google, run_module, refused):
    google.expect("GET", URL, {**LIVE, "iap": CUSTOM_LIVE})
    if refused:
        google.expect("PATCH", URL, google.old_error(400, "invalid", "Both must be specified"))
    else:
        google.expect("PATCH", URL, DONE).expect("GET", URL, {**LIVE, "iap": CUSTOM_LIVE})
    blank = {"enabled": True, "oauth2ClientId": "", "oauth2ClientSecret": ""}
    google.expect("PATCH", URL, DONE, body={"iap": blank, "fingerprint": "abc="}).expect("GET", URL, LIVE)
    assert run_module("compute_backend_service", **OPTIONS)["changed"]


def test_fails_when_google_keeps_a_custom_client(google, run_module):
    google.expect("GET", URL, {**LIVE, "iap": CUSTOM_LIVE})
    for _blank in range(2):
        google.expect("PATCH", URL, DONE).expect("GET", URL, {**LIVE, "iap": CUSTOM_LIVE})
    with pytest.raises(
        Exception,
        match=r"^Cannot update backend service mlflow-lb of .*: Google keeps its OAuth client 1-a\S+ \(although it was removed\)",
    ):
        run_module("compute_backend_service", **OPTIONS)


def test_undeclared_iap_is_left_unchanged(google, run_module):
    google.expect("GET", URL, {**LIVE, "iap": CUSTOM_LIVE})
    assert not run_module("compute_backend_service", name="mlflow-lb", groups=[NEG])["changed"]


def test_a_concurrent_change(google, run_module):
    google.expect("GET", URL, {**LIVE, "protocol": "HTTP"}).expect(
        "PATCH", URL, google.old_error(412, "conditionNotMet", "Invalid fingerprint.")
    )
    google.expect("GET", URL, {**LIVE, "protocol": "HTTP", "fingerprint": "new="}).expect(
        "PATCH", URL, DONE, body={"protocol": "HTTPS", "fingerprint": "new="}
    )
    google.expect("GET", URL, LIVE)
    assert run_module("compute_backend_service", **OPTIONS)["changed"]


def test_security_policy_is_set_by_its_own_method(google, run_module):
    link = f"{LINKS}/global/securityPolicies/armor"
    google.expect("GET", URL, LIVE).expect("POST", f"{URL}/setSecurityPolicy", DONE, body={"securityPolicy": link})
    google.expect("GET", URL, {**LIVE, "securityPolicy": link})
    assert run_module("compute_backend_service", security_policy="armor", **OPTIONS)["changed"]
    google.expect("GET", URL, {**LIVE, "securityPolicy": link})
    assert not run_module("compute_backend_service", security_policy="armor", **OPTIONS)["changed"]
    google.expect("GET", URL, {**LIVE, "securityPolicy": link}).expect(
        "POST", f"{URL}/setSecurityPolicy", DONE, body={}
    ).expect("GET", URL, LIVE)
    assert run_module("compute_backend_service", security_policy="", **OPTIONS)["changed"]


def test_creates_with_a_security_policy(google, run_module):
    google.expect("GET", URL, google.old_error(404, "notFound", "not found")).expect("POST", ALL, DONE, body=SENT)
    google.expect("POST", f"{URL}/setSecurityPolicy", DONE).expect("GET", URL, LIVE)
    assert run_module("compute_backend_service", security_policy="armor", **OPTIONS)["changed"]


def test_scheme_cannot_be_changed(google, run_module):
    google.expect("GET", URL, {**LIVE, "loadBalancingScheme": "EXTERNAL"})
    with pytest.raises(
        Exception,
        match="loadBalancingScheme is 'EXTERNAL' and cannot be changed to 'EXTERNAL_MANAGED'; create a backend service",
    ):
        run_module("compute_backend_service", **OPTIONS)


def test_deletes(google, run_module):
    google.expect("GET", URL, LIVE).expect("DELETE", URL, DONE)
    assert run_module("compute_backend_service", name="mlflow-lb", state="absent")["changed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"iap": {"enabled": True, "oauth2_client_id": "1-a"}},
            "option iap: oauth2_client_id requires oauth2_client_secret; give both or neither",
        ),
        (
            {"iap": {"enabled": True, "oauth2_client_secret": SECRET}},
            "option iap: oauth2_client_secret requires oauth2_client_id",
        ),
        (
            {"iap": {**CUSTOM, "oauth2_client": "x"}},
            "option iap.oauth2_client: 'x' is not allowed; give either this or",
        ),
        (
            {"iap": {"enabled": True, "oauth2_client": "x"}},
            "a name such as projects/N/brands/N/identityAwareProxyClients/ID",
        ),
        ({"log_sample_rate": 2}, "option log_sample_rate: 2.0 is not allowed; give 0 to 1"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception, match=message):
        run_module("compute_backend_service", **{**OPTIONS, **options})
    assert not google.sent


def test_only_the_given_security_policy_is_detached(google, run_module):
    policies = f"{LINKS}/global/securityPolicies"
    google.expect("GET", URL, {**LIVE, "securityPolicy": f"{policies}/theirs"})
    assert not run_module("compute_backend_service", detach_security_policy="ours", **OPTIONS)["changed"]
    google.expect("GET", URL, {**LIVE, "securityPolicy": f"{policies}/ours"})
    google.expect("POST", f"{URL}/setSecurityPolicy", DONE, body={}).expect("GET", URL, LIVE)
    assert run_module("compute_backend_service", detach_security_policy="ours", **OPTIONS)["changed"]
