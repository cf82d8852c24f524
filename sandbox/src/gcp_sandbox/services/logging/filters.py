"""The Logging query language: parses a filter into a tree that matches entries.

NOT binds strongest, then OR, then AND, which also joins comparisons without an operator between them.
https://cloud.google.com/logging/docs/view/logging-query-language
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services.logging import values

Doc = dict[str, Any]
Test = Callable[[Any], bool]
_LONGEST, _DEEPEST = 20000, 100
_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*)|(?P<op>=~|!~|!=|<=|>=|[=<>:])|(?P<mark>[(),])
    |(?P<word>(?:[^\s()"'=<>:!~,]|(?<=\.)(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))+)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')(?P<rest>(?:\.(?:"(?:[^"\\]|\\.)*"|[^\s()"'=<>:!~,.]+))*)""",
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(r"""\.?(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^."']+))""", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}


@dataclasses.dataclass
class Token:
    """A token of a filter: kind word, string, op, mark or end; text is without quotes, parts a word's path."""

    kind: str
    text: str
    start: int
    parts: tuple[str, ...] = ()
    source: str = ""


@dataclasses.dataclass
class And:
    """A conjunction."""

    of: list[Any]

    def match(self, entry: Doc) -> bool:
        """Whether an entry matches."""
        return all(one.match(entry) for one in self.of)


@dataclasses.dataclass
class Or:
    """A disjunction."""

    of: list[Any]

    def match(self, entry: Doc) -> bool:
        """Whether an entry matches."""
        return any(one.match(entry) for one in self.of)


@dataclasses.dataclass
class Not:
    """A negation; also true for a comparison with a field that the entry does not have."""

    of: Any

    def match(self, entry: Doc) -> bool:
        """Whether an entry matches."""
        return not self.of.match(entry)


@dataclasses.dataclass
class Compare:
    """A field compared with a value."""

    path: tuple[str, ...]
    op: str
    text: str
    test: Test

    def match(self, entry: Doc) -> bool:
        """Whether any value of the field matches."""
        return any(self.test(value) for value in values.of(entry, self.path))


@dataclasses.dataclass
class Anywhere:
    """A string that any field may contain."""

    words: list[str]

    def match(self, entry: Doc) -> bool:
        """Whether an entry matches."""
        texts = [values.text(v).casefold() for v in values.scalars(entry)]
        return all(any(word in text for text in texts) for word in self.words)


Node = And | Or | Not | Compare | Anywhere


def unparseable(text: str) -> ApiError:
    """The 400 for a filter that cannot be parsed."""
    return ApiError(400, f"Unparseable filter: {text}")


