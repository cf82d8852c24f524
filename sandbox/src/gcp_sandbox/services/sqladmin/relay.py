"""An instance's address: lets a client through to the server if it is on the right network, with TLS as set.

https://cloud.google.com/sql/docs/postgres/private-ip, https://www.postgresql.org/docs/current/protocol-flow.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from gcp_sandbox.services.sqladmin.postgres import ADMIN, Server

_log = logging.getLogger("gcp_sandbox.sqladmin.relay")
_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_LONGEST = 10_000
Peer = tuple[str, int]
# What comes of a first packet: the connection's streams, secured or not, and the packet itself.
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes, bool]


class Relay:
    """Listens on one address, port 5432.

    admits(peer): whether the client may reach the address.  tls: the server's certificate.  ssl_mode(): sslMode of now.
    """

    def __init__(
        self, address: str, server: Server, admits: Callable[[Peer], Awaitable[bool]], tls: ssl.SSLContext,
        ssl_mode: Callable[[], str],
    ) -> None:  # fmt: skip
        self.address = address
        self._server, self._admits, self._tls, self._ssl_mode = server, admits, tls, ssl_mode
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen.  Raises OSError."""
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setblocking(False)
        try:
            self._socket.bind((self.address, 5432))
        except OSError:
            self._socket.close()
            raise
        self._socket.listen(128)
        self._spawn(self._accept(self._socket))

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._socket:
            self._socket.close()
            self._socket = None

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, peer = await loop.sock_accept(listener)
            client.setblocking(False)
            self._spawn(self._serve(client, peer))

    async def _serve(self, client: socket.socket, peer: Peer) -> None:
        try:
            if not await self._admits(peer):
                _log.info("%s: refused a client that is not on the instance's network", self.address)
                return
            opened = await asyncio.wait_for(self._open(client), 60)
            if opened:
                await self._talk(*opened)
        except (OSError, EOFError, TimeoutError, ssl.SSLError) as error:
            _log.debug("%s: %r", self.address, error)
        finally:
            client.close()

    async def _open(self, client: socket.socket) -> Opened | None:
        """Read the first packet, after TLS where the client asks for it."""
        loop = asyncio.get_running_loop()
        secured = False
        start = await _exactly(client, 8)
        code = struct.unpack("!i", start[4:])[0]
        while code in (_GSS, _SSL) and not secured:
            if code == _GSS:
                await loop.sock_sendall(client, b"N")
                start = await _exactly(client, 8)
                code = struct.unpack("!i", start[4:])[0]
                continue
            await loop.sock_sendall(client, b"S")
            secured = True
        reader = asyncio.StreamReader(limit=1 << 18)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, client, ssl=self._tls if secured else None, ssl_handshake_timeout=30 if secured else None
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        if secured:
            start = await reader.readexactly(8)
        length = struct.unpack("!i", start[:4])[0]
        if not 8 <= length <= _LONGEST:
            writer.close()
            return None
        return reader, writer, start + await reader.readexactly(length - 8), secured

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes, secured: bool
    ) -> None:
        try:
            refusal = self._refusal(writer, first, secured)
            if refusal:
                writer.write(_error("28000", refusal))
                await writer.drain()
                return
            await asyncio.wait_for(self._server.ready.wait(), 30)
            from_server, to_server = await self._server.connect()
            try:
                to_server.write(first)
                await asyncio.gather(_pump(reader, to_server), _pump(from_server, writer))
            finally:
                to_server.close()
        finally:
            writer.close()

    def _refusal(self, writer: asyncio.StreamWriter, first: bytes, secured: bool) -> str:
        if struct.unpack("!i", first[4:8])[0] == _CANCEL:
            return ""
        words = first[8:].split(b"\0")
        said = dict(zip(words[::2], words[1::2], strict=False))
        user = said.get(b"user", b"").decode(errors="replace")
        database = said.get(b"database", b"").decode(errors="replace") or user
        mode = self._ssl_mode()
        host = writer.get_extra_info("peername")[0]
        how = "SSL encryption" if secured else "no encryption"
        if user == ADMIN or mode in ("ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED") and not secured:
            return f'pg_hba.conf rejects connection for host "{host}", user "{user}", database "{database}", {how}'
        if mode == "TRUSTED_CLIENT_CERTIFICATE_REQUIRED" and not writer.get_extra_info("peercert"):
            return "connection requires a valid client certificate"
        return ""


async def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await asyncio.get_running_loop().sock_recv(client, count - len(data))
        if not part:
            raise EOFError("closed by the client")
        data += part
    return data


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 17):
            sink.write(data)
            await sink.drain()
    sink.close()


def _error(code: str, message: str) -> bytes:
    fields = b"".join(k + v.encode() + b"\0" for k, v in ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", code), (b"M", message)))
    return b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"


def process_of(peer: Peer, address: str, port: int = 5432) -> int | None:
    """Pid of the process that holds the client's end of a connection to address, or None where it is not to be seen."""
    inode = _inode(peer, (address, port))
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    for pid in sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True):
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path) == wanted:
                        return pid
    return None


def _inode(local: Peer, remote: Peer) -> str | None:
    for table, mapped in (("tcp", ""), ("tcp6", "0000000000000000FFFF0000")):
        ends = " ".join(f"{mapped}{_hex(end)}" for end in (local, remote))
        with contextlib.suppress(OSError):
            text = Path(f"/proc/net/{table}").read_text(encoding="ascii")
            if found := re.search(rf"^ *\d+: {ends} \S+ \S+ \S+ \S+ +\d+ +\d+ (\d+)", text, re.M):
                return found.group(1)
    return None


def _hex(end: Peer) -> str:
    return f"{int.from_bytes(socket.inet_aton(end[0]), 'little'):08X}:{end[1]:04X}"
