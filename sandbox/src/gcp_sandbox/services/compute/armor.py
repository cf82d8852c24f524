"""Google Cloud Armor: the rules of a security policy, checked when they are written, and applied to requests.

https://cloud.google.com/armor/docs/rules-language-reference, https://cloud.google.com/armor/docs/security-policy-overview
"""

from __future__ import annotations

import http
import ipaddress
import re
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from gcp_sandbox.core import conditions
from gcp_sandbox.services.compute.base import Doc, invalid, missing

LAST = 2147483647
_DENIED = ("403", "404", "502")
_RATES = ("throttle", "rate_based_ban")
_RANGES = 10


def _in_range(address: str, block: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(block, strict=False)


def _unknown(*_: Any) -> bool:
    """Google's own rule sets and lists of addresses, which the sandbox does not have, match nothing."""
    return False


_LANGUAGE = conditions.Language(
    names=frozenset(
        (
            *("origin.ip", "origin.user_ip", "origin.region_code", "origin.asn"),
            *("origin.tls_ja3_fingerprint", "origin.tls_ja4_fingerprint"),
            *("request.headers", "request.method", "request.path", "request.query", "request.scheme"),
            *("token.recaptcha_action.score", "token.recaptcha_action.valid", "token.recaptcha_session.score"),
            *("token.recaptcha_session.valid", "token.recaptcha_exemption.valid"),
        )
    ),
    functions={
        "inIpRange": _in_range,
        "evaluatePreconfiguredWaf": _unknown,
        "evaluatePreconfiguredExpr": _unknown,
        "evaluateThreatIntelligence": _unknown,
        "evaluateAdaptiveProtectionAutoDeploy": _unknown,
        "evaluateAddressGroup": _unknown,
        "int": int,
    },
    methods={
        "contains": lambda text, part: part in text,
        "startsWith": lambda text, part: text.startswith(part),
        "endsWith": lambda text, part: text.endswith(part),
        "matches": lambda text, pattern: re.search(pattern, text) is not None,
        "lower": lambda text: text.lower(),
        "upper": lambda text: text.upper(),
        "size": len,
        "urlDecode": unquote,
    },
)


# -- checked -------------------------------------------------------------------


def check(rules: list[Doc]) -> None:
    """Refuse rules that Google would refuse.  Raises ApiError 400."""
    priorities: set[int] = set()
    for i, rule in enumerate(rules):
        where = f"rules[{i}]"
        if "priority" not in rule:
            raise missing(f"resource.{where}.priority")
        if not 0 <= rule["priority"] <= LAST:
            raise invalid(f"{where}.priority", rule["priority"], f"The priority must be between 0 and {LAST}.")
        if rule["priority"] in priorities:
            raise invalid(f"{where}.priority", rule["priority"], "Cannot have rules with the same priorities.")
        priorities.add(rule["priority"])
        _check_action(where, rule)
        _check_match(where, rule)


def _check_action(where: str, rule: Doc) -> None:
    action = rule.get("action")
    if not action:
        raise missing(f"resource.{where}.action")
    code = re.fullmatch(r"deny\((\d+)\)", action)
    if action not in ("allow", "redirect", *_RATES) and not (code and code.group(1) in _DENIED):
        known = ", ".join(("allow", *(f"deny({number})" for number in _DENIED), "redirect", *_RATES))
        raise invalid(f"{where}.action", action, f"The action must be one of: {known}.")
    if action in _RATES and "rateLimitOptions" not in rule:
        raise missing(f"resource.{where}.rateLimitOptions")
    if action == "redirect" and "redirectOptions" not in rule:
        raise missing(f"resource.{where}.redirectOptions")


def _check_match(where: str, rule: Doc) -> None:
    match = rule.get("match", {})
    expression = match.get("expr", {}).get("expression")
    if "versionedExpr" in match:
        if expression is not None:
            raise invalid(f"{where}.match", "", "Only one of versionedExpr and expr may be specified.")
        _check_ranges(f"{where}.match.config.srcIpRanges", match.get("config", {}).get("srcIpRanges", []))
        return
    if not expression:
        raise missing(f"resource.{where}.match")
    try:
        conditions.check(expression, _LANGUAGE)
    except conditions.ConditionError as error:
        raise invalid(f"{where}.match.expr.expression", expression, f"Error parsing expression: {error}.") from None


def _check_ranges(field: str, ranges: list[str]) -> None:
    if not ranges:
        raise missing(f"resource.{field}")
    if len(ranges) > _RANGES:
        raise invalid(field, len(ranges), f"At most {_RANGES} ranges may be specified.")
    for i, block in enumerate(ranges):
        if block == "*":
            continue
        try:
            ipaddress.ip_network(block, strict=False)
        except ValueError:
            raise invalid(f"{field}[{i}]", block, "Must be a valid IP address or CIDR range.") from None


# -- applied -------------------------------------------------------------------


def decide(policy: Doc, request: web.BaseRequest, *, secure: bool) -> Doc | None:
    """The rule that decides about a request: of those that match, the one with the lowest priority that is no preview."""
    known = _attributes(request, secure)
    rules = sorted(policy.get("rules", ()), key=lambda rule: rule["priority"])
    return next((rule for rule in rules if not rule.get("preview") and _matches(rule["match"], known)), None)


def refusal(rule: Doc) -> web.Response | None:
    """The response of a rule that does not let requests through, None for the others.

    Rate limits are taken as kept to, and challenges of reCAPTCHA as passed.
    """
    action = rule["action"]
    if code := re.fullmatch(r"deny\((\d+)\)", action):
        status = int(code.group(1))
        page = (
            '<!doctype html><meta charset="utf-8"><meta name=viewport content="width=device-width, initial-scale=1">'
            f"<title>{status}</title>{status} {http.HTTPStatus(status).phrase}"
        )
        return web.Response(status=status, text=page, content_type="text/html")
    options = rule.get("redirectOptions", {})
    if action == "redirect" and options.get("type") == "EXTERNAL_302":
        return web.Response(status=302, headers={"Location": options.get("target", "")})
    return None


def _attributes(request: web.BaseRequest, secure: bool) -> dict[str, Any]:
    address = request.remote or "127.0.0.1"
    return {
        "origin.ip": address,
        "origin.user_ip": address,
        # Addresses of this machine belong to no country and no network.
        "origin.region_code": "ZZ",
        "origin.asn": 0,
        "request.headers": {name.lower(): value for name, value in request.headers.items()},
        "request.method": request.method,
        "request.path": request.path,
        "request.query": request.raw_path.partition("?")[2],
        "request.scheme": "https" if secure else "http",
    }


def _matches(match: Doc, known: dict[str, Any]) -> bool:
    if "versionedExpr" in match:
        blocks = match["config"]["srcIpRanges"]
        return any(block == "*" or _in_range(known["origin.ip"], block) for block in blocks)
    try:
        return conditions.evaluate(match["expr"]["expression"], known, _LANGUAGE)
    except conditions.ConditionError:  # for example a header that the request does not have
        return False
