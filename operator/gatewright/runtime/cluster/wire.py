"""JSON as the API server sends and takes it.

Whoever writes an object may nest it far deeper than a reader can follow, and what an API server
sends need not be what a strict reader takes. One such object must not make what comes with it
unreadable: what is too deep is cut off, and what is no text is replaced. An ordinary answer is read
at once and costs nothing of that. A large object of ours is read only in part
(`runtime.cluster.outline`).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import Any

import orjson

from gatewright.api import GROUP
from gatewright.core.report import size
from gatewright.runtime.cluster import outline
from gatewright.runtime.cluster.outline import Unreadable

MAX_JSON_LEVELS = 300
"""Levels that are read at most, where there are more than a reader follows; no spec may have more
than a few dozen."""
MOST_MENDED = 256 * 1024
"""Bytes of a text that is mended."""
MOST_TOKENS = 20_000
"""Texts and brackets that are looked at to mend one."""
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""What a request accepts that lists metadata alone."""
JUST_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""The same for one object."""
LAST_APPLIED_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation: the whole object once more, as text."""
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]+|[\]}]+', re.DOTALL)
_MAX_NUMBER_LENGTH = 18


def decode_event(text: bytes) -> dict[str, Any]:
    """Return an event of a watch; of a large object of ours only what is needed is read.

    Raises Unreadable.
    """
    event: dict[str, Any]
    if len(text) <= outline.SMALL:
        with contextlib.suppress(ValueError):
            event = orjson.loads(text)
            return event

    with contextlib.suppress(Unreadable, ValueError):
        return outline.event(text)

    event = decode_json(text)
    return event


def decode_page(text: bytes, alone: bool) -> dict[str, Any]:
    """Return a page of a list.

    `alone`: it has at most one object, of which only what is needed is read if it is a large one of
    ours. Raises Unreadable.
    """
    if len(text) > outline.SMALL:
        text = outline.page_of_metadata(text)

    page: dict[str, Any]
    if len(text) <= outline.SMALL or not alone:
        with contextlib.suppress(ValueError):
            page = orjson.loads(text)
            return page
    if alone:
        with contextlib.suppress(Unreadable, ValueError):
            return outline.page_of_one(text)

    page = decode_json(text)
    return page


def decode_json(text: bytes) -> Any:
    """Return what a JSON text says. Raises Unreadable.

    What is nested more than `MAX_JSON_LEVELS` deep is left out, where a reader cannot follow.
    """
    try:
        return orjson.loads(text)
    except ValueError:
        return _decode_mended(text)


def decode_object(text: bytes, whole: bool = False) -> Any:
    """Return the same for an object alone.

    Of a large one of ours only what is needed is read, unless all of it is asked for.

    One of another kind that is cut, but for who wrote its fields, is not what is there, and nothing
    may be made of it. Raises Unreadable.
    """
    if whole or len(text) <= outline.SMALL:
        with contextlib.suppress(ValueError):
            return orjson.loads(text)

    with contextlib.suppress(Unreadable, ValueError):
        return outline.one(text)

    try:
        return orjson.loads(text)
    except ValueError:
        obj = _decode_mended(text)

    is_ours = str(obj.get("apiVersion", "")).startswith(f"{GROUP}/")
    if not is_ours and _is_cut(obj):
        raise Unreadable(
            f"{obj.get('kind')} {obj.get('metadata', {}).get('name')} is nested more than "
            f"{MAX_JSON_LEVELS} levels deep; make it flatter"
        )

    return obj


def _is_cut(obj: Any) -> bool:
    """Return whether an object was too deep to be read as a whole, but for who wrote its fields."""
    meta = obj.get("metadata", {})
    own_meta = {name: value for name, value in meta.items() if name != "managedFields"}
    _, levels = size.measure_shape({**obj, "metadata": own_meta}, levels=MAX_JSON_LEVELS)
    return levels > MAX_JSON_LEVELS


def _decode_mended(text: bytes) -> Any:
    if len(text) > MOST_MENDED:
        raise Unreadable(
            f"an answer of {len(text)} bytes is no plain JSON; at most {MOST_MENDED} are mended"
        )

    shallow = cut_below_levels(text)

    with contextlib.suppress(ValueError):
        return orjson.loads(shallow)

    # What a strict reader does not take (such as halves of characters) is replaced.
    try:
        value = json.loads(
            shallow.decode(errors="replace"),
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=_parse_constant,
        )
        return orjson.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(
            f"an answer of {len(text)} bytes cannot be read: {str(error)[:100]}"
        ) from None


def cut_below_levels(text: bytes) -> bytes:
    """Return a JSON text with null for each list and map below `MAX_JSON_LEVELS`.

    Raises Unreadable where too much stands in it.
    """
    parts: list[bytes] = []

    depth, begin = 0, 0
    for number, token in enumerate(_TOKENS.finditer(text)):
        if number >= MOST_TOKENS:
            raise Unreadable(
                f"an answer of {len(text)} bytes is nested too deeply, and too much stands in it"
            )

        first, signs = text[token.start()], token.end() - token.start()
        if first in b"[{":
            if depth <= MAX_JSON_LEVELS < depth + signs:
                parts += (text[begin : token.start() + MAX_JSON_LEVELS - depth], b"null")
            depth += signs
        elif first in b"]}":
            if depth > MAX_JSON_LEVELS >= depth - signs:
                begin = token.start() + depth - MAX_JSON_LEVELS
            depth -= signs

    if depth <= MAX_JSON_LEVELS:
        parts.append(text[begin:])

    return b"".join(parts)


def _parse_int(text: str) -> int | float | None:
    return int(text) if len(text) <= _MAX_NUMBER_LENGTH else _parse_float(text)


def _parse_float(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _parse_constant(_: str) -> None:
    """Return nothing: it is no number that JSON knows."""


def drop_unused_fields(obj: dict[str, Any]) -> None:
    """Drop from an object what nobody here asks about, and what may be a large part of it."""
    meta = obj["metadata"]
    meta.pop("managedFields", None)
    annotations = meta.get("annotations")
    if annotations:
        annotations.pop(LAST_APPLIED_ANNOTATION, None)


_ESCAPED = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


def as_json(value: Any) -> bytes:
    """Return JSON as the API server's own encoder writes it."""
    # What is escaped can stand only within strings.
    text = orjson.dumps(value)
    for plain, escaped in _ESCAPED:
        if plain in text:
            text = text.replace(plain, escaped)
    return text
