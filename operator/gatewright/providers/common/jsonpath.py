"""JSONPath (RFC 9535) of one value: what a path may ask, and where it is evaluated.

    $.a.b[0]                             names and places: on the loop, one look-up a step
    $..a, $.a[*].b, $.a[?@.n == 'x'].v   looks at many values: in a thread, one at a time for
                                         each namespace

What an answer holds is not its asker's to read. So texts are compared as a whole, by `==` and `!=`:
by their order, by their length and by regular expressions they could be read letter by letter.
Numbers have all comparisons.

A thread cannot be ended, and it takes turns with the event loop. So what it may do is bounded
before it begins: by the path, which asks little of each value, and by the body, of which the part
that the path searches has few values.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sized
from typing import Annotated, Any, ClassVar

from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathNodeList, JSONPathQuery
from jsonpath_rfc9535.filter_expressions import (
    NOTHING,
    ComparisonExpression,
    Expression,
    FilterContext,
    FilterExpression,
    FilterQuery,
    FunctionExtension,
    LogicalExpression,
    Nothing,
    PrefixExpression,
    StringLiteral,
)
from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction
from jsonpath_rfc9535.parse import Parser
from jsonpath_rfc9535.segments import JSONPathChildSegment
from jsonpath_rfc9535.selectors import FilterSelector, IndexSelector, NameSelector
from jsonpath_rfc9535.tokens import TokenStream
from pydantic import AfterValidator, StringConstraints

from gatewright.ports import Permanent
from gatewright.providers.common.concurrency import NamespaceThreads
from gatewright.providers.common.context import ContextPart

MAX_VALUES = 20_000
"""Values that a path searches at most."""
MAX_STEPS = 24
"""Steps that a path takes at most for each value that it searches: four comparisons of a condition
are such."""
INLINE_BODY_BYTES = 64 * 1024
"""Bytes of a body in which a plain path is followed on the event loop."""
SMALL_BODY_BYTES = 1024
"""Bytes of a body that is searched on the event loop."""
_QUOTED = re.compile(r"'(\\.|[^'\\])*'|\"(\\.|[^\"\\])*\"")
_EXPRESSIONS = re.compile(r"\b(?:match|search)\s?\(")
_BY_ORDER = frozenset({"<", "<=", ">", ">="})
_BY_LETTERS = (
    "compares texts by order, by which one could be read letter by letter; "
    "compare texts by == or !=, and numbers alone by <, <=, > and >="
)
_BY_LENGTH = "asks how long a text is; let length() count the elements of a list or an object"
_threads = ContextPart(lambda: NamespaceThreads("jsonpath", 4))


class _ReadsText(Exception):
    """A path would tell more of a text than whether it is another one; says how."""


class _Ordering(ComparisonExpression):
    """A comparison by order: of everything but texts."""

    __slots__ = ()

    def evaluate(self, context: FilterContext) -> bool:
        """Compare as in RFC 9535. Raises _ReadsText where both sides are texts."""
        values = [_value_of(side.evaluate(context)) for side in (self.left, self.right)]
        if all(isinstance(value, str) for value in values):
            raise _ReadsText(_BY_LETTERS)
        return super().evaluate(context)


def _value_of(result: object) -> object:
    # A list of one node stands for the value of that node.
    if isinstance(result, JSONPathNodeList) and len(result) == 1:
        return result[0].value
    return result


class _Parser(Parser):
    """Knows what a comparison by order may not compare."""

    def parse_infix_expression(self, stream: TokenStream, left: Expression) -> Expression:
        """Parse as in RFC 9535. Raises _ReadsText where a text is compared by order."""
        parsed = super().parse_infix_expression(stream, left)
        if not isinstance(parsed, ComparisonExpression) or parsed.operator not in _BY_ORDER:
            return parsed
        if isinstance(parsed.left, StringLiteral) or isinstance(parsed.right, StringLiteral):
            raise _ReadsText(_BY_LETTERS)
        return _Ordering(parsed.token, parsed.left, parsed.operator, parsed.right)


class _Length(FilterFunction):
    """`length()` of lists and objects."""

    arg_types: ClassVar[list[ExpressionType]] = [ExpressionType.VALUE]
    return_type = ExpressionType.VALUE

    def __call__(self, value: object) -> int | Nothing:
        """Return how many elements there are. Raises _ReadsText for a text."""
        if isinstance(value, str):
            raise _ReadsText(_BY_LENGTH)
        return len(value) if isinstance(value, Sized) else NOTHING


class _Environment(JSONPathEnvironment):
    """RFC 9535 without what reads a text by its letters."""

    parser_class = _Parser

    def setup_function_extensions(self) -> None:
        """Set up the functions that a condition may use."""
        super().setup_function_extensions()
        self.function_extensions = {
            "count": self.function_extensions["count"],
            "length": _Length(),
            "value": self.function_extensions["value"],
        }


ENVIRONMENT = _Environment()


def _plain_json_path(path: str) -> str:
    compile_path(path)
    return path


JsonPath = Annotated[
    str, StringConstraints(min_length=1, max_length=256), AfterValidator(_plain_json_path)
]


@functools.lru_cache(maxsize=512)
def compile_path(path: str) -> JSONPathQuery:
    """Return a JSONPath that is evaluated in time linear to the body. Raises ValueError."""
    if not path.startswith("$"):
        plain = path.strip("{}")
        begin = "$" if plain[:1] in (".", "[") else "$."
        raise ValueError(f'"{path}" is not a JSONPath (try {begin}{plain})')

    _require_linear(path)
    try:
        query = ENVIRONMENT.compile(path)
    except _ReadsText as error:
        raise ValueError(f'"{path}" {error}') from None
    except (JSONPathError, RecursionError) as error:
        raise ValueError(f'"{path}" is not a JSONPath: {str(error).splitlines()[0]}') from None

    if _count_steps(query) > MAX_STEPS:
        limits = '4 comparisons after "?", and to a few names after ".."'
        raise ValueError(f'"{path}" asks too much of each value: keep to {limits}')

    return query


def _require_linear(path: str) -> None:
    """Refuse a path that looks at a value more than once. Raises ValueError."""
    bare = _QUOTED.sub("''", path)
    # They can also take exponential time.
    if _EXPRESSIONS.search(bare):
        remedy = "there are no regular expressions; compare whole texts by == or !="
        raise ValueError(f'"{path}" has match() or search(): {remedy}')

    _, filters, condition = bare.partition("?")
    # Nor may each element look at all of the body once more.
    looks_again = filters and set(condition) & {"*", ":", "$"}
    if "," in bare or bare.count("..") + bare.count("?") > 1 or looks_again:
        limits = 'at most one ".." or "?", no ",", and no "*" or "$" after "?"'
        raise ValueError(f'"{path}" finds too much: it must lead to one value, {limits}')


async def evaluate_path(path: str, size: int, read: Callable[[], Any], namespace: str) -> list[Any]:
    """Return what a path finds, two values at most, in the body of `size` bytes that `read` gives.

    Raises Permanent.
    """
    if size <= (INLINE_BODY_BYTES if compile_path(path).singular_query() else SMALL_BODY_BYTES):
        return find_values(path, read())
    return await _threads().run(namespace, lambda: find_values(path, read()))


def find_values(path: str, body: Any) -> list[Any]:
    """Return what a path finds in a body, two values at most. Raises Permanent."""
    query = compile_path(path)
    try:
        if _is_large(_searched_part(query, body)):
            raise Permanent(f"{path} searches more than {MAX_VALUES:,} values; ask a narrower path")
        nodes = iter(query.finditer(body))
        return [node.value for _, node in zip(range(2), nodes, strict=False)]
    except _ReadsText as error:
        raise Permanent(f"{path} {error}") from None
    except (JSONPathError, RecursionError):
        pass

    raise Permanent(f"{path} cannot be evaluated in this body")


def _searched_part(query: JSONPathQuery, body: Any) -> Any:
    """Return the part of a body whose values a path looks at, one by one; None where it looks at
    none so."""
    begin = _first_wide_segment(query)
    if begin == len(query.segments):
        return None
    node = JSONPathQuery(env=query.env, segments=query.segments[:begin]).find_one(body)
    return None if node is None else node.value


def _first_wide_segment(query: JSONPathQuery) -> int:
    """Return which segment is the first that leads to more than one value."""
    for at, segment in enumerate(query.segments):
        if not isinstance(segment, JSONPathChildSegment):
            return at
        leads_to_one = (NameSelector, IndexSelector)
        if not all(isinstance(selector, leads_to_one) for selector in segment.selectors):
            return at

    return len(query.segments)


def _is_large(value: Any) -> bool:
    """Return whether there are more values in one than are searched."""
    left, todo = MAX_VALUES, [value]
    while todo:
        current = todo.pop()
        if isinstance(current, dict | list):
            left -= len(current)
            if left < 0:
                return True
            todo.extend(current.values() if isinstance(current, dict) else current)
    return False


def _count_steps(query: JSONPathQuery) -> int:
    """Return what a path does for each value that it searches."""
    many = query.segments[_first_wide_segment(query) :]
    steps = len(many)
    for segment in many:
        for selector in segment.selectors:
            if isinstance(selector, FilterSelector):
                steps += _expression_weight(selector.expression)
    return steps


def _expression_weight(expression: Expression) -> int:
    match expression:
        case FilterExpression():
            return _expression_weight(expression.expression)
        case LogicalExpression() | ComparisonExpression():
            return 1 + _expression_weight(expression.left) + _expression_weight(expression.right)
        case PrefixExpression():
            return 1 + _expression_weight(expression.right)
        case FunctionExtension():
            return 1 + sum(map(_expression_weight, expression.args))
        case FilterQuery():
            return 1 + len(expression.query.segments)

    return 1


__all__ = [
    "ENVIRONMENT",
    "INLINE_BODY_BYTES",
    "MAX_STEPS",
    "MAX_VALUES",
    "SMALL_BODY_BYTES",
    "JsonPath",
    "compile_path",
    "evaluate_path",
    "find_values",
]
