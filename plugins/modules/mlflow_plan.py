#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The code is in plugins/action/mlflow_plan.py.

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_plan
short_description: Sum up what the modules of a run would change
description:
  - Lists every resource that the modules of this collection have looked at on the host since the run began, and what they would do
    with it in check mode, or have done without it.
  - The playbook C(plan) ends with it, and so does C(site) with C(--check).
  - Runs on the controller, calls no API and changes nothing but O(file), which is also written in check mode.
  - Secrets are masked as in C(--diff).
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
options:
  file:
    description: File on the controller for the plan as JSON, with all fields of all resources before and after.
    type: path
  fail_on_changes:
    description: Whether to fail if there is anything to change, for the exit status of a pipeline.
    type: bool
    default: false
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: Has no diff of its own.
    support: none
  idempotent:
    description: Never changed.
    support: full
"""

EXAMPLES = r"""
- name: Plan a bucket
  mlops.mlflow_gcp.storage_bucket:
    name: my-project-mlflow-artifacts
    location: EU
  check_mode: true

- name: Show the plan, and stop if there is something to do
  mlops.mlflow_gcp.mlflow_plan:
    file: /tmp/plan.json
    fail_on_changes: true
"""

RETURN = r"""
counts:
  description: How many resources would be created, updated, deleted and left unchanged, and how many tasks would run something else.
  returned: always
  type: dict
  sample: {create: 1, update: 0, delete: 0, run: 0, unchanged: 31}
changes:
  description:
    - What would change, in the order of the tasks. RV(ignore:file) also has what would not.
  returned: always
  type: list
  elements: dict
  contains:
    host:
      description: The host.
      type: str
      returned: always
    task:
      description: The name of the task.
      type: str
      returned: always
    module:
      description: The module.
      type: str
      returned: always
    project:
      description: The option C(project) of the task, empty where the environment names it.
      type: str
      returned: always
    resource:
      description: Kind and name of the resource.
      type: str
      returned: always
    action:
      description: C(create), C(update), C(delete), or C(run) for something that is no resource, such as an execution of a job.
      type: str
      returned: always
    before:
      description: The resource as it is, empty if there is none.
      type: dict
      returned: always
    after:
      description: The resource as it would be, empty if it would be deleted.
      type: dict
      returned: always
table:
  description: The same for people, a line for each resource and for each field that would change.
  returned: always
  type: list
  elements: str
  sample:
    - ~ update bucket my-project-mlflow-artifacts
    - "    versioning.enabled: false -> true"
    - 0 create, 1 update, 0 delete, 0 run, 31 unchanged
"""
