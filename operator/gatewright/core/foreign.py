"""What others have written: JSON of a body, a log, what a container leaves; numbers of a header or a URL.

JSON may write half of a surrogate pair (`"\\ud800"`), which is no text: no status, no message and no log can hold it.
"""

from __future__ import annotations

import json
import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(rb"\\u[dD][89a-fA-F]")
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def decimal(text: str) -> float | None:
    """The number that a text is in plain decimal digits (`30`, `1767268800.5`); None where it is anything else, such as `²`."""
    return float(text) if _DECIMAL.fullmatch(text) else None


def has_control(text: str) -> bool:
    """Whether a text has control characters, which make two lines of one or end a field."""
    return _CONTROL.search(text) is not None


def parsed(text: str | bytes) -> Any:
    """What JSON says; what is no text becomes `?`. Raises ValueError, RecursionError."""
    raw = text if isinstance(text, bytes) else text.encode()
    found = json.loads(raw)
    return _whole(found) if _ESCAPED.search(raw) else found


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF.sub("?", value)
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value
