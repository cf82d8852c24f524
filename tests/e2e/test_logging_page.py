"""docs/logging.md, the page for data scientists: its commands are run verbatim, one after the other."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from .conftest import PROJECT, ROOT, URL


def test_the_commands_of_the_page_work(client, tmp_path):
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", (ROOT / "docs" / "logging.md").read_text(), re.M | re.S)
    assert [kind for kind, _ in blocks] == ["sh", "sh", "python", "python", "sh"]
    script = ["set -e"]
    for number, (kind, text) in enumerate(blocks):
        text = text.replace("my-project", PROJECT)
        if kind == "python":
            (tmp_path / f"block{number}.py").write_text(text)
            text = f"python block{number}.py\n"
        script.append(re.sub(r"^pip install .*\n", "", text, flags=re.M))  # the wheel is already installed
    assert f"export MLFLOW_TRACKING_URI={URL}\n" in script[1]
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, words in (("python", ""), ("mlflow-iap", " -m mlflow_iap.cli")):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {client.python}{words} "$@"\n')
        program.chmod(0o755)
    env = {name: value for name, value in client.env.items() if not name.startswith("MLFLOW_")}
    env |= {"PATH": f"{folder}:{env['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "This machine can log." in done.stdout
    assert re.search(r"^\d+\.\d+\.\d+", done.stdout.splitlines()[-1])
    assert Path(tmp_path, "weights.npy").stat().st_size > 80_000_000
