# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/record.py: the picture shows what the command has printed, and when."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def record(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, ROOT / "tools/record.py", "out.svg", *command]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=60)


def rows(path: Path) -> list[str]:
    """The rows of the sheet, without the command in the first one."""
    sheet = next(group for group in ElementTree.parse(path).iter(f"{SVG}g") if group.get("class") == "sheet")
    return ["".join(text.itertext()) for text in sheet.iter(f"{SVG}text")][1:]


def test_text_colours_and_long_lines(tmp_path: Path) -> None:
    printed = r"printf '\033[0;33mchanged: <b> & c\033[0m\nplain\n'; pwd; printf 'x%.0s' $(seq 130); echo"
    done = record(tmp_path, "sh", "-c", printed)
    assert done.returncode == 0, done.stderr
    shown = rows(tmp_path / "out.svg")
    assert shown == ["changed: <b> & c", "plain", f"~/{tmp_path.name}", "x" * 100, "x" * 30]
    assert re.search(r'<tspan class="c3">changed: &lt;b&gt; &amp; c</tspan>', (tmp_path / "out.svg").read_text())


def test_a_row_appears_when_it_was_printed_and_the_sheet_moves_when_the_window_is_full(tmp_path: Path) -> None:
    done = record(tmp_path, "sh", "-c", "echo first; sleep 1; seq 40")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out.svg").read_text()
    (whole,) = set(re.findall(r"animation:\w+ ([\d.]+)s", text))
    steps = {
        name: [
            (float(at) * float(whole) / 100, int(place))
            for at, place in re.findall(r"([\d.]+)%\{[^}]*\((-?\d+)px\)", frames)
        ]
        for name, frames in re.findall(r"@keyframes (\w+)\{((?:[^{}]*\{[^}]*\})*)\}", text)
    }
    # One row and the command at first; the other 40 a second later, of which the window shows the last 26.
    assert [place for _, place in steps["cover"]][-2:] == [32, 26 * 16]
    assert 0.9 < steps["cover"][-1][0] < 2
    assert [place for _, place in steps["sheet"]] == [0, -16 * (42 - 26)]


def test_a_command_that_fails_leaves_no_picture(tmp_path: Path) -> None:
    done = record(tmp_path, "sh", "-c", "exit 3")
    assert done.returncode == 1 and "failed (3)" in done.stderr
    assert not (tmp_path / "out.svg").exists()
