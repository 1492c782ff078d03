"""Every request that any contract test makes to a vendor is one that the vendor describes.

Nobody lists requests, so none can be forgotten: `checked` is in use for all tests in this folder.
Where a description is not to be had, nothing is checked.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from yarl import URL

from gatewright.providers.registry import CONNECTIONS
from tests.contract.sdk import Sdk
from tests.contract.specs import Call, Spec, load, recorded


@dataclass(frozen=True)
class Vendor:
    """Which file describes what a Connection asks."""

    file: str
    under: str = ""
    """What comes between the Connection's URL and the paths of the file."""


VENDORS: Mapping[str, Vendor] = {
    "github": Vendor("github"),
    "ofrep": Vendor("ofrep"),
    "openai": Vendor("openai"),
    "pagerduty": Vendor("pd_events", "/v2"),
    "prometheus": Vendor("prom", "/api/v1"),
    "sentry": Vendor("sentry"),
    "statuspage": Vendor("statuspage"),
    "supabase": Vendor("supabase"),
    "vercel": Vendor("vercel"),
}
"""By the kind of Connection. The others speak to users' own systems, to no HTTP, or to who has no
such file."""
WITHOUT: Mapping[str, str] = {
    "http": "a user's own",
    "webhook": "a user's own",
    "postgres": "no HTTP; tested against the real server",
    "redis": "no HTTP; tested against the real server",
    "slack": "its own SDK builds the requests, and emulate answers them",
    "upstash": "no such file; its own SDK has driven the stand-in",
    "unleash": "tested against the real server",
    "launchdarkly": "its file is in no package",
}
"""Why there is no file."""
_KINDS = {connector.config: kind for kind, connector in CONNECTIONS.items() if kind != "http"}
"""A prometheus Connection is configured as an http one is; what they ask differs."""
_passed: set[tuple[Any, ...]] = set()


@contextmanager
def checked() -> Iterator[None]:
    """Fail in the end if a request to a vendor with a file was none that its file describes."""
    with recorded() as calls:
        yield
    found = [problem for call in calls for problem in _against_file(call)]
    assert not found, "\n".join(dict.fromkeys(found))


def _against_file(call: Call) -> list[str]:
    """What the file of its vendor has against a request; nothing where there is no such file."""
    assert call.link is not None
    kind = _KINDS.get(type(call.link.config), "")
    vendor = VENDORS.get(kind)
    spec = at_hand(vendor.file) if vendor is not None else None
    if vendor is None or spec is None:
        return []
    sent, base = call.request, f"{call.link.config.url.rstrip('/')}{vendor.under}"
    path = sent.url.raw_path_qs.removeprefix(URL(base).raw_path)
    if kind == "prometheus" and not str(sent.url).startswith(base):
        return []
    same = (
        kind,
        sent.method,
        path,
        sent.content,
        sent.headers.get("content-type"),
        sent.headers.get("accept"),
    )
    found = [] if same in _passed else spec.problems(call, base)
    if not found:
        _passed.add(same)
    return found


@functools.cache
def at_hand(name: str) -> Spec | Sdk | None:
    """A vendor's file, or None where it is not to be had."""
    try:
        return Sdk() if name == "vercel" else load(name)
    except (pytest.skip.Exception, pytest.fail.Exception):
        return None
