"""The address of a Cloud SQL instance: restores while clients are connected lose no descriptor of another connection."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
import requests
from gcp_sandbox.testing import Sandbox

from .test_sqladmin import OPEN, SETTINGS, psql, secured

INSTANCES = "sqladmin.googleapis.com/v1/projects/sandbox-project/instances"
MAIN = f"{INSTANCES}/main"
# What asyncio says of a descriptor that was closed, or given to another connection, behind a transport's back.
WRONG = re.compile(
    r".*(?:unclosed transport|is used by transport|Fatal .*error on transport|Bad file descriptor"
    r"|never retrieved|Traceback).*"
)


@pytest.fixture
def observed(own: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A running sandbox whose event loop reports resources that are not closed properly."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "always::ResourceWarning")
    own.up()
    names = ["sqladmin.googleapis.com", "compute.googleapis.com"]
    usage = "serviceusage.googleapis.com/v1/projects/sandbox-project/services:batchEnable"
    own.call("POST", usage, {"serviceIds": names})
    return own


def test_backups_are_restored_while_clients_are_connected(observed: Sandbox) -> None:
    body = {"name": "main", "region": "europe-west2", "databaseVersion": "POSTGRES_17", "rootPassword": "first"}
    observed.call("POST", INSTANCES, body | {"settings": SETTINGS | {"ipConfiguration": OPEN}})
    host = observed.call("GET", MAIN)["ipAddresses"][0]["ipAddress"]
    assert psql(host, "postgres", "first", "CREATE TABLE kept AS SELECT 7 AS x") == "SELECT 1"
    run = observed.call("POST", f"{MAIN}/backupRuns")["backupContext"]["backupId"]
    over = threading.Event()
    codes: list[int] = []
    client = observed.session()

    def query() -> None:
        """Connect again and again, with and without TLS, idle and busy."""
        while not over.is_set():
            try:
                with secured(host, "postgres"):
                    psql(host, "postgres", "first", "SELECT pg_sleep(0.05)")
            except (OSError, AssertionError):  # during the restore
                over.wait(0.02)

    def ask() -> None:
        """Call the API on a new connection each time: its descriptor may have been one of the relay's."""
        while not over.wait(0.02):
            with requests.Session() as session:
                session.trust_env, session.proxies, session.verify = False, client.proxies, client.verify
                codes.append(session.get(f"https://{MAIN}", headers=client.headers, timeout=20).status_code)

    threads = [threading.Thread(target=query) for _ in range(4)]
    threads += [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            # A restore that hangs, or leaves the instance busy, fails here.
            observed.call("POST", f"{MAIN}/restoreBackup", {"restoreBackupContext": {"backupRunId": run}})
            assert psql(host, "postgres", "first", "SELECT x FROM kept") == "7"
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(codes) == {200}
    observed.command("down")
    log = Path(observed.state / "sandbox.log").read_text()
    assert "asyncio" in log, "the event loop's own messages are not in the log"
    assert not WRONG.findall(log)
