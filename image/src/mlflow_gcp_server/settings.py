# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's environment variables, checked before anything is started. Uses only the standard library."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from urllib.parse import quote

# Minimum length of a key that is used for encrypting or signing; generated keys are longer.
KEY_LENGTH = 16
SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# Variables of MLflow for which this server has different defaults.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_AI_GATEWAY": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


class Settings:
    """The checked values of the environment variables; `errors` has one sentence for each problem."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.errors: list[str] = []
        self.host = env.get("HOST") or "0.0.0.0"
        self.port = self._port(env, "PORT", 8080)
        self.db_host = self._required(env, "MLFLOW_DB_HOST")
        self.db_port = self._port(env, "MLFLOW_DB_PORT", 5432)
        self.db_name = self._required(env, "MLFLOW_DB_NAME")
        self.db_user = self._required(env, "MLFLOW_DB_USER")
        self.db_password = self._required(env, "MLFLOW_DB_PASSWORD")
        self.db_sslmode = self._choice(env, "MLFLOW_DB_SSLMODE", SSLMODES, "prefer")
        self.db_upgrade = self._choice(env, "MLFLOW_DB_UPGRADE", ("auto", "never"), "auto")
        # All stores share one pool. Up to 4 connections per instance: the smallest Cloud SQL tiers allow 25 and 50 in total.
        self.db_pool_size = self._number(env, "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", 3, 1, 1000)
        self.db_max_overflow = self._number(env, "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", 1, 0, 1000)
        if self.db_pool_size + self.db_max_overflow < 2:
            self.errors.append(
                "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE and MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW allow only one connection; "
                "MLflow needs at least 2"
            )
        self.db_pool_recycle = self._number(env, "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE", 1800, 1, 86400)
        # Even twice this long, for a second connection, is less than the 120 seconds after which MLflow's client gives up.
        self.db_wait_seconds = self._number(env, "MLFLOW_DB_WAIT_SECONDS", 50, 1, 55)
        self._keys(env)
        bucket = self._required(env, "MLFLOW_ARTIFACTS_BUCKET")
        self.artifacts = "gs://" + bucket.removeprefix("gs://").rstrip("/")
        if bucket and not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.+)?", self.artifacts):
            self.errors.append(
                f"MLFLOW_ARTIFACTS_BUCKET is {bucket!r}; it must be a bucket's name, or gs://name/prefix"
            )

    def _required(self, env: Mapping[str, str], name: str) -> str:
        value = env.get(name, "")
        if not value:
            self.errors.append(f"{name} is not set")
        return value

    def _port(self, env: Mapping[str, str], name: str, default: int) -> int:
        return self._number(env, name, default, 1, 65535, "port number")

    def _number(
        self, env: Mapping[str, str], name: str, default: int, least: int, most: int, kind: str = "number"
    ) -> int:
        text = env.get(name) or str(default)
        if text.isascii() and text.isdigit() and least <= int(text) <= most:
            return int(text)
        self.errors.append(f"{name} is {text!r}; it must be a {kind} from {least} to {most}")
        return default

    def _keys(self, env: Mapping[str, str]) -> None:
        """Check the keys that MLflow itself reads; their values are never shown."""
        fernet = env.get("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", "")
        if fernet and not (re.fullmatch(r"[A-Za-z0-9_-]{43}=", fernet) and len(urlsafe_b64decode(fernet)) == 32):
            self.errors.append(
                "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY is not a Fernet key: 32 bytes in URL-safe base64, 44 characters"
            )
        for name in ("MLFLOW_CRYPTO_KEK_PASSPHRASE", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
            if env.get(name) and len(env[name]) < KEY_LENGTH:
                self.errors.append(f"{name} is too short; it must have at least {KEY_LENGTH} characters")
        self._number(env, "MLFLOW_CRYPTO_KEK_VERSION", 1, 1, 2**31 - 1)

    def _choice(self, env: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
        value = env.get(name) or default
        if value not in allowed:
            self.errors.append(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
        return value

    @property
    def backend_uri(self) -> str:
        """The SQLAlchemy URI of the database, with all parts quoted."""
        host = f"[{self.db_host}]" if ":" in self.db_host else self.db_host
        user, password, name = (quote(part, safe="") for part in (self.db_user, self.db_password, self.db_name))
        return f"postgresql+psycopg2://{user}:{password}@{host}:{self.db_port}/{name}?sslmode={self.db_sslmode}"

    @property
    def mlflow_environment(self) -> dict[str, str]:
        """The variables with which `mlflow server` passes its options to its worker processes.

        The names are internal to MLflow: check them again when it is upgraded.
        """
        return {
            "_MLFLOW_SERVER_FILE_STORE": self.backend_uri,
            "_MLFLOW_SERVER_REGISTRY_STORE": self.backend_uri,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": ARTIFACT_ROOT,
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": self.artifacts,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
        }


# The artifact root that clients get, so that they send artifacts to the server instead of the bucket.
ARTIFACT_ROOT = "mlflow-artifacts:/"
