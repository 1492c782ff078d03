"""Who is told what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gatewright.api.base import Duration, Keyed, Name
from gatewright.api.checks import Severity

Event = Literal[
    "Started",
    "StageStarted",
    "StagePassed",
    "StageFailed",
    "StageOverdue",
    "ApprovalNeeded",
    "GuardFailed",
    "GuardRecovered",
    "Hindered",
    "RollingBack",
    "Verifying",
    "RollbackOverdue",
    "RollbackHindered",
    "StageRolledBack",
    "RolledBack",
    "RollbackFailed",
    "Completed",
    "Promoted",
    "Superseded",
    "Aborted",
    "Observed",
    "Downtime",
    "Restored",
    "FollowUpDue",
    "FollowUpFailed",
    "ProcedureStarted",
    "ProcedureEnded",
    "ProcedureFailed",
]


class Notify(Keyed):
    """Who is told what; exactly one provider key."""

    events: Annotated[list[Event], Field(min_length=1, max_length=32)]
    """What is told. ApprovalNeeded: a person is waited for. Completed: the last stage passed;
    Promoted: the guards, too. GuardRecovered comes with GuardFailed."""
    severities: Annotated[list[Severity], Field(max_length=4)] = []
    """Tell only what is as grave as one of these; empty: all."""
    checks: Annotated[list[Name], Field(max_length=20)] = []
    """Tell only what is about one of these guards and gates; empty: all."""
    after: Duration = "5m"
    """How long users must have been without service before Downtime is told."""
    health: Annotated[list[Name], Field(max_length=20)] = []
    """Guards, gates and verifications whose failing is a Downtime; empty: every http check but
    those of latency."""
