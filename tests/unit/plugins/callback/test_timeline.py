# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback timeline: what it makes of recorded events, without Ansible and without Google."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import yaml
from ansible_collections.mlops.mlflow_gcp.plugins.callback import timeline as callback
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.timeline import (
    Event,
    Timeline,
    clock,
    html,
    rows,
    spans,
    svg,
    ticks,
)
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.watch import Store, Waited
from gcp_sandbox.testing import Sandbox

ROOT = Path(__file__).resolve().parents[4]
WHEN = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
SVG = "{http://www.w3.org/2000/svg}"


def event(host: str, name: str, began: float, ended: float, status: str = "ok", **more: bool) -> Event:
    """A task whose ID is its name."""
    return Event(host, name, name, began, ended, status, **more)


def one_deployment() -> Timeline:
    """A check, a Cloud SQL instance, and a loop of two buckets, begun at second 100."""
    return Timeline(
        [
            event("prod", "Check", 100.5, 101),
            event("prod", "Create the instance", 101.1, 160, "changed"),
            event("prod", "Not needed", 160.1, 160.2, "skipped"),
            event("prod", "Create the buckets", 160.3, 164.3, "changed"),
        ],
        [
            Waited(
                "prod",
                "Create the instance",
                "Cloud SQL instance db",
                101.2,
                159.9,
                [("call", 101.5, 102.5), ("pending", 103.0, 159.0), ("call", 110.0, 111.0)],
            ),
            Waited("prod", "Create the buckets", "bucket a", 160.4, 162, [("call", 161.0, 161.5)]),
            Waited("prod", "Create the buckets", "bucket b", 162.1, 164, [("call", 162.5, 163.5)]),
            Waited("other", "Create the buckets", "bucket c", 162.1, 164, [("call", 162.5, 163.5)]),
        ],
        100.0,
        164.5,
    )


def test_every_resource_has_a_bar_and_waiting_for_google_is_apart() -> None:
    bars = one_deployment().bars
    assert [(bar.label, bar.began, bar.ended) for bar in bars] == [
        ("Check", 0.5, 1),
        ("Cloud SQL instance db", pytest.approx(1.1), 60),
        ("bucket a", pytest.approx(60.3), 62),
        ("bucket b", 62, pytest.approx(64.3)),
    ]
    instance = bars[1]
    # The call at second 110 asks for the operation that is waited for.
    assert [kind for kind, _begin, _end in instance.spans] == ["call", "pending"]
    assert (instance.waited("call"), instance.waited("pending"), instance.calls) == (1, 56, 2)
    assert (
        "prod: Create the instance (Cloud SQL instance db): changed, 59 s, of which operations 56 s"
        in instance.sentence
    )


def test_the_summary_adds_up() -> None:
    assert one_deployment().summary() == [
        "The run took 1 min 4 s: 1 host, 4 tasks, 4 calls of Google",
        "Waiting for Google: 58 s (91%), operations 56 s, other calls 2.5 s",
        "Waiting for us: 6.0 s (9%), Ansible and the modules",
        "Longest on the critical path: Cloud SQL instance db 59 s; bucket b 2.3 s; bucket a 1.7 s",
    ]


def test_the_critical_path_goes_through_the_host_that_the_others_wait_for() -> None:
    # Linear: the second task begins when the slowest host has ended the first one.
    timeline = Timeline(
        [
            event("a", "one", 0, 2),
            event("b", "one", 0, 9),
            event("a", "two", 9.1, 12),
            event("b", "two", 9.1, 10),
        ],
        [],
        0,
        12,
    )
    assert [(bar.host, bar.task) for bar in timeline.critical] == [("b", "one"), ("a", "two")]


def test_with_the_strategy_free_every_host_has_a_path_of_its_own() -> None:
    timeline = Timeline(
        [
            event("a", "one", 0, 2),
            event("b", "one", 0, 9),
            event("a", "two", 2.1, 9.1),
            event("b", "two", 9.1, 10),
            event("a", "three", 9.2, 15),
        ],
        [],
        0,
        15,
    )
    assert [(bar.host, bar.task) for bar in timeline.critical] == [("a", "one"), ("a", "two"), ("a", "three")]


def test_a_run_of_many_hosts_is_drawn_at_once() -> None:
    events = [event(f"h{host}", f"t{task}", task, task + 0.9) for host in range(20) for task in range(150)]
    timeline = Timeline(events, [], 0, 150)
    assert len(timeline.critical) == 150 and len(timeline.hosts) == 20


