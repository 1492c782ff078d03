"""Whether what a step says it has left behind is worth relying on.

It must be large enough, new enough, and not without its contents. A backup Job publishes, beside
what a restore needs, what it can tell about the backup itself:

    {"id": "s3://...", "bytes": 73400320, "createdAt": "2026-11-22T08:30:00Z",
     "tables": ["public.tasks", "auth.users"]}

What is not told is not proved. Nothing here asks anybody: the outputs and the limits are all there
is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from gatewright.api.base import seconds
from gatewright.api.steps import Proof
from gatewright.core.run import clocks
from gatewright.core.text import foreign

_MOST_CLOCK_SKEW_S = 300.0
"""Seconds that the clock of a Job may be ahead of ours."""
_MOST_NAMED_TABLES = 3


def find_missing_proof(proof: Proof, outputs: Mapping[str, str], now: datetime) -> str | None:
    """Return what is missing for the proof, in words; None where it holds."""
    problems = [
        *_size_problems(proof, outputs),
        *_age_problems(proof, outputs, now),
        *_content_problems(proof, outputs),
    ]
    return "; ".join(problems) or None


def _size_problems(proof: Proof, outputs: Mapping[str, str]) -> Iterator[str]:
    size = outputs.get("bytes", "").strip()
    # Bounded: reading a number takes more than linear time, and a Job may print any.
    if not re.fullmatch(r"[0-9]{1,18}", size):
        output = f'output "bytes": {_quote_output(outputs, "bytes")}'
        yield f"its size is not told as a number ({output})"
    elif int(size) < proof.minBytes:
        yield f"it is too small: {int(size)} bytes, at least {proof.minBytes} are expected"


def _age_problems(proof: Proof, outputs: Mapping[str, str], now: datetime) -> Iterator[str]:
    try:
        made = clocks.parse_time(outputs.get("createdAt", "").strip())
    except ValueError:
        output = f'output "createdAt": {_quote_output(outputs, "createdAt")}'
        yield f"when it was made is not told as a time ({output})"
        return

    age_s = (now - (made if made.tzinfo else made.replace(tzinfo=UTC))).total_seconds()
    if age_s < -_MOST_CLOCK_SKEW_S:
        yield "it was made in the future"
    elif age_s > seconds(proof.maxAge):
        age = clocks.format_duration(age_s)
        yield f"it is too old: made {age} ago, at most {proof.maxAge} is expected"


def _content_problems(proof: Proof, outputs: Mapping[str, str]) -> Iterator[str]:
    if not proof.contains:
        return

    tables = {_qualify_name(name) for name in _parse_names(outputs.get("tables", ""))}
    missing = [name for name in proof.contains if _qualify_name(name) not in tables]
    # What is not told is not proved.
    if not tables:
        yield f'its tables are not told (output "tables": {_quote_output(outputs, "tables")})'
    elif missing:
        named, unnamed = missing[:_MOST_NAMED_TABLES], missing[_MOST_NAMED_TABLES:]
        more = f" and {len(unnamed)} more" if unnamed else ""
        yield f"it does not contain {', '.join(named)}{more}"


def _parse_names(text: str) -> list[str]:
    """Return the names in a JSON list, or those with commas or blanks between them."""
    try:
        names = json.loads(text)
    except ValueError:
        return re.split(r"[\s,]+", text.strip()) if text.strip() else []

    if not isinstance(names, list):
        return []
    return [name for name in names if isinstance(name, str)]


def _qualify_name(name: str) -> str:
    return name if "." in name else f"public.{name}"


def _quote_output(outputs: Mapping[str, str], name: str) -> str:
    return foreign.quote_value(outputs[name]) if name in outputs else "none"
