"""Large objects of Gatewright, told apart into their parts by bytes.

Who writes one cannot make all others wait for it.

To read a JSON text takes a fraction of a second if it has 1.5 MB of small lists, and nothing else
happens meanwhile. So of an object that is large or nested deeply only what is needed is read:
names, versions and the status. Its spec stays text.

    {"apiVersion":...,"kind":...,"metadata":{<members>},"spec":<text>,
     "status":<what the operator wrote>}

This is how an API server writes custom resources: keys in order, no spaces. What does not look so
is Unreadable here. Each end is found by a search for bytes that stand within no text. In `},"x` the
bracket closes something: were it part of a text, that text would end at the quote, and no letter
may follow there. Annotations and labels are flat, and no list stands within managed fields or
owners; so the first such bracket closes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from gatewright.api import FINALIZER, GROUP
from gatewright.core.report import size
from gatewright.ports import Permanent

SMALL = 64 * 1024
"""Bytes of a text that is read as a whole: at worst that takes 5 ms. A runbook in full has 18
KiB."""
MAX_STATUS_BYTES = 256 * 1024
"""Bytes of a status that is read at all; the operator writes less than half of that."""
MAX_FINALIZERS = 16
"""Finalizers of an object that are remembered."""
_MOST_MEMBERS = 32
_MOST_TEXT = 2 * 1024
"""Bytes of a list that is short for sure."""

_OBJECT = re.compile(
    rb'\{"apiVersion":"' + re.escape(GROUP.encode()) + rb'/\w+","kind":"(\w+)","metadata":\{',
    re.ASCII,
)
_EVENT = re.compile(rb'\{"type":"([A-Z]+)","object":')
_LIST = re.compile(
    rb'\{"apiVersion":"' + re.escape(GROUP.encode()) + rb'/\w+","items":\[', re.ASCII
)
_LIST_ENDS = re.compile(rb'\],"kind":"\w+List","metadata":\{[^{}]{0,20000}\}\}\s*$', re.ASCII)
_MEMBER = re.compile(rb'"(\w+)":(?:("[^"\\]{0,1000}"|\d{1,18}|null)|([\[{]))', re.ASCII)
_CLOSES = {b"{": re.compile(rb'\},"[a-z]'), b"[": re.compile(rb'\],"[a-z]')}
_TEXT = re.compile(rb'"([^"\\]{1,400})"')
_SPEC, _STATUS, _MANAGED = b',"spec":', b'"status":{', b',"managedFields":['
_METADATA = b'{"kind":"PartialObjectMetadata",'
_METADATA_LIST = b'{"kind":"PartialObjectMetadataList",'
_NEXT_METADATA = b"}}," + _METADATA
_ESCAPED = (b"\\u003c", b"\\u003e", b"\\u0026")
"""What an API server writes for `<`, `>` and `&`."""
_MORE = 5
"""Bytes that each of these has more."""


class Unreadable(Permanent):
    """An answer cannot be read, whatever is cut off."""


@dataclass(frozen=True, slots=True)
class UnreadSpec:
    """A spec as text."""

    text: bytes
    """Empty where it is too large to be read at all."""
    size: int
    """Bytes of JSON."""


def event(text: bytes) -> dict[str, Any]:
    """Return an event of a watch.

    Raises Unreadable where it is none of an object of ours, as an API server writes it.
    """
    begin = _EVENT.match(text)
    if begin is None:
        raise Unreadable("an event does not begin as one")
    return {"type": begin[1].decode(), "object": _outline(text, begin.end(), _end(text) - 1)}


def one(text: bytes) -> dict[str, Any]:
    """Return an object of ours. Raises Unreadable."""
    return _outline(text, 0, _end(text))


def page_of_one(text: bytes) -> dict[str, Any]:
    """Return a page of a list that has one object of ours. Raises Unreadable."""
    begin, end = _LIST.match(text), text.rfind(b'],"kind":"')
    if begin is None or end < begin.end() or _LIST_ENDS.match(text, end) is None:
        raise Unreadable("a page does not look like one of a list")

    rest = orjson.loads(b"{" + text[end + 2 :])
    return {"items": [_outline(text, begin.end(), end)], **rest}


def metadata_alone(text: bytes) -> bytes:
    """Return an answer of metadata alone without who wrote which field.

    That may be most of it, and it stands last.
    """
    begin = text.find(_MANAGED) if text.startswith(_METADATA) else -1
    return text if begin < 0 else text[:begin] + b"}}"


def page_of_metadata(text: bytes) -> bytes:
    """Return the same for a page of a list."""
    if not text.startswith(_METADATA_LIST):
        return text

    items = text.split(_NEXT_METADATA)
    last = len(items) - 1

    for number, item in enumerate(items):
        begin = item.find(_MANAGED)
        if begin >= 0:
            # The last one closes the list as well.
            items[number] = item[:begin] + (b"" if number < last else b"}}]}")

    return _NEXT_METADATA.join(items)


def _end(text: bytes) -> int:
    """Return where an object ends."""
    end = len(text)
    while end and text[end - 1] in b" \r\n\t":
        end -= 1
    return end


def _outline(text: bytes, start: int, end: int) -> dict[str, Any]:
    """Return the object that stands there."""
    begin = _OBJECT.match(text, start)
    if begin is None or text[end - 1 : end] != b"}":
        raise Unreadable("it is no object of ours as an API server writes it")

    metadata, at = _metadata(text, begin.end())
    kind = begin[1].decode()
    outline: dict[str, Any] = {"kind": kind, "metadata": metadata}

    status, spec_ends = _status(text, at, end - 1)
    if status is not None:
        outline["status"] = status

    if text.startswith(_SPEC, at):
        outline["spec"] = _spec(text, at + len(_SPEC), spec_ends, kind)
    elif at != spec_ends:
        raise Unreadable("something stands between metadata and status")

    return outline


def _metadata(text: bytes, at: int) -> tuple[dict[str, Any], int]:
    """Return what is asked of metadata, and where they end."""
    members: dict[str, Any] = {}
    for _ in range(_MOST_MEMBERS):
        member = _MEMBER.match(text, at)
        if member is None:
            break

        name, at = member[1].decode(), member.end()

        if member[3] is None:
            members[name] = orjson.loads(member[2])
        else:
            closes = _CLOSES[member[3]].search(text, at)
            if closes is None:
                break
            if name == "finalizers":
                members[name] = _finalizers(text[at - 1 : closes.start() + 1])
            if name == "labels":
                members[name] = _labels(text[at - 1 : closes.start() + 1])
            at = closes.start() + 1

        if text[at : at + 1] == b"}":
            if not members.keys() >= {"name", "namespace", "uid", "resourceVersion"}:
                break
            return members, at + 1

        at += 1  # a comma

    raise Unreadable("its metadata do not look as an API server writes them")


def _finalizers(text: bytes) -> list[str]:
    """Return all of them, or where there may be many, one more than are remembered.

    Ours is among those if it is there.
    """
    if len(text) <= _MOST_TEXT:
        names: list[str] = orjson.loads(text)
        return names

    first = [name[1].decode() for name in islice(_TEXT.finditer(text), MAX_FINALIZERS + 1)]
    has_ours = FINALIZER not in first and f'"{FINALIZER}"'.encode() in text
    return [*first, FINALIZER] if has_ours else first


def _labels(text: bytes) -> dict[str, str] | None:
    """Return them, or None where there may be more than anybody keeps."""
    return orjson.loads(text) if len(text) <= 2 * _MOST_TEXT else None


def _status(text: bytes, at: int, end: int) -> tuple[dict[str, Any] | None, int]:
    """Return the status, and where what comes before it ends.

    It stands last, and no part of it has that name: so it begins with the last such key, or there
    is none, and that key is part of the spec. Then there are more closing brackets behind it than
    belong to it.
    """
    begin = text.rfind(_STATUS, at, end) - 1
    # What has no comma before it is the first key of a map.
    if begin < at or text[begin : begin + 1] != b",":
        return None, end

    value = begin + len(_STATUS)
    if end - value > MAX_STATUS_BYTES:
        return {"runs": f"a status of {end - value} bytes"}, begin

    try:
        return orjson.loads(text[value:end]), begin
    except orjson.JSONDecodeError as error:
        # There are more closing brackets than belong to it: the key was part of the spec.
        if "after document" in error.msg:
            return None, end
        return {"runs": "a status that cannot be read"}, begin


def _spec(text: bytes, begin: int, end: int, kind: str) -> Any:
    used = end - begin
    if used > size.MOST_BYTES:
        # What is escaped counts as what it stands for. Nearly always that is one of a few.
        used -= _MORE * text.count(b"\\u", begin, end)
        # Exact where it matters.
        if used <= size.MOST_BYTES:
            escapes = sum(text.count(escaped, begin, end) for escaped in _ESCAPED)
            used = end - begin - _MORE * escapes

    spec = UnreadSpec(text[begin:end] if used <= size.MOST_BYTES else b"", used)

    # What is large is read when it is its turn.
    if kind in ("Release", "Runbook"):
        return spec

    try:
        return orjson.loads(spec.text)
    except ValueError:
        # Too large, or too deep: without it an object says what it lacks.
        return {}
