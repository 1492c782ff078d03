"""Numbers and texts that others have written."""

from __future__ import annotations

import contextlib
import itertools
import json
import time

import pytest

from gatewright.core.text import foreign
from gatewright.core.text.foreign import has_control, parse_decimal, parse_json

MOST_S = 0.060
"""CPU that a MiB may take."""
SLACK = 5.0
"""Times as much on a machine that is busy with other things."""


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0.0), ("30", 30.0), ("1767268800.5", 1767268800.5)]
)
def test_a_plain_number_is_one(text: str, number: float) -> None:
    assert parse_decimal(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "²",
        "٣",
        "1²",
        "-1",
        "+1",
        "1e300",
        "inf",
        "nan",
        "0x10",
        " 1",
        "1\n",
        "1.",
        ".5",
        "1.2.3",
        "9" * 16,
    ],
)
def test_what_else_looks_like_one_is_none(text: str) -> None:
    assert parse_decimal(text) is None


def test_what_makes_two_lines_of_one_is_a_control_character() -> None:
    assert [has_control(text) for text in ("plain é", "a\r\nb", "\x00", "\x7f", "\x85")] == [
        False,
        True,
        True,
        True,
        True,
    ]


ESCAPES = ["\\ud800", "\\uDBFF", "\\uDC00", "\\udfff", "\\\\", "ud800", "\\u0041", "\\n"]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_half_of_a_pair_becomes_a_question_mark_wherever_it_stands(count: int) -> None:
    for parts in itertools.product(ESCAPES, repeat=count):
        text = f'{{"{"".join(parts)}": ["{"".join(parts)}"]}}'
        plain = json.loads(f'"{"".join(parts)}"').encode(errors="replace").decode()
        assert parse_json(text) == parse_json(text.encode()) == {plain: [plain]}


@pytest.mark.parametrize(
    "raw", [b'"\xed\xa0\x80"', b'"\xff"', '"a"'.encode("utf-16"), b"", b"[", b"\\ud800"]
)
def test_what_is_no_json_in_utf_8_is_none(raw: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(raw)


def test_a_mark_of_the_byte_order_is_passed_over() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def many(unit: str, size: int = 1024 * 1024) -> bytes:
    return f"[{','.join([unit] * (size // (len(unit) + 1) - 1))}]".encode()


@pytest.mark.parametrize("unit", ["[]", "{}", "[" * 50 + "]" * 50, '{"a":1}', '{"a":[]}', "1"])
def test_more_values_than_are_read_are_refused(unit: str) -> None:
    with pytest.raises(
        foreign.TooManyValues, match=r"has more than 65,536 objects and lists, or 262,144 values"
    ):
        parse_json(many(unit))


def test_a_mebibyte_of_samples_is_read() -> None:
    """As Prometheus answers a range, the densest of what is asked for."""
    assert len(parse_json(many('[1790000000,"1"]'))) > 60_000


@pytest.mark.parametrize(
    "raw",
    [
        *map(many, ["[]", "[" * 50 + "]" * 50, '{"a":[]}', '"\\\\ud800"', "1", "1.5e9"]),
        many("[]", 3 * foreign.MOST_LISTS),
        many("1", 2 * foreign.MOST_VALUES),
        *(
            f'["\\ud800{unit * (1024 * 1024 // len(unit))}"]'.encode()
            for unit in ("\\ud800", "\\ud83d\\ude00", "\\\\", "a")
        ),
        b'["\\ud800",' + many("[]", 3 * foreign.MOST_LISTS)[1:],
        b'["\\ud800",' + many("[]")[1:],
    ],
    ids=lambda raw: f"{raw[:12]!r} {len(raw)}",
)
def test_a_mebibyte_is_read_in_little_time_or_not_at_all(raw: bytes) -> None:
    def cost() -> float:
        before = time.process_time()
        with contextlib.suppress(foreign.TooManyValues):
            parse_json(raw)
        return time.process_time() - before

    assert min(cost() for _ in range(3)) <= MOST_S * SLACK
