# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine that all of MLflow's stores share, and the errors that they get when the database does not answer."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import psycopg2
import sqlalchemy
from mlflow.server import handlers
from mlflow.store.db import utils
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine, ExceptionContext

from mlflow_gcp_server import seams
from mlflow_gcp_server.pool import GatedPool, on_event_loop, unavailable
from mlflow_gcp_server.settings import Settings

# How long a request waits for a restarting database; a failover takes longer, then the client retries.
RECONNECT_SECONDS = 10.0
# https://www.postgresql.org/docs/current/libpq-connect.html: an unresponsive peer is given up after 15 seconds.
CONNECTION = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
    "application_name": "mlflow-server",
}
# Temporary errors, in the server's wording; libpq gives no SQLSTATE for a rejected connection.
PASSING = (
    "the database system is",  # starting up, shutting down, in recovery mode, not yet accepting connections
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "terminating connection",
)
# read_only_sql_transaction: this server has become a standby. The exception's class is InternalError.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
STANDBY = "25006"


def passes(error: psycopg2.Error) -> bool:
    """Whether a failed connection may succeed later: nothing is listening yet, or the server says so."""
    message = str(error)
    return "FATAL:" not in message or any(reason in message for reason in PASSING)


def connection_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of psycopg2.connect for a separate connection outside the pool."""
    return CONNECTION | {
        "host": settings.db_host,
        "port": settings.db_port,
        "dbname": settings.db_name,
        "user": settings.db_user,
        "password": settings.db_password,
        "sslmode": settings.db_sslmode,
    }


@cache
def engine(settings: Settings) -> Engine:
    """The engine; always the same one."""
    made = sqlalchemy.create_engine(
        URL.create(
            "postgresql+psycopg2",
            username=settings.db_user,
            password=settings.db_password,
            host=settings.db_host,
            port=settings.db_port,
            database=settings.db_name,
            query={"sslmode": settings.db_sslmode},
        ),
        connect_args=CONNECTION,
        poolclass=GatedPool,
        pool_size=settings.db_pool_size,
        max_overflow=settings.db_max_overflow,
        pool_timeout=settings.db_wait_seconds,
        pool_recycle=settings.db_pool_recycle,
        pool_pre_ping=True,
    )
    event.listen(made, "do_connect", _connect)
    event.listen(made, "handle_error", _translate, retval=True)
    return made


def install(settings: Settings) -> None:
    """Make MLflow use this engine everywhere.  Raises RuntimeError if this version of MLflow would not."""
    seams.require(utils, "create_sqlalchemy_engine_with_retry", ("db_uri",))
    seams.require(utils, "create_sqlalchemy_engine", ("db_uri",))
    seams.replace(utils, "create_sqlalchemy_engine", lambda db_uri: engine(settings))


def share(settings: Settings) -> None:
    """Create MLflow's stores and check that they all use this engine.  Raises RuntimeError."""
    for name, parameters in (
        ("_get_tracking_store", ("backend_store_uri", "default_artifact_root")),
        ("_get_model_registry_store", ("registry_store_uri",)),
        ("_get_job_store", ("backend_store_uri",)),
    ):
        store = seams.require(handlers, name, parameters)()
        if store.engine is not engine(settings):
            raise RuntimeError(f"{type(store).__name__} of this version of MLflow creates its own engine")


def _connect(dialect: Any, entry: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
    """Connect; waits for a database that is restarting, but not on an event loop."""
    give_up = time.monotonic() + (0 if on_event_loop() else RECONNECT_SECONDS)
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except psycopg2.OperationalError as error:
            if not passes(error) or time.monotonic() >= give_up:
                raise
            time.sleep(0.2)


def _translate(context: ExceptionContext) -> Exception | None:
    """Convert temporary errors into 503: MLflow turns some of them into 400 or 500, depending on where they occur."""
    error = context.original_exception
    lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    standby = getattr(error, "pgcode", None) == STANDBY
    if context.is_pre_ping or not (lost or standby or context.is_disconnect):
        return None
    return unavailable((str(error).strip() or type(error).__name__).splitlines()[0])
