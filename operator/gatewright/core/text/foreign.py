"""What others have written: JSON of a body, a log, what a container leaves; numbers of a header or
a URL.

Of what another system answers, a message repeats numbers, booleans, times and short words alone
(`to_plain_word`): whoever chooses a URL could otherwise read by it, in a status, what that system
tells to the operator's place in the network.

JSON may write half of a surrogate pair (`"\\ud800"`), which is no text: no status, no message and
no log can hold it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from gatewright.core.text import masking

MOST_WORD_CHARS = 40
"""Characters of a short word: codes of errors are such (`restricted_action_read_only_channel`)."""
MOST_LISTS = 65_536
"""Objects and lists that are read of one JSON text."""
MOST_VALUES = 262_144
"""Values that are read of one JSON text."""
LARGEST_NUMBER = 1e300
"""What is more, in either direction, is no number that anybody counts with."""
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF_PAIR = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
"""The escape of half of a pair, where no backslash is escaped: the first half before anything but a
second, or the second after anything but a first."""
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_PLAIN_WORDS = re.compile(r"[A-Za-z0-9_.+-]+(?: [A-Za-z0-9_.+-]+){0,4}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)?")


HIDDEN_TEXT = "a text that is not shown"
"""What stands for a text that a message may not repeat."""


def to_plain_word(value: Any) -> str | None:
    """Return a JSON value as a message may repeat it; None where it may not.

    It may repeat a number, a boolean, null, a time, and up to five plain words that are no key.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value) if abs(value) < 10**MOST_WORD_CHARS else None
    if isinstance(value, float):
        return repr(value)
    if not isinstance(value, str) or len(value) > MOST_WORD_CHARS:
        return None

    plain = _PLAIN_WORDS.fullmatch(value) is not None and not masking.is_like_key(value)
    return value if plain or _TIME.fullmatch(value) else None


def is_time(text: str) -> bool:
    """Return whether a text is a date or a time, as JSON has them."""
    return _TIME.fullmatch(text) is not None


def quote_value(value: Any) -> str:
    """Return a JSON value in a sentence: a short one in quotes, of any other its kind alone.

    How long a text is tells of a password what it may be.
    """
    short = to_plain_word(value)
    if short is not None:
        return f'"{short}"'
    if isinstance(value, str):
        return HIDDEN_TEXT if value else "an empty text"
    if isinstance(value, int):
        return "a number of many digits"
    return "an object" if isinstance(value, dict) else "a list"


def parse_decimal(text: str) -> float | None:
    """Return the number that a text is in plain decimal digits (`30`, `1767268800.5`).

    None where it is anything else, such as `²`.
    """
    return float(text) if _DECIMAL.fullmatch(text) else None


def to_number(value: Any) -> float | None:
    """Return the number that a JSON value is, if it has a plain size.

    A boolean is none, nor is what no float can hold.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -LARGEST_NUMBER <= value <= LARGEST_NUMBER else None


def has_control(text: str) -> bool:
    """Return whether a text has control characters, which make two lines of one or end a field."""
    return _CONTROL.search(text) is not None


class TooManyValues(ValueError):
    """A JSON text has more values than are read."""


def parse_json(text: str | bytes) -> Any:
    """Return what JSON (UTF-8) says; what is no text becomes `?`.

    Raises TooManyValues, ValueError, RecursionError.

    Values are counted by the characters that begin or part them, also within texts: a parser stops
    for nobody, and a megabyte of `[]` would keep it for as long as hundreds of megabytes of text.
    """
    raw = text if isinstance(text, bytes) else text.encode()
    if len(raw) > MOST_LISTS:
        lists = raw.count(b"[") + raw.count(b"{")
        if lists > MOST_LISTS or lists + raw.count(b",") > MOST_VALUES:
            raise TooManyValues(
                f"has more than {MOST_LISTS:,} objects and lists, or {MOST_VALUES:,} values"
            )
    if _ESCAPED_SURROGATE.search(raw):
        raw = _HALF_PAIR.sub(b"?", raw.replace(rb"\\", rb"\u005c"))

    return json.loads(raw.decode("utf-8-sig"))
