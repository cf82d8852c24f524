# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules wait for: told by the engine, shown while it lasts, kept only for the timeline."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import requests
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import waits
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.operations import wait
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.watch import Store, Waited, Watch, duration, line

URL = "https://sqladmin.googleapis.com/v1/projects/demo/operations/1"
RUNNING = {"kind": "sql#operation", "name": "1", "status": "RUNNING", "selfLink": URL}


class Shown(list[str]):
    """Lines, and an event for the first of them."""

    def __init__(self) -> None:
        self.first = threading.Event()

    def __call__(self, text: str) -> None:
        self.append(text)
        self.first.set()


def test_a_long_wait_is_shown_with_what_it_usually_takes() -> None:
    shown = Shown()
    with Watch(None, first=0.01, every=60) as watch, waits.noted(waits.PENDING, "update Cloud Run service x"):
        watch._show = shown
        with waits.noted(waits.PENDING, "create Cloud SQL instance db"):
            assert shown.first.wait(30)
    # The innermost wait, once in the time between two lines.
    (text,) = shown
    assert text.endswith(
        "still waiting: create Cloud SQL instance db (usually 10 to 20 minutes, up to 25 for a tier below one core)"
    )
    assert [kind for kind, _begin, _end in watch.waits] == ["pending", "pending"]
    assert waits.Ear.listener is None and not watch._thread.is_alive()


def test_what_is_short_or_only_a_call_is_not_shown() -> None:
    shown = Shown()
    with Watch(shown) as watch, waits.noted(waits.CALL, "read bucket x"):
        assert watch._thread is None
    with Watch(shown), waits.noted(waits.PENDING, "create bucket x"):
        pass
    with Watch(None) as watch, waits.noted(waits.PENDING, "create bucket x"):
        assert watch._thread is None
    assert shown == []


def test_nobody_listens_to_a_module_that_runs_as_a_program() -> None:
    with waits.noted(waits.PENDING, "create bucket x"):
        assert waits.Ear.listener is None


def test_nobody_knows_how_long_other_things_take() -> None:
    assert line("create bucket x", 75) == "after 1 min 15 s, still waiting: create bucket x"
    assert [duration(seconds) for seconds in (0.04, 9.96, 61, 3700)] == ["0.0 s", "10 s", "1 min 1 s", "1 h 1 min"]


def test_the_engine_tells_its_calls_and_its_waits(google) -> None:
    google.expect("GET", URL, RUNNING)
    google.expect("GET", URL, google.error(503, "UNAVAILABLE", "try again"))
    google.expect("GET", URL, RUNNING | {"status": "DONE"})
    with Watch(None) as watch:
        wait(Client(requests.Session()), RUNNING, URL, timeout=60, action="create Cloud SQL instance db")
    kinds = [kind for kind, _begin, _end in watch.waits]
    # The pause after the refusal ends before the operation does.
    assert kinds == ["call", "call", "pending", "call", "pending"]
    assert all(begin <= end for _kind, begin, end in watch.waits)


def test_waits_are_only_kept_for_the_timeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Store, "file", lambda: tmp_path / "waits")
    new = Waited("prod", "id", "bucket x", 1.0, 2.0, [])
    Store.add(new)
    assert Store.all() == [] and not (tmp_path / "waits").exists()
    monkeypatch.setattr(Store, "enabled", True)
    Store.add(new)
    assert Store.all() == [new]
