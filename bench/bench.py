"""Measure everything that has a target, in a fresh clone of the last commit (needs the package index)."""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import requests
from critical import operations, path
from reads import reads

ROOT = Path(__file__).parents[1]
GETS = 300
DELAY = 0.15
"""Seconds of every call, as over a network."""
MANY = 20
"""Deployments in one run."""
VARIABLES = {
    "mlflow_project_id": "mlflow-demo",
    "mlflow_region": "europe-west2",
    "mlflow_webapp_users": ["user:jane@example.com"],
}
MITOGEN = "0.3.54"
SCALE = 0.25
"""Of Google's durations, for a shorter first run, in which what the run costs itself weighs four times as much."""


class Clone:
    """A fresh clone in its own folder, used only through make and the sandbox's command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The variables that make exports are for this checkout; the clone's make sets its own.
        drop = ("GCP_", "ANSIBLE_", "MAKE", "MFLAGS", "VIRTUAL_ENV")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
        self.env["PIP_NO_CACHE_DIR"] = "1"
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)

    def run(self, *command: str, check: bool = True, **env: str) -> tuple[str, float]:
        """The output of a command, and the seconds it took; exits if it fails, unless CHECK is false."""
        start = time.monotonic()
        done = subprocess.run(
            command, cwd=self.folder, env=self.env | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode and check:
            sys.exit(f"{done.stdout}\n{shlex.join(command)} failed with status {done.returncode}")
        return done.stdout, time.monotonic() - start

    @property
    def state(self) -> str:
        return str(self.folder / ".gcp-sandbox")

    def environment(self) -> dict[str, str]:
        """The environment of the running sandbox's clients."""
        lines = self.run(".venv/bin/gcp-sandbox", "env", "--state", self.state)[0].splitlines()
        return dict(shlex.split(line)[1].split("=", 1) for line in lines)

    def memory(self) -> float:
        """Resident MiB of the sandbox's processes, without PostgreSQL and the containers."""
        status = self.run(".venv/bin/gcp-sandbox", "status", "--json", "--state", self.state)[0]
        process = psutil.Process(int(re.search(r'"pid": (\d+)', status)[1]))
        own = [process]
        for child in process.children(recursive=True):
            if child.name() != "postgres" and "mlflow_gcp_server" not in " ".join(child.cmdline()):
                own.append(child)
        return sum(one.memory_info().rss for one in own) / 2**20

    def latency(self) -> float:
        """Median milliseconds of a GET, one client on one connection."""
        env = self.environment()
        session = requests.Session()
        session.trust_env = False
        session.proxies = {"https": env["HTTPS_PROXY"]}
        session.verify = env["REQUESTS_CA_BUNDLE"]
        token = self.run(".venv/bin/gcp-sandbox", "token", "--state", self.state)[0].strip()
        session.headers["Authorization"] = f"Bearer {token}"
        url = f"https://compute.googleapis.com/compute/v1/projects/{env['GCP_PROJECT']}/global/networks"
        times = []
        for _ in range(GETS):
            start = time.perf_counter()
            session.get(url, timeout=10).raise_for_status()
            times.append(time.perf_counter() - start)
        return statistics.median(times) * 1000

    def second_run(self) -> float:
        """Seconds of a run of site.yml that has nothing to change."""
        output, seconds = self.site()
        if not re.search(r"changed=0 ", output):
            sys.exit(f"{output}\nthe second run changed something")
        return seconds

    def site(
        self, *words: str, inventory: str = "inventories/sandbox", check: bool = True, **env: str
    ) -> tuple[str, float]:
        """The output of a run of site.yml, and the seconds it took."""
        config = {"ANSIBLE_CONFIG": str(self.folder / "ansible.cfg")}
        command = (".venv/bin/ansible-playbook", "-i", inventory, "playbooks/site.yml", *words)
        return self.run(*command, check=check, **self.environment(), **config, **env)

    def processor(self) -> float:
        """Seconds of processor time that a run of site.yml takes that has nothing to change, without the sandbox."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.second_run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def users(self) -> float:
        """Seconds that it takes to let one more user in."""
        users = json.dumps({"mlflow_webapp_users": ["user:ada@example.com", "user:grace@example.com"]})
        seconds = self.site("--tags", "users", "-e", users)[1]
        # Back to those of the inventory, so that the next run changes nothing.
        self.site("--tags", "users")
        return seconds

    def mitogen(self) -> float:
        """Seconds of the second run with Mitogen's strategy instead of this collection's in_process; 0 if it fails."""
        folder = str(self.folder / ".mitogen")
        self.run(".venv/bin/pip", "install", "--quiet", "--target", folder, f"mitogen=={MITOGEN}")
        strategy = {"ANSIBLE_STRATEGY": "mitogen_linear", "PYTHONPATH": folder}
        strategy["ANSIBLE_STRATEGY_PLUGINS"] = f"{folder}/ansible_mitogen/plugins/strategy"
        output, seconds = self.site(check=False, **strategy)
        return seconds if re.search(r"changed=0 .*failed=0 ", output) else 0

    def fleet(self) -> float:
        """How often the time of one first run is that of MANY deployments in one run, with scaled durations of Google's."""
        times = []
        for count in (1, MANY):
            self.run("make", "demo-down")
            self.run("rm", "-rf", self.state)
            options = ("--project", "mlflow-demo", "--image-python", ".venv-image/bin/python")
            self.up(*options, "--latency", f"realistic:{SCALE}")
            inventory = self.folder / "fleet.yml"
            names = [f"team{number}" for number in range(count)]
            hosts = {name: {"mlflow_name": name, "mlflow_domain": f"{name}.example.com"} for name in names}
            inventory.write_text(json.dumps({"mlflow": {"hosts": hosts, "vars": VARIABLES}}))
            times.append(self.site("--forks", str(count), inventory=str(inventory))[1])
        print(f"  one deployment {times[0]:.1f} s, {MANY} in one run {times[1]:.1f} s")
        return times[1] / times[0]

    def up(self, *options: str) -> None:
        """Start the sandbox with other options, with the state that it has."""
        self.run("make", "demo-down")
        self.run(".venv/bin/gcp-sandbox", "up", "--detach", "--state", self.state, *options)

    def delayed_run(self) -> float:
        """How often the second run's time is that of its reads, made concurrently by one process; every call takes DELAY."""
        record = Path(self.state) / "calls.jsonl"
        self.up("--latency", f"call:{DELAY}", "--calls", str(record))
        seconds = self.second_run()
        calls, found = len(record.read_text(encoding="utf-8").splitlines()), len(reads(record))
        alone = self.run(".venv/bin/python", "bench/reads.py", str(record), **self.environment())[1]
        print(
            f"  second run {seconds:.1f} s with {calls} calls of {DELAY * 1000:g} ms; its {found} reads at once {alone:.1f} s"
        )
        self.up("--latency", "none", "--calls", os.devnull)
        return seconds / alone

    def first_run(self, scale: float) -> float:
        """How often a first run's time is that of the critical path of its operations, with durations of Google's x SCALE."""
        self.run("make", "demo-down")
        self.run("rm", "-rf", self.state)
        options = ("--project", "mlflow-demo", "--image-python", ".venv-image/bin/python")
        self.up(*options, "--latency", f"realistic:{scale}")
        seconds = self.site()[1]
        chain = path(operations(Path(self.state)))
        names = ", ".join(f"{each.name.partition(' ')[0]} {each.ended - each.began:.1f}" for each in chain)
        print(f"  first run {seconds:.1f} s; operations {chain[-1].finish:.1f} s: {names}")
        return seconds / chain[-1].finish


