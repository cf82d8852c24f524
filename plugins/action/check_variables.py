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
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import core, warm

ROLES = Path(__file__).resolve().parents[2] / "roles"
# The role that has the variables of a whole deployment.
DEPLOYMENT = "mlflow"
REFERENCE = re.compile(r"\s*\{\{\s*(\w+)\s*\}\}\s*")
# Variables that say where a resource is, not what it is called.
PLACES = ("_project_id", "_region")
TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
MASK = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"

# This is the first action of every role.
warm.up()


@cache
def files(role: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables of a role, as its argument specification has them, and their defaults, as templates."""
    if not (ROLES / role / "meta/argument_specs.yml").is_file():
        raise AnsibleActionFail(f"mlops.mlflow_gcp has no role {role!r}")
    loader = DataLoader()
    specs = loader.load_from_file(str(ROLES / role / "meta/argument_specs.yml"))
    (entry_point,) = specs["argument_specs"].values()
    return entry_point["options"], core.templates_from(loader, str(ROLES / role / "defaults/main.yml"))


class Option:
    """A variable of a role, as the role's argument specification has it."""

    def __init__(self, name: str, role: str, spec: Mapping[str, Any]) -> None:
        self.name = name
        self.required: bool = spec.get("required", False)
        self.secret: bool = spec.get("no_log", name.endswith("_secret"))
        self.kind = values.kind_of(name, role)
        # The role's own defaults are used, never the copies in the specification.
        self.spec = {key: value for key, value in spec.items() if key not in ("default", "required", "description")}

    def coerced(self, value: Any) -> Any:
        """VALUE in the option's type; raises Refused if it cannot be converted or is not one of the choices."""
        type_, kind = self.spec["type"], self.kind
        if kind and kind.container:
            return kind.convert(value)
        result = ArgumentSpecValidator({self.name: self.spec}).validate({self.name: value})
        # Ansible takes true for 1, and makes text of everything.
        wrong = (
            isinstance(value, bool) if type_ in ("int", "float") else type_ == "str" and isinstance(value, (list, dict))
        )
        if result.error_messages or wrong:
            raise values.Refused(self.shown(value), self.words(value))
        return result.validated_parameters[self.name]

    def words(self, value: Any) -> str:
        """What is allowed instead of VALUE."""
        type_ = self.spec["type"]
        if choices := self.spec.get("choices"):
            return ", ".join(map(str, choices))
        kind = self.kind.words(value) if self.kind else ""
        return ", ".join(filter(None, ["" if kind and type_ == "str" else TYPES.get(type_, ""), kind]))

    def is_missing(self, value: Any) -> bool:
        """Whether VALUE is none: null, or the "" of a survey's unanswered question where that is no value."""
        if value is None:
            return not (self.kind and self.kind.mapping)
        is_text = self.spec["type"] in ("str", "raw") and "choices" not in self.spec
        return value == "" and (self.required or not is_text)

    def shown(self, value: Any) -> Any:
        """VALUE, or a mask in place of a secret."""
        return MASK if self.secret and value else value


class Variables:
    """The variables of some roles on one host: their specifications and values."""

    def __init__(self, templar: Templar, task_vars: Mapping[str, Any], roles: list[str]) -> None:
        self.roles = roles
        self.options: dict[str, Option] = {}
        defaults: dict[str, Any] = {}
        self.known: set[str] = set()
        for role in dict.fromkeys([DEPLOYMENT, *roles]):
            specs, own = files(role)
            defaults |= own
            self.known |= specs.keys()
            if role in roles:
                self.options |= {name: Option(name, role, spec) for name, spec in specs.items()}
        self.raw = {**defaults, **task_vars}
        self.templar = templar.copy_with_new_env(available_variables=self.raw)
        self.value = cache(self._value)

    def _value(self, name: str) -> Any:
        """The value of a variable; raises AnsibleUndefinedVariable, or another AnsibleError for a broken template."""
        if name not in self.raw:
            raise AnsibleUndefinedVariable(f"{name!r} is undefined")
        try:
            return self.templar.template(self.raw[name])
        except AnsibleError:
            raise
        except Exception as error:
            # Before ansible-core 2.19, an error in a template comes as it is.
            raise AnsibleError(str(error)) from error

    def said(self, name: str) -> str:
        """The variable to name in messages: the one that NAME only passes on, or NAME itself."""
        passed = {name}
        while isinstance(raw := self.raw.get(name), str) and (reference := REFERENCE.fullmatch(raw)):
            if reference[1] not in self.known or reference[1] in passed:
                break
            name = reference[1]
            passed.add(name)
        return name

    def origin(self, name: str) -> str:
        """The variable that the user has set, or would set, to change NAME: the one from which it derives its name."""
        passed = {name}
        while isinstance(raw := self.raw.get(name), str):
            found = {
                word for part in re.findall(r"\{\{(.*?)\}\}", raw) for word in re.findall(r"\w+", part)
            } & self.known
            names = [word for word in found if not word.endswith(PLACES)]
            if len(names) != 1 or names[0] in passed:
                break
            name = names[0]
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
    """One check of VARIABLES, except those that are in CHECKED with the same value. OTHERS are the play's other hosts."""

    def __init__(self, variables: Variables, checked: Mapping[str, Any], others: Mapping[str, Variables]) -> None:
        self.variables, self.checked = variables, checked
        self.problems: dict[tuple[str, ...], str] = {}
        """A sentence for each invalid variable, or for several that are inconsistent, by their names."""
        self.warnings: list[str] = []
        self.values: dict[str, Any] = {}
        """What the variables are, each in its type, secrets masked; and as they are."""
        self.typed: dict[str, Any] = {}
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
            self.check_one(option, value)
        self.check_undefined(undefined)
        self.check_names()
        for rule, names in values.TOGETHER:
            self.check_together(rule, names)
        for host, other in others.items():
            self.check_other_host(host, other)
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
        if option.is_missing(value):
            self.not_set(option)
            return
        try:
            typed = self.typed[option.name] = option.coerced(value)
            self.values[option.name] = option.shown(typed)
            if kind is None or self.is_checked(option.name):
                return
            kind.check(typed)
        except values.Refused as refused:
            if refused.value in (None, ""):
                self.not_set(option)
            else:
                verb = "is" if refused.value in (value, self.typed.get(option.name), MASK) else "has"
                self.problem(said, sentence=f"{said} {verb} {refused.value!r}; allowed: {refused.allowed}.")
            return
        doubt = kind.doubt and kind.doubt(typed)
        if doubt and (warning := f"{said} is {typed!r}, which {doubt}") not in self.warnings:
            self.warnings.append(warning)

    def not_set(self, option: Option) -> None:
        """Record that a variable is not set."""
        name, said = option.name, self.variables.said(option.name)
        # Who includes one role has the choice.
        told = said if said == name or DEPLOYMENT in self.variables.roles else f"{name} (or {said})"
        none = "[]" if option.kind and option.kind.container is list else '""' if not option.is_missing("") else ""
        allowed = ", or ".join(filter(None, [option.words(""), none and f"{none} for none"]))
        self.problem(said, sentence=f"{told} is not set; allowed: {allowed}.")

    def check_undefined(self, undefined: Mapping[str, str]) -> None:
        """Record the variables that are not set, or that refer to something undefined."""
        variables = self.variables
        for name, error in undefined.items():
            option = variables.options[name]
            if variables.said(name) in variables.raw:
                self.not_evaluated(option, error)
            elif option.required:
                self.not_set(option)

    def check_names(self) -> None:
        """Check the length of all names that the roles derive from variables; name the variable to shorten."""
        variables = self.variables
        tightest: dict[str, int] = {}
        for name in values.NAMES:
            parts = re.findall(r"{(\w+)}", name.pattern)
            if not all(isinstance(self.typed.get(part), str) for part in parts):
                continue
            if name.when and self.typed.get(name.when[0]) != name.when[1]:
                continue
            called = name.pattern.format(**self.typed)
            # Each part of a bucket's name between dots.
            too_long = max(map(len, called.split("."))) - name.longest
            (part,) = [part for part in parts if not part.endswith(PLACES)]
            cause = variables.origin(part)
            value = variables.value(cause)
            room = len(str(value)) - too_long
            if too_long <= 0 or room >= tightest.get(cause, room + 1):
                continue
            tightest[cause] = room
            self.problems[(cause,)] = (
                f"{cause} is {value!r}, {len(str(value))} characters, and has at most {room} here: the name of {name.what}"
                f"{'' if cause == part else f' ({part})'} is {called!r}, and has at most {name.longest}."
            )

    def check_together(self, rule: Callable[..., str | None], names: tuple[str, ...]) -> None:
        """Check variables that must be consistent, unless one of them is already invalid or not known yet."""
        variables = self.variables
        said = {name: variables.said(name) for name in names}
        known = all(name in self.typed for name in names)
        wrong = any((variable,) in self.problems for variable in said.values())
        if not known or wrong or all(map(self.is_checked, names)):
            return
        typed = {name: self.typed[name] for name in names}
        if told := rule(*typed.values()):
            shown = [
                f"{said[name]} is {value!r}"
                for name, value in typed.items()
                if value and not variables.options[name].secret
            ]
            self.problem(*said.values(), sentence=f"{', '.join(shown)}: {told}.")

    def check_other_host(self, host: str, other: Variables) -> None:
        """Check that another host of the play has neither the same load balancer nor one of the same domains."""
        variables = self.variables
        names = ("iap_lb_project_id", "iap_lb_name", "iap_lb_domain", "iap_lb_extra_domains")
        if not all(name in self.typed for name in names) or all(map(self.is_checked, names)):
            return
        try:
            project, balancer, domain, extra = (other.value(name) for name in names)
        except AnsibleError:
            return  # reported for that host
        if (project, balancer) == (self.typed["iap_lb_project_id"], self.typed["iap_lb_name"]):
            cause = variables.origin("iap_lb_name")
            self.problem(
                cause,
                sentence=f"{cause} is {variables.value(cause)!r} on {host} too, in the same project {project}: give each "
                f"host its own name.",
            )
        theirs = {domain, *(values.listed(extra) or ())}
        for name in ("iap_lb_domain", "iap_lb_extra_domains"):
            for shared in [part for part in values.listed(self.typed[name]) or () if part in theirs]:
                said = variables.said(name)
                self.problem(
                    said,
                    sentence=f"{said} {'is' if shared == self.typed[name] else 'has'} {shared!r}, which {host} has too: a "
                    f"domain leads to one load balancer only, so give each host its own.",
                )


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
        variables = Variables(self._templar, task_vars or {}, roles)
        check = Check(variables, options["checked"], self.others(task_vars or {}, roles))
        if check.problems:
            raise AnsibleActionFail(" ".join(check.problems.values()))
        if check.warnings:
            result["warnings"] = check.warnings
        result.update(changed=False, variables=check.values, names=check.names)
        return result

    def others(self, task_vars: Mapping[str, Any], roles: list[str]) -> dict[str, Variables]:
        """The variables of the play's other hosts that have a load balancer."""
        if "iap_lb" not in roles or "hostvars" not in task_vars:
            return {}
        hosts = [
            host for host in task_vars.get("ansible_play_hosts_all", ()) if host != task_vars.get("inventory_hostname")
        ]
        return {host: Variables(self._templar, task_vars["hostvars"].raw_get(host), ["iap_lb"]) for host in hosts}
