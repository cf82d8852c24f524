"""kill -9 during a stream of writes: all acknowledged writes exist afterwards."""

from __future__ import annotations

import base64
import copy
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import requests

PROJECT = "sandbox-project"
SECRETS = f"https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"
COMPUTE = f"https://compute.googleapis.com/compute/v1/projects/{PROJECT}/global"
BUCKETS = "https://storage.googleapis.com/storage/v1/b"
UPLOAD = "https://storage.googleapis.com/upload/storage/v1/b/stream/o?uploadType=media&name="
ACCOUNTS = f"https://iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts"
Write = Callable[[requests.Session, int], requests.Response]
Check = Callable[[requests.Session, int], bool]


def _secret(session: requests.Session, number: int) -> requests.Response:
    if number == 0:
        session.post(f"{SECRETS}?secretId=stream", json={"replication": {"automatic": {}}}, timeout=9)
    data = base64.b64encode(str(number).encode()).decode()
    return session.post(f"{SECRETS}/stream:addVersion", json={"payload": {"data": data}}, timeout=9)


def _secret_is_there(session: requests.Session, number: int) -> bool:
    answer = session.get(f"{SECRETS}/stream/versions/{number + 1}:access", timeout=9).json()
    return base64.b64decode(answer["payload"]["data"]).decode() == str(number)


def _object(session: requests.Session, number: int) -> requests.Response:
    if number == 0:
        session.post(f"{BUCKETS}?project={PROJECT}", json={"name": "stream"}, timeout=9)
    return session.post(f"{UPLOAD}o{number}", data=str(number) * 5000, timeout=9)


def _object_is_there(session: requests.Session, number: int) -> bool:
    return session.get(f"{BUCKETS}/stream/o/o{number}?alt=media", timeout=9).text == str(number) * 5000


def _address(session: requests.Session, number: int) -> requests.Response:
    return session.post(f"{COMPUTE}/addresses", json={"name": f"a{number}"}, timeout=9)


def _address_is_there(session: requests.Session, number: int) -> bool:
    """Its operation had started, and finishes."""
    for _ in range(100):
        if session.get(f"{COMPUTE}/addresses/a{number}", timeout=9).status_code == 200:
            return True
        time.sleep(0.02)
    return False


def _account(session: requests.Session, number: int) -> requests.Response:
    return session.post(ACCOUNTS, json={"accountId": f"account-{number}"}, timeout=9)


def _account_is_there(session: requests.Session, number: int) -> bool:
    return session.get(f"{ACCOUNTS}/account-{number}@{PROJECT}.iam.gserviceaccount.com", timeout=9).status_code == 200


STREAMS: list[tuple[Write, Check]] = [
    (_secret, _secret_is_there),
    (_object, _object_is_there),
    (_address, _address_is_there),
    (_account, _account_is_there),
]


@pytest.mark.parametrize("seed", [1, 2])
def test_acknowledged_writes_exist_after_kill(own: Any, seed: int) -> None:
    own.command("up", "--detach")
    session = own.session()
    usage = f"https://serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable"
    names = [f"{name}.googleapis.com" for name in ("secretmanager", "compute", "iam")]
    session.post(usage, json={"serviceIds": names}, timeout=30)
    while session.get(f"{COMPUTE}/networks", timeout=9).status_code != 200:
        time.sleep(0.05)
    answered = [0] * len(STREAMS)

    def write(stream: int, client: requests.Session) -> None:
        try:
            while True:
                answer = STREAMS[stream][0](client, answered[stream])
                assert answer.status_code == 200, answer.text
                answered[stream] += 1
        except requests.RequestException:
            return

    # One client each: a session is not thread-safe.
    writers = [threading.Thread(target=write, args=(i, copy.copy(session))) for i in range(len(STREAMS))]
    for writer in writers:
        writer.start()
    while min(answered) < 3:
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, 0.5))
    pid = json.loads((own.state / "run.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    for writer in writers:
        writer.join()
    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == pid], timeout=10)
    own.command("up", "--detach")
    for stream, count in enumerate(answered):
        assert count >= 3
        for number in range(count):
            assert STREAMS[stream][1](session, number), (STREAMS[stream][0].__name__, number, count)
