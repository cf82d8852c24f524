# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow's tracking server with PostgreSQL and a Cloud Storage bucket behind it, told by the environment alone.

    python -m mlflow_gcp_server [COMMAND]

serve    (or nothing) bring the database's schema up to date, then serve until SIGTERM or SIGINT
schema   say in one line how the database's schema stands to this image; changes nothing
upgrade  bring the database's schema up to date, for servers that must not (MLFLOW_DB_UPGRADE=never)

Required: MLFLOW_DB_HOST, MLFLOW_DB_NAME, MLFLOW_DB_USER, MLFLOW_DB_PASSWORD,
          MLFLOW_ARTIFACTS_BUCKET (a name, or gs://name/prefix).
Optional: PORT (8080), HOST (0.0.0.0), MLFLOW_DB_PORT (5432), MLFLOW_DB_SSLMODE (prefer), MLFLOW_DB_UPGRADE (auto or never),
          MLFLOW_DB_WAIT_SECONDS (50, how long a request waits for a database connection),
          and every variable of MLflow's own.

Exit status: 0 after SIGTERM or SIGINT, 1 when the database cannot be used, 2 when the environment is wrong;
             of `schema`: 0 as this image needs it (or empty), 3 behind, 4 ahead.

MLflow runs in this process and not as `mlflow server`, which loads MLflow in two processes (twice the time to start)
and says 0 when the second has died.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from mlflow_gcp_server.console import say, warn
from mlflow_gcp_server.settings import ARTIFACT_ROOT, DEFAULTS, Settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; see the module's text."""
    # As process 1 of a container we would not be stopped by a signal that nobody handles.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))

    parser = argparse.ArgumentParser(
        prog="mlflow_gcp_server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = {"serve": serve, "schema": schema, "upgrade": upgrade}
    parser.add_argument("command", nargs="?", choices=commands, default="serve", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)

    settings = Settings(os.environ)
    if settings.errors:
        for message in settings.errors:
            warn(message)
        sys.exit(2)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.update(settings.mlflow_environment)
    commands[asked.command](settings)


# MLflow is imported by the commands, because this takes seconds: a wrong environment is told at once.


def serve(settings: Settings) -> None:
    """Prepare the database under the lock, then serve."""
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    from mlflow_gcp_server import database, server
    from mlflow_gcp_server import schema as schemas

    database.install(settings)
    with schemas.lock(settings), database.refusals():
        schemas.upgrade(settings, allowed=settings.db_upgrade == "auto")
        initialize_backend_stores(settings.backend_uri, settings.backend_uri, ARTIFACT_ROOT)
    say(f"serving on {settings.host}:{settings.port}, artifacts in {settings.artifacts}")
    server.serve(app, settings.host, settings.port)


def schema(settings: Settings) -> None:
    """Say how the schema stands, by a line and by the exit status."""
    from mlflow_gcp_server import database
    from mlflow_gcp_server import schema as schemas

    with database.refusals():
        found = schemas.inspect(settings)
    say(str(found))
    sys.exit(found.state.value)


def upgrade(settings: Settings) -> None:
    """Bring the schema up to date under the lock."""
    from mlflow_gcp_server import database
    from mlflow_gcp_server import schema as schemas

    with schemas.lock(settings), database.refusals():
        schemas.upgrade(settings)
        say(str(schemas.inspect(settings)))


if __name__ == "__main__":
    main()
