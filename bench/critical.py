"""The critical path of Google's operations in a sandbox: what a run would take if it cost nothing itself (critical.py STATE)."""

from __future__ import annotations

import json
import sqlite3
import sys
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

COMPUTE = "https://www.googleapis.com/compute/v1/"


@dataclass
class Operation:
    """One operation, from the sandbox's record."""

    record: dict[str, Any]
    target: str
    """Name of its resource, from projects/ on."""
    resource: str
    """The resource as JSON, "" if there is none any more."""
    needs: list[Operation] = field(default_factory=list)
    """Those that had to end before this one could begin, because Google would have refused it."""

    @cached_property
    def began(self) -> float:
        return datetime.fromisoformat(self.record["insertTime"]).timestamp()

    @cached_property
    def ended(self) -> float:
        return datetime.fromisoformat(self.record["endTime"]).timestamp()

    @cached_property
    def finish(self) -> float:
        """Seconds until its end, if everything begins as early as it can."""
        return max((other.finish for other in self.needs), default=0.0) + self.ended - self.began

    @property
    def service(self) -> str:
        return str(self.record["service"])

    @property
    def name(self) -> str:
        text = self.target.rpartition("/")[2]
        return f"{self.record['latency'] or self.service} {text if len(text) < 60 else f'{text[:57]}...'}"


def operations(state: Path) -> list[Operation]:
    """The finished operations of a sandbox's state folder, in the order of their begin, with their dependencies."""
    with sqlite3.connect(f"file:{state / 'state.sqlite'}?mode=ro", uri=True) as db:
        docs = list(db.execute("SELECT kind, key, body FROM docs"))
    resources = {key: body for kind, key, body in docs if kind != "operations"}
    found = []
    for record in (json.loads(body) for kind, _key, body in docs if kind == "operations"):
        if record["status"] == "DONE" and "error" not in record:
            target = _target(record)
            found.append(Operation(record, target, resources.get(target, "")))
    found.sort(key=lambda each: each.began)
    for number, one in enumerate(found):
        # What is still running when this one begins cannot have been needed; one that takes no time does not need itself.
        one.needs = [other for other in found[:number] if other.ended <= one.began and _needs(one, other)]
    return found


def _target(record: dict[str, Any]) -> str:
    if record["service"] == "servicenetworking":
        return f"{record['target']}/servicenetworking.googleapis.com"
    if record["service"] == "sqladmin":
        return f"projects/{record['project']}/instances/{record['target']}"
    if record["service"] == "cloudbuild":
        return str(record["args"]["key"])
    return str(record["target"]).removeprefix(COMPUTE)


def _needs(one: Operation, other: Operation) -> bool:
    """
    Whether ONE needs what OTHER has made.

    That is: its API enabled, its resource, a resource that its own links to (a serverless NEG only has the name of its
    service), the ranges of a connection, the connection of an instance's network, and of a service the database and the image.
    """
    if other.service == "serviceusage":
        return f"{one.service}.googleapis.com" in other.record["args"].get("services", ())
    if other.target == one.target:
        return True
    if f'{other.target}"' in one.resource:
        return True
    kind = other.record["latency"]
    if one.service == "servicenetworking" and kind == "compute.addresses.insert":
        return f'"{other.target.rpartition("/")[2]}"' in one.resource
    if one.service == "sqladmin" and other.service == "servicenetworking":
        return f'{other.target.rpartition("/")[0]}"' in one.resource
    if one.service == "run" and other.service == "sqladmin":
        addresses = json.loads(other.resource or "{}").get("ipAddresses", ())
        return any(f'"{address["ipAddress"]}"' in one.resource for address in addresses)
    if one.service == "run" and other.service == "cloudbuild":
        images = json.loads(other.resource or "{}").get("images", ())
        return any(image.rpartition(":")[0] in one.resource for image in images)
    if other.service == "artifactregistry" and one.service == "cloudbuild":
        _projects, project, _locations, place, _repositories, name = other.target.split("/")
        return f"{place}-docker.pkg.dev/{project}/{name}/" in one.resource
    return False


def path(found: list[Operation]) -> list[Operation]:
    """The critical path, in the order of time."""
    last = max(found, key=lambda each: each.finish, default=None)
    out: list[Operation] = []
    while last:
        out.insert(0, last)
        last = max(last.needs, key=lambda each: each.finish, default=None)
    return out


def main() -> None:
    chain = path(operations(Path(sys.argv[1])))
    for each in chain:
        print(f"{each.ended - each.began:8.1f} s  {each.name}")
    print(f"{chain[-1].finish if chain else 0:8.1f} s  in all")


if __name__ == "__main__":
    main()
