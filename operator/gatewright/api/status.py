"""Status of a Release: what is live, where the run stands, and why; the run itself is in `run`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gatewright.api.base import Condition
from gatewright.api.notify_test import NotifyTest, NotifyTestRow
from gatewright.api.procedures import OPEN_PROCEDURES, ProcedureState, ProcedureStatus
from gatewright.api.run import (
    Difference,
    GateState,
    GateStatus,
    JournalEntry,
    Message,
    Model,
    Outcome,
    Phase,
    Rollback,
    Run,
    Short,
    StageState,
    StageStatus,
    StepState,
    StepStatus,
    Time,
    Timer,
    Undo,
)

FollowUpState = Literal["Pending", "Done", "Failed", "Overdue"]
OPEN_FOLLOW_UPS: tuple[FollowUpState, ...] = ("Pending", "Overdue")
"""Not closed: a person may still answer."""


class Served(Model):
    """A version that is or was live, and the snapshot that brings it back."""

    version: Short = ""
    """The version; empty where it cannot be told from what is deployed."""
    snapshot: Short | None = None
    """Name of the ControllerRevision that holds every target's state."""
    since: Time | None = None
    """Since when it is or was live."""
    caveat: Message | None = None
    """What is to be known of it: it is not what was promoted, or nobody watched it to the end."""


class WaitingFor(Model):
    """Why nothing moves right now."""

    message: Message
    """One sentence: what, since when, who or what can unblock it, next look, deadline."""
    since: Time
    """Since when this is waited for."""


class Rejected(Model):
    """A version that was rolled back; it runs again only by a Retry or under another name."""

    version: Short
    """The rejected version."""
    reason: Message
    """Why it was rolled back."""
    gate: Short | None = None
    """The gate or guard that decided."""
    at: Time
    """When."""


class RestingGuard(GateStatus):
    """A guard that is watched while no run is under way."""

    run: int
    """Number of the promoted run that it is of."""
    revision: Short
    """ControllerRevision that says what is measured."""
    severity: Short
    """How grave its fault is."""
    rollbackUntil: Time | None = None
    """Until when its failure undoes the promotion; absent where it is only told."""


class Kept(Model):
    """A promoted run that a Rollback at rest can undo."""

    run: int
    """Number of the run."""
    version: Short
    """The version it brought."""
    at: Time
    """When it was promoted."""
    before: Served
    """What was last good before it, and is again once it is undone."""
    revision: Short
    """ControllerRevision with what it pinned, and every snapshot from before its first change."""
    record: Short
    """ControllerRevision with what it did, to be undone."""
    plan: Annotated[list[Short], Field(max_length=40)] = []
    """What undoing it would do, in order; `...` where there is more."""
    compensations: Annotated[list[Short], Field(max_length=20)] = []
    """What would be run beside that where the database is asked for."""
    backupAt: Time | None = None
    """When the oldest of what these go back to was made: what was written since would be lost."""
    atRest: Annotated[list[Short], Field(max_length=20)] = []
    """Guards that are watched at rest once what came after it is undone: `SEVERITY NAME`."""


class Past(Model):
    """One finished run."""

    id: int
    """Number of the run."""
    version: Short
    """The version it brought."""
    attempt: int = 1
    """Which run of this version it was."""
    undoes: Annotated[list[int], Field(max_length=10)] = []
    """Numbers of the promoted runs that it undid."""
    outcome: Outcome
    """How it ended."""
    startedAt: Time
    """When it began."""
    finishedAt: Time
    """When it ended."""
    reason: Message | None = None
    """Why it ended so."""
    passedOver: Annotated[list[Short], Field(max_length=20)] = []
    """Stages that failed and were passed, by `onFailure: Continue`."""
    rolledBack: Annotated[list[Short], Field(max_length=20)] = []
    """Stages that were undone alone, by a guard's `action: RollbackStage`."""
    revision: Short | None = None
    """ControllerRevision with what it pinned, for as long as that is kept."""
    people: Annotated[list[Message], Field(max_length=20)] = []
    """What people did in it."""


class Unverified(Model):
    """A rollback failed: nobody knows whether what is served is sound. Nothing starts on it but by
    a person or a newer spec."""

    run: int
    """Number of the run."""
    version: Short
    """The version that was to be undone."""
    reason: Message
    """What could not be undone or verified."""
    subjects: Annotated[list[Short], Field(max_length=1000)] = []
    """What has to be returned or verified: the rollback of a later run ends this only if it returns
    all of it."""
    generation: int
    """The `metadata.generation` of the spec when it failed."""
    since: Time
    """Since when."""


class FollowUpStatus(Model):
    """What is left to do after a run, or was done."""

    run: int
    """Number of the run that it follows."""
    version: Short
    """The version of that run."""
    name: Short
    """Name of the follow-up."""
    state: FollowUpState
    """Overdue: its time is over, and nobody can say that it is done; a person still may."""
    dueAt: Time
    """When its time is over."""
    since: Time
    """When the state began."""
    message: Message | None = None
    """What is to be done, or what came of it."""
    by: Short | None = None
    """Who confirmed or rejected it."""
    gate: GateStatus | None = None
    """The verdict of one that is measured."""
    revision: Short | None = None
    """ControllerRevision that says what is measured, for as long as it is."""


class Answered(Model):
    """An Intervention that was answered: it stands here from the write that did what it asks
    for."""

    uid: Short
    """UID of the Intervention."""
    name: Short
    """Name of the Intervention."""
    action: Short
    """What it asked for."""
    by: Short
    """Who asked."""
    result: Literal["Accepted", "Refused"]
    """Accepted: done. Refused: nothing was done."""
    message: Message
    """What was done, or why nothing was."""
    run: int | None = None
    """Number of the run that it met."""
    specHash: Short | None = None
    """Hash of the spec that it was accepted for."""
    at: Time
    """When."""


