# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start MLflow's tracking server with PostgreSQL and a Cloud Storage bucket behind it, told by the environment alone.

Required: MLFLOW_DB_HOST, MLFLOW_DB_NAME, MLFLOW_DB_USER, MLFLOW_DB_PASSWORD,
          MLFLOW_ARTIFACTS_BUCKET (a name, or gs://name/prefix).
Optional: PORT (8080), HOST (0.0.0.0), MLFLOW_DB_PORT (5432), MLFLOW_DB_SSLMODE (prefer),
          and every variable of MLflow's own.

Exit status: 0 after SIGTERM or SIGINT, 1 when the database cannot be used, 2 when the environment is wrong.

MLflow runs in this process and not as `mlflow server`, which loads MLflow in two processes (twice the time to start)
and says 0 when the second has died. The names that begin with _MLFLOW are internal to MLflow: look at them again when
it is upgraded.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn
from urllib.parse import quote

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
CONNECT_SECONDS = 30.0
# Cloud Run kills an instance 10 seconds after SIGTERM; some of them go to ending the process itself.
GRACE_SECONDS = 5
# "mlflow" in ASCII: whoever starts the server takes this PostgreSQL advisory lock first.
SCHEMA_LOCK = 0x6D6C666C6F77

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_AI_GATEWAY": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # At most 6 connections an instance: the smallest Cloud SQL tiers allow 25 and 50 in all.
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "3",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "1",
}


class Settings:
    """What the environment says, checked; `errors` has one sentence for each thing that is wrong with it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.errors: list[str] = []
        self.host = env.get("HOST") or "0.0.0.0"
        self.port = self._port(env, "PORT", 8080)
        self.db_host = self._required(env, "MLFLOW_DB_HOST")
        self.db_port = self._port(env, "MLFLOW_DB_PORT", 5432)
        self.db_name = self._required(env, "MLFLOW_DB_NAME")
        self.db_user = self._required(env, "MLFLOW_DB_USER")
        self.db_password = self._required(env, "MLFLOW_DB_PASSWORD")
        self.db_sslmode = env.get("MLFLOW_DB_SSLMODE") or "prefer"
        if self.db_sslmode not in SSLMODES:
            self.errors.append(f"MLFLOW_DB_SSLMODE is {self.db_sslmode!r}; it must be one of {', '.join(SSLMODES)}")
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
        text = env.get(name) or str(default)
        if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
            return int(text)
        self.errors.append(f"{name} is {text!r}; it must be a port number from 1 to 65535")
        return default

    @property
    def backend_uri(self) -> str:
        """SQLAlchemy's URI of the database, every part of it quoted."""
        host = f"[{self.db_host}]" if ":" in self.db_host else self.db_host
        user, password, name = (quote(part, safe="") for part in (self.db_user, self.db_password, self.db_name))
        return f"postgresql+psycopg2://{user}:{password}@{host}:{self.db_port}/{name}?sslmode={self.db_sslmode}"


def fail(message: str, status: int = 1) -> NoReturn:
    """End with one line on stderr."""
    print(f"mlflow-server: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    sys.exit(status)


@contextmanager
def schema_lock(settings: Settings) -> Iterator[None]:
    """Hold the advisory lock: of two servers that start on one empty database, one would die creating the tables.

    Waits up to CONNECT_SECONDS for a server that cannot be reached yet; one that refuses us ends the start at once.
    """
    import psycopg2

    give_up = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            connection = psycopg2.connect(
                host=settings.db_host,
                port=settings.db_port,
                dbname=settings.db_name,
                user=settings.db_user,
                password=settings.db_password,
                sslmode=settings.db_sslmode,
                connect_timeout=5,
            )
            break
        except psycopg2.OperationalError as error:
            refused = "FATAL:" in str(error) and "starting up" not in str(error)
            if refused or time.monotonic() >= give_up:
                fail(f"the database cannot be used: {error}")
            time.sleep(0.5)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5min'")
            cursor.execute("SELECT pg_advisory_lock(%s)", (SCHEMA_LOCK,))
        yield
    except psycopg2.Error as error:
        fail(f"the database cannot be used: {error}")
    finally:
        connection.close()


def main() -> None:
    # As process 1 of a container we would not be stopped by a signal that nobody handles.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))

    settings = Settings(os.environ)
    if settings.errors:
        for message in settings.errors:
            print(f"mlflow-server: {message}", file=sys.stderr, flush=True)
        sys.exit(2)

    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    artifact_root = "mlflow-artifacts:/"
    os.environ.update(
        _MLFLOW_SERVER_FILE_STORE=settings.backend_uri,
        _MLFLOW_SERVER_REGISTRY_STORE=settings.backend_uri,
        _MLFLOW_SERVER_ARTIFACT_ROOT=artifact_root,
        _MLFLOW_SERVER_ARTIFACT_DESTINATION=settings.artifacts,
        _MLFLOW_SERVER_SERVE_ARTIFACTS="true",
        _MLFLOW_SGI_NAME="uvicorn",
    )
    # Only now, because this takes seconds: a wrong environment is told at once, and the lock is held briefly.
    import uvicorn
    from mlflow.server.handlers import initialize_backend_stores

    with schema_lock(settings):
        try:
            initialize_backend_stores(settings.backend_uri, settings.backend_uri, artifact_root)
        except Exception as error:
            fail(f"MLflow cannot use this database: {type(error).__name__}: {error}")
    print(f"mlflow-server: serving on {settings.host}:{settings.port}, artifacts in {settings.artifacts}", flush=True)
    uvicorn.run(
        "mlflow.server.fastapi_app:app",
        host=settings.host,
        port=settings.port,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
