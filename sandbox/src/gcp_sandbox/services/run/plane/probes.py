"""Startup, liveness and readiness probes.  https://cloud.google.com/run/docs/configuring/healthchecks

They are asked more often than Google asks, so that a container that is ready is seen at once, and give up when Google does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

Probe = dict[str, Any]
_STEP = 0.05
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


def default(port: int) -> Probe:
    """The probe of a container that declares none."""
    return {"timeoutSeconds": 240, "periodSeconds": 240, "failureThreshold": 1, "tcpSocket": {"port": port}}


def label(probe: Probe) -> str:
    """HTTP, GRPC or TCP."""
    return "HTTP" if "httpGet" in probe else "GRPC" if "grpc" in probe else "TCP"


def port_of(probe: Probe, port: int) -> int:
    """The port a probe asks; port: the container's."""
    for kind in ("httpGet", "tcpSocket", "grpc"):
        if kind in probe:
            return int(probe[kind].get("port") or port)
    return port


async def until_ready(probe: Probe, address: str, port: int) -> bool:
    """Ask until the probe succeeds (True) or its attempts are used up (False)."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    end = loop.time() + probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    while loop.time() < end:
        if await ask(probe, address, port, limit=end - loop.time()):
            return True
        await asyncio.sleep(_STEP)
    return False


async def ask(probe: Probe, address: str, port: int, *, limit: float = 3600) -> bool:
    """Whether one attempt succeeds; limit in seconds."""
    seconds = min(probe.get("timeoutSeconds", 1), limit)
    errors = (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, IndexError, aiohttp.ClientError)
    with contextlib.suppress(*errors):
        async with asyncio.timeout(seconds):
            if "grpc" in probe:
                return await _serving(address, port_of(probe, port), probe["grpc"].get("service", ""))
            reader, writer = await asyncio.open_connection(address, port_of(probe, port))
            try:
                if "httpGet" not in probe:
                    return True
                get = probe["httpGet"]
                headers = {"Host": f"{address}:{port}", "User-Agent": "GoogleHC/1.0", "Connection": "close"}
                headers |= {h["name"]: h.get("value", "") for h in get.get("httpHeaders", ())}
                lines = [f"GET {get.get('path') or '/'} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
                writer.write("\r\n".join(lines).encode())
                status = int((await reader.readline()).split()[1])
                return 200 <= status < 400
            finally:
                writer.close()
    return False


async def _serving(address: str, port: int, service: str) -> bool:
    """What the container says of a service by https://github.com/grpc/grpc/blob/master/doc/health-checking.md."""
    from gcp_sandbox.services.run.plane import h2c  # when first needed: it takes longer to import than the rest

    name = service.encode()
    message = b"\n" + bytes([len(name)]) + name if name else b""  # HealthCheckRequest.service, up to 127 bytes

    async def body() -> AsyncIterator[bytes]:
        yield b"\0" + len(message).to_bytes(4, "big") + message

    headers = {"User-Agent": "GoogleHC/1.0", "Content-Type": "application/grpc", "TE": "trailers"}
    async with h2c.request("POST", address, port, "/grpc.health.v1.Health/Check", headers, body()) as response:
        answer = b"".join([part async for part in response.iter_chunked(1024)])
    return answer[5:] == b"\x08\x01"  # HealthCheckResponse.status is SERVING


async def speaks_http2(address: str, port: int) -> bool:
    """Whether the container answers HTTP/2 with prior knowledge."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(_PREFACE)
                frame = await reader.readexactly(9)
                return frame[3] == _SETTINGS
            finally:
                writer.close()
    return False
