# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions that make a module fail, and the advice added to errors from Google."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import organization
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.permissions import required_permission, roles_of

API_DISABLED_REASONS = frozenset({"SERVICE_DISABLED", "accessNotConfigured"})
PROPAGATION_MESSAGES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Service accounts only: a user or group that does not exist will not appear by waiting.
        r"service ?account\b.*(does not|doesn't|may not) exist",
        r"unknown service account",
        r"permission 'iam\.serviceaccounts\.actas' denied",
        r"permission denied on secret",
        r"does not have permission to act as service account",
        r"take a few minutes to propagate",
        # A service agent that has just been granted the use of a key.
        r"permission denied on cloud kms key",
        r"permission 'cloudkms\.cryptokeyversions\.useto\w+' denied",
    )
)
KEY_DENIED = re.compile(r"denied on cloud kms key|cloudkms\.cryptoKeyVersions\.useTo", re.IGNORECASE)
KEY_UNUSABLE = re.compile(r"cryptoKeyVersions/\d+ is not enabled", re.IGNORECASE)
KEY_ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"


def one_line(text: object) -> str:
    """TEXT as a single line with single spaces."""
    return " ".join(str(text).split())


class GcpError(Exception):
    """Makes the module fail with this message."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class InvalidInput(GcpError):
    """An option has an invalid value, detected before the first request."""

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(f"option {option}: {value!r} is not allowed; {allowed}")


class InUse(GcpError):
    """A resource is not deleted because something else uses it."""


class ApiError(GcpError):
    """
    An unsuccessful response, or no response at all.

    status: the HTTP status, 0 without a response. reason: Google's symbol, such as PERMISSION_DENIED or
    instanceDoesNotExist ("" without one). message: Google's message. hint: what to do, may be "".
    retried: the request was sent more than once, so an earlier attempt may already have been carried out.
    passing: the same may succeed a moment later, once it is known whether this request was carried out.
    operation: the request was accepted, but its operation has failed.
    https://cloud.google.com/apis/design/errors
    """

    def __init__(
        self,
        action: str,
        status: int,
        reason: str,
        message: str,
        *,
        hint: str = "",
        retried: bool = False,
        passing: bool = False,
        operation: bool = False,
    ) -> None:
        self.status, self.reason, self.passing, self.operation = status, reason, passing, operation
        self.message, self.hint, self.retried = one_line(message), hint, retried
        symbols = " ".join(str(part) for part in (status or "", reason) if part)
        text = f"Cannot {action}: {self.message}" + (f" ({symbols})" if symbols else "")
        super().__init__(f"{text.rstrip('.')}. {hint}" if hint else text)

    @property
    def disabled(self) -> bool:
        """The API is not enabled in the project."""
        return self.reason in API_DISABLED_REASONS

    @property
    def in_use(self) -> bool:
        """Another resource uses this one, perhaps only until a change propagates."""
        return self.reason in ("resourceInUseByAnotherResource", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE")

    @property
    def constraint(self) -> str:
        """The constraint of an organization policy that forbids the request, "" if none does."""
        return organization.constraint(self.message)

    @property
    def propagating(self) -> bool:
        """
        A new account or role grant may not have propagated yet; a permanent mistake looks the same.
        https://cloud.google.com/iam/docs/access-change-propagation
        """
        return any(pattern.search(self.message) for pattern in PROPAGATION_MESSAGES)


class Refusal(NamedTuple):
    """What the body of an unsuccessful response says; symbols: all reasons, statuses and types of violations in it."""

    reason: str
    message: str
    metadata: Mapping[str, str]
    symbols: set[str]


def parse(text: str) -> Refusal:
    """
    The body of an unsuccessful response.

    Understands the formats of compute and sqladmin (errors[].reason), of the newer services (status, details[])
    and of the token endpoint (error, error_description); the text of anything else is the message.
    """
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(body, dict) and isinstance(error, str):
        return Refusal(error, str(body.get("error_description") or error), {}, {error})
    if not isinstance(error, dict):
        plain = one_line(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL))
        return Refusal("", plain[:300] or "empty response", {}, set())
    details = [d for d in error.get("details") or () if isinstance(d, dict)]
    info: dict[str, Any] = next((d for d in details if d.get("reason")), {})
    entries = [e for e in error.get("errors") or () if isinstance(e, dict)]
    candidates = [info.get("reason"), *(e.get("reason") for e in entries), error.get("status")]
    symbols = [str(symbol) for symbol in candidates if symbol]
    message = str(error.get("message") or (entries[0].get("message") if entries else "") or "no message")
    violations = [
        f"{violation.get('field', '')}: {violation.get('description', '')}"
        for detail in details
        for violation in detail.get("fieldViolations") or ()
        if violation.get("description", "") not in message
    ]
    # Such as a violated constraint, which the message of some APIs does not name.
    unmet = [violation for detail in details for violation in detail.get("violations") or ()]
    violations += [str(found["description"]) for found in unmet if found.get("description", "") not in message]
    reason = symbols[0] if symbols else ""
    symbols += [str(found["type"]) for found in unmet if found.get("type")]
    return Refusal(reason, "; ".join([message, *violations]), info.get("metadata") or {}, set(symbols))


def advice(status: int, text: str, principal: str, method: str = "", url: str = "") -> str:
    """What to do about the unsuccessful response TEXT to a request; "" when Google's own message is sufficient."""
    refusal = parse(text)
    message, symbols = refusal.message, refusal.symbols
    if symbols & API_DISABLED_REASONS:
        api = refusal.metadata.get("service") or next(iter(re.findall(r"[a-z]+\.googleapis\.com", message)), "the API")
        return f"Enable {api} (module mlops.mlflow_gcp.service_usage_services); a newly enabled API takes a few minutes to become available"
    if symbols & {"BILLING_DISABLED", "UREQ_PROJECT_BILLING_NOT_OPEN"} or "billing" in message.lower():
        return "Link the project to an open billing account"
    if constraint := organization.constraint(" ".join([message, *sorted(symbols)])):
        return organization.advice(constraint)
    if "SECURITY_POLICY_VIOLATED" in symbols or "vpcServiceControls" in message:
        return "A perimeter of VPC Service Controls forbids this: ask its administrator to let this caller in"
    if "TOS_VIOLATION" in symbols or "suspended" in message.lower():
        return ""
    if status == 401:
        return (
            f"Check the credentials of {principal}: they may be expired, revoked, or not of the kind given in auth_kind"
        )
    if symbols & {"RESOURCE_EXHAUSTED", "quotaExceeded", "QUOTA_EXCEEDED", "rateLimitExceeded"} or status == 429:
        return "Wait and run again, or request an increase on the project's Quotas page"
    if KEY_DENIED.search(message):
        return (
            f"Grant {KEY_ROLE} on the key to the service agent of {urlsplit(url).hostname or 'this API'} (module "
            "mlops.mlflow_gcp.kms_key_agents), and check that the key exists"
        )
    if KEY_UNUSABLE.search(message):
        return "Enable this version of the key, or make an enabled version the primary one"
    if status == 403:
        permission = required_permission(method, url, message, refusal.metadata)
        grant = f"grant {principal} {_roles(permission)}"
        # Google does not reveal whether a resource exists to callers without permission.
        unknown = symbols & {"CONSUMER_INVALID"} or re.search(r"(may|does|do) not exist", message)
        return f"Check that the resource exists, and {grant}" if unknown else grant[0].upper() + grant[1:]
    return ""


def _roles(permission: str) -> str:
    """The role to grant for PERMISSION, "" if it is not known."""
    if not permission:
        return "the required role"
    reader, deployer = roles_of(permission)
    if reader and deployer:
        return f"a role with {permission}: {reader} to verify, {deployer} to deploy"
    role = reader or deployer
    return f"a role with {permission}: {role}" if role else f"a role with {permission}"
