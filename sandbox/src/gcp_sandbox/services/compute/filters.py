"""List parameters of Compute Engine: filter, orderBy, maxResults, pageToken.

https://cloud.google.com/compute/docs/reference/rest/v1/networks/list
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from gcp_sandbox.core.errors import ApiError

Doc = dict[str, Any]
Test = Callable[[Doc], bool]
_TOKEN = re.compile(
    r"""\s*(?:(?P<paren>[()])|(?P<op>!=|<=|>=|=|<|>|:|eq\b|ne\b)|"(?P<quoted>(?:\\.|[^"\\])*)"|'(?P<single>[^']*)'"""
    r"""|(?P<word>[^\s()=!<>:"']+))"""
)


def page(items: list[Doc], params: dict[str, Any]) -> tuple[list[Doc], str]:
    """The items of one page, and the token of the next page ("" if there is none).  Raises ApiError 400."""
    items = [item for item in items if matches(params.get("filter", ""))(item)] if params.get("filter") else items
    if str(params.get("orderBy", "")).startswith("creationTimestamp"):
        items = sorted(items, key=lambda d: d.get("creationTimestamp", ""), reverse="desc" in params["orderBy"])
    start = 0
    if token := params.get("pageToken"):
        try:
            start = int(base64.urlsafe_b64decode(token).decode())
        except ValueError:
            raise ApiError(400, f"Invalid value for field 'pageToken': '{token}'.", reason="invalid") from None
    size = params.get("maxResults", 500)
    if not 0 <= size <= 500:
        raise ApiError(
            400,
            f"Invalid value for field 'maxResults': '{size}'. Value must be in the range [0, 500].",
            reason="invalid",
        )
    end = start + (size or 500)
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else ""
    return items[start:end], following


def matches(text: str) -> Test:
    """A predicate for a filter expression.  Raises ApiError 400."""
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _bad(text)
        at = found.end()
        kind = found.lastgroup or ""
        value = found.group(kind)
        tokens.append((kind, re.sub(r"\\(.)", r"\1", value) if kind == "quoted" and "\\b" not in value else value))
    parser = _Parser(tokens, text)
    test = parser.either()
    if parser.rest:
        raise _bad(text)
    return test


def _bad(text: str) -> ApiError:
    return ApiError(
        400, f"Invalid value for field 'filter': '{text}'. Invalid list filter expression.", reason="invalid"
    )


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], text: str) -> None:
        self.rest, self._text = tokens, text

    def _next(self) -> tuple[str, str]:
        return self.rest[0] if self.rest else ("", "")

    def _take(self) -> tuple[str, str]:
        if not self.rest:
            raise _bad(self._text)
        return self.rest.pop(0)

    def either(self) -> Test:
        tests = [self.all()]
        while self._next() == ("word", "OR"):
            self._take()
            tests.append(self.all())
        return lambda doc: any(test(doc) for test in tests)

    def all(self) -> Test:
        tests = [self.one()]
        while self.rest and self._next() not in (("word", "OR"), ("paren", ")")):
            if self._next() == ("word", "AND"):
                self._take()
            tests.append(self.one())
        return lambda doc: all(test(doc) for test in tests)

    def one(self) -> Test:
        kind, value = self._take()
        if (kind, value) == ("word", "NOT"):
            inner = self.one()
            return lambda doc: not inner(doc)
        if (kind, value) == ("paren", "("):
            inner = self.either()
            if self._take() != ("paren", ")"):
                raise _bad(self._text)
            return inner
        if kind != "word" or self._next()[0] != "op":
            raise _bad(self._text)
        operator = self._take()[1]
        literal = self._take()
        if literal[0] not in ("word", "quoted", "single"):
            raise _bad(self._text)
        return _comparison(value, operator, literal[1])


def _comparison(field: str, operator: str, literal: str) -> Test:
    def test(doc: Doc) -> bool:
        value: Any = doc
        for part in field.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if operator == ":":
            if literal == "*":
                return value is not None
            values = value if isinstance(value, list | dict) else [value]
            return any(literal.lower() in str(v).lower() for v in values)
        if value is None:
            return operator in ("!=", "ne")
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        if operator in ("eq", "ne"):
            return (re.fullmatch(literal, shown) is not None) == (operator == "eq")
        if operator in ("=", "!="):
            pattern = re.escape(literal).replace(r"\*", ".*")
            return (re.fullmatch(pattern, shown) is not None) == (operator == "=")
        left: Any = shown
        right: Any = literal
        if re.fullmatch(r"-?[\d.]+", shown) and re.fullmatch(r"-?[\d.]+", literal):
            left, right = float(shown), float(literal)
        return {"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[operator]

    return test
