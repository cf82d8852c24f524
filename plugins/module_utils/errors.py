# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one family of exceptions that a module of this collection ends with, and the advice that goes with Google's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

DISABLED = frozenset({"SERVICE_DISABLED", "accessNotConfigured"})
SPREADING = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Users and groups that do not exist never will by waiting.
        r"service ?account\b.*(does not|doesn't|may not) exist",
        r"unknown service account",
        r"permission 'iam\.serviceaccounts\.actas' denied",
        r"permission denied on secret",
        r"take a few minutes to propagate",
    )
)
PERMISSION = re.compile(r"[a-z][a-zA-Z]*(?:\.[a-z][a-zA-Z]*){2,3}(?![\w.])")


def one_line(text: object) -> str:
    """TEXT as a single line with single spaces."""
    return " ".join(str(text).split())


class GcpError(Exception):
    """Ends the module with its text as the message."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class InvalidInput(GcpError):
    """An option that cannot be right, found before the first call."""

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(f"option {option}: {value!r} is not allowed; {allowed}")


class ApiError(GcpError):
    """
    An answer that is not a success, or no answer at all.

    status: the HTTP status, 0 when there was no answer. reason: Google's symbol, such as PERMISSION_DENIED or
    instanceDoesNotExist ("" when there is none). message: Google's sentence. hint: what to do, may be "".
    retried: an earlier try of the same request was lost, so it may have been carried out already.
    https://cloud.google.com/apis/design/errors
    """

    def __init__(
        self, attempt: str, status: int, reason: str, message: str, *, hint: str = "", retried: bool = False
    ) -> None:
        self.attempt, self.status, self.reason = attempt, status, reason
        self.message, self.hint, self.retried = one_line(message), hint, retried
        symbols = " ".join(str(part) for part in (status or "", reason) if part)
        text = f"Cannot {attempt}: {self.message}" + (f" ({symbols})" if symbols else "")
        super().__init__(f"{text.rstrip('.')}. {hint}" if hint else text)

    @property
    def disabled(self) -> bool:
        """The API is not enabled in the project."""
        return self.reason in DISABLED

    @property
    def spreading(self) -> bool:
        """
        An account or a grant made moments ago may not have reached all of Google yet; a lasting mistake looks the same.
        https://cloud.google.com/iam/docs/access-change-propagation
        """
        return any(pattern.search(self.message) for pattern in SPREADING)


def parse(text: str) -> tuple[str, str, Mapping[str, str], set[str]]:
    """
    Reason, message, metadata and all symbols of the body of an unsuccessful answer.

    Understands the shapes of compute and sqladmin (errors[].reason), of the newer services (status, details[])
    and of the token endpoint (error, error_description); anything else is its own message.
    """
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        return error, str(body.get("error_description") or error), {}, {error}
    if not isinstance(error, dict):
        plain = one_line(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL))
        return "", plain[:300] or "an empty answer", {}, set()
    details = [d for d in error.get("details") or () if isinstance(d, dict)]
    info = next((d for d in details if d.get("reason")), {})
    entries = [e for e in error.get("errors") or () if isinstance(e, dict)]
    symbols = [info.get("reason"), *(e.get("reason") for e in entries), error.get("status")]
    symbols = [str(symbol) for symbol in symbols if symbol]
    message = str(error.get("message") or (entries[0].get("message") if entries else "") or "no message")
    violations = [
        f"{violation.get('field', '')}: {violation.get('description', '')}"
        for detail in details
        for violation in detail.get("fieldViolations") or ()
        if violation.get("description", "") not in message
    ]
    return (symbols or [""])[0], "; ".join([message, *violations]), info.get("metadata") or {}, set(symbols)


def advice(status: int, text: str, principal: str) -> str:
    """What to do about the unsuccessful answer TEXT; "" where Google's own sentence says enough."""
    _, message, metadata, symbols = parse(text)
    if symbols & DISABLED:
        api = metadata.get("service") or next(iter(re.findall(r"[a-z]+\.googleapis\.com", message)), "the API")
        return f"Enable {api} (module mlops.mlflow_gcp.service_usage_services); just enabled, it takes a few minutes to work"
    if symbols & {"BILLING_DISABLED", "UREQ_PROJECT_BILLING_NOT_OPEN"} or "billing" in message.lower():
        return "Link the project to an open billing account"
    if "constraints/" in message or "conditionNotMet" in symbols:
        return "An organisation policy forbids it: ask its administrator or change the option it names"
    if "TOS_VIOLATION" in symbols or "suspended" in message.lower():
        return ""
    if status == 401:
        return f"Check the credentials of {principal}: expired, revoked or of another kind than auth_kind says"
    if symbols & {"RESOURCE_EXHAUSTED", "quotaExceeded", "QUOTA_EXCEEDED", "rateLimitExceeded"} or status == 429:
        return "Wait and run again, or ask for more on the project's Quotas page"
    if status == 403:
        permission = metadata.get("permission") or next(iter(PERMISSION.findall(message)), "")
        grant = f"grant {principal} {'a role with ' + permission if permission else 'the role it needs'}"
        # Google does not tell those who may not know whether something is there.
        unknown = symbols & {"CONSUMER_INVALID"} or re.search(r"(may|does|do) not exist", message)
        return f"Check that what it names exists, and {grant}" if unknown else grant[0].upper() + grant[1:]
    return ""
