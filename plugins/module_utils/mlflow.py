# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow over REST, through Identity-Aware Proxy: a client and the probe of the eight data paths.

API: https://mlflow.org/docs/latest/api_reference/rest-api.html and
https://cloud.google.com/iap/docs/authentication-howto (service account JWT).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import posixpath
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError, one_line, parse

try:
    import requests
except ImportError:  # the engine reports the missing library
    requests = None

PATHS = {
    "1a": "client -> server (parameters, metrics, tags)",
    "1b": "server -> database",
    "1c": "server -> client (parameters, metrics, tags)",
    "1d": "database -> server",
    "2a": "client -> server (artifacts)",
    "2b": "server -> bucket",
    "2c": "server -> client (artifacts)",
    "2d": "bucket -> server",
}
IAP_CHECKS = {
    "anonymous": "IAP, request without a token",
    "stranger": "IAP, request of an account without access",
}
TOKEN_SECONDS = 3600
_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_PAUSE_MAX = 10.0
# Grants do not cure these, so a 401 that says one of them is final.
_FINAL_401 = ("audience", "expired", "parse")


class ProbeError(GcpError):
    """A data path that does not work. ``path`` is a key of PATHS or IAP_CHECKS, or ``cleanup``."""

    def __init__(self, path: str, request: str, answer: str, hint: str = "") -> None:
        what = f"{path} {PATHS[path]}" if path in PATHS else IAP_CHECKS.get(path, path)
        text = f"{what}: {request} {answer}".rstrip(". ") + "."
        super().__init__(f"{text} {hint}" if hint else text)
        self.path = path


@dataclass
class Answer:
    """What came back: from MLflow itself (``by_server``) or from something in front of it."""

    status: int
    reason: str
    by_server: bool
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The body as an object; empty when it is something else."""
        try:
            body = json.loads(self.content)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    def __str__(self) -> str:
        return f"answered {self.status}: {self.reason}" if self.reason else f"answered {self.status}"


def iap_claims(email: str, url: str, now: float) -> dict[str, Any]:
    """Claims of the JWT with which service account ``email`` signs in at ``url``, valid for an hour from ``now``."""
    return {"iss": email, "sub": email, "aud": f"{url}/*", "iat": int(now), "exp": int(now) + TOKEN_SECONDS}


def reason_of(content: bytes) -> str:
    """The reason that an error body gives: MLflow's JSON, Google's JSON, or the text of a page."""
    text = content.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict) and "error_code" in body:
        text = f"{body['error_code']}: {body.get('message', '')}"
    elif isinstance(body, dict) and "detail" in body:
        text = str(body["detail"])
    else:
        text = parse(text)[1]
    return one_line(text)[:300]


def read_answer(response: Any) -> Answer:
    """Turn a response into an Answer, telling MLflow's own answers from those of IAP, load balancer and Cloud Run."""
    status, content = response.status_code, response.content
    reason = "" if 200 <= status < 300 else reason_of(content)
    try:
        body = json.loads(content) if not 200 <= status < 300 else None
    except ValueError:
        body = None
    by_iap = "x-goog-iap-generated-response" in response.headers
    by_server = (
        200 <= status < 300
        or isinstance(body, dict)
        and ("error_code" in body or "detail" in body)
        # MLflow answers an exception of its own with a bare page; of Google's front only IAP says 500, and says that it was IAP.
        or status == 500
        and not by_iap
        or "DNS rebinding" in reason
        or "Cross-origin" in reason
    )
    return Answer(status, reason, by_server, {k.lower(): v for k, v in response.headers.items()}, content)


