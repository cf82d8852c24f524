# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe of the eight data paths between client, server, database and bucket, through Identity-Aware Proxy."""

from __future__ import annotations

import base64
import hashlib
import os
import posixpath
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError, one_line
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.front_door import (
    FrontDoor,
    Response,
    advice,
    describe,
    is_transient,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.mlflow_client import (
    API,
    ARTIFACTS,
    MlflowClient,
    RequestError,
)

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
    "denied_account": "IAP, request from an account without access",
}
CHECKS = PATHS | IAP_CHECKS


class Unreadable(GcpError):
    """The caller may not read the objects of the bucket."""


class ProbeError(GcpError):
    """A check failed. ``check`` is a key of CHECKS, or ``cleanup``."""

    def __init__(self, check: str, request: str, detail: str, hint: str = "") -> None:
        name = f"{check} {PATHS[check]}" if check in PATHS else IAP_CHECKS.get(check, check)
        text = f"{name}: {request} {detail}".rstrip(". ") + "."
        super().__init__(f"{text} {hint}" if hint else text)
        self.check = check


class Probe:
    """Checks Identity-Aware Proxy and the eight data paths, with results in ``iap`` and ``paths``, and cleans up."""

    def __init__(
        self,
        front_door: FrontDoor,
        account: str,
        denied_account: str | None,
        bucket: str,
        find_object: Callable[[str, str], dict[str, Any] | None],
        artifact_size: int,
        name: str,
        warn: Callable[[str], None],
    ) -> None:
        self.front_door, self.denied_account = front_door, denied_account
        self.client = MlflowClient(front_door, account)
        self.bucket, _slash, self.prefix = bucket.removeprefix("gs://").partition("/")
        self.find_object = find_object
        self.artifact_size, self.name, self.warn = artifact_size, name, warn
        self.paths: dict[str, dict[str, Any]] = {}
        self.iap: dict[str, dict[str, Any]] = {}
        self.created: dict[str, str] = {}

    @contextmanager
    def _timed(self, results: dict[str, dict[str, Any]], *checks: str) -> Iterator[None]:
        """Record CHECKS in RESULTS as successful with the milliseconds that the block took, or the one that failed."""
        start = time.monotonic()
        try:
            yield
        except ProbeError as error:
            if error.check in CHECKS:
                results[error.check] = {"ok": False, "what": CHECKS[error.check], "error": str(error)}
            raise
        duration = round((time.monotonic() - start) * 1000)
        for check in checks:
            results[check] = {"ok": True, "ms": duration, "what": CHECKS[check]}

    def _fail(self, check: str, path: str, outcome: Response | Exception, hint: str) -> NoReturn:
        raise ProbeError(check, f"GET {self.front_door.url}{path}", describe(outcome), hint)

    def call(self, outer: str, inner: str, method: str, path: str, hint: str = "", **kwargs: Any) -> Response:
        """Send a request; a failure in front of MLflow belongs to check ``outer``, one in MLflow to ``inner``."""
        try:
            return self.client.send(method, path, **kwargs)
        except RequestError as error:
            if error.in_server:
                raise ProbeError(inner, error.request, error.detail, hint or error.advice) from None
            raise ProbeError(outer, error.request, error.detail, error.advice) from None

    def check_iap(self) -> None:
        """A browser without a session is redirected to sign in; an account without access gets 403."""
        with self._timed(self.iap, "anonymous"):
            # IAP only redirects clients that accept HTML; others get 401.
            headers = {"Accept": "text/html,*/*"}
            outcome = self.front_door.send_until(
                lambda outcome: (
                    is_redirected(outcome) or isinstance(outcome, Exception) and not is_transient(outcome, True)
                ),
                "GET",
                "/",
                None,
                headers=headers,
            )
            if not is_redirected(outcome):
                hint = "IAP must redirect to accounts.google.com: is it enabled on the backend service?"
                self._fail("anonymous", "/", outcome, advice(outcome) if isinstance(outcome, Exception) else hint)
        if self.denied_account is None:
            return
        with self._timed(self.iap, "denied_account"):
            # A revoked grant takes time to propagate as well.
            outcome = self.front_door.send_until(
                lambda outcome: is_denied(outcome) or not (is_transient(outcome, True) or is_ok(outcome)),
                "GET",
                "/version",
                self.denied_account,
            )
            if not is_denied(outcome):
                hint = (
                    f"{self.denied_account} must be denied with 403: it has roles/iap.httpsResourceAccessor (then give "
                    "another denied_service_account), or IAP is disabled."
                )
                self._fail("denied_account", "/version", outcome, hint if is_ok(outcome) else advice(outcome))

    def check_server(self) -> str:
        """The server's version; this request depends only on the front door and the process."""
        # Cloud Run may have to start an instance first.
        response = self.call("1a", "1a", "GET", "/version", timeout=(10, max(60, self.front_door.time_left)))
        self.call("1a", "1a", "GET", "/health")
        return one_line(response.content.decode("utf-8", "replace"))[:40]

    def run(self) -> None:
        """Write, read back and compare. Raises ProbeError at the first failure."""
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
        self.created["artifact"] = path = posixpath.join(ARTIFACTS, artifact_root, "probe.bin")
        with self._timed(self.paths, "2a", "2b"):
            self._upload(path, data, posixpath.join(self.prefix, artifact_root, "probe.bin"))
        with self._timed(self.paths, "2c", "2d"):
            self._download(path, data)

    def _write(self, now: int, params: dict[str, str], tags: dict[str, str], history: list[dict[str, Any]]) -> str:
        """Create experiment, run with values, model and version. Returns the run's artifact folder in the destination."""
        hint = (
            "MLflow received the request and failed: the log of the Cloud Run service contains the reason (database "
            "address, VPC egress, peering, password)."
        )

        def post(method: str, field: str = "", **body: Any) -> Any:
            """The FIELD of the response, which must not be empty."""
            found = self.call("1a", "1b", "POST", f"{API}/{method}", hint, json=body).json()
            if field and not found.get(field):
                raise ProbeError("1b", f"POST {self.front_door.url}{API}/{method}", f"returned no {field}")
            return found.get(field)

        # Search first, because it uses the database and is idempotent.
        self.call("1a", "1b", "GET", f"{API}/experiments/search", hint, params={"max_results": 1})
        self.created["experiment"] = ""  # the response may be lost
        experiment = self.created["experiment"] = post("experiments/create", "experiment_id", name=self.name)
        run = post("runs/create", "run", experiment_id=experiment, start_time=now, run_name=self.name)
        run_id = self.created["run"] = run["info"]["run_id"]
        batch = {"params": params, "tags": tags}
        pairs: dict[str, Any] = {
            key: [{"key": k, "value": v} for k, v in values.items()] for key, values in batch.items()
        }
        post("runs/log-batch", run_id=run_id, metrics=history, **pairs)
        post("runs/update", run_id=run_id, status="FINISHED", end_time=now + len(history))
        self.created["model"] = self.name
        post("registered-models/create", name=self.name)
        source = f"runs:/{run_id}/model"
        version = post("model-versions/create", "model_version", name=self.name, source=source, run_id=run_id)
        self.created["version"] = str(version["version"])
        root = str(run["info"].get("artifact_uri", ""))
        if urlsplit(root).scheme != "mlflow-artifacts":
            hint = "The server must proxy artifacts (--serve-artifacts --artifacts-destination gs://...)."
            request = f"POST {self.front_door.url}{API}/runs/create"
            raise ProbeError("2a", request, f"returned artifact_uri {root!r}", hint)
        return urlsplit(root).path.strip("/")

    def _read(self, params: dict[str, str], tags: dict[str, str], history: list[dict[str, Any]]) -> None:
        """Read the values by key, and with a search that the database evaluates."""
        run_id = self.created["run"]

        def get(method: str, **query: Any) -> dict[str, Any]:
            return self.call("1c", "1d", "GET", f"{API}/{method}", params=query).json()

        def compare(method: str, found: Any, written: Any) -> None:
            if found != written:
                request = f"GET {self.front_door.url}{API}/{method}"
                raise ProbeError("1d", request, f"returned {found!r}", f"{written!r} was written.")

        experiment = get("experiments/get-by-name", experiment_name=self.name).get("experiment", {})
        compare("experiments/get-by-name", experiment.get("experiment_id"), self.created["experiment"])
        run = get("runs/get", run_id=run_id).get("run", {})
        data = run.get("data", {})
        compare("runs/get", run.get("info", {}).get("status"), "FINISHED")
        compare("runs/get", {p["key"]: p["value"] for p in data.get("params", [])}, params)
        found = {t["key"]: t["value"] for t in data.get("tags", [])}
        compare("runs/get", {k: found.get(k) for k in tags}, tags)
        compare("runs/get", [m["value"] for m in data.get("metrics", []) if m["key"] == "loss"], [history[-1]["value"]])
        points = get("metrics/get-history", run_id=run_id, metric_key="loss").get("metrics", [])
        keys = ("key", "value", "timestamp", "step")
        compare(
            "metrics/get-history",
            sorted(([_number(p.get(k, 0)) for k in keys] for p in points), key=lambda p: p[3]),
            [[p[k] for k in keys] for p in history],
        )
        wanted = {
            "experiment_ids": [self.created["experiment"]],
            "filter": "params.learning_rate = '0.1' and metrics.loss < 0",
        }
        runs = self.call("1c", "1d", "POST", f"{API}/runs/search", json=wanted).json().get("runs", [])
        compare("runs/search", [r["info"]["run_id"] for r in runs], [run_id])
        version = get("model-versions/get", name=self.name, version=self.created["version"]).get("model_version", {})
        compare("model-versions/get", (version.get("run_id"), version.get("status")), (run_id, "READY"))

    def _upload(self, path: str, data: bytes, name: str) -> None:
        hint = (
            "The log of the Cloud Run service contains the reason; usually its service account lacks "
            f"roles/storage.objectUser on bucket {self.bucket}, or the server's artifacts destination is another bucket."
        )
        headers = {"Content-Type": "application/octet-stream"}
        self.call("2a", "2b", "PUT", path, hint, uses_bucket=True, data=data, headers=headers)
        request = f"GET gs://{self.bucket}/{name}"
        try:
            found = self.find_object(self.bucket, name)
        except Unreadable as error:
            self.warn(
                f"Did not look at the object in bucket {self.bucket}, only at what the server returns of it: {error}"
            )
            return
        if found is None:
            hint = f"The server did not write the artifact to bucket {self.bucket}."
            raise ProbeError("2b", request, "found no object", hint)
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        # A composite object has no MD5.
        if str(found.get("size")) != str(len(data)) or found.get("md5Hash", md5) != md5:
            detail = f"returned {found.get('size')} bytes, MD5 {found.get('md5Hash')}"
            raise ProbeError("2b", request, detail, f"{len(data)} bytes with MD5 {md5} were sent.")

    def _download(self, path: str, data: bytes) -> None:
        url, query = f"{API}/artifacts/list", {"run_id": self.created["run"]}
        listed = self.call("2c", "2d", "GET", url, uses_bucket=True, params=query).json()
        sizes = {f.get("path"): str(f.get("file_size")) for f in listed.get("files", [])}
        if sizes.get("probe.bin") != str(len(data)):
            request = f"GET {self.front_door.url}{url}"
            raise ProbeError("2d", request, f"returned {sizes!r}", f"probe.bin has {len(data)} bytes.")
        content = self.call("2c", "2d", "GET", path, uses_bucket=True).content
        if content != data:
            detail = f"returned {len(content)} bytes that differ from the {len(data)} sent"
            raise ProbeError("2c", f"GET {self.front_door.url}{path}", detail)

    def clean_up(self) -> list[str]:
        """Delete what was created, in reverse order, also after failures. Returns a message for each leftover."""
        # Allow time for cleaning up even if the probe has used all of it.
        self.front_door.deadline = max(self.front_door.deadline, time.monotonic() + 20)
        created, leftovers = self.created, []
        if created.get("experiment") == "":
            path = f"{API}/experiments/get-by-name"
            try:
                found = self.call("cleanup", "cleanup", "GET", path, params={"experiment_name": self.name}).json()
                created["experiment"] = found["experiment"]["experiment_id"]
            except (GcpError, KeyError):
                del created["experiment"]

        def delete(kind: str, label: str, method: str, path: str, body: dict[str, str] | None = None) -> None:
            if kind not in created:
                return
            try:
                self.call("cleanup", "cleanup", method, path, json=body)
            except GcpError as error:
                # It was never created, or is already deleted.
                if "RESOURCE_DOES_NOT_EXIST" not in str(error):
                    leftovers.append(f"{kind} {label} was not deleted: {error}")

        name, run, artifact = self.name, created.get("run", ""), created.get("artifact", "")
        model_version = {"name": name, "version": created.get("version", "")}
        delete("version", f"{name}/{model_version['version']}", "DELETE", f"{API}/model-versions/delete", model_version)
        delete("model", name, "DELETE", f"{API}/registered-models/delete", {"name": name})
        delete("artifact", artifact.removeprefix(ARTIFACTS), "DELETE", artifact)
        delete("run", run, "POST", f"{API}/runs/delete", {"run_id": run})
        experiment = {"experiment_id": created.get("experiment", "")}
        delete("experiment", name, "POST", f"{API}/experiments/delete", experiment)
        return leftovers


def is_ok(outcome: Response | Exception) -> bool:
    return isinstance(outcome, Response) and outcome.ok


def is_denied(outcome: Response | Exception) -> bool:
    """IAP, not MLflow, returned 403."""
    return isinstance(outcome, Response) and outcome.status == 403 and not outcome.from_server


def is_redirected(outcome: Response | Exception) -> bool:
    """IAP redirected to the sign-in page."""
    if isinstance(outcome, Exception) or outcome.status not in (302, 303, 307):
        return False
    return urlsplit(outcome.headers.get("location", "")).hostname == "accounts.google.com"


def _number(value: Any) -> Any:
    """An int64 is text in the JSON of protobuf."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value) else value


def object_url(bucket: str, name: str) -> str:
    """URL of an object's metadata in the storage API."""
    return f"https://storage.googleapis.com/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
