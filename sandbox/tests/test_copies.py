"""Copies of a stopped sandbox's state folder: each is a sandbox of its own, next to the original."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from gcp_sandbox.testing import Sandbox

from .test_sqladmin import OPEN, SETTINGS, psql

PROJECT = "sandbox-project"
INSTANCE = f"sqladmin.googleapis.com/v1/projects/{PROJECT}/instances"
SERVICE = f"run.googleapis.com/v2/projects/{PROJECT}/locations/europe-west2/services"
HELLO = "us-docker.pkg.dev/cloudrun/container/hello"


def sql(sandbox: Sandbox, statement: str) -> str:
    """The output of a statement on the instance, at the address that the API returns."""
    doc = sandbox.call("GET", f"{INSTANCE}/main")
    (address,) = [entry["ipAddress"] for entry in doc["ipAddresses"] if entry["type"] == "PRIMARY"]
    return psql(address, "postgres", "first", statement)


def variables(sandbox: Sandbox) -> dict[str, str]:
    """The variables of the service's container."""
    (container,) = sandbox.call("GET", f"{SERVICE}/hello")["template"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def address(sandbox: Sandbox) -> str:
    (first, *_) = sandbox.call("GET", f"{INSTANCE}/main")["ipAddresses"]
    return first["ipAddress"]


def test_copies_of_a_stopped_sandbox_run_side_by_side(own: Sandbox) -> None:
    own.up()
    names = [f"{name}.googleapis.com" for name in ("sqladmin", "compute", "run")]
    own.call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", {"serviceIds": names})
    settings = SETTINGS | {"ipConfiguration": OPEN}
    body = {"name": "main", "region": "europe-west2", "databaseVersion": "POSTGRES_17", "rootPassword": "first"}
    own.call("POST", INSTANCE, body | {"settings": settings})
    at = address(own)
    assert sql(own, "CREATE TABLE t AS SELECT 7 AS n") == "SELECT 1"
    env = [{"name": "URL", "value": f"postgresql://{at}/db"}, {"name": "OTHER", "value": f"1{at} {at}.example.com"}]
    own.call("POST", f"{SERVICE}?serviceId=hello", {"template": {"containers": [{"image": HELLO, "env": env}]}})
    own.command("down")

    with Sandbox.running(copy_of=own.state) as first, Sandbox.running(copy_of=own.state) as second:
        own.up()
        all_three = (own, first, second)
        assert len({address(each) for each in all_three}) == 3
        for number, each in enumerate(all_three):
            assert sql(each, "SELECT n FROM t") == "7"
            sql(each, f"UPDATE t SET n = {number}")
            here = address(each)
            assert here.split(".")[2:] == at.split(".")[2:]
            # Only the address itself moves, not text that contains it.
            assert variables(each)["URL"] == f"postgresql://{here}/db"
            assert variables(each)["OTHER"].startswith(f"1{at} ")
        assert [sql(each, "SELECT n FROM t") for each in all_three] == ["0", "1", "2"]
        # Clients trust all of them with one certificate authority, and one key signs in to each.
        assert len({Path(each.exports["SSL_CERT_FILE"]).read_bytes() for each in all_three}) == 1
        assert len({Path(each.exports["GCP_SERVICE_ACCOUNT_FILE"]).read_bytes() for each in all_three}) == 1


def test_a_copy_of_a_running_sandbox_is_not_mistaken_for_it(own: Sandbox, tmp_path: Path) -> None:
    own.up()
    copy = Sandbox(tmp_path / "copy")
    subprocess.run(["cp", "-a", own.state, copy.state], check=True)
    assert json.loads(copy.command("status", "--json"))["running"] is False
    assert "not running" in copy.command("down")
    assert json.loads(own.command("status", "--json"))["running"] is True


def place(sandbox: Sandbox) -> dict[str, Any]:
    """What no two running sandboxes may share."""
    settings = json.loads((sandbox.state / "settings.json").read_text())
    return {key: settings[key] for key in ("port", "network")}


def test_the_original_keeps_its_port_and_network(own: Sandbox) -> None:
    own.up()
    before = place(own)
    own.command("down")
    with Sandbox.running(copy_of=own.state) as copy:
        assert not place(copy).items() & before.items()
        # Unless somebody else uses them by now: here, a sandbox that drew the same network.
        copy.command("down")
        (copy.state / "settings.json").write_text(json.dumps(before | {"state": str(copy.state.resolve())}))
        copy.up()
        assert place(copy)["network"] == before["network"]
        own.up()
        assert not place(own).items() & before.items()
        own.command("down")
    # Or any other program, on one of its addresses.
    with socket.create_server((f"127.{place(own)['network']}.192.2", 0)):
        taken = place(own)
        own.up()
        assert place(own)["network"] != taken["network"]
