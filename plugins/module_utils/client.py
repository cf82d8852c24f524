# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP to Google: a session from google.cloud's authentication options, retries, and errors as exceptions."""

from __future__ import annotations

import json as jsonlib
import os
import random
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, advice, parse

try:
    import google.auth.exceptions
    import google.auth.transport.requests
    import requests
except ImportError:
    IMPORT_ERROR: str | None = traceback.format_exc()
else:
    IMPORT_ERROR = None

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})
PASSING = frozenset({408, 429, 500, 502, 503, 504})
RATE_LIMITS = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
TRIES = 5
LONGEST_PAUSE = 32.0


class SignIn:
    """
    Puts google-auth's token on every request of a session.

    In place of its AuthorizedSession, which also looks up regional access boundaries in a thread: one more
    connection for each module run, too late for its few requests.
    """

    def __init__(self, credentials: Any) -> None:
        self.credentials = credentials

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if not self.credentials.valid:
            self.renew()
        self.credentials.apply(request.headers)
        return request

    def renew(self) -> None:
        """A new token; raises google.auth.exceptions.RefreshError."""
        # A session of its own: this one would want a token for the request that fetches the token.
        self.credentials.refresh(google.auth.transport.requests.Request())


def authorized_session(params: Mapping[str, Any]) -> requests.Session:
    """
    A session that signs in as google.cloud's options say: auth_kind, service_account_file, service_account_contents,
    service_account_email, access_token, scopes (same meaning, same defaults). Raises GcpError.
    """
    kind = params["auth_kind"]
    if params.get("service_account_email") is not None and kind != "machineaccount":
        raise GcpError(f"option service_account_email only works with auth_kind machineaccount, not {kind}")
    if kind != "serviceaccount" and (params.get("service_account_file") or params.get("service_account_contents")):
        raise GcpError(
            f"options service_account_file and service_account_contents only work with auth_kind "
            f"serviceaccount, not {kind}"
        )
    if params.get("access_token") is not None and kind != "accesstoken":
        raise GcpError(f"option access_token only works with auth_kind accesstoken, not {kind}")
    try:
        credentials = _credentials(kind, params, params.get("scopes") or [CLOUD_PLATFORM])
    except (ValueError, OSError, google.auth.exceptions.GoogleAuthError) as error:
        reason = getattr(error, "strerror", None) or error
        where = params.get("service_account_file") or "service_account_contents" if kind == "serviceaccount" else kind
        raise GcpError(f"Cannot sign in to Google Cloud with {where}: {reason}") from None
    session = requests.Session()
    session.auth = SignIn(credentials)
    return session


def _credentials(kind: str, params: Mapping[str, Any], scopes: list[str]) -> Any:
    # Imported where needed: each costs 50 to 200 ms, and a run uses one.
    if kind == "application":
        return google.auth.default(scopes=scopes)[0]
    if kind == "serviceaccount":
        from google.oauth2 import service_account

        if params.get("service_account_file"):
            path = os.path.realpath(os.path.expanduser(params["service_account_file"]))
            return service_account.Credentials.from_service_account_file(path, scopes=scopes)
        if params.get("service_account_contents"):
            contents = params["service_account_contents"]
            info = jsonlib.loads(contents) if isinstance(contents, str) else contents
            return service_account.Credentials.from_service_account_info(info, scopes=scopes)
        raise GcpError("auth_kind serviceaccount needs option service_account_file or service_account_contents")
    if kind == "machineaccount":
        from google.auth import compute_engine

        return compute_engine.Credentials(params.get("service_account_email") or "default")
    from google.oauth2.credentials import Credentials

    if not params.get("access_token"):
        raise GcpError("auth_kind accesstoken needs option access_token")
    return Credentials(params["access_token"], scopes=scopes)


