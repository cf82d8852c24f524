"""The deployment of inventories/sandbox, and the package mlflow-iap as installed by users."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import IMAGE_PYTHON, PROJECT, ROOT, Cloud, Play, once

__all__ = ["IMAGE_PYTHON", "LOGGER", "PROJECT", "ROOT", "URL", "Cloud", "Play"]

URL = "https://mlflow.example.com"
LOGGER = f"mlflow-logger@{PROJECT}.iam.gserviceaccount.com"


def kills(folder: Path) -> Path:
    """Where killed/sitecustomize.py keeps the writes that runs with a folder have sent."""
    return folder / "kills"


def killing(folder: Path, limit: int) -> dict[str, str]:
    """The environment of a run that is killed (SIGKILL) when this many new writes have been answered; 0 for never."""
    return {
        "PYTHONPATH": str(Path(__file__).parent / "killed"),
        "KILLS": str(kills(folder)),
        "KILLED_LIMIT": str(limit),
        "SEEN_TOKENS": str(folder / "tokens"),
    }


def install(folder: Path) -> None:
    """Build the wheel and install it into folder/lib."""
    pip = [IMAGE_PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = folder / "source"
    # A copy, because building leaves files next to the source.
    shutil.copytree(ROOT / "client", source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, source], check=True)
    (wheel,) = folder.glob("mlflow_iap-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "lib", wheel], check=True)


@pytest.fixture(scope="session")
def package(pytestconfig: pytest.Config) -> Path:
    """The folder into which the wheel was installed."""
    folder, _ = once(pytestconfig, "package", install)
    return folder / "lib"


@pytest.fixture
def client(cloud, deployed, package, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``client("-c", program, NAME="value")``: run Python with the package, signed in as the logger with the deployer's key."""
    base = {
        name: value for name, value in cloud.env.items() if not name.startswith(("MLFLOW_", "GOOGLE_", "CLOUDSDK_"))
    }
    base |= {
        "PYTHONPATH": str(package),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "MLFLOW_TRACKING_URI": URL,
        "MLFLOW_TRACKING_AUTH": "iap",
        "MLFLOW_IAP_SERVICE_ACCOUNT": LOGGER,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GOOGLE_APPLICATION_CREDENTIALS": cloud.env["GCP_SERVICE_ACCOUNT_FILE"],
    }

    def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [IMAGE_PYTHON, *words], env=base | env, cwd=tmp_path, capture_output=True, text=True, timeout=180
        )

    run.env, run.python = base, IMAGE_PYTHON
    return run
