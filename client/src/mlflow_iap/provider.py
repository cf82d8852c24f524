# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A valid token on every request of MLflow's client: with MLFLOW_TRACKING_AUTH=iap, MLflow finds this by its entry point."""

from __future__ import annotations

import email.utils
import functools
import os
import re
import time
from typing import Any

import requests
from requests.auth import AuthBase
from requests.cookies import extract_cookies_to_jar

from mlflow_iap.cache import Cache
from mlflow_iap.errors import IapError
from mlflow_iap.identity import Identity
from mlflow_iap.settings import Settings, origin

# If a token is rejected and the clock is off by more than this, the error says so.
SKEW = 60


class IapAuth(AuthBase):
    """Authentication for the library requests: `requests.get(url, auth=IapAuth())`.

    Raises IapError, with one sentence for the user of the client.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings.read()
        self._identity: Identity | None = None
        self._caches: dict[str, Cache] = {}

    @property
    def identity(self) -> Identity:
        """The identity that signs in.  Raises IapError."""
        if self._identity is None:
            self._identity = Identity(self._settings)
        return self._identity

    def cache(self, url: str) -> Cache:
        """The tokens for the server of a URL.  Raises IapError."""
        where = origin(url)
        if where not in self._caches:
            key = f"{self.identity.key} {where} {self._settings.seconds}"
            self._caches[where] = Cache(key, lambda: self.identity.token(where), self._settings.seconds)
        return self._caches[where]

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        assert request.url
        cache = self.cache(request.url)
        token = cache.get()
        # MLflow's own login needs the Authorization header; IAP reads both.
        header = "Proxy-Authorization" if request.headers.get("Authorization") else "Authorization"
        request.headers[header] = f"Bearer {token.value}"
        body = request.body
        rewind = None
        if body is not None and hasattr(body, "seek") and hasattr(body, "tell"):
            rewind = functools.partial(body.seek, body.tell())

        def again(response: requests.Response, **options: Any) -> requests.Response:
            if not by_iap(response):
                return response
            if response.status_code == 401 and response.request.headers.get(header) == f"Bearer {token.value}":
                cache.refuse(token.value)
                replayable = body is None or isinstance(body, bytes | str) or rewind is not None
                if not replayable:
                    explain(response, token.account)
                    return response
                response.content  # noqa: B018 the connection is free for the next request only then
                response.close()
                following = response.request.copy()
                assert following._cookies is not None
                extract_cookies_to_jar(following._cookies, response.request, response.raw)
                following.headers[header] = f"Bearer {cache.get().value}"
                if rewind is not None:
                    rewind()
                answer = response.connection.send(following, **options)
                answer.history.append(response)
                answer.request = following
                response = answer
            explain(response, token.account)
            return response

        request.register_hook("response", again)
        return request


def by_iap(response: requests.Response) -> bool:
    """Whether the response is from IAP itself, not from the server behind it."""
    return "X-Goog-IAP-Generated-Response" in response.headers


def explain(response: requests.Response, account: str) -> None:
    """Raise IapError if IAP rejected a request; ignores other responses."""
    if not by_iap(response) or response.status_code not in (401, 403):
        return
    shown = re.sub(r"<(style|script|title).*?</\1>|<[^>]*>", " ", response.text, flags=re.S)
    text = " ".join(shown.split())[:300].rstrip(".")
    if response.status_code == 403:
        raise IapError(
            f"{account} is signed in, but it is not among the users of this server: add serviceAccount:{account} to "
            f"mlflow_webapp_users and run site.yml, or set MLFLOW_IAP_SERVICE_ACCOUNT to sign in as the logger ({text})."
        )
    off = skew(response)
    if off is not None and abs(off) > SKEW:
        where = "behind" if off > 0 else "ahead of"
        raise IapError(f"The clock of this machine is {abs(off):.0f} s {where} Google's: correct it ({text}).")
    if "audience" in text.lower() or "aud" in text.lower().split():
        raise IapError(
            f"Identity-Aware Proxy does not accept tokens with this audience: set MLFLOW_IAP_CLIENT_ID to the ID of an OAuth "
            f"client that it accepts, or unset it to use a signed JWT ({text})."
        )
    raise IapError(f"Identity-Aware Proxy rejected the token of {account}: {text}.")


def skew(response: requests.Response) -> float | None:
    """Seconds by which the server's clock is ahead of this machine's, or None if the server does not report its time."""
    try:
        return email.utils.parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()
    except (KeyError, ValueError):
        return None


_auths: dict[tuple[int, Settings], IapAuth] = {}


class IapAuthProvider:
    """MLflow's plugin: mlflow.tracking.request_auth.abstract_request_auth_provider.RequestAuthProvider by its methods."""

    def get_name(self) -> str:
        """The value of MLFLOW_TRACKING_AUTH that chooses this provider."""
        return "iap"

    def get_auth(self) -> IapAuth:
        """The authentication for all requests of this process; MLflow calls this for every request.  Raises IapError."""
        key = (os.getpid(), Settings.read())
        if key not in _auths:
            _auths[key] = IapAuth(key[1])
        return _auths[key]