class Door:
    """HTTP to one deployment through its front door.

    ``sign`` makes the JWT of an e-mail address; ``timeout`` seconds are all the time that is spent on waiting for
    grants and load balancer changes to spread.
    """

    def __init__(self, url: str, sign: Callable[[str], str], timeout: float) -> None:
        self.url = url.rstrip("/")
        self._sign = sign
        self._tokens: dict[str, tuple[float, str]] = {}
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "mlops.mlflow_gcp"
        self.deadline = time.monotonic() + timeout

    @property
    def time_left(self) -> float:
        """Seconds until the deadline, 0 after it."""
        return max(0.0, self.deadline - time.monotonic())

    def _token(self, email: str) -> str:
        """The JWT of ``email``, made again five minutes before it expires."""
        until, token = self._tokens.get(email, (0.0, ""))
        if time.monotonic() >= until:
            token = self._sign(email)
            self._tokens[email] = (time.monotonic() + TOKEN_SECONDS - 300, token)
        return token

    def send(self, method: str, path: str, email: str | None = None, **kwargs: Any) -> Answer:
        """Send once. Raises requests' exceptions."""
        token = self._token(email) if email else None

        def auth(request: Any) -> Any:
            # Given even without a token: requests would otherwise look for one in ~/.netrc.
            if token:
                request.headers["Authorization"] = f"Bearer {token}"
            return request

        kwargs.setdefault("timeout", (10, 60))
        return read_answer(self._session.request(method, self.url + path, auth=auth, allow_redirects=False, **kwargs))

    def until(self, attempt: Callable[[], Answer | Exception], again: Callable[[Any], bool]) -> Answer | Exception:
        """Repeat ``attempt`` while ``again`` says that its outcome may pass, as long as there is time."""
        pause = 1.0
        while True:
            outcome = attempt()
            if not again(outcome) or pause > self.time_left:
                return outcome
            time.sleep(pause)
            pause = min(pause * 2, _PAUSE_MAX)

    def attempt(self, method: str, path: str, email: str | None = None, **kwargs: Any) -> Answer | Exception:
        """Send once; a network error is returned, not raised."""
        try:
            return self.send(method, path, email, **kwargs)
        except requests.exceptions.RequestException as error:
            return error


def spreading(outcome: Answer | Exception, idempotent: bool, bucket: bool = False) -> bool:
    """Whether a grant or a load balancer change that has not reached every place yet explains the outcome.

    Refusals of IAP and Cloud Run never reached MLflow, so they are repeated for any method; everything else only when
    the request is ``idempotent``. ``bucket``: the request makes the server use the bucket, whose refusals are 500s.
    """
    if isinstance(outcome, Exception):
        text = str(outcome)
        # SSLError and ConnectTimeout are among the ConnectionErrors: a new load balancer answers so for its first minutes.
        passing = isinstance(outcome, requests.exceptions.ConnectionError) and not isinstance(
            outcome, requests.exceptions.ProxyError
        )
        final = any(word in text for word in ("CERTIFICATE_VERIFY_FAILED", "resolve", "Name or service"))
        return idempotent and passing and not final
    if outcome.by_server:
        return bucket and idempotent and outcome.status == 500
    if outcome.status == 403:
        return True
    if outcome.status == 401:
        return not any(word in outcome.reason.lower() for word in _FINAL_401)
    return idempotent and outcome.status in (404, 429, 502, 503, 504)


def network_reason(error: Exception) -> str:
    """One line for an exception of requests, without its object addresses."""
    if isinstance(error, requests.exceptions.ReadTimeout):
        return "got no answer in time"
    return f"failed: {one_line(re.sub(r'<[^>]* object at 0x[0-9a-f]+>:? ?', '', str(error)))[:300]}"


