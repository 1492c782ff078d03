"""Ends of logs, fit to be repeated in a status: in one line, short, and without what looks like a secret.

A log may hold anything, and whoever may read a Release may read its status. So a value after a name such as `key`, `token`
or `password` is masked, and so is every long word of letters and digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 500
"""Characters of a log that are repeated in a message."""
MARK = "its log ends: "
"""Goes before the end of a log in a message."""
BREAK = " / "
"""Stands for a line break."""
_WORDS = r"token|secret|passw\w*|credential\w*|authorization|bearer|dsn"
_NAMED = re.compile(
    rf"(?i)([\w.-]*(?:key|{_WORDS})[\w.-]*[\"']?\s*[=:]\s*|[\w.-]*(?:{_WORDS})[\w.-]*[\"']?\s+)\S+|"
    r"([\w.-]*key[\w.-]*[\"']?\s+)(?=\S*[\d_+/=-])\S{4,}"  # but "duplicate key value" and "pkey / DETAIL:" stay
)
_LONG_WORD = re.compile(
    r"(?<![\w/.@-])(?=[A-Za-z_-]*\d)(?=[\d_-]*[A-Za-z])[A-Za-z0-9_+=-]{20,}(?:\.[A-Za-z0-9_+=-]{10,})*"
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def one_line(lines: Iterable[str]) -> str:
    """Lines of a log in one, without colours."""
    return BREAK.join(" ".join(_ANSI.sub("", line).split()) for line in lines if line.strip())


def masked(text: str) -> str:
    """A text without what looks like a secret."""
    return _LONG_WORD.sub("***", _NAMED.sub(_hidden, _CREDENTIALS.sub("", text)))


def ended(text: str) -> str:
    """The end of a text that is too long."""
    return text if len(text) <= LONGEST else f"…{text[-LONGEST:]}"


def _hidden(found: re.Match[str]) -> str:
    return f"{found[1] or found[2]}***"
