# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action check_variables; its documentation is in plugins/modules/check_variables.py."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import recorded, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import one_line
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import answers, core, failures, warm
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.shared import SharedChecks

ROLES = Path(__file__).resolve().parents[2] / "roles"
# The role that has the variables of a whole deployment.
DEPLOYMENT = "mlflow"
REFERENCE = re.compile(r"\s*\{\{\s*(\w+)\s*\}\}\s*")
# What no two hosts of a play may share.
BALANCER = ("iap_lb_project_id", "iap_lb_name", "iap_lb_domain", "iap_lb_extra_domains")
SERVICE = ("cloudrun_project_id", "cloudrun_region", "cloudrun_name")
INTERNAL = ("iap_internal_lb_project_id", "iap_internal_lb_region", "iap_internal_lb_name")
# Variables that say where a resource is, not what it is called.
PLACES = ("_project_id", "_region")
TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
MASK = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


@cache
def files(role: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables of a role, as its argument specification has them, and their defaults, as templates."""
    if not (ROLES / role / "meta/argument_specs.yml").is_file():
        raise AnsibleActionFail(f"mlops.mlflow_gcp has no role {role!r}")
    loader = DataLoader()
    # The loader's own cache would copy what it returns.
    specs = loader.load_from_file(str(ROLES / role / "meta/argument_specs.yml"), cache="none")
    (entry_point,) = specs["argument_specs"].values()
    defaults = core.templates_from(loader, str(ROLES / role / "defaults/main.yml"))
    # The loader's texts know their origin; as keys of caches they are not found by a plain text.
    return {str(name): spec for name, spec in entry_point["options"].items()}, {
        str(name): default for name, default in defaults.items()
    }


# This is the first action of every role; Ansible loads this file in its main process.
warm.up()
CHECKED = SharedChecks()
UNANSWERED = answers.take_out(
    {name for each in ROLES.glob("*/meta/argument_specs.yml") for name in files(each.parents[1].name)[0]}
)


class Option:
    """A variable of a role, as the role's argument specification has it."""

    def __init__(self, name: str, role: str, spec: Mapping[str, Any]) -> None:
        self.name, self.role = name, role
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
            specs, own = files(str(role))
            defaults |= own
            self.known |= specs.keys()
            if role in roles:
                self.options |= {name: Option(name, role, spec) for name, spec in specs.items()}
        self.defaults = defaults
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

    def is_set(self, name: str) -> bool:
        """Whether somebody has set a variable, to something else than its default."""
        return bool(self.raw.get(name) != self.defaults.get(name))

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

    def digest(self, name: str) -> str:
        """A digest of the templates and values that a variable's value comes from."""
        sources = {word: self.raw[word] for word in sorted({name, *self.mentioned(name)}) if word in self.raw}
        return hashlib.sha256(repr(sources).encode()).hexdigest()

    def comes_later(self, name: str) -> bool:
        """Whether a variable depends on the result of a role that has not run yet."""
        results = {f"{role}_result" for role in self.roles}
        return bool(self.mentioned(name) & results - self.raw.keys())


class Check:
    """One check of VARIABLES, except those that are CHECKED. OTHERS are the play's other hosts."""

    def __init__(self, variables: Variables, checked: set[str], others: Callable[[], Mapping[str, Variables]]) -> None:
        self.variables, self.checked = variables, checked
        self.problems: dict[tuple[str, ...], str] = {}
        """A sentence for each invalid variable, or for several that are inconsistent, by their names."""
        self.warnings: list[str] = []
        self.values: dict[str, Any] = {}
        """What the variables are, each in its type, secrets masked; and as they are."""
        self.typed: dict[str, Any] = {}
        self.names = {name: said for name in variables.options if (said := variables.said(name)) != name}
        self.door = self.front_door()
        undefined: dict[str, str] = {}
        for name, option in variables.options.items():
            if name in checked:
                continue
            if self.is_foreign(option):
                self.check_foreign(option)
                continue
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
        unique, check = {
            "cloud_run": (SERVICE, partial(self.check_same_name, SERVICE)),
            "internal": (INTERNAL, partial(self.check_same_name, INTERNAL)),
        }.get(self.door or "", (BALANCER, self.check_same_balancer))
        if not checked.issuperset(unique) and self.recall(*unique):
            for host, other in others().items():
                check(host, other)
        self.leave_out_consequences()

    def front_door(self) -> str | None:
        """The front door of a deployment, None if it is not valid or a single role is checked."""
        try:
            value = self.variables.value("mlflow_front_door") if DEPLOYMENT in self.variables.roles else None
        except AnsibleError:
            return None
        return value if value in values.FRONT_DOORS else None

    def is_foreign(self, option: Option) -> bool:
        """Whether a variable is one of a front door that the deployment does not have."""
        if self.door is None:
            return False
        if doors := values.ONLY_WITH.get(option.name):
            return self.door not in doors
        return option.role in values.FRONT_DOORS.values() and option.role != values.FRONT_DOORS[self.door]

    def check_foreign(self, option: Option) -> None:
        """Record that such a variable is set; otherwise its value is only kept, to take away what exists of that front door."""
        name = option.name
        with suppress(AnsibleError, values.Refused):
            self.typed[name] = option.coerced(self.variables.value(name))
            self.values[name] = option.shown(self.typed[name])
        if self.variables.is_set(name) and name.removeprefix(f"{option.role}_") not in values.FOR_REMOVAL:
            shown = f"is {self.values[name]!r}" if name in self.values else "is set"
            self.problem(
                name,
                sentence=f"{name} {shown}, but the front door {self.door} (mlflow_front_door) has no use for it: leave it out.",
            )

    def record(self) -> dict[str, Any]:
        """What a deployment records of its variables, see module_utils/recorded.py; {} for a single role."""
        if DEPLOYMENT not in self.variables.roles:
            return {}
        found = {}
        for name in sorted(recorded.NAMES & self.typed.keys()):
            option = self.variables.options[name]
            if name in recorded.WHERE or not (self.is_foreign(option) or self.is_default(option)):
                found[name] = self.typed[name]
        return found

    def is_default(self, option: Option) -> bool:
        """Whether a variable has the value that it has if nobody sets it."""
        if not self.variables.is_set(option.name):
            return True
        with suppress(AnsibleError, values.Refused):
            default = self.variables.templar.template(self.variables.defaults.get(option.name))
            return bool(option.coerced(default) == self.typed[option.name])
        return False

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

    def recall(self, *names: str) -> bool:
        """Whether the values of variables are known; those of variables that are not checked again are evaluated now."""
        for name in self.checked.intersection(names) - self.typed.keys():
            self.typed[name] = self.variables.options[name].coerced(self.variables.value(name))
        return self.typed.keys() >= {*names}

    def check_one(self, option: Option, value: Any) -> None:
        """Check the type of a variable and apply the rule for its kind."""
        said, kind = self.variables.said(option.name), option.kind
        if option.is_missing(value):
            self.not_set(option)
            return
        try:
            typed = self.typed[option.name] = option.coerced(value)
            self.values[option.name] = option.shown(typed)
            if kind is None:
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
            if self.checked.issuperset(parts) or not self.recall(*parts):
                continue
            if not all(isinstance(self.typed[part], str) for part in parts):
                continue
            if any(self.is_foreign(variables.options[part]) for part in parts):
                continue
            if name.when and (not self.recall(name.when[0]) or self.typed[name.when[0]] != name.when[1]):
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
        wrong = any((variable,) in self.problems for variable in said.values())
        if wrong or self.checked.issuperset(names) or not self.recall(*names):
            return
        if any(self.is_foreign(variables.options[name]) for name in names):
            return
        typed = {name: self.typed[name] for name in names}
        if told := rule(*typed.values()):
            shown = [
                f"{said[name]} is {value!r}"
                for name, value in typed.items()
                if value and not variables.options[name].secret
            ]
            self.problem(*said.values(), sentence=f"{', '.join(shown)}: {told}.")

    def check_same_balancer(self, host: str, other: Variables) -> None:
        """Check that another host of the play has neither the same load balancer nor one of the same domains."""
        variables = self.variables
        try:
            project, balancer, domain, extra = map(other.value, BALANCER)
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

    def check_same_name(self, names: tuple[str, ...], host: str, other: Variables) -> None:
        """Check that another host of the play has not the same resource; NAMES are its project, its region and its name."""
        variables = self.variables
        try:
            theirs = [other.value(name) for name in names]
        except AnsibleError:
            return  # reported for that host
        if theirs == [self.typed[name] for name in names]:
            cause = variables.origin(names[-1])
            self.problem(
                cause,
                sentence=f"{cause} is {variables.value(cause)!r} on {host} too, in the same project {theirs[0]} and region: give each "
                f"host its own name.",
            )


def given(variables: Variables) -> dict[str, Any]:
    """The variables that somebody has set, without secrets; raises AnsibleActionFail with a sentence for each that is not valid."""
    found: dict[str, Any] = {}
    problems = []
    for name, option in variables.options.items():
        if option.secret or not variables.is_set(name):
            continue
        value = variables.value(name)
        try:
            found[name] = option.coerced(value)
            if option.kind:
                option.kind.check(found[name])
        except values.Refused as refused:
            problems.append(f"{name} is {refused.value!r}; allowed: {refused.allowed}.")
    if problems:
        raise AnsibleActionFail(" ".join(problems))
    return found


class ActionModule(ActionBase):
    """Check variables on the controller, without a connection, an API call or a change."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the variables and their values; fails with a sentence for each problem."""
        with failures.noted(self._task, task_vars):
            return self.checked(tmp, task_vars)

    def checked(self, tmp: str | None, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """The result of run(), which notes a failure for the summary of the run."""
        result = super().run(tmp, task_vars)
        options = self.validate_argument_spec(
            argument_spec={
                "role": {"type": "str"},
                "roles": {"type": "list", "elements": "str"},
                "only_given": {"type": "bool", "default": False},
            },
            mutually_exclusive=[("role", "roles")],
        )[1]
        if not options["role"] and options["roles"] is None:
            return {**result, "changed": False, "unanswered": sorted(UNANSWERED)}
        task_vars = self.answered(task_vars or {})
        roles = [options["role"]] if options["role"] else [DEPLOYMENT, *options["roles"]]
        variables = Variables(self._templar, task_vars or {}, roles)
        if options["only_given"]:
            return {**result, "changed": False, "given": given(variables), "unanswered": sorted(UNANSWERED)}
        host = str((task_vars or {}).get("inventory_hostname", ""))
        digests = {name: variables.digest(name) for name in variables.options}
        # All variables are returned for several roles, so that they are evaluated anyway.
        before = CHECKED.of(host) if options["role"] else {}
        checked = {name for name, digest in digests.items() if before.get(name) == digest}
        check = Check(variables, checked, lambda: self.others(task_vars or {}, roles))
        if check.problems:
            raise AnsibleActionFail(" ".join(check.problems.values()))
        CHECKED.passed(host, {name: digests[name] for name in check.typed})
        if check.warnings:
            result["warnings"] = check.warnings
        result.update(changed=False, variables=check.values, names=check.names, unanswered=sorted(UNANSWERED))
        result["record"] = check.record()
        return result

    def answered(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """
        TASK_VARS without the unanswered questions of a survey.

        For the first task of a run that uses this file, on its first host, Ansible has put them together before it loads the file.
        """
        early = [name for name, answer in UNANSWERED.items() if task_vars.get(name) == answer]
        if not early:
            return task_vars
        hosts = task_vars.get("hostvars")
        own = hosts.raw_get(task_vars.get("inventory_hostname", "")) if hosts else {}
        kept = {name: value for name, value in task_vars.items() if name not in early}
        return kept | {name: own[name] for name in early if name in own}

    def others(self, task_vars: Mapping[str, Any], roles: list[str]) -> dict[str, Variables]:
        """The variables of the play's other hosts that have a load balancer."""
        if "iap_lb" not in roles or "hostvars" not in task_vars:
            return {}
        hosts = [
            host for host in task_vars.get("ansible_play_hosts_all", ()) if host != task_vars.get("inventory_hostname")
        ]
        return {
            host: Variables(self._templar, task_vars["hostvars"].raw_get(host), ["iap_lb", "cloudrun"])
            for host in hosts
        }
