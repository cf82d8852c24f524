# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow's tracking server with PostgreSQL and a Cloud Storage bucket behind it, told by the environment alone.

    python -m mlflow_gcp_server [COMMAND]

serve    (or nothing) bring the database's schema up to date, then serve until SIGTERM or SIGINT
schema   say in one line how the database's schema stands to this image; changes nothing
upgrade  bring the database's schema up to date, for servers that must not (MLFLOW_DB_UPGRADE=never)
gc       remove for good what users deleted, database and bucket: gc [--older-than 30d] [--dry-run] [--run-ids A,B]
         [--experiment-ids 1,2] [--jobs]; the ids alone if there are any, else everything that was deleted so long ago

Required: MLFLOW_DB_HOST, MLFLOW_DB_NAME, MLFLOW_DB_USER, MLFLOW_DB_PASSWORD,
          MLFLOW_ARTIFACTS_BUCKET (a name, or gs://name/prefix).
Optional: PORT (8080), HOST (0.0.0.0), MLFLOW_DB_PORT (5432), MLFLOW_DB_SSLMODE (prefer), MLFLOW_DB_UPGRADE (auto or never),
          MLFLOW_DB_WAIT_SECONDS (50, how long a request waits for a database connection),
          MLFLOW_SQLALCHEMYSTORE_POOL_SIZE (3) and _MAX_OVERFLOW (1): together, what an instance opens at most, and 1 to be ready
          or not, and every variable of MLflow's own.
Keys, to be the same in each instance and for ever: MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY (a Fernet key),
          MLFLOW_CRYPTO_KEK_PASSPHRASE, MLFLOW_FLASK_SERVER_SECRET_KEY.

Exit status: 0 after SIGTERM or SIGINT, 1 when the database cannot be used, 2 when the environment is wrong;
             of `schema`: 0 as this image needs it (or empty), 3 behind, 4 ahead; of `gc`: 1 when something could not be removed.

MLflow runs in this process and not as `mlflow server`, which loads MLflow in two processes (twice the time to start)
and says 0 when the second has died.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta

from mlflow_gcp_server.console import fail, one_line, say, warn
from mlflow_gcp_server.settings import ARTIFACT_ROOT, DEFAULTS, Settings

# MLflow's own sign-in; https://docs.python.org/3/reference/import.html#the-module-cache says what None there does.
AUTH = "mlflow.server.auth"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; see the module's text."""
    # As process 1 of a container we would not be stopped by a signal that nobody handles.
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
                help="deleted at least so long ago, as 30d or 12h",
            )
            one.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
            one.add_argument("--run-ids", metavar="ID,…", type=_ids, default=(), help="these alone")
            one.add_argument(
                "--experiment-ids", metavar="ID,…", type=_ids, default=(), help="these and their runs alone"
            )
            one.add_argument("--jobs", action="store_true", help="the records of jobs that are over, as well")
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
    """The time that `30d`, `12h` or `1d12h30m5s` says."""
    match = re.fullmatch(r"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,5})s)?", text)
    if not text or not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30d, 12h or 1d12h30m5s")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


# MLflow is imported by the commands, because this takes seconds: a wrong environment is told at once. What does not fit an
# upgraded MLflow is told by these imports.


def serve(settings: Settings, _: argparse.Namespace) -> None:
    """Prepare the database under the lock, then serve."""
    with one_line("cannot start"):
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
    """Import once what MLflow imports in each search for runs: where that fails, concurrent searches answer 500."""
    try:
        importlib.import_module(AUTH)
    except ImportError:  # Flask-WTF is not in the image, since nobody signs in to MLflow itself
        sys.modules[AUTH] = None


def schema(settings: Settings, _: argparse.Namespace) -> None:
    """Say how the schema stands, by a line and by the exit status."""
    with one_line("cannot read the schema"):
        from mlflow_gcp_server import schema as schemas

        found = schemas.inspect(settings)
    say(str(found))
    sys.exit(found.state.value)


def upgrade(settings: Settings, _: argparse.Namespace) -> None:
    """Bring the schema up to date under the lock."""
    with one_line("cannot upgrade the schema"):
        from mlflow_gcp_server import schema as schemas

        with schemas.lock(settings):
            schemas.upgrade(settings)
            say(str(schemas.inspect(settings)))


def gc(settings: Settings, asked: argparse.Namespace) -> None:
    """Remove what users deleted from the database and from the bucket, or say what would go."""
    with one_line("gc"):
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
