"""Values of Secrets: read from an OpenConnection, and kept out of everything that is said."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote, quote_plus, unquote

from gatewright.api.base import SecretSource
from gatewright.core.memory import Memory
from gatewright.core.text import masking
from gatewright.ports import Answer, OpenConnection, Permanent, Retryable

_MIN_SECRET_LENGTH = 4
"""Shorter values are not hidden: they would turn every message into dots, and are no secrets."""
_PIECE_LENGTH = 12
"""So many characters of a secret in a row are hidden, wherever the rest of it is: who repeats it
may have cut it."""
_MAX_MESSAGE_LENGTH = 300
MAX_SECRET_BYTES = 8 * 1024
"""Bytes that the values of a Connection may have together: all of its spellings are looked for in
every message."""
_MAX_SEARCHED_LENGTH = 16 * 1024
"""Characters of a message that are looked at."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def secret_value(link: OpenConnection, source: SecretSource) -> str:
    """The value of a Secret, without the line break that `kubectl create secret` leaves at its end.
    Raises Permanent."""
    ref = source.secretRef
    value = link.secrets.get((ref.name, ref.key))
    if value is None:
        raise Permanent(f'the Secret "{ref.name}" with the key "{ref.key}" is not there')
    value = value.strip()
    if not value:
        raise Permanent(f'the key "{ref.key}" of the Secret "{ref.name}" is empty')
    if _CONTROL.search(value):
        raise Permanent(
            f'the key "{ref.key}" of the Secret "{ref.name}" holds a line break; it must '
            "be one line"
        )
    return value


def hide_secrets(text: str, link: OpenConnection, longest: int = _MAX_MESSAGE_LENGTH) -> str:
    """A message without any secret of the link, in one line, and cut only then: a secret that is
    cut is not found."""
    if not text:
        return ""
    text = _hide_known(text, _known_secrets(frozenset(link.secrets.values()), link.namespace))
    return masking.keep_beginning(
        _CONTROL.sub(" ", masking.mask_credentials(text)).strip(), longest + 1
    )


def hide_in_answer(answer: Answer, link: OpenConnection) -> Answer:
    """An answer whose message holds no secret."""
    return replace(answer, message=hide_secrets(answer.message, link)) if answer.message else answer


def hide_in_error(error: Retryable | Permanent, link: OpenConnection) -> Retryable | Permanent:
    """A fresh error of the same kind that holds no secret, and no other error that might."""
    if isinstance(error, Permanent):
        return Permanent(hide_secrets(str(error), link))
    found = Retryable(hide_secrets(str(error), link))
    found.after = error.after
    return found


@dataclass(frozen=True, slots=True, repr=False)
class _KnownSecrets:
    """What a message may not hold: values as they are spelled, and pieces of them in lower case."""

    whole: tuple[str, ...]
    pieces: frozenset[str]
    longest: int


def _hide_known(text: str, known: _KnownSecrets) -> str:
    """With `***` in place of every secret, and of every piece of one. A secret that the end of a
    long text cuts is hidden too."""
    most = _MAX_SEARCHED_LENGTH + known.longest
    spans = sorted(_secret_spans(text[:most], known))
    parts: list[str] = []
    place = 0
    for begin, end in spans:
        if begin >= _MAX_SEARCHED_LENGTH:
            break
        if begin > place or not parts:
            parts += [text[place:begin], "***"]
        place = max(place, end)
    return "".join([*parts, text[place:_MAX_SEARCHED_LENGTH]])


def _secret_spans(text: str, known: _KnownSecrets) -> Iterator[tuple[int, int]]:
    for value in known.whole:
        at = text.find(value)
        while at >= 0:
            yield at, at + len(value)
            at = text.find(value, at + len(value))
    if known.pieces:
        lower = text.lower() if len(text.lower()) == len(text) else text
        for at in range(len(lower) - _PIECE_LENGTH + 1):
            if lower[at : at + _PIECE_LENGTH] in known.pieces:
                yield at, at + _PIECE_LENGTH


_known_once: Memory[frozenset[str], _KnownSecrets] = Memory(
    8 * 1024 * 1024, most=512, large_bytes=256 * 1024
)
"""By the bytes of what is looked for."""
_BYTES_OF_A_PIECE = 128
"""A short text, and its place in a set."""


def _known_secrets(values: frozenset[str], namespace: str) -> _KnownSecrets:
    return _known_once.get(
        values,
        lambda: _parts_to_hide(values),
        lambda known: len(known.pieces) * _BYTES_OF_A_PIECE,
        namespace,
    )


def _parts_to_hide(values: frozenset[str]) -> _KnownSecrets:
    parts = {part for value in values for part in _secret_parts(value)}
    whole = {
        spelled
        for part in parts | values
        for spelled in _spellings_of(part)
        if len(spelled) >= _MIN_SECRET_LENGTH
    }
    pieces = {
        spelled[at : at + _PIECE_LENGTH].lower()
        for part in parts
        if "://" not in part
        for spelled in (*_spellings_of(part), *_encodings_of(part))
        for at in range(len(spelled) - _PIECE_LENGTH + 1)
    }
    return _KnownSecrets(
        tuple(sorted(whole, key=len, reverse=True)),
        frozenset(pieces),
        max(map(len, whole), default=0),
    )


def _secret_parts(value: str) -> Iterator[str]:
    """What of a Secret's value is secret by itself: all of it, each word, and the password of a URL
    or of a DSN's words."""
    for word in {value.strip(), *value.split()}:
        yield word
        if "://" in word and "@" in word:
            yield word.split("://", 1)[1].rsplit("@", 1)[0].partition(":")[2]
        elif word.lower().startswith("password="):
            yield word.partition("=")[2].strip("'")


def _spellings_of(part: str) -> set[str]:
    """How a text may be written where it is repeated: as it is, escaped for a URL, JSON or HTML."""
    quotes = {part, unquote(part), quote(part, safe=""), quote(part), quote_plus(part)}
    lower = {
        re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), text)
        for text in quotes
        if "%" in text
    }
    return (
        quotes
        | lower
        | {json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], html.escape(part)}
    )


def _encodings_of(part: str) -> Iterator[str]:
    """The inner part of its base64 at each of the three places that it may begin at, and
    hexadecimal."""
    raw = part.encode(errors="replace")
    yield raw.hex()
    for shift in range(3):
        # the first and last characters hold bits of what stands beside it
        text = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        inner = text[(0, 2, 3)[shift] : len(text) - 1]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")
