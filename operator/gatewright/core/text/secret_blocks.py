"""Keys in blocks of base64 (PEM), whole, also where their beginning was cut off."""

from __future__ import annotations

import re

from gatewright.core.text.secret_words import MASK

_EDGE = re.compile(r"-----(?:BEGIN|(END)) [A-Z0-9 ]{1,40}-----")
_ENCODED = re.compile(r"[A-Za-z0-9+/=\\]++")
_WORDS = re.compile(r"\S++")
_LEAST_LINE_CHARS = 40
"""Characters of a line of a block, but for its last one."""


def mask_blocks(text: str) -> str:
    """Return a text without the blocks in it."""
    parts: list[str] = []
    place, is_inside = 0, False

    for edge in _EDGE.finditer(text):
        is_end = edge[1] is not None
        if is_end:
            if not is_inside:
                # The beginning of a block may have been cut off.
                parts += [_strip_encoded(text[place : edge.start()]), MASK]
            place, is_inside = edge.end(), False
        elif not is_inside:
            parts += [text[place : edge.start()], MASK]
            is_inside = True

    # Of a block that does not end, nothing is shown.
    return "".join(parts if is_inside else [*parts, text[place:]])


def _strip_encoded(text: str) -> str:
    """Return a text up to the lines of base64 that it ends with."""
    words = list(_WORDS.finditer(text))
    last = len(words)
    while last and _ENCODED.fullmatch(words[last - 1][0]):
        line = words[last - 1][0]
        if last < len(words) and line != "/" and len(line) < _LEAST_LINE_CHARS:
            break
        last -= 1
    return text[: words[last].start()] if last < len(words) else text
