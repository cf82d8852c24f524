#!/usr/bin/env python3
"""Check the archive of the collection with galaxy-importer, and build its documentation site; any warning is a failure.

The tools are installed into .venv-galaxy, with google.cloud out of the PyPI package `ansible`, which has doc fragments.
"""

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from versions import VERSIONS, build, extract

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".venv-galaxy"
BIN = HOME / "bin"
PACKAGES = ("galaxy-importer==0.4.44", "antsibull-docs==2.28.0", "sphinx-ansible-theme==0.10.3", "google-auth==2.62.2")
# As Red Hat's certification sets it: one of certain tags is required, and ansible-lint runs by itself (`make lint`).
SETTINGS = "[galaxy-importer]\nCHECK_REQUIRED_TAGS = True\nRUN_ANSIBLE_DOC = True\nRUN_ANSIBLE_LINT = False\n"


def main() -> int:
    """Install the tools, unless they are there, and run them."""
    install()
    failed = []
    with tempfile.TemporaryDirectory(prefix="galaxy-") as name:
        folder = Path(name)
        archive = build(folder)
        for step in (importer, docs):
            problems = step(folder, archive)
            print(f"==> {step.__doc__}: {'FAILED' if problems else 'passed'}", *problems, sep="\n    ")
            failed += problems
    return bool(failed)


def install() -> None:
    """Make the virtual environment."""
    stamp, wanted = HOME / ".stamp", " ".join(PACKAGES)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"==> installing into {HOME.relative_to(ROOT)}", flush=True)
    venv.create(HOME, with_pip=True, clear=True)
    subprocess.run([BIN / "python", "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    extract(VERSIONS[-1].package, BIN / "python")
    stamp.write_text(wanted)


def run(folder: Path, *command: Path | str, **env: str) -> tuple[int, str]:
    """The exit status and the output of a program of the virtual environment."""
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_HOME": str(folder / "home")} | env
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def problems_in(status: int, output: str) -> list[str]:
    """The lines of a checker that warn; all of them if it fails without one."""
    found = [line for line in output.splitlines() if re.search(r"\b(?:WARNING|ERROR|CRITICAL)\b", line)]
    return found or (output.splitlines() if status else [])


def importer(folder: Path, archive: Path) -> list[str]:
    """galaxy-importer"""
    settings = folder / "galaxy-importer.cfg"
    settings.write_text(SETTINGS)
    command = (BIN / "python", "-m", "galaxy_importer.main", archive)
    return problems_in(*run(folder, *command, GALAXY_IMPORTER_CONFIG=str(settings)))


def docs(folder: Path, archive: Path) -> list[str]:
    """antsibull-docs, and the documentation site"""
    installed = folder / "collections"
    # The only path: on that of the checkout, this version is installed already.
    collections = {"ANSIBLE_COLLECTIONS_PATH": str(installed)}
    galaxy = (BIN / "ansible-galaxy", "collection", "install", "--no-deps", "--collections-path", installed, archive)
    status, output = run(folder, *galaxy, **collections)
    if status:
        return problems_in(status, output)
    # For the doc fragments of google.cloud.
    (packages,) = HOME.glob("lib/python*/site-packages/ansible_collections/google")
    (installed / "ansible_collections" / "google").symlink_to(packages)
    content = installed / "ansible_collections" / "mlops" / "mlflow_gcp"
    lint = ("lint-collection-docs", content)
    problems = problems_in(*run(folder, BIN / "antsibull-docs", *lint, **collections))
    pages, site = folder / "pages", folder / "site"
    pages.mkdir()
    make = ("collection", "--use-current", "--fail-on-error", "--dest-dir", pages, "mlops.mlflow_gcp")
    problems += problems_in(*run(folder, BIN / "antsibull-docs", *make, **collections))
    (pages / "index.rst").write_text(
        "MLflow on Google Cloud\n======================\n\n.. toctree::\n   :glob:\n\n   collections/mlops/mlflow_gcp/*\n"
    )
    # Labels of ansible-core's own pages, which are not built here.
    elsewhere = ("-D", "suppress_warnings=ref.ref,ref.envvar")
    options = (*elsewhere, "-W", "--keep-going", "-q", "-C", "-D", "extensions=sphinx_antsibull_ext")
    return problems + problems_in(*run(folder, BIN / "sphinx-build", *options, pages, site))


if __name__ == "__main__":
    sys.exit(main())
