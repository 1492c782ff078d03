"""JSON within a text that holds other things too: what npm, k6 or a shell print before and after
it."""

from __future__ import annotations

import json
import re
from typing import Any

from gatewright.providers.reports.finding import MalformedReport

_START = re.compile(r"^[ \t]*(?=\{\s{0,99}\"|\[\s{0,99}[{\]])", re.MULTILINE)
"""An object with a name, or a list of objects, at the beginning of a line: not `[12:00:01]
started`, nor `{ a: 1 }`."""
_DECODER = json.JSONDecoder()
_WINDOW = 1024
_NEAR = 16
"""Characters before the end of a window in which an error may come from cutting there."""
_EFFORT = 8
"""How many times the length of the text may be looked at in vain."""
_DEEP = 5_000
"""Characters that a document nested too deeply counts as."""


def find_json_documents(output: str) -> list[Any]:
    """Return every JSON object and list of objects that begins a line, in order; what is within one
    is not looked at again.

    Raises MalformedReport where finding them is too much work: brackets after brackets that are no
    JSON.
    """
    documents: list[Any] = []
    left = _EFFORT * len(output) + 100_000
    place = 0
    while match := _START.search(output, place):
        begin = match.end()
        place = begin + 1
        try:
            document, length = _decode_at(output, begin)
        except json.JSONDecodeError as error:
            left -= error.pos + _WINDOW // 8
        except (RecursionError, ValueError):
            # A number of more than 4300 digits is a ValueError.
            left -= _DEEP
        else:
            documents.append(document)
            place = begin + length

        if left < 0:
            raise MalformedReport("there is too much in it that begins like JSON and is none")

    return documents


def _decode_at(output: str, begin: int) -> tuple[Any, int]:
    """Return the document that begins here, and its length.

    Raises JSONDecodeError, RecursionError, ValueError.

    Through windows that grow: an error counts the lines of all the text that the decoder was given,
    which would be far more work than finding it.
    """
    size = _WINDOW

    while True:
        window = output[begin : begin + size]
        try:
            return _DECODER.raw_decode(window)
        except json.JSONDecodeError as error:
            cut = error.pos > len(window) - _NEAR or error.msg.startswith("Unterminated string")
            if not cut or begin + size >= len(output):
                raise

        size *= 16
