#!/usr/bin/env python3
"""Run `ansible-test sanity` on the files of the published collection: sanity.py [ARGUMENTS of ansible-test sanity ...].

ansible-test requires the collection in ansible_collections/ next to google.cloud, and downloads a script that installs pip,
which no package index has; this program replaces the script with ensurepip.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".venv" / "sanity"  # caches the packages that ansible-test installs
SHIPPED = (
    "changelogs",
    "docs",
    "galaxy.yml",
    "meta",
    "playbooks",
    "plugins",
    "README.md",
    "requirements.txt",
    "requirements.yml",
    "roles",
    "tests/config.yml",
)
GET_PIP = """
import subprocess, sys
subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True)
packages = [word for word in sys.argv[1:] if not word.startswith("-")]
if packages:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)
"""


def main() -> int:
    """Copy the collection and test the copy."""
    import ansible_collections.google.cloud

    # Outside the checkout, where git would treat the copy as ignored.
    with tempfile.TemporaryDirectory(prefix="sanity-") as folder:
        return check(Path(folder) / "ansible_collections", Path(next(iter(ansible_collections.google.cloud.__path__))))


def check(collections: Path, google_cloud: Path) -> int:
    """Test a copy of the collection next to google.cloud; returns the exit status of ansible-test."""
    copy = collections / "mlops" / "mlflow_gcp"
    listed = subprocess.run(["git", "ls-files", "-z", *SHIPPED], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    (collections / "google").mkdir()
    (collections / "google" / "cloud").symlink_to(google_cloud)
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in ("23_1_2", "24_2", "25_2"):
        (cache / f"get_pip_{version}.py").write_text(GET_PIP)
    for settings in (".config/pip/pip.conf", ".pip/pip.conf"):  # for example the address of a package index
        if (Path.home() / settings).is_file():
            (HOME / settings).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path.home() / settings, HOME / settings)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = ["ansible-test", "sanity", "--venv", "--python", python, "--color", "no", *sys.argv[1:]]
    return subprocess.run(command, cwd=copy, env=os.environ | {"HOME": str(HOME)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
