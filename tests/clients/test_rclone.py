"""rclone, as a representative of programs that use Google's library for Go."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from .conftest import BUCKET

pytestmark = pytest.mark.skipif(shutil.which("rclone") is None, reason="there is no rclone on this machine")


def test_files_go_there_and_back(cloud, deployed, tmp_path):
    def run(*words: str) -> str:
        command = [
            "rclone",
            "--config",
            "/dev/null",
            "--gcs-bucket-policy-only",
            "--retries=1",
            "--low-level-retries=1",
            *words,
        ]
        command += ["--gcs-service-account-file", cloud.env["GOOGLE_APPLICATION_CREDENTIALS"]]
        done = subprocess.run(command, env=cloud.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(os.urandom(20_000_000))  # in several chunks
    (tmp_path / "folder" / "small").write_text("x")
    there = f":gcs:{BUCKET}/rclone"
    run("copy", str(tmp_path), there)
    try:
        run("check", "--download", str(tmp_path), there)
        run("moveto", f"{there}/folder/small", f"{there}/folder/moved")
        assert sorted(run("lsf", "-R", "--files-only", there).split()) == ["folder/moved", "large"]
    finally:
        run("purge", there)
