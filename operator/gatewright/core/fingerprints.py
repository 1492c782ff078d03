"""Hashes of JSON values, for names and for telling whether two are equal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def short_fingerprint(value: Any) -> str:
    """Return ten hex digits over a JSON value, whatever the order of its keys.

    They are enough for a name, not where equality decides.
    """
    return fingerprint(value)[:10]


def fingerprint(value: Any) -> str:
    """Return 128 bits (32 hex digits) over a JSON value, whatever the order of its keys.

    Nobody makes two values with the same.
    """
    return hashlib.sha256(as_canonical(value).encode()).hexdigest()[:32]


def as_canonical(value: Any) -> str:
    """Return a JSON value as a text, the same whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def content_fingerprint(uid: str, data: Mapping[str, Any]) -> str:
    """Return what the name of a ControllerRevision ends with.

    It stands for its Release and its content, before and after storage.
    """
    return fingerprint([uid, as_stored(dict(data))])


def as_stored(value: Any) -> Any:
    """Return a JSON value as the API server writes it: a whole number has no fraction."""
    if isinstance(value, Mapping):
        return {key: as_stored(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_stored(entry) for entry in value]

    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value
