# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action check_variables; its documentation is in plugins/modules/check_variables.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import one_line

ROLES = Path(__file__).resolve().parents[2] / "roles"
# The role that has the variables of a whole deployment.
DEPLOYMENT = "mlflow"
REFERENCE = re.compile(r"\s*\{\{\s*(\w+)\s*\}\}\s*")
MASK = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


class Option:
    """A variable of a role, as the role's argument specification has it."""

    def __init__(self, name: str, role: str, spec: Mapping[str, Any]) -> None:
        self.name = name
        self.required: bool = spec.get("required", False)
        self.secret: bool = spec.get("no_log", name.endswith("_secret"))
        self.kind = values.kind_of(name, role)
        # The role's own defaults are used, never the copies in the specification.
        self.spec = {key: value for key, value in spec.items() if key not in ("default", "required", "description")}

    def coerced(self, value: Any, said: str) -> Any:
        """VALUE in the option's type; raises ValueError, naming the variable SAID, if it cannot be converted or is not one of the choices."""
        result = ArgumentSpecValidator({said: self.spec}).validate({said: value})
        if result.error_messages:
            what = f"{said} is not of type {self.spec['type']}" if self.secret else " ".join(result.error_messages)
            raise ValueError(one_line(what).rstrip(".") + ".")
        return result.validated_parameters[said]

    def shown(self, value: Any) -> Any:
        """VALUE, or a mask in place of a secret."""
        return MASK if self.secret and value else value


class Variables:
    """The variables of some roles on one host: their specifications and values."""

    def __init__(self, loader: DataLoader, templar: Templar, task_vars: Mapping[str, Any], roles: list[str]) -> None:
        self.roles = roles
        self.options: dict[str, Option] = {}
        defaults: dict[str, Any] = {}
        self.known: set[str] = set()
        for role in dict.fromkeys([DEPLOYMENT, *roles]):
            if not (ROLES / role / "meta/argument_specs.yml").is_file():
                raise AnsibleActionFail(f"mlops.mlflow_gcp has no role {role!r}")
            specs = loader.load_from_file(str(ROLES / role / "meta/argument_specs.yml"))
            (entry_point,) = specs["argument_specs"].values()
            defaults |= loader.load_from_file(str(ROLES / role / "defaults/main.yml"), trusted_as_template=True)
            self.known |= entry_point["options"].keys()
            if role in roles:
                self.options |= {name: Option(name, role, spec) for name, spec in entry_point["options"].items()}
        self.raw = {**defaults, **task_vars}
        self.templar = templar.copy_with_new_env(available_variables=self.raw)
        self.value = cache(self._value)

    def _value(self, name: str) -> Any:
        """The value of a variable; raises AnsibleUndefinedVariable, or another AnsibleError for a broken template."""
        if name not in self.raw:
            raise AnsibleUndefinedVariable(f"{name!r} is undefined")
        return self.templar.template(self.raw[name])

    def said(self, name: str) -> str:
        """The variable to name in messages: the one that NAME only passes on, or NAME itself."""
        passed = {name}
        while isinstance(raw := self.raw.get(name), str) and (reference := REFERENCE.fullmatch(raw)):
            if reference[1] not in self.known or reference[1] in passed:
                break
            name = reference[1]
            passed.add(name)
        return name

    def mentioned(self, name: str) -> set[str]:
        """All words in a variable's template and in the templates that it refers to; empty if it has no template."""
        found: set[str] = set()
        ahead = [name]
        while ahead:
            raw = self.raw.get(ahead.pop())
            template = isinstance(raw, (str, list, dict)) and "{{" in str(raw)
            words = set(re.findall(r"\w+", str(raw))) if template else set()
            ahead += (words - found) & self.raw.keys() - {"hostvars", "vars"}
            found |= words
        return found

    def comes_later(self, name: str) -> bool:
        """Whether a variable depends on the result of a role that has not run yet."""
        results = {f"{role}_result" for role in self.roles}
        return bool(self.mentioned(name) & results - self.raw.keys())


