"""The options of a sandbox, and the location of its state."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path


def default_state() -> Path:
    """The default state folder: $GCP_SANDBOX_STATE, else one in the user's state folder."""
    named = os.environ.get("GCP_SANDBOX_STATE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "gcp-sandbox"


def account_email(account_id: str, project_id: str) -> str:
    """E-mail address of a service account; in a project of a domain, example.com:name, it is at name.example.com."""
    domain, _, name = project_id.rpartition(":")
    return f"{account_id}@{f'{name}.{domain}' if domain else name}.iam.gserviceaccount.com"


@dataclasses.dataclass
class Settings:
    """Options of `gcp-sandbox up`; those that must survive restarts are stored in the state folder.

    port: of the proxy (0: any free one).  project: ID of the first project.  network: N of the 127.N.0.0/16 that private
    addresses are taken from (0: any free one).  latency: see core/latency.py.  calls: file for a line on every call ("": none).
    organization: domain of the projects' organization.
    image_python: interpreter that stands for that of the images that Cloud Build makes ("": none).
    recorded_links: v1 of Compute Engine returns beta links (for recordings of which only the request URLs were rewritten).
    recorded_environments: Cloud Run's services show an execution environment that nobody asked for (as in recordings).
    machine: e-mail address of the service account of the machine that clients run on ("": no metadata server).
    iap_oauth_admin_api: enables IAP's brands and OAuth clients (Google announced their shutdown for 2026-03-19).
    """

    state: Path
    port: int = 0
    project: str = "sandbox-project"
    network: int = 0
    latency: str = "none"
    calls: str = ""
    iap_oauth_admin_api: bool = False
    organization: str = "example.com"
    recorded_links: bool = False
    recorded_environments: bool = False
    image_python: str = ""
    machine: str = ""

    @property
    def deployer(self) -> str:
        """E-mail address of the service account that owns the first project."""
        return account_email("deployer", self.project)

    @property
    def _file(self) -> Path:
        return self.state / "settings.json"

    @classmethod
    def load(cls, state: Path, **given: str | int | None) -> Settings:
        """The stored settings, overridden by the given ones (None: not given)."""
        out = cls(state)
        if out._file.exists():
            stored = json.loads(out._file.read_text(encoding="utf-8"))
            if stored.pop("state", str(state.resolve())) != str(state.resolve()):
                stored |= {"port": 0, "network": 0}  # a copy: its original keeps them
            for key, value in stored.items():
                setattr(out, key, value)
        for key, value in given.items():
            if value is not None:
                setattr(out, key, value)
        return out

    def remember(self) -> None:
        """Write them to the state folder."""
        kept = dataclasses.asdict(self) | {"state": str(self.state.resolve())}
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        part.replace(self._file)
