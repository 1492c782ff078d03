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

    def documents(self, text: str) -> list[Any]:
        found = [
            item
            for item in find_json_documents(text)
            if isinstance(item, list) and all(map(_is_assertion, item))
        ]
        return [item for item in found if item] or found[:1]

    def judge(self, documents: Sequence[Any], config: LighthouseReport) -> Finding:
        found = [item for document in documents for item in require_objects(document, "the list")]
        passed = [item for item in found if _state_of(item) == "passed"]
        warned = [item for item in found if _state_of(item) == "warned"]
        failed = [item for item in found if _state_of(item) == "failed"]
        outputs = {
            "passed": str(len(passed)),
            "failed": str(len(failed)),
            "warned": str(len(warned)),
        }
        outputs |= {"total": str(len(found))} | _worst_values(found)
        if failed:
            words = (
                f"{len(failed)} of {show_amount(len(found), 'assertion')} failed, first: "
                f"{plain_line(_words_of(failed[0]))}"
            )
            return Finding(False, words, outputs)
        if not passed:
            return Finding(
                False,
                "it lists no assertion that passed; use lhci assert --includePassedAssertions",
                outputs,
            )
        warnings = f", {len(warned)} warned" if warned else ""
        return Finding(True, f"{show_amount(len(passed), 'assertion')} passed{warnings}", outputs)


def _is_assertion(item: Any) -> bool:
    return isinstance(item, dict) and "passed" in item and "auditId" in item and "operator" in item


def _state_of(item: Mapping[str, Any]) -> str:
    """What is not known for sure to have passed has failed; only a failure of level `warn` is
    none."""
    if item["passed"] is True:
        return "passed"
    return "warned" if item["passed"] is False and item.get("level") == "warn" else "failed"


def _audit_name(item: Mapping[str, Any]) -> str:
    part = item.get("auditProperty")
    parts = part if isinstance(part, list) else [part] if part else []
    return ".".join(str(one) for one in (item["auditId"], *parts))


def _words_of(item: Mapping[str, Any]) -> str:
    """The audit, both numbers, and the page without what stands in its query."""
    actual, expected = number_or_none(item.get("actual")), number_or_none(item.get("expected"))
    got = "no value" if actual is None else show_decimal(actual)
    wanted = (
        f", wanted {str(item['operator'])[:3]} {show_decimal(expected)}"
        if expected is not None
        else ""
    )
    return f"{_audit_name(item)} {got}{wanted}{_describe_page(item.get('url'))}"


def _describe_page(url: Any) -> str:
    try:
        parts = urlsplit(str(url or ""))
    except ValueError:
        return ""
    return f", at {parts.path or '/'}" if parts.scheme in ("http", "https") else ""


def _worst_values(found: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The worst value of each audit, over all pages."""
    worst: dict[str, float] = {}
    for item in found:
        value = number_or_none(item.get("actual"))
        if value is None:
            continue
        name = _KEY.sub("-", _audit_name(item))[:60]
        pick = min if str(item["operator"]).startswith(">") else max
        worst[name] = pick(worst.get(name, value), value)
    return {name: show_decimal(value) for name, value in list(worst.items())[:_MAX_AUDITS]}
