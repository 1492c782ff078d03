"""Values of Secrets: read from an OpenConnection, and kept out of everything that is said."""

from __future__ import annotations

import base64
import contextlib
import html
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from pydantic import BaseModel

from gatewright.api.base import SecretSource
from gatewright.core.memory import Memory
from gatewright.core.text import masking
from gatewright.ports import Answer, OpenConnection, Permanent, Retryable

_MIN_SECRET_LENGTH = 4
"""Shorter values are not hidden: they would turn every message into dots, and are no secrets."""
PIECE_LENGTH = 12
"""So many characters of a secret in a row are hidden, wherever the rest of it is: who repeats it
may have cut it."""
_MAX_MESSAGE_LENGTH = 300
MAX_SECRET_BYTES = 8 * 1024
"""Bytes that the values of a Connection may have together: all of its spellings are looked for in
every message."""
_MAX_SEARCHED_LENGTH = 16 * 1024
"""Characters of a message that are looked at."""
_MAX_AUTHOR_WORDS = 300
_MARKS = " .,:;/?&='\"[](){}<>$"
"""What messages put between two fields."""
_LONG_BEGINNING = 24
"""So many characters of a longer value show that it is repeated: messages cut what is long."""
_written_by_author: ContextVar[tuple[Any, ...]] = ContextVar("written_by_author", default=())
"""What the author of a Release has written in what is asked right now."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def secret_value(link: OpenConnection, source: SecretSource) -> str:
    """Return the value of a Secret, without the line break that `kubectl create secret` leaves at
    its end.

    Raises Permanent.
    """
    ref = source.secretRef
    value = link.secrets.get((ref.name, ref.key))
    if value is None:
        raise Permanent(f'the Secret "{ref.name}" with the key "{ref.key}" is not there')

    value = value.strip()
    if not value:
        raise Permanent(f'the key "{ref.key}" of the Secret "{ref.name}" is empty')

    if _CONTROL.search(value):
        place = f'the key "{ref.key}" of the Secret "{ref.name}"'
        raise Permanent(f"{place} holds a line break; it must be one line")

    return value


@contextlib.contextmanager
def spare_words_of(*texts: Any) -> Iterator[None]:
    """Leave alone, in what is said meanwhile, what the author of a Release has written himself.

    Messages repeat it. Were it masked where a Secret holds the same, the mask would tell an author
    who may not read the Secret what is in it, guess by guess.
    """
    token = _written_by_author.set(texts)
    try:
        yield
    finally:
        _written_by_author.reset(token)


def hide_secrets(message: str, link: OpenConnection, longest: int = _MAX_MESSAGE_LENGTH) -> str:
    """Return a message without any secret of the link, in one line.

    It is cut only then: a secret that is cut is not found.
    """
    if not message:
        return ""
    known = _known_secrets(frozenset(link.secrets.values()), link.namespace)
    masked = masking.mask_credentials(_hide_known(message, known))
    return masking.keep_beginning(_CONTROL.sub(" ", masked).strip(), longest + 1)


def hide_in_answer(answer: Answer, link: OpenConnection) -> Answer:
    """Return an answer whose message holds no secret."""
    return replace(answer, message=hide_secrets(answer.message, link)) if answer.message else answer


def hide_in_error(error: Retryable | Permanent, link: OpenConnection) -> Retryable | Permanent:
    """Return a fresh error of the same kind that holds no secret, and no other error that might."""
    if isinstance(error, Permanent):
        return Permanent(hide_secrets(str(error), link))
    safe_error = Retryable(hide_secrets(str(error), link))
    safe_error.after = error.after
    return safe_error


@dataclass(frozen=True, slots=True, repr=False)
class _KnownSecrets:
    """What a message may not hold: values as they may be spelled, and pieces of them, all in lower
    case."""

    whole: tuple[str, ...]
    pieces: frozenset[str]
    longest: int


def _hide_known(message: str, secrets: _KnownSecrets) -> str:
    """Return a message with `***` in place of every secret, and of every piece of one.

    A secret that the end of a long message cuts is hidden too.
    """
    most = _MAX_SEARCHED_LENGTH + secrets.longest
    spans = _merged_spans(message[:most], secrets)
    parts: list[str] = []
    place = 0

    for begin, end in spans:
        if begin >= _MAX_SEARCHED_LENGTH:
            break
        parts += [message[place:begin], "***"]
        place = end

    return "".join([*parts, message[place:_MAX_SEARCHED_LENGTH]])


def _merged_spans(message: str, secrets: _KnownSecrets) -> Iterator[tuple[int, int]]:
    """Yield the longest stretches that hold nothing but secrets, without those that the author of
    the Release has written himself."""
    author: _AuthorWords | None = None
    begin = end = -1

    for start, stop in [*sorted(_secret_spans(message, secrets)), (len(message) + 1, 0)]:
        if start <= end:
            end = max(end, stop)
            continue
        if begin >= 0:
            # Most messages hold no secret: then nobody has to know what the author wrote.
            author = author or _AuthorWords(_written_by_author.get(), message)
            if not author.has_written(begin, end):
                yield begin, end
        begin, end = start, stop


class _AuthorWords:
    """Where a message repeats a value that the author of a Release has written, as a whole or from
    its beginning.

    A piece out of the middle is not his: else one long value would hold thousands of guesses, and
    the one that a service repeats would stand there unmasked.
    """

    def __init__(self, written: tuple[Any, ...], message: str) -> None:
        self._lower = lower = _lowered(message)
        values = itertools.islice(dict.fromkeys(_words_of(written)), _MAX_AUTHOR_WORDS)
        self._stretches = [
            stretch for value in values if value for stretch in _stretches_of(value, lower)
        ]

    def has_written(self, begin: int, end: int) -> bool:
        """Return whether a stretch of the message is made of values of the author alone.

        Messages join his fields, with marks between them: without a mark, pieces of a guess would
        be put together to a secret.
        """
        place = begin
        for start, stop in sorted(self._stretches):
            if stop <= place:
                continue
            # One that reaches back to the beginning stands alone, however far another one has led.
            gap = self._lower[place:start]
            is_alone = start <= begin
            if not is_alone and (start >= end or gap.strip(_MARKS) or not gap):
                break
            place = stop
            if place >= end:
                return True

        return place > begin and not self._lower[place:end].strip(_MARKS)


def _stretches_of(value: str, message: str) -> Iterator[tuple[int, int]]:
    """Yield where a message repeats a value: all of it, or a long beginning that was cut."""
    head = value[:_LONG_BEGINNING]
    at = message.find(head)
    while at >= 0:
        length = len(head)
        while length < len(value) and message[at + length : at + length + 1] == value[length]:
            length += 1
        yield at, at + length
        at = message.find(head, at + length)


def _words_of(value: Any) -> Iterator[str]:
    """Yield the texts within a configuration, in lower case, as messages may spell them."""
    if isinstance(value, str):
        for spelled in {spelling.lower() for spelling in _spellings_of(value)}:
            yield spelled
            # A message is one line once it has been through `hide_secrets`, and it may come again.
            yield _CONTROL.sub(" ", spelled)
    elif isinstance(value, BaseModel):
        yield from _words_of(value.model_dump(by_alias=True))
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _words_of(name)
            yield from _words_of(entry)
    elif isinstance(value, Iterable):
        for entry in value:
            yield from _words_of(entry)
    elif value is not None:
        yield str(value).lower()


def _secret_spans(message: str, secrets: _KnownSecrets) -> Iterator[tuple[int, int]]:
    lower = _lowered(message)
    for value in secrets.whole:
        at = lower.find(value)
        while at >= 0:
            yield at, at + len(value)
            at = lower.find(value, at + len(value))

    if secrets.pieces:
        for at in range(len(lower) - PIECE_LENGTH + 1):
            if lower[at : at + PIECE_LENGTH] in secrets.pieces:
                yield at, at + PIECE_LENGTH


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
    parts: set[str] = set()
    for value in values:
        parts.update(_secret_parts(value))

    whole: set[str] = set()
    for part in parts | values:
        # What is too short for any of its pieces to be looked for may come encoded as a whole.
        encoded = _whole_encodings_of(part) if len(part) >= _MIN_SECRET_LENGTH else ()
        whole.update(
            _lowered(spelled)
            for spelled in (*_spellings_of(part), *encoded)
            if len(spelled) >= _MIN_SECRET_LENGTH
        )

    pieces: set[str] = set()
    for part in parts:
        # Of a URL only its password is secret, which is a part of its own.
        if "://" in part:
            continue
        for spelled in (*_spellings_of(part), *_encodings_of(part)):
            pieces.update(_pieces_of(spelled))

    longest_first = tuple(sorted(whole, key=len, reverse=True))
    return _KnownSecrets(longest_first, frozenset(pieces), max(map(len, whole), default=0))


def _pieces_of(spelled: str) -> Iterator[str]:
    for at in range(len(spelled) - PIECE_LENGTH + 1):
        yield spelled[at : at + PIECE_LENGTH].lower()


def _secret_parts(value: str) -> Iterator[str]:
    """Yield what of a Secret's value is secret by itself: all of it, each word, and the password of
    a URL or of a DSN's words."""
    for word in {value.strip(), *value.split()}:
        yield word
        if "://" in word and "@" in word:
            yield word.split("://", 1)[1].rsplit("@", 1)[0].partition(":")[2]
        elif word.lower().startswith("password="):
            yield word.partition("=")[2].strip("'")


