"""The Common Expression Language: the subset that conditions of IAM bindings use, which other services extend.

https://cloud.google.com/iam/docs/conditions-attribute-reference
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>r?"(?:\\.|[^"\\])*"|r?'(?:\\.|[^'\\])*')|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<sign>&&|\|\||==|!=|<=|>=|[-+!<>().,:{}\[\]]))"""
)
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_PARTS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda t: t.year,
    "getMonth": lambda t: t.month - 1,
    "getDate": lambda t: t.day,
    "getDayOfMonth": lambda t: t.day - 1,
    "getDayOfYear": lambda t: t.timetuple().tm_yday - 1,
    "getDayOfWeek": lambda t: (t.weekday() + 1) % 7,
    "getHours": lambda t: t.hour,
    "getMinutes": lambda t: t.minute,
    "getSeconds": lambda t: t.second,
}


class ConditionError(ValueError):
    """The expression cannot be parsed, or refers to an attribute that the request does not have."""


@dataclasses.dataclass(frozen=True)
class Language:
    """What a service's expressions have beyond IAM's.

    names: the attributes, which are unknown in advance if there are none here.  functions: inIpRange(a, b), methods: a.lower().
    """

    names: frozenset[str] = frozenset()
    functions: dict[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
    methods: dict[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)


IAM = Language()


def evaluate(expression: str, attributes: dict[str, Any], language: Language = IAM) -> bool:
    """Whether an expression is true for a request.  attributes: "request.time" -> aware datetime, "resource.name" -> …

    Raises ConditionError.
    """
    try:
        parser = _Parser(expression, language)
        found = parser.either()(attributes)
        parser.end()
    except ConditionError:
        raise
    except (TypeError, AttributeError, ValueError, IndexError, RecursionError, re.error) as error:
        raise ConditionError(str(error)) from None
    if not isinstance(found, bool):
        raise ConditionError("the expression is not a condition")
    return found


def check(expression: str, language: Language = IAM) -> None:
    """Raise ConditionError if an expression cannot be parsed, or names what the language does not have."""
    parser = _Parser(expression, language)
    parser.either()
    parser.end()


_Value = Callable[[dict[str, Any]], Any]


class _Parser:
    """Recursive descent; every rule returns a function of the attributes, so that && and || can short-circuit."""

    def __init__(self, text: str, language: Language) -> None:
        self._language = language
        self._tokens: list[tuple[str, str]] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if not found:
                raise ConditionError(f"unexpected character at {at}: {text[at : at + 10]}")
            self._tokens.append((str(found.lastgroup), str(found.group(found.lastgroup or 0))))
            at = found.end()
        self._at = 0

    def _take(self, *texts: str) -> str:
        if (
            self._at < len(self._tokens)
            and self._tokens[self._at][1] in texts
            and self._tokens[self._at][0] != "string"
        ):
            self._at += 1
            return self._tokens[self._at - 1][1]
        return ""

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise ConditionError(f"{text} expected")

    def end(self) -> None:
        """The end of the expression must be reached."""
        if self._at < len(self._tokens):
            raise ConditionError(f"unexpected {self._tokens[self._at][1]}")

    def either(self) -> _Value:
        left = self._both()
        while self._take("||"):
            left = self._or(left, self._both())
        return left

    @staticmethod
    def _or(left: _Value, right: _Value) -> _Value:
        def value(attributes: dict[str, Any]) -> bool:
            try:
                if left(attributes) is True:
                    return True
            except ConditionError:  # an error on one side does not matter if the other one is true
                if right(attributes) is True:
                    return True
                raise
            return right(attributes)

        return value

    def _both(self) -> _Value:
        left = self._compared()
        while self._take("&&"):
            left = (lambda a, b: lambda attributes: a(attributes) and b(attributes))(left, self._compared())
        return left

    def _compared(self) -> _Value:
        left = self._unary()
        sign = self._take(*_ORDER, "in")
        if not sign:
            return left
        right = self._unary()
        if sign == "in":
            return lambda attributes: left(attributes) in right(attributes)
        return lambda attributes: _ORDER[sign](left(attributes), right(attributes))

    def _unary(self) -> _Value:
        if self._take("!"):
            inner = self._unary()
            return lambda attributes: not inner(attributes)
        if self._take("-"):
            inner = self._unary()
            return lambda attributes: -inner(attributes)
        return self._member()

    def _member(self) -> _Value:
        value, path = self._primary()
        while True:
            if self._take("."):
                kind, name = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
                if kind != "name":
                    raise ConditionError("a name expected after .")
                self._at += 1
                if self._take("("):
                    self._known(path)
                    value, path = self._called(value, name, self._arguments()), ""
                elif path:
                    path = f"{path}.{name}"
                    value = self._attribute(path)
                else:
                    raise ConditionError(f"unexpected .{name}")
            elif path and self._take("["):
                self._known(path)
                value, path = self._item(value, self.either()), ""
                self._need("]")
            else:
                self._known(path)
                return value

    def _known(self, path: str) -> None:
        if path and self._language.names and path not in self._language.names:
            raise ConditionError(f"no such attribute: {path}")

    @staticmethod
    def _item(target: _Value, key: _Value) -> _Value:
        def value(attributes: dict[str, Any]) -> Any:
            items, name = target(attributes), key(attributes)
            if name not in items:
                raise ConditionError(f"no such key: {name}")
            return items[name]

        return value

    @staticmethod
    def _attribute(path: str) -> _Value:
        def value(attributes: dict[str, Any]) -> Any:
            if path not in attributes:
                raise ConditionError(f"no such attribute: {path}")
            return attributes[path]

        return value

    def _arguments(self) -> list[_Value]:
        out: list[_Value] = []
        while not self._take(")"):
            out.append(self.either())
            if not self._take(","):
                self._need(")")
                break
        return out

    def _primary(self) -> tuple[_Value, str]:
        if self._take("("):
            value = self.either()
            self._need(")")
            return value, ""
        if self._take("["):
            items: list[_Value] = []
            while not self._take("]"):
                items.append(self.either())
                if not self._take(","):
                    self._need("]")
                    break
            return lambda attributes: [item(attributes) for item in items], ""
        if self._take("{"):
            pairs: list[tuple[_Value, _Value]] = []
            while not self._take("}"):
                key = self.either()
                self._need(":")
                pairs.append((key, self.either()))
                if not self._take(","):
                    self._need("}")
                    break
            return lambda attributes: {key(attributes): item(attributes) for key, item in pairs}, ""
        if self._at >= len(self._tokens):
            raise ConditionError("unexpected end")
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "string":
            raw = text.startswith("r")
            plain = text[2:-1] if raw else re.sub(r"\\(.)", r"\1", text[1:-1])
            return lambda attributes: plain, ""
        if kind == "number":
            number = float(text) if "." in text else int(text)
            return lambda attributes: number, ""
        if kind != "name":
            raise ConditionError(f"unexpected {text}")
        if text in ("true", "false"):
            return lambda attributes: text == "true", ""
        if text in ("timestamp", "duration", "date") and self._take("("):
            return self._converted(text, self._arguments()), ""
        if text == "has" and self._language.functions and self._take("("):
            return self._has(self._arguments()), ""
        if text in self._language.functions and self._take("("):
            function, arguments = self._language.functions[text], self._arguments()
            return lambda attributes: function(*(argument(attributes) for argument in arguments)), ""
        return self._attribute(text), text

    @staticmethod
    def _has(arguments: list[_Value]) -> _Value:
        (inner,) = arguments

        def value(attributes: dict[str, Any]) -> bool:
            try:
                inner(attributes)
            except ConditionError:
                return False
            return True

        return value

    @staticmethod
    def _converted(kind: str, arguments: list[_Value]) -> _Value:
        (inner,) = arguments

        def value(attributes: dict[str, Any]) -> Any:
            text = inner(attributes)
            if kind == "duration":
                found = re.fullmatch(r"(-?\d+(?:\.\d+)?)s", text)
                if not found:
                    raise ConditionError(f"not a duration: {text}")
                return timedelta(seconds=float(found.group(1)))
            out = datetime.fromisoformat(text + "T00:00:00Z" if kind == "date" else text)
            if out.tzinfo is None:
                raise ConditionError(f"not a time with a zone: {text}")
            return out

        return value

    def _called(self, target: _Value, name: str, arguments: list[_Value]) -> _Value:
        methods = self._language.methods
        if methods and name not in methods:
            raise ConditionError(f"no such function: {name}")

        def value(attributes: dict[str, Any]) -> Any:
            on, given = target(attributes), [a(attributes) for a in arguments]
            if name in methods:
                return methods[name](on, *given)
            if name in ("startsWith", "endsWith"):
                return getattr(on, name.lower())(*given)
            if name == "contains":
                return given[0] in on
            if name == "matches":
                return re.search(given[0], on) is not None
            if name == "extract":
                before, _, after = given[0].partition("{")
                after = after.partition("}")[2]
                found = re.search(re.escape(before) + "(.*?)" + (re.escape(after) if after else "$"), on)
                return found.group(1) if found else ""
            if name in _PARTS:
                if given:
                    from zoneinfo import ZoneInfo

                    on = on.astimezone(ZoneInfo(given[0]))
                return _PARTS[name](on)
            raise ConditionError(f"no such function: {name}")

        return value
