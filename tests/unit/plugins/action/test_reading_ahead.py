# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tasks of one run read one after another, mlflow_preflight reads at once in the next run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible import constants as C
from ansible_collections.mlops.mlflow_gcp.plugins.action import in_process
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import hints, warm
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.shared import SharedReads

NETWORK, RULE, POLICY = (
    f"https://compute.googleapis.com/{name}" for name in ("network", "rule", "network:getIamPolicy")
)
LIVE = {"name": "mlflow"}


class Run:
    """One run of a playbook: a new memory, and the file in Ansible's home that the runs before have left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tags: tuple[str, ...] = ("all",)) -> None:
        self.store, self.tags = SharedReads(), tags
        monkeypatch.setattr(warm, "READS", self.store)
        monkeypatch.setattr(Client, "reads", self.store)

    def task(
        self, name: str, main: Callable[[Client], Any], *tags: str, host: str = "demo", play: str = "Deploy"
    ) -> list[Any]:
        """What MAIN of a module returns, for each time that it was called to the end."""
        returned: list[Any] = []
        hint = hints.Task(host, play, name, tags, self.tags)
        in_process._run(lambda: returned.append(main(Client(requests.Session()))), hint)
        return returned

    def preflight(self) -> None:
        """As mlflow_preflight reads ahead."""
        with ThreadPoolExecutor(1) as pool:
            self.task("preflight", lambda client: client.read_ahead(pool), "always")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Run]:
    monkeypatch.setattr(C, "ANSIBLE_HOME", str(tmp_path))
    return lambda *tags: Run(monkeypatch, tags or ("all",))


@pytest.fixture
def before(google, run: Callable[..., Run]) -> None:
    """An earlier run, which has read two resources and an IAM policy."""
    earlier = run()
    google.expect("GET", NETWORK, LIVE).expect("POST", POLICY, {}).expect(
        "GET", RULE, google.error(404, "NOT_FOUND", "No.")
    )
    earlier.preflight()
    earlier.task("network", lambda client: (client.find(NETWORK), client.post(POLICY, {})), "network")
    earlier.task("rule", lambda client: client.find(RULE), "front_door")


def ahead(google) -> None:
    google.expect("GET", NETWORK, LIVE).expect("POST", POLICY, {}).expect(
        "GET", RULE, google.error(404, "NOT_FOUND", "No.")
    )


@pytest.mark.usefixtures("before")
def test_no_task_sends_a_request_for_what_was_read_ahead(google, run):
    again = run()
    ahead(google)
    again.preflight()
    assert again.task("network", lambda client: (client.find(NETWORK), client.post(POLICY, {}))) == [(LIVE, {})]
    assert again.task("rule", lambda client: client.find(RULE)) == [None]


@pytest.mark.usefixtures("before")
def test_who_reads_a_second_time_waits_for_a_change(google, run):
    again = run()
    ahead(google)
    again.preflight()
    google.expect("GET", NETWORK, {"name": "changed"})
    assert again.task("network", lambda client: (client.get(NETWORK), client.get(NETWORK))) == [
        (LIVE, {"name": "changed"})
    ]


@pytest.mark.usefixtures("before")
def test_who_writes_begins_again_and_so_do_all_that_follow(google, run):
    again = run()
    ahead(google)
    again.preflight()

    def change(client: Client) -> Any:
        found = client.get(NETWORK)
        client.request("PATCH", NETWORK, {"old": found["name"]})
        return found

    google.expect("GET", NETWORK, {"name": "new"}).expect("PATCH", NETWORK, {})
    assert again.task("network", change) == [{"name": "new"}]
    google.expect("GET", RULE, {"name": "rule"})
    assert again.task("rule", lambda client: client.find(RULE)) == [{"name": "rule"}]


@pytest.mark.usefixtures("before")
def test_after_a_write_of_a_task_that_reads_nothing_all_read_anew(google, run):
    again = run()
    ahead(google)
    again.preflight()
    google.expect("POST", RULE, {})
    again.task("rule", lambda client: client.post(RULE, {}))
    google.expect("GET", NETWORK, {"name": "new"})
    assert again.task("network", lambda client: client.find(NETWORK)) == [{"name": "new"}]


@pytest.mark.usefixtures("before")
def test_a_run_of_some_parts_reads_ahead_only_what_they_need(google, run):
    limited = run("front_door")
    google.expect("GET", RULE, {"name": "rule"})
    limited.preflight()
    assert limited.task("rule", lambda client: client.find(RULE)) == [{"name": "rule"}]


@pytest.mark.usefixtures("before")
def test_what_could_not_be_read_is_read_by_the_task(google, run):
    again = run()
    refused = google.error(403, "PERMISSION_DENIED", "No.")
    google.expect("GET", NETWORK, refused).expect("POST", POLICY, {}).expect("GET", RULE, refused)
    again.preflight()
    google.expect("GET", NETWORK, LIVE)
    assert again.task("network", lambda client: client.find(NETWORK)) == [LIVE]


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("other", [{"host": "prod"}, {"play": "Verify"}])
def test_another_host_or_play_reads_for_itself(google, run, other):
    again = run()
    ahead(google)
    again.preflight()
    google.expect("GET", NETWORK, {"name": "seen by others"})
    assert again.task("network", lambda client: client.find(NETWORK), **other) == [{"name": "seen by others"}]


@pytest.mark.usefixtures("before")
def test_what_was_read_too_long_ago_is_read_anew(google, run, monkeypatch):
    monkeypatch.setattr(SharedReads, "MAX_AGE", -1)
    again = run()
    ahead(google)
    again.preflight()
    google.expect("GET", NETWORK, {"name": "new"})
    assert again.task("network", lambda client: client.find(NETWORK)) == [{"name": "new"}]


@pytest.mark.usefixtures("before")
def test_a_broken_file_costs_only_time(google, run, tmp_path):
    (file,) = (tmp_path / hints.FOLDER).iterdir()
    assert file.stat().st_mode & 0o077 == 0
    file.write_text("{")
    again = run()
    again.preflight()
    google.expect("GET", NETWORK, LIVE)
    assert again.task("network", lambda client: client.find(NETWORK)) == [LIVE]


def test_a_home_that_cannot_be_written_costs_only_time(google, run, monkeypatch):
    monkeypatch.setattr(C, "ANSIBLE_HOME", "/dev/null")
    google.expect("GET", NETWORK, LIVE)
    assert run().task("network", lambda client: client.find(NETWORK)) == [LIVE]


def test_a_task_that_wrote_and_the_operations_it_waited_for_are_not_remembered(google, run):
    first = run()
    operation = f"{NETWORK}/operations/one"
    google.expect("POST", NETWORK, {}).expect("GET", NETWORK, LIVE).expect("GET", operation, {})
    first.task("network", lambda client: (client.post(NETWORK, {}), client.get(NETWORK)))
    first.task("rule", lambda client: client.get(operation))
    run().preflight()
