"""Hashes of Secrets, which tell nothing to those who may not read the Secrets.

A snapshot lies in a ControllerRevision, where everybody who may `view` can read it. A plain hash of
a Secret would let them try passwords against it. So the hash is keyed, and the key lies in a Secret
of the operator's own namespace.

    h1:<id of the key>:<hash>     the key may have been lost and made anew: then the id tells so.
                                  The hash is that of one Secret of one Release: whoever may make
                                  Secrets and Releases elsewhere cannot compare
    <hash>                        written before there was a key
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatewright.core.fingerprints import as_canonical, fingerprint

KEY_BYTES = 32
_FORMAT = "h1"
_ID_DIGITS = 8
_HASH_DIGITS = 32
"""128 bits, as every hash here has."""


@dataclass(frozen=True, slots=True)
class HashKey:
    """A key, and the hashes that are made with it."""

    value: bytes = field(repr=False)

    @classmethod
    def random(cls) -> HashKey:
        """Return a new key, which nobody knows."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @property
    def id(self) -> str:
        """Return what names the key, and does not tell it."""
        return hashlib.sha256(b"gatewright hash key\0" + self.value).hexdigest()[:_ID_DIGITS]

    def digest(self, value: Any) -> str:
        """Return 32 hex digits over a JSON value, whatever the order of its keys."""
        text = as_canonical(value).encode()
        return hmac.new(self.value, text, hashlib.sha256).hexdigest()[:_HASH_DIGITS]

    def hash(self, scope: Sequence[str], data: Mapping[str, Any]) -> str:
        """Return the hash of a Secret's data, with the id of the key.

        `scope`: whose it is; the same data has another hash elsewhere.
        """
        return f"{_FORMAT}:{self.id}:{self.digest([*scope, data])}"

    def knows(self, kept: str) -> bool:
        """Return whether a hash can be compared: it was made with this key, or without any."""
        return ":" not in kept or kept.startswith(f"{_FORMAT}:{self.id}:")

    def matches(self, kept: str, scope: Sequence[str], data: Mapping[str, Any]) -> bool:
        """Return whether a hash that this key knows is that of a Secret's data."""
        expected = self.hash(scope, data) if ":" in kept else fingerprint(data)
        return hmac.compare_digest(expected, kept)
