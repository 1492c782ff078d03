"""How grave each event is, where no guard says so."""

from __future__ import annotations

from collections.abc import Mapping

from gatewright.api.checks import SEVERITIES, Severity

SEVERITY_BY_EVENT: Mapping[str, Severity] = {
    "Started": "info",
    "StageStarted": "info",
    "StagePassed": "info",
    "StageFailed": "error",
    "StageOverdue": "warning",
    "StageRolledBack": "warning",
    "ApprovalNeeded": "warning",
    "GuardFailed": "error",
    "GuardRecovered": "info",
    "RollingBack": "error",
    "Verifying": "info",
    "RollbackOverdue": "critical",
    "RollbackHindered": "critical",
    "Hindered": "warning",
    "RolledBack": "warning",
    "RollbackFailed": "critical",
    "Completed": "info",
    "Promoted": "info",
    "Superseded": "info",
    "Aborted": "warning",
    "Observed": "info",
    "Downtime": "critical",
    "Restored": "info",
    "FollowUpDue": "warning",
    "FollowUpFailed": "warning",
    "ProcedureStarted": "info",
    "ProcedureEnded": "info",
    "ProcedureFailed": "error",
}


def severity_of(event: str, said: str | None) -> Severity:
    """Return how grave an event is; `said`: what the guard says that it is about, if one is."""
    for severity in SEVERITIES:
        if said == severity:
            return severity
    return SEVERITY_BY_EVENT.get(event, "warning")
