"""The proxy as a separate server: the state that it keeps of its clients' connections."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.settings import Settings
from gcp_sandbox.gateway.proxy import ProxyProtocol
from gcp_sandbox.gateway.server import Server


def test_a_connection_is_held_until_it_ends_and_no_longer(tmp_path: Path) -> None:
    async def connect() -> tuple[int, int]:
        gateway = Server(Cloud(Settings(tmp_path, network=64)))
        server = await asyncio.get_running_loop().create_server(lambda: ProxyProtocol(gateway), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"CONNECT storage.googleapis.com:80 HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        gc.collect()
        during = len(gateway.connections)
        writer.close()
        await writer.wait_closed()
        server.close()
        while gateway.connections:
            await asyncio.sleep(0)
            gc.collect()
        return during, len(gateway.connections)

    during, after = asyncio.run(asyncio.wait_for(connect(), 10))
    assert (during, after) == (1, 0)
