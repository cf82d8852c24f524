"""An instance's address: forwards clients to the server if they are on the right network, with TLS as configured.

https://cloud.google.com/sql/docs/postgres/private-ip, https://www.postgresql.org/docs/current/protocol-flow.html
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from gcp_sandbox.services.sqladmin.plane.postgres import ADMIN, Server

_log = logging.getLogger("gcp_sandbox.sqladmin.relay")
_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_LONGEST = 10_000
PORT = 5432
Peer = tuple[str, int]
# Seconds between the packets with which Linux tries to open a connection that nobody answers.
_RETRANSMISSIONS = (1, 2, 4, 8, 16, 32, 64)


class Way(enum.Enum):
    """What becomes of a client's connection: it is accepted, refused, or its packets are dropped (by a firewall)."""

    OPEN = enum.auto()
    REFUSED = enum.auto()
    DROPPED = enum.auto()


class Relay:
    """Listens on one address.

    way(peer): whether the client reaches the address.  tls: the server's certificate.  ssl_mode(): current sslMode.
    patient: whether clients that connect before the server's first answer wait for it (it is starting).
    """

    def __init__(
        self,
        address: str,
        server: Server,
        way: Callable[[Peer], Awaitable[Way]],
        tls: ssl.SSLContext,
        ssl_mode: Callable[[], str],
        *,
        patient: bool = False,
    ) -> None:
        self.address = address
        self._server, self._way, self._tls, self._ssl_mode = server, way, tls, ssl_mode
        self._patient = patient
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen.  Raises OSError."""
        # It is listening when this returns, although connections are accepted slightly later.
        listener = socket.create_server((self.address, PORT), backlog=128)
        self._listener = await asyncio.start_server(self._accept, sock=listener, limit=1 << 18)

    async def stop(self) -> None:
        """Stop listening and abort all connections."""
        if self._listener:
            self._listener.close()
            self._listener = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A transport owns its descriptor from here on: nothing else may close it, or another connection that
        # gets the same number is dropped from the event loop.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer = writer.get_extra_info("peername")
            if not await self._reaches(peer):
                _log.info("%s: refused a client that is not on the instance's network", self.address)
                return
            first, secured = await asyncio.wait_for(self._open(reader, writer), 60)
            if first:
                await self._talk(reader, writer, first, secured)
        except (OSError, EOFError, TimeoutError, ssl.SSLError) as error:
            _log.debug("%s: %r", self.address, error)
        finally:
            # Aborted, not closed: a client that no longer reads must not delay stopping the server.
            writer.transport.abort()

    async def _reaches(self, peer: Peer) -> bool:
        """Whether a client's connection is accepted; while its packets are dropped, it gets no answer."""
        for pause in _RETRANSMISSIONS:
            if (way := await self._way(peer)) is not Way.DROPPED:
                return way is Way.OPEN
            await asyncio.sleep(pause)
        return False

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, bool]:
        """Read the first packet, after a TLS handshake if the client requests it; empty if it is invalid."""
        secured = False
        start = await reader.readexactly(8)
        while (code := struct.unpack("!i", start[4:])[0]) in (_GSS, _SSL) and not secured:
            if code == _GSS:
                writer.write(b"N")
            else:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._tls, ssl_handshake_timeout=30)
                secured = True
            start = await reader.readexactly(8)
        length = struct.unpack("!i", start[:4])[0]
        if not 8 <= length <= _LONGEST:
            return b"", secured
        return start + await reader.readexactly(length - 8), secured

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes, secured: bool
    ) -> None:
        if refusal := self._refusal(writer, first, secured):
            await _end(writer, "28000", refusal)
            return
        if self._patient:
            await asyncio.wait_for(self._server.ready.wait(), 30)
            self._patient = False
        try:
            if not self._server.ready.is_set():
                raise ConnectionRefusedError
            from_server, to_server = await self._server.connect()
        except OSError:
            await _end(writer, "57P03", "the database system is starting up")
            return
        to_server.write(first)
        ways = [asyncio.ensure_future(_pump(reader, to_server)), asyncio.ensure_future(_pump(from_server, writer))]
        try:
            # If either end closes, both are closed, as for one connection; the server's last data is still sent.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if ways[1].done():
                writer.close()
                await asyncio.wait_for(writer.wait_closed(), 10)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_server.transport.abort()

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
        # The sandbox issues no client certificates, so no client has one.
        return "connection requires a valid client certificate" if mode == "TRUSTED_CLIENT_CERTIFICATE_REQUIRED" else ""


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 17):
            sink.write(data)
            await sink.drain()


async def _end(writer: asyncio.StreamWriter, code: str, message: str) -> None:
    """Send the reason for the rejection to the client, and close."""
    writer.write(_error(code, message))
    writer.close()
    await asyncio.wait_for(writer.wait_closed(), 10)


def _error(code: str, message: str) -> bytes:
    fields = b"".join(
        k + v.encode() + b"\0" for k, v in ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", code), (b"M", message))
    )
    return b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"


def process_of(peer: Peer, address: str, port: int = PORT) -> int | None:
    """Pid of the process with the client's end of a connection to address, or None if it is not visible."""
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
