"""Secrets of a workload, by version, as variables and as files; read as its service account."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services.run.plane.workload import Workload


def version_name(cloud: Cloud, project_id: str, secret: str, version: str) -> str:
    """Full name (by project number, as Google writes it) of a version of a secret named in short or in full."""
    found = re.fullmatch(r"projects/([^/]+)/secrets/([^/]+)", secret)
    name, short = (found.group(1), found.group(2)) if found else (project_id, secret)
    project = projects.find(cloud, name)
    number = project["projectNumber"] if project else name
    return f"projects/{number}/secrets/{short}/versions/{version or 'latest'}"


def references(cloud: Cloud, project_id: str, template: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(field as Google's message names it, version name) of every secret that a template refers to."""
    for at, container in enumerate(template.get("containers", ())):
        for index, env in enumerate(container.get("env", ())):
            if ref := env.get("valueSource", {}).get("secretKeyRef"):
                field = f"spec.template.spec.containers[{at}].env[{index}].value_from.secret_key_ref.name"
                yield field, version_name(cloud, project_id, ref.get("secret", ""), ref.get("version", ""))
    for at, volume in enumerate(template.get("volumes", ())):
        if secret := volume.get("secret"):
            field = f"spec.template.spec.volumes[{at}].secret"
            for item in secret.get("items") or [{}]:
                yield field, version_name(cloud, project_id, secret.get("secret", ""), item.get("version", ""))


def problems(cloud: Cloud, project_id: str, template: dict[str, Any], account: str) -> list[tuple[str, str]]:
    """(google.rpc status, sentence) for each secret that the service account cannot read."""
    out: dict[str, tuple[str, str]] = {}
    for field, name in references(cloud, project_id, template):
        try:
            read(cloud, account, name)
        except ApiError as error:
            if error.code == 403:
                text = (
                    f"Permission denied on secret: {name} for Revision service account {account}. The service account "
                    "used must be granted the 'Secret Manager Secret Accessor' role "
                    "(roles/secretmanager.secretAccessor) at the secret, project or higher level."
                )
            elif error.code == 404:
                text = f"Secret {name} was not found"
            else:
                text = error.message
            out.setdefault(f"{field}: {text}", (error.status, f"{field}: {text}"))
    return list(out.values())


def read(cloud: Cloud, account: str, name: str) -> bytes:
    """A version's value, read as a service account.  Raises ApiError."""
    from gcp_sandbox.services.secretmanager import access

    return access(cloud, Principal(account), name)


def environment(cloud: Cloud, load: Workload, container: dict[str, Any], local: Callable[[str], str]) -> dict[str, str]:
    """The declared variables of a container; local: makes paths of the container those of this machine."""
    out = {}
    for env in container.get("env", ()):
        ref = env.get("valueSource", {}).get("secretKeyRef")
        if ref:
            name = version_name(cloud, load.project["projectId"], ref.get("secret", ""), ref.get("version", ""))
            out[env["name"]] = read(cloud, load.account, name).decode("utf-8", "surrogateescape")
        else:
            out[env["name"]] = local(env.get("value", ""))
    return out


def write_volumes(cloud: Cloud, load: Workload, folder: Path) -> dict[str, Path]:
    """Make a template's volumes as folders; secrets become files.  Returns volume name -> folder."""
    out = {}
    for volume in load.template.get("volumes", ()):
        path = folder / volume["name"]
        path.mkdir(parents=True)
        out[volume["name"]] = path
        secret = volume.get("secret")
        if not secret:
            continue
        short = secret.get("secret", "").rsplit("/", 1)[-1]
        for item in secret.get("items") or [{"path": short, "version": "latest"}]:
            name = version_name(cloud, load.project["projectId"], secret.get("secret", ""), item.get("version", ""))
            file = path / item["path"].lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(read(cloud, load.account, name))
            file.chmod(item.get("mode") or secret.get("defaultMode") or 0o444)
    return out
