"""Values of Secrets: read from a Link, and kept out of everything that is said."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

from gatewright.api.base import SecretSource
from gatewright.ports import Link, Permanent, Retryable

_SHORTEST = 4
"""Shorter values are not hidden: they would turn every message into dots, and are no secrets."""
_LONGEST_MESSAGE = 300
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def secret(link: Link, source: SecretSource) -> str:
    """The value of a Secret, without the line break that `kubectl create secret` leaves at its end. Raises Permanent."""
    ref = source.secretRef
    value = link.secrets.get((ref.name, ref.key))
    if value is None:
        raise Permanent(f'the Secret "{ref.name}" with the key "{ref.key}" is not there')
    value = value.strip()
    if not value:
        raise Permanent(f'the key "{ref.key}" of the Secret "{ref.name}" is empty')
    if _CONTROL.search(value):
        raise Permanent(f'the key "{ref.key}" of the Secret "{ref.name}" holds a line break; it must be one line')
    return value


def hide(text: str, link: Link, longest: int = _LONGEST_MESSAGE) -> str:
    """A message without any secret of the link, in one line, and short."""
    for value in sorted(_spellings(link.secrets.values()), key=len, reverse=True):
        text = text.replace(value, "***")
    text = _CONTROL.sub(" ", _CREDENTIALS.sub("", text)).strip()
    return text if len(text) <= longest else f"{text[:longest]}…"


def said(error: Retryable | Permanent, link: Link) -> Retryable | Permanent:
    """A fresh error of the same kind that holds no secret, and no other error that might."""
    kind = Permanent if isinstance(error, Permanent) else Retryable
    return kind(hide(str(error), link))


def _spellings(values: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for value in values:
        parts = {value, value.strip(), *value.split()}
        # a URL with credentials: its password is a secret by itself
        if "://" in value and "@" in value:
            parts.add(value.split("://", 1)[1].rsplit("@", 1)[0].partition(":")[2])
        found |= parts | {quote(part, safe="") for part in parts} | {unquote(part) for part in parts}
    return {part for part in found if len(part) >= _SHORTEST}
