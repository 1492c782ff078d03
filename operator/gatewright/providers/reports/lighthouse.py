"""Lighthouse CI's `assertion-results.json` (GoogleChrome/lighthouse-ci:
packages/utils/src/assertions.js).

By itself the file lists failures only, so that an empty list is written both when all is well and
when there was no run of Lighthouse to look at, with exit code 0 both times. Only
`--includePassedAssertions` tells the two apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from gatewright.api.jobs import LighthouseReport
from gatewright.providers.reports.documents import find_json_documents
from gatewright.providers.reports.finding import (
    Finding,
    number_or_none,
    plain_line,
    require_objects,
    show_amount,
    show_decimal,
)

_MAX_AUDITS = 24
_KEY = re.compile(r"[^A-Za-z0-9_.-]+")


class Lighthouse:
    """A failed assertion of level `error` is a failure; one of level `warn` is only counted."""

    title = "Lighthouse CI report"
    exits: Mapping[int, str] = {}

    def documents(self, output: str) -> list[Any]:
        lists = [document for document in find_json_documents(output) if _is_report(document)]
        # Empty lists beside others say nothing; where all are empty, one says that.
        return [assertions for assertions in lists if assertions] or lists[:1]

    def judge(self, documents: Sequence[Any], config: LighthouseReport) -> Finding:
        assertions: list[dict[str, Any]] = []
        for document in documents:
            assertions += require_objects(document, "the list")

        passed = [entry for entry in assertions if _state_of(entry) == "passed"]
        warned = [entry for entry in assertions if _state_of(entry) == "warned"]
        failed = [entry for entry in assertions if _state_of(entry) == "failed"]
        outputs = {
            "passed": str(len(passed)),
            "failed": str(len(failed)),
            "warned": str(len(warned)),
            "total": str(len(assertions)),
            **_worst_values(assertions),
        }

        if failed:
            amount = show_amount(len(assertions), "assertion")
            first = plain_line(_words_of(failed[0]))
            return Finding(False, f"{len(failed)} of {amount} failed, first: {first}", outputs)
        # An empty list is also written where there was no run of Lighthouse to look at.
        if not passed:
            remedy = "use lhci assert --includePassedAssertions"
            return Finding(False, f"it lists no assertion that passed; {remedy}", outputs)

        warnings = f", {len(warned)} warned" if warned else ""
        return Finding(True, f"{show_amount(len(passed), 'assertion')} passed{warnings}", outputs)


def _is_report(document: Any) -> bool:
    return isinstance(document, list) and all(map(_is_assertion, document))


def _is_assertion(value: Any) -> bool:
    return (
        isinstance(value, dict) and "passed" in value and "auditId" in value and "operator" in value
    )


def _state_of(assertion: Mapping[str, Any]) -> str:
    """Return the state of an assertion.

    What is not known for sure to have passed has failed; only a failure of level `warn` is none.
    """
    if assertion["passed"] is True:
        return "passed"
    if assertion["passed"] is False and assertion.get("level") == "warn":
        return "warned"
    return "failed"


def _audit_name(assertion: Mapping[str, Any]) -> str:
    part = assertion.get("auditProperty")
    parts = part if isinstance(part, list) else [part] if part else []
    return ".".join(map(str, (assertion["auditId"], *parts)))


def _words_of(assertion: Mapping[str, Any]) -> str:
    """Describe an assertion: the audit, both numbers, and the page without what stands in its
    query."""
    actual, expected = (
        number_or_none(assertion.get("actual")),
        number_or_none(assertion.get("expected")),
    )
    got = "no value" if actual is None else show_decimal(actual)
    limit = ""
    if expected is not None:
        limit = f", wanted {str(assertion['operator'])[:3]} {show_decimal(expected)}"

    page = _describe_page(assertion.get("url"))
    return f"{_audit_name(assertion)} {got}{limit}{page}"


def _describe_page(url: Any) -> str:
    try:
        parts = urlsplit(str(url or ""))
    except ValueError:
        return ""
    return f", at {parts.path or '/'}" if parts.scheme in ("http", "https") else ""


def _worst_values(assertions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the worst value of each audit, over all pages."""
    worst: dict[str, float] = {}
    for assertion in assertions:
        value = number_or_none(assertion.get("actual"))
        if value is None:
            continue
        name = _KEY.sub("-", _audit_name(assertion))[:60]
        pick = min if str(assertion["operator"]).startswith(">") else max
        worst[name] = pick(worst.get(name, value), value)
    return {name: show_decimal(value) for name, value in list(worst.items())[:_MAX_AUDITS]}
