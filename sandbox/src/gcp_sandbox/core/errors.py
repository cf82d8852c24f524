"""Errors in the format of Google's APIs.

Most APIs (``esf``) answer ``{"error": {code, message, status, details}}``; Compute Engine, Cloud SQL and Cloud Storage
(``legacy``) have ``errors[]`` with a ``reason`` instead of the status, IAM (``mixed``) has both.
https://cloud.google.com/apis/design/errors
"""

from __future__ import annotations

from typing import Any

STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
REASONS = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    405: "httpMethodNotAllowed",
    409: "alreadyExists",
    412: "conditionNotMet",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
    500: "internalError",
    501: "notImplemented",
    503: "backendError",
}
# google.rpc.Code, which operations have instead of an HTTP status.
RPC_CODES = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}


class ApiError(Exception):
    """An error response.

    code: HTTP status. message: in Google's wording. reason: ``errors[].reason`` of the legacy family (default by code).
    status: canonical name (default by code), for example FAILED_PRECONDITION with 400. details: google.rpc details.
    domain, location, location_type: further keys of ``errors[]``. headers: further response headers.
    legacy: False omits ``errors[]`` from a response of the legacy family (as its front end does for some 400s).
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        status: str | None = None,
        details: list[dict[str, Any]] | None = None,
        domain: str = "global",
        location: str | None = None,
        location_type: str | None = None,
        headers: dict[str, str] | None = None,
        legacy: bool = True,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or REASONS.get(code, "invalid")
        self.explicit_status = status
        self.status = status or STATUS_NAMES.get(code, "UNKNOWN")
        self.details = details or []
        self.domain = domain
        self.location = location
        self.location_type = location_type
        self.headers = headers or {}
        self.legacy = legacy
        self.extra = extra or {}

    def body(self, family: str) -> dict[str, Any]:
        """The JSON body in the given family, ``esf``, ``legacy`` or ``mixed``."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if family != "esf" and self.legacy:
            entry: dict[str, Any] = {"message": self.message, "domain": self.domain, "reason": self.reason}
            if self.location:
                entry["location"] = self.location
            if self.location_type:
                entry["locationType"] = self.location_type
            error["errors"] = [entry | self.extra]
            if family == "mixed" or self.explicit_status or self.details:
                error["status"] = self.status
        else:
            error["status"] = self.status
        if self.details:
            error["details"] = self.details
        return {"error": error}

    def rpc(self) -> dict[str, Any]:
        """The google.rpc.Status of a failed long-running operation."""
        out: dict[str, Any] = {"code": RPC_CODES.get(self.status, 2), "message": self.message}
        return out | ({"details": self.details} if self.details else {})


def error_info(reason: str, domain: str, **metadata: str) -> dict[str, Any]:
    """A google.rpc.ErrorInfo detail."""
    out: dict[str, Any] = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": domain}
    return out | ({"metadata": metadata} if metadata else {})


def bad_request(field: str, description: str) -> dict[str, Any]:
    """A google.rpc.BadRequest detail with one violation."""
    violation = {"field": field, "description": description} if field else {"description": description}
    return {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'}


def unauthenticated(missing: bool, reason: str = "ACCESS_TOKEN_EXPIRED") -> ApiError:
    """The 401 for a request without credentials, or with invalid or expired ones."""
    if missing:
        message = (
            "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or "
            "other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
        )
        return ApiError(
            401,
            message,
            reason="required",
            location="Authorization",
            location_type="header",
            headers=_CHALLENGE,
            details=[error_info("CREDENTIALS_MISSING", "googleapis.com")],
        )
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    challenge = {"WWW-Authenticate": _CHALLENGE["WWW-Authenticate"] + ', error="invalid_token"'}
    return ApiError(
        401,
        message,
        reason="authError",
        location="Authorization",
        location_type="header",
        headers=challenge,
        details=[error_info(reason, "googleapis.com")],
    )


def service_disabled(host: str, title: str, number: str) -> ApiError:
    """The 403 for an API that the project has not enabled."""
    url = f"https://console.developers.google.com/apis/api/{host}/overview?project={number}"
    message = (
        f"{title} has not been used in project {number} before or it is disabled. Enable it by visiting {url} then "
        "retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
    )
    return ApiError(
        403,
        message,
        reason="accessNotConfigured",
        domain="usageLimits",
        status="PERMISSION_DENIED",
        extra={"extendedHelp": "https://console.developers.google.com"},
        details=[
            error_info(
                "SERVICE_DISABLED",
                "googleapis.com",
                activationUrl=url,
                consumer=f"projects/{number}",
                containerInfo=number,
                service=host,
                serviceTitle=title,
            ),
            {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": message},
            {
                "@type": "type.googleapis.com/google.rpc.Help",
                "links": [{"description": "Google developers console API activation", "url": url}],
            },
        ],
    )
