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
_NAME = re.compile(r"[\w.-]++")
_CERTAIN = re.compile(r"(?i)token|secret|passw|credential|authorization|bearer|dsn")
_LIKELY = re.compile(r"(?i)key")
_VALUE = r"((?:(?i:bearer|basic|digest)\s++)?+\S++)"
_ASSIGNED = re.compile(rf"[\"']?+\s*+[=:]\s*+{_VALUE}")
_FOLLOWING = re.compile(rf"[\"']?+\s++{_VALUE}")
_KEY_LIKE = re.compile(r"[\d_+/=-]")  # but "duplicate key value" and "pkey / DETAIL:" stay
_SHORTEST = 4
_LONG_WORD = re.compile(
    r"(?<![\w/.@-])(?=[A-Za-z_-]*\d)(?=[\d_-]*[A-Za-z])[A-Za-z0-9_+=-]{20,}(?:\.[A-Za-z0-9_+=-]{10,})*"
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def one_line(lines: Iterable[str]) -> str:
    """Lines of a log in one, without colours."""
    return BREAK.join(" ".join(_ANSI.sub("", line).split()) for line in lines if line.strip())


def masked(text: str) -> str:
    """A text without what looks like a secret, in time linear to its length."""
    return _LONG_WORD.sub("***", _unnamed(_CREDENTIALS.sub("", text)))


def _unnamed(text: str) -> str:
    """Without the values that stand after a name such as `token`. Each name is looked at as a whole, and once."""
    parts: list[str] = []
    kept = place = 0
    while (name := _NAME.search(text, place)) is not None:
        place = name.end()
        value = _value_of(text, name)
        if value is not None:
            parts += [text[kept : value.start(1)], "***"]
            kept = place = value.end(1)
    return "".join([*parts, text[kept:]])


def _value_of(text: str, name: re.Match[str]) -> re.Match[str] | None:
    certain = _CERTAIN.search(name[0]) is not None
    if not certain and _LIKELY.search(name[0]) is None:
        return None
    value = _ASSIGNED.match(text, name.end())
    if value is not None:
        return value
    value = _FOLLOWING.match(text, name.end())
    if value is None or certain:
        return value
    return value if len(value[1]) >= _SHORTEST and _KEY_LIKE.search(value[1]) else None


def ended(text: str) -> str:
    """The end of a text that is too long."""
    return text if len(text) <= LONGEST else f"…{text[-LONGEST:]}"