def main() -> int:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"commit {commit.strip()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    missed = 0

    def row(what: str, figure: Callable[[], float], target: float, unit: str) -> None:
        nonlocal missed
        value = figure()
        missed += value > target
        print(f"{what:55} {value:7.1f} {unit:4} target {target:g}{'' if value <= target else '  MISSED'}", flush=True)

    with tempfile.TemporaryDirectory(prefix="mlflow-bench-") as folder:
        clone = Clone(Path(folder) / "clone")
        try:
            row("make demo in a fresh clone, no package cached", lambda: clone.run("make", "demo")[1], 360, "s")
            row("resident memory without PostgreSQL and containers", clone.memory, 200, "MiB")
            row(f"median of {GETS} GETs", clone.latency, 5, "ms")
            row("site.yml with nothing to change", clone.second_run, 5, "s")
            row("its processor time", clone.processor, 5, "s")
            print(
                f"  the same with the strategy of Mitogen {MITOGEN}: {clone.mitogen():.1f} s (0: it fails)", flush=True
            )
            row("site.yml --tags users with one more user", clone.users, 5, "s")
            row(f"the same with {DELAY * 1000:g} ms a call, against its reads alone", clone.delayed_run, 1.5, "x")
            for scale in (SCALE, 1):
                what = f"first site.yml, durations x {scale:g}, against its operations"
                row(what, functools.partial(clone.first_run, scale), 1.05, "x")
            row(f"{MANY} deployments in one run, against one", clone.fleet, 3, "x")
            clone.run("make", "demo-down")
            clone.run("rm", "-rf", clone.state)
            row("make demo with everything installed", lambda: clone.run("make", "demo")[1], 100, "s")
        finally:
            subprocess.run(["make", "demo-down"], cwd=clone.folder, env=clone.env, stdout=subprocess.DEVNULL)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
