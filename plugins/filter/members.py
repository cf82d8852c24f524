# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: members
short_description: Make a list of IAM members out of a list or a text
version_added: 0.1.0
author: mlops.mlflow_gcp contributors (@mlops)
description:
  - Takes what an inventory (a list) or an AWX survey (a text with commas or one member a line) gives.
  - Refuses what is no member, naming it, before Google is asked.
positional: _input
options:
  _input:
    description:
      - Members in IAM's notation, V(user:jane@example.com), V(group:ml@example.com),
        V(serviceAccount:ci@my-project.iam.gserviceaccount.com) or V(domain:example.com).
      - A list, or a text with commas or line ends between the members.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show the members of a survey's answer
  ansible.builtin.debug:
    msg: "{{ 'user:jane@example.com, group:ml@example.com' | mlops.mlflow_gcp.members }}"
"""

RETURN = r"""
_value:
  description: The members in the order given, each once.
  type: list
  elements: str
"""

from collections.abc import Iterable

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values


def members(value: str | Iterable[str]) -> list[str]:
    """Return the members of a list or a comma or newline separated text; AnsibleFilterError names the first that is none."""
    try:
        return list(dict.fromkeys(values.MEMBERS.check(value)))
    except values.Refused as refused:
        raise AnsibleFilterError(str(refused)) from refused


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, object]:
        return {"members": members}
