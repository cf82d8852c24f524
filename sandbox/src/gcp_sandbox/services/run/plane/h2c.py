"""HTTP/2 with prior knowledge, as Cloud Run speaks it to a container whose port is named h2c.

https://cloud.google.com/run/docs/configuring/http2.  Each request has a connection of its own: on loopback it costs next
to nothing, and what one request does cannot hold up another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from http import HTTPStatus

import aiohttp
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from multidict import CIMultiDict

_WINDOW = 1 << 20
_READ = 256 * 1024
# Of HTTP/1.1, or with a pseudo-header of their own in HTTP/2.
_LEFT_OUT = {"host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"}


class Response:
    """What a container answers, read as aiohttp's responses are: status, reason, headers, content."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.status, self.reason = 0, ""
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.content = self
        self._reader, self._writer = reader, writer
        settings: dict[SettingCodes | int, int] = {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
        }
        self._protocol = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._protocol.initiate_connection()
        self._protocol.update_settings(settings)
        self._protocol.increment_flow_control_window(_WINDOW)
        self._stream = self._protocol.get_next_available_stream_id()
        self._room = asyncio.Event()  # the container takes more of the body
        self._parts: list[tuple[bytes, int]] = []
        self._ended = False

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, where the container says so."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isdecimal() else None

    async def _flush(self) -> None:
        if data := self._protocol.data_to_send():
            self._writer.write(data)
            await self._writer.drain()

    async def begin(self, headers: list[tuple[str, str]], *, body: bool) -> None:
        """Send the request's headers; body: something follows them."""
        self._protocol.send_headers(self._stream, headers, end_stream=not body)
        await self._flush()

    async def send(self, body: AsyncIterable[bytes]) -> None:
        """Send the request's body, as fast as the container takes it."""
        try:
            async for chunk in body:
                left = memoryview(chunk)
                while left:
                    self._room.clear()
                    size = min(
                        self._protocol.local_flow_control_window(self._stream), self._protocol.max_outbound_frame_size
                    )
                    if size <= 0:
                        await self._room.wait()
                        continue
                    self._protocol.send_data(self._stream, bytes(left[:size]))
                    left = left[size:]
                    await self._flush()
            self._protocol.end_stream(self._stream)
            await self._flush()
        except Exception:
            self._writer.close()  # the client went away, or the container wants no more: whoever reads is told
            raise

    async def _receive(self) -> None:
        """Take in what the container sends next.  Raises aiohttp.ClientError."""
        data = await self._reader.read(_READ)
        if not data:
            raise aiohttp.ServerDisconnectedError()
        for event in self._protocol.receive_data(data):
            match event:
                case events.ResponseReceived(headers=headers):
                    for name, value in ((str(name), str(value)) for name, value in headers):
                        if name == ":status":
                            self.status = int(value)
                            with contextlib.suppress(ValueError):
                                self.reason = HTTPStatus(self.status).phrase
                        elif not name.startswith(":"):
                            self.headers.add(name, value)
                case events.DataReceived(data=part, flow_controlled_length=length):
                    self._parts.append((part, length))
                case events.StreamEnded():
                    self._ended = True
                case events.StreamReset(error_code=code):
                    # Without an error it only says that the rest of the request is not wanted.
                    if code != ErrorCodes.NO_ERROR or not self.status:
                        raise aiohttp.ClientPayloadError(f"The stream was reset: {code}")
                    self._ended = True
                case events.ConnectionTerminated(error_code=code, last_stream_id=last):
                    if code != ErrorCodes.NO_ERROR or (last or 0) < self._stream:
                        raise aiohttp.ServerDisconnectedError(f"The container went away: {code}")
                case events.WindowUpdated() | events.RemoteSettingsChanged():
                    self._room.set()
        await self._flush()

    async def head(self) -> None:
        """Wait for the response's status and headers."""
        while not self.status:
            await self._receive()

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """The response's body as it comes; size is for likeness with aiohttp alone."""
        while True:
            while self._parts:
                part, length = self._parts.pop(0)
                yield part
                if not self._ended:
                    self._protocol.acknowledge_received_data(length, self._stream)
                    await self._flush()
            if self._ended:
                return
            await self._receive()


@contextlib.asynccontextmanager
async def request(
    method: str, address: str, port: int, path: str, headers: Mapping[str, str], body: AsyncIterable[bytes] | None
) -> AsyncIterator[Response]:
    """Ask a container; the answer's body is read within the block.  Raises aiohttp.ClientError."""
    sender: asyncio.Task[None] | None = None
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_connection(address, port)
        response = Response(reader, writer)
        head = [
            (":method", method),
            (":scheme", "http"),
            (":authority", headers.get("Host", f"{address}:{port}")),
            (":path", path),
        ]
        head += [
            (name.lower(), value)
            for name, value in headers.items()
            if name.lower() not in _LEFT_OUT or (name.lower(), value) == ("te", "trailers")
        ]
        await response.begin(head, body=body is not None)
        if body is not None:
            sender = asyncio.create_task(response.send(body))
        await response.head()
        yield response
    except (OSError, ProtocolError, UnicodeError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error
    finally:
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        if writer is not None:
            writer.close()
