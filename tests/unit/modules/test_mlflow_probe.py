# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mlflow_probe, with an MLflow behind IAP in which each response can be replaced."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import re

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

URL = "https://mlflow.example.com"
LOGGER = "mlflow-logger@demo.iam.gserviceaccount.com"
CALLER = "deployer@demo.iam.gserviceaccount.com"
OPTIONS = {"url": URL, "service_account": LOGGER, "bucket": "gs://artifacts", "artifact_size": 1000, "timeout": 60}
IAP = {"x-goog-iap-generated-response": "true"}
PATHS = ["1a", "1b", "1c", "1d", "2a", "2b", "2c", "2d"]
WRITES = [
    "experiments/create",
    "runs/create",
    "runs/log-batch",
    "runs/update",
    "registered-models/create",
    "model-versions/create",
]
DELETES = ["model-versions/delete", "registered-models/delete", "probe.bin", "runs/delete", "experiments/delete"]


@pytest.fixture(scope="module")
def key():
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.private_bytes(*encoding).decode()


@pytest.fixture
def caller(key):
    """Options of a caller that has a service account's key."""
    contents = {
        "type": "service_account",
        "client_email": CALLER,
        "private_key": key,
        "private_key_id": "k",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return {"project": "demo", "auth_kind": "serviceaccount", "service_account_contents": json.dumps(contents)}


def claims_of(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


class Mlflow:
    """MLflow with IAP, the storage API and IAM."""

    def __init__(self, google):
        self.google = google
        self.replaced = []
        self.seen = []
        self.tokens = []
        self.objects = {}
        self.batch = {}
        self.name = None
        self.may_enter = {LOGGER}

    def replace(self, pattern, outcome, times=None):
        """Requests that match PATTERN return OUTCOME, which may be an exception; always, or only TIMES times."""
        self.replaced.append([pattern, outcome, times])

    def answer(self, request):
        line = f"{request.method} {request.url}"
        self.seen.append(line)
        for entry in self.replaced:
            pattern, outcome, times = entry
            if re.search(pattern, line) and times != 0:
                entry[2] = None if times is None else times - 1
                if isinstance(outcome, Exception):
                    raise outcome
                return self.google.answer(*outcome)
        if request.url.startswith(URL):
            return self.front(request)
        if request.url == "https://oauth2.googleapis.com/token":
            return {"access_token": "ya29.x", "expires_in": 3600}
        if request.url.endswith(f"serviceAccounts/{LOGGER}:signJwt"):
            payload = request.body["payload"]
            return {"signedJwt": "e30." + base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=") + ".sig"}
        name = request.url.partition("/o/")[2].replace("%2F", "/")
        if name not in self.objects:
            return self.google.old_error(404, "notFound", "No such object")
        md5 = base64.b64encode(hashlib.md5(self.objects[name]).digest()).decode()
        return {"name": name, "size": str(len(self.objects[name])), "md5Hash": md5}

    def front(self, request):
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return self.google.answer(302, b"", {"Location": "https://accounts.google.com/o/oauth2/v2/auth?x=y", **IAP})
        claims = claims_of(token)
        self.tokens.append(claims)
        if claims["iss"] not in self.may_enter:
            return self.google.answer(403, b"<h1>You don't have access</h1>", IAP)
        path = request.url.removeprefix(URL)
        if path in ("/version", "/health"):
            return self.google.answer(200, b"3.17.2")
        if path.startswith("/api/2.0/mlflow-artifacts/artifacts/"):
            name = path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/")
            if request.method == "PUT":
                self.objects[name] = request.content
            return self.google.answer(200, b"{}" if request.method != "GET" else self.objects[name])
        return self.api(path.removeprefix("/api/2.0/mlflow/"), request)

    def api(self, call, request):
        version = {"model_version": {"version": "1", "run_id": "r", "status": "READY"}}
        if call == "experiments/create":
            self.name = request.body["name"]
        if call == "runs/log-batch":
            self.batch = request.body
        metrics = self.batch.get("metrics", [])
        info = {"run_id": "r", "artifact_uri": "mlflow-artifacts:/7/r/artifacts", "status": "FINISHED"}
        data = {"params": self.batch.get("params"), "tags": self.batch.get("tags"), "metrics": metrics[-1:]}
        return {
            "experiments/create": {"experiment_id": "7"},
            "runs/create": {"run": {"info": info}},
            "model-versions/create": version,
            "experiments/get-by-name": {"experiment": {"experiment_id": "7"}},
            "runs/get": {"run": {"info": info, "data": data}},
            # int64 comes as text, and zero not at all.
            "metrics/get-history": {
                "metrics": [{k: str(v) if k == "timestamp" else v for k, v in m.items() if v != 0} for m in metrics]
            },
            "runs/search": {"runs": [{"info": info}]},
            "model-versions/get": version,
            "artifacts/list": {
                "files": [{"path": "probe.bin", "file_size": str(len(x))} for x in self.objects.values()]
            },
        }.get(call, {})

    def deleted(self):
        return [
            call
            for call in DELETES
            if any(re.search(r"POST .*/delete$|DELETE ", line) and call in line for line in self.seen)
        ]


@pytest.fixture
def mlflow(google, clock, monkeypatch):
    play, mlflow = google.send, Mlflow(google)

    def send(adapter, prepared, **more):
        url = prepared.url.partition("?")[0]
        google.expect(prepared.method, url, mlflow.answer)
        return play(adapter, prepared, **more)

    monkeypatch.setattr(google, "send", send)
    for name in ("front_door", "probe"):
        monkeypatch.setattr(
            importlib.import_module(f"ansible_collections.mlops.mlflow_gcp.plugins.module_utils.{name}"), "time", clock
        )
    return mlflow


def failure(run_module, caller, **options):
    with pytest.raises(Exception) as failed:
        run_module("mlflow_probe", auth=caller, **{**OPTIONS, **options})
    return failed.value.result


def test_everything_works(mlflow, run_module, caller):
    result = run_module("mlflow_probe", auth=caller, **OPTIONS)
    assert (result["changed"], result["left"], result["server_version"]) == (False, [], "3.17.2")
    assert list(result["paths"]) == PATHS and all(path["ok"] for path in result["paths"].values())
    assert list(result["iap"]) == ["anonymous", "denied_account"] and all(
        check["ok"] for check in result["iap"].values()
    )
    assert result["experiment"] == mlflow.name and re.fullmatch(r"mlflow-probe-\d{8}T\d{6}-[0-9a-f]{6}", mlflow.name)
    assert mlflow.deleted() == DELETES
    assert list(mlflow.objects) == ["7/r/artifacts/probe.bin"]


def test_the_accounts_sign_in_with_a_jwt(mlflow, run_module, caller):
    run_module("mlflow_probe", auth=caller, **OPTIONS)
    assert {claims["iss"] for claims in mlflow.tokens} == {CALLER, LOGGER}
    for claims in mlflow.tokens:
        assert claims["sub"] == claims["iss"] and claims["aud"] == f"{URL}/*" and claims["exp"] - claims["iat"] == 3600
    signed = [line for line in mlflow.seen if line.endswith(":signJwt")]
    assert signed == [f"POST https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{LOGGER}:signJwt"]


def test_check_mode_writes_nothing(google, mlflow, run_module, caller):
    result = run_module("mlflow_probe", auth=caller, check=True, **OPTIONS)
    assert (result["changed"], result["paths"], list(result["iap"])) == (False, {}, ["anonymous", "denied_account"])
    assert not any(request.url.startswith(URL) for request in google.writes)


def test_keep(mlflow, run_module, caller):
    assert run_module("mlflow_probe", auth=caller, keep=True, **OPTIONS)["changed"]
    assert mlflow.deleted() == []


def answer(status, text, headers=None):
    """A response for Mlflow.replace."""
    return status, text if isinstance(text, dict) else text.encode(), headers


DOWN = {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "connection to server at 10.0.0.3 failed: timeout expired"}
BREAKAGES = {
    "no IAP": (
        r"GET .*com/$",
        (200, "<title>MLflow</title>"),
        r"^IAP, request without a token: GET .*/ returned 200\. IAP must redirect to accounts",
    ),
    "no sign-in": (
        r"GET .*com/$",
        (403, "Forbidden"),
        r"^IAP, request without a token: GET .*/ returned 403: Forbidden\.",
    ),
    "invoker": (
        r"/version$",
        (403, "<title>403 Forbidden</title>Your client does not have permission to get URL /version from this server."),
        r"returned 403: .*does not have permission.* Cloud Run or IAP denied access: .*roles/run.invoker",
    ),
    "no NEG": (
        r"/health$",
        (502, "Server Error"),
        r"^1a client -> server .*: GET .*/health returned 502: Server Error\. The response is from the load balancer",
    ),
    "agent": (
        r"/health$",
        (500, "The IAP service account is not provisioned."),
        r"^1a .*returned 500: The IAP service account is not provisioned\.$",
    ),
    "hosts": (
        "experiments/search",
        (403, "Invalid Host header - possible DNS rebinding attack detected"),
        r"^1a .*returned 403: Invalid Host header.*\. MLFLOW_SERVER_ALLOWED_HOSTS",
    ),
    "no database": (
        "experiments/search",
        (503, DOWN),
        r"^1b server -> database: GET .*experiments/search returned 503: TEMPORARILY_UNAVAILABLE: connection to",
    ),
    "database hangs": (
        "experiments/search",
        requests.exceptions.ReadTimeout("x"),
        r"^1b server -> database: GET .*experiments/search received no response in time",
    ),
    "no values": (
        "runs/log-batch",
        (500, "Internal Server Error"),
        r"^1b server -> database: POST .*runs/log-batch returned 500: Internal Server Error\. MLflow",
    ),
    "values lost": (
        "metrics/get-history",
        (200, {"metrics": []}),
        r"^1d database -> server: GET .*get-history returned \[\]\. \[\['loss', 1.5",
    ),
    "search": ("runs/search", (200, {}), r"^1d database -> server: GET .*runs/search returned \[\]"),
    "read": ("runs/get$", (502, "Bad Gateway"), r"^1c server -> client .*runs/get returned 502: Bad Gateway"),
    "no proxy for artifacts": (
        "runs/create",
        (200, {"run": {"info": {"run_id": "r", "artifact_uri": "gs://artifacts/7/r/artifacts"}}}),
        r"^2a client -> server .* returned artifact_uri 'gs://artifacts/7/r/artifacts'\. The server must proxy artifacts",
    ),
    "too big": (
        r"PUT",
        (413, "Error: Request Entity Too Large"),
        r"^2a client -> server \(artifacts\): PUT .*probe.bin returned 413: Error: Request Entity",
    ),
    "bucket role": (
        r"PUT",
        (500, "Internal Server Error"),
        r"^2b server -> bucket: PUT .*probe.bin returned 500: .*lacks roles/storage.objectUser on bucket artifacts",
    ),
    "other bucket": (
        r"storage/v1",
        (404, {"error": {"code": 404, "message": "x"}}),
        r"^2b server -> bucket: GET gs://artifacts/7/r/artifacts/probe.bin found no object",
    ),
    "other object": (
        r"storage/v1",
        (200, {"size": "1000", "md5Hash": "x"}),
        r"^2b server -> bucket: .* returned 1000 bytes, MD5 x\. 1000 bytes",
    ),
    "unknown object": (
        r"storage/v1",
        (400, {"error": {"code": 400, "message": "Invalid bucket name"}}),
        r"^2b .* returned 400: Invalid bucket name",
    ),
    "listing": (
        "artifacts/list",
        (500, "Internal Server Error"),
        r"^2d bucket -> server: GET .*artifacts/list returned 500",
    ),
    "not listed": ("artifacts/list", (200, {}), r"^2d bucket -> server: GET .*artifacts/list returned \{\}"),
    "other bytes": (
        r"GET https://mlflow.*probe.bin",
        (200, "other"),
        r"^2c server -> client \(artifacts\): GET .*probe.bin returned 5 bytes that differ from the 1000 sent",
    ),
    "sign": (
        ":signJwt",
        (403, {"error": {"code": 403, "message": "Permission 'iam.serviceAccounts.signJwt' denied"}}),
        rf"^serviceAccount:{CALLER} may not sign in as {LOGGER} \(iam.serviceAccounts.signJwt is denied\): Permission "
        rf"'.*' denied. Add serviceAccount:{CALLER} to mlflow_logger_token_creators",
    ),
}


@pytest.mark.parametrize(("pattern", "outcome", "message"), BREAKAGES.values(), ids=BREAKAGES)
def test_failure_names_the_path(mlflow, run_module, caller, pattern, outcome, message):
    headers = IAP if "IAP service account" in str(outcome) else None
    mlflow.replace(pattern, outcome if isinstance(outcome, Exception) else answer(*outcome, headers))
    result = failure(run_module, caller)
    assert re.search(message, result["msg"]), result["msg"]
    path = result["msg"][:2]
    if path in result["paths"]:
        assert not result["paths"][path]["ok"]
    made = [call for call in WRITES if any(call in line for line in mlflow.seen)]
    assert bool(made) == bool(mlflow.deleted())
    assert result["left"] == []


def test_an_account_without_access_gets_in(mlflow, run_module, caller):
    mlflow.may_enter.add(CALLER)
    message = failure(run_module, caller)["msg"]
    assert re.search(
        rf"^IAP, request from an account without access: GET .* returned 200\. {CALLER} must be denied with 403",
        message,
    )


def test_without_permission_to_read_objects_there_is_a_warning(mlflow, run_module, caller):
    mlflow.replace("storage/v1", answer(403, {"error": {"code": 403, "message": "no storage.objects.get access"}}))
    result = run_module("mlflow_probe", auth=caller, **OPTIONS)
    assert list(result["paths"]) == PATHS and all(path["ok"] for path in result["paths"].values())
    (warning,) = [text for text in map(str, result["warnings"]) if "Did not look at the object" in text]
    assert "roles/storage.objectViewer" in warning


def test_waits_for_a_new_grant(mlflow, run_module, caller, clock):
    refused = answer(403, "You don't have access", IAP)
    mlflow.replace(
        ":signJwt", answer(403, {"error": {"code": 403, "message": "denied", "status": "PERMISSION_DENIED"}}), times=2
    )
    mlflow.replace("/health$", refused, times=2)
    mlflow.replace("runs/log-batch", refused, times=1)
    mlflow.replace("PUT", answer(500, "Internal Server Error"), times=1)
    assert all(path["ok"] for path in run_module("mlflow_probe", auth=caller, **OPTIONS)["paths"].values())
    assert len(clock.slept) == 6


def test_waits_for_the_load_balancer(mlflow, run_module, caller):
    mlflow.replace(r"GET .*com/$", answer(404, "Not Found"), times=1)
    mlflow.replace("/health$", requests.exceptions.SSLError("handshake failure"), times=1)
    run_module("mlflow_probe", auth=caller, **OPTIONS)


@pytest.mark.parametrize(
    ("pattern", "outcome"),
    [
        ("/health$", answer(401, "Invalid IAP credentials: JWT audience doesn't match this application", IAP)),
        ("/health$", requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")),
        ("/health$", requests.exceptions.ConnectionError("Failed to resolve 'mlflow.example.com'")),
        ("runs/log-batch", answer(502, "Bad Gateway")),
        ("runs/create", requests.exceptions.ConnectionError("reset")),
        ("experiments/search", answer(500, "Internal Server Error")),
    ],
)
def test_does_not_wait_for_permanent_failures(mlflow, run_module, caller, clock, pattern, outcome):
    mlflow.replace(pattern, outcome)
    failure(run_module, caller)
    assert clock.slept == []
    assert len([line for line in mlflow.seen if re.search(pattern, line)]) == 1


def test_a_lost_response_leaves_no_experiment(mlflow, run_module, caller):
    mlflow.replace("experiments/create", requests.exceptions.ReadTimeout("x"))
    assert failure(run_module, caller)["msg"].startswith("1b server -> database: POST")
    assert mlflow.deleted() == ["experiments/delete"]


def test_what_was_never_created_is_not_a_leftover(mlflow, run_module, caller):
    mlflow.replace("registered-models/create", answer(500, "Internal Server Error"))
    mlflow.replace(
        "registered-models/delete", answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such model"})
    )
    assert failure(run_module, caller)["left"] == []


def test_leftovers_are_reported(mlflow, run_module, caller):
    mlflow.replace("DELETE .*probe.bin", answer(500, "Internal Server Error"))
    result = failure(run_module, caller)
    assert re.search(
        "^Everything works, but the cleanup is incomplete: artifact /7/r/artifacts/probe.bin was not deleted: cleanup: DELETE",
        result["msg"],
    )
    assert all(path["ok"] for path in result["paths"].values())
    assert mlflow.deleted() == DELETES


@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, "the caller is not a service account"), ({"denied_service_account": LOGGER}, None)],
)
def test_denied_account_of_a_caller_without_service_account(mlflow, run_module, options, reason):
    if reason:
        result = run_module("mlflow_probe", **OPTIONS, **options)
        assert list(result["iap"]) == ["anonymous"] and reason in str(result["warnings"])
    else:
        with pytest.raises(Exception, match=f"{LOGGER} must be denied with 403"):
            run_module("mlflow_probe", **OPTIONS, **options)


def test_caller_is_the_account_with_access(mlflow, run_module, caller):
    mlflow.may_enter.add(CALLER)
    result = run_module("mlflow_probe", auth=caller, **{**OPTIONS, "service_account": CALLER})
    assert "the caller is the account that has access" in str(result["warnings"])
    assert not any(line.endswith(":signJwt") for line in mlflow.seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "http://mlflow.example.com"}, "^option url: 'http://mlflow.example.com' is not allowed"),
        ({"url": f"{URL}/#/experiments"}, "https:// and the domain only"),
        ({"service_account": f"serviceAccount:{LOGGER}"}, "^option service_account: .* without a prefix"),
        ({"artifact_size": 0}, "^option artifact_size: 0 is not allowed"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception, match=message):
        run_module("mlflow_probe", **{**OPTIONS, **options})
    assert not google.sent
