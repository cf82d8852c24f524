# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
What differs between the versions of ansible-core: how modules get arguments and return results, what callbacks get, and which text is a
template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ansible.module_utils import basic
from ansible.module_utils.common import json as codecs
from ansible.module_utils.common import warnings
from ansible.parsing.dataloader import DataLoader
from ansible.utils.unsafe_proxy import wrap_var
from ansible.vars import clean

# It has other names in each version.
codec: Any = codecs
# The serialization of arguments and results for modules that are written in Python; unknown before ansible-core 2.19.
PROFILE = "legacy"
HAS_PROFILES = hasattr(codec, "get_module_encoder")


def give_arguments(arguments: Mapping[str, Any]) -> None:
    """The next module of this process finds ARGUMENTS where it otherwise finds those from its standard input."""
    content = {"ANSIBLE_MODULE_ARGS": arguments}
    encoder: Any
    if HAS_PROFILES:
        encoder = codec.get_module_encoder(PROFILE, codec.Direction.CONTROLLER_TO_MODULE)
        basic._ANSIBLE_PROFILE = PROFILE
    else:
        encoder = partial(codec.AnsibleJSONEncoder, vault_to_text=True)
        # A process has one list of warnings for all modules: those of the last item of a loop are not those of this one.
        warnings._global_warnings.clear()
        warnings._global_deprecations.clear()
    basic._ANSIBLE_ARGS = json.dumps(content, cls=encoder).encode()


def result_of(parse: Callable[..., Any], output: str, errors: str) -> dict[str, Any]:
    """The result that a module has printed, read with PARSE of the action, as this version of ansible-core treats it; no text in it is a template."""
    printed = {"rc": 0, "stdout": output, "stderr": errors}
    found = parse(printed, PROFILE) if HAS_PROFILES else parse(printed)
    if not isinstance(found, dict):
        # Since ansible-core 2.21.
        found.remove_internal_keys()
        return dict(found.as_result_dict(for_round_trip=True))
    clean.remove_internal_keys(found)
    return found if HAS_PROFILES else dict(wrap_var(found))


def task_result(result: Any) -> tuple[str, str, Mapping[str, Any]]:
    """The name of the host, the ID of the task and what it has returned, of the result that a callback gets."""
    if HAS_PROFILES:
        return result.host.name, result.task._uuid, result.result
    return result._host.name, result._task._uuid, result._result


def no_template(value: Any) -> Any:
    """VALUE from outside, in which no text is a template: newer versions take none for one that does not come from a file of Ansible's."""
    return value if HAS_PROFILES else wrap_var(value)


def templates_from(loader: DataLoader, path: str) -> Any:
    """The content of a YAML file whose text may be templates."""
    options: dict[str, Any] = {"trusted_as_template": True} if HAS_PROFILES else {}
    # Its cache would copy what it returns.
    return loader.load_from_file(path, cache="none", **options)
