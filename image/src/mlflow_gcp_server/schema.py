# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database's schema: what it is, and how it becomes what this image's MLflow needs. One process at a time."""

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
# "mlflow" in ASCII: whoever changes the database takes this PostgreSQL advisory lock first.
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
    """How the database's schema stands to this image; the value is the exit status of the command `schema`."""

    CURRENT = 0
    BEHIND = 3
    AHEAD = 4


@dataclass(frozen=True)
class Schema:
    """The revisions that Alembic knows: the database's (None: no table yet, or not one of MLflow's) and the image's."""

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
    """Hold the advisory lock: of two servers that start on one empty database, one would die creating the tables.

    Waits up to CONNECT_SECONDS for a server that cannot be reached yet; one that refuses us ends the start at once.
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
    """Create the tables, or bring them to this image's revision if that is `allowed`; the lock must be held.

    PostgreSQL takes back a migration that was cut short, so the next start does it again from the beginning.
    Ends the process with one line where the schema is ahead, or behind and not to be touched.
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
