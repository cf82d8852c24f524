# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks and upgrades of the database schema for this image's MLflow, by one process at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import mlflow
import psycopg2
from alembic.script import ScriptDirectory
from mlflow.store.db import utils

from mlflow_gcp_server import database, seams
from mlflow_gcp_server.console import fail, say
from mlflow_gcp_server.settings import Settings

CONNECT_SECONDS = 30.0
# "mlflow" in ASCII: the PostgreSQL advisory lock that is required for changing the database.
LOCK = 0x6D6C666C6F77

for _name, _parameters in (
    ("_get_alembic_config", ("db_url", "alembic_dir")),
    ("_get_latest_schema_revision", ()),
    ("_get_schema_version", ("engine",)),
    ("_is_empty_database", ("engine",)),
    ("_initialize_tables", ("engine",)),
    ("_upgrade_db", ("engine",)),
):
    seams.require(utils, _name, _parameters)


class State(Enum):
    """How the database schema relates to this image; the value is the exit status of the command `schema`."""

    CURRENT = 0
    BEHIND = 3
    AHEAD = 4


@dataclass(frozen=True)
class Schema:
    """The Alembic revisions of the database (None: no table yet, or none of MLflow's) and of the image."""

    empty: bool
    found: str | None
    expected: str
    state: State

    def __str__(self) -> str:
        image = f"this image (MLflow {mlflow.__version__})"
        if self.empty:
            return f"the database is empty, {image} will create the schema at revision {self.expected}"
        if self.state is State.AHEAD:
            return (
                f"the database's schema is at revision {self.found}, which {image} does not know (its own is "
                f"{self.expected}): use the image that was deployed before, or one with a newer MLflow"
            )
        if self.state is State.BEHIND:
            return f"the database's schema is at revision {self.found}, {image} needs {self.expected}"
        return f"the database's schema is at revision {self.found}, as {image} needs it"


@contextmanager
def lock(settings: Settings) -> Iterator[None]:
    """Hold the advisory lock: of two servers that start with an empty database, one would fail creating the tables.

    Waits up to CONNECT_SECONDS for a database that cannot be reached yet; exits immediately if it rejects the connection.
    """
    give_up = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            connection = psycopg2.connect(**database.connection_arguments(settings))
            break
        except psycopg2.OperationalError as error:
            if not database.passes(error) or time.monotonic() >= give_up:
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


def inspect(settings: Settings) -> Schema:
    """Compare the database with the migrations of this image's MLflow."""
    engine = database.engine(settings)
    expected = utils._get_latest_schema_revision()
    found = utils._get_schema_version(engine)
    empty = found is None and utils._is_empty_database(engine)
    if empty or found == expected:
        return Schema(empty, found, expected, State.CURRENT)
    known = {script.revision for script in ScriptDirectory.from_config(utils._get_alembic_config("")).walk_revisions()}
    state = State.BEHIND if found is None or found in known else State.AHEAD
    return Schema(empty, found, expected, state)


def upgrade(settings: Settings, allowed: bool = True) -> None:
    """Create the tables, or upgrade them to this image's revision if `allowed`; requires the lock.

    PostgreSQL rolls back an interrupted migration, so the next start repeats it from the beginning.
    Exits with one line if the schema is newer, or older and must not be upgraded.
    """
    schema = inspect(settings)
    if schema.state is State.AHEAD:
        fail(str(schema))
    if schema.state is State.BEHIND and not allowed:
        fail(f"{schema}, and MLFLOW_DB_UPGRADE is never: run this image's command `upgrade` first")
    if schema.empty:
        utils._initialize_tables(database.engine(settings))
        say(f"created the database's schema at revision {schema.expected}")
    elif schema.state is State.BEHIND:
        say(f"{schema}: upgrading")
        if schema.found is None:
            utils._initialize_tables(database.engine(settings))
        else:
            utils._upgrade_db(database.engine(settings))
        say(f"upgraded the database's schema from revision {schema.found} to {schema.expected}")
