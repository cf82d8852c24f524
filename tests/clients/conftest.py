"""Unmodified third-party clients, directed to the sandbox only by their environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import PROJECT, ROOT, Cloud

__all__ = ["BACKEND", "BUCKET", "INSTANCE", "PROJECT", "REGION", "ROOT", "SECRET", "SERVICE", "URL", "Cloud"]

URL = "https://mlflow.example.com"
REGION = "europe-west2"
BUCKET = f"{PROJECT}-mlflow-artifacts"
BACKEND = "mlflow-lb-backend"
INSTANCE = SERVICE = "mlflow"
SECRET = "mlflow-db-password"


@pytest.fixture
def environment(cloud, deployed) -> Iterator[Cloud]:
    """For a client that runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.env.items():
            patch.setenv(name, value)
        yield cloud
