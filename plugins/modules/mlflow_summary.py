#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The code is in plugins/action/mlflow_summary.py.

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_summary
short_description: Sum up a run for several deployments
description:
  - Says which hosts of the play are done, and which have failed and why, with the message of the task that has failed.
  - The last task of a play, with C(run_once). If all hosts have failed, Ansible ends the run before it.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: There is no diff, because nothing is changed.
    support: none
  idempotent:
    description: Only sums up.
    support: full
options: {}
"""

EXAMPLES = r"""
- name: Sum up the deployments
  mlops.mlflow_gcp.mlflow_summary:
  run_once: true
  register: mlflow_summed

- name: Publish which failed, and why
  ansible.builtin.set_stats:
    data:
      mlflow_fleet: "{{ {'done': mlflow_summed.done, 'failed': mlflow_summed.failed_hosts} }}"
  run_once: true
"""

RETURN = r"""
done:
  description: The hosts that have not failed.
  returned: success
  type: list
  elements: str
  sample: [team-a-prod]
failed_hosts:
  description: For each host that has failed, the task and its message.
  returned: success
  type: dict
  sample:
    team-b-prod: "Check the variables: mlflow_region is 'london'; allowed: a region such as europe-west2."
lines:
  description: The same as text.
  returned: success
  type: list
  elements: str
  sample: [1 of 2 deployments are done]
"""
