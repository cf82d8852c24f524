# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the exceptions of requests and google-auth mean: was the request sent, does the error pass, what to do about it."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import one_line, parse

# By the names of the classes, because not every supported version of google-auth has all of them; the first that fits.
AUTH_ADVICE = {
    "ReauthFailError": "Run gcloud auth application-default login again, or use a service account",
    "OAuthError": (
        "Check the credentials file: the token it points to may have expired, or the workload identity pool's provider does "
        "not accept its audience or attributes"
    ),
    "RefreshError": (
        "Check the credentials of {principal}: they may be expired, revoked, or not of the kind given in auth_kind"
    ),
    "UserAccessTokenError": "Run gcloud auth login, or use a service account",
    "MutualTLSChannelError": (
        "Check the client certificate: GOOGLE_API_CERTIFICATE_CONFIG names its configuration, and "
        "GOOGLE_API_USE_CLIENT_CERTIFICATE=false goes without"
    ),
    "ClientCertError": (
        "Check the client certificate: GOOGLE_API_CERTIFICATE_CONFIG names its configuration, and "
        "GOOGLE_API_USE_CLIENT_CERTIFICATE=false goes without"
    ),
    "TransportError": "Check the network and HTTPS_PROXY",
    "TimeoutError": "Check the network and HTTPS_PROXY",
    "ResponseError": "Check the proxy between this host and Google",
    # These are also DefaultCredentialsError.
    "MalformedError": "Check the contents of the credentials file",
    "InvalidResource": "Check the URLs in the credentials file",
    "InvalidOperation": "Check that auth_kind fits the credentials file",
    "InvalidValue": "Check the contents of the credentials file",
    "InvalidType": "Check the contents of the credentials file",
    "OSError": "Check that the credentials file exists and may be read",
    "DefaultCredentialsError": (
        "Run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to the path of a credentials file"
    ),
}
OTHER_AUTH_ADVICE = "Check the credentials of {principal} and the option auth_kind"
CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|doesn't match|hostname mismatch", re.I)
# What remains of a connection that was closed in the middle of TLS.
BROKEN_TLS = re.compile(r"\bEOF\b|BAD_RECORD_MAC|connection (was )?reset|timed out|has been closed", re.I)
TRANSIENT = frozenset({"ConnectionError", "Timeout", "ChunkedEncodingError", "TransportError", "TimeoutError"})


def ancestry(error: BaseException) -> list[str]:
    """The names of the exception's class and of those that it derives from."""
    return [each.__name__ for each in type(error).__mro__]


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it wraps: requests and urllib3 describe their own objects around the cause."""
    yield error
    wrapped = [getattr(error, name, None) for name in ("reason", "original_error")]
    for cause in (*wrapped, *error.args):
        if isinstance(cause, BaseException):
            yield from causes(cause)


def is_network(error: Exception) -> bool:
    """An exception of google-auth for a token that it could not fetch, rather than one that was refused."""
    return bool({"TransportError", "TimeoutError", "ResponseError"} & set(ancestry(error)))


def is_unsent(error: Exception) -> bool:
    """
    The request cannot have reached Google: no connection, no tunnel through the proxy, or no token.

    A ProxyError alone does not say so: it is also raised for a connection that is lost after the request went through the tunnel.
    """
    names = {name for cause in causes(error) for name in ancestry(cause)}
    return bool(names & {"ConnectTimeout", "NewConnectionError", "GoogleAuthError"}) or _no_tunnel(error)


def is_transient(error: Exception) -> bool:
    """The same request may succeed a moment later."""
    if getattr(error, "retryable", False):
        return True
    if not TRANSIENT & set(ancestry(error)):
        return False
    found = list(causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) or CERTIFICATE.search(str(cause)) for cause in found):
        return False
    if any("SSLError" in ancestry(cause) for cause in found):
        closed = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError, TimeoutError)
        return any(isinstance(cause, closed) or BROKEN_TLS.search(str(cause)) for cause in found)
    return "Tunnel connection failed: 4" not in str(error)


def _no_tunnel(error: Exception) -> bool:
    return "Tunnel connection failed" in str(error)


def reason(error: BaseException) -> str:
    """
    What happened, in one line: never the text of a tuple, which several arguments give an exception.

    google-auth adds the raw response to its own message; Google's words in it are the actual reason.
    """
    if isinstance(error, OSError) and error.strerror and "RequestException" not in ancestry(error):
        return one_line(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    args = [arg for arg in error.args if arg]
    if not args or isinstance(error, UnicodeError):
        return type(error).__name__ if not args else one_line(getattr(error, "reason", ""))
    if isinstance(error, KeyError):
        return f"{args[0]!r} is missing"
    text = reason(args[0]) if isinstance(args[0], BaseException) else _from_body(args[0]) or one_line(args[0])
    text = re.sub(r"^Error code (\w+): (.*?)( - https?://\S+)?$", r"\1: \2", text)
    for more in args[1:]:
        said = reason(more) if isinstance(more, BaseException) else _from_body(more)
        if said and said not in text:
            text = f"{text.rstrip('. :')}: {said}"
    return text.replace(": None", "")[:600]


def _from_body(body: Any) -> str:
    """Google's message in the body of a response, a text or already parsed; "" for anything else."""
    if isinstance(body, bytes):
        body = body.decode(errors="replace")
    if isinstance(body, Mapping):
        body = json.dumps(body)
    if not isinstance(body, str) or not body.lstrip().startswith(("{", "<")):
        return ""
    said = parse(body).message
    return "" if said in (body, "empty response", "no message") else said


def auth_advice(error: Exception, principal: str) -> str:
    """What to do about an exception of google-auth."""
    if "iam.serviceAccounts.getAccessToken" in reason(error):
        return (
            "The caller may not act as that service account: grant it roles/iam.serviceAccountTokenCreator on it (gcloud iam "
            "service-accounts add-iam-policy-binding)"
        )
    found = next((AUTH_ADVICE[name] for name in ancestry(error) if name in AUTH_ADVICE), OTHER_AUTH_ADVICE)
    return found.format(principal=principal)


def _is_bad_header(error: Exception) -> bool:
    """The only header that depends on options is the one with the access token."""
    bad = "InvalidHeader" in ancestry(error) or isinstance(error, UnicodeError)
    return bad or "invalid header value" in str(error).lower()


def connection_reason(error: Exception) -> str:
    """The root cause of a lost connection, without the descriptions of urllib3's objects."""
    if _is_bad_header(error):
        # The exception contains the header, and so the token.
        return "the access token contains blanks, line breaks or characters that no token has"
    innermost = error
    while wrapped := next((cause for cause in list(causes(innermost))[1:2] if isinstance(cause, Exception)), None):
        innermost = wrapped
    text = str(innermost) if isinstance(innermost, OSError) and innermost.strerror else reason(innermost)
    text = re.sub(r"^\w+\(.*?\): ", "", text)
    return text.replace("Remote end closed connection without response", "the connection was closed without a response")


def connection_advice(error: Exception) -> str:
    """What to do about a request without a response."""
    text = " ".join(str(cause) for cause in causes(error))
    if _is_bad_header(error):
        return "Set access_token or GCP_ACCESS_TOKEN to the token alone"
    if CERTIFICATE.search(text) or "CA certificate bundle" in text:
        return "Set REQUESTS_CA_BUNDLE to trust the proxy's certificate authority"
    if "InvalidProxyURL" in ancestry(error):
        return "Set HTTPS_PROXY to a URL such as http://proxy.example.com:3128"
    return "Check the network and HTTPS_PROXY"