def door_hint(outcome: Answer | Exception) -> str:
    """What to do about an answer that MLflow did not give."""
    if isinstance(outcome, Exception):
        if isinstance(outcome, requests.exceptions.ReadTimeout):
            return ""
        if isinstance(outcome, requests.exceptions.SSLError):
            return (
                "The managed certificate may not be ACTIVE yet: the domain must resolve to the load balancer's address."
            )
        return "Does the domain resolve to the load balancer's address?"
    if "DNS rebinding" in outcome.reason:
        return "MLFLOW_SERVER_ALLOWED_HOSTS of the Cloud Run service must name the domain."
    if outcome.status in (301, 302, 303, 307, 308):
        return "The token was not taken for one: is IAP set up for service account JWTs here?"
    if outcome.status == 401:
        return "IAP does not accept the service account's JWT."
    if outcome.status == 403 and "x-goog-iap-generated-response" in outcome.headers:
        return "IAP refused it: the account needs roles/iap.httpsResourceAccessor on the backend service."
    if outcome.status == 403:
        return (
            "Cloud Run refused it, if not IAP: the IAP service agent needs roles/run.invoker on the service, "
            "the account roles/iap.httpsResourceAccessor on the backend service."
        )
    if outcome.status in (404, 429, 502, 503, 504):
        return "The load balancer or Cloud Run gave this answer, not MLflow; module mlflow_doctor finds out why."
    return ""


