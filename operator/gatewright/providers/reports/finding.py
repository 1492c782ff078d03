"""What a report says, and what all formats share in reading it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

MAX_TEXT_LENGTH = 300
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class MalformedReport(ValueError):
    """A report that is not understood; the message says where, and holds nothing of its text."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of a report, in words for people and numbers for the steps that follow."""

    good: bool
    words: str
    outputs: Mapping[str, str] = field(default_factory=dict)


class Format(Protocol):
    """One kind of report."""

    title: str
    """What people call it."""
    exits: Mapping[int, str]
    """Exit codes of the program that have a meaning of their own."""

    def documents(self, output: str) -> list[Any]:
        """Return the reports of this kind within a text, in order.

        Raises MalformedReport where one is cut off.
        """
        ...

    def judge(self, documents: Sequence[Any], config: Any) -> Finding:
        """Judge what they say together; there is at least one. Raises MalformedReport."""
        ...


def plain_line(written: str, longest: int = MAX_TEXT_LENGTH) -> str:
    """Return one line without control characters, colours and halves of surrogate pairs, cut."""
    line = _ESCAPES.sub(" ", written).strip()
    return line if len(line) <= longest else line[: longest - 1] + "…"


def require_object(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON object as one. Raises MalformedReport."""
    if not isinstance(value, dict):
        raise MalformedReport(f"{where} is not an object")
    return value


def require_objects(value: Any, where: str) -> list[dict[str, Any]]:
    """Return a list of JSON objects as one. Raises MalformedReport."""
    if not isinstance(value, list):
        raise MalformedReport(f"{where} is not a list")
    return [require_object(element, f"{where}[{index}]") for index, element in enumerate(value)]


def require_count(value: Any, where: str) -> int:
    """Return a number of things as one. Raises MalformedReport."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < 2**53
        or value != int(value)
    ):
        raise MalformedReport(f"{where} is not a count")
    return int(value)


def number_or_none(value: Any) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def show_decimal(value: float) -> str:
    """Return a number as quantities are written: no exponent, and three digits at most after the
    point."""
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1e15 else f"{value:.0f}"


def show_amount(amount: int, noun: str) -> str:
    """Return `1 test`, `2 tests`, `3 vulnerabilities`."""
    if amount == 1:
        return f"1 {noun}"
    return f"{amount} {noun[:-1]}ies" if noun.endswith("y") else f"{amount} {noun}s"
