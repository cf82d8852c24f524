"""One sandbox for the whole run, used only through its command and its environment variables."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from gcp_sandbox.testing import Sandbox

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
IMAGE_PYTHON = os.environ.get("IMAGE_PYTHON", str(ROOT / ".venv-image" / "bin" / "python"))
PROJECT = "mlflow-demo"

# The link to the checkout under the collection's name, as created by the Makefile, for direct calls of pytest.
LINK = ROOT / ".collections" / "ansible_collections" / "mlops" / "mlflow_gcp"
if not LINK.exists():
    LINK.parent.mkdir(parents=True, exist_ok=True)
    LINK.symlink_to("../../..")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Assign a whole file to a worker, or the whole folder if its tests share one deployment."""
    from xdist.scheduler import LoadScopeScheduling

    class ByDeployment(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folder = file.rpartition("/")[0]
            # Separate deployments, because these take as long as all others together.
            alone = file in ("tests/e2e/test_keep.py", "tests/e2e/test_readme.py", "tests/e2e/test_two_runs.py")
            return folder if folder in ("tests/e2e", "tests/clients") and not alone else file

    return ByDeployment(config, log)


@dataclass(frozen=True)
class Play:
    """The output and exit status of one run of a playbook."""

    status: int
    output: str
    seconds: float

    def recap(self, what: str) -> int:
        """The sum over all hosts of one number of the recap: ok, changed, failed, skipped, ..."""
        return sum(int(number) for number in re.findall(rf"^\S+ +: .*\b{what}=(\d+)", self.output, re.M))

    @property
    def error(self) -> str:
        """The error message, without the task's other results."""
        found = re.findall(r"^\[ERROR\]: (.*)$|^ *msg: (.*(?:\n    .*)*)", self.output, re.M)
        return "\n".join("".join(pair) for pair in found)


class Cloud(Sandbox):
    """A running sandbox, with the environment of its clients and methods that run playbooks against it."""

    @functools.cached_property
    def env(self) -> dict[str, str]:
        """The environment of a client, without this process's variables of Ansible, Google and MLflow."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "GCP_", "MLFLOW_"))}
        return plain | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"} | self.exports

    def http(self, method: str, url: str, **options: Any) -> requests.Response:
        """One request through the proxy, without additional credentials."""
        return self.session(anonymous=True).request(method, url, timeout=60, **options)

    def playbook(
        self, name: str, *arguments: str, inventory: Path = Path("inventories/sandbox"), **env: str | None
    ) -> Play:
        """Run playbooks/`name` with further environment variables (None: without that one)."""
        start = time.monotonic()
        done = subprocess.run(
            [BIN / "ansible-playbook", "-i", inventory, f"playbooks/{name}", *arguments],
            cwd=ROOT,
            env={name: value for name, value in (self.env | env).items() if value is not None},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return Play(done.returncode, done.stdout, time.monotonic() - start)


@contextmanager
def local_cloud() -> Iterator[Cloud]:
    """A sandbox with its own state, in which the server's image is registered; stopped at the end."""
    with Cloud.running("--project", PROJECT) as cloud:
        image = re.search(r"^IMAGE := (.+)$", (ROOT / "Makefile").read_text(), re.M)[1]
        cloud.command("image", "add", image, str(ROOT / "image"), "--python", IMAGE_PYTHON)
        yield cloud


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """The sandbox that all tests of a worker share."""
    with local_cloud() as running:
        yield running


@pytest.fixture(scope="session")
def deployed(cloud: Cloud) -> Play:
    """MLflow deployed by playbooks/site.yml; its first run, shown with --diff and all task results."""
    # As at Google, where enabled APIs and role grants take a moment to propagate.
    cloud.command("fault", "add", "*", "service-disabled", "seconds=3")
    cloud.command("fault", "add", "*", "iam-delay", "seconds=8")
    play = cloud.playbook("site.yml", "--diff", "-v")
    cloud.command("fault", "clear")
    assert play.status == 0, play.output
    return play
