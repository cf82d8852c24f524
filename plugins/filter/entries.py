# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: entries
short_description: Make a list out of a list or a text
version_added: 0.1.0
author: mlops.mlflow_gcp contributors (@mlops)
description:
  - Takes what an inventory (a list) or an AWX survey (a text) gives.
positional: _input
options:
  _input:
    description: A list, or a text in JSON or YAML, or with commas or line ends between the entries.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show the APIs of a survey's answer
  ansible.builtin.debug:
    msg: "{{ 'run.googleapis.com, iap.googleapis.com' | mlops.mlflow_gcp.entries }}"
"""

RETURN = r"""
_value:
  description: The entries in the order given, each once.
  type: list
  elements: str
"""

from collections.abc import Iterable

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values


def entries(value: str | Iterable[str]) -> list[str]:
    """Return the entries of a list or a text; AnsibleFilterError if it is neither."""
    found = values.listed(value)
    if found is None:
        raise AnsibleFilterError(f"{value!r} is not allowed; give {values.LIST_WORDS}")
    return list(dict.fromkeys(found))


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, object]:
        return {"entries": entries}
