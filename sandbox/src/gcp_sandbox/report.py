"""`gcp-sandbox status`: what runs and what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from gcp_sandbox.images import Images
from gcp_sandbox.store import Store

# Kinds that say nothing to a person.
_INTERNAL = {"counters", "sandbox", "operations", "iam.policies", "serviceusage.enabled", "faults"}


def collect(state: Path, process: dict[str, Any] | None) -> dict[str, Any]:
    """The state as data: {running, pid, proxy, project, memoryMiB, processes, images, resources: {kind: [key]}}."""
    out: dict[str, Any] = {"state": str(state), "running": process is not None}
    if process:
        me = psutil.Process(process["pid"])
        children = me.children(recursive=True)
        out |= {
            "pid": process["pid"], "proxy": f"http://127.0.0.1:{process['port']}", "project": process["project"],
            "memoryMiB": round(me.memory_info().rss / 2**20), "childProcesses": len(children),
        }  # fmt: skip
    if (state / "state.sqlite").exists():
        store = Store(state / "state.sqlite")
        out["resources"] = {
            kind: [key for key, _ in store.list(kind)] for kind in store.kinds() if kind not in _INTERNAL
        }
        out["policies"] = {key: doc["bindings"] for key, doc in store.list("iam.policies")}
        store.close()
    out["images"] = {reference: str(image["folder"]) for reference, image in Images(state).all().items()}
    return out


def show(doc: dict[str, Any]) -> str:
    """The same for a person."""
    if doc["running"]:
        head = f"running, pid {doc['pid']}, {doc['memoryMiB']} MiB, {doc['childProcesses']} child processes"
        lines = [head, f"proxy    {doc['proxy']}", f"project  {doc['project']}"]
    else:
        lines = ["not running"]
    lines += [f"state    {doc['state']}"]
    lines += [f"image    {reference} -> {folder}" for reference, folder in doc["images"].items()]
    for kind, keys in doc.get("resources", {}).items():
        lines += ["", f"{kind} ({len(keys)})", *(f"  {key}" for key in keys[:20])]
        if len(keys) > 20:
            lines.append(f"  … {len(keys) - 20} more")
    return "\n".join(lines)
