"""Playwright's JSON reporter (microsoft/playwright: packages/playwright/types/testReporter.d.ts,
JSONReport)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gatewright.api.jobs import PlaywrightReport
from gatewright.providers.reports.documents import find_json_documents
from gatewright.providers.reports.finding import (
    Finding,
    MalformedReport,
    require_count,
    require_object,
    require_objects,
)
from gatewright.providers.reports.suites import Tally, add_tallies, judge_tally

_MAX_DEPTH = 50


class Playwright:
    """A grep that matches nothing, a file that cannot be loaded, a status that is not known: none
    of them is a pass."""

    title = "Playwright report"
    exits: Mapping[int, str] = {}

    def documents(self, output: str) -> list[Any]:
        return [document for document in find_json_documents(output) if _is_report(document)]

    def judge(self, documents: Sequence[Any], config: PlaywrightReport) -> Finding:
        return judge_tally(add_tallies(map(_tally_of, documents)), config.minTests)


def _is_report(document: Any) -> bool:
    return isinstance(document, dict) and "suites" in document and "config" in document


def _tally_of(document: Mapping[str, Any]) -> Tally:
    strict = require_object(document["config"], "config").get("failOnFlakyTests") is True
    tally = Tally()
    for name, status in _walk_tests(require_objects(document["suites"], "suites"), (), 0):
        if status == "expected" or (status == "flaky" and not strict):
            tally.passed += 1
            tally.flaky += status == "flaky"
        elif status == "skipped":
            tally.skipped += 1
        else:
            tally.fail(name)

    _add_unlisted(tally, require_object(document.get("stats"), "stats"), strict)

    errors = require_objects(document.get("errors"), "errors")
    tally.outside = len(errors)
    tally.where = next(filter(None, map(_place_of, errors)), "")
    return tally


def _add_unlisted(tally: Tally, stats: Mapping[str, Any], strict: bool) -> None:
    """Add what only the sums know of: failures that are not listed, or fewer tests that passed."""
    flaky = require_count(stats.get("flaky"), "stats.flaky")
    failed = require_count(stats.get("unexpected"), "stats.unexpected") + (flaky if strict else 0)
    passed = require_count(stats.get("expected"), "stats.expected") + (0 if strict else flaky)
    tally.failed = max(tally.failed, failed)
    tally.passed = min(tally.passed, passed)


def _walk_tests(
    suites: Sequence[Mapping[str, Any]], above: tuple[str, ...], depth: int
) -> Iterator[tuple[str, str]]:
    """Yield name and status of every test, suites within suites."""
    if depth > _MAX_DEPTH:
        raise MalformedReport(f"its suites are nested more than {_MAX_DEPTH} deep")

    for suite in suites:
        path = (*above, str(suite.get("title") or ""))
        for spec in require_objects(suite.get("specs", []), "specs"):
            for test in require_objects(spec.get("tests"), "tests"):
                title = " › ".join(part for part in (*path, str(spec.get("title") or "")) if part)
                project = f" [{test['projectName']}]" if test.get("projectName") else ""
                yield title + project, str(test.get("status"))

        yield from _walk_tests(require_objects(suite.get("suites", []), "suites"), path, depth + 1)


def _place_of(error: Mapping[str, Any]) -> str:
    """Return the file of an error, without its folders."""
    location = error.get("location")
    if not isinstance(location, dict) or not location.get("file"):
        return ""
    name = str(location["file"]).replace("\\", "/").rpartition("/")[2]
    return f"{name}:{location['line']}" if isinstance(location.get("line"), int) else name