class Check:
    """One check of VARIABLES, except those that are in CHECKED with the same value."""

    def __init__(self, variables: Variables, checked: Mapping[str, Any]) -> None:
        self.variables, self.checked = variables, checked
        self.problems: dict[tuple[str, ...], str] = {}
        """A sentence for each invalid variable, or for several that are inconsistent, by their names."""
        self.warnings: list[str] = []
        self.values: dict[str, Any] = {}
        self.names = {name: said for name in variables.options if (said := variables.said(name)) != name}
        undefined: dict[str, str] = {}
        for name, option in variables.options.items():
            try:
                value = variables.value(name)
            except AnsibleUndefinedVariable as error:
                if not variables.comes_later(name):
                    undefined[name] = str(error)
                continue
            except AnsibleError as error:
                self.not_evaluated(option, error)
                continue
            self.values[name] = option.shown(value)
            if not self.is_checked(name):
                self.check_one(option, value)
        self.check_undefined(undefined)
        for rule, names in values.TOGETHER:
            self.check_together(rule, names)
        self.leave_out_consequences()

    def leave_out_consequences(self) -> None:
        """Drop the problems of variables that depend on another invalid variable."""
        causes = {name for said in self.problems for name in said}

        def follows(said: tuple[str, ...]) -> bool:
            return any((self.variables.mentioned(name) - set(said)) & causes for name in said)

        self.problems = {said: sentence for said, sentence in self.problems.items() if not follows(said)}

    def problem(self, *said: str, sentence: str) -> None:
        """Record the first problem found with a variable, or with several together."""
        self.problems.setdefault(said, sentence)

    def not_evaluated(self, option: Option, error: object) -> None:
        """Record that the template of a variable cannot be evaluated."""
        said = self.variables.said(option.name)
        reason = "" if option.secret else f": {one_line(error).rstrip('.')}"
        self.problem(said, sentence=f"{said} cannot be evaluated{reason}.")

    def is_checked(self, name: str) -> bool:
        """Whether a variable was already checked with its current value."""
        return name in self.checked and self.checked[name] == self.values[name]

    def check_one(self, option: Option, value: Any) -> None:
        """Check the type of a variable and apply the rule for its kind."""
        said, kind = self.variables.said(option.name), option.kind
        if value is None or (value == "" and option.required and option.spec["type"] == "str"):
            if option.required or (kind and not kind.optional):
                self.not_set(option)
            return
        try:
            typed = option.coerced(value, said)
        except ValueError as error:
            self.problem(said, sentence=str(error))
            return
        if kind is None:
            return
        try:
            kind.check(typed)
        except values.Refused as refused:
            if refused.value in (None, ""):
                self.not_set(option)
            else:
                verb = "is" if refused.value == typed else "has"
                self.problem(said, sentence=f"{said} {verb} {refused.value!r}; allowed: {refused.allowed}.")
            return
        doubt = kind.doubt and kind.doubt(typed)
        if doubt and (warning := f"{said} is {typed!r}, which {doubt}") not in self.warnings:
            self.warnings.append(warning)

    def not_set(self, option: Option) -> None:
        """Record that a variable is not set."""
        name, said = option.name, self.variables.said(option.name)
        # Who includes one role has the choice.
        told = said if said == name or DEPLOYMENT in self.variables.roles else f"{said} (or {name})"
        allowed = f"; allowed: {option.kind.words('')}" if option.kind else ""
        nobody = ", or [] for none" if option.kind and option.kind.parts else ""
        self.problem(said, sentence=f"{told} is not set{allowed}{nobody}.")

    def check_undefined(self, undefined: Mapping[str, str]) -> None:
        """Record the variables that are not set, or that refer to something undefined."""
        variables = self.variables
        for name, error in undefined.items():
            option = variables.options[name]
            if variables.said(name) in variables.raw:
                self.not_evaluated(option, error)
            elif option.required:
                self.not_set(option)

    def check_together(self, rule: Callable[..., str | None], names: tuple[str, ...]) -> None:
        """Check variables that must be consistent, unless one of them is already invalid or not known yet."""
        variables = self.variables
        said = {name: variables.said(name) for name in names}
        known = all(self.values.get(name) is not None for name in names)
        wrong = any((variable,) in self.problems for variable in said.values())
        if not known or wrong or all(map(self.is_checked, names)):
            return
        typed = {name: variables.options[name].coerced(variables.value(name), said[name]) for name in names}
        if told := rule(*typed.values()):
            shown = [
                f"{said[name]} is {value!r}"
                for name, value in typed.items()
                if value and not variables.options[name].secret
            ]
            self.problem(*said.values(), sentence=f"{', '.join(shown)}: {told}.")


class ActionModule(ActionBase):
    """Check variables on the controller, without a connection, an API call or a change."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the variables and their values; fails with a sentence for each problem."""
        result = super().run(tmp, task_vars)
        options = self.validate_argument_spec(
            argument_spec={
                "role": {"type": "str"},
                "roles": {"type": "list", "elements": "str"},
                "checked": {"type": "dict", "default": {}},
            },
            mutually_exclusive=[("role", "roles")],
            required_one_of=[("role", "roles")],
        )[1]
        roles = [options["role"]] if options["role"] else [DEPLOYMENT, *options["roles"]]
        variables = Variables(self._loader, self._templar, task_vars or {}, roles)
        check = Check(variables, options["checked"])
        if check.problems:
            raise AnsibleActionFail(" ".join(check.problems.values()))
        if check.warnings:
            result["warnings"] = check.warnings
        result.update(changed=False, variables=check.values, names=check.names)
        return result
