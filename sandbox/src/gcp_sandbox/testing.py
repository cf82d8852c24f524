"""A sandbox for tests and benchmarks, used like any other one: through its command and its environment variables.

In a project's conftest.py, for the fixture ``gcp_sandbox`` (a running sandbox for the whole session)::

    pytest_plugins = ["gcp_sandbox.testing"]

and in a test::

    def test_a_bucket(gcp_sandbox):
        gcp_sandbox.call("POST", "storage.googleapis.com/storage/v1/b?project=sandbox", {"name": "of-a-test"})

It requires the packages requests and pytest (``pip install gcp-sandbox[testing]``).
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests

if TYPE_CHECKING:
    from typing import Self  # since Python 3.11; the tests of a client may run on an older one

PYTHON = os.environ.get("GCP_SANDBOX_PYTHON", sys.executable)  # in which the sandbox is installed
SECONDS = 120  # timeout of a command and of a call


class CommandError(AssertionError):
    """The command exited with a status other than 0; the text is its output."""


class CallError(AssertionError):
    """An API rejected a call, or its operation failed; the text is the response."""


class Sandbox:
    """The sandbox of a state folder, running or not."""

    def __init__(self, state: Path) -> None:
        self.state = state

    @classmethod
    @contextmanager
    def running(cls, *words: str, copy_of: Path | None = None) -> Iterator[Self]:
        """A sandbox with its own state, started with these arguments of ``up`` and deleted at the end.

        copy_of: the state folder of a stopped sandbox to begin with, so that what takes long to create is created once.
        """
        # Outside pytest's folders, which only their owner may access: PostgreSQL does not run as root.
        sandbox = cls(Path(tempfile.mkdtemp(prefix="gcp-sandbox-")))
        try:
            if copy_of:
                # With the owners of files, unlike shutil.copytree.
                subprocess.run(["cp", "-a", f"{copy_of}/.", sandbox.state], check=True)
            sandbox.up(*words)
            yield sandbox
        finally:
            sandbox.command("down", check=False)
            shutil.rmtree(sandbox.state, ignore_errors=True)

    def command(self, *words: str, check: bool = True) -> str:
        """The output of ``gcp-sandbox WORDS --state …``.  Raises CommandError, unless check is off."""
        command = [PYTHON, "-m", "gcp_sandbox.cli", *words, "--state", str(self.state)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if check and done.returncode:
            raise CommandError(f"gcp-sandbox {shlex.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def up(self, *words: str) -> None:
        """Start it in the background, with these arguments of ``up``.  Raises CommandError."""
        self.command("up", "--detach", *words)
        self.__dict__.pop("_deployer", None)  # its port may be another one now

    @property
    def process(self) -> psutil.Process:
        """The sandbox's own process, the parent of all processes that it started."""
        return psutil.Process(json.loads((self.state / "run.json").read_text(encoding="utf-8"))["pid"])

    @property
    def exports(self) -> dict[str, str]:
        """The variables that ``gcp-sandbox env`` exports."""
        return self.exports_in()

    def exports_in(self, network: str = "", region: str = "") -> dict[str, str]:
        """The variables that ``gcp-sandbox env`` exports to a client in a VPC network (NAME or projects/…) and region."""
        options = ["--network", network, "--region", region] if network else []
        words = (shlex.split(line)[1] for line in self.command("env", *options).splitlines())
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    @property
    def environment(self) -> dict[str, str]:
        """The environment of this process, with the variables that direct clients to the sandbox."""
        return os.environ | self.exports

    def session(
        self, email: str | None = None, *, anonymous: bool = False, network: str = "", region: str = ""
    ) -> requests.Session:
        """A client that uses the proxy, signed in as an account (default: the deployer), in a VPC network or outside."""
        exports = self.exports_in(network, region)
        out = requests.Session()
        out.trust_env = False
        out.proxies = {"https": exports["HTTPS_PROXY"], "http": exports["HTTPS_PROXY"]}
        out.verify = exports["REQUESTS_CA_BUNDLE"]
        if not anonymous:
            words = ["--as", email] if email else []
            out.headers["Authorization"] = "Bearer " + self.command("token", *words).strip()
        return out

    def kms_key(self, project: str, place: str, *services: str, ring: str = "r") -> str:
        """Name of a new key k of Cloud KMS in a new key ring, which the agents of these services ("sqladmin") may use."""
        apis = {"serviceIds": ["cloudkms.googleapis.com"]}
        self.call("POST", f"serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable", apis)
        url = f"cloudkms.googleapis.com/v1/projects/{project}/locations/{place}/keyRings"
        self.call("POST", f"{url}?keyRingId={ring}", {})
        key = self.call("POST", f"{url}/{ring}/cryptoKeys?cryptoKeyId=k", {"purpose": "ENCRYPT_DECRYPT"})["name"]
        members = [f"serviceAccount:{self.service_agent(project, service)}" for service in services]
        binding = {"role": "roles/cloudkms.cryptoKeyEncrypterDecrypter", "members": members}
        self.call("POST", f"cloudkms.googleapis.com/v1/{key}:setIamPolicy", {"policy": {"bindings": [binding]}})
        return str(key)

    def service_agent(self, project: str, service: str) -> str:
        """E-mail address of the agent of a service ("sqladmin") in a project, created when it is not there."""
        if service == "storage":
            return str(
                self.call("GET", f"storage.googleapis.com/storage/v1/projects/{project}/serviceAccount")[
                    "email_address"
                ]
            )
        url = f"serviceusage.googleapis.com/v1beta1/projects/{project}/services/{service}.googleapis.com"
        return str(self.call("POST", f"{url}:generateServiceIdentity")["response"]["email"])

    @functools.cached_property
    def _deployer(self) -> requests.Session:
        return self.session()

    def call(self, method: str, url: str, body: Any = None, **options: Any) -> Any:
        """The JSON response to one call by the deployer, or the result of its operation.  Raises CallError.

        url: without its scheme.  options: further arguments of requests.request.
        """
        answer = self._deployer.request(method, f"https://{url}", json=body, timeout=SECONDS, **options)
        if answer.status_code == 401:  # the token has expired, or the sandbox was started again
            del self._deployer
            answer = self._deployer.request(method, f"https://{url}", json=body, timeout=SECONDS, **options)
        if not answer.ok:
            raise CallError(f"{method} {url}: {answer.status_code} {answer.text}")
        doc = wait(self._deployer, answer) if answer.content else None
        if doc and is_operation(doc) and "error" in doc:
            raise CallError(f"{method} {url}: {json.dumps(doc)}")
        return doc


def is_operation(doc: Any) -> bool:
    """Whether the JSON of a response is a long-running operation."""
    if not isinstance(doc, dict):
        return False
    return "/operations/" in f"/{doc.get('name', '')}" or str(doc.get("kind", "")).endswith("#operation")


def wait(session: requests.Session, answer: requests.Response, seconds: float = SECONDS) -> Any:
    """The JSON of a response; an operation is returned when it is done, whether it failed or not.

    Raises CallError if it is not done within the given number of seconds.
    """
    doc = answer.json()
    if not is_operation(doc):
        return doc
    # Operations of Compute Engine and Cloud SQL have a link, the others only a name.
    link = doc.get("selfLink") or "/".join([*answer.url.split("/")[:4], doc["name"]])
    end = time.monotonic() + seconds
    while not doc.get("done") and doc.get("status") != "DONE":
        if time.monotonic() > end:
            raise CallError(f"the operation did not finish within {seconds:g} s: {doc}")
        time.sleep(0.01)
        doc = session.get(link, timeout=seconds).json()
    return doc


@pytest.fixture(scope="session")
def gcp_sandbox() -> Iterator[Sandbox]:
    """A running sandbox, for the whole session."""
    with Sandbox.running() as sandbox:
        yield sandbox