def unescaped(text: str) -> str:
    """The value of a quoted string; unnecessary backslashes are kept, for regular expressions."""

    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] in "uxU" and len(code) > 1:
            return chr(int(code[1:], 16))
        return _ESCAPES.get(code, code if code in "\"'\\" else found[0])

    return re.sub(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", one, text, flags=re.DOTALL)


def path_of(text: str) -> tuple[str, ...]:
    """labels."k/x".y -> ("labels", "k/x", "y")."""
    return tuple(unescaped(d or s) if d or s else bare for d, s, bare in _PART.findall(text))


class Parser:
    """Parses one filter.  Raises ApiError 400."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._at = self._depth = 0

    def _split(self) -> Iterator[Token]:
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise self._syntax(at, self._text[at])
            if found["string"] is not None:
                parts = path_of(found[0])
                yield Token("string", unescaped(found["string"][1:-1]), at, parts, found[0])
            elif found["word"] is not None:
                yield Token("word", found[0], at, path_of(found[0]), found[0])
            elif found["space"] is None:
                yield Token("op" if found["op"] else "mark", found[0], at, (), found[0])
            at = found.end()
        yield Token("end", "", at, (), "<EOF>")

    def _syntax(self, at: int, token: str) -> ApiError:
        before = self._text[:at]
        column = at - (before.rfind("\n") + 1) + 1
        return unparseable(f"syntax error at line {before.count(chr(10)) + 1}, column {column}, token '{token}'")

    def _error(self) -> ApiError:
        return self._syntax(self._tokens[self._at].start, self._tokens[self._at].source)

    def _is(self, kind: str, *texts: str) -> bool:
        token = self._tokens[self._at]
        return token.kind == kind and (not texts or token.text in texts)

    def _take(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, mark: str) -> None:
        if not self._is("mark", mark):
            raise self._error()
        self._take()

    def filter(self) -> Node:
        """The whole filter; an empty one matches everything."""
        if self._is("end"):
            return And([])
        out = self._all(self._restriction)
        if not self._is("end"):
            raise self._error()
        return out

    def _all(self, leaf: Callable[[], Node]) -> Node:
        found = [self._any(leaf)]
        while True:
            if self._is("word", "AND"):
                self._take()
            elif self._is("end") or self._is("op") or self._is("mark", ")", ","):
                return found[0] if len(found) == 1 else And(found)
            found.append(self._any(leaf))

    def _any(self, leaf: Callable[[], Node]) -> Node:
        found = [self._negated(leaf)]
        while self._is("word", "OR"):
            self._take()
            found.append(self._negated(leaf))
        return found[0] if len(found) == 1 else Or(found)

    def _negated(self, leaf: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise unparseable("it is nested too deeply")
        try:
            return self._term(leaf)
        finally:
            self._depth -= 1

    def _term(self, leaf: Callable[[], Node]) -> Node:
        token = self._tokens[self._at]
        if token.kind == "word" and token.text == "NOT":
            self._take()
            return Not(self._negated(leaf))
        if token.kind == "word" and token.text[0] == "-":
            rest = token.text[1:]
            if rest:
                self._tokens[self._at] = Token("word", rest, token.start + 1, path_of(rest), rest)
            elif self._tokens[self._at + 1].start == token.start + 1:
                self._take()
            else:
                raise self._error()
            return Not(self._negated(leaf))
        if self._is("mark", "("):
            self._take()
            out = self._all(leaf)
            self._expect(")")
            return out
        return leaf()

    def _value(self) -> Token:
        if not (self._is("string") or (self._is("word") and not self._is("word", "AND", "OR", "NOT"))):
            raise self._error()
        return self._take()

    def _restriction(self) -> Node:
        first = self._value()
        following = self._tokens[self._at]
        if self._is("mark", "(") and first.kind == "word" and following.start == first.start + len(first.text):
            return self._function(first)
        if not self._is("op"):
            return Anywhere([first.text.casefold()])
        op = self._take().text
        path = values.checked(first.parts)
        if self._is("mark", "("):
            self._take()
            out = self._all(lambda: self._compare(path, op))
            self._expect(")")
            return out
        return self._compare(path, op)

    def _compare(self, path: tuple[str, ...], op: str) -> Compare:
        token = self._value()
        if op == ":" and token.kind == "word" and token.text == "*":
            return Compare(path, op, "*", lambda value: True)
        try:
            return Compare(path, op, token.text, values.test(path, op, token.text))
        except ValueError as error:
            raise unparseable(str(error)) from None

    def _function(self, name: Token) -> Node:
        arguments: list[Token] = []
        self._expect("(")
        while not self._is("mark", ")"):
            arguments.append(self._value())
            if not self._is("mark", ")"):
                self._expect(",")
        self._expect(")")
        call = name.text.lower()
        if call == "log_id" and len(arguments) == 1:
            wanted = values.log_id(arguments[0].text)
            return Compare(("logName",), "=", wanted, lambda value: value.partition("/logs/")[2] == wanted)
        if call == "search" and 1 <= len(arguments) <= 2:
            words = arguments[-1].text.casefold().split()
            if len(arguments) == 1:
                return Anywhere(words)
            path = values.checked(arguments[0].parts)
            return And([Compare(path, ":", word, values.test(path, ":", word)) for word in words])
        if call == "ip_in_net" and len(arguments) == 2:
            return self._ip_in_net(arguments)
        raise self._syntax(name.start, name.text)

    def _ip_in_net(self, arguments: list[Token]) -> Compare:
        try:
            net = ipaddress.ip_network(arguments[1].text, strict=False)
        except ValueError:
            raise unparseable(f"invalid IP network: {arguments[1].text}") from None

        def test(value: Any) -> bool:
            try:
                return ipaddress.ip_address(str(value)) in net
            except ValueError:
                return False

        return Compare(values.checked(arguments[0].parts), "in", arguments[1].text, test)


def parse(text: str) -> Node:
    """The tree of a filter.  Raises ApiError 400."""
    if len(text) > _LONGEST:
        raise ApiError(400, f"The filter is longer than {_LONGEST} characters.")
    return Parser(text).filter()


def conjuncts(node: Node) -> list[Node]:
    """The conjuncts of a filter."""
    return [part for one in node.of for part in conjuncts(one)] if isinstance(node, And) else [node]
