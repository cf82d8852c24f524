"""The README's path, typed by a stranger: from a copy of the repository to a deployment that passes verify, and its parts."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.conftest import BIN, ROOT, Cloud, Play, local_cloud

from .conftest import PROJECT

ROLES = ("services", "image", "network", "cloudsql", "bucket", "cloudrun", "iap_lb")


class Recorder:
    """A proxy in front of a sandbox's proxy that records which hosts are asked for, and when."""

    def __init__(self, proxy: str) -> None:
        self.upstream = urlsplit(proxy)
        self.seen: list[tuple[float, str]] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                client, _address = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client: socket.socket) -> None:
        first = client.recv(65536)
        self.seen.append((time.time(), first.split()[1].decode().partition(":")[0]))
        server = socket.create_connection((self.upstream.hostname, self.upstream.port))
        server.sendall(first)

        def copy(source: socket.socket, target: socket.socket) -> None:
            try:
                while data := source.recv(65536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                return

        threading.Thread(target=copy, args=(server, client), daemon=True).start()
        copy(client, server)


@dataclass
class Stranger:
    """Somebody with a copy of the repository and an empty home directory."""

    cloud: Cloud
    home: Path
    clone: Path
    recorder: Recorder
    inventory: Path = Path("inventory.yml")
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.home / "ansible.log"

    @property
    def env(self) -> dict[str, str]:
        """Nothing of the checkout: google.cloud is part of the package ansible."""
        env = {name: value for name, value in self.cloud.exports.items() if name != "GCP_PROJECT"}
        proxies = {"HTTPS_PROXY": self.recorder.url, "https_proxy": self.recorder.url}
        own = {"HOME": str(self.home), "PATH": f"{BIN}:/usr/bin:/bin", "ANSIBLE_LOG_PATH": str(self.log)}
        # The repository of the pages is the copy.
        git = {"COUNT": "1", "KEY_0": f"url.file://{self.clone}.insteadOf", "VALUE_0": f"{REPOSITORY}.git"}
        return env | proxies | own | {f"GIT_CONFIG_{name}": value for name, value in git.items()}

    def type(self, command: str, folder: Path, **env: str) -> Play:
        """Run one command line."""
        start = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return Play(done.returncode, done.stdout, time.monotonic() - start)

    @property
    def site_command(self) -> str:
        """The only way in which the README writes it."""
        (command,) = set(re.findall(r"^ansible-playbook .*mlops\.mlflow_gcp\.site$", README, re.M))
        return command

    def site(self, *arguments: str, **env: str) -> Play:
        """The README's command, with further arguments."""
        return self.type(" ".join([self.site_command, *arguments]), self.home, **env)


README = (ROOT / "README.md").read_text()
REPOSITORY = yaml.safe_load((ROOT / "galaxy.yml").read_text())["repository"]


def commands(heading: str) -> list[list[str]]:
    """The blocks of commands under a heading of the README."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Iterator[Stranger]:
    home = tmp_path_factory.mktemp("home")
    clone = home / "mlflow_gcp"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    author = ["-c", "user.name=one", "-c", "user.email=one@example.com"]
    for words in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "--message", "All"]):
        subprocess.run(["git", *words], cwd=clone, check=True)
    with local_cloud() as cloud:
        yield Stranger(cloud, home, clone, Recorder(cloud.exports["HTTPS_PROXY"]))


@pytest.fixture(scope="module")
def installed(stranger) -> Stranger:
    """With the collection installed from the repository."""
    install, *_others = commands("Three commands to your own project")[0]
    assert commands("Installation")[0][-1] == install
    done = stranger.type(install, stranger.home)
    assert done.status == 0, done.output
    return stranger


def own(inventory: str) -> str:
    """An inventory of the documentation with the values of the sandbox; whoever deploys may sign in for programs."""
    values = yaml.safe_load(inventory.replace("my-project", PROJECT))
    (host,) = values["mlflow"]["hosts"].values()
    assert not {name for name in host if name.startswith("ansible_")}, "a host works without connection variables"
    host["mlflow_logger_token_creators"] = [f"serviceAccount:deployer@{PROJECT}.iam.gserviceaccount.com"]
    return yaml.safe_dump(values)


@pytest.fixture(scope="module")
def site(installed) -> Play:
    """The first run of site, with the README's inventory."""
    (example,) = re.findall(r"^```yaml\n(.*?)^```", README, re.M | re.S)
    (installed.home / "inventory.yml").write_text(own(example))
    _install, preflight, site = commands("Three commands to your own project")[0]
    before = installed.type(preflight, installed.home)
    assert (before.status, before.recap("changed")) == (0, 0), before.output
    assert installed.site_command == site
    # A sudo that does not work: nothing may ask for it.
    become = {
        "ANSIBLE_BECOME": "true",
        "ANSIBLE_BECOME_ALLOW_SAME_USER": "true",
        "ANSIBLE_BECOME_EXE": "/nonexistent/sudo",
    }
    play = installed.site(**become)
    assert play.status == 0, play.output
    return play


def test_the_readme_leads_to_a_deployment_that_passes_verify(installed, site):
    assert site.recap("changed") > 20, site.output
    example = installed.clone / "inventories/example/hosts.yml"
    (line,) = re.findall(r"^#   (ansible-playbook .*mlops\.mlflow_gcp\.verify)", example.read_text(), re.M)
    example.write_text(own(example.read_text()))
    # Another way to the same deployment: the example inventory, in the copy of the repository.
    play = installed.type(line, installed.clone)
    assert play.status == 0, play.output
    assert play.recap("ok") > 3


@pytest.mark.long
def test_an_archive_can_be_installed_instead(stranger):
    """In another home."""
    home = stranger.home / "other"
    for command in commands("Installation")[1]:
        done = stranger.type(command, stranger.clone, HOME=str(home))
        assert done.status == 0, done.output
    assert (home / ".ansible/collections/ansible_collections/mlops/mlflow_gcp/playbooks/site.yml").exists()


def test_the_readme_of_a_role_lists_the_apis_that_it_calls(installed, site):
    lines = re.findall(r"^(\S+ \S+) p=\d+ .*?TASK \[(?:mlops\.mlflow_gcp\.(\w+) : )?", installed.log.read_text(), re.M)
    tasks = [(datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").timestamp(), role) for at, role in lines]
    called: dict[str, set[str]] = {}
    for at, host in installed.recorder.seen:
        role = next((role for start, role in reversed(tasks) if start <= at), "")
        if role and host != "oauth2.googleapis.com":
            called.setdefault(role, set()).add(host.removesuffix(".googleapis.com"))
    assert called.keys() == set(ROLES)
    enabled = yaml.safe_load((ROOT / "roles/services/defaults/main.yml").read_text())["services_names"]
    # It calls every API that it enables once, to wait until the API answers.
    called["services"] -= {name.removesuffix(".googleapis.com") for name in enabled}
    missing: dict[str, set[str]] = {}
    for role in ROLES:
        (text,) = re.findall(r"Required APIs?:([^.;]*)[.;]", (ROOT / "roles" / role / "README.md").read_text())
        listed = set(re.findall(r"[a-z]+", text.split(", which")[0]))
        assert {f"{name}.googleapis.com" for name in listed} <= {*enabled, "serviceusage.googleapis.com"}, role
        missing[role] = called[role] - listed
    assert not any(missing.values()), missing


def test_only_the_users(installed, site):
    play = installed.site("--tags users", "-e", "mlflow_webapp_users=user:only@example.com")
    assert (play.status, play.recap("changed")) == (0, 1), play.output
    assert "Deploy the server" not in play.output and "Create the PostgreSQL" not in play.output
    play = installed.site("--tags users")
    assert (play.status, play.recap("changed")) == (0, 1), play.output


@pytest.mark.long
@pytest.mark.parametrize(
    ("tags", "variables", "changed"),
    [
        ("image", {"cloudrun_max_instances": 3}, "Deploy the server"),
        ("database", {"cloudsql_backup_retained": 9}, "Create the PostgreSQL instance"),
        ("bucket", {"bucket_noncurrent_days": 9}, "Create the bucket"),
        ("network", {"network_allow_internal": True}, "Manage the firewall rule"),
        ("front_door", {"iap_lb_log_sample_rate": 0.5}, "Create the backend service"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_part_alone_changes_only_this_part(installed, site, tags, variables, changed):
    play = installed.site(f"--tags {tags}", "-e", f"'{json.dumps(variables)}'")
    assert (play.status, play.recap("changed")) == (0, 1), play.output
    assert re.search(rf"^TASK \[[^\n]*{changed}[^\n]*\n(?:\[WARNING[^\n]*\n)*changed:", play.output, re.M), play.output
    # Back to the inventory: nothing else was changed.
    play = installed.site()
    assert (play.status, play.recap("changed")) == (0, 1), play.output


@pytest.mark.long
def test_verify_is_a_part_that_runs_only_by_its_tag(installed, site):
    probe = "TASK [Log a run through the front door"
    play = installed.site("--tags verify")
    assert play.status == 0 and probe in play.output, play.output
    assert probe not in site.output


@pytest.mark.long
def test_parts_left_out(installed, site):
    play = installed.site("--skip-tags front_door,database")
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    assert "Deploy the server" in play.output and "Create the PostgreSQL" not in play.output
