"""What a gate measures, and which limits can be compared with that.

`max: "500"` on a latency would be 500 seconds, `max: 1%` on a count would be a hundredth of one,
and `max: "5"` on a ratio would be five times everything: none is what anybody means, and all of
them pass without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from gatewright.api.base import DURATION_PATTERN, quantity

Unit = Literal["seconds", "ratio", "number", "boolean"]

LIMIT_MESSAGE = "measures a number: add max or min (max: 1%)"
"""What follows a provider whose check has no limit."""
UNIT_MESSAGE = "needs a unit (try 500ms or 2s)"
"""What follows the limit of a time."""


def unit_of(gate: Any, config: Any) -> Unit | None:
    """Return what a gate measures for a configuration; None where only the answer tells."""
    ask_unit = getattr(gate, "unit", None)
    unit: Unit | None = ask_unit(config) if ask_unit is not None and config is not None else None
    return unit


def explain_misfit(unit: Unit | None, limit: str) -> Iterator[str]:
    """Yield why a limit cannot be compared with what is measured, and what would be right."""
    shown = f'"{limit}"'
    time, share = bool(re.fullmatch(DURATION_PATTERN, limit)), limit.endswith("%")

    if unit == "seconds" and share:
        yield f"{shown} is a ratio, and a time is measured (try 500ms or 2s)"
    elif unit == "seconds" and not time:
        yield f"{shown} {UNIT_MESSAGE}"
    elif unit in ("ratio", "number") and time:
        hint = "try 1%" if unit == "ratio" else "try 0 or 10"
        yield f"{shown} is a time, and a {unit} is measured ({hint})"
    elif unit == "number" and share:
        yield f"{shown} is a ratio, and a number is measured (try 0 or 10)"
    elif unit == "ratio" and quantity(limit) > 1:
        # A plain number above one was meant in percent; a percentage above a hundred was not meant
        # at all.
        hint = "try 100% or less" if share or quantity(limit) > 100 else f"try {limit}%"
        yield f"{shown} is more than all there is, and a ratio is measured ({hint})"
