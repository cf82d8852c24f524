"""`gcp-sandbox supported`: the implemented and the only validated methods, determined from the code."""

from __future__ import annotations

from pathlib import Path

from gcp_sandbox import services
from gcp_sandbox.core.service import Service

BEGIN, END = "<!-- begin: gcp-sandbox supported -->", "<!-- end: gcp-sandbox supported -->"


def _resource(method: str) -> tuple[str, str]:
    """run.projects.locations.services.create -> ("services", "create")."""
    *path, verb = method.split(".")[1:]
    while len(path) > 1 and path[0] in ("projects", "locations"):
        del path[0]
    return ".".join(path), verb


def _rows(service: Service) -> list[str]:
    """A row for every resource with implemented methods, and one for all others."""
    apis = [service.api(version) for version in service.versions]
    behave: dict[str, set[str]] = {}
    checked: dict[str, set[str]] = {}
    for method in (m for api in apis for m in api.methods.values()):
        resource, verb = _resource(method.id)
        (behave if service.key(method) in service.handlers else checked).setdefault(resource, set()).add(verb)
    head = f"{apis[0].title.removesuffix(' API')} ({', '.join(service.versions)})"
    out = []
    for resource in sorted(behave):
        only = checked.pop(resource, set()) - behave[resource]
        left, right = ", ".join(sorted(behave[resource])), ", ".join(sorted(only))
        out.append(f"| {head} | {resource or '(of the API itself)'} | {left} | {right} |")
        head = ""
    if checked:
        methods = sum(len(verbs) for verbs in checked.values())
        named = sorted(f"{resource}.{verb}" for resource, verbs in checked.items() for verb in verbs)
        other = f"{len(checked)} other resource{'s' if len(checked) > 1 else ''}"
        out.append(f"| {head} | {other} |  | {', '.join(named) if methods < 4 else f'all {methods} methods'} |")
    raw = sorted({f"`{host}{prefix}`" for host, prefix, _ in service.raw_routes})
    if raw:
        out.append(f"|  | outside the document | {', '.join(raw)} |  |")
    return out


def table() -> str:
    """The table, in Markdown."""
    lines = ["| API | resource | implemented methods | only validated, then 501 |", "|---|---|---|---|"]
    for module in services.load():
        lines += _rows(module.SERVICE)
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """A document with the table between its two markers.  Raises ValueError if they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the markers are missing: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}{END}{after}"


def write(path: Path) -> None:
    """Update the table in a file.  Raises OSError, ValueError."""
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
