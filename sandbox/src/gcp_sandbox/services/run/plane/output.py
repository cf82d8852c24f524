"""What an instance writes: to the log as its lines, and each line with when and where it came from beside it.

``NAME.log`` has the bare lines, ``NAME.jsonl`` one object a line: time first, then stream (stdout, stderr, system), text
and whose it is (service and revision, or job, execution, task and attempt).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path

from gcp_sandbox.core.operations import now

# A longer line is cut into several entries, as Google's limit of an entry's size does.
_LONGEST = 256 * 1024
_FACTS = {
    "K_SERVICE": "service",
    "K_REVISION": "revision",
    "CLOUD_RUN_JOB": "job",
    "CLOUD_RUN_EXECUTION": "execution",
    "CLOUD_RUN_TASK_INDEX": "task",
    "CLOUD_RUN_TASK_ATTEMPT": "attempt",
}


class Output:
    """The output of one instance; name: of the revision or execution, env: what Cloud Run tells its containers."""

    def __init__(self, log: Path, name: str, env: dict[str, str]) -> None:
        self.facts = {fact: env[key] for key, fact in _FACTS.items() if key in env}
        self._log, self._name = log, name
        self._entries = log.with_suffix(".jsonl")
        # Reading end of each pipe -> (stream, container, what is not a whole line yet).
        self._pipes: dict[int, tuple[str, str, bytearray]] = {}

    def system(self, text: str, severity: str = "INFO") -> None:
        """Write a line of Cloud Run's own."""
        with contextlib.suppress(OSError):
            _append(self._log, f"{now()} [{self._name}] {text}\n".encode())
            _append(self._entries, self._entry("system", "", text, severity))

    def pipe(self, stream: str, container: str) -> int:
        """A new pipe for a container: its writing end, for the caller to hand on and close."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._pipes[reading] = (stream, container, bytearray())
        asyncio.get_running_loop().add_reader(reading, self._read, reading)
        return writing

    def drain(self) -> None:
        """Write what the containers have written up to now."""
        for reading in list(self._pipes):
            for _ in range(16):  # as much as a pipe holds; somebody may still be writing
                if not self._read(reading):
                    break

    def close(self) -> None:
        """Write what is left, and listen to nobody any more."""
        self.drain()
        for reading in list(self._pipes):
            self._end(reading)

    def _read(self, reading: int) -> bool:
        try:
            data = os.read(reading, 65536)
        except OSError:  # nothing at the moment
            return False
        if not data:
            self._end(reading)
            return False
        stream, container, rest = self._pipes[reading]
        rest += data
        whole = rest.rfind(b"\n") + 1
        if not whole and len(rest) >= _LONGEST:
            whole = len(rest)
        if whole:
            self._write(stream, container, bytes(rest[:whole]))
            del rest[:whole]
        return True

    def _end(self, reading: int) -> None:
        stream, container, rest = self._pipes.pop(reading)
        asyncio.get_running_loop().remove_reader(reading)
        os.close(reading)
        if rest:
            self._write(stream, container, bytes(rest))

    def _write(self, stream: str, container: str, data: bytes) -> None:
        lines = data.decode("utf-8", "replace").removesuffix("\n").split("\n")
        entries = [self._entry(stream, container, line.removesuffix("\r")) for line in lines if line.strip()]
        with contextlib.suppress(OSError):  # a full disk must not stop the container
            _append(self._log, data if data.endswith(b"\n") else data + b"\n")
            _append(self._entries, b"".join(entries))

    def _entry(self, stream: str, container: str, text: str, severity: str = "") -> bytes:
        doc = {
            "time": now(),
            "stream": stream,
            **self.facts,
            "container": container,
            "severity": severity,
            "text": text,
        }
        return json.dumps({k: v for k, v in doc.items() if v or k == "text"}, separators=(",", ":")).encode() + b"\n"


def _append(file: Path, data: bytes) -> None:
    if data:
        with file.open("ab", buffering=0) as out:
            out.write(data)
