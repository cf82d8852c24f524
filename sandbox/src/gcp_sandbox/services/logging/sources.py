"""The files with a project's entries, and those that a filter can match."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from gcp_sandbox.services.logging import entries, filters
from gcp_sandbox.services.logging.reading import Source
from gcp_sandbox.services.logging.values import moment

Doc = dict[str, Any]
# Bytes at the start and the end of a file that are searched for log names.
_ENDS = 1 << 18
_KNOWN = {
    ("resource", "type"),
    ("resource", "labels", "project_id"),
    ("resource", "labels", "location"),
    ("resource", "labels", "service_name"),
    ("resource", "labels", "configuration_name"),
    ("resource", "labels", "job_name"),
    ("resource", "labels", "build_id"),
}


def _runs(folder: Path, project: str) -> list[tuple[Path, str, str]]:
    """(file, location, name) of the project's Cloud Run services and jobs that have output."""
    out = []
    for file in sorted((folder / "run").glob(f"{project}.*.jsonl")):
        owner, location, name = file.stem.rsplit(".", 2)
        if owner == project:
            out.append((file, location, name))
    return out


def _builds(folder: Path, project: str) -> list[tuple[Path, str]]:
    """(file, ID) of the project's builds that have output."""
    files = sorted((folder / "build").glob(f"{project}.*.jsonl"))
    return [(file, ident) for file in files for owner, ident in [file.stem.rsplit(".", 1)] if owner == project]


def _balancer(folder: Path) -> Path:
    return folder / "load-balancer.jsonl"


def chosen(folder: Path, projects: list[str], tree: filters.Node) -> list[Source]:
    """The files to read for a filter, according to its conditions on the resource."""
    parts = [p for p in filters.conjuncts(tree) if isinstance(p, filters.Compare) and p.path in _KNOWN]

    def meant(kind: str, **labels: str) -> bool:
        return all(part.match({"resource": {"type": kind, "labels": labels}}) for part in parts)

    out = []
    for project in projects:
        for file, location, name in _runs(folder, project):
            where = {"project_id": project, "location": location}
            if meant("cloud_run_revision", service_name=name, configuration_name=name, **where) or meant(
                "cloud_run_job", job_name=name, **where
            ):
                out.append(Source(file, functools.partial(_run_entry, project, location)))
        for file, ident in _builds(folder, project):
            if meant("build", build_id=ident, project_id=project):
                out.append(Source(file, functools.partial(entries.of_build, project, ident)))
        if any(meant(kind, project_id=project) for kind in ("http_load_balancer", "internal_http_lb_rule")):
            out.append(Source(_balancer(folder), functools.partial(_balancer_entry, project)))
    return out


def _run_entry(project: str, location: str, ident: str, line: Doc) -> Doc:
    return entries.of_run(project, location, ident, line)


def _balancer_entry(project: str, ident: str, line: Doc) -> Doc | None:
    if line["resource"]["labels"].get("project_id") != project:
        return None
    return entries.of_balancer(project, ident, line)


def earliest(tree: filters.Node) -> str:
    """The time before which a filter matches nothing, or ""."""
    found = [
        entries.written(moment(part.text))
        for part in filters.conjuncts(tree)
        if isinstance(part, filters.Compare) and part.path == ("timestamp",) and part.op in (">", ">=", "=")
    ]
    return max(found, default="")


def logs(folder: Path, project: str) -> set[str]:
    """IDs of the logs with entries of a project, found at the start and the end of each file."""
    out = set()
    for file, _, _ in _runs(folder, project):
        data = _ends(file)
        out |= {name for stream, name in entries.LOGS.items() if f'","stream":"{stream}"'.encode() in data}
    if _builds(folder, project):
        out.add(entries.BUILDS)
    if f'"project_id":"{project}"'.encode() in _ends(_balancer(folder)):
        out.add(entries.REQUESTS)
    return out


def _ends(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(_ENDS)
            size = stream.seek(0, 2)
            if size > _ENDS:
                stream.seek(max(_ENDS, size - _ENDS))
                data += stream.read()
            return data
    except OSError:
        return b""
