# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module's main() uses: common options, option checks, the task, and error handling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NoReturn, TypeVar

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import client as http
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import credentials, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import with_record
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput

T = TypeVar("T")
AUTH_OPTIONS: dict[str, dict[str, Any]] = {
    "project": {"type": "str", "fallback": (env_fallback, ["GCP_PROJECT"])},
    **credentials.OPTIONS,
    "env_type": {"type": "str", "fallback": (env_fallback, ["GCP_ENV_TYPE"])},
}
SIGN_IN = (
    "There are no credentials for Google Cloud: set GCP_AUTH_KIND in the environment (or option auth_kind) to application (after "
    "gcloud auth application-default login, or on a machine with a service account), to serviceaccount (with GCP_SERVICE_ACCOUNT_FILE or "
    "GCP_SERVICE_ACCOUNT_CONTENTS), to accesstoken (with GCP_ACCESS_TOKEN) or to machineaccount"
)
# Documented in the fragment labels.
LABELS_OPTION: dict[str, dict[str, Any]] = {"labels": {"type": "dict", "kind": values.LABELS}}
STATE_OPTION: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
# The same for resources that may belong to others.
STATE_OR_EXISTING_OPTION: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["present", "existing", "absent"], "default": "present"},
}


def deletion_options(release_timeout: int) -> dict[str, dict[str, Any]]:
    """How state=absent treats what others may use; documented in the fragment deletion."""
    return {
        "in_use": {"type": "str", "choices": ["fail", "leave"], "default": "fail"},
        "release_timeout": {"type": "int", "default": release_timeout},
    }


def text_map(mapping: Mapping[str, Any] | None) -> dict[str, str] | None:
    """MAPPING, such as labels, with text for values; None when not given."""
    return None if mapping is None else {str(key): values.text(value) for key, value in mapping.items()}


class Module(AnsibleModule):
    """AnsibleModule that says how to sign in where it would only say that an option is missing."""

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        missing, names = msg.partition("missing required arguments: ")[::2]
        options = names.split(", ") if names and not missing else []
        if "auth_kind" in options:
            others = ", ".join(option for option in options if option != "auth_kind")
            msg = SIGN_IN + (f". Also missing: {others}" if others else "")
        elif msg.startswith("value of auth_kind must be one of"):
            msg = f"{SIGN_IN} ({msg})"
        super().fail_json(msg, **kwargs)


# What a return value is in check mode, if only the real run makes it.
UNKNOWN = "(known after the run)"


class Task:
    """One run of a module: options, client and result."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.check_mode: bool = module.check_mode
        self._numbers: dict[str, str | None] = {}

    @cached_property
    def project(self) -> str:
        """The project ID; raises InvalidInput without one."""
        if not self.params.get("project"):
            raise InvalidInput("project", self.params.get("project"), "give a project ID here or in GCP_PROJECT")
        return self.params["project"]

    @cached_property
    def labels(self) -> dict[str, str] | None:
        """Option labels with text for values, and their record (see Rules.labels); None when not given."""
        labels = text_map(self.params.get("labels"))
        return None if labels is None else with_record(labels)

    @cached_property
    def client(self) -> http.Client:
        """The client with the credentials of the authentication options; created on first use."""
        if http.IMPORT_ERROR:
            self.module.fail_json(msg=missing_required_lib("google-auth and requests"), exception=http.IMPORT_ERROR)
        user_agent = "-".join(filter(None, ["mlops.mlflow_gcp", self.params.get("env_type")]))
        return http.Client(http.authorized_session(self.params), user_agent)

    @property
    def project_number(self) -> str | None:
        """The number of the task's project, as number_of()."""
        return self.number_of(self.project)

    def number_of(self, project: str) -> str | None:
        """
        The number of a project, which some APIs require instead of its ID; None when check mode cannot read it yet.
        https://cloud.google.com/resource-manager/reference/rest/v1/projects/get
        """
        if project not in self._numbers:
            url = f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}"
            found = self.read(f"project {project}", lambda: self.client.get(url))
            self._numbers[project] = str(found["projectNumber"]) if found else None
        return self._numbers[project]

    def read(self, what: str, call: Callable[[], T]) -> T | None:
        """
        The result of CALL, whose errors begin with "Cannot read WHAT".

        In check mode None if the API is not enabled: in a first --check of a whole deployment, the real run would have
        enabled it by now.
        """
        with self.client.action(f"read {what}"):
            try:
                return call()
            except ApiError as error:
                if not self.check_mode or not error.disabled:
                    raise
                self.warn(f"Check mode assumes that {what} is absent: the API is not enabled yet")
                return None

    def known(self, value: str) -> str:
        """VALUE, which may still be missing in check mode; the tasks that need it go on with a placeholder."""
        return value or (UNKNOWN if self.check_mode else "")

    def warn(self, warning: str) -> None:
        """Show a warning."""
        self.module.warn(warning)

    def result(self, *, label: str, changed: bool, before: Any, after: Any, **returns: Any) -> dict[str, Any]:
        """The result of the module for resource LABEL; BEFORE and AFTER (with secrets masked) are shown by --diff."""
        returns["changed"] = changed
        if self.module._diff:
            headers = {"before_header": label, "after_header": label}
            returns["diff"] = {"before": before or {}, "after": after or {}, **headers}
        return returns


def run(work: Callable[[Task], dict[str, Any]], argument_spec: Mapping[str, Any], **conditions: Any) -> None:
    """
    The main() of a module: checks the options, calls WORK and exits with its result, or fails with its GcpError.

    ARGUMENT_SPEC does not contain the authentication options. Besides Ansible's keys, an option may have "kind", the
    values.Kind of its value. CONDITIONS are Ansible's, such as required_if. A required option must not be empty.
    """
    spec = {**AUTH_OPTIONS, **_without_kinds(argument_spec)}
    module = Module(argument_spec=spec, supports_check_mode=True, **conditions)
    try:
        for option, value, required in conditions.get("required_if", ()):
            for name in required if module.params[option] == value else ():
                if module.params[name] in (None, "", []):
                    raise InvalidInput(name, module.params[name], f"it is required for {option}={value}")
        _check_options(argument_spec, module.params)
        result = work(Task(module))
    except GcpError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def _without_kinds(spec: Mapping[str, Any]) -> dict[str, Any]:
    """SPEC as AnsibleModule accepts it."""
    return {
        name: {
            key: _without_kinds(value) if key == "options" else value for key, value in option.items() if key != "kind"
        }
        for name, option in spec.items()
    }


def _check_options(spec: Mapping[str, Any], params: Mapping[str, Any], prefix: str = "") -> None:
    for name, option in spec.items():
        value = params[name]
        if value is None:
            continue
        if option.get("required") and value == "":
            raise InvalidInput(f"{prefix}{name}", value, "it is required")
        if "kind" in option:
            values.check_option(f"{prefix}{name}", value, option["kind"])
        if option["type"] == "dict" and "options" in option:
            _check_options(option["options"], value, f"{prefix}{name}.")
