# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed URLs of Cloud Storage without a key: IAM signs for the server's own service account.

The account needs roles/iam.serviceAccountTokenCreator on itself, and the project needs the API iamcredentials.googleapis.com.
https://cloud.google.com/storage/docs/access-control/signed-urls, https://cloud.google.com/iam/docs/reference/credentials/rest
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import google.auth.transport.requests
import requests
from google.auth import compute_engine, iam
from google.auth import credentials as auth
from google.cloud import storage
from google.oauth2 import service_account
from requests.adapters import HTTPAdapter

from mlflow_gcp_server.console import say, warn

# Seconds between two attempts while signing does not work: a new role grant takes minutes to propagate.
PAUSES = (2, 5, 10, 20, 30, 60, 120, 300)
CONNECTIONS = 64

# What a server has: Cloud Run's own account, or elsewhere a key.
Credentials = compute_engine.Credentials | service_account.Credentials


class _Signer(auth.Signing):
    """The signer for google-cloud-storage: the credentials' own key if they have one, else IAM."""

    def __init__(self, credentials: Credentials) -> None:
        session = requests.Session()
        session.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS))
        request = google.auth.transport.requests.Request(session)
        self._email = getattr(credentials, "signer_email", None) or ""
        if isinstance(credentials, auth.Signing) and self._email:
            self._signer = credentials.signer
            return
        if not credentials.valid:
            credentials.refresh(request)  # before that, the account is unknown
        self._email = credentials.service_account_email
        self._signer = iam.Signer(request, credentials, self._email)

    def sign_bytes(self, message: bytes) -> bytes:
        return self._signer.sign(message)

    @property
    def signer_email(self) -> str:
        return self._email

    @property
    def signer(self) -> Any:
        return self._signer


class Signing:
    """Signs URLs after it has verified that a signed URL works for the bucket."""

    def __init__(self, credentials: Callable[[], Credentials]) -> None:
        self._credentials = credentials
        self._signer: _Signer | None = None
        self._probe: Callable[[], storage.Blob]  # set by `test`
        self.works = False

    def url(self, blob: storage.Blob, method: str, lifetime: timedelta, query: dict[str, Any]) -> str:
        """A signed V4 URL for one request.  Raises google.auth.exceptions.GoogleAuthError."""
        if self._signer is None:
            self._signer = _Signer(self._credentials())
        return blob.generate_signed_url(
            version="v4", expiration=lifetime, method=method, query_parameters=query, credentials=self._signer
        )

    def _try(self, probe: Callable[[], storage.Blob]) -> str:
        """Why a signed URL does not work, or an empty string."""
        try:
            answer = requests.get(self.url(probe(), "GET", timedelta(minutes=5), {}), timeout=20)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        # The object does not exist: with read access the response is 404, without it 403.
        return "" if answer.status_code in (200, 404) else f"{answer.status_code} {answer.text}"

    def _test(self, first_pause: float) -> None:
        time.sleep(first_pause)
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            reason = self._try(self._probe)
            if not reason:
                self.works = True
                say("URLs of the bucket can be signed: clients transfer large files directly")
                return
            if pause == PAUSES[0]:
                warn(f"URLs of the bucket cannot be signed, so all files go through the server: {reason[:300]}")
            time.sleep(pause)

    def test(self, probe: Callable[[], storage.Blob]) -> None:
        """Test in the background whether URLs can be signed, until it works; the object need not exist."""
        self._probe = probe
        self._begin(0)

    def failed(self) -> None:
        """Signing has stopped working: signed URLs are not offered until it works again."""
        if self.works:
            self.works = False
            self._begin(PAUSES[0])

    def _begin(self, first_pause: float) -> None:
        threading.Thread(target=self._test, args=(first_pause,), name="signing", daemon=True).start()
