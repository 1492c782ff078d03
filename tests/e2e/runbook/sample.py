"""The sample as it is written, pointed at stand-ins and made short. Nothing is added to it and nothing is left out."""

from __future__ import annotations

import copy
import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gatewright.api.base import seconds

SAMPLE = Path(__file__).parents[3] / "manifests/samples/foco-vercel.yaml"
REPORTS = Path(__file__).parents[2] / "contract/reports"
SPEED = 200
"""How much shorter the times are that decisions wait for, within 2 and 20 seconds."""
SHORTENED = frozenset({"bake", "for", "interval", "guardFor", "after"})
"""Time-outs, budgets and ages stay as they are: what is done takes its own time."""
PLACES = {"repository": "acme/shop"}
"""What the stand-ins call it."""


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
    return {item["metadata"]["name"]: item["spec"] for item in documents() if item["kind"] == "Connection"}


def pointed(spec: Mapping[str, Any], url: str | None) -> dict[str, Any]:
    """A Connection whose system is elsewhere; one that has its URL in a Secret stays as it is."""
    [kind] = set(spec) - {"timeout"}
    config = dict(spec[kind]) | ({"url": url} if url is not None else {})
    if kind == "sentry":
        config["organization"] = "acme"
    return {**spec, kind: config}


def shortened(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with short times."""
    short: dict[str, Any] = _walk(spec, "")
    short["vars"] = {**short["vars"], **PLACES}
    return short


def _walk(value: Any, inside: str) -> Any:
    if isinstance(value, dict):
        return {
            key: _shorter(item) if isinstance(item, str) and _short(key, inside) else _walk(item, key)
            for key, item in value.items()
        }
    return [_walk(item, inside) for item in value] if isinstance(value, list) else value


def _short(key: str, inside: str) -> bool:
    return key in SHORTENED or (key == "over" and inside == "hitRatio")


def _shorter(text: str) -> str:
    return f"{min(max(seconds(text) / SPEED, 2.0), 20.0) * 1000:.0f}ms"


# --- what its Jobs leave behind

BACKUP = "backups/database/2.3.1.dump"


def with_outputs(spec: dict[str, Any]) -> dict[str, Any]:
    """The backup publishes what its proof asks for."""
    said = {
        "id": BACKUP,
        "bytes": 73_400_320,
        "createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "tables": ["public.tasks", "public.organizations", "public.workspaces"],
    }
    job = next(step["job"] for step in spec["stages"][0]["steps"] if step["name"] == "backup")
    job["env"] = [{"name": "FAKE_OUTPUT", "value": json.dumps(said)}]
    return spec


def prints() -> dict[str, str]:
    """What containers print, by a part of their command."""
    k6 = (REPORTS / "k6-export-held.json").read_text()
    tests = playwright()
    return {
        "npm audit": (REPORTS / "npm-audit-low.json").read_text(),
        "benchmarks.js": k6,
        "test:performance": k6,
        "lhci autorun": (REPORTS / "lighthouse-passed.json").read_text(),
        "@security": tests,
        "test:smoke": tests,
    }


def playwright(passed: int = 12, failed: str = "") -> str:
    """A report of Playwright's; with the title of a test that failed, if any."""
    titles = [(f"works {number}", True) for number in range(passed)] + ([(failed, False)] if failed else [])
    specs = [
        {
            "title": title,
            "ok": good,
            "tags": [],
            "tests": [
                {
                    "expectedStatus": "passed",
                    "projectName": "chromium",
                    "status": "expected" if good else "unexpected",
                    "results": [{"status": "passed" if good else "failed", "duration": 10, "retry": 0}],
                }
            ],
        }
        for title, good in titles
    ]
    stats = {"duration": 1, "expected": passed, "unexpected": int(bool(failed)), "flaky": 0, "skipped": 0}
    suite = {"title": "smoke.spec.ts", "file": "smoke.spec.ts", "specs": specs}
    return json.dumps({"config": {}, "suites": [suite], "errors": [], "stats": stats})
