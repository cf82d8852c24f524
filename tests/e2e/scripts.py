"""Python with MLflow's own client, signed in as the logger. MLflow is imported once: that takes longer than most scripts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from .conftest import IMAGE_PYTHON, LOGGER, URL, Cloud
from .test_mlflow_client import token

Client = Callable[[str], str]

# Runs each line of its input (JSON: environment, script) in a process of its own, and answers with its status and output.
SERVER = """
import json, os, sys, tempfile
import mlflow

for line in sys.stdin:
    asked = json.loads(line)
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            status = 1
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                os.environ.clear()
                os.environ.update(asked["env"])
                exec(asked["script"], {"mlflow": mlflow, "client": mlflow.MlflowClient()})
                status = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitpid(child, 0)[1]
        output.seek(0)
        print(json.dumps([status, output.read().decode()]), flush=True)
"""


@contextmanager
def scripts(cloud: Cloud, folder: Path) -> Iterator[Client]:
    """A function that runs a script and returns the last line of its output."""
    command = [IMAGE_PYTHON, "-c", SERVER]
    with subprocess.Popen(
        command, env=cloud.env, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin and server.stdout

        def run(script: str) -> str:
            assert server.stdin and server.stdout
            env = cloud.env | {"MLFLOW_TRACKING_URI": URL, "MLFLOW_TRACKING_TOKEN": token(cloud, LOGGER)}
            server.stdin.write(json.dumps({"env": env, "script": dedent(script)}) + "\n")
            server.stdin.flush()
            status, output = json.loads(server.stdout.readline())
            assert status == 0, output[-3000:]
            return output.splitlines()[-1]

        yield run
        server.stdin.close()
