# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module's main() is made of: the options, the task at hand, and one place where errors end it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import client as http
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput

# google.cloud keeps this inside a class that drops mutually_exclusive, hence a copy: same options, same environment.
AUTH_OPTIONS: dict[str, dict[str, Any]] = {
    "project": {"type": "str", "fallback": (env_fallback, ["GCP_PROJECT"])},
    "auth_kind": {
        "type": "str",
        "required": True,
        "choices": ["accesstoken", "application", "machineaccount", "serviceaccount"],
        "fallback": (env_fallback, ["GCP_AUTH_KIND"]),
    },
    "service_account_email": {"type": "str", "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_EMAIL"])},
    "service_account_file": {"type": "path", "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_FILE"])},
    "service_account_contents": {
        "type": "jsonarg",
        "no_log": True,
        "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_CONTENTS"]),
    },
    "access_token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["GCP_ACCESS_TOKEN"])},
    "scopes": {"type": "list", "elements": "str", "fallback": (env_fallback, ["GCP_SCOPES"])},
    "env_type": {"type": "str", "fallback": (env_fallback, ["GCP_ENV_TYPE"])},
}
STATE_OPTION: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def text(value: Any) -> str:
    """VALUE as the API's text: YAML's true is "true", its null is ""."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def text_map(values: Mapping[str, Any] | None) -> dict[str, str] | None:
    """VALUES, such as labels, with text for values; None when not given."""
    return None if values is None else {str(key): text(value) for key, value in values.items()}


class Task:
    """One run of a module: its options, its client, its result."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.check_mode: bool = module.check_mode
        self._numbers: dict[str, str] = {}

    @cached_property
    def project(self) -> str:
        """The project id; raises InvalidInput without one."""
        if not self.params.get("project"):
            raise InvalidInput("project", self.params.get("project"), "give a project id here or in GCP_PROJECT")
        return self.params["project"]

    @cached_property
    def labels(self) -> dict[str, str] | None:
        """Option labels with text for values, as the API requires; None when not given."""
        return text_map(self.params.get("labels"))

    @cached_property
    def client(self) -> http.Client:
        """Signed in as the authentication options say; made at its first use."""
        if http.IMPORT_ERROR:
            self.module.fail_json(msg=missing_required_lib("google-auth and requests"), exception=http.IMPORT_ERROR)
        agent = "-".join(filter(None, ["mlops.mlflow_gcp", self.params.get("env_type")]))
        return http.Client(http.authorized_session(self.params), agent)

    @property
    def project_number(self) -> str:
        """The number of the task's project, which some APIs want instead of its id; one request."""
        return self.number_of(self.project)

    def number_of(self, project: str) -> str:
        """The number of a project; https://cloud.google.com/resource-manager/reference/rest/v1/projects/get"""
        if project not in self._numbers:
            url = f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}"
            answer = self.read(f"project {project}", lambda: self.client.get(url)) or {}
            # 0 in check mode, when the API is off still.
            self._numbers[project] = str(answer.get("projectNumber", 0))
        return self._numbers[project]

    def read(self, what: str, call: Callable[[], Any]) -> Any:
        """
        What CALL returns; its errors begin with "Cannot read WHAT".

        In check mode None where the API is not enabled: in a first --check of a whole deployment the real run
        would have enabled it before it comes here. So is what goes by a project's number that could not be read.
        """
        if self.check_mode and "0" in self._numbers.values():
            return None
        with self.client.attempt(f"read {what}"):
            try:
                return call()
            except ApiError as error:
                if not self.check_mode or not error.disabled:
                    raise
                self.warn(f"Check mode takes {what} as absent: the API is not enabled yet")
                return None

    def warn(self, warning: str) -> None:
        """Show a warning."""
        self.module.warn(warning)

    def result(self, *, changed: bool, before: Any, after: Any, **returns: Any) -> dict[str, Any]:
        """What the module returns; BEFORE and AFTER (secrets masked already) are what --diff shows."""
        returns["changed"] = changed
        if self.module._diff:
            returns["diff"] = {"before": before or {}, "after": after or {}}
        return returns


def run(work: Callable[[Task], dict[str, Any]], argument_spec: Mapping[str, Any], **conditions: Any) -> None:
    """
    The main() of a module: builds it, calls WORK, ends it.

    ARGUMENT_SPEC without the authentication options, CONDITIONS such as required_if. WORK returns what exit_json gets
    and raises GcpError, whose text fail_json gets.
    """
    module = AnsibleModule(argument_spec={**AUTH_OPTIONS, **argument_spec}, supports_check_mode=True, **conditions)
    try:
        result = work(Task(module))
    except GcpError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)
