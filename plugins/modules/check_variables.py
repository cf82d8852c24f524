#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The code is in plugins/action/check_variables.py.

from __future__ import annotations

DOCUMENTATION = r"""
module: check_variables
short_description: Check the variables of this collection's roles
description:
  - Checks every variable of the roles against their argument specifications, against the rule for its kind of value (a domain, a
    region, a memory size, and so on), and the variables that have to fit together.
  - Runs on the controller, calls no API and changes nothing, so that a wrong value is refused before the first call to Google.
  - Reads text for lists and dictionaries, as surveys of AWX and Automation Platform and the command line give it.
  - Takes a question of a survey that was not answered, C(""), for a variable that is not set. The first task of a run that uses this
    module removes it from the extra variables, so that all tasks see the value of the inventory, or the default. The playbooks do this
    in their first play, without O(role) and O(roles).
  - Checks the length of every name that the roles derive from variables, and names the variable to shorten.
  - Reports all problems at once. A message names the variable that the user sets. If a role's variable only passes on the value
    of another one, as C(iap_lb_domain) does with C(mlflow_domain), it names that one.
  - With role C(iap_lb), no two hosts of the play may have the same load balancer in one project, or the same domain. Variables that
    are only set for the play, not in the inventory, are not known of other hosts.
  - Values of variables that are marked as C(no_log) are never shown.
  - A region that this release does not know is only warned about, as Google opens new ones.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
options:
  role:
    description:
      - Role whose variables are checked. The first task of each role does this for its own.
      - A variable that an earlier check of the same run has checked for this host is not checked again, as long as the templates and
        values that it comes from are the same.
    type: str
  roles:
    description:
      - Roles whose variables are checked together with those of the whole deployment, C(mlflow_*).
      - Values that come from the result of one of these roles, such as C(network_result.network), may still be missing.
    type: list
    elements: str
  only_given:
    description:
      - Only checks and returns, as RV(given), the variables that somebody has set. Others may be missing, for a play that finds them out.
    type: bool
    default: false
attributes:
  check_mode:
    description: Checks in check mode too.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: N/A
  idempotent:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Check the variables of a play before its first task
  mlops.mlflow_gcp.check_variables:
    roles: [network, cloudsql]
  register: mlflow_checked

- name: Find out what somebody has set
  mlops.mlflow_gcp.check_variables:
    roles: [network, cloudsql]
    only_given: true
  register: set_by_somebody

- name: Check the variables of one role
  mlops.mlflow_gcp.check_variables:
    role: network

- name: Treat unanswered questions of a survey as variables that are not set
  mlops.mlflow_gcp.check_variables:
"""

RETURN = r"""
given:
  description: The variables that somebody has set, each in its type, without secrets.
  returned: with O(only_given)
  type: dict
  sample: {mlflow_project_id: my-project}
variables:
  description:
    - The variables with their values, each in its type. Those whose value is not known yet, or that were not checked again, are
      left out.
    - A secret is replaced by a placeholder.
  returned: success
  type: dict
  sample:
    network_project_id: my-project
    network_region: europe-west2
unanswered:
  description: The questions of a survey that were not answered, by their variables.
  returned: success
  type: list
  elements: str
  sample: [mlflow_zone]
record:
  description:
    - What the deployment records with its Cloud Run service, so that the inventory plugin P(mlops.mlflow_gcp.deployments#inventory) finds what
      belongs to it - names and places, where they are not the default. Empty for O(role).
  returned: success
  type: dict
  sample:
    mlflow_project_id: my-project
    mlflow_region: europe-west2
    mlflow_name: mlflow
    mlflow_front_door: load_balancer
    mlflow_domain: mlflow.example.com
names:
  description: For each variable that only passes on the value of another one, the name of that one.
  returned: success
  type: dict
  sample:
    network_region: mlflow_region
"""
