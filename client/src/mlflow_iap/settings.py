# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment variables for the identity and the server."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlflow_iap.errors import IapError

LONGEST = 3600


@dataclass(frozen=True)
class Settings:
    """The values of the environment variables.

    service_account: e-mail address of the account to sign in as, or empty for the credentials' own.  client_id: of the OAuth
    client that ID tokens are for, or empty to detect it.  seconds: the lifetime of tokens.
    """

    service_account: str = ""
    client_id: str = ""
    seconds: int = LONGEST

    @classmethod
    def read(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """The settings of an environment.  Raises IapError."""
        account = env.get("MLFLOW_IAP_SERVICE_ACCOUNT", "").strip()
        if account and not re.fullmatch(r"[a-z0-9-]+@[a-z0-9.-]+\.gserviceaccount\.com", account):
            raise IapError(
                f"MLFLOW_IAP_SERVICE_ACCOUNT is {account!r}; it must be the e-mail address of a service account, "
                "such as mlflow-logger@my-project.iam.gserviceaccount.com."
            )
        client = env.get("MLFLOW_IAP_CLIENT_ID", "").strip()
        if client and not client.endswith(".apps.googleusercontent.com"):
            raise IapError(
                f"MLFLOW_IAP_CLIENT_ID is {client!r}; it must be the ID of an OAuth client, "
                "such as 123456789012-abc123.apps.googleusercontent.com."
            )
        text = env.get("MLFLOW_IAP_TOKEN_SECONDS", "").strip() or str(LONGEST)
        if not text.isdecimal() or not 10 <= int(text) <= LONGEST:
            raise IapError(f"MLFLOW_IAP_TOKEN_SECONDS is {text!r}; it must be a number from 10 to {LONGEST}.")
        return cls(account, client, int(text))


def origin(url: str) -> str:
    """Scheme and host of a server's URL, as IAP's tokens name it.  Raises IapError."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise IapError(
            f"The server's URL is {url!r}; Identity-Aware Proxy requires https: "
            "set MLFLOW_TRACKING_URI to https://<the domain>."
        )
    return f"https://{parts.hostname}"
