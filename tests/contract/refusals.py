"""What a provider over HTTP makes of a server that does everything wrong (`world.FAULTS`), where it
has nothing special to say of it."""

from __future__ import annotations

from collections.abc import Mapping

VERDICTS: Mapping[str, str] = {
    "400": "Permanent",
    "401": "Permanent",
    "403": "Permanent",
    "404": "Permanent",
    "422": "Permanent",
    "429": "Retryable",
    "500": "Retryable",
    "502-html": "Retryable",
    "503": "Retryable",
    "time-out": "Retryable",
    "drip": "Retryable",
    "drip-head": "Retryable",
    "html": "Permanent",
    "not-json": "Permanent",
    "no-body": "Permanent",
    "no-content": "Permanent",
    "ok": "Permanent",
    "empty": "Permanent",
    "null": "Permanent",
    "other-json": "Permanent",
    "200-error": "Permanent",
    "deep": "Permanent",
    "oversized": "Permanent",
    "compressed": "Permanent",
    "redirect": "Permanent",
    "redirect-loop": "Permanent",
    "broken": "Retryable",
    "garbage": "Retryable",
    "echo": "Permanent",
}
"""By the name of the fault; `ok` is somebody else's JSON."""
