# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start MLflow's tracking server with PostgreSQL and a Cloud Storage bucket behind it, told by the environment alone.

Required: MLFLOW_DB_HOST, MLFLOW_DB_NAME, MLFLOW_DB_USER, MLFLOW_DB_PASSWORD,
          MLFLOW_ARTIFACTS_BUCKET (a name, or gs://name/prefix).
Optional: PORT (8080), HOST (0.0.0.0), MLFLOW_DB_PORT (5432), MLFLOW_DB_SSLMODE (prefer), MLFLOW_DB_UPGRADE (auto or never),
          and every variable of MLflow's own.

Exit status: 0 after SIGTERM or SIGINT, 1 when the database cannot be used, 2 when the environment is wrong.

MLflow runs in this process and not as `mlflow server`, which loads MLflow in two processes (twice the time to start)
and says 0 when the second has died.
"""

from __future__ import annotations

import os
import signal
import sys

from mlflow_gcp_server.console import fail, say, warn
from mlflow_gcp_server.settings import ARTIFACT_ROOT, DEFAULTS, Settings


def main() -> None:
    """Serve; see the module's text."""
    # As process 1 of a container we would not be stopped by a signal that nobody handles.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))

    settings = Settings(os.environ)
    if settings.errors:
        for message in settings.errors:
            warn(message)
        sys.exit(2)

    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.update(settings.mlflow_environment)
    # Only now, because this takes seconds: a wrong environment is told at once, and the lock is held briefly.
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    from mlflow_gcp_server import artifacts, downloads, schema, server

    with schema.lock(settings):
        try:
            initialize_backend_stores(settings.backend_uri, settings.backend_uri, ARTIFACT_ROOT)
        except Exception as error:
            fail(f"MLflow cannot use this database: {type(error).__name__}: {error}")
    downloads.install(app)
    artifacts.signing().test(artifacts.StreamingArtifactRepository(settings.artifacts).probe())
    say(f"serving on {settings.host}:{settings.port}, artifacts in {settings.artifacts}")
    server.serve(app, settings.host, settings.port)


if __name__ == "__main__":
    main()
