"""Cloud Run in HTTP/2 to containers whose port is named h2c."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests

IMAGE = "europe-west2-docker.pkg.dev/test/http2/app:1"
LIMIT = 32 * 1024 * 1024
# It understands HTTP/2 alone.
APP = """
import asyncio, json, os
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection


class App(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.size, self.body, self.room = transport, 0, b"", asyncio.Event()
        self.http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.flush()

    def flush(self):
        self.transport.write(self.http.data_to_send())

    def data_received(self, data):
        for event in self.http.receive_data(data):
            if isinstance(event, events.RequestReceived):
                self.headers = dict(event.headers)
                if self.headers[":path"] == "/reset":
                    self.http.reset_stream(event.stream_id)
                elif self.headers[":path"] == "/enough":
                    self.http.send_headers(event.stream_id, [(":status", "413"), ("content-length", "0")], end_stream=True)
                    self.http.reset_stream(event.stream_id, 0)
            elif isinstance(event, events.DataReceived):
                self.size += len(event.data)
                self.body += event.data[:64]
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, events.StreamEnded):
                asyncio.get_running_loop().create_task(self.answer(event.stream_id))
            elif isinstance(event, events.WindowUpdated):
                self.room.set()
        self.flush()

    async def answer(self, stream):
        path = self.headers[":path"]
        if path == "/grpc.health.v1.Health/Check":
            good = self.body == b"\\0\\0\\0\\0\\x07\\n\\x05ready" and self.headers["te"] == "trailers"
            self.http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
            self.http.send_data(stream, b"\\0\\0\\0\\0\\x02\\x08" + (b"\\1" if good else b"\\2"))
            self.http.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            return self.flush()
        size = int(path.removeprefix("/big/")) if path.startswith("/big/") else 0
        body = memoryview(bytes(size) or json.dumps({"headers": self.headers, "size": self.size}).encode())
        self.http.send_headers(stream, [(":status", "201"), ("x-twice", "a"), ("x-twice", "b")])
        while body:
            self.room.clear()
            take = min(self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size)
            if not take:
                await self.room.wait()
                continue
            self.http.send_data(stream, bytes(body[:take]))
            body = body[take:]
            self.flush()
        self.http.end_stream(stream)
        self.flush()


async def main():
    server = await asyncio.get_running_loop().create_server(App, os.environ["HOST"], int(os.environ["PORT"]))
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def deploy(api, enable, done, project, sandbox, tmp_path_factory) -> Callable[..., dict[str, Any]]:
    """Make a service of the container; its operation when it is done."""
    folder = tmp_path_factory.mktemp("http2")
    (folder / "app.py").write_text(APP)
    (folder / "Containerfile").write_text('FROM python:3\nCOPY app.py /app.py\nENTRYPOINT ["python", "/app.py"]\n')
    sandbox.command("image", "add", IMAGE, str(folder), "--python", sys.executable)
    enable(project, "run.googleapis.com", "compute.googleapis.com")
    url = f"https://run.googleapis.com/v2/projects/{project}/locations/europe-west2/services"

    def make(name: str, **more: Any) -> dict[str, Any]:
        container = {"image": IMAGE, "ports": [{"name": "h2c", "containerPort": 8080}]} | more
        body = {"template": {"containers": [container]}, "invokerIamDisabled": True}
        return done(api("POST", f"{url}?serviceId={name}", json=body))

    return make


@pytest.fixture(scope="module")
def ask(deploy, sandbox) -> Callable[..., requests.Response]:
    """Ask the container with a path by any method."""
    service = deploy("http2")["response"]
    client = sandbox.session()
    del client.headers["Authorization"]

    def call(path: str, method: str = "GET", **kwargs: Any) -> requests.Response:
        return client.request(method, service["uri"] + path, timeout=60, **kwargs)

    return call


def test_the_container_is_asked_in_http2(ask):
    answer = ask("/a?b=c%20d", headers={"X-Mine": "1", "Connection": "x-drop", "X-Drop": "1"})
    assert (answer.status_code, answer.headers["X-Twice"], answer.headers["Server"]) == (201, "a, b", "Google Frontend")
    sent = answer.json()["headers"]
    assert (sent[":method"], sent[":path"], sent[":scheme"], sent["x-mine"]) == ("GET", "/a?b=c%20d", "http", "1")
    assert sent[":authority"].endswith(".run.app") and sent["x-forwarded-proto"] == "https"
    assert not {"host", "connection", "x-drop"} & set(sent)
    assert ask("/", "HEAD").content == b""


@pytest.mark.parametrize("chunked", [False, True])
def test_requests_may_be_larger_than_in_http1(ask, chunked):
    body = bytes(LIMIT + 1)
    answer = ask("/", "POST", data=(body[i : i + (1 << 20)] for i in range(0, len(body), 1 << 20)) if chunked else body)
    assert answer.json()["size"] == LIMIT + 1


def test_large_answers_come_through(ask):
    assert len(ask(f"/big/{LIMIT + 1}").content) == LIMIT + 1


def test_a_stream_that_the_container_ends(ask):
    assert ask("/reset").status_code == 503
    assert ask("/enough", "POST", data=bytes(1 << 22)).status_code == 413
    assert ask("/").status_code == 201


def test_a_grpc_probe_believes_what_the_container_says(deploy):
    ready = {"grpc": {"service": "ready"}, "periodSeconds": 1, "failureThreshold": 20}
    assert "response" in deploy("healthy", startupProbe=ready)
    sick = deploy("sick", startupProbe={"grpc": {"service": "other"}, "periodSeconds": 1, "failureThreshold": 1})
    assert "failed the configured startup probe checks" in sick["error"]["message"]
