# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The credentials of a host: its variables mlflow_auth_kind, mlflow_service_account_file and so on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import credentials, values

PREFIX = "mlflow_"
# Whose credentials they are; these replace the environment's all together.
OWN = ("auth_kind", *credentials.KIND_OF)
# What can also be put on top of the environment's credentials.
ABOVE = ("impersonate_service_account", "impersonate_delegates", "quota_project")
NAMES = frozenset(PREFIX + option for option in (*OWN, *ABOVE))


def of_host(template: Callable[[Any], Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """
    The options of modules that the variables of a host set; those that must not come from the environment are None.

    Raises AnsibleActionFail, without any value, for a variable that cannot be evaluated.
    """
    found = {}
    for option in (*OWN, *ABOVE):
        value = _value(template, variables, PREFIX + option)
        if value is not None and value != "" and value != []:
            found[option] = values.listed(value) if option == "impersonate_delegates" else value
    own = {option: found[option] for option in OWN if option in found}
    if not own:
        return found
    if "auth_kind" not in own:
        kinds = {credentials.KIND_OF[option] for option in own}
        if len(kinds) > 1:
            raise AnsibleActionFail(
                f"{', '.join(sorted(PREFIX + option for option in own))} are set: set one of them only"
            )
        found["auth_kind"] = kinds.pop()
    contents = found.get("service_account_contents")
    if contents is not None:
        # As text: Ansible would hide every part of a dictionary, the ID of the project too.
        found["service_account_contents"] = json.dumps(contents) if isinstance(contents, Mapping) else str(contents)
    return {**dict.fromkeys((*OWN, *ABOVE)), **found}


def _value(template: Callable[[Any], Any], variables: Mapping[str, Any], name: str) -> Any:
    if name not in variables:
        return None
    try:
        return template(variables[name])
    except AnsibleError:
        raise AnsibleActionFail(f"{name} cannot be evaluated") from None


def arguments(args: Mapping[str, Any], template: Callable[[Any], Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments ARGS of a task with the credentials of its host, unless the task or module_defaults name any."""
    if any(args.get(option) is not None for option in OWN):
        return dict(args)
    return {**of_host(template, variables), **args}
