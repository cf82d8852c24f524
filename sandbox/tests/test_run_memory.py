"""Cloud Run ends instances that hold more memory than their limit, files included."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

IMAGE = "europe-west2-docker.pkg.dev/test/memory/app:1"
APP = """
import os, tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

held = []

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        _, what, size = self.path.split("/")
        size = int(size) << 20
        if what == "hold":
            held.append(b"x" * size)
        elif what == "write":
            with tempfile.NamedTemporaryFile(delete=False) as file:
                for _ in range(size >> 20):
                    file.write(b"x" * (1 << 20))
        elif what == "fork" and not os.fork():
            held.append(b"x" * size)
            os.read(os.pipe()[0], 1)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass

ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def ask(api, enable, done, project, sandbox, tmp_path_factory) -> Callable[[str], requests.Response]:
    """A request to a service whose instances have 512 MiB."""
    folder = tmp_path_factory.mktemp("memory")
    (folder / "app.py").write_text(APP)
    (folder / "Containerfile").write_text('FROM python:3\nCOPY app.py /app.py\nENTRYPOINT ["python", "/app.py"]\n')
    sandbox.command("image", "add", IMAGE, str(folder), "--python", sys.executable)
    enable(project, "run.googleapis.com", "compute.googleapis.com")
    url = f"https://run.googleapis.com/v2/projects/{project}/locations/europe-west2/services"
    body = {"template": {"containers": [{"image": IMAGE}]}, "invokerIamDisabled": True}
    service = done(api("POST", f"{url}?serviceId=memory", json=body))["response"]
    client = sandbox.session()
    del client.headers["Authorization"]
    return lambda path: client.get(service["uri"] + path, timeout=60)


def killed(sandbox: Any, project: str, times: int) -> list[str]:
    """The log's lines about the limit, when there are so many."""
    give_up = time.monotonic() + 20
    while True:
        log = (sandbox.state / "logs" / "run" / f"{project}.europe-west2.memory.log").read_text()
        found = [line for line in log.splitlines() if "Memory limit of 512 MiB exceeded with" in line]
        if len(found) == times or time.monotonic() > give_up:
            return found
        time.sleep(0.1)


def test_an_instance_is_ended_at_its_limit_and_others_go_on(ask, sandbox, project):
    assert ask("/hold/300").status_code == 200
    assert ask("/write/100").status_code == 200
    assert killed(sandbox, project, 0) == []
    ask("/write/150")  # 200 or 503, depending on when the instance is looked at
    (line,) = killed(sandbox, project, 1)
    assert line.endswith(
        "used. Consider increasing the memory limit, see https://cloud.google.com/run/docs/configuring/memory-limits"
    )
    assert ask("/hold/1").status_code == 200  # by a new instance
    assert ask("/hold/600").status_code == 503
    killed(sandbox, project, 2)
    ask("/fork/600")
    assert len(killed(sandbox, project, 3)) == 3
    assert ask("/hold/1").status_code == 200
