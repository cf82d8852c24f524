# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP client for Google APIs: sign-in with the authentication options of google.cloud, retries, errors as exceptions."""

from __future__ import annotations

import io
import itertools
import json as jsonlib
import random
import re
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import credentials, transport, waits
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, advice, parse

try:
    import google.auth.exceptions
    import google.auth.transport.requests
    import requests
except ImportError:
    IMPORT_ERROR: str | None = traceback.format_exc()
else:
    IMPORT_ERROR = None

T = TypeVar("T")
# Stands for any request.
TOKENS = "https://oauth2.googleapis.com/"
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})
RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
RATE_LIMIT_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
# POST methods that change nothing, or nothing when they are repeated.
READING = re.compile(r"[:/](get\w*|list|testIamPermissions|signJwt|generateServiceIdentity)$")
MAX_ATTEMPTS = 5
MAX_PAUSE = 32.0
# A token that expires sooner is replaced; google-auth's own margin is a little smaller.
MARGIN = timedelta(minutes=4)


class Token(NamedTuple):
    """An access token as a request carries it: the headers, and when it expires (UTC); None for never."""

    headers: dict[str, str]
    expiry: datetime | None

    @property
    def valid(self) -> bool:
        """Whether it will not expire while a request is on its way."""
        return self.expiry is None or datetime.now(timezone.utc) < self.expiry - MARGIN


class TokenStore(Protocol):
    """Keeps tokens that expire, each under a key that stands for the credentials."""

    def locked(self) -> AbstractContextManager[None]:
        """No other process is in here at the same time."""

    def load(self, key: str) -> Token | None:
        """The token stored under KEY, None if there is none."""

    def store(self, key: str, token: Token) -> None:
        """Store a token that expires under KEY."""


class Reread(BaseException):
    """The module wants to write after it has read what was read ahead: it has to begin again, and read anew."""


class Answer(NamedTuple):
    """A response to a request that only reads."""

    status: int
    content: bytes


class ReadStore(Protocol):
    """
    What has been read ahead for the tasks of a play on a host, until the run's first write; each module uses an answer once.
    """

    def ahead(self) -> list[str]:
        """The requests that are worth reading ahead, as Client sends them."""

    def fill(self, answers: Mapping[str, Answer], who: str) -> None:
        """Keep the answers to requests, read with the credentials that WHO stands for."""

    def take(self, request: str, who: str) -> Answer | None:
        """The answer to a request, if it was read ahead with these credentials."""

    def sent(self, request: str) -> None:
        """A request that only reads is sent to Google."""

    def writes(self) -> None:
        """A request that may change something is about to be sent; raises Reread if the module has used an answer."""


class TokenAuth:
    """
    Adds an access token to every request of a session.

    Replaces google-auth's AuthorizedSession, which also looks up regional access boundaries in a thread: one more
    connection for each module run, and too late for its few requests. LOAD returns google-auth's credentials; it is only
    called when no earlier task has left a token, because reading the private key of a service account takes longer
    than a request.
    """

    # Where the tasks of a run find each other's tokens; the action in_process sets it.
    shared: TokenStore | None = None

    def __init__(self, load: Callable[[], Any], key: str = "") -> None:
        self._load, self.key = load, key
        self._token: Token | None = None
        # Fails here for credentials that cannot be read.
        self._credentials = None if self._find() else load()

    @property
    def credentials(self) -> Any:
        """The google-auth credentials."""
        if self._credentials is None:
            self._credentials = self._load()
        return self._credentials

    @property
    def expiry(self) -> datetime | None:
        """When the current token expires (UTC); None if it is not known, or none was needed yet."""
        return self._token.expiry if self._token else None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if not self._token or not self._token.valid:
            self._obtain()
        request.headers.update(self._token.headers if self._token else {})
        return request

    def _find(self) -> bool:
        """Take the token of an earlier task with the same credentials, if there is one."""
        found = self.shared.load(self.key) if self.shared and self.key else None
        if not found or not found.valid:
            return False
        self._token = found
        return True

    def _obtain(self) -> None:
        with self.shared.locked() if self.shared and self.key else nullcontext():
            if not self._find():
                self._take(fetch=not self.credentials.valid)

    def refresh(self) -> None:
        """Fetch a new token; raises google.auth.exceptions.GoogleAuthError."""
        self._take(fetch=True)

    def _take(self, *, fetch: bool) -> None:
        if fetch:
            self._fetch()
        headers: dict[str, str] = {}
        self.credentials.apply(headers)
        expiry = self.credentials.expiry
        self._token = Token(headers, expiry.replace(tzinfo=timezone.utc) if expiry else None)
        if self.shared and self.key and expiry:
            self.shared.store(self.key, self._token)

    def _fetch(self) -> None:
        try:
            # In a separate session: this one would need a token for the request that fetches the token.
            self.credentials.refresh(google.auth.transport.requests.Request())
        except (requests.exceptions.RequestException, google.auth.exceptions.GoogleAuthError):
            raise
        except (AttributeError, LookupError, OSError, TypeError, ValueError, subprocess.SubprocessError) as error:
            # Of files and programs that the credentials refer to, and of responses without the expected fields.
            raise google.auth.exceptions.RefreshError(error) from None


