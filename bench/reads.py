"""The reads of a recorded run, made concurrently by this one process: reads.py CALLS (a file of gcp-sandbox up --calls)."""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google.auth.transport.requests
import requests
from google.oauth2 import service_account

CONNECTIONS = 16
# Methods that read, although they are POSTs.
READING = (":getIamPolicy", ":testIamPermissions")


def reads(file: Path) -> list[tuple[str, str]]:
    """Method and URL of every read in a record."""
    calls = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        (call["method"], call["url"])
        for call in calls
        if call["method"] == "GET" or call["url"].partition("?")[0].endswith(READING)
    ]


def main() -> None:
    key = os.environ["GCP_SERVICE_ACCOUNT_FILE"]
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    credentials = service_account.Credentials.from_service_account_file(key, scopes=scopes)
    credentials.refresh(google.auth.transport.requests.Request())
    own = threading.local()

    def read(call: tuple[str, str]) -> None:
        if not hasattr(own, "session"):
            own.session = requests.Session()
            own.session.headers["Authorization"] = f"Bearer {credentials.token}"
        method, url = call
        # What is missing is a read as well.
        own.session.request(method, url, json={} if method == "POST" else None, timeout=60)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(read, reads(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
