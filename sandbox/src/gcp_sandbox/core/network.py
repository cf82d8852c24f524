"""The 127.N.0.0/16 that a sandbox takes its private addresses from.

Each running sandbox has one of its own, so that a copy of a state folder can run beside the original: the copy moves to
another network, and the addresses in its documents move along.
"""

from __future__ import annotations

import contextlib
import errno
import re
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gcp_sandbox.core.settings import Settings
from gcp_sandbox.core.store import Store

FIRST, LAST = 64, 223
_KIND, _KEY = "sandbox", "network"


@dataclass(frozen=True)
class Source:
    """Where a connection comes from: the VPC networks (store keys) that its process is attached to, and what their
    firewall rules recognise it by."""

    networks: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    account: str = ""


@dataclass(frozen=True)
class Client:
    """Where a client of the proxy is: in a VPC network (store key) and region, or, with neither, on the internet."""

    network: str = ""
    region: str = ""


INTERNET = Client()


class NoneLeft(Exception):
    """There are too many sandboxes on this machine."""


@contextlib.contextmanager
def reserved(settings: Settings) -> Iterator[None]:
    """Reserve a network for this process, and note it in the settings: the last one, or another if that is in use.

    Raises NoneLeft.
    """
    others = list(range(FIRST, LAST + 1))
    secrets.SystemRandom().shuffle(others)
    busy = _listening()
    for number in (settings.network, *others):
        if number and number not in busy and (mark := _mark(number)):
            with mark:
                settings.network = number
                yield
            return
    raise NoneLeft(f"other sandboxes use all networks from 127.{FIRST}.0.0/16 to 127.{LAST}.0.0/16")


def _mark(number: int) -> socket.socket | None:
    """The reservation of a network, None if another process has it.

    An abstract Unix socket is as local as loopback addresses are (to a network namespace), and ends with its process.
    """
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        mark.bind(f"\0gcp-sandbox/127.{number}.0.0")
    except OSError as error:
        mark.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return mark


def _listening() -> set[int]:
    """Networks in which some program listens, whether it is a sandbox or not."""
    try:
        table = Path("/proc/net/tcp").read_text(encoding="ascii")
    except OSError:
        return set()
    # 127.N.y.x:port with its bytes in reverse order, not connected, in the state LISTEN.
    return {
        int(found, 16) for found in re.findall(r"^ *\d+: [0-9A-F]{4}([0-9A-F]{2})7F:\w+ 0{8}:0{4} 0A ", table, re.M)
    }


def settle(store: Store, number: int) -> None:
    """Move all addresses in the documents to network `number`, if they are in another one."""
    noted = store.peek(_KIND, _KEY)
    if noted and noted["number"] == number:
        return
    with store.atomic():
        if noted:
            old = re.compile(rf"(?<![\d.])127\.{noted['number']}\.(?=\d+\.\d)")
            store.rewrite(lambda text: old.sub(f"127.{number}.", text))
        store.put(_KIND, _KEY, {"number": number})
