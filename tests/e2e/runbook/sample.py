"""The sample as it is written, pointed at stand-ins and made short, with its windows always open.
Nothing is added to it and nothing is left out."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gatewright.api.base import seconds

SAMPLE = Path(__file__).parents[3] / "manifests/samples/foco-vercel.yaml"
SPEED = 400
"""How much shorter the times are that decisions wait for, within 2 and 10 seconds."""
SHORTENED = frozenset({"bake", "for", "interval", "guardFor", "after"})
"""Time-outs, budgets and ages stay as they are: what is done takes its own time."""
OPEN = {"rrule": "FREQ=DAILY", "timeZone": "UTC", "duration": "2d"}
"""A window that is open at whatever time a test runs."""
SITES = ("https://staging.foco.mx", "https://foco.mx")


def documents() -> list[dict[str, Any]]:
    """Every object of the sample."""
    return copy.deepcopy(_read())


@functools.cache
def _read() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(SAMPLE.read_text()))


def release() -> dict[str, Any]:
    """The Release of the sample."""
    return next(item for item in documents() if item["kind"] == "Release")


def connections() -> dict[str, dict[str, Any]]:
    """Specs of its Connections, by name."""
    return {
        item["metadata"]["name"]: item["spec"]
        for item in documents()
        if item["kind"] == "Connection"
    }


def pointed(spec: Mapping[str, Any], url: str | None) -> dict[str, Any]:
    """A Connection whose system is elsewhere; one that has its URL in a Secret stays as it is."""
    [kind] = set(spec) - {"timeout"}
    config = dict(spec[kind]) | ({"url": url} if url is not None else {})
    if kind == "sentry":
        config["organization"] = "acme"
    return {**spec, kind: config}


def shortened(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with short times, and windows that are open."""
    short: dict[str, Any] = _walk(spec | {"windows": [OPEN for _ in spec["windows"]]}, "")
    return short


def led(spec: dict[str, Any], site: str, images: str) -> dict[str, Any]:
    """The spec for a site and images that are elsewhere, and for the repository that the stand-in
    has."""
    names = {"repository": "acme/shop", "images": images}
    found: dict[str, Any] = _replaced(spec | {"vars": spec["vars"] | names}, site)
    return found


def _replaced(value: Any, site: str) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, site) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, site) for item in value]
    return site if value in SITES else value


def _walk(value: Any, inside: str) -> Any:
    if isinstance(value, dict):
        return {
            key: _shorter(item)
            if isinstance(item, str) and _short(key, inside)
            else _walk(item, key)
            for key, item in value.items()
        }
    return [_walk(item, inside) for item in value] if isinstance(value, list) else value


def _short(key: str, inside: str) -> bool:
    return key in SHORTENED or (key == "over" and inside == "hitRatio")


def _shorter(text: str) -> str:
    return f"{min(max(seconds(text) / SPEED, 2.0), 10.0) * 1000:.0f}ms"
