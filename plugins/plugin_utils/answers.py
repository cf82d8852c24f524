# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answers of a survey in AWX or Automation Platform, which gives empty text for a question that was not answered."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.utils.vars import load_extra_vars

# One of them is an extra variable of every job.
JOB_IDS = ("awx_job_id", "tower_job_id")


def take_out(names: Iterable[str], extra_vars: MutableMapping[str, Any] | None = None) -> dict[str, Any]:
    """
    Remove the questions of a survey that were not answered from the run's extra variables, and return them.

    As extra variables precede all others, "" would hide the inventory's value: an unanswered question for address ranges would open
    the server to all addresses. AWX writes !unsafe '', which ansible-core 2.19 and newer reads as null. Outside of AWX, "" is what
    somebody has given, and stays. Has an effect on the tasks that follow only in Ansible's main process, which has one dictionary
    of extra variables for the run.
    """
    given = load_extra_vars(DataLoader()) if extra_vars is None else extra_vars
    if given.keys().isdisjoint(JOB_IDS):
        return {}
    return {name: given.pop(name) for name in names if name in given and _is_none(given[name])}


def _is_none(answer: Any) -> bool:
    return answer is None or (isinstance(answer, str) and not answer.strip())