class Client:
    """
    Sends requests, retries what may be retried, turns what fails into ApiError.

    SESSION is any requests.Session: authorized_session() for Google's APIs, a plain one elsewhere.
    """

    def __init__(self, session: requests.Session, agent: str = "mlops.mlflow_gcp") -> None:
        self.session = session
        self.session.headers["User-Agent"] = agent
        self._attempts = ["call Google"]

    @property
    def credentials(self) -> Any:
        """google-auth's credentials, None for a plain session."""
        return getattr(self.session.auth, "credentials", None)

    @property
    def principal(self) -> str:
        """E-mail of the service account that calls, else "the caller"."""
        return getattr(self.credentials, "service_account_email", None) or "the caller"

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Errors raised inside begin with "Cannot WHAT"; give it as "create bucket x"."""
        self._attempts.append(what)
        try:
            yield
        finally:
            self._attempts.pop()

    def get(self, url: str, *, params: Mapping[str, Any] | None = None, absent: bool = False) -> dict[str, Any] | None:
        """The JSON at URL; with ABSENT, None where Google answers 404."""
        try:
            return self.request("GET", url, params=params)
        except ApiError as error:
            if absent and error.status == 404:
                return None
            raise

    def post(
        self, url: str, body: Any = None, *, params: Mapping[str, Any] | None = None, safe: bool = False
    ) -> dict[str, Any]:
        """POST; SAFE says that sending it twice does no more than once, so that it may be retried."""
        return self.request("POST", url, body, params=params, safe=safe)

    def items(self, url: str, key: str, *, params: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """All entries under KEY of a list method, page after page."""
        query = dict(params or {})
        while True:
            page = self.get(url, params=query) or {}
            yield from page.get(key) or ()
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        safe: bool | None = None,
        timeout: float = 120,
    ) -> dict[str, Any]:
        """The JSON answer ({} when empty) to a JSON request; raises ApiError for status 400 and above."""
        response = self.send(method, url, params=params, json=body, safe=safe, timeout=timeout)
        if response.status_code >= 400:
            raise self.error(response)
        try:
            return response.json() if response.content else {}
        except ValueError:
            raise ApiError(
                self._attempts[-1],
                response.status_code,
                "",
                f"{urlsplit(url).hostname} answered with "
                f"{response.headers.get('Content-Type', 'something')} instead of JSON",
                hint="Check the proxy between here and Google",
            ) from None

    def error(self, response: requests.Response) -> ApiError:
        """The ApiError that an unsuccessful RESPONSE stands for."""
        reason, message, _, _ = parse(response.text)
        hint = advice(response.status_code, response.text, self.principal)
        retried = bool(getattr(response, "retried", False))
        return ApiError(self._attempts[-1], response.status_code, reason, message, hint=hint, retried=retried)

    def send(
        self, method: str, url: str, *, safe: bool | None = None, timeout: float = 120, **kwargs: Any
    ) -> requests.Response:
        """
        Any answer, whatever its status; kwargs are those of requests.Session.request.

        Retried with exponential backoff and jitter, or as Retry-After says: passing statuses and lost connections
        when SAFE (by default every method but POST); otherwise only what Google cannot have carried out.
        """
        safe = method in IDEMPOTENT if safe is None else safe
        renewed = False
        for turn in range(1, TRIES + 1):
            pause = None
            try:
                response = self.session.request(method, url, timeout=timeout, **kwargs)
                if response.status_code == 401 and self.credentials and not renewed:
                    # Expired before its time, by this machine's clock.
                    renewed = True
                    self.session.auth.renew()
                    response = self.session.request(method, url, timeout=timeout, **kwargs)
            except google.auth.exceptions.RefreshError as error:
                raise self._refused(error) from None
            except (google.auth.exceptions.TransportError, requests.exceptions.RequestException) as error:
                if turn == TRIES or not (_passing(error) and (safe or _unsent(error))):
                    raise self._unreachable(url, error) from None
            else:
                response.retried = turn > 1
                if turn == TRIES or not _try_again(response, safe):
                    return response
                pause = _retry_after(response)
            time.sleep(random.uniform(0.5, 1) * 2 ** (turn - 1) if pause is None else pause)
        raise AssertionError("unreachable")

    def patiently(
        self, call: Callable[[], Any], excuse: Callable[[ApiError], bool], *, timeout: float, pause: float = 2
    ) -> Any:
        """What CALL returns, called again for up to TIMEOUT seconds while it fails with an error EXCUSE accepts."""
        end = time.monotonic() + timeout
        while True:
            try:
                return call()
            except ApiError as error:
                if not excuse(error) or time.monotonic() + pause > end:
                    raise
            time.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(pause * 1.5, 15)

    def _refused(self, error: Exception) -> ApiError:
        """RefreshError carries Google's words first and the raw answer after them."""
        text = str(error.args[0] if error.args else error)
        if "do not contain the necessary fields" in text:
            text = "Google refused the access token, and it cannot be renewed"
        hint = advice(401, "", self.principal)
        return ApiError(self._attempts[-1], 401, "UNAUTHENTICATED", text, hint=hint)

    def _unreachable(self, url: str, error: Exception) -> ApiError:
        hint = "Check the network and HTTPS_PROXY"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            hint = "Trust the proxy's certificate authority: REQUESTS_CA_BUNDLE"
        cause = re.sub(r"^\w+\(.*?\): ", "", str(_innermost(error)))
        return ApiError(self._attempts[-1], 0, "", f"no answer from {urlsplit(url).hostname}: {cause}", hint=hint)


def _innermost(error: Exception) -> Exception:
    """What happened in the end; requests and urllib3 wrap it in descriptions of their own objects."""
    inside = [getattr(error, name, None) for name in ("reason", "original_error")] + list(error.args)
    return next((_innermost(cause) for cause in inside if isinstance(cause, Exception)), error)


def _passing(error: Exception) -> bool:
    """A failure that may be gone a moment later."""
    if isinstance(error, (requests.exceptions.SSLError, requests.exceptions.InvalidURL)):
        return False
    return "Tunnel connection failed: 4" not in str(error)


def _unsent(error: Exception) -> bool:
    """The request cannot have reached Google."""
    names = (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError, google.auth.exceptions.TransportError)
    return isinstance(error, names) or "NewConnectionError" in repr(error)


def _try_again(response: requests.Response, safe: bool) -> bool:
    if response.status_code == 403:
        return bool(parse(response.text)[3] & RATE_LIMITS)
    return response.status_code == 429 or (safe and response.status_code in PASSING)


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that the header Retry-After asks for, None without one."""
    value = response.headers.get("Retry-After")
    if not value:
        return None
    try:
        seconds = float(value) if value.strip().isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_PAUSE)