def test_waits_of_several_threads_count_once() -> None:
    noted = [("call", 1.0, 3.0), ("call", 2.0, 4.0), ("pending", 3.5, 5.0), ("call", 8.0, 12.0), ("call", 20.0, 21.0)]
    assert list(spans(noted, 0, 10)) == [("call", 1.0, 3.5), ("pending", 3.5, 5.0), ("call", 8.0, 10)]


def test_short_tasks_share_a_row() -> None:
    bars = Timeline(
        [
            event("a", "one", 0, 0.1),
            event("a", "two", 0.2, 0.3),
            event("a", "long", 0.4, 50),
            event("a", "three", 50.1, 50.2),
            event("a", "bad", 50.3, 50.4, "failed"),
        ],
        [],
        0,
        51,
    ).bars
    assert [[bar.task for bar in row] for row in rows(bars, 0.255)] == [["one", "two"], ["long"], ["three"], ["bad"]]


@pytest.mark.parametrize("seconds", [0.04, 1, 7, 61, 700, 5000, 90000, 1e6])
def test_the_axis_has_up_to_ten_times(seconds: float) -> None:
    assert 1 <= len(list(ticks(seconds))) <= 11
    assert [clock(each) for each in (0, 0.5, 65, 3661)] == ["0:00", "0.5", "1:05", "1:01:01"]


