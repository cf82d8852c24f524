"""What inventories/sandbox deploys."""

from tests.conftest import IMAGE_PYTHON, PROJECT, ROOT, Cloud, Play

__all__ = ["IMAGE_PYTHON", "LOGGER", "PROJECT", "ROOT", "URL", "Cloud", "Play"]

URL = "https://mlflow.example.com"
LOGGER = f"mlflow-logger@{PROJECT}.iam.gserviceaccount.com"