class Probe:
    """Proves the eight data paths, keeps what it found in ``paths`` and ``iap``, and cleans up."""

    def __init__(
        self,
        door: Door,
        account: str,
        stranger: str | None,
        bucket: str,
        find_object: Callable[[str, str], dict[str, Any] | None],
        artifact_size: int,
        name: str,
    ) -> None:
        self.door, self.account, self.stranger = door, account, stranger
        self.bucket, _sep, self.prefix = bucket.removeprefix("gs://").partition("/")
        self.find_object = find_object
        self.artifact_size, self.name = artifact_size, name
        self.paths: dict[str, dict[str, Any]] = {}
        self.iap: dict[str, dict[str, Any]] = {}
        self.made: dict[str, str] = {}

    @contextmanager
    def _timed(self, book: dict[str, dict[str, Any]], *names: str) -> Iterator[None]:
        """Enter each of ``names`` in ``book`` as ok with the milliseconds that the block took, or as the one that failed."""
        texts = {**PATHS, **IAP_CHECKS}
        start = time.monotonic()
        try:
            yield
        except ProbeError as error:
            if error.path in texts:
                book[error.path] = {"ok": False, "what": texts[error.path], "error": str(error)}
            raise
        took = round((time.monotonic() - start) * 1000)
        for name in names:
            book[name] = {"ok": True, "ms": took, "what": texts[name]}

    def _fail(self, path: str, method: str, where: str, outcome: Answer | Exception, hint: str = "") -> NoReturn:
        told = network_reason(outcome) if isinstance(outcome, Exception) else str(outcome)
        raise ProbeError(path, f"{method} {self.door.url}{where}", told, hint or door_hint(outcome))

    def call(
        self, outer: str, inner: str, method: str, where: str, hint: str = "", bucket: bool = False, **kwargs: Any
    ) -> Answer:
        """Send as the logger account; a failure is of path ``outer`` in front of MLflow, of ``inner`` behind it."""
        idempotent = method in ("GET", "PUT", "DELETE")
        outcome = self.door.until(
            lambda: self.door.attempt(method, where, self.account, **kwargs),
            lambda seen: spreading(seen, idempotent, bucket),
        )
        if isinstance(outcome, Answer) and outcome.ok:
            return outcome
        behind = (
            outcome.by_server if isinstance(outcome, Answer) else isinstance(outcome, requests.exceptions.ReadTimeout)
        )
        if behind and isinstance(outcome, Answer) and outcome.status == 403:
            self._fail(outer, method, where, outcome)
        self._fail(inner if behind else outer, method, where, outcome, hint if behind else "")

    def check_iap(self) -> None:
        """A browser without a session is sent to sign in; an account without access gets 403."""
        with self._timed(self.iap, "anonymous"):

            def redirected(outcome: Any) -> bool:
                return (
                    isinstance(outcome, Answer)
                    and outcome.status in (302, 303, 307)
                    and urlsplit(outcome.headers.get("location", "")).hostname == "accounts.google.com"
                )

            outcome = self.door.until(
                # IAP redirects only clients that say they show pages; others get 401.
                lambda: self.door.attempt("GET", "/", headers={"Accept": "text/html,*/*"}),
                lambda seen: not redirected(seen) and (isinstance(seen, Answer) or spreading(seen, True)),
            )
            if not redirected(outcome):
                hint = (
                    door_hint(outcome)
                    if isinstance(outcome, Exception)
                    else ("It must be sent to accounts.google.com: is IAP enabled on the backend service?")
                )
                self._fail("anonymous", "GET", "/", outcome, hint)
        if self.stranger is None:
            return
        with self._timed(self.iap, "stranger"):

            def refused(outcome: Any) -> bool:
                return isinstance(outcome, Answer) and outcome.status == 403 and not outcome.by_server

            outcome = self.door.until(
                lambda: self.door.attempt("GET", "/version", self.stranger),
                lambda seen: (
                    not refused(seen)
                    and (
                        spreading(seen, True) or isinstance(seen, Answer) and seen.ok  # a removed grant lingers as well
                    )
                ),
            )
            if not refused(outcome):
                hint = ""
                if isinstance(outcome, Answer) and outcome.ok:
                    hint = f"{self.stranger} must be refused with 403: it holds roles/iap.httpsResourceAccessor (then name another stranger), or IAP is off."
                self._fail("stranger", "GET", "/version", outcome, hint)

    def check_server(self) -> str:
        """The server's version; nothing but the front door and the process is needed for this answer."""
        # Cloud Run may have to start an instance first.
        answer = self.call("1a", "1a", "GET", "/version", timeout=(10, max(60, self.door.time_left)))
        self.call("1a", "1a", "GET", "/health")
        return one_line(answer.content.decode("utf-8", "replace"))[:40]

    def run(self) -> None:
        """Write, read back and compare. Raises ProbeError at the first path that does not work."""
        now = int(time.time() * 1000)
        params = {"learning_rate": "0.1", "comment": "Gr\u00fc\u00dfe, \u6771\u4eac & 'quotes' \"100%\""}
        tags = {"probe": self.name}
        history = [
            {"key": "loss", "value": value, "timestamp": now + step, "step": step}
            for step, value in enumerate((1.5, 1 / 3, -2e-300))
        ]
        with self._timed(self.paths, "1a", "1b"):
            artifact_root = self._write(now, params, tags, history)
        with self._timed(self.paths, "1c", "1d"):
            self._read(params, tags, history)
        data = os.urandom(self.artifact_size)
        self.made["artifact"] = where = posixpath.join(_ARTIFACTS, artifact_root, "probe.bin")
        with self._timed(self.paths, "2a", "2b"):
            self._upload(where, data, posixpath.join(self.prefix, artifact_root, "probe.bin"))
        with self._timed(self.paths, "2c", "2d"):
            self._download(where, data)

    def _write(self, now: int, params: dict[str, str], tags: dict[str, str], history: list[dict[str, Any]]) -> str:
        """Experiment, run, its values, model and version. Returns the run's artifact folder below the destination."""
        hint = "MLflow reached its limits behind the front door: the log of the Cloud Run service has the reason (database address, VPC egress, peering, password)."

        def post(what: str, body: dict[str, Any]) -> dict[str, Any]:
            return self.call("1a", "1b", "POST", f"{_API}/{what}", hint, json=body).json()

        # A search first: it needs the database, changes nothing, and so may be repeated.
        self.call("1a", "1b", "GET", f"{_API}/experiments/search", hint, params={"max_results": 1})
        self.made["experiment"] = ""  # its answer may be lost
        self.made["experiment"] = self._field(
            post("experiments/create", {"name": self.name}), "experiment_id", "experiments/create"
        )
        created = post(
            "runs/create", {"experiment_id": self.made["experiment"], "start_time": now, "run_name": self.name}
        )
        info = self._field(created, "run", "runs/create").get("info", {})
        run_id = self.made["run"] = self._field(info, "run_id", "runs/create")
        post(
            "runs/log-batch",
            {
                "run_id": run_id,
                "params": [{"key": k, "value": v} for k, v in params.items()],
                "tags": [{"key": k, "value": v} for k, v in tags.items()],
                "metrics": history,
            },
        )
        post("runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": now + len(history)})
        self.made["model"] = self.name
        post("registered-models/create", {"name": self.name})
        version = post(
            "model-versions/create", {"name": self.name, "source": f"runs:/{run_id}/model", "run_id": run_id}
        )
        self.made["version"] = str(
            self._field(
                self._field(version, "model_version", "model-versions/create"), "version", "model-versions/create"
            )
        )
        root = str(info.get("artifact_uri", ""))
        if urlsplit(root).scheme != "mlflow-artifacts":
            raise ProbeError(
                "2a",
                f"POST {self.door.url}{_API}/runs/create",
                f"gave artifact_uri {root!r}",
                "The server must proxy artifacts (--serve-artifacts --artifacts-destination gs://...).",
            )
        return urlsplit(root).path.strip("/")

    def _field(self, body: dict[str, Any], name: str, what: str) -> Any:
        if not body.get(name):
            raise ProbeError("1b", f"POST {self.door.url}{_API}/{what}", f"answered without {name}")
        return body[name]

    def _read(self, params: dict[str, str], tags: dict[str, str], history: list[dict[str, Any]]) -> None:
        """What the database holds, asked for by key and by a search that the database evaluates."""
        run_id = self.made["run"]

        def get(what: str, **query: Any) -> dict[str, Any]:
            return self.call("1c", "1d", "GET", f"{_API}/{what}", params=query).json()

        def same(what: str, found: Any, wanted: Any) -> None:
            if found != wanted:
                raise ProbeError(
                    "1d", f"GET {self.door.url}{_API}/{what}", f"answered {found!r}", f"Written was {wanted!r}."
                )

        experiment = get("experiments/get-by-name", experiment_name=self.name).get("experiment", {})
        same("experiments/get-by-name", experiment.get("experiment_id"), self.made["experiment"])
        run = get("runs/get", run_id=run_id).get("run", {})
        data = run.get("data", {})
        same("runs/get", run.get("info", {}).get("status"), "FINISHED")
        same("runs/get", {p["key"]: p["value"] for p in data.get("params", [])}, params)
        found = {t["key"]: t["value"] for t in data.get("tags", [])}
        same("runs/get", {k: found.get(k) for k in tags}, tags)
        same("runs/get", [m["value"] for m in data.get("metrics", []) if m["key"] == "loss"], [history[-1]["value"]])
        points = get("metrics/get-history", run_id=run_id, metric_key="loss").get("metrics", [])
        keys = ("key", "value", "timestamp", "step")
        same(
            "metrics/get-history",
            sorted(([_number(p.get(k, 0)) for k in keys] for p in points), key=lambda p: p[3]),
            [[p[k] for k in keys] for p in history],
        )
        wanted = {
            "experiment_ids": [self.made["experiment"]],
            "filter": "params.learning_rate = '0.1' and metrics.loss < 0",
        }
        runs = self.call("1c", "1d", "POST", f"{_API}/runs/search", json=wanted).json().get("runs", [])
        same("runs/search", [r["info"]["run_id"] for r in runs], [run_id])
        version = get("model-versions/get", name=self.name, version=self.made["version"]).get("model_version", {})
        same("model-versions/get", (version.get("run_id"), version.get("status")), (run_id, "READY"))

    def _upload(self, where: str, data: bytes, name: str) -> None:
        hint = (
            "The log of the Cloud Run service has the reason; usually its service account lacks roles/storage.objectUser "
            f"on bucket {self.bucket}, or the bucket is not the server's artifacts destination."
        )
        self.call(
            "2a", "2b", "PUT", where, hint, bucket=True, data=data, headers={"Content-Type": "application/octet-stream"}
        )
        request = f"GET gs://{self.bucket}/{name}"
        found = self.find_object(self.bucket, name)
        if found is None:
            raise ProbeError(
                "2b",
                request,
                "found no object",
                f"The server wrote the artifact somewhere else than bucket {self.bucket}.",
            )
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        # A composed object carries no MD5.
        if str(found.get("size")) != str(len(data)) or found.get("md5Hash", md5) != md5:
            raise ProbeError(
                "2b",
                request,
                f"shows {found.get('size')} bytes, MD5 {found.get('md5Hash')}",
                f"Sent were {len(data)} bytes, MD5 {md5}.",
            )

    def _download(self, where: str, data: bytes) -> None:
        listed = self.call(
            "2c", "2d", "GET", f"{_API}/artifacts/list", bucket=True, params={"run_id": self.made["run"]}
        ).json()
        sizes = {f.get("path"): str(f.get("file_size")) for f in listed.get("files", [])}
        if sizes.get("probe.bin") != str(len(data)):
            raise ProbeError(
                "2d",
                f"GET {self.door.url}{_API}/artifacts/list",
                f"lists {sizes!r}",
                f"probe.bin has {len(data)} bytes.",
            )
        got = self.call("2c", "2d", "GET", where, bucket=True).content
        if got != data:
            raise ProbeError(
                "2c", f"GET {self.door.url}{where}", f"gave {len(got)} bytes that differ from the {len(data)} sent"
            )

    def clean_up(self) -> list[str]:
        """Delete what was made, in reverse; go on after failures. Returns one line for each thing left behind."""
        # Whatever the probe waited for, there is a moment for tidying up.
        self.door.deadline = max(self.door.deadline, time.monotonic() + 20)
        made, left = self.made, []
        if made.get("experiment") == "":
            try:
                found = self.call(
                    "cleanup",
                    "cleanup",
                    "GET",
                    f"{_API}/experiments/get-by-name",
                    params={"experiment_name": self.name},
                )
                made["experiment"] = found.json()["experiment"]["experiment_id"]
            except (GcpError, KeyError):
                del made["experiment"]

        def remove(what: str, method: str, where: str, **kwargs: Any) -> None:
            try:
                self.call("cleanup", "cleanup", method, where, **kwargs)
            except GcpError as error:
                # Never made, or gone: RESOURCE_DOES_NOT_EXIST is what cleaning up wants to see.
                if "RESOURCE_DOES_NOT_EXIST" not in str(error):
                    left.append(f"{what} is left: {error}")

        if "version" in made:
            remove(
                f"model version {made['model']}/{made['version']}",
                "DELETE",
                f"{_API}/model-versions/delete",
                json={"name": made["model"], "version": made["version"]},
            )
        if "model" in made:
            remove(
                f"registered model {made['model']}",
                "DELETE",
                f"{_API}/registered-models/delete",
                json={"name": made["model"]},
            )
        if "artifact" in made:
            remove(f"artifact {made['artifact'].removeprefix(_ARTIFACTS)}", "DELETE", made["artifact"])
        if "run" in made:
            remove(f"run {made['run']}", "POST", f"{_API}/runs/delete", json={"run_id": made["run"]})
        if "experiment" in made:
            remove(
                f"experiment {self.name}",
                "POST",
                f"{_API}/experiments/delete",
                json={"experiment_id": made["experiment"]},
            )
        return left


def _number(value: Any) -> Any:
    """protobuf's JSON gives int64 as text."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value) else value


def object_url(bucket: str, name: str) -> str:
    """Address of an object's metadata in the storage API."""
    return f"https://storage.googleapis.com/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