def test_the_page_is_valid_complete_and_needs_nothing_else() -> None:
    timeline = one_deployment()
    timeline.bars[0].task = "<script>alert('&')</script>" + "x" * 60
    page = html(timeline, "site <1>", WHEN)
    assert "<script" not in page and "&lt;script&gt;" in page and "site &lt;1&gt;" in page
    assert "prefers-color-scheme: dark" in page and "2026-03-01 12:00:00 UTC" in page
    assert not re.search(r"(src|href)=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page)
    picture = ElementTree.fromstring(svg(timeline, "site"))
    titles = [title.text for title in picture.iter(f"{SVG}title")]
    assert titles == [bar.sentence for bar in timeline.bars]
    kinds = [rect.get("class") for rect in picture.iter(f"{SVG}rect")]
    assert kinds.count("pending") == 2 and kinds.count("call") == 4 and kinds.count("critical") == 5  # with the legend
    assert "…" in "".join(text.text or "" for text in picture.iter(f"{SVG}text"))


def test_what_fails_is_marked_and_what_is_hidden_has_only_the_name_of_its_task() -> None:
    timeline = Timeline(
        [event("a", "Set the password", 0, 5, "failed", hidden=True)],
        [Waited("a", "Set the password", "user hunter2", 1, 4)],
        0,
        5,
    )
    page = html(timeline, "site", WHEN)
    assert "hunter2" not in page and 'class="failed" x="22"' in page


def test_a_run_without_a_task_is_drawn_too() -> None:
    timeline = Timeline([], [], 0, 0)
    assert timeline.summary()[3] == "Longest on the critical path: nothing"
    ElementTree.fromstring(svg(timeline, "site"))


class Result:
    """What Ansible tells a callback at the end of a task."""

    def __init__(self, host: str, task: str, changed: bool = False, **result: object) -> None:
        self.host, self.task = SimpleNamespace(name=host), SimpleNamespace(_uuid=task)
        self.task_name, self.result, self.changed = f"{task} of {host}", result, changed
        # Their names before ansible-core 2.19.
        self._host, self._task, self._result = self.host, self.task, self.result

    def is_changed(self) -> bool:
        return self.changed


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """run(file name) -> the file, and what is displayed."""

    def run(name: str) -> tuple[str, str]:
        monkeypatch.setattr(Store, "enabled", False)
        monkeypatch.setattr(Store, "file", lambda: tmp_path / "waits")
        plugin = callback.CallbackModule()
        assert Store.enabled
        shown: list[str] = []
        monkeypatch.setattr(
            plugin, "_display", SimpleNamespace(banner=shown.append, display=shown.append, warning=shown.append)
        )
        monkeypatch.setattr(plugin, "get_option", lambda _option: str(tmp_path / name))
        plugin.v2_playbook_on_start(SimpleNamespace(_file_name="/some/site.yml"))
        for task in ("ok", "failed", "ignored", "unreachable", "skipped", "secret", "stopped"):
            started = SimpleNamespace(_uuid=task, get_name=lambda task=task: f"{task} of {{{{ host }}}}")
            plugin.v2_runner_on_start(SimpleNamespace(name="prod"), started)
        Store.add(Waited("prod", "ok", "bucket b", plugin._began, plugin._began + 1e3, [("call", 0, 1)]))
        with (tmp_path / "waits").open("a") as file:
            file.write('{"host": "of a task that was kil')
        plugin.v2_runner_on_ok(Result("prod", "ok", changed=True))
        plugin.v2_runner_on_failed(Result("prod", "failed"))
        plugin.v2_runner_on_failed(Result("prod", "ignored"), ignore_errors=True)
        plugin.v2_runner_on_unreachable(Result("prod", "unreachable"))
        plugin.v2_runner_on_skipped(Result("prod", "skipped"))
        plugin.v2_runner_on_ok(Result("prod", "secret", _ansible_no_log=True))
        plugin.v2_runner_on_ok(Result("prod", "never started"))
        plugin.v2_playbook_on_stats(None)
        file = tmp_path / name
        return file.read_text() if file.exists() else "", "\n".join(shown)

    return run


def test_the_events_of_a_run_become_a_page_and_five_lines(run: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    page, shown = run("timeline.html")
    lines = re.findall(r"<tr><td>prod<td>(.*?)<td>(.*?)<td>(\w+)<td>", page)
    assert {(name, status) for name, _resource, status in lines} == {
        ("ok of prod", "changed"),
        ("failed of prod", "failed"),
        ("ignored of prod", "ignored"),
        ("unreachable of prod", "unreachable"),
        ("secret of {{ host }}", "ok"),
        ("stopped of {{ host }}", "running"),
    }
    assert ("ok of prod", "bucket b", "changed") in lines
    assert "<title>site</title>" in page and len(shown.splitlines()) == 6 and shown.splitlines()[0] == "TIMELINE"
    assert shown.endswith(f"Timeline: {tmp_path / 'timeline.html'}")
    assert [path.name for path in tmp_path.iterdir() if "timeline" in path.name] == ["timeline.html"]


def test_a_picture_alone(run: Callable[..., tuple[str, str]]) -> None:
    ElementTree.fromstring(run("timeline.svg")[0])


def test_a_file_that_cannot_be_written_is_a_warning(run: Callable[..., tuple[str, str]]) -> None:
    page, shown = run("missing/timeline.html")
    assert page == "" and "Cannot write the timeline to" in shown and "No such file or directory" in shown


def test_a_play_with_two_hosts_is_drawn_as_it_was(gcp_sandbox: Sandbox, tmp_path: Path) -> None:
    """Free strategy, forks, check mode, a loop, an included file, no_log, a failure."""
    bucket = {"mlops.mlflow_gcp.storage_bucket": {"name": "drawn-{{ item }}", "location": "EU"}, "loop": ["a", "b"]}
    secret = {"name": "of-{{ inventory_hostname }}", "value": "{{ hunter }}"}
    included = [{"name": "Hidden", "mlops.mlflow_gcp.secret_manager_secret": secret, "no_log": True}]
    tasks = [
        {"name": "Buckets <&>", **bucket},
        {"name": "Included", "ansible.builtin.include_tasks": str(tmp_path / "more.yml")},
        {"name": "Not b", "ansible.builtin.fail": {"msg": "{{ hunter }}"}, "when": "inventory_hostname == 'b'"},
        {"name": "Last", "ansible.builtin.debug": {"msg": "end"}},
    ]
    head = {"hosts": "all", "connection": "local", "gather_facts": False, "strategy": "free"}
    (tmp_path / "more.yml").write_text(yaml.safe_dump(included))
    (tmp_path / "drawn.yml").write_text(yaml.safe_dump([{**head, "vars": {"hunter": "hunter2"}, "tasks": tasks}]))
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "GCP_"))}
    settings = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CALLBACKS_ENABLED": "mlops.mlflow_gcp.timeline",
        "MLFLOW_GCP_TIMELINE_FILE": str(tmp_path / "timeline.html"),
    }
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "a,b,", "--check", "drawn.yml"],
        cwd=tmp_path,
        env={**plain, **gcp_sandbox.exports, **settings},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "The run took " in done.stdout, done.stdout + done.stderr
    page = (tmp_path / "timeline.html").read_text()
    found = re.findall(r'<tr><td>(.)<td>(.*?)<td>(.*?)<td>(\w+)<td>.*<td class="n">(\d+)$', page, re.M)
    for host in "ab":
        ours = [row[1:] for row in found if row[0] == host]
        buckets = [("Buckets &lt;&amp;&gt;", f"bucket drawn-{item}", "changed") for item in "ab"]
        assert [row[:3] for row in ours[:2]] == buckets and all(int(row[3]) >= 1 for row in ours[:2])
        assert ("Hidden", "", "changed") in [row[:3] for row in ours]
    assert [row[0] for row in found if row[1] == "Last"] == ["a"]
    assert [row[0] for row in found if row[3] == "failed"] == ["b"]
    assert "hunter2" not in page and gcp_sandbox.command("token").strip() not in page
