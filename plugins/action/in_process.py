# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of all modules that call Google; its documentation is in plugins/modules/in_process.py."""

from __future__ import annotations

import importlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import client
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import (
    controller,
    core,
    failures,
    hints,
    host_credentials,
    record,
    warm,
    watch,
)

MODULES = "ansible_collections.mlops.mlflow_gcp.plugins.modules"

warm.up()


class ActionModule(ActionBase):
    """Calls the main() of a module in this process where it would otherwise start a Python on the same host."""

    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        name = self._task.action.rpartition(".")[2]
        if name == "in_process":
            raise AnsibleActionFail("in_process is no task; it runs the collection's modules")
        variables = task_vars or {}
        with failures.noted(self._task, variables):
            self._task.args = host_credentials.arguments(self._task.args, self._templar.template, variables)
        asked = self._task.diff
        # The plan has the diff of every resource.
        self._task.diff = asked or self._task.check_mode or watch.Store.enabled
        host = str(variables.get("inventory_hostname", ""))
        began = time.monotonic()

        def show(line: str) -> None:
            self._display.display(f"{host}: {line}", stderr=True)

        with watch.Watch(None if self._task.no_log else show) as heard:
            result = self._result(name, variables)
        resource = "" if self._task.no_log else (result.get("diff") or {}).get("after_header") or ""
        watch.Store.add(watch.Waited(host, self._task._uuid, resource, began, time.monotonic(), heard.waits))
        if result.get("failed"):
            failures.note(host, self._task, result.get("msg", ""))
        else:
            self._note(name, variables, result)
        if not asked:
            result.pop("diff", None)
        return result

    def _result(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        if not self._stays_here(variables):
            normal = self._shared_loader_obj.action_loader.get(
                "ansible.legacy.normal",
                task=self._task,
                connection=self._connection,
                play_context=self._play_context,
                loader=self._loader,
                templar=self._templar,
                shared_loader_obj=self._shared_loader_obj,
            )
            return dict(normal.run(task_vars=controller.interpreted(self._connection, self._task, variables)))
        return {**super().run(task_vars=variables), **self._call(name, variables)}

    def _note(self, name: str, variables: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Keep what the module has found and changed, for the plan."""
        if self._task.no_log or self._task.async_val:
            return
        host, project = variables.get("inventory_hostname", ""), self._task.args.get("project") or ""
        entry = record.entry(str(host), self._task.name or self._task.action, name, str(project), result)
        if entry:
            record.add(entry)

    def _stays_here(self, variables: Mapping[str, Any]) -> bool:
        """The task would run on this host, as this user, with this Python."""
        if not controller.is_here(self._connection) or self._connection.become:
            return False
        if self._task.async_val or C.config.get_config_value("DEFAULT_KEEP_REMOTE_FILES") or client.IMPORT_ERROR:
            return False
        if not variables.get("ansible_python_interpreter"):
            return True
        interpreter = str(self._templar.template(variables["ansible_python_interpreter"]))
        return interpreter.startswith("auto") or os.path.realpath(interpreter) == os.path.realpath(sys.executable)

    def _hint(self, variables: Mapping[str, Any]) -> hints.Task:
        """Where to remember what the task reads."""
        host, play = variables.get("inventory_hostname", ""), variables.get("ansible_play_name", "")
        item = variables.get(variables.get("ansible_loop_var", ""), "")
        tags, run_tags = self._task.tags, variables.get("ansible_run_tags", ())
        return hints.Task(str(host), str(play), f"{self._task.get_name()} {item}".strip(), tuple(tags), tuple(run_tags))

    def _call(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The result of module NAME."""
        arguments = dict(self._task.args)
        self._update_module_args(self._task.action, arguments, variables)
        core.give_arguments(arguments)
        environment: dict[str, str] = {}
        self._compute_environment_string(environment)
        output, errors = io.StringIO(), io.StringIO()
        main = importlib.import_module(f"{MODULES}.{name}").main
        with _environment(environment), redirect_stdout(output), redirect_stderr(errors):
            _run(main, self._hint(variables))
        return core.result_of(self._parse_returned_data, output.getvalue(), errors.getvalue())


def _run(main: Callable[[], None], task: hints.Task) -> None:
    """Call MAIN of a module; once more if it has to write after it has read what was read ahead."""
    reads = warm.READS
    reads.begin(task)
    with suppress(SystemExit):
        try:
            main()
        except client.Reread:
            reads.begin(None)
            main()
    reads.end()


@contextmanager
def _environment(variables: Mapping[str, Any]) -> Iterator[None]:
    """The variables are in the environment, as the keyword environment asks; afterwards it is as it was."""
    before = dict(os.environ)
    os.environ.update({name: str(value) for name, value in variables.items()})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