class Overtaking(Model):
    """A Rollback or Abort that was answered before what was asked earlier."""

    name: Short
    """Name of the Intervention."""
    action: Short
    """Rollback or Abort."""
    madeAt: Time
    """When it was made."""
    version: int
    """Its resourceVersion, which orders those of one second."""


class Notification(Model):
    """What somebody is still to be told."""

    id: Annotated[str, Field(max_length=320, pattern=r"^[0-9]+\.[A-Za-z]+")]
    """Run, event, and what it is about, as `3.StagePassed.bug-fixes.1`; repetitions have the
    same."""
    at: Time
    """When it happened."""
    text: Message = ""
    """Why."""
    to: Annotated[list[Short], Field(max_length=10)]
    """Who has not been told yet: the provider, and a hash of its configuration."""
    severity: Short | None = None
    """How grave the guard says it is, where one is what it tells of."""
    check: Short | None = None
    """The check that it tells of."""

    @property
    def run(self) -> int:
        """Number of the run."""
        return int(self.id.split(".")[0])

    @property
    def event(self) -> str:
        """What happened."""
        return self.id.split(".")[1]


class Thread(Model):
    """What was opened elsewhere for a run: a Slack message to be edited, an incident to be
    closed."""

    run: int
    """Number of the run."""
    to: Short
    """Who was told: the provider, and a hash of its configuration."""
    handle: Message
    """What the provider knows it by."""


class Downtime(Model):
    """Users are not served, as far as health checks tell."""

    since: Time
    """Since when."""
    run: int
    """The run in which it began."""
    check: Short
    """The check that failed first."""
    told: Annotated[list[Short], Field(max_length=10)] = []
    """Who has been told."""


class ReleaseStatus(Model):
    """What `kubectl get releases` and `kubectl describe` show."""

    observedGeneration: int = 0
    """The `metadata.generation` this status speaks of."""
    conditions: Annotated[list[Condition], Field(max_length=8)] = []
    """`Ready`, `Reconciling`, `Stalled`, `Succeeded`, `RolledBack`, `Paused`, `Drifted`, as kstatus
    has them."""
    state: Short | None = None
    """One word: where the Release stands."""
    stage: Short | None = None
    """Number and name of the stage, as `3/5 bug-fixes`."""
    message: Message | None = None
    """Where the Release stands, in one sentence."""
    live: Served | None = None
    """What is served now; after a failed rollback what was last seen, with a caveat. Absent where
    nobody has seen it."""
    lastGood: Served | None = None
    """What a rollback returns to."""
    kept: Annotated[list[Kept], Field(max_length=10)] = []
    """Promoted runs that a Rollback at rest can undo, the latest first (`spec.rollback.keep`)."""
    unverified: Unverified | None = None
    """Stays until a version was promoted, a rollback was verified, or a person has said that it is
    good (Confirm)."""
    waitingFor: WaitingFor | None = None
    """Why nothing moves right now."""
    run: Run | None = None
    """The run under way, or the last one."""
    runs: int = 0
    """How many runs there have been."""
    followUps: Annotated[list[FollowUpStatus], Field(max_length=20)] = []
    """What is left to do after earlier runs, the latest first; what is closed goes when the next
    run has ended."""
    procedures: Annotated[list[ProcedureStatus], Field(max_length=10)] = []
    """Procedures that were run, the latest first; at most that one is under way."""
    procedureRuns: int = 0
    """How many there have been."""
    interventions: Annotated[list[Answered], Field(max_length=20)] = []
    """The latest answered Interventions; each stays at least until its own status tells the
    same."""
    overtaking: Overtaking | None = None
    """The last Rollback or Abort that was done: what was asked before it, and was not answered
    by then, is refused."""
    atRest: Annotated[list[RestingGuard], Field(max_length=20)] = []
    """Guards that go on being watched when no run is under way."""
    rejected: Annotated[list[Rejected], Field(max_length=10)] = []
    """Versions that were rolled back, the latest first."""
    history: Annotated[list[Past], Field(max_length=10)] = []
    """Finished runs, the latest first."""
    notices: Annotated[list[Notification], Field(max_length=64)] = []
    """What somebody is still to be told, in order."""
    threads: Annotated[list[Thread], Field(max_length=20)] = []
    """What was opened elsewhere for runs that are not over."""
    notifyTest: NotifyTest | None = None
    """The latest test of who is told."""
    downtime: Downtime | None = None
    """Since when users are not served; kept only where `notify` asks for Downtime."""


def dump(status: ReleaseStatus) -> dict[str, Any]:
    """Return the status as the API server stores it: what has its default is left out."""
    return status.model_dump(exclude_none=True, exclude_defaults=True)


__all__ = [
    "OPEN_FOLLOW_UPS",
    "OPEN_PROCEDURES",
    "Answered",
    "Difference",
    "Downtime",
    "FollowUpState",
    "FollowUpStatus",
    "GateState",
    "GateStatus",
    "JournalEntry",
    "Kept",
    "Message",
    "Model",
    "Notification",
    "NotifyTest",
    "NotifyTestRow",
    "Outcome",
    "Overtaking",
    "Past",
    "Phase",
    "ProcedureState",
    "ProcedureStatus",
    "Rejected",
    "ReleaseStatus",
    "RestingGuard",
    "Rollback",
    "Run",
    "Served",
    "Short",
    "StageState",
    "StageStatus",
    "StepState",
    "StepStatus",
    "Thread",
    "Time",
    "Timer",
    "Undo",
    "Unverified",
    "WaitingFor",
    "dump",
]