def _spellings_of(part: str) -> set[str]:
    """Return how a text may be written where it is repeated: as it is, escaped for a URL, JSON or
    HTML."""
    quotes = {part, unquote(part), quote(part, safe=""), quote(part), quote_plus(part)}
    lower = {
        re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), spelling)
        for spelling in quotes
        if "%" in spelling
    }

    in_json = {json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]}
    return quotes | lower | in_json | {html.escape(part)}


def _lowered(text: str) -> str:
    """Return a text in lower case, where each letter keeps its place."""
    # Some letters become several, and every place behind them another.
    lower = text.lower()
    return lower if len(lower) == len(text) else text


def _whole_encodings_of(part: str) -> Iterator[str]:
    """Yield its base64, without padding, and hexadecimal."""
    raw = part.encode(errors="replace")
    encoded = base64.b64encode(raw).decode().rstrip("=")
    yield from (encoded, encoded.replace("+", "-").replace("/", "_"), raw.hex())


def _encodings_of(part: str) -> Iterator[str]:
    """Yield the inner part of its base64 at each of the three places that it may begin at, and
    hexadecimal."""
    raw = part.encode(errors="replace")
    yield raw.hex()

    for shift in range(3):
        # The first and last characters hold bits of what stands beside it.
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - 1]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")
