"""`npm audit --json` of npm 7 and newer (npm/cli: workspaces/arborist/lib/audit-report.js, toJSON).

The report is never filtered by level. An audit that could not run prints JSON too, without
`auditReportVersion`. One with `--offline` or `audit=false` prints a report without vulnerabilities,
which cannot be told from a clean one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gatewright.api.jobs import NpmAuditReport
from gatewright.providers.reports.documents import find_json_documents
from gatewright.providers.reports.finding import (
    Finding,
    plain_line,
    require_count,
    require_object,
    show_amount,
)

SEVERITIES = ("info", "low", "moderate", "high", "critical")


class NpmAudit:
    """Vulnerabilities of a level or worse are a failure, and so is an audit that could not run or
    saw no dependency."""

    title = "npm audit report"
    exits: Mapping[int, str] = {}

    def documents(self, output: str) -> list[Any]:
        return [document for document in find_json_documents(output) if _is_audit(document)]

    def judge(self, documents: Sequence[Any], config: NpmAuditReport) -> Finding:
        counts = dict.fromkeys(SEVERITIES, 0)
        worst: list[tuple[int, str]] = []
        dependencies = 0

        for document in documents:
            if document.get("auditReportVersion") != 2:
                return Finding(False, _explain_unrun(document))

            listed = list(_list_packages(document))
            metadata = require_object(document.get("metadata"), "metadata")
            summed = require_object(metadata.get("vulnerabilities"), "metadata.vulnerabilities")

            # Whichever is worse: what the sums say, or what is listed.
            ranks = [rank for rank, _ in listed]
            for rank, severity in enumerate(SEVERITIES):
                stated = require_count(summed.get(severity), f"metadata.vulnerabilities.{severity}")
                counts[severity] += max(stated, ranks.count(rank))

            worst += listed
            seen = require_object(metadata.get("dependencies"), "metadata.dependencies")
            dependencies += require_count(seen.get("total"), "metadata.dependencies.total")

        return _judge_counts(counts, worst, dependencies, config.level)


def _is_audit(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    return "auditReportVersion" in document or _is_refusal(document)


def _is_refusal(document: Mapping[str, Any]) -> bool:
    """Return whether this is what npm prints instead of a report: `{error: {code, summary,
    detail}}`, mostly with a message beside it."""
    error = document.get("error")
    return isinstance(error, dict) and ("summary" in error or "code" in error)


def _explain_unrun(document: Mapping[str, Any]) -> str:
    if "auditReportVersion" in document:
        return "its auditReportVersion is not 2, which is the only one that is understood"
    code = document.get("statusCode")
    is_code = isinstance(code, int) and not isinstance(code, bool)
    status = f" (the registry answered {code})" if is_code else ""
    return f"npm audit could not run{status}: what it printed has no auditReportVersion"


def _list_packages(document: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield severity and name of each package. A severity that is not known counts as the worst."""
    for name, package in require_object(document.get("vulnerabilities"), "vulnerabilities").items():
        severity = require_object(package, "vulnerabilities.*").get("severity")
        is_known = severity in SEVERITIES
        rank = SEVERITIES.index(severity) if is_known else len(SEVERITIES) - 1
        yield rank, str(name)


def _judge_counts(
    counts: Mapping[str, int], listed: Sequence[tuple[int, str]], dependencies: int, level: str
) -> Finding:
    from_ = SEVERITIES.index(level)
    failed, whole = sum(counts[severity] for severity in SEVERITIES[from_:]), sum(counts.values())
    outputs = {severity: str(counts[severity]) for severity in reversed(SEVERITIES)}
    outputs |= {"failed": str(failed), "total": str(whole), "dependencies": str(dependencies)}
    reach = level if level == SEVERITIES[-1] else f"{level} or worse"

    if failed:
        # The first of the worst.
        rank, name = max(listed, key=lambda package: package[0], default=(-1, ""))
        first = f", first: {plain_line(name)} ({SEVERITIES[rank]})" if rank >= from_ else ""
        amount = show_amount(failed, "vulnerability")
        return Finding(False, f"{amount} of severity {reach}{first}", outputs)

    if not dependencies:
        return Finding(False, "it saw no dependency at all", outputs)

    lesser = f", {whole} of lesser severity" if whole else ""
    seen = show_amount(dependencies, "dependency")
    return Finding(True, f"no vulnerability of severity {reach} in {seen}{lesser}", outputs)
