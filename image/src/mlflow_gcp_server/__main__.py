# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow's tracking server, backed by PostgreSQL and a Cloud Storage bucket, configured only by environment variables.

    python -m mlflow_gcp_server [COMMAND]

serve    (default) upgrade the database schema if needed, then serve until SIGTERM or SIGINT
schema   compare the database schema with the one this image needs, in one line; changes nothing
upgrade  upgrade the database schema, for servers that must not do it themselves (MLFLOW_DB_UPGRADE=never)
gc       permanently remove what users deleted, from database and bucket: gc [--older-than 30d] [--dry-run] [--run-ids A,B]
         [--experiment-ids 1,2] [--jobs]; only the given IDs if there are any, else everything deleted that long ago

Required: MLFLOW_DB_HOST, MLFLOW_DB_NAME, MLFLOW_DB_USER, MLFLOW_DB_PASSWORD,
          MLFLOW_ARTIFACTS_BUCKET (a name, or gs://name/prefix).
Optional: PORT (8080), HOST (0.0.0.0), MLFLOW_DB_PORT (5432), MLFLOW_DB_SSLMODE (prefer), MLFLOW_DB_UPGRADE (auto or never),
          MLFLOW_DB_WAIT_SECONDS (50, how long a request waits for a database connection),
          MLFLOW_SQLALCHEMYSTORE_POOL_SIZE (3) and _MAX_OVERFLOW (1): their sum is the maximum number of connections of an
          instance, plus 1 for /ready; and all of MLflow's own variables.
Keys, which must be the same in all instances and never change: MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY (a Fernet key),
          MLFLOW_CRYPTO_KEK_PASSPHRASE, MLFLOW_FLASK_SERVER_SECRET_KEY.

Exit status: 0 after SIGTERM or SIGINT, 1 if the database cannot be used, 2 if the environment is invalid;
             of `schema`: 0 as needed (or empty), 3 older, 4 newer; of `gc`: 1 if something could not be removed.

MLflow runs in this process instead of as `mlflow server`, which loads MLflow in two processes (twice the startup time)
and exits with 0 when the second one has died.
"""

from __future__ import annotations

import argparse
import gc as collector
import importlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType
from typing import cast

from mlflow_gcp_server.console import fail, one_line, say, warn
from mlflow_gcp_server.settings import ARTIFACT_ROOT, DEFAULTS, Settings

# MLflow's own login; for the effect of None see https://docs.python.org/3/reference/import.html#the-module-cache.
AUTH = "mlflow.server.auth"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; see the module's docstring."""
    # Process 1 of a container is not terminated by signals that it does not handle.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))

    parser = argparse.ArgumentParser(
        prog="mlflow_gcp_server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=serve)
    commands = parser.add_subparsers(metavar="COMMAND", help=argparse.SUPPRESS)
    for name, command in (("serve", serve), ("schema", schema), ("upgrade", upgrade), ("gc", gc)):
        one = commands.add_parser(name, description=command.__doc__)
        one.set_defaults(run=command)
        if command is gc:
            one.add_argument(
                "--older-than",
                metavar="AGE",
                type=_age,
                default="0s",
                help="only what was deleted at least this long ago, for example 30d or 12h",
            )
            one.add_argument("--dry-run", action="store_true", help="show what would be removed, but remove nothing")
            one.add_argument("--run-ids", metavar="ID,…", type=_ids, default=(), help="only these runs")
            one.add_argument(
                "--experiment-ids", metavar="ID,…", type=_ids, default=(), help="only these experiments and their runs"
            )
            one.add_argument("--jobs", action="store_true", help="also the records of finished jobs")
    asked = parser.parse_args(arguments)

    settings = Settings(os.environ)
    if settings.errors:
        for message in settings.errors:
            warn(message)
        sys.exit(2)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.update(settings.mlflow_environment)
    asked.run(settings, asked)


def _ids(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _age(text: str) -> timedelta:
    """Parse a duration such as `30d`, `12h` or `1d12h30m5s`."""
    match = re.fullmatch(r"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,5})s)?", text)
    if not text or not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 30d, 12h or 1d12h30m5s")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


# Only the commands import MLflow, because this takes seconds: an invalid environment is reported at once. These imports also
# report incompatibilities with an upgraded MLflow.


@contextmanager
def _importing() -> Iterator[None]:
    """Import without looking for garbage: nearly everything stays, and the search takes a seventh of the time."""
    collector.disable()
    try:
        yield
    finally:
        collector.freeze()
        collector.enable()


def serve(settings: Settings, _: argparse.Namespace) -> None:
    """Prepare the database, holding the lock, then serve."""
    with one_line("cannot start"):
        with _importing():
            from mlflow.server.fastapi_app import app
            from mlflow.server.handlers import initialize_backend_stores

            from mlflow_gcp_server import artifacts, availability, database, downloads, keys, server, traces
            from mlflow_gcp_server import schema as schemas

            _settle_imports()
        database.install(settings)
        keys.install()
        with schemas.lock(settings):
            schemas.upgrade(settings, allowed=settings.db_upgrade == "auto")
            keys.adopt(database.engine(settings))
            initialize_backend_stores(settings.backend_uri, settings.backend_uri, ARTIFACT_ROOT)
        database.share(settings)
        downloads.install(app)
    artifacts.signing().test(lambda: artifacts.StreamingArtifactRepository(settings.artifacts).probe())
    say(f"serving on {settings.host}:{settings.port}, artifacts in {settings.artifacts}")
    server.serve(availability.Availability(traces.LargeTraces(app), settings), settings.host, settings.port)


def _settle_imports() -> None:
    """Import once what MLflow imports in every search for runs: if that fails, concurrent searches return 500."""
    try:
        importlib.import_module(AUTH)
    except ImportError:  # Flask-WTF is not in the image, because MLflow's own login is not used
        cast("dict[str, ModuleType | None]", sys.modules)[AUTH] = None


def schema(settings: Settings, _: argparse.Namespace) -> None:
    """Compare the schema with the one this image needs; the result is one line and the exit status."""
    with one_line("cannot read the schema"):
        with _importing():
            from mlflow_gcp_server import schema as schemas

        found = schemas.inspect(settings)
    say(str(found))
    sys.exit(found.state.value)


def upgrade(settings: Settings, _: argparse.Namespace) -> None:
    """Upgrade the schema, holding the lock."""
    with one_line("cannot upgrade the schema"):
        with _importing():
            from mlflow_gcp_server import schema as schemas

        with schemas.lock(settings):
            schemas.upgrade(settings)
            say(str(schemas.inspect(settings)))


def gc(settings: Settings, asked: argparse.Namespace) -> None:
    """Remove what users deleted from the database and the bucket, or show what would be removed."""
    with one_line("gc"):
        with _importing():
            from mlflow.server.handlers import initialize_backend_stores

            from mlflow_gcp_server import collect, database
            from mlflow_gcp_server import schema as schemas

        database.install(settings)
        found = schemas.inspect(settings)
        if found.empty or found.state is not schemas.State.CURRENT:
            fail(f"gc: {found}; nothing was removed")
        initialize_backend_stores(settings.backend_uri, settings.backend_uri, ARTIFACT_ROOT)
        database.share(settings)
        done = collect.collect(
            settings, asked.older_than, asked.dry_run, asked.run_ids, asked.experiment_ids, asked.jobs
        )
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    main()
