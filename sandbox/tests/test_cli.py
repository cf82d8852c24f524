"""The command: start, stop, errors, and cleanup."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gcp_sandbox.cli.supported import written
from gcp_sandbox.testing import CallError


def _pid(running: Any) -> int:
    return json.loads((running.state / "run.json").read_text())["pid"]


def _left(running: Any) -> list[psutil.Process]:
    mark = str(running.state.resolve())
    out = []
    for process in psutil.process_iter():
        try:
            if mark in " ".join(process.cmdline()) or process.environ().get("GCP_SANDBOX_CHILD_OF") == mark:
                out.append(process)
        except psutil.Error:
            continue
    return out


def _enable(running: Any, service: str) -> str:
    """Enable an API in the sandbox's first project; URL of that state."""
    base = "https://serviceusage.googleapis.com/v1"
    url = f"{base}/projects/sandbox-project/services/{service}"
    session = running.session()
    operation = session.post(f"{url}:enable", json={}, timeout=30).json()
    while not operation.get("done"):
        operation = session.get(f"{base}/{operation['name']}", timeout=30).json()
    assert "error" not in operation, operation
    assert _state(running, url) == "ENABLED"
    return url


def _state(running: Any, url: str) -> str:
    return running.session().get(url, timeout=30).json()["state"]


def test_kill_and_restart_keep_acknowledged_writes(own):
    own.command("up", "--detach")
    url = _enable(own, "run.googleapis.com")
    os.kill(_pid(own), signal.SIGKILL)
    psutil.wait_procs(_left(own), timeout=10)
    assert "no sandbox is running" in own.command("env", check=False)
    assert "ready" in own.command("up", "--detach")
    assert _state(own, url) == "ENABLED"


def test_browser_names_a_key_of_the_chain_that_hosts_send(sandbox):
    host, port = "accounts.google.com", int(sandbox.environment["HTTPS_PROXY"].rpartition(":")[2])
    trust = ssl.create_default_context(cafile=sandbox.environment["SSL_CERT_FILE"])
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        plain.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
        assert b" 200 " in plain.recv(4096)
        with trust.wrap_socket(plain, server_hostname=host) as secure:
            # Public only since Python 3.13.
            chain = [
                x509.load_pem_x509_certificate(c.public_bytes().encode()) for c in secure._sslobj.get_unverified_chain()
            ]
    keys = [c.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for c in chain]
    named = re.search(r"--ignore-certificate-errors-spki-list=(\S+)", sandbox.command("browser", f"https://{host}"))[1]
    assert named in [base64.b64encode(hashlib.sha256(key).digest()).decode() for key in keys]


def test_down_leaves_nothing_running(own):
    own.command("up", "--detach")
    assert _left(own)
    assert "stopped" in own.command("down")
    assert _left(own) == []
    assert "not running" in own.command("down")


def test_up_twice_says_so(own):
    first = own.command("up", "--detach")
    assert "already running" in own.command("up", "--detach")
    assert "ready" in first


def test_port_in_use(own):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = own.command("up", "--detach", "--port", str(port), check=False)
    assert f"port {port} is in use" in text
    assert text.count("\n") == 1


def test_port_of_last_time_in_use_takes_another(own):
    own.command("up", "--detach")
    port = json.loads((own.state / "run.json").read_text())["port"]
    own.command("down")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert "ready" in own.command("up", "--detach")


def test_bad_latency(own):
    text = own.command("up", "--detach", "--latency", "slow", check=False)
    assert "latency 'slow': must be none, realistic, realistic:SCALE or call:SECONDS, or two of them" in text
    assert "'fast' is not a number" in own.command("up", "--detach", "--latency", "realistic,call:fast", check=False)


def test_every_call_takes_its_time_and_is_recorded(own):
    record = own.state.with_name("calls")
    own.command("up", "--detach", "--latency", "call:0.2,realistic:0.001", "--calls", str(record))
    session = own.session()
    url = "https://storage.googleapis.com/storage/v1/b?project=sandbox-project"
    assert session.get(url).status_code == 200
    assert session.post(url, json={"name": "of-the-calls"}).status_code == 200
    assert session.get("https://storage.googleapis.com/storage/v1/b/none").status_code == 404
    calls = [json.loads(line) for line in record.read_text().splitlines()]
    # gcp-sandbox token makes no call.
    assert [(call["method"], call["status"]) for call in calls] == [("GET", 200), ("POST", 200), ("GET", 404)]
    assert calls[0]["url"] == url and all(call["seconds"] >= 0.2 for call in calls)
    assert session.headers["Authorization"].removeprefix("Bearer ") not in record.read_text()


def test_two_at_once_do_not_share(own, sandbox):
    own.command("up", "--detach")
    url = _enable(own, "dns.googleapis.com")
    assert _state(sandbox, url) == "DISABLED"


def test_reset_forgets_resources(own):
    own.command("up", "--detach")
    url = _enable(own, "run.googleapis.com")
    own.command("reset")
    own.command("up", "--detach")
    assert _state(own, url) == "DISABLED"


