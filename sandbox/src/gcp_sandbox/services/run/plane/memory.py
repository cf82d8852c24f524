"""An instance's memory: its processes and the files it has written, which Cloud Run keeps in memory too.

https://cloud.google.com/run/docs/configuring/services/memory-limits, https://cloud.google.com/run/docs/container-contract#filesystem
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

_MIB = 2**20
# No container fills memory faster than this, so one that is far from its limit is looked at less often.
_BYTES_PER_SECOND = 2 * 2**30
_SHORTEST, _LONGEST = 0.02, 1.0


async def exceeded(limit: float, leaders: Callable[[], list[int]], folder: Path) -> str:
    """Wait until an instance holds more than limit bytes; what Cloud Run's log then says.

    leaders: its processes, whose children count as well.  folder: where its files are.
    """
    while True:
        used = await asyncio.to_thread(_used, leaders(), folder)
        if used > limit:
            return (
                f"Memory limit of {limit / _MIB:.0f} MiB exceeded with {used / _MIB:.0f} MiB used. Consider increasing the "
                "memory limit, see https://cloud.google.com/run/docs/configuring/memory-limits"
            )
        await asyncio.sleep(min(max((limit - used) / _BYTES_PER_SECOND, _SHORTEST), _LONGEST))


def _used(leaders: list[int], folder: Path) -> int:
    """Bytes of processes with their children, and of the files below a folder."""
    return sum(map(_anonymous, _family(leaders))) + sum(_sizes(folder))


def _family(pids: Iterable[int]) -> set[int]:
    found: set[int] = set()
    left = list(pids)
    while left:
        pid = left.pop()
        if pid in found:
            continue
        found.add(pid)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                left += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii").split())
    return found


def _anonymous(pid: int) -> int:
    """Bytes that a process has to itself, with its part of those it shares with its forks; not its program's files."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:  # it has ended
        return 0
    return sum(int(size) for size in re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB", text, re.M)) * 1024


def _sizes(folder: Path) -> Iterable[int]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield entry.stat().st_size
