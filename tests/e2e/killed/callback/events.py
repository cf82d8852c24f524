"""Job events as AWX keeps them: the result of every task, as a line of JSON in the file JOB_EVENTS."""

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: events
type: notification
short_description: Job events
description: The result of every task, as a line of JSON.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "events"

    def keep(self, event, result):
        entry = {"event": event, "task": result._task.get_name(), "args": result._task.args, "res": result._result}
        with open(os.environ["JOB_EVENTS"], "a") as file:
            file.write(json.dumps(entry if not result._task.no_log else event, default=str) + "\n")

    def v2_runner_on_ok(self, result):
        self.keep("runner_on_ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.keep("runner_on_failed", result)

    def v2_runner_item_on_ok(self, result):
        self.keep("runner_item_on_ok", result)

    def v2_runner_item_on_failed(self, result):
        self.keep("runner_item_on_failed", result)

    def v2_playbook_on_stats(self, stats):
        with open(os.environ["JOB_EVENTS"], "a") as file:
            file.write(json.dumps({"event": "playbook_on_stats", "custom": stats.custom}, default=str) + "\n")
