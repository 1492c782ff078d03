"""CEL, as far as the rules of the CRDs use it: evaluated here, so that thousands of bodies can be
judged without an API server.

The API server is the judge of this one, too: `tests/apiserver/test_rules.py` asks it about the same
bodies. What is not understood raises, and so does a field that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

TOKEN = re.compile(
    r"\s*(?:(?P<raw>r'[^']*')|(?P<text>'(?:[^'\\]|\\.)*')|(?P<number>\d+)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>&&|\|\||==|!=|<=|>=|[-+!<>?:.,()\[\]]))"
)
BINARY: Mapping[str, int] = {
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<=": 3, ">=": 3, "<": 3, ">": 3, "in": 3, "+": 4,
}  # fmt: skip
COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "<=": lambda one, other: one <= other,
    ">=": lambda one, other: one >= other,
    "<": lambda one, other: one < other,
    ">": lambda one, other: one > other,
    "in": lambda one, other: one in other,
    "+": lambda one, other: one + other,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "size": len,
    "sum": sum,
    "contains": lambda text, part: part in text,
    "matches": lambda text, pattern: bool(re.search(re.sub(r"(?<!\\)\$", r"\\Z", pattern), text)),
}
MACROS: Mapping[str, Callable[[list[Any], Callable[[Any], Any]], Any]] = {
    "all": lambda items, judge: all(map(judge, items)),
    "exists": lambda items, judge: any(map(judge, items)),
    "exists_one": lambda items, judge: sum(map(judge, items)) == 1,
    "map": lambda items, make: [make(item) for item in items],
    "filter": lambda items, judge: [item for item in items if judge(item)],
}
Names = Mapping[str, Any]
Node = Callable[[Names], Any]


class CelError(Exception):
    """What the API server would call an error: not understood, or a field that is not there."""


def evaluate(expression: str, **names: Any) -> Any:
    """Return the value of an expression. Raises CelError."""
    return compile_cel(expression)(names)


def compile_cel(expression: str) -> Node:
    """Return a function from the names to the value. Raises CelError."""
    parser = _Parser(expression)
    node = parser.ternary()
    if parser.tokens:
        raise CelError(f"left over in {expression}: {parser.tokens}")
    return node


def _tokens(expression: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    place = 0
    while place < len(expression.rstrip()):
        match = TOKEN.match(expression, place)
        if match is None or match.lastgroup is None:
            raise CelError(f"not understood: {expression[place:]}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        place = match.end()
    return tokens


class _Parser:
    def __init__(self, expression: str) -> None:
        self.tokens = _tokens(expression)[::-1]

    def ternary(self) -> Node:
        condition = self.binary(1)
        if not self._take("?"):
            return condition

        then = self.ternary()
        self._require(":")
        otherwise = self.ternary()
        return lambda names: then(names) if condition(names) else otherwise(names)

    def binary(self, least: int) -> Node:
        left = self.unary()
        while BINARY.get(self._peek(), 0) >= least:
            sign = self.tokens.pop()[1]
            left = _binary(sign, left, self.binary(BINARY[sign] + 1))
        return left

    def unary(self) -> Node:
        if self._take("!"):
            operand = self.unary()
            return lambda names: not operand(names)
        return self.postfix()

    def postfix(self) -> Node:
        node = self.primary()
        while self._take("."):
            name = self.tokens.pop()[1]
            node = self._call(node, name) if self._take("(") else _Field(node, name)
        return node

    def primary(self) -> Node:
        kind, text = self.tokens.pop()
        if kind in ("raw", "text"):
            value = text[2:-1] if kind == "raw" else text[1:-1]
            return lambda names: value
        if kind == "number":
            return lambda names: int(text)
        if text == "(":
            inner = self.ternary()
            self._require(")")
            return inner
        if text == "[":
            items = self._arguments("]")
            return lambda names: [item(names) for item in items]
        if kind != "name":
            raise CelError(f"not understood: {text}")
        if self._take("("):
            return self._function(text)
        if text in ("true", "false"):
            return lambda names: text == "true"
        return lambda names: names[text]

    def _function(self, name: str) -> Node:
        (argument,) = self._arguments(")")
        if name == "has" and isinstance(argument, _Field):
            return argument.is_there
        return lambda names: FUNCTIONS[name](argument(names))

    def _call(self, target: Node, name: str) -> Node:
        if name not in MACROS:
            arguments = self._arguments(")")
            return lambda names: FUNCTIONS[name](
                target(names), *[argument(names) for argument in arguments]
            )

        variable = self.tokens.pop()[1]
        self._require(",")
        body = self.ternary()
        self._require(")")
        return lambda names: MACROS[name](
            list(target(names)), lambda item: body({**names, variable: item})
        )

    def _arguments(self, end: str) -> list[Node]:
        arguments: list[Node] = []
        while not self._take(end):
            arguments.append(self.ternary())
            self._take(",")
        return arguments

    def _peek(self) -> str:
        return self.tokens[-1][1] if self.tokens else ""

    def _take(self, sign: str) -> bool:
        if self.tokens and self.tokens[-1] in (("sign", sign), ("name", sign)):
            self.tokens.pop()
            return True
        return False

    def _require(self, sign: str) -> None:
        if not self._take(sign):
            raise CelError(f"{sign} is missing before {self._peek()}")


class _Field:
    def __init__(self, owner: Node, name: str) -> None:
        self._owner, self._name = owner, name

    def __call__(self, names: Names) -> Any:
        owner = self._owner(names)
        if self._name not in owner:
            raise CelError(f"no such key: {self._name}")
        return owner[self._name]

    def is_there(self, names: Names) -> bool:
        """Whether its owner, which must be there, has it."""
        return bool(self._name in self._owner(names))


def _binary(sign: str, left: Node, right: Node) -> Node:
    if sign not in ("&&", "||"):
        return lambda names: COMPARE[sign](left(names), right(names))

    decisive = sign == "||"

    def either(names: Names) -> bool:
        """One side that decides is enough, whatever the other one is: also an error."""
        try:
            first = bool(left(names))
        except CelError:
            if bool(right(names)) is not decisive:
                raise
            return decisive

        return decisive if first is decisive else bool(right(names))

    return either
