# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database's schema: one server at a time may create or change it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2

from mlflow_gcp_server.console import fail
from mlflow_gcp_server.settings import Settings

CONNECT_SECONDS = 30.0
# "mlflow" in ASCII: whoever starts the server takes this PostgreSQL advisory lock first.
LOCK = 0x6D6C666C6F77


@contextmanager
def lock(settings: Settings) -> Iterator[None]:
    """Hold the advisory lock: of two servers that start on one empty database, one would die creating the tables.

    Waits up to CONNECT_SECONDS for a server that cannot be reached yet; one that refuses us ends the start at once.
    """
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
            cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        yield
    except psycopg2.Error as error:
        fail(f"the database cannot be used: {error}")
    finally:
        connection.close()
