# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action cloud_build."""

from __future__ import annotations

import threading

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.action import cloud_build


def test_the_collection_has_the_source_of_its_image():
    assert (cloud_build.SOURCE / "Containerfile").is_file()


def test_lines_are_shown_as_they_come(tmp_path):
    path, shown, one = tmp_path / "log", [], threading.Event()
    path.touch()

    def show(line):
        shown.append(line)
        one.set()

    with cloud_build.followed(path, show), path.open("a") as log:
        log.write("Step 1\nSte")
        log.flush()
        # Not only at the end, and no parts of lines.
        assert one.wait(30) and shown == ["Step 1"]
        log.write("p 2\n\nDONE\n")
        log.flush()
    assert shown == ["Step 1", "Step 2", "", "DONE"]


def test_the_rest_is_shown_after_an_error(tmp_path):
    path, shown = tmp_path / "log", []
    path.touch()
    with pytest.raises(RuntimeError), cloud_build.followed(path, shown.append):
        path.write_text("ERROR\n")
        raise RuntimeError
    assert shown == ["ERROR"]


def test_a_failure_has_no_log_twice():
    shown = []
    failed = cloud_build.ActionModule.result({"failed": True, "msg": "m", "log": ["a"]}, shown.append)
    assert failed == {"failed": True, "msg": "m"} and shown == ["a"]
    assert cloud_build.ActionModule.result({"log": ["a"]}) == {"log": ["a"]}
