"""JSONPath: what a path may ask of texts that its author may not read."""

from __future__ import annotations

from typing import Any

import pytest

from gatewright.ports import Permanent
from gatewright.providers.common import jsonpath

SECRET = "correct horse battery staple"
ORDER = r"compares texts by order.* compare texts by == or !=, and numbers alone by <, <=, > and >="
EXPRESSIONS = r"no regular expressions; compare whole texts by == or !="
LENGTH = r"asks how long a text is; let length\(\) count the elements of a list or an object"


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
@pytest.mark.parametrize(
    "condition",
    [
        "@ {} 'corre'",
        '@.name {} "corre"',
        "'corre' {} @",
        "@.kind == 'x' && @.name {} 'corre'",
        "!(@.name {} 'corre')",
        "value(@.name) {} 'corre'",
        "'a' {} 'b'",
    ],
)
def test_a_text_is_not_compared_by_order(operator: str, condition: str) -> None:
    path = f"$[?{condition.format(operator)}]"
    with pytest.raises(ValueError, match=ORDER) as caught:
        jsonpath.compile_path(path)
    assert str(caught.value).startswith(f'"{path}" ')


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
@pytest.mark.parametrize(
    "condition", ["@.secret {} @.guess", "@.guess {} @.secret", "!(@.secret {} value(@.guess))"]
)
def test_nor_are_two_texts_of_the_body(operator: str, condition: str) -> None:
    """An answer may repeat what it was asked, so that its author chooses one of both."""
    path = f"$[?{condition.format(operator)}]"
    for guess in ("c", "corre", "d"):
        with pytest.raises(Permanent, match=ORDER):
            jsonpath.find_values(path, [{"secret": SECRET, "guess": guess}])


def letters_found(template: str) -> str:
    """What can be told of the secret by conditions that each try one more letter."""
    known = ""
    for _ in SECRET:
        for letter in "abcdefghijklmnopqrstuvwxyz ":
            path = template.replace("%", known + letter)
            try:
                if not jsonpath.find_values(path, [SECRET]):
                    break
            except (ValueError, Permanent):
                return known
            best = letter
        known += best
    return known


@pytest.mark.parametrize(
    "template",
    [
        "$[?@>='%']",
        "$[?@<'%']",
        "$[?match(@, '%.*')]",
        "$[?search(@, '^%')]",
        "$[?length(@) > 0 && @ >= '%']",
    ],
)
def test_no_text_is_read_letter_by_letter(template: str) -> None:
    assert letters_found(template) == ""


@pytest.mark.parametrize(
    "path", ["$[?match(@.a, 'x')]", "$[?search(@.a, '(a+)+$')]", "$[?!match ('x', @)]"]
)
def test_there_are_no_regular_expressions(path: str) -> None:
    with pytest.raises(ValueError, match=EXPRESSIONS):
        jsonpath.compile_path(path)


def test_no_function_with_regular_expressions_is_known_however_it_is_written() -> None:
    assert sorted(jsonpath.ENVIRONMENT.function_extensions) == ["count", "length", "value"]


def test_the_length_of_a_text_is_not_told() -> None:
    for limit in range(len(SECRET) - 1, len(SECRET) + 2):
        with pytest.raises(Permanent, match=LENGTH):
            jsonpath.find_values(f"$[?length(@) >= {limit}]", [SECRET])
    with pytest.raises(Permanent, match=LENGTH):
        jsonpath.find_values("$[?length(@.a) == length(@.b)]", [{"a": SECRET, "b": "x"}])


ITEMS = [
    {"name": "x", "value": 7, "used": 3, "limit": 5, "tags": ["a", "b"]},
    {"name": "y", "value": 8, "used": 6, "limit": 5, "tags": []},
]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("$[?@.name == 'x'].value", [7]),
        ("$[?@.name != 'x'].value", [8]),
        ("$[?@.value > 7].name", ["y"]),
        ("$[?7 >= @.value].name", ["x"]),
        ("$[?@.value <= 8 && @.value >= 8].name", ["y"]),
        ("$[?@.used < @.limit].name", ["x"]),
        ("$[?@.used >= @.limit].name", ["y"]),
        ("$[?@.name > 3].value", []),
        ("$[?@.missing < 3].value", []),
        ("$[?@.missing <= @.absent].name", ["x", "y"]),
        ("$[?length(@.tags) > 1].name", ["x"]),
        ("$[?length(@) == 5 && length(@.missing) > 0].name", []),
        ("$[?count(@.tags[0]) == 1].name", ["x"]),
        ("$[?@.name == '>= match(' ].value", []),
    ],
)
def test_whole_texts_and_numbers_are_compared(path: str, values: list[Any]) -> None:
    assert jsonpath.find_values(path, ITEMS) == values