def authorized_session(params: Mapping[str, Any]) -> requests.Session:
    """A session with the credentials that the options select, see credentials.OPTIONS. Raises GcpError."""
    credentials.check(params)
    session = requests.Session()
    session.auth = TokenAuth(partial(credentials.load, params), credentials.identity(params))
    return session


def access_token(params: Mapping[str, Any]) -> str:
    """An access token of the credentials that the options select; raises GcpError."""
    auth = authorized_session(params).auth
    try:
        signed = credentials.repeated(lambda: requests.Request("GET", TOKENS, auth=auth).prepare())
    except (google.auth.exceptions.GoogleAuthError, requests.exceptions.RequestException) as error:
        text = f"Cannot sign in to Google Cloud: {transport.reason(error).rstrip('.')}"
        raise GcpError(f"{text}. {transport.auth_advice(error, 'the caller')}") from None
    return str(signed.headers["Authorization"]).rpartition(" ")[2]


class Doing(threading.local):
    """The actions of each thread, the innermost last; a thread that a module starts begins with those of the module."""

    def __init__(self, actions: list[str]) -> None:
        self.actions = actions if threading.current_thread() is threading.main_thread() else [*actions]


class Client:
    """
    Sends requests, retries those that may be retried, and raises ApiError for failures.

    SESSION comes from authorized_session().
    """

    # What has been read ahead for the tasks of a run; the action in_process sets it.
    reads: ReadStore | None = None

    def __init__(self, session: requests.Session, user_agent: str = "mlops.mlflow_gcp") -> None:
        self.session = session
        self.session.headers["User-Agent"] = user_agent
        self._doing = Doing(["call Google"])

    @property
    def credentials(self) -> Any:
        """The google-auth credentials, None for a session without."""
        return getattr(self.session.auth, "credentials", None)

    @property
    def _who(self) -> str:
        """What stands for the credentials, see TokenAuth.key."""
        return getattr(self.session.auth, "key", "")

    @property
    def expiry(self) -> datetime | None:
        """When the current access token expires (UTC); None if it is not known, or none was needed yet."""
        return getattr(self.session.auth, "expiry", None)

    @property
    def principal(self) -> str:
        """E-mail address of the calling service account, otherwise "the caller"."""
        return getattr(self.credentials, "service_account_email", None) or "the caller"

    @contextmanager
    def action(self, action: str) -> Iterator[None]:
        """Errors raised inside begin with "Cannot ACTION", such as "create bucket x"."""
        actions = self._doing.actions
        actions.append(action)
        try:
            yield
        finally:
            actions.pop()

    def get(self, url: str, *, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON at URL."""
        return self.request("GET", url, params=params)

    def find(self, url: str, *, params: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The JSON at URL, None when the status is 404."""
        try:
            return self.get(url, params=params)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def post(
        self, url: str, body: Any = None, *, params: Mapping[str, Any] | None = None, idempotent: bool = False
    ) -> dict[str, Any]:
        """POST; with IDEMPOTENT (sending it twice has the same effect as once) it may be retried."""
        return self.request("POST", url, body, params=params, idempotent=idempotent)

    def post_once(self, url: str, body: Any, find: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        """
        POST of a method that would create a second thing if it were sent twice.

        After a passing error or a lost response, FIND looks whether the first request has created it, before another one
        is sent; what it returns stands for the response.
        """
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return self.post(url, body)
            except ApiError as error:
                if attempt == MAX_ATTEMPTS or not error.passing:
                    raise
            # The first request may still be in progress.
            with waits.noted(waits.PENDING, self._doing.actions[-1]):
                time.sleep(random.uniform(0.5, 1) * 2 ** (attempt - 1))
            found = find()
            if found is not None:
                return found
        raise AssertionError("unreachable")

    def items(self, url: str, key: str, *, params: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """All entries under KEY of a list method, page by page."""
        query = dict(params or {})
        while True:
            page = self.get(url, params=query)
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
        idempotent: bool | None = None,
        timeout: float = 120,
    ) -> dict[str, Any]:
        """
        The JSON response ({} when empty) to a JSON request; raises ApiError for status 400 and above.

        Retried with exponential backoff and jitter, or after Retry-After: transient statuses and lost connections when
        IDEMPOTENT (by default every method except POST); otherwise only requests that Google cannot have processed.
        """
        idempotent = method in IDEMPOTENT_METHODS if idempotent is None else idempotent
        known = self._known(method, url, body, params)
        if known is not None:  # a response with an error is false
            return self._body(known, method, url, False)
        response, retried = self._send(method, url, idempotent, timeout=timeout, params=params, json=body)
        return self._body(response, method, url, retried)

    def _known(self, method: str, url: str, body: Any, params: Mapping[str, Any] | None) -> requests.Response | None:
        """The response, if it was read ahead; tells the store what is sent otherwise."""
        if not self.reads:
            return None
        if method != "GET" and not READING.search(url):
            self.reads.writes()
            return None
        if method != "GET" and not url.endswith(":getIamPolicy"):
            return None
        request = jsonlib.dumps([method, url, body, dict(params) if params else None])
        answer = self.reads.take(request, self._who)
        if not answer:
            self.reads.sent(request)
            return None
        response = requests.Response()
        response.status_code, response.raw = answer.status, io.BytesIO(answer.content)
        response.encoding = "utf-8"
        return response

    def read_ahead(self, pool: Executor) -> None:
        """Read at once what the tasks of this run will read one after another, as far as an earlier run has shown it."""
        wanted = self.reads.ahead() if self.reads else []
        found = zip(wanted, pool.map(self._answer, wanted), strict=True)
        if self.reads:
            self.reads.fill({request: answer for request, answer in found if answer}, self._who)

    def _answer(self, request: str) -> Answer | None:
        """The answer to a request; None for a failure, which the task is to meet itself."""
        method, url, body, params = jsonlib.loads(request)
        try:
            response, _retried = self._send(method, url, True, timeout=120, params=params, json=body)
        except ApiError:
            return None
        return Answer(response.status_code, response.content) if response.status_code in (200, 404) else None

    def _body(self, response: requests.Response, method: str, url: str, retried: bool) -> dict[str, Any]:
        """The JSON of a response; raises ApiError for status 400 and above, and for anything else than JSON."""
        if response.status_code >= 400:
            refusal = parse(response.text)
            # To know who is calling, the private key is read; that takes longer than the request.
            principal = self.principal if response.status_code in (401, 403) else ""
            hint = advice(response.status_code, response.text, principal, method, url)
            raise ApiError(
                self._doing.actions[-1],
                response.status_code,
                refusal.reason,
                refusal.message,
                hint=hint,
                retried=retried,
                passing=response.status_code in RETRYABLE_STATUSES - {429},
            )
        try:
            return response.json() if response.content else {}
        except ValueError:
            raise ApiError(
                self._doing.actions[-1],
                response.status_code,
                "",
                f"{urlsplit(url).hostname} returned "
                f"{response.headers.get('Content-Type', 'an unknown content type')} instead of JSON",
                hint="Check the proxy between this host and Google",
            ) from None

    def upload(
        self, url: str, content: bytes, *, params: Mapping[str, Any], content_type: str, timeout: float = 600
    ) -> dict[str, Any]:
        """POST of CONTENT; may be retried, because PARAMS say that what exists already is not replaced. Raises ApiError."""
        headers = {"Content-Type": content_type}
        if self.reads:
            self.reads.writes()
        response, retried = self._send("POST", url, True, timeout=timeout, params=params, data=content, headers=headers)
        return self._body(response, "POST", url, retried)

    def _send(self, method: str, url: str, idempotent: bool, **kwargs: Any) -> tuple[requests.Response, bool]:
        """The response, whatever its status, and whether the request was sent more than once."""
        refreshed = False
        for attempt in range(1, MAX_ATTEMPTS + 1):
            pause = None
            try:
                response = self._called(method, url, **kwargs)
                if response.status_code == 401 and isinstance(self.session.auth, TokenAuth) and not refreshed:
                    # The token expired earlier than this host's clock suggests.
                    refreshed = True
                    self.session.auth.refresh()
                    response = self._called(method, url, **kwargs)
            except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
                # Exceptions of requests are OSErrors; it also raises plain ones, for a missing CA bundle or a proxy's URL.
                may_repeat = transport.is_transient(error) and (idempotent or transport.is_unsent(error))
                if attempt == MAX_ATTEMPTS or not may_repeat:
                    raise self._explained(url, error) from None
            else:
                if attempt == MAX_ATTEMPTS or not _is_retryable(response, idempotent):
                    return response, attempt > 1
                pause = _retry_after(response)
            with waits.noted(waits.PENDING, self._doing.actions[-1]):
                time.sleep(random.uniform(0.5, 1) * 2 ** (attempt - 1) if pause is None else pause)
        raise AssertionError("unreachable")

    def _called(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        with waits.noted(waits.CALL, self._doing.actions[-1]):
            return self.session.request(method, url, **kwargs)

    def retry(
        self, call: Callable[[], T], retryable: Callable[[ApiError], bool], *, timeout: float, pause: float = 2
    ) -> T:
        """The result of CALL, repeated for up to TIMEOUT seconds while it raises an error that RETRYABLE accepts."""
        end = time.monotonic() + timeout
        with ExitStack() as waiting:
            for attempt in itertools.count():
                try:
                    return call()
                except ApiError as error:
                    if not retryable(error) or time.monotonic() + pause > end:
                        raise
                if not attempt:
                    waiting.enter_context(waits.noted(waits.PENDING, self._doing.actions[-1]))
                time.sleep(pause * random.uniform(0.75, 1.25))
                pause = min(pause * 1.5, 15)
        raise AssertionError("unreachable")

    def _explained(self, url: str, error: Exception) -> ApiError:
        """The error of a request without a response."""
        action = self._doing.actions[-1]
        # Those that were not sent have been repeated as often as possible.
        passing = transport.is_transient(error) and not transport.is_unsent(error)
        if isinstance(error, google.auth.exceptions.GoogleAuthError) and not transport.is_network(error):
            text = transport.reason(error)
            if "do not contain the necessary fields" in text:
                text = "Google rejected the access token, and it cannot be refreshed"
            hint = transport.auth_advice(error, self.principal)
            return ApiError(action, 401, "UNAUTHENTICATED", text, hint=hint)
        request = next((found for cause in transport.causes(error) if (found := getattr(cause, "request", None))), None)
        host = urlsplit(str(getattr(request, "url", None) or url)).hostname
        text = f"no response from {host}: {transport.connection_reason(error)}"
        return ApiError(action, 0, "", text, hint=transport.connection_advice(error), passing=passing)


def _is_retryable(response: requests.Response, idempotent: bool) -> bool:
    if response.status_code == 403:
        return bool(parse(response.text).symbols & RATE_LIMIT_REASONS)
    return response.status_code == 429 or (idempotent and response.status_code in RETRYABLE_STATUSES)


def _retry_after(response: requests.Response) -> float | None:
    """Seconds from the header Retry-After, None without one."""
    value = response.headers.get("Retry-After")
    if not value:
        return None
    try:
        seconds = float(value) if value.strip().isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_PAUSE)
