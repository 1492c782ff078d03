"""JSON that others have written: a body, a log, what a container leaves.

JSON may write half of a surrogate pair (`"\\ud800"`), which is no text: no status, no message and no log can hold it.
"""

from __future__ import annotations

import json
import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(rb"\\u[dD][89a-fA-F]")


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
