"""The forward proxy: terminates CONNECT requests to emulated hosts, and rejects all other hosts."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import ssl
import weakref
from typing import Any, Protocol
from urllib.parse import unquote

from gcp_sandbox.core.network import INTERNET, Client

_log = logging.getLogger("gcp_sandbox.gateway")
_MAX_HEAD = 64 * 1024


class Gateway(Protocol):
    """The receiver of connections."""

    connections: weakref.WeakSet[asyncio.Transport]
    # The host that each connection was opened to.
    reached: weakref.WeakKeyDictionary[asyncio.BaseTransport, str]
    # Where the clients are that are not on the internet.
    clients: weakref.WeakKeyDictionary[asyncio.BaseTransport, Client]

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a reference to a background task until it ends."""

    def emulates(self, host: str, client: Client) -> bool:
        """Whether this host is emulated for a client."""

    def tls_context(self, host: str, client: Client) -> ssl.SSLContext | None:
        """The certificate for clients of this host; None: the handshake fails."""

    def tls_server(self) -> asyncio.Protocol:
        """A protocol that serves HTTP on a connection after the TLS handshake."""

    def plain_server(self) -> asyncio.Protocol:
        """A protocol that serves plain HTTP (port 80)."""

    def metadata_server(self) -> asyncio.Protocol | None:
        """A protocol that serves the metadata of the machine that clients run on; None if it has no metadata server."""


class _Waiting(asyncio.Protocol):
    """Buffers data that arrives between the TLS handshake and the takeover by the HTTP protocol."""

    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


def client_of(head: bytes) -> Client:
    """Where the client of a request to the proxy is: its user name is a network, its password a region of it."""
    found = re.search(rb"\r\nProxy-Authorization: *Basic +([\w+/=]+)", head, re.I)
    if not found:
        return INTERNET
    network, _, region = base64.b64decode(found[1]).decode("latin-1").partition(":")
    return Client(unquote(network), region)


class ProxyProtocol(asyncio.Protocol):
    """One client connection: reads the head of the first request, then passes the connection to an HTTP server protocol."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._head = b""
        self._client = INTERNET
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._gateway.connections.add(transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport
        self._head += data
        if b"\r\n\r\n" not in self._head:
            if len(self._head) > _MAX_HEAD:
                self._transport.close()
            return
        line = self._head.split(b"\r\n", 1)[0].decode("latin-1")
        method, _, rest = line.partition(" ")
        target = rest.rsplit(" ", 1)[0]
        self._client = client_of(self._head)
        if method == "CONNECT":
            self._connect(target)
        else:
            self._plain(target)

    def _refuse(self, host: str) -> None:
        assert self._transport
        text = f"gcp-sandbox: {host} is not part of this sandbox, and nothing leaves this machine.\n".encode()
        head = f"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        self._transport.write(head.encode() + text)
        self._transport.close()

    def _connect(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        host = host.strip("[]").lower()
        if port not in ("443", "80") or not self._gateway.emulates(host, self._client):
            self._refuse(target)
            return
        assert self._transport
        self._transport.pause_reading()
        self._transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if port == "80":
            self._note(self._transport, host)
            self._hand_over(self._transport, self._gateway.plain_server(), b"")
            self._transport.resume_reading()
            return
        task = asyncio.get_running_loop().create_task(self._secure(host))
        self._gateway.keep(task)

    async def _secure(self, host: str) -> None:
        assert self._transport
        chosen = self._gateway.tls_context(host, self._client)
        if chosen is None:  # a load balancer without a certificate for the name aborts the handshake
            self._transport.abort()
            return
        waiting = _Waiting()
        try:
            tls = await asyncio.get_running_loop().start_tls(self._transport, waiting, chosen, server_side=True)
        except (OSError, ssl.SSLError, asyncio.CancelledError) as error:
            _log.debug("TLS with a client of %s: %s", host, error)
            self._transport.abort()
            return
        if tls is not None:
            self._note(tls, host)
            self._hand_over(tls, self._gateway.tls_server(), waiting.data)

    def _plain(self, target: str) -> None:
        # A request to this address itself, which GCE_METADATA_HOST names.
        metadata = self._gateway.metadata_server() if target.startswith("/") else None
        if metadata:
            assert self._transport
            self._hand_over(self._transport, metadata, self._head)
            return
        match = re.match(r"http://([^/:]+)(?::80)?(?:/|$|\?)", target, re.I)
        if not match or not self._gateway.emulates(match.group(1).lower(), self._client):
            self._refuse(target)
            return
        assert self._transport
        self._note(self._transport, match.group(1).lower())
        self._hand_over(self._transport, self._gateway.plain_server(), self._head)

    def _note(self, transport: asyncio.BaseTransport, host: str) -> None:
        """Note the host that a connection was opened to, and from where."""
        self._gateway.reached[transport] = host
        if self._client != INTERNET:
            self._gateway.clients[transport] = self._client

    @staticmethod
    def _hand_over(transport: asyncio.Transport, protocol: asyncio.Protocol, data: bytes) -> None:
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data:
            protocol.data_received(data)
