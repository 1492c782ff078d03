"""The API server's audit log: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log so far; a last line still being written is left out."""
    with path.open() as lines:
        yield from parsed(lines)


def parsed(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The events of complete lines."""
    return (json.loads(line) for line in lines if line.endswith("\n"))


def user_of(event: Mapping[str, Any]) -> str:
    """Whose request it was; empty where that was never known: it was refused, or given up, before
    its user was told."""
    return str(event["user"].get("username", ""))
