# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action certificate_wait, with what the module of that name finds at each look."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.action import certificate_wait
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.watch import Store

Doc = dict[str, Any]
ACTIVE: Doc = {"active": True, "lasting": False, "problems": [], "states": {"a.test": "ACTIVE"}}


def waiting(problem: str, lasting: bool = False) -> Doc:
    return {"active": False, "lasting": lasting, "problems": [problem], "states": {"a.test": "PROVISIONING"}}


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Doc, list[str]]]:
    """wait([what each look finds; the last one for ever], timeout=…) -> the result, and the lines that were shown."""

    def wait(looks: list[Doc], timeout: int = 3600) -> tuple[Doc, list[str]]:
        shown: list[str] = []
        clock = SimpleNamespace(now=0.0)

        def sleep(seconds: float) -> None:
            clock.now += seconds

        monkeypatch.setattr(certificate_wait, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock.now))
        monkeypatch.setattr(certificate_wait, "display", SimpleNamespace(display=shown.append))
        monkeypatch.setattr(certificate_wait.ActionBase, "run", lambda *_args, **_kwargs: {})
        action = object.__new__(certificate_wait.ActionModule)
        action._connection = SimpleNamespace(transport="local")
        action._task = SimpleNamespace(
            args={"timeout": timeout},
            check_mode=False,
            delegate_to=None,
            _uuid="id",
            no_log=False,
            name="",
            action="certificate_wait",
        )
        action._templar = SimpleNamespace(template=lambda value: value)
        left = list(looks)

        def execute(task_vars: Doc, **_options: Any) -> Doc:
            assert task_vars["ansible_python_interpreter"] == sys.executable
            return left.pop(0) if len(left) > 1 else left[0]

        action._execute_module = execute
        return action.run(task_vars={"inventory_hostname": "prod"}), shown

    return wait


def test_each_new_state_is_shown_until_the_certificate_is_active(wait: Callable[..., tuple[Doc, list[str]]]) -> None:
    result, shown = wait([waiting("one"), waiting("one"), waiting("two"), ACTIVE])
    assert result == ACTIVE and shown == [
        "prod: after 0 s, one (usually some minutes to an hour after the DNS records are set)",
        "prod: after 7 s, two",
    ]


def test_all_of_it_is_waiting_for_google(
    wait: Callable[..., tuple[Doc, list[str]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Store, "enabled", True)
    monkeypatch.setattr(Store, "file", lambda: tmp_path / "waits")
    wait([waiting("one"), waiting("one"), ACTIVE])
    (waited,) = Store.all()
    assert (waited.host, waited.task, waited.resource) == ("prod", "id", "certificate")
    assert waited.waits == [["pending", waited.began, waited.ended]] and waited.ended - waited.began == 7


def test_long_waiting_is_shown_every_minute(wait: Callable[..., tuple[Doc, list[str]]]) -> None:
    result, shown = wait([waiting("one")], timeout=600)
    assert result["failed"] and "still so after 597 s" in result["msg"] and 9 <= len(shown) <= 11
    assert "--tags wait_for_certificate" in result["msg"]


def test_what_does_not_pass_fails_at_once(wait: Callable[..., tuple[Doc, list[str]]]) -> None:
    result, shown = wait([waiting("a.test is FAILED_CAA_FORBIDDEN: a CAA record", lasting=True)])
    assert result["failed"] and shown == []
    assert "this does not pass by waiting" in result["msg"] and "FAILED_CAA_FORBIDDEN" in result["msg"]


def test_an_error_of_the_module_is_that_of_the_action(wait: Callable[..., tuple[Doc, list[str]]]) -> None:
    assert wait([{"failed": True, "msg": "Cannot read"}])[0] == {"failed": True, "msg": "Cannot read"}
