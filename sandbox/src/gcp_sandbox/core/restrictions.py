"""What an organization can impose that has no API here: perimeters, quotas and the states of certificates.

The rules are stored in the state folder, where `gcp-sandbox policy` changes them while the sandbox is running.
"""

from __future__ import annotations

import base64
import dataclasses
import fnmatch
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path

from gcp_sandbox.core.errors import ApiError, error_info
from gcp_sandbox.core.rulebook import Rulebook

CERTIFICATE_STATES = ("FAILED_CAA_CHECKING", "FAILED_CAA_FORBIDDEN", "FAILED_NOT_VISIBLE", "FAILED_RATE_LIMITED")
# Kind -> (names of its two words, its options).
KINDS: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "perimeter": (("PROJECT", "API"), ()),
    "quota": (("METRIC", "LIMIT"), ("project", "region", "as")),
    "certificate": (("DOMAIN", "STATE"), ()),
}


class RestrictionError(ValueError):
    """An invalid rule; the message says why."""


@dataclasses.dataclass
class Restriction:
    """One rule.  kind: a key of KINDS; what: project, metric or domain (glob); value: API (glob), limit or state."""

    ident: int
    text: str
    kind: str
    what: str
    value: str
    options: dict[str, str]


def parse(words: list[str], ident: int = 0) -> Restriction:
    """Parse the words of a rule.  Raises RestrictionError."""
    kind = words[0] if words else ""
    if kind not in KINDS:
        raise RestrictionError(f"unknown kind {kind!r}: must be one of {', '.join(KINDS)}")
    names, allowed = KINDS[kind]
    if len(words) < 3:
        raise RestrictionError(f"{kind} needs {' and '.join(names)}")
    what, value = words[1:3]
    options: dict[str, str] = {}
    for word in words[3:]:
        key, equals, option = word.partition("=")
        if key not in allowed or not equals:
            known = ", ".join(f"{k}=" for k in allowed)
            raise RestrictionError(
                f"{word!r}: {f'options of {kind} are {known}' if known else f'{kind} has no options'}"
            )
        options[key] = option
    if kind == "quota" and not value.isdigit():
        raise RestrictionError(f"{value!r}: a limit is a number that is not negative")
    if options.get("as", "operation") != "operation":
        raise RestrictionError(f"as={options['as']}: must be as=operation")
    if kind == "certificate" and value not in CERTIFICATE_STATES:
        raise RestrictionError(f"unknown state {value!r}: must be one of {', '.join(CERTIFICATE_STATES)}")
    return Restriction(ident, shlex.join(words), kind, what, value, options)


class Book(Rulebook[Restriction]):
    """The rules on disk, in a state folder."""

    def __init__(self, state: Path) -> None:
        super().__init__(state / "restrictions.json", parse)

    def set(self, words: list[str]) -> Restriction:
        """Add a rule; it replaces one about the same.  Raises RestrictionError."""
        new = _about_what(parse(words))
        return self.add(words, instead=[old.ident for old in self.rules() if _about_what(old) == new])


def _scope(rule: Restriction) -> tuple[str, str]:
    return rule.options.get("project", "*"), rule.options.get("region", "*")


def _about_what(rule: Restriction) -> tuple[str, ...]:
    """What a rule is about: of two about the same, only one can hold."""
    # A project can be in perimeters of several APIs.
    return rule.kind, rule.what, rule.value if rule.kind == "perimeter" else "", *_scope(rule)


class Restrictions:
    """The rules of a running sandbox."""

    def __init__(self, state: Path) -> None:
        self._book = Book(state)

    def _about(self, kind: str) -> Iterator[Restriction]:
        return (rule for rule in reversed(self._book.current()) if rule.kind == kind)

    def check_perimeter(self, project_id: str, number: str, host: str) -> None:
        """Raise the 403 of VPC Service Controls if a perimeter refuses an API's calls about a project."""
        for rule in self._about("perimeter"):
            if not fnmatch.fnmatchcase(project_id, rule.what) or not fnmatch.fnmatchcase(host, rule.value):
                continue
            uid = base64.urlsafe_b64encode(secrets.token_bytes(40)).decode().rstrip("=")
            text = f"Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: {uid}"
            violated = {"type": "VPC_SERVICE_CONTROLS", "description": uid}
            details = [
                {"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [violated]},
                error_info(
                    "SECURITY_POLICY_VIOLATED", "googleapis.com", uid=uid, service=host, consumer=f"projects/{number}"
                ),
            ]
            # Only IAM, of the APIs that have errors[], is known to give another reason.
            reason = "forbidden" if host == "iam.googleapis.com" else "vpcServiceControls"
            raise ApiError(403, text, reason=reason, details=details)

    def quota(self, metric: str, project_id: str, region: str = "") -> tuple[int, bool] | None:
        """The limit of a metric and whether the operation fails instead of the call; None: the default applies."""
        for rule in self._about("quota"):
            project, where = _scope(rule)
            if rule.what == metric and fnmatch.fnmatchcase(project_id, project) and fnmatch.fnmatchcase(region, where):
                return int(rule.value), "as" in rule.options
        return None

    def certificate(self, domain: str) -> str:
        """The state that a domain of a managed certificate is in instead of ACTIVE, or ""."""
        return next((r.value for r in self._about("certificate") if fnmatch.fnmatchcase(domain, r.what)), "")
