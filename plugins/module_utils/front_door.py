# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP requests through Identity-Aware Proxy (IAP) to a deployment, with the JWT of a service account.

https://cloud.google.com/iap/docs/authentication-howto
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import waits
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import one_line, parse

with suppress(ImportError):  # Task.client reports the missing library
    import requests

TOKEN_LIFETIME = 3600
MAX_PAUSE = 10.0
# A 401 with one of these words is permanent: waiting for propagation does not help.
PERMANENT_401_WORDS = ("audience", "expired", "parse")


@dataclass
class Response:
    """A response, either from MLflow itself (``from_server``) or from a component in front of it."""

    status: int
    reason: str
    from_server: bool
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The body as an object; empty for anything else."""
        return _json_object(self.content)

    def __str__(self) -> str:
        return f"returned {self.status}: {self.reason}" if self.reason else f"returned {self.status}"


def iap_claims(email: str, url: str, now: float) -> dict[str, Any]:
    """Claims of the JWT with which service account ``email`` signs in at ``url``, valid for an hour from ``now``."""
    return {"iss": email, "sub": email, "aud": f"{url}/*", "iat": int(now), "exp": int(now) + TOKEN_LIFETIME}


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _reason(content: bytes) -> str:
    """The reason in an error body: MLflow's JSON, Google's JSON, or the text of a page."""
    body = _json_object(content)
    if "error_code" in body:
        text = f"{body['error_code']}: {body.get('message', '')}"
    else:
        text = str(body["detail"]) if "detail" in body else parse(content.decode("utf-8", "replace")).message
    return one_line(text)[:300]


def read_response(response: Any) -> Response:
    """Convert a response of requests, and distinguish MLflow's own responses from those of IAP, load balancer and Cloud Run."""
    status, content = response.status_code, response.content
    headers = {name.lower(): value for name, value in response.headers.items()}
    if 200 <= status < 300:
        return Response(status, "", True, headers, content)
    body, reason = _json_object(content), _reason(content)
    from_server = (
        "error_code" in body
        or "detail" in body
        # MLflow returns a plain page for an unexpected exception. In front of it only IAP returns 500, with this header.
        or (status == 500 and "x-goog-iap-generated-response" not in headers)
        or "DNS rebinding" in reason
        or "Cross-origin" in reason
    )
    return Response(status, reason, from_server, headers, content)


class FrontDoor:
    """HTTP to one deployment.

    ``sign`` creates the JWT for an e-mail address; ``timeout`` is the total time in seconds to wait for propagating
    grants and load balancer changes.
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
        """The JWT for ``email``, renewed five minutes before it expires."""
        valid_until, token = self._tokens.get(email, (0.0, ""))
        if time.monotonic() >= valid_until:
            token = self._sign(email)
            self._tokens[email] = (time.monotonic() + TOKEN_LIFETIME - 300, token)
        return token

    def send(self, method: str, path: str, email: str | None = None, **kwargs: Any) -> Response | Exception:
        """Send a request once; a network error is returned, not raised."""
        token = self._token(email) if email else None

        def auth(request: Any) -> Any:
            # Set even without a token, because otherwise requests looks for credentials in ~/.netrc.
            if token:
                request.headers["Authorization"] = f"Bearer {token}"
            return request

        kwargs = {"timeout": (10, 60), **kwargs}
        try:
            with waits.noted(waits.CALL, f"reach {self.url}"):
                response = self._session.request(method, self.url + path, auth=auth, allow_redirects=False, **kwargs)
        except requests.exceptions.RequestException as error:
            return error
        return read_response(response)

    def send_until(
        self, done: Callable[[Response | Exception], bool], method: str, path: str, email: str | None, **kwargs: Any
    ) -> Response | Exception:
        """Send a request repeatedly until ``done`` accepts its outcome, or there is no time left."""
        pause = 1.0
        outcome = self.send(method, path, email, **kwargs)
        with waits.noted(waits.PENDING, f"reach {self.url}"):
            while not done(outcome) and pause <= self.time_left:
                time.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE)
                outcome = self.send(method, path, email, **kwargs)
        return outcome


def is_transient(outcome: Response | Exception, idempotent: bool, uses_bucket: bool = False) -> bool:
    """Whether a grant or load balancer change that is still propagating may explain the outcome.

    Requests that IAP or Cloud Run rejected never reached MLflow, so they are repeated with any method; all others only
    if ``idempotent``. ``uses_bucket``: the server accesses the bucket for the request, and returns 500 without access.
    """
    if isinstance(outcome, Exception):
        # These include SSLError and ConnectTimeout, which occur in the first minutes of a new load balancer.
        transient = isinstance(outcome, requests.exceptions.ConnectionError)
        transient = transient and not isinstance(outcome, requests.exceptions.ProxyError)
        permanent = any(text in str(outcome) for text in ("CERTIFICATE_VERIFY_FAILED", "resolve", "Name or service"))
        return idempotent and transient and not permanent
    if outcome.from_server:
        return uses_bucket and idempotent and outcome.status == 500
    if outcome.status == 401:
        return not any(word in outcome.reason.lower() for word in PERMANENT_401_WORDS)
    return outcome.status == 403 or idempotent and outcome.status in (404, 429, 502, 503, 504)


def failed_in_server(outcome: Response | Exception) -> bool:
    """Whether MLflow itself caused the failure, and not a component in front of it."""
    if isinstance(outcome, Exception):
        return isinstance(outcome, requests.exceptions.ReadTimeout)
    # MLflow's own 403 concerns the host name of the request.
    return outcome.from_server and outcome.status != 403


def describe(outcome: Response | Exception) -> str:
    """What happened, as the end of a message that begins with the request."""
    if isinstance(outcome, Response):
        return str(outcome)
    if isinstance(outcome, requests.exceptions.ReadTimeout):
        return "received no response in time"
    # Without the addresses of Python objects.
    return f"failed: {one_line(re.sub(r'<[^>]* object at 0x[0-9a-f]+>:? ?', '', str(outcome)))[:300]}"


def advice(outcome: Response | Exception) -> str:
    """What to do about an outcome that does not come from MLflow."""
    if isinstance(outcome, Exception):
        if isinstance(outcome, requests.exceptions.ReadTimeout):
            return ""
        if isinstance(outcome, requests.exceptions.SSLError):
            return (
                "The managed certificate may not be ACTIVE yet: the domain must resolve to the load balancer's address."
            )
        return "Does the domain resolve to the load balancer's address?"
    if "DNS rebinding" in outcome.reason:
        return "MLFLOW_SERVER_ALLOWED_HOSTS of the Cloud Run service must contain the domain."
    if outcome.status in (301, 302, 303, 307, 308):
        return "The JWT was not recognised: is IAP enabled, and does it accept service account JWTs?"
    if outcome.status == 401:
        return "IAP does not accept the service account's JWT."
    if outcome.status == 403 and "x-goog-iap-generated-response" in outcome.headers:
        return "IAP denied access: the account requires roles/iap.httpsResourceAccessor on the backend service, or the Cloud Run service."
    if outcome.status == 403:
        return (
            "Cloud Run or IAP denied access: the IAP service agent requires roles/run.invoker on the service, "
            "and the account roles/iap.httpsResourceAccessor on the backend service, or the Cloud Run service. Or Cloud Armor did: the "
            "address of this machine must be in iap_lb_allowed_ranges, or be let through by the policy of others."
        )
    if outcome.status in (404, 429, 502, 503, 504):
        return "The response is from the load balancer or Cloud Run, not from MLflow; module mlflow_doctor finds the cause."
    return ""