def test_status(own):
    assert json.loads(own.command("status", "--json"))["running"] is False
    own.command("up", "--detach")
    doc = json.loads(own.command("status", "--json"))
    assert doc["running"] is True
    assert "projects" in doc["resources"]
    assert "sandbox-project" in own.command("status")


def test_status_as_text(own):
    own.command("up", "--detach", "--latency", "realistic:10")
    own.command("fault", "add", "x", "503")
    session = own.session()
    for name in ("dns", "run"):
        session.post(
            f"https://serviceusage.googleapis.com/v1/projects/sandbox-project/services/{name}.googleapis.com:enable"
        )
    session.post("https://storage.googleapis.com/storage/v1/b?project=sandbox-project", json={"name": "some-bucket"})
    session.post(
        "https://storage.googleapis.com/upload/storage/v1/b/some-bucket/o?uploadType=media&name=o", data=b"12345"
    )
    text = own.command("status")
    assert "running for " in text
    assert "gs://some-bucket  us  1 object  5 B" in text
    assert "fault    1: x 503" in text
    assert text.count("s left") == 2


def test_table_of_the_readme_is_current():
    readme = Path(__file__).parents[1] / "README.md"
    text = readme.read_text(encoding="utf-8")
    assert written(text) == text, f"run: gcp-sandbox supported --write {readme}"


def test_listens_on_loopback_only(own):
    own.command("up", "--detach")
    process = psutil.Process(_pid(own))
    listening = [
        c.laddr.ip
        for p in (process, *process.children(recursive=True))
        for c in p.net_connections(kind="inet")
        if c.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert all(ip.startswith("127.") for ip in listening)


def test_invalid_options_are_rejected_in_one_line(own):
    wrong = (("--port", "99999", "port 99999: must be"), ("--project", "Bad Project", "project 'Bad Project'"))
    for option, value, said in wrong:
        out = own.command("up", "--detach", option, value, check=False)
        assert said in out and len(out.splitlines()) == 1
    own.command("up", "--detach")
    out = own.command("up", "--detach", "--project", "another", check=False)
    assert "project sandbox-project" in out and "stop it first" in out
    assert own.command("up", "--detach").count("\n") == 1
    assert "  1 project  sandbox-project" in own.command("status")


def test_a_project_of_a_domain(own):
    own.command("up", "--detach", "--project", "example.com:proj")
    deployer = "deployer@proj.example.com.iam.gserviceaccount.com"
    for api in ("cloudresourcemanager", "iam", "storage"):
        path = f"projects/example.com:proj/services/{api}.googleapis.com:enable"
        own.call("POST", f"serviceusage.googleapis.com/v1/{path}", {})
    project = own.call("GET", "cloudresourcemanager.googleapis.com/v1/projects/example.com:proj")
    assert project["projectId"] == "example.com:proj"
    accounts = "iam.googleapis.com/v1/projects/example.com:proj/serviceAccounts"
    account = own.call("POST", accounts, {"accountId": "server"})["email"]
    assert account == "server@proj.example.com.iam.gserviceaccount.com"
    assert own.call("GET", f"{accounts}/{account}")["projectId"] == "example.com:proj"
    bucket = own.call("POST", "storage.googleapis.com/storage/v1/b?project=example.com:proj", {"name": "of-a-domain"})
    policy = own.call("GET", f"storage.googleapis.com/storage/v1/b/{bucket['name']}/iam")
    policy["bindings"].append({"role": "roles/storage.objectUser", "members": [f"serviceAccount:{account}"]})
    own.call("PUT", f"storage.googleapis.com/storage/v1/b/{bucket['name']}/iam", policy)
    policy["bindings"][-1]["members"] = [f"serviceAccount:other-{account}"]
    with pytest.raises(CallError, match="does not exist"):
        own.call("PUT", f"storage.googleapis.com/storage/v1/b/{bucket['name']}/iam", policy)
    assert own.session().get(f"https://{accounts}/{deployer}").status_code == 200


def test_a_machine_has_a_metadata_server(own):
    email = "deployer@sandbox-project.iam.gserviceaccount.com"
    own.command("up", "--detach", "--machine", email)
    server = f"http://{own.exports['GCE_METADATA_HOST']}/computeMetadata/v1"
    ask = {"headers": {"Metadata-Flavor": "Google"}, "timeout": 30}
    with requests.Session() as client:
        client.trust_env = False
        assert client.get(f"{server}/instance/service-accounts/default/email", **ask).text == email
        assert client.get(f"{server}/project/project-id", **ask).text == "sandbox-project"
        assert client.get(f"{server}/instance/id", timeout=30).status_code == 403
        token = client.get(f"{server}/instance/service-accounts/default/token", **ask).json()["access_token"]
    session = own.session(anonymous=True)
    session.headers["Authorization"] = f"Bearer {token}"
    assert session.get("https://openidconnect.googleapis.com/v1/userinfo", timeout=30).json()["email"] == email
    own.command("down")
    # It is remembered; an empty one is none.
    own.command("up", "--detach", "--machine", "")
    assert "GCE_METADATA_HOST" not in own.exports
