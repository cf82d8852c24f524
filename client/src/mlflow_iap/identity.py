# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity that signs in, and the tokens for IAP that Google issues for it.

https://cloud.google.com/iap/docs/authentication-howto, https://cloud.google.com/iam/docs/reference/credentials/rest
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google.auth
import requests
from google.auth import (
    compute_engine,
    exceptions,
    external_account,
    external_account_authorized_user,
    impersonated_credentials,
)
from google.auth import jwt as google_jwt
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import credentials as user
from google.oauth2 import service_account

from mlflow_iap.errors import Denied, IapError, Unreachable
from mlflow_iap.settings import Settings

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
API = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
# IAP rejects tokens issued in the future: tolerates a clock that is slightly ahead.
EARLIER = 30
TIMEOUT = 30


@dataclass(frozen=True)
class Token:
    """A token for IAP; value: as sent, expires: seconds since 1970, kind: in words, account: the account it identifies."""

    value: str
    expires: float
    kind: str
    account: str


class Identity:
    """The credentials of this machine (Application Default Credentials), and the account to sign in as."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        try:
            self._credentials, _ = google.auth.default(scopes=[SCOPE])
        except exceptions.DefaultCredentialsError as error:
            raise IapError(
                "There are no Google credentials on this machine: run 'gcloud auth application-default login', or set "
                f"GOOGLE_APPLICATION_CREDENTIALS to a credentials file ({_line(error)})."
            ) from error

    @property
    def kind(self) -> str:
        """The kind of credentials, in words."""
        credentials = self._credentials
        if isinstance(credentials, service_account.Credentials):
            return "a service account key"
        if isinstance(credentials, compute_engine.Credentials):
            return "the metadata server's service account"
        if isinstance(credentials, user.Credentials):
            return "a user's gcloud credentials"
        if isinstance(credentials, external_account_authorized_user.Credentials):
            return "a workforce identity"
        if isinstance(credentials, impersonated_credentials.Credentials):
            return "an impersonated service account"
        return "a workload identity"

    @property
    def own(self) -> str:
        """E-mail address of the credentials' own service account, or empty if they have none."""
        credentials = self._credentials
        if isinstance(credentials, compute_engine.Credentials) and "@" not in credentials.service_account_email:
            self._refresh()
        email = getattr(credentials, "service_account_email", None) or ""
        return email if "@" in email else ""

    @property
    def account(self) -> str:
        """E-mail address of the service account to sign in as.  Raises IapError."""
        account = self._settings.service_account or self.own
        if not account:
            if isinstance(self._credentials, external_account_authorized_user.Credentials):
                raise IapError(
                    "Workforce identities sign in to Identity-Aware Proxy by browser only: set "
                    "MLFLOW_IAP_SERVICE_ACCOUNT to a service account that this identity may impersonate."
                )
            raise IapError(
                f"The credentials are {self.kind}, which cannot sign in to Identity-Aware Proxy directly: set "
                "MLFLOW_IAP_SERVICE_ACCOUNT to the logger's service account (site.yml prints it as "
                "logger_service_account)."
            )
        return account

    @property
    def _caller(self) -> Credentials:
        """The credentials that call IAM to sign: those that impersonate an account, not the account's own."""
        credentials = self._credentials
        if self.account != self.own:
            return credentials
        if isinstance(credentials, impersonated_credentials.Credentials):
            return credentials._source_credentials
        if isinstance(credentials, external_account.Credentials):
            impersonation = "service_account_impersonation"
            info = {name: value for name, value in credentials.info.items() if not name.startswith(impersonation)}
            return google.auth.load_credentials_from_dict(info, scopes=[SCOPE])[0]
        return credentials

    @property
    def key(self) -> str:
        """The cache key of this identity, which contains no secret."""
        if self._settings.service_account:
            who = getattr(self._credentials, "service_account_email", None) or getattr(
                self._credentials, "account", None
            )
            return f"{self.kind} {who or ''} {self._settings.service_account} {self._settings.client_id}"
        return f"{self.account} {self._settings.client_id}"

    def token(self, origin: str) -> Token:
        """A token for the server at an origin (https://host).  Raises IapError."""
        if self._settings.client_id:
            return self._openid(self._settings.client_id)
        try:
            return self._signed(origin)
        except Denied as denied:
            # A machine's own account may sign for itself only with a role grant, but it can always get an ID token.
            if self.account != self.own or not isinstance(self._credentials, compute_engine.Credentials):
                raise
            audience = client_of(origin)
            if not audience:
                raise denied from None
            return self._openid(audience)

    # -- the kinds of tokens -------------------------------------------------

    def _signed(self, origin: str) -> Token:
        """A JWT of the service account for all paths of a server, which works with every kind of OAuth client."""
        account, issued = self.account, int(time.time()) - EARLIER
        expires = issued + self._settings.seconds
        claims = {"iss": account, "sub": account, "aud": f"{origin}/*", "iat": issued, "exp": expires}
        credentials = self._credentials
        if isinstance(credentials, service_account.Credentials) and account == credentials.service_account_email:
            value = google_jwt.encode(credentials.signer, claims).decode()
            return Token(value, expires, "a JWT signed by the account's key", account)
        answer = self._call(f"{API}/{account}:signJwt", {"payload": json.dumps(claims)})
        return Token(answer["signedJwt"], expires, "a JWT signed by IAM", account)

    def _openid(self, audience: str) -> Token:
        """An OpenID Connect token for an OAuth client."""
        account, credentials = self.account, self._credentials
        if account == self.own and isinstance(credentials, compute_engine.Credentials | service_account.Credentials):
            try:
                if isinstance(credentials, service_account.Credentials):
                    source: Any = service_account.IDTokenCredentials(
                        credentials.signer, account, credentials._token_uri, audience
                    )
                else:
                    source = compute_engine.IDTokenCredentials(Request(), audience, use_metadata_identity_endpoint=True)
                source.refresh(Request())
            except exceptions.GoogleAuthError as error:
                raise _explained(error, self.kind) from error
            value = source.token
        else:
            body = {"audience": audience, "includeEmail": True}
            value = self._call(f"{API}/{account}:generateIdToken", body)["token"]
        expires = float(google_jwt.decode(value, verify=False)["exp"])
        return Token(value, expires, f"an ID token for {audience}", account)

    # -- calls -----------------------------------------------------------------

    def _refresh(self) -> None:
        try:
            self._credentials.refresh(Request())
        except exceptions.GoogleAuthError as error:
            raise _explained(error, self.kind) from error

    def _call(self, url: str, body: dict[str, Any]) -> Any:
        try:
            answer = AuthorizedSession(self._caller).post(url, json=body, timeout=TIMEOUT)
        except exceptions.GoogleAuthError as error:
            raise _explained(error, self.kind) from error
        except requests.RequestException as error:
            raise Unreachable(f"Google's IAM could not be reached: {_line(error)}.") from error
        if answer.ok:
            return answer.json()
        account = url.removeprefix(f"{API}/").partition(":")[0]
        try:
            said = answer.json()["error"]
        except (ValueError, KeyError):
            said = {"message": answer.text}
        text = _line(said.get("message", ""))
        if answer.status_code in (429, 500, 502, 503, 504):
            raise Unreachable(f"Google's IAM responded with {answer.status_code}: {text}.")
        if "SERVICE_DISABLED" in json.dumps(said):
            raise IapError(f"The IAM Credentials API is not enabled: enable iamcredentials.googleapis.com ({text}).")
        if answer.status_code == 404:
            raise IapError(f"The service account {account} does not exist: check MLFLOW_IAP_SERVICE_ACCOUNT ({text}).")
        if answer.status_code == 403:
            raise Denied(
                f"{self.kind[0].upper()}{self.kind[1:]} may not sign for {account}: it needs "
                "roles/iam.serviceAccountTokenCreator on that account (add it to mlflow_logger_token_creators and run "
                f"site.yml; a new grant takes up to a few minutes) ({text})."
            )
        raise IapError(f"Google's IAM rejected the request to sign for {account}: {answer.status_code} {text}.")


def client_of(origin: str) -> str:
    """The ID of the OAuth client in a server's redirect to the sign-in page; empty if there is none.

    Raises Unreachable.
    """
    try:
        answer = requests.get(f"{origin}/", headers={"Accept": "text/html"}, allow_redirects=False, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise Unreachable(f"{origin} could not be reached: {_line(error)}.") from error
    found = parse_qs(urlsplit(answer.headers.get("Location", "")).query).get("client_id", [""])
    return found[0].strip()


def _explained(error: exceptions.GoogleAuthError, kind: str) -> IapError:
    text = _line(error)
    if isinstance(error, exceptions.TransportError) or getattr(error, "retryable", False):
        return Unreachable(f"Google could not be reached for a token: {text}.")
    if "invalid_grant" in text or "reauth" in text.lower():
        return IapError(
            f"Google no longer accepts {kind}: run 'gcloud auth application-default login' again, or renew the "
            f"key; if that does not help, check this machine's clock ({text})."
        )
    return IapError(f"Google issues no token for {kind}: {text}.")


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
