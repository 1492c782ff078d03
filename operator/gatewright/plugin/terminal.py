"""Where the plugin writes: plain lines, with colours only where a person sees them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

_RESET = "\x1b[0m"
_GREEN, _YELLOW, _RED, _DIM, _BOLD = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[1m"
_COLOUR_OF: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "Promoted", "Guarding", "Passing", "Passed", "Succeeded", "Done", "Sent", "[x]",
            "Accepted",
        ),
        _GREEN,
    ),
    **dict.fromkeys(
        (
            "WaitingForPerson", "Paused", "Suspended", "Holding", "Drifted", "Waiting", "Overdue",
            "RollingBack", "Breaching", "Verifying", "Unknown", "Frozen", "OutsideWindow",
        ),
        _YELLOW,
    ),
    **dict.fromkeys(
        ("Failed", "Invalid", "Stalled", "RolledBack", "RollbackFailed", "Expired", "[!]"), _RED
    ),
    **dict.fromkeys(("Skipped", "Superseded", "Pending", "[-]"), _DIM),
}  # fmt: skip
_COLOURED = re.compile(
    r"(?<![\w.-])(" + "|".join(re.escape(word) for word in _COLOUR_OF) + r")(?![\w-])"
)
_TITLE = re.compile(r"^[A-Z][\w -]*:$|^[A-Z][A-Z -]+$")


def print_lines(lines: Iterable[str], to: Any = None, plain: bool = False) -> None:
    """Write lines; `plain`: for programs, so that nothing is ever put in."""
    stream = to or sys.stdout
    coloured = not plain and wants_colours(stream)
    for line in lines:
        stream.write(f"{colour_line(line) if coloured else line}\n")
    stream.flush()


def wants_colours(stream: Any) -> bool:
    """Return whether a person sees the stream, who has not said no (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(stream.isatty())


def colour_line(line: str) -> str:
    """Return a line with the words of states in colours, and a title in bold."""
    if _TITLE.match(line):
        return f"{_BOLD}{line}{_RESET}"
    return _COLOURED.sub(lambda match: f"{_COLOUR_OF[match[1]]}{match[1]}{_RESET}", line)
