# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: dictionary
short_description: Make a dictionary out of a dictionary or a text
version_added: 0.1.0
author: mlops.mlflow_gcp contributors (@mlops)
description:
  - Takes what an inventory (a dictionary) or an AWX survey (a text) gives.
  - Refuses a text that contains no dictionary.
positional: _input
options:
  _input:
    description:
      - A dictionary, or a text in JSON, in YAML of one level, or of the form C(key=value) with commas, spaces or line ends between the
        entries. An empty text is an empty dictionary.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show the labels of a survey's answer
  ansible.builtin.debug:
    msg: "{{ 'team=ml, unit=data' | mlops.mlflow_gcp.dictionary }}"
"""

RETURN = r"""
_value:
  description: The dictionary. In one from YAML or C(key=value), all values are text.
  type: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values


def dictionary(value: str | Mapping[Any, Any] | None) -> dict[Any, Any]:
    """Return the dictionary, also of a text; AnsibleFilterError if there is none."""
    found = values.mapped(value)
    if found is None:
        raise AnsibleFilterError(f"{value!r} is not allowed; give {values.MAPPING_WORDS}")
    return found


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, object]:
        return {"dictionary": dictionary}
