#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The code is in plugins/action/in_process.py.

from __future__ import annotations

DOCUMENTATION = r"""
module: in_process
short_description: How the modules of this collection run
description:
  - This is not a task. It is the action behind every module of this collection that calls Google, and this page says what it does.
  - A module would start a Python of its own on the host of the task, which imports the same libraries and fetches an access token
    again, for every task. Where that host is the controller, with the same user and the same Python, the action calls the module in
    the process that Ansible has forked for the task instead. Its libraries were imported before the fork, and all tasks of a run
    with the same credentials share one access token, in memory.
  - What the tasks of a run read is remembered in C(mlops.mlflow_gcp/reads) under Ansible's home (E(ANSIBLE_HOME), by default
    C(~/.ansible)), with the methods and URLs of the requests, without any answer. In the next run,
    M(mlops.mlflow_gcp.mlflow_preflight) sends them all at once, and the tasks of its play on its host use the answers, from memory, instead of
    asking one after another. An answer is used for up to a minute, once by each task, and only until the first request of the run that may change
    something. A module that finds something to change begins again and reads anew. Without the files, a run takes longer and does the
    same.
  - Arguments, results, warnings, check mode, C(--diff), C(no_log), C(environment), C(timeout), C(module_defaults) and loops are the
    same as without it.
  - What takes longer than ten seconds is shown on the standard error, and again every half minute - what is awaited, for how long, and how long
    it usually takes, where that is known - except of a task with C(no_log).
  - A module runs as usual, in a Python of its own, with any connection but C(local), with C(become), with C(async), with an
    C(ansible_python_interpreter) other than the Python of Ansible, with E(ANSIBLE_KEEP_REMOTE_FILES) set, and where the Python of
    Ansible has no google-auth and requests. On a local connection without C(ansible_python_interpreter), that is the Python of Ansible.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
options: {}
"""

EXAMPLES = r"""
- name: Create a bucket from the controller, in the process of the task
  mlops.mlflow_gcp.storage_bucket:
    name: my-project-mlflow-artifacts
    location: EU

- name: Create a bucket from another host, with the Python of that host
  mlops.mlflow_gcp.storage_bucket:
    name: my-project-mlflow-artifacts
    location: EU
  delegate_to: deployer.example.com
"""

RETURN = r"""
"""
