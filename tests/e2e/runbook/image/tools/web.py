"""A request, and how long its answer took."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE = 20.0


@dataclass(frozen=True)
class Answer:
    """Status 0 is none at all."""

    status: int
    text: str
    kind: str
    seconds: float


def ask(url: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
    """One request; it is never sent again."""
    began = time.monotonic()
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as found:
            status, text, kind = (
                found.status,
                found.read().decode(),
                found.headers.get_content_type(),
            )
    except urllib.error.HTTPError as error:
        status, text, kind = (
            error.code,
            error.read().decode(errors="replace"),
            error.headers.get_content_type(),
        )
    except OSError:
        status, text, kind = 0, "", ""
    return Answer(status, text, kind, time.monotonic() - began)


def option(arguments: list[str], name: str, otherwise: str = "") -> str:
    """The value of `--name=value` or `--name value`."""
    for at, argument in enumerate(arguments):
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
        if argument == name and at + 1 < len(arguments):
            return arguments[at + 1]
    return otherwise
