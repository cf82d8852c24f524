"""One deployment for the whole run, in sandboxes used only through their command and environment variables."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from gcp_sandbox.testing import Sandbox

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
IMAGE_PYTHON = os.environ.get("IMAGE_PYTHON", str(ROOT / ".venv-image" / "bin" / "python"))
PROJECT = "mlflow-demo"
# Registered in the sandbox, so that only the tests of the build wait for one.
IMAGE = f"europe-west2-docker.pkg.dev/{PROJECT}/mlflow/server:3.17.2"
SHARED = pytest.StashKey[Path]()

# The link to the checkout under the collection's name, as created by the Makefile, for direct calls of pytest.
LINK = ROOT / ".collections" / "ansible_collections" / "mlops" / "mlflow_gcp"
if not LINK.exists():
    LINK.parent.mkdir(parents=True, exist_ok=True)
    LINK.symlink_to("../../..")


# The files that take longest, longest first, so that no worker has a long one left at the end. Only the first needs the
# deployment: the other workers run the next ones while it is made.
LONGEST = (
    "tests/e2e/test_keep.py",
    "tests/image/test_database.py",
    "tests/image/test_schema.py",
    "tests/image/test_artifacts.py",
    "tests/e2e/test_destroy.py",
    "tests/e2e/test_readme.py",
    "tests/e2e/test_front_doors.py",
    "tests/e2e/test_adopt.py",
    "tests/e2e/test_breakage.py",
    "tests/e2e/test_artifacts.py",
    "tests/e2e/test_client_package.py",
    "tests/e2e/test_deploy.py",
    "tests/e2e/test_bad_input.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, the others in the order of the configuration."""
    rank = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Assign whole files to workers, in the order of pytest_collection_modifyitems."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0]

    return ByFile(config, log)


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
    def changed(self) -> list[str]:
        """The names of the tasks that changed something, in their order."""
        tasks = re.findall(r"^TASK \[(.*?)\] \*+\n(.*?)(?=^(?:TASK|PLAY) |\Z)", self.output, re.M | re.S)
        return [name.split(" : ")[-1] for name, shown in tasks if re.search(r"^changed: \[", shown, re.M)]

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
        ansible = {"CONFIG": ROOT / "ansible.cfg", "HOME": self.state / "ansible", "NOCOLOR": "1"}
        return plain | {f"ANSIBLE_{name}": str(value) for name, value in ansible.items()} | self.exports

    def http(self, method: str, url: str, **options: Any) -> requests.Response:
        """One request through the proxy, without additional credentials."""
        return self.session(anonymous=True).request(method, url, timeout=60, **options)

    def playbook(
        self,
        name: str,
        *arguments: str,
        inventory: Path = Path("inventories/sandbox"),
        image: str = IMAGE,
        **env: str | None,
    ) -> Play:
        """Run playbooks/`name` with an image ("": it is built) and further environment variables (None: without that one)."""
        start = time.monotonic()
        done = subprocess.run(
            [BIN / "ansible-playbook", "-i", inventory, "-e", f"mlflow_image={image}", f"playbooks/{name}", *arguments],
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
    with Cloud.running("--project", PROJECT, "--image-python", IMAGE_PYTHON) as cloud:
        register(cloud)
        yield cloud


def register(cloud: Cloud) -> None:
    """Register the server's image."""
    cloud.command("image", "add", IMAGE, str(ROOT / "image"), "--python", IMAGE_PYTHON)


# -- made once for all workers -------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Create the folder for what is made once in a run and used by all workers."""
    worker = getattr(config, "workerinput", None)
    config.stash[SHARED] = Path(worker["shared"] if worker else tempfile.mkdtemp(prefix="mlflow-tests-"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist the name of the folder."""
    node.workerinput["shared"] = str(node.config.stash[SHARED])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete the folder at the end of the run."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[SHARED], ignore_errors=True)


def once(config: pytest.Config, name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
    """The folder `name` and the result (JSON) of make(folder), which one worker runs while the others wait."""
    folder = config.stash[SHARED] / name
    result = folder.with_suffix(".json")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker for which it failed
            folder.mkdir()
            result.write_text(json.dumps(make(folder)))
    return folder, json.loads(result.read_text())


def deploy(state: Path) -> dict[str, Any]:
    """Deploy MLflow in a new sandbox, and stop it; the first run of site.yml, shown with --diff and task results, and drawn."""
    cloud = Cloud(state)
    try:
        cloud.up("--project", PROJECT, "--image-python", IMAGE_PYTHON)
        register(cloud)
        # As at Google, where enabled APIs and role grants take a moment to propagate.
        cloud.command("fault", "add", "*", "service-disabled", "seconds=3")
        cloud.command("fault", "add", "*", "iam-delay", "seconds=8")
        # A plan of an empty project writes nothing.
        cloud.command("fault", "add", "*.insert", "418")
        cloud.command("fault", "add", "*.create", "418")
        plan = cloud.playbook("plan.yml", "-e", f"mlflow_plan_file={state / 'plan.json'}")
        cloud.command("fault", "clear")
        cloud.command("fault", "add", "*", "service-disabled", "seconds=3")
        cloud.command("fault", "add", "*", "iam-delay", "seconds=8")
        drawn = {"ANSIBLE_CALLBACKS_ENABLED": "mlops.mlflow_gcp.timeline"}
        play = cloud.playbook(
            "site.yml", "--diff", "-v", **drawn, MLFLOW_GCP_TIMELINE_FILE=str(state / "timeline.html")
        )
        cloud.command("fault", "clear")
        return {"plan": asdict(plan), "site": asdict(play)}
    finally:
        cloud.command("down", check=False)


@pytest.fixture(scope="session")
def deployment(pytestconfig: pytest.Config) -> tuple[Path, Play]:
    """MLflow deployed by playbooks/site.yml: the state folder of the stopped sandbox, and the run."""
    state, plays = once(pytestconfig, "deployment", deploy)
    assert plays["site"]["status"] == 0, plays["site"]["output"]
    return state, Play(**plays["site"])


@pytest.fixture(scope="session")
def first_plan(pytestconfig: pytest.Config, deployment: tuple[Path, Play]) -> Play:
    """playbooks/plan.yml, run before the deployment in the empty project."""
    return Play(**once(pytestconfig, "deployment", deploy)[1]["plan"])


@pytest.fixture(scope="session")
def deployed(deployment: tuple[Path, Play]) -> Play:
    """The first run of site.yml, by which all sandboxes of the fixture `cloud` were deployed."""
    return deployment[1]


@contextmanager
def copied(deployment: tuple[Path, Play]) -> Iterator[Cloud]:
    """A running copy of the deployment."""
    with Cloud.running(copy_of=deployment[0]) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def cloud(deployment: tuple[Path, Play]) -> Iterator[Cloud]:
    """The deployment that all tests of a worker share, and leave as they find it; see own_cloud."""
    with copied(deployment) as running:
        yield running


@pytest.fixture(scope="module")
def own_cloud(deployment: tuple[Path, Play]) -> Iterator[Cloud]:
    """A deployment for one file, whose tests change it: the file defines a fixture `cloud` that returns this one."""
    with copied(deployment) as running:
        yield running
