"""Numbers and texts that others have written."""

from __future__ import annotations

import pytest

from gatewright.core.foreign import decimal, has_control


@pytest.mark.parametrize(("text", "number"), [("0", 0.0), ("30", 30.0), ("1767268800.5", 1767268800.5)])
def test_a_plain_number_is_one(text: str, number: float) -> None:
    assert decimal(text) == number


@pytest.mark.parametrize(
    "text", ["", "²", "٣", "1²", "-1", "+1", "1e300", "inf", "nan", "0x10", " 1", "1\n", "1.", ".5", "1.2.3", "9" * 16]
)
def test_what_else_looks_like_one_is_none(text: str) -> None:
    assert decimal(text) is None


def test_what_makes_two_lines_of_one_is_a_control_character() -> None:
    assert [has_control(text) for text in ("plain é", "a\r\nb", "\x00", "\x7f", "\x85")] == [
        False,
        True,
        True,
        True,
        True,
    ]
